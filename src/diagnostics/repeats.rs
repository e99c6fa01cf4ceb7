//! Summing up what repeats: outside input alone must not flood a log.
//!
//! Holds no clock: pass `now`, say what [`Repeats::note`] lets you say, and at [`Repeats::next_timeout`] drain
//! [`Repeats::poll_summary`].

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Lets one line in an interval pass for each key, and counts the others.
///
/// `K` is what makes lines the same: the event, and with it the peer's address or the reason, but nothing that a
/// peer can vary at will. Bounded all the same: while `maximum` keys are known, new ones are counted under the
/// summary without a key.
#[derive(Debug)]
pub struct Repeats<K> {
    interval: Duration,
    maximum: usize,
    /// Lines withheld since the last one that was written.
    withheld: HashMap<K, u64>,
    /// By the end of the interval. The number tells entries of one instant apart.
    ends: BTreeMap<(Instant, u64), K>,
    next_number: u64,
    /// Lines whose key found no room, and when that began.
    others: Option<(Instant, u64)>,
}

/// Lines that were not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary<K> {
    /// What they were; `None`: many different ones.
    pub key: Option<K>,
    /// How many: the field `repeated` of the line that says so.
    pub repeated: u64,
}

impl<K: Clone + Eq + Hash> Repeats<K> {
    /// One line per key and `interval`, for at most `maximum` keys at a time.
    pub fn new(interval: Duration, maximum: usize) -> Self {
        let (withheld, ends) = (HashMap::new(), BTreeMap::new());
        Self { interval, maximum, withheld, ends, next_number: 0, others: None }
    }

    /// Whether the line is to be written; else it is counted.
    pub fn note(&mut self, now: Instant, key: &K) -> bool {
        if let Some(withheld) = self.withheld.get_mut(key) {
            *withheld += 1;
            return false;
        }
        if self.withheld.len() >= self.maximum {
            self.others.get_or_insert((now + self.interval, 0)).1 += 1;
            return false;
        }
        self.withheld.insert(key.clone(), 0);
        self.end_at(now + self.interval, key.clone());
        true
    }

    /// The next sum that is due. A key that went on repeating is summed up again after another interval; one that
    /// did not is forgotten, and its next line is written.
    pub fn poll_summary(&mut self, now: Instant) -> Option<Summary<K>> {
        while let Some(first) = self.ends.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            match self.withheld.get_mut(&key) {
                Some(withheld) if *withheld > 0 => {
                    let repeated = std::mem::take(withheld);
                    self.end_at(now + self.interval, key.clone());
                    return Some(Summary { key: Some(key), repeated });
                }
                Some(_) | None => drop(self.withheld.remove(&key)),
            }
        }
        let (_, repeated) = self.others.take_if(|(end, _)| *end <= now)?;
        Some(Summary { key: None, repeated })
    }

    /// When [`Self::poll_summary`] is worth a call.
    pub fn next_timeout(&self) -> Option<Instant> {
        let first = self.ends.first_key_value().map(|((end, _), _)| *end);
        first.into_iter().chain(self.others.map(|(end, _)| end)).min()
    }

    fn end_at(&mut self, end: Instant, key: K) {
        self.ends.insert((end, self.next_number), key);
        self.next_number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn summary(key: Option<&'static str>, repeated: u64) -> Option<Summary<&'static str>> {
        Some(Summary { key, repeated })
    }

    #[test]
    fn the_first_of_a_kind_is_written_and_the_others_are_summed_up() {
        let start = Instant::now();
        let mut repeats = Repeats::new(10 * SECOND, 100);
        assert_eq!(repeats.next_timeout(), None);
        assert!(repeats.note(start, &"a"));
        assert!((0..5).all(|_| !repeats.note(start + SECOND, &"a")));
        assert!(repeats.note(start + SECOND, &"b"));
        assert_eq!(repeats.next_timeout(), Some(start + 10 * SECOND));
        assert_eq!(repeats.poll_summary(start + 9 * SECOND), None);
        assert_eq!(repeats.poll_summary(start + 10 * SECOND), summary(Some("a"), 5));
        assert_eq!(repeats.poll_summary(start + 11 * SECOND), None, "b has not repeated");
        assert!(repeats.note(start + 12 * SECOND, &"b"), "so it is written again");
    }

    #[test]
    fn what_goes_on_is_summed_up_each_interval_until_it_stops() {
        let start = Instant::now();
        let mut repeats = Repeats::new(10 * SECOND, 100);
        repeats.note(start, &"a");
        for round in 1..=3 {
            assert!(!repeats.note(start + (10 * round - 1) * SECOND, &"a"));
            assert_eq!(repeats.poll_summary(start + 10 * round * SECOND), summary(Some("a"), 1));
        }
        assert_eq!(repeats.poll_summary(start + 40 * SECOND), None);
        assert_eq!(repeats.next_timeout(), None);
        assert!(repeats.note(start + 41 * SECOND, &"a"));
    }

    #[test]
    fn keys_without_room_are_counted_together() {
        let start = Instant::now();
        let mut repeats = Repeats::new(10 * SECOND, 2);
        assert!(repeats.note(start, &"a") && repeats.note(start, &"b"));
        assert!(!repeats.note(start + SECOND, &"c") && !repeats.note(start + SECOND, &"d"));
        assert_eq!(repeats.poll_summary(start + 10 * SECOND), None);
        assert_eq!(repeats.next_timeout(), Some(start + 11 * SECOND));
        assert_eq!(repeats.poll_summary(start + 11 * SECOND), summary(None, 2));
        assert!(repeats.note(start + 11 * SECOND, &"c"));
    }
}
