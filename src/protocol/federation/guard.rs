//! The guard on discovered peers: what each of them sends is counted, and one that sends too much, asks for too many users
//! or is refused too often is watched: one request per second of its is let in until it behaves (product rule, as
//! Microsoft's edge has it).
//!
//! One for all Routers of a process: a peer spreads over them as its connections do.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Peers that are counted.
const MAXIMUM_PEERS: usize = 4096;

/// Answers before their ratio says anything.
const MINIMUM_ANSWERS: u32 = 20;

/// Between two requests of a peer that is watched.
const WATCHED_INTERVAL: Duration = Duration::from_secs(1);

/// What a peer may do in one window; 0 = whatever it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// How long a peer is counted before it is counted anew.
    pub window: Duration,
    /// Requests.
    pub requests: u32,
    /// Different users asked for outside of dialogs.
    pub users: u32,
    /// Answers with 4xx, in percent of all final ones.
    pub failures: u32,
}

/// Whether a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Passes,
    /// Its sender is watched, and has had its request of this second.
    Refused,
}

/// A peer is watched from now on, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its domain.
    pub domain: Arc<str>,
    /// What it did too much; `None`: it behaves again.
    pub excess: Option<&'static str>,
    /// What it has done in the window that this is judged by.
    pub figures: Figures,
}

/// What a peer has done in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Its requests.
    pub requests: u32,
    /// The users that it has asked for, one more than it may at most.
    pub users: u32,
    /// The final responses that it was given.
    pub answers: u32,
    /// Those with 4xx.
    pub failures: u32,
}

#[derive(Debug)]
struct Record {
    begun: Instant,
    figures: Figures,
    users: HashSet<u64>,
    /// It has done too much in this window.
    has_exceeded: bool,
    /// It is watched, and may send the next request then.
    watched: Option<Instant>,
}

/// What discovered peers do.
#[derive(Debug)]
pub struct Guard {
    limits: GuardLimits,
    peers: Mutex<HashMap<Arc<str>, Record>>,
}

impl Default for Guard {
    /// One that lets everything pass.
    fn default() -> Self {
        Self::new(GuardLimits { window: Duration::from_secs(600), requests: 0, users: 0, failures: 0 })
    }
}

impl Guard {
    /// A guard that has seen nothing yet.
    pub fn new(limits: GuardLimits) -> Self {
        Self { limits, peers: Mutex::default() }
    }

    const fn is_off(&self) -> bool {
        self.limits.requests == 0 && self.limits.users == 0 && self.limits.failures == 0
    }

    /// A peer that has proven its domain sends a request, outside of a dialog for a user, whose hash this is.
    pub fn handle_request(
        &self,
        now: Instant,
        domain: &Arc<str>,
        user: Option<u64>,
    ) -> (Verdict, Option<Notice>) {
        if self.is_off() {
            return (Verdict::Passes, None);
        }
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAXIMUM_PEERS && !peers.contains_key(domain) {
            let window = self.limits.window;
            peers.retain(|_, record| record.is_needed(now, window));
            if peers.len() >= MAXIMUM_PEERS {
                return (Verdict::Passes, None);
            }
        }
        let record = peers.entry(Arc::clone(domain)).or_insert_with(|| Record::new(now));
        let released = record.begin_window(now, &self.limits);
        let figures = &mut record.figures;
        figures.requests = figures.requests.saturating_add(1);
        if let Some(user) = user.filter(|_| figures.users <= self.limits.users)
            && record.users.insert(user)
        {
            figures.users += 1;
        }
        let excess = record.judge(now, &self.limits);
        let notice = excess.or(released);
        let verdict = record.verdict(now);
        (verdict, notice.map(|(excess, figures)| Notice { domain: Arc::clone(domain), excess, figures }))
    }

    /// A request of a peer was answered finally.
    pub fn handle_answer(&self, now: Instant, domain: &Arc<str>, status: u16) -> Option<Notice> {
        if self.is_off() {
            return None;
        }
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let record = peers.get_mut(domain)?;
        record.figures.answers = record.figures.answers.saturating_add(1);
        if (400..500).contains(&status) {
            record.figures.failures = record.figures.failures.saturating_add(1);
        }
        let (excess, figures) = record.judge(now, &self.limits)?;
        Some(Notice { domain: Arc::clone(domain), excess, figures })
    }
}

/// What there is to tell of a peer: what it did too much, or nothing any more; and what it has done.
type Change = (Option<&'static str>, Figures);

impl Record {
    fn new(now: Instant) -> Self {
        Self {
            begun: now,
            figures: Figures::default(),
            users: HashSet::new(),
            has_exceeded: false,
            watched: None,
        }
    }

    fn is_needed(&self, now: Instant, window: Duration) -> bool {
        self.watched.is_some() || now.saturating_duration_since(self.begun) < window
    }

    /// Counts anew once the window is over. Who has kept within the limits for a whole one is watched no longer.
    fn begin_window(&mut self, now: Instant, limits: &GuardLimits) -> Option<Change> {
        let elapsed = now.saturating_duration_since(self.begun);
        if elapsed < limits.window {
            return None;
        }
        let has_behaved = !self.has_exceeded || elapsed >= limits.window * 2;
        let figures = std::mem::take(&mut self.figures);
        self.begun = now;
        self.users.clear();
        self.has_exceeded = false;
        let was_watched = has_behaved && self.watched.take().is_some();
        was_watched.then_some((None, figures))
    }

    /// What the peer does too much, if it was not watched before.
    fn judge(&mut self, now: Instant, limits: &GuardLimits) -> Option<Change> {
        let Figures { requests, users, answers, failures } = self.figures;
        let is_above = |count: u32, limit: u32| limit > 0 && count > limit;
        let share = u64::from(failures) * 100;
        let are_too_many = share > u64::from(limits.failures) * u64::from(answers);
        let excess = match () {
            () if is_above(requests, limits.requests) => "too many requests",
            () if is_above(users, limits.users) => "too many users asked for",
            () if limits.failures > 0 && answers >= MINIMUM_ANSWERS && are_too_many => "too many failures",
            () => return None,
        };
        self.has_exceeded = true;
        if self.watched.is_some() {
            return None;
        }
        self.watched = Some(now);
        Some((Some(excess), self.figures))
    }

    fn verdict(&mut self, now: Instant) -> Verdict {
        match self.watched {
            Some(next) if now < next => Verdict::Refused,
            Some(_) => {
                self.watched = Some(now + WATCHED_INTERVAL);
                Verdict::Passes
            }
            None => Verdict::Passes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn guard(requests: u32, users: u32, failures: u32) -> (Guard, Arc<str>, Instant) {
        let limits = GuardLimits { window: 60 * SECOND, requests, users, failures };
        (Guard::new(limits), Arc::from("b.test"), Instant::now())
    }

    fn excess(notice: Option<Notice>) -> Option<&'static str> {
        notice.and_then(|notice| notice.excess)
    }

    #[test]
    fn each_excess_is_told_once_with_its_figures() {
        let (guard, peer, now) = guard(100, 0, 0);
        let told: Vec<_> = (0..200).filter_map(|_| guard.handle_request(now, &peer, None).1).collect();
        let figures = Figures { requests: 101, ..Figures::default() };
        assert_eq!(told, [Notice { domain: peer, excess: Some("too many requests"), figures }]);

        let (guard, peer, now) = self::guard(0, 10, 0);
        for user in 0..10 {
            for _ in 0..50 {
                assert_eq!(guard.handle_request(now, &peer, Some(user)), (Verdict::Passes, None));
            }
        }
        assert_eq!(excess(guard.handle_request(now, &peer, Some(10)).1), Some("too many users asked for"));

        let (guard, peer, now) = self::guard(0, 0, 50);
        guard.handle_request(now, &peer, None);
        for answer in 0..40 {
            assert_eq!(guard.handle_answer(now, &peer, if answer % 2 == 0 { 200 } else { 404 }), None);
        }
        assert_eq!(guard.handle_answer(now, &peer, 503), None, "that is nothing the peer has done");
        assert_eq!(guard.handle_answer(now, &peer, 404), None);
        assert_eq!(excess(guard.handle_answer(now, &peer, 404)), Some("too many failures"));
    }

    #[test]
    fn a_few_failures_say_nothing() {
        let (guard, peer, now) = guard(0, 0, 50);
        guard.handle_request(now, &peer, None);
        assert!((1..MINIMUM_ANSWERS).all(|_| guard.handle_answer(now, &peer, 404).is_none()));
        assert!(guard.handle_answer(now, &peer, 404).is_some());
    }

    #[test]
    fn one_request_in_a_second_passes_of_who_is_watched_and_others_are_not_touched() {
        let (guard, peer, start) = guard(10, 0, 0);
        (0..11).for_each(|_| drop(guard.handle_request(start, &peer, None)));
        let passed = |range: std::ops::Range<u32>| {
            let at = |tenth| start + Duration::from_millis(100) * tenth;
            range.filter(|tenth| guard.handle_request(at(*tenth), &peer, None).0 == Verdict::Passes).count()
        };
        // The one that made it watched has had its second.
        assert_eq!(passed(1..10), 0);
        assert_eq!(passed(10..110), 10);
        assert_eq!(guard.handle_request(start, &Arc::from("c.test"), None), (Verdict::Passes, None));
    }

    #[test]
    fn a_peer_that_behaves_for_a_whole_window_is_released() {
        let (guard, peer, start) = guard(10, 0, 0);
        (0..11).for_each(|_| drop(guard.handle_request(start, &peer, None)));
        let at = |second| guard.handle_request(start + SECOND * second, &peer, None).1;
        assert_eq!(at(60), None, "the window in which it was watched is none");
        assert_eq!(at(119), None);
        let released = at(120).unwrap();
        assert_eq!((released.excess, released.figures.requests), (None, 2));
        // It goes on, and is watched again; a long silence counts as a window.
        assert!((0..11).any(|_| excess(at(121)).is_some()));
        assert_eq!(at(240).map(|notice| notice.excess), Some(None));
    }

    #[test]
    fn peers_that_were_silent_for_a_window_make_room_and_the_watched_stay() {
        let (guard, _, start) = guard(1, 0, 0);
        let peer = |number: usize| Arc::from(format!("{number}.test"));
        for number in 0..MAXIMUM_PEERS {
            guard.handle_request(start, &peer(number), None);
        }
        guard.handle_request(start, &peer(0), None);
        let extra = peer(MAXIMUM_PEERS);
        assert!((0..9).all(|_| guard.handle_request(start, &extra, None).1.is_none()), "no room to count it");
        let later = start + 60 * SECOND;
        guard.handle_request(later, &extra, None);
        assert!(guard.handle_request(later, &extra, None).1.is_some());
        assert_eq!(guard.peers.lock().unwrap().len(), 2);
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let guard = Guard::default();
        let peer = Arc::from("b.test");
        assert!(
            (0..10_000)
                .all(|user| guard.handle_request(Instant::now(), &peer, Some(user)).0 == Verdict::Passes)
        );
        assert!(guard.peers.lock().unwrap().is_empty());
    }
}
