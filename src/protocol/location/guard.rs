//! Guard against guessing passwords: who answers challenges wrongly again and again waits longer and longer for the
//! next one, and is banned in the end (product rule).
//!
//! Counted by host, over all Routers. Only what has answered a challenge that was sent to it counts, so that nobody
//! can have somebody else banned by forged datagrams.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::clock::{Millis, whole_millis};
use super::hash::KeyedHash;
use crate::protocol::flow::host_of;

/// Wrong answers that cost no wait: people mistype.
const FREE: u32 = 3;

/// Hosts that are remembered; beyond, the one that has erred longest ago is forgotten.
const MAXIMUM_HOSTS: usize = 16_384;

/// What the guard is told by the configuration.
#[derive(Clone, Copy, Debug)]
pub struct GuardSettings {
    /// Wrong answers of one host after which it is banned; 0: never, and nobody waits.
    pub failures: u32,
    /// How long a host is banned, and how long its wrong answers count.
    pub ban: Duration,
    /// The wait after the first answer that costs one; doubled with each.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

/// What a wrong answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Penalty {
    /// The next challenge comes after this time.
    Wait(Duration),
    /// No answer: the host is banned.
    Ban,
}

#[derive(Debug)]
struct Record {
    failures: u32,
    last: Millis,
}

#[derive(Debug)]
pub(super) struct Guard {
    settings: GuardSettings,
    records: HashMap<IpAddr, Record, KeyedHash>,
    /// By the time of the last wrong answer.
    order: BTreeSet<(Millis, IpAddr)>,
    /// Until when these hosts are banned.
    bans: BTreeSet<(Millis, IpAddr)>,
}

impl Guard {
    pub(super) fn new(settings: GuardSettings, hash: KeyedHash) -> Self {
        Self { settings, records: HashMap::with_hasher(hash), order: BTreeSet::new(), bans: BTreeSet::new() }
    }

    /// From now on, wrong answers cost this; bans that are in force end when they were to.
    pub(super) const fn set_settings(&mut self, settings: GuardSettings) {
        self.settings = settings;
    }

    /// `address` has answered a challenge wrongly.
    pub(super) fn note(&mut self, now: Millis, address: IpAddr) -> Penalty {
        if self.settings.failures == 0 {
            return Penalty::Wait(Duration::ZERO);
        }
        self.expire(now);
        let host = host_of(address);
        let record = self.records.entry(host).or_insert(Record { failures: 0, last: now });
        self.order.remove(&(record.last, host));
        record.failures = record.failures.saturating_add(1);
        record.last = now;
        let failures = record.failures;
        self.order.insert((now, host));
        if failures >= self.settings.failures {
            self.ban(now, host);
            return Penalty::Ban;
        }
        while self.records.len() > MAXIMUM_HOSTS {
            self.forget_oldest();
        }
        Penalty::Wait(self.wait(failures))
    }

    fn wait(&self, failures: u32) -> Duration {
        match failures.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                self.settings.first_wait.saturating_mul(factor).min(self.settings.longest_wait)
            }
        }
    }

    fn ban(&mut self, now: Millis, host: IpAddr) {
        if let Some(record) = self.records.remove(&host) {
            self.order.remove(&(record.last, host));
        }
        self.bans.insert((now.saturating_add(whole_millis(self.settings.ban)), host));
        while self.bans.len() > MAXIMUM_HOSTS {
            self.bans.pop_first();
        }
    }

    /// The hosts that are banned, and until when.
    pub(super) fn bans(&self, now: Millis) -> impl Iterator<Item = (IpAddr, Millis)> {
        self.bans.iter().filter(move |(until, _)| *until > now).map(|&(until, host)| (host, until))
    }

    fn expire(&mut self, now: Millis) {
        while self.bans.first().is_some_and(|(until, _)| *until <= now) {
            self.bans.pop_first();
        }
        let ban = whole_millis(self.settings.ban);
        while self.order.first().is_some_and(|(last, _)| last.saturating_add(ban) <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, host)) = self.order.pop_first() {
            self.records.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: GuardSettings = GuardSettings {
        failures: 10,
        ban: Duration::from_secs(300),
        first_wait: Duration::from_millis(250),
        longest_wait: Duration::from_secs(4),
    };

    fn guard(settings: GuardSettings) -> Guard {
        Guard::new(settings, KeyedHash([1; 16]))
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn each_wrong_answer_costs_twice_the_wait_of_the_one_before_and_the_tenth_is_the_last() {
        let mut guard = guard(SETTINGS);
        let waits = [0, 0, 0, 250, 500, 1000, 2000, 4000, 4000];
        for (at, wait) in (0..).zip(waits) {
            assert_eq!(guard.note(at * 1000, address(1)), Penalty::Wait(Duration::from_millis(wait)), "{at}");
        }
        // Of others it knows nothing.
        assert_eq!(guard.note(9000, address(2)), Penalty::Wait(Duration::ZERO));
        assert_eq!(guard.note(9000, address(1)), Penalty::Ban);
        assert_eq!(guard.bans(9000).collect::<Vec<_>>(), [(address(1), 309_000)]);
        // Once that has ended, it begins anew.
        assert_eq!(guard.bans(309_000).count(), 0);
        assert_eq!(guard.note(309_000, address(1)), Penalty::Wait(Duration::ZERO));
        assert!(guard.bans.is_empty());
    }

    #[test]
    fn wrong_answers_are_forgotten_after_the_time_of_a_ban_without_one() {
        let mut guard = guard(SETTINGS);
        for at in 0..4 {
            guard.note(at, address(1));
        }
        assert_eq!(guard.note(300_002, address(1)), Penalty::Wait(Duration::from_millis(500)));
        assert_eq!(guard.note(600_002, address(1)), Penalty::Wait(Duration::ZERO));
    }

    #[test]
    fn an_ipv6_host_has_64_bits() {
        let mut guard = guard(GuardSettings { failures: 2, ..SETTINGS });
        assert_eq!(guard.note(0, "2001:db8::1".parse().unwrap()), Penalty::Wait(Duration::ZERO));
        assert_eq!(guard.note(0, "2001:db8::2".parse().unwrap()), Penalty::Ban);
        assert_eq!(guard.note(0, "2001:db8:0:1::2".parse().unwrap()), Penalty::Wait(Duration::ZERO));
    }

    #[test]
    fn nobody_is_banned_where_the_limit_is_0_and_at_once_where_it_is_1() {
        let mut never = guard(GuardSettings { failures: 0, ..SETTINGS });
        assert!((0..100).all(|at| never.note(at, address(1)) == Penalty::Wait(Duration::ZERO)));
        assert!(never.records.is_empty());
        assert_eq!(guard(GuardSettings { failures: 1, ..SETTINGS }).note(0, address(1)), Penalty::Ban);
    }

    #[test]
    fn it_remembers_so_many_hosts_and_no_more() {
        let mut waiting = guard(SETTINGS);
        let mut banning = guard(GuardSettings { failures: 1, ..SETTINGS });
        for number in 0..MAXIMUM_HOSTS as u32 + 10 {
            waiting.note(u64::from(number) / 100, address(number));
            banning.note(u64::from(number) / 100, address(number));
        }
        assert_eq!((waiting.records.len(), waiting.order.len()), (MAXIMUM_HOSTS, MAXIMUM_HOSTS));
        assert_eq!((banning.bans.len(), banning.records.len()), (MAXIMUM_HOSTS, 0));
        assert!(!waiting.records.contains_key(&address(0)));
    }
}
