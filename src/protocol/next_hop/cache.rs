//! What DNS has answered, for as long as it may be believed (RFC 1035 §3.2.1, RFC 2308, RFC 8767).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::recent::Recent;
use super::records::{Answer, Failure, Key, Records};

/// Names with what is known of them, each type by itself.
pub(super) const MAXIMUM_ANSWERS: usize = 4096;

/// What no answer is believed shorter for, so that a TTL of 0 costs no look-up for each request.
pub(super) const FLOOR: Duration = Duration::from_secs(1);

/// What records are believed longest for.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What the absence of records is believed longest for.
pub(super) const LONGEST_NEGATIVE: Duration = Duration::from_secs(60);

/// What a failure is remembered for.
pub(super) const FAILURE: Duration = Duration::from_secs(5);

/// How long records serve past their TTL while there are no newer ones.
pub(super) const STALE: Duration = Duration::from_secs(60 * 60);

/// Answers by what was asked.
#[derive(Debug)]
pub(super) struct Cache(Recent<Key, Entry>);

#[derive(Debug)]
struct Entry {
    answer: Arc<Answer>,
    usable_until: Instant,
    /// Not to be asked for anew before.
    refresh_from: Instant,
}

/// An answer that may be used.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) answer: Arc<Answer>,
    /// It is past its TTL, and another is to be had.
    pub(super) wants_refresh: bool,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self(Recent::new(MAXIMUM_ANSWERS))
    }

    pub(super) fn get(&mut self, now: Instant, key: &Key) -> Option<Cached> {
        let entry = self.0.get_mut(key).filter(|entry| now < entry.usable_until)?;
        Some(Cached { answer: Arc::clone(&entry.answer), wants_refresh: now >= entry.refresh_from })
    }

    /// Keeps an answer for its TTL. Old records outlive a failure, not the word that there are none (RFC 8767 §4).
    pub(super) fn insert(&mut self, now: Instant, key: Key, answer: Answer, ttl: Option<Duration>) {
        let (fresh, stale) = match &answer {
            Ok(_) => (ttl.unwrap_or(FLOOR).clamp(FLOOR, LONGEST), STALE),
            Err(Failure::NoSuchName | Failure::NoRecord) => {
                (ttl.unwrap_or(FLOOR).clamp(FLOOR, LONGEST_NEGATIVE), Duration::ZERO)
            }
            Err(Failure::Timeout | Failure::ServerFailure) => {
                let known = self.0.get_mut(&key);
                if let Some(entry) = known.filter(|entry| entry.answer.is_ok() && now < entry.usable_until) {
                    entry.refresh_from = now + FAILURE;
                    return;
                }
                (FAILURE, Duration::ZERO)
            }
        };
        let fresh_until = now + fresh;
        let answer = Arc::new(answer.map(Records::bounded));
        let usable_until = fresh_until + stale;
        self.0.insert(key, Entry { answer, usable_until, refresh_from: fresh_until });
    }
}
