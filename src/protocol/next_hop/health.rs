//! Which servers are ill: those come last for a while, whatever their priority (RFC 3263 §2: availability is
//! remembered, and must be forgotten).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Server;
use super::recent::Recent;
use crate::protocol::flow::Transport;

/// Servers that have failed lately.
const MAXIMUM_SERVERS: usize = 4096;

/// So many failures in a row make a server sick. A refused connection is enough by itself: nobody is there.
const FAILURES: u32 = 2;

/// How long a server is tried last, the first time.
const FIRST_REST: Duration = Duration::from_secs(30);

/// How long at most.
const LONGEST_REST: Duration = Duration::from_secs(10 * 60);

/// Failures further apart are not in a row.
const MEMORY: Duration = Duration::from_secs(60 * 60);

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has answered.
    Answered,
    /// It has not answered, or with 503.
    Failed,
    /// No connection to it can be had.
    Refused,
}

/// The servers that have failed lately. All others are well.
#[derive(Debug)]
pub(super) struct Health(Recent<(Transport, SocketAddr), Record>);

#[derive(Clone, Copy, Debug)]
struct Record {
    /// In a row.
    failures: u32,
    last_failure: Instant,
    /// Sick until then, and for how long: doubled each time that it fails again afterwards.
    rest: Option<(Instant, Duration)>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self(Recent::new(MAXIMUM_SERVERS))
    }

    pub(super) fn report(
        &mut self,
        now: Instant,
        transport: Transport,
        remote: SocketAddr,
        outcome: Outcome,
    ) {
        let key = (transport, remote);
        if outcome == Outcome::Answered {
            self.0.remove(&key);
            return;
        }
        let is_lasting = |record: &Record| now.saturating_duration_since(record.last_failure) < MEMORY;
        let known = self.0.peek(&key).copied().filter(is_lasting);
        let mut record = known.unwrap_or(Record { failures: 0, last_failure: now, rest: None });
        record.failures = record.failures.saturating_add(1);
        record.last_failure = now;
        if record.failures >= FAILURES || outcome == Outcome::Refused {
            record.rest = match record.rest {
                // Requests that were under way when it fell ill say nothing new.
                Some((end, rest)) if now < end => Some((end, rest)),
                Some((_, rest)) => Some(rest_from(now, (rest * 2).min(LONGEST_REST))),
                None => Some(rest_from(now, FIRST_REST)),
            };
        }
        self.0.insert(key, record);
    }

    pub(super) fn is_sick(&self, now: Instant, transport: Transport, remote: SocketAddr) -> bool {
        let rest = self.0.peek(&(transport, remote)).and_then(|record| record.rest);
        rest.is_some_and(|(end, _)| now < end)
    }

    /// Puts the sick last, servers and addresses of a server, and changes the order of nothing else.
    pub(super) fn sort(&self, now: Instant, servers: &mut [Server]) {
        for server in servers.iter_mut() {
            let transport = server.transport;
            server.addresses.sort_by_key(|address| self.is_sick(now, transport, *address));
        }
        servers.sort_by_key(|server| {
            let first = server.addresses.first();
            first.is_some_and(|address| self.is_sick(now, server.transport, *address))
        });
    }
}

fn rest_from(now: Instant, rest: Duration) -> (Instant, Duration) {
    (now + rest, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 5061))
    }

    /// Reports, and whether the server is sick then.
    fn run(steps: &[(u64, Outcome, bool)]) {
        let start = Instant::now();
        let mut health = Health::new();
        for (second, outcome, is_sick) in steps {
            let now = start + SECOND * u32::try_from(*second).unwrap();
            health.report(now, Transport::Tls, address(1), *outcome);
            assert_eq!(health.is_sick(now, Transport::Tls, address(1)), *is_sick, "{second} {outcome:?}");
            assert!(!health.is_sick(now, Transport::Tcp, address(1)), "another transport is another server");
        }
    }

    #[test]
    fn two_failures_in_a_row_or_a_refusal_make_sick_and_a_success_well() {
        use Outcome::{Answered, Failed, Refused};
        run(&[(0, Failed, false), (1, Failed, true), (2, Answered, false), (3, Failed, false)]);
        run(&[(0, Failed, false), (1, Answered, false), (2, Failed, false)]);
        run(&[(0, Refused, true), (1, Answered, false)]);
        run(&[(0, Failed, false), (3600, Failed, false)]);
    }

    #[test]
    fn the_rest_doubles_only_when_it_fails_again_after_it() {
        let start = Instant::now();
        let mut health = Health::new();
        let mut now = start;
        for rest in [30, 60, 120, 240, 480, 600, 600] {
            // Several requests at once fail together.
            for _ in 0..3 {
                health.report(now, Transport::Udp, address(1), Outcome::Refused);
            }
            assert!(health.is_sick(now + SECOND * (rest - 1), Transport::Udp, address(1)), "{rest}");
            assert!(!health.is_sick(now + SECOND * rest, Transport::Udp, address(1)), "{rest}");
            now += SECOND * rest;
        }
    }

    #[test]
    fn the_sick_come_last_and_never_vanish() {
        let now = Instant::now();
        let mut health = Health::new();
        let server = |host: &str, addresses: &[u8]| Server {
            transport: Transport::Tls,
            host: host.into(),
            addresses: addresses.iter().copied().map(address).collect(),
        };
        for last in [1, 2, 5] {
            health.report(now, Transport::Tls, address(last), Outcome::Refused);
        }
        let mut servers = [server("a", &[1, 2]), server("b", &[3]), server("c", &[5, 4]), server("d", &[6])];
        health.sort(now, &mut servers);
        assert_eq!(
            servers,
            [server("b", &[3]), server("c", &[4, 5]), server("d", &[6]), server("a", &[1, 2])]
        );
    }

    #[test]
    fn what_failed_longest_ago_is_forgotten_first() {
        let now = Instant::now();
        let mut health = Health::new();
        let remote = |number: usize| SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 5060));
        for number in 0..=MAXIMUM_SERVERS {
            health.report(now, Transport::Udp, remote(number), Outcome::Refused);
        }
        assert!(!health.is_sick(now, Transport::Udp, remote(0)));
        assert!(health.is_sick(now, Transport::Udp, remote(1)));
        assert!(health.is_sick(now, Transport::Udp, remote(MAXIMUM_SERVERS)));
    }
}
