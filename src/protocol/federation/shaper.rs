//! At most so many requests per second towards one discovered peer (`open_federation.messages_per_second`); the others wait
//! their turn, in the order in which they came.
//!
//! One for all Routers of a process, for it is the peer that is spared, whichever Router speaks to it. What it keeps of a peer
//! is when the next turn is (a theoretical arrival time): a request is told its turn at once, so that the queue is made of
//! the requests themselves, and one whose turn would come too late need not wait for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Requests that need not wait after a silence.
const BURST: u32 = 5;

/// Peers that are remembered: those that were spoken to lately, or have requests waiting.
const MAXIMUM_PEERS: usize = 4096;

/// When a request may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// At once.
    Now,
    /// Then.
    At(Instant),
    /// Not within the time that it has.
    Never,
}

/// When requests may leave, by peer.
#[derive(Debug)]
pub struct Shaper {
    /// Between two turns; zero: there is no limit.
    interval: Duration,
    /// When the peer has had all that it was sent, at the steady rate.
    peers: Mutex<HashMap<Arc<str>, Instant>>,
}

impl Default for Shaper {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Shaper {
    /// So many requests per second for each peer; 0 = no limit.
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Self { interval, peers: Mutex::default() }
    }

    /// Takes the next turn of a peer, unless that is later than `longest_wait` from now.
    pub fn take_turn(&self, now: Instant, domain: &str, longest_wait: Duration) -> Turn {
        if self.interval.is_zero() {
            return Turn::Now;
        }
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAXIMUM_PEERS && !peers.contains_key(domain) {
            peers.retain(|_, served| *served > now);
            if peers.len() >= MAXIMUM_PEERS {
                return Turn::Never;
            }
        }
        let served = peers.get(domain).copied().unwrap_or(now).max(now);
        let wait = served.saturating_duration_since(now).saturating_sub(self.interval * (BURST - 1));
        if wait > longest_wait {
            return Turn::Never;
        }
        match peers.get_mut(domain) {
            Some(known) => *known = served + self.interval,
            None => drop(peers.insert(Arc::from(domain), served + self.interval)),
        }
        if wait.is_zero() { Turn::Now } else { Turn::At(now + wait) }
    }

    /// Turns that have been taken and have not come: the requests that wait, of all peers together.
    pub fn waiting(&self, now: Instant) -> usize {
        let (Some(burst), false) = (self.interval.checked_mul(BURST), self.interval.is_zero()) else {
            return 0;
        };
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // Turns that have not come are an interval from each other, and this is how far off the last one is.
        let last = |served: &Instant| served.saturating_duration_since(now).saturating_sub(burst);
        let of_peer = |served| last(served).as_nanos().div_ceil(self.interval.as_nanos()) as usize;
        peers.values().map(of_peer).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(28);

    #[test]
    fn a_burst_leaves_at_once_and_the_others_one_after_the_other() {
        let now = Instant::now();
        let shaper = Shaper::new(20);
        for turn in 0..500u32 {
            let expected = match turn {
                0..5 => Turn::Now,
                _ => Turn::At(now + Duration::from_millis(50) * (turn - 4)),
            };
            assert_eq!(shaper.take_turn(now, "b.test", WAIT), expected, "{turn}");
        }
        assert_eq!(shaper.take_turn(now, "c.test", WAIT), Turn::Now, "another peer is another queue");
        for (milliseconds, expected) in [(0, 495), (49, 495), (50, 494), (100, 493), (24_750, 0), (99_000, 0)]
        {
            let later = now + Duration::from_millis(milliseconds);
            assert_eq!(shaper.waiting(later), expected, "after {milliseconds} ms");
        }
    }

    #[test]
    fn what_would_wait_too_long_takes_no_turn() {
        let now = Instant::now();
        let shaper = Shaper::new(20);
        let turns = (0..1000).filter(|_| shaper.take_turn(now, "b.test", WAIT) != Turn::Never).count();
        assert_eq!(turns, 5 + 560);
        let later = now + Duration::from_millis(100);
        let turns = (0..1000).filter(|_| shaper.take_turn(later, "b.test", WAIT) != Turn::Never).count();
        assert_eq!(turns, 2, "as many as have left meanwhile");
    }

    #[test]
    fn never_more_than_the_rate_and_a_burst_in_any_second() {
        let start = Instant::now();
        let shaper = Shaper::new(10);
        let mut left = Vec::new();
        for step in 0..3000u64 {
            // A request every 3 ms for a second, then silence for two.
            let now = start + Duration::from_millis(step * 3 % 1000 + step * 3 / 1000 * 3000);
            match shaper.take_turn(now, "b.test", Duration::from_millis(500)) {
                Turn::Now => left.push(now),
                Turn::At(at) => left.push(at),
                Turn::Never => {}
            }
        }
        assert!(left.is_sorted());
        for (at, first) in left.iter().enumerate() {
            let within =
                left[at..].iter().take_while(|time| **time < *first + Duration::from_secs(1)).count();
            assert!(within <= 10 + 5, "{within} in a second");
        }
    }

    #[test]
    fn without_a_limit_everything_leaves_at_once() {
        let shaper = Shaper::default();
        let now = Instant::now();
        assert!((0..1000).all(|_| shaper.take_turn(now, "b.test", Duration::ZERO) == Turn::Now));
        assert_eq!(shaper.waiting(now), 0);
    }

    #[test]
    fn peers_that_have_been_served_make_room_for_others() {
        let now = Instant::now();
        let shaper = Shaper::new(1);
        for number in 0..MAXIMUM_PEERS {
            assert_eq!(shaper.take_turn(now, &format!("{number}.test"), WAIT), Turn::Now);
        }
        assert_eq!(shaper.take_turn(now, "b.test", WAIT), Turn::Never);
        assert_eq!(shaper.take_turn(now, "7.test", WAIT), Turn::Now);
        assert_eq!(shaper.take_turn(now + Duration::from_secs(1), "b.test", WAIT), Turn::Now);
    }
}
