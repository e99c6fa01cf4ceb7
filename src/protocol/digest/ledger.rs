//! Which answers to a challenge were used, so that none is used twice (RFC 7616 §3.4 `nc`, §5.5).

use std::collections::BTreeMap;
use std::time::Duration;

use super::NonceId;
use super::nonce::whole_millis;

/// How many counts below the highest are remembered one by one: requests on different connections overtake
/// each other.
const WINDOW: u32 = u128::BITS;

/// The answers that were accepted, by nonce.
///
/// Bounded: an expired nonce is forgotten; if all are young and there is no room, the oldest is. Nothing that
/// was forgotten is ever accepted again: the ledger remembers up to which nonce it has forgotten, and takes
/// that and all older ones as stale, which costs their users a challenge.
///
/// One ledger belongs to one key of [`Nonces`](super::Nonces): an answer does not depend on the Call-ID, so
/// who shares the key without sharing the ledger lets each answer be used once per ledger.
#[derive(Debug)]
pub struct NonceLedger {
    lifetime: u64,
    maximum: usize,
    /// Ordered by the time of minting.
    windows: BTreeMap<NonceId, Window>,
    /// The youngest nonce that was forgotten.
    floor: Option<NonceId>,
}

/// One use of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceUse {
    /// The nonce, by [`Nonces::check`](super::Nonces::check).
    pub id: NonceId,
    /// `nc`; `None` without `qop`. Then the nonce is good for this one use.
    pub count: Option<u32>,
}

/// What became of one use of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spending {
    /// The first of its kind.
    Accepted,
    /// Used before, or so far below the highest count that it may have been; zero, which is no count, too.
    Replayed,
    /// The nonce is too old, by its age or because the ledger is full of younger ones: challenge with
    /// `stale=true`.
    Stale,
}

/// The counts used with one nonce.
#[derive(Debug)]
struct Window {
    highest: u32,
    /// Bit n: the count `highest - n` was used.
    used: u128,
}

impl NonceLedger {
    /// For nonces of this lifetime, and at most `maximum` of them, at least one, at a time. Each takes about
    /// a hundred octets.
    pub fn new(lifetime: Duration, maximum: usize) -> Self {
        Self {
            lifetime: whole_millis(lifetime),
            maximum: maximum.max(1),
            windows: BTreeMap::new(),
            floor: None,
        }
    }

    /// The same, but what was minted up to `begun_millis` is stale: an earlier ledger may have accepted it, and is
    /// lost.
    pub fn begun_at(lifetime: Duration, maximum: usize, begun_millis: u64) -> Self {
        Self { floor: Some(NonceId::last_of(begun_millis)), ..Self::new(lifetime, maximum) }
    }

    /// From now on, nonces are accepted for so long. One that was forgotten as too old does not come to life again.
    pub fn set_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = whole_millis(lifetime);
    }

    /// Uses an answer up. Call it only for an answer that [`verify`](super::verify) has found right, or
    /// strangers fill the ledger.
    pub fn spend(&mut self, spent: NonceUse, now_millis: u64) -> Spending {
        self.forget_expired(now_millis);
        if spent.id.is_expired(now_millis, self.lifetime) || self.floor.is_some_and(|floor| spent.id <= floor)
        {
            return Spending::Stale;
        }
        if let Some(window) = self.windows.get_mut(&spent.id) {
            let is_new = spent.count.is_some_and(|count| window.admit(count));
            return if is_new { Spending::Accepted } else { Spending::Replayed };
        }
        if spent.count == Some(0) {
            return Spending::Replayed;
        }
        self.windows.insert(spent.id, Window::opened_by(spent.count));
        if self.windows.len() > self.maximum {
            self.forget_oldest();
        }
        Spending::Accepted
    }

    /// How many nonces are remembered.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    fn forget_expired(&mut self, now: u64) {
        while self.windows.first_key_value().is_some_and(|(id, _)| id.is_expired(now, self.lifetime)) {
            self.forget_oldest();
        }
    }

    /// Raises the floor also for an expired one: it could come to life again if the clock were set back.
    fn forget_oldest(&mut self) {
        if let Some((id, _)) = self.windows.pop_first() {
            self.floor = self.floor.max(Some(id));
        }
    }
}

impl Window {
    /// The window after the first use; without a count, one that admits no other.
    fn opened_by(count: Option<u32>) -> Self {
        match count {
            Some(highest) => Self { highest, used: 1 },
            None => Self { highest: u32::MAX, used: u128::MAX },
        }
    }

    fn admit(&mut self, count: u32) -> bool {
        if count > self.highest {
            self.used = self.used.checked_shl(count - self.highest).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let below = self.highest - count;
        if count == 0 || below >= WINDOW || self.used >> below & 1 == 1 {
            return false;
        }
        self.used |= 1 << below;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::{NonceVerdict, Nonces};
    use super::Spending::{Accepted, Replayed, Stale};
    use super::*;

    const LIFETIME: Duration = Duration::from_millis(1000);

    fn id(minted: u64, random: u64) -> NonceId {
        let nonces = Nonces::new([0; 32], LIFETIME);
        match nonces.check(nonces.mint(minted, 0, random << 16).as_bytes(), minted) {
            NonceVerdict::Valid(id) => id,
            verdict => panic!("{verdict:?}"),
        }
    }

    fn counted(id: NonceId, count: u32) -> NonceUse {
        NonceUse { id, count: Some(count) }
    }

    #[test]
    fn each_count_is_accepted_once_in_any_order_within_the_window() {
        let mut ledger = NonceLedger::new(LIFETIME, 10);
        let table = [
            (1, Accepted),
            (1, Replayed),
            (3, Accepted),
            (2, Accepted),
            (3, Replayed),
            (2, Replayed),
            (0, Replayed),
            (130, Accepted),
            (3, Replayed),
            (4, Accepted),
            (129, Accepted),
            (131, Accepted),
            (4, Replayed),
            (5, Accepted),
            (u32::MAX, Accepted),
            (131, Replayed),
            (u32::MAX - 127, Accepted),
            (u32::MAX - 128, Replayed),
            (u32::MAX, Replayed),
        ];
        for (step, (count, expected)) in table.into_iter().enumerate() {
            assert_eq!(ledger.spend(counted(id(0, 0), count), 0), expected, "step {step}: {count}");
        }
    }

    #[test]
    fn the_first_count_may_be_any_but_zero() {
        let mut ledger = NonceLedger::new(LIFETIME, 10);
        assert_eq!(ledger.spend(counted(id(0, 0), 0), 0), Replayed);
        assert_eq!(ledger.spend(counted(id(0, 0), 200), 0), Accepted);
        assert_eq!(ledger.spend(counted(id(0, 0), 199), 0), Accepted);
        assert_eq!(ledger.spend(counted(id(0, 0), 72), 0), Replayed);
    }

    #[test]
    fn without_a_count_a_nonce_is_good_for_one_use() {
        let mut ledger = NonceLedger::new(LIFETIME, 10);
        let uncounted = |random| NonceUse { id: id(0, random), count: None };
        assert_eq!(ledger.spend(uncounted(1), 0), Accepted);
        assert_eq!(ledger.spend(uncounted(1), 0), Replayed);
        for count in [1, u32::MAX - 127, u32::MAX] {
            assert_eq!(ledger.spend(counted(id(0, 1), count), 0), Replayed);
        }
        assert_eq!(ledger.spend(counted(id(0, 2), 1), 0), Accepted);
        assert_eq!(ledger.spend(uncounted(2), 0), Replayed);
    }

    #[test]
    fn an_expired_nonce_is_forgotten_and_stays_stale_though_the_clock_is_set_back() {
        let mut ledger = NonceLedger::new(LIFETIME, 10);
        assert_eq!(ledger.spend(counted(id(0, 0), 1), 1000), Accepted);
        assert_eq!(ledger.spend(counted(id(500, 0), 1), 1001), Accepted);
        assert_eq!(ledger.len(), 1);
        assert_eq!(ledger.spend(counted(id(0, 0), 1), 1001), Stale);
        assert_eq!(ledger.spend(counted(id(0, 0), 1), 900), Stale);
        assert_eq!(ledger.spend(counted(id(0, 0), 2), 900), Stale);
        assert_eq!(ledger.spend(counted(id(500, 0), 1), 900), Replayed);
    }

    #[test]
    fn a_full_ledger_forgets_the_oldest_and_accepts_nothing_older() {
        let mut ledger = NonceLedger::new(LIFETIME, 2);
        for minted in [10, 20, 30] {
            assert_eq!(ledger.spend(counted(id(minted, 0), 1), 30), Accepted);
        }
        assert_eq!(ledger.len(), 2);
        assert_eq!(ledger.spend(counted(id(10, 0), 2), 30), Stale);
        assert_eq!(ledger.spend(counted(id(5, 0), 1), 30), Stale);
        assert_eq!(ledger.spend(counted(id(20, 0), 1), 30), Replayed);
        assert_eq!(ledger.spend(counted(id(15, 0), 1), 30), Accepted);
        assert_eq!(ledger.spend(counted(id(15, 0), 1), 30), Stale);
        assert_eq!(ledger.spend(counted(id(30, 0), 2), 30), Accepted);
        assert!(!ledger.is_empty());
    }

    proptest! {
        /// Whatever the order, the clock and the room: nothing is accepted twice, and the ledger keeps its
        /// bound.
        #[test]
        fn no_use_is_ever_accepted_twice(
            uses in proptest::collection::vec(
                (0..30_u64, 0..2_u64, proptest::option::of(0..300_u32), 0..4000_u64),
                0..300,
            ),
            maximum in 0..8_usize,
        ) {
            let mut ledger = NonceLedger::new(LIFETIME, maximum);
            let mut accepted = BTreeSet::new();
            for (minted, random, count, now) in uses {
                let id = id(minted * 100, random);
                if ledger.spend(NonceUse { id, count }, now) == Accepted {
                    prop_assert!(accepted.insert((id, count)));
                    let uses_of_it = accepted.iter().filter(|(used, _)| *used == id).count();
                    prop_assert!(count.is_some() || uses_of_it == 1);
                }
                prop_assert!(ledger.len() <= maximum.max(1));
            }
        }
    }
}
