//! The calls that a trace has begun to show, by Call-ID.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

/// Calls that one trace remembers; then the one that it has begun with first is forgotten.
pub(super) const MAXIMUM_CALLS: usize = 4_096;

/// Hashes in place of Call-IDs, which may be long: two that collide show too much, once in a very long while.
#[derive(Debug, Default)]
pub(super) struct Calls {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    hashes: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Calls {
    pub(super) fn remember(&self, call_id: &[u8]) {
        if call_id.is_empty() {
            return;
        }
        let hash = self.hasher.hash_one(call_id);
        self.with(|known| {
            if known.hashes.insert(hash) {
                known.order.push_back(hash);
            }
            if known.order.len() > MAXIMUM_CALLS
                && let Some(first) = known.order.pop_front()
            {
                known.hashes.remove(&first);
            }
        });
    }

    pub(super) fn knows(&self, call_id: &[u8]) -> bool {
        let hash = self.hasher.hash_one(call_id);
        self.with(|known| known.hashes.contains(&hash))
    }

    /// For some ten nanoseconds, and only while somebody traces.
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_until_there_are_too_many_and_no_call_id_is_no_call() {
        let calls = Calls::default();
        for number in 0..MAXIMUM_CALLS {
            calls.remember(number.to_string().as_bytes());
            calls.remember(number.to_string().as_bytes());
        }
        assert!(calls.knows(b"0") && !calls.knows(b"x"));
        calls.remember(b"x");
        assert!(!calls.knows(b"0") && calls.knows(b"1") && calls.knows(b"x"));
        calls.remember(b"");
        assert!(!calls.knows(b"") && calls.knows(b"1"));
    }
}
