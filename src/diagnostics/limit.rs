//! A bound on log lines that outside input alone can cause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines that pass in one [`WINDOW`], unless there is a reason for another number.
const LINES: u32 = 10;

const WINDOW: Duration = Duration::from_secs(10);

/// Lets ten lines, or another number, pass in ten seconds and counts the others.
#[derive(Debug)]
pub struct LogLimit {
    lines: u32,
    state: Mutex<State>,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::new(LINES)
    }
}

#[derive(Debug)]
struct State {
    window_start: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogLimit {
    /// Lets `lines` pass in ten seconds.
    pub const fn new(lines: u32) -> Self {
        Self { lines, state: Mutex::new(State { window_start: None, lines: 0, left_out: 0 }) }
    }

    /// Whether a line may be written now: then, how many were left out before it.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.window_start.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            state.window_start = Some(now);
            state.lines = 0;
        }
        if state.lines == self.lines {
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
