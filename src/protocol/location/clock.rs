//! Time in eight octets: tables of many entries hold no `Instant`, and what is kept beyond the process cannot.

use std::time::{Duration, Instant};

/// Milliseconds since the epoch of [`Clock`].
pub(super) type Millis = u64;

/// One moment by both clocks: that of the process, and the one that outlives it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the clock of the process.
    pub now: Instant,
    /// By the wall clock: milliseconds since the Unix epoch.
    pub unix_millis: u64,
}

/// Turns one form of time into the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) epoch: Instant,
}

impl Clock {
    /// Rounded down: at the `Instant` of a deadline, its `Millis` are reached.
    pub(super) fn millis(self, now: Instant) -> Millis {
        whole_millis(now.saturating_duration_since(self.epoch))
    }

    pub(super) fn instant(self, millis: Millis) -> Instant {
        self.epoch + Duration::from_millis(millis)
    }
}

pub(super) fn whole_millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
