//! How often children may fail, and how long each waits to be built anew. Holds no clock: pass `now`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// More failures than this in [`WINDOW`], of all children together, end the process.
pub(super) const MAXIMUM_RESTARTS: usize = 10;

/// How long a failure counts.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Before the first restart in a window: the sockets of the child that failed are closed by then.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// Before the second; doubled with each further one, so that a child that fails at once does not use up the limit in
/// a moment.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Nobody waits longer than [`BACK_OFF`] doubled so often, 3.2 s.
const MAXIMUM_DOUBLINGS: u32 = 6;

/// The failures that still count; never more than [`MAXIMUM_RESTARTS`] and one.
#[derive(Debug, Default)]
pub(super) struct Restarts(VecDeque<Instant>);

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Build the child anew after this time.
    Rebuild(Duration),
    /// It does not help: end the process.
    GiveUp,
}

impl Restarts {
    /// A child has failed.
    pub(super) fn failed(&mut self, now: Instant) -> Verdict {
        while self.0.front().is_some_and(|at| now.saturating_duration_since(*at) > WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let count = self.0.len();
        if count > MAXIMUM_RESTARTS {
            self.0.pop_front();
            return Verdict::GiveUp;
        }
        let doublings = u32::try_from(count.saturating_sub(2)).unwrap_or(MAXIMUM_DOUBLINGS);
        let back_off = BACK_OFF * 2u32.pow(doublings.min(MAXIMUM_DOUBLINGS));
        Verdict::Rebuild(if count == 1 { FIRST_WAIT } else { back_off })
    }

    /// How many failures count now.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At so many seconds a child fails; the wait in milliseconds, or `None`: the end.
    fn check(table: &[(u64, Option<u64>)]) {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        for (row, (at, wait)) in table.iter().enumerate() {
            let expected = wait.map_or(Verdict::GiveUp, |wait| Verdict::Rebuild(Duration::from_millis(wait)));
            assert_eq!(restarts.failed(start + Duration::from_secs(*at)), expected, "row {row}");
        }
        assert!(restarts.count() <= MAXIMUM_RESTARTS);
    }

    #[test]
    fn each_restart_in_a_minute_waits_longer_and_the_eleventh_failure_is_the_last() {
        let waits = [10, 50, 100, 200, 400, 800, 1600, 3200, 3200, 3200].map(Some);
        let mut table: Vec<_> = (0..).zip(waits).collect();
        table.push((10, None));
        // Nothing is remembered past the bound.
        table.push((11, None));
        check(&table);
    }

    #[test]
    fn what_was_a_minute_ago_no_longer_counts() {
        check(&[(0, Some(10)), (61, Some(10)), (121, Some(50)), (122, Some(50)), (183, Some(10))]);
    }

    #[test]
    fn a_child_that_fails_every_seven_seconds_is_rebuilt_for_ever() {
        let mut restarts = Restarts::default();
        let start = Instant::now();
        for failure in 0..1_000 {
            let verdict = restarts.failed(start + Duration::from_secs(7 * failure));
            assert_ne!(verdict, Verdict::GiveUp, "failure {failure}");
        }
    }
}
