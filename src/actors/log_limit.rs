//! A bound on log lines that outside input alone can cause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines that pass in one [`WINDOW`].
const LINES: u32 = 10;

const WINDOW: Duration = Duration::from_secs(10);

/// Lets ten lines pass in ten seconds and counts the others.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    window_start: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogLimit {
    /// Whether a line may be written now: then, how many were left out before it.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.window_start.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            state.window_start = Some(now);
            state.lines = 0;
        }
        if state.lines == LINES {
            state.left_out += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_past_the_limit_are_counted_into_the_next_that_passes() {
        let limit = LogLimit::default();
        let start = Instant::now();
        assert!((0..LINES).all(|_| limit.pass(start) == Some(0)));
        assert!((0..7).all(|_| limit.pass(start + WINDOW / 2).is_none()));
        assert_eq!(limit.pass(start + WINDOW), Some(7));
        assert_eq!(limit.pass(start + WINDOW), Some(0));
    }
}
