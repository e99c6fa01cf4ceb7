//! The one source of chance of a run: everything that may go one way or another is decided here, by the seed.

use std::time::Duration;

pub(crate) use crate::common::random::Random;

impl Random {
    /// So often of a hundred times.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent as usize
    }

    /// A time between the two, in milliseconds, to the microsecond.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        let span = (to.saturating_sub(from) * 1000).max(1);
        Duration::from_micros(from * 1000 + self.next() % span)
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One of several, each as often as its weight says.
    pub(crate) fn weigh<T: Copy>(&mut self, choices: &[(u32, T)]) -> T {
        let total: u32 = choices.iter().map(|(weight, _)| weight).sum();
        let mut left = self.below(total as usize) as u32;
        for (weight, choice) in choices {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return *choice,
            }
        }
        unreachable!("the weights add up to the total")
    }

    /// Octets of a secret.
    pub(crate) fn octets<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}
