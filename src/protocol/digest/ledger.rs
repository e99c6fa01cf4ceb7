//! Which answers to a challenge were used, so that none is used twice (RFC 7616 §3.4 `nc`, §5.5).

use std::collections::BTreeMap;
use std::time::Duration;

use super::NonceId;
use super::nonce::whole_millis;

/// How many counts below the highest are remembered one by one: requests on different connections overtake each
/// other.
const WINDOW: u32 = u128::BITS;

/// The answers that were accepted, by nonce.
///
/// Bounded: an expired nonce is forgotten; if all are young and there is no room, the oldest is. Nothing that was
/// forgotten is ever accepted again: the ledger remembers up to which nonce it has forgotten, and takes that and
/// all older ones as stale, which costs their users a challenge.
///
/// One ledger belongs to one key of [`Nonces`](super::Nonces): an answer does not depend on the Call-ID, so who shares
/// the key without sharing the ledger lets each answer be used once per ledger.
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
    /// The nonce is too old, by its age or because the ledger is full of younger ones: challenge with `stale=true`.
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
    /// For nonces of this lifetime, and at most `maximum` of them, at least one, at a time. Each takes about a
    /// hundred octets.
    pub fn new(lifetime: Duration, maximum: usize) -> Self {
        Self { lifetime: whole_millis(lifetime), maximum: maximum.max(1), windows: BTreeMap::new(), floor: None }
    }

    /// Uses an answer up. Call it only for an answer that [`verify`](super::verify) has found right, or strangers
    /// fill the ledger.
    pub fn spend(&mut self, spent: NonceUse, now_millis: u64) -> Spending {
        self.forget_expired(now_millis);
        if spent.id.is_expired(now_millis, self.lifetime) || self.floor.is_some_and(|floor| spent.id <= floor) {
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
