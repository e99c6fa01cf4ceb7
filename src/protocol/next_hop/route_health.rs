//! Whether static routes work: by what passes, and, of a route that nothing has passed for a while, by a probe.
//!
//! Holds no clock: pass `now`, drain [`RouteHealth::poll_output`], arm a timer at [`RouteHealth::poll_timeout`].

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::Outcome;
use crate::protocol::federation::{AccessAddresses, Route, RouteId};
use crate::protocol::flow::Transport;

/// So many failures in a row make an access server's address count as failed; a refused connection is as good as all.
const FAILURES: u32 = 2;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send an OPTIONS by this route.
    Probe(RouteId),
    /// Nothing gets through by this route any more.
    Failed {
        /// The route.
        route: Arc<Route>,
        /// Why, in words.
        cause: &'static str,
    },
    /// Something has got through by this route again.
    Recovered {
        /// The route.
        route: Arc<Route>,
        /// How long it had failed.
        after: Duration,
    },
}

/// How a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing has come of anything yet.
    Unknown,
    /// Something has got through.
    Well,
    /// Nothing gets through, for this reason.
    Ill(&'static str),
}

#[derive(Debug)]
struct Watched {
    route: Arc<Route>,
    /// Failures in a row, of the addresses that have any.
    failures: Vec<(IpAddr, u32)>,
    failed_since: Option<Instant>,
    health: Health,
    /// When it is to be probed.
    due: Instant,
}

/// The health of all static routes.
#[derive(Debug)]
pub struct RouteHealth {
    /// How long nothing may pass a route until it is probed; `None`: it is not.
    interval: Option<Duration>,
    watched: Vec<Watched>,
    outputs: VecDeque<Output>,
}

impl RouteHealth {
    /// All of `routes` are well, and have just been in use.
    pub fn new(routes: &[Arc<Route>], interval: Option<Duration>, now: Instant) -> Self {
        let due = now + interval.unwrap_or_default();
        let watch = |route: &Arc<Route>| Watched {
            route: Arc::clone(route),
            failures: Vec::new(),
            failed_since: None,
            health: Health::Unknown,
            due,
        };
        Self { interval, watched: routes.iter().map(watch).collect(), outputs: VecDeque::new() }
    }

    /// From now on, these are the routes, and this is the interval. What is known of those that stay is kept.
    pub fn set_routes(&mut self, routes: &[Arc<Route>], interval: Option<Duration>, now: Instant) {
        let is_same_interval = interval == self.interval;
        let mut known = std::mem::take(&mut self.watched);
        *self = Self { outputs: std::mem::take(&mut self.outputs), ..Self::new(routes, interval, now) };
        for watched in &mut self.watched {
            let Some(at) = known.iter().position(|known| known.route.id == watched.route.id) else {
                continue;
            };
            let known = known.swap_remove(at);
            watched.failures = known.failures;
            watched.failed_since = known.failed_since;
            if is_same_interval {
                watched.due = known.due;
            }
        }
    }

    /// What became of an attempt to reach a server. `known` are the addresses of access servers given by name.
    pub fn handle_outcome(
        &mut self,
        now: Instant,
        (transport, remote): (Transport, SocketAddr),
        outcome: Outcome,
        known: &AccessAddresses,
    ) {
        let wait = self.interval.unwrap_or_default();
        for watched in &mut self.watched {
            let route = &watched.route;
            let addresses = addresses_of(route, known);
            let is_there = addresses.contains(&remote.ip());
            if !is_there || (route.transport, route.port) != (transport, remote.port()) {
                continue;
            }
            watched.due = now + wait;
            watched.note(remote.ip(), outcome);
            let cause = match outcome {
                Outcome::Answered => None,
                Outcome::Failed => Some("no answer, or none but 503"),
                Outcome::Refused => Some("no connection"),
            };
            let is_failed = |address: &IpAddr| {
                watched.failures.iter().any(|(failing, count)| failing == address && *count >= FAILURES)
            };
            let cause = cause.filter(|_| addresses.iter().all(is_failed));
            if outcome == Outcome::Answered || cause.is_some() {
                self.outputs.extend(watched.change(now, cause));
            }
        }
    }

    /// Probes what nothing has passed for a while. A route whose access server has no address has failed.
    pub fn handle_timeout(&mut self, now: Instant, known: &AccessAddresses) {
        let Some(interval) = self.interval else { return };
        for watched in self.watched.iter_mut().filter(|watched| watched.due <= now) {
            watched.due = now + interval;
            if addresses_of(&watched.route, known).is_empty() {
                self.outputs.extend(watched.change(now, Some("the access server has no address")));
            } else {
                self.outputs.push_back(Output::Probe(watched.route.id));
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.interval.and_then(|_| self.watched.iter().map(|watched| watched.due).min())
    }

    /// Every route, and how it does.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<Route>, Health)> {
        self.watched.iter().map(|watched| (&watched.route, watched.health))
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

impl Watched {
    fn note(&mut self, address: IpAddr, outcome: Outcome) {
        let before = self.failures.iter().position(|(failing, _)| *failing == address);
        let before = before.map_or(0, |at| self.failures.swap_remove(at).1);
        match outcome {
            Outcome::Answered => {}
            Outcome::Failed => self.failures.push((address, before.saturating_add(1))),
            Outcome::Refused => self.failures.push((address, FAILURES)),
        }
    }

    /// What there is to tell, if it was otherwise before.
    fn change(&mut self, now: Instant, cause: Option<&'static str>) -> Option<Output> {
        let route = Arc::clone(&self.route);
        self.health = cause.map_or(Health::Well, Health::Ill);
        match (cause, self.failed_since) {
            (Some(cause), None) => {
                self.failed_since = Some(now);
                Some(Output::Failed { route, cause })
            }
            (None, Some(since)) => {
                self.failed_since = None;
                Some(Output::Recovered { route, after: now.saturating_duration_since(since) })
            }
            (Some(_), Some(_)) | (None, None) => None,
        }
    }
}

/// Where the access server of `route` is, as far as that is known.
pub fn addresses_of(route: &Route, known: &AccessAddresses) -> Vec<IpAddr> {
    let by_name = known.0.iter().filter(|(id, _)| *id == route.id).map(|(_, address)| *address);
    route.address.into_iter().chain(by_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Answered, Failed, Refused};

    const SECOND: Duration = Duration::from_secs(1);

    fn route(id: u16, address: Option<&str>) -> Arc<Route> {
        Arc::new(Route {
            id: RouteId(id),
            domain: Arc::from("c.test"),
            host: address.is_none().then(|| Arc::from("sip.c.test")),
            address: address.map(|address| address.parse().unwrap()),
            port: 5060,
            transport: Transport::Tcp,
            is_mutual: false,
            is_trusted: true,
            bind_address: None,
        })
    }

    fn known(addresses: &[&str]) -> AccessAddresses {
        AccessAddresses(addresses.iter().map(|address| (RouteId(1), address.parse().unwrap())).collect())
    }

    /// One letter for each change: F, R, and P for a probe.
    fn told(health: &mut RouteHealth) -> String {
        let letter = |output| match output {
            Output::Failed { .. } => 'F',
            Output::Recovered { .. } => 'R',
            Output::Probe(_) => 'P',
        };
        std::iter::from_fn(|| health.poll_output()).map(letter).collect()
    }

    #[test]
    fn a_change_is_told_once() {
        let table: [(&[(&str, Outcome)], &str); 8] = [
            (&[("192.0.2.1", Refused), ("192.0.2.1", Refused), ("192.0.2.1", Failed)], "F"),
            (&[("192.0.2.1", Failed)], ""),
            (&[("192.0.2.1", Failed), ("192.0.2.1", Failed)], "F"),
            (&[("192.0.2.1", Failed), ("192.0.2.1", Answered), ("192.0.2.1", Failed)], ""),
            (&[("192.0.2.1", Refused), ("192.0.2.1", Answered), ("192.0.2.1", Answered)], "FR"),
            (&[("192.0.2.1", Answered)], ""),
            // Somebody else.
            (&[("192.0.2.9", Refused)], ""),
            (&[("192.0.2.1", Refused), ("192.0.2.9", Answered)], "F"),
        ];
        for (outcomes, expected) in table {
            let now = Instant::now();
            let mut health = RouteHealth::new(&[route(0, Some("192.0.2.1"))], None, now);
            for (address, outcome) in outcomes {
                let remote = SocketAddr::new(address.parse().unwrap(), 5060);
                // By another transport and at another port it is another server.
                for other in [(Transport::Tls, remote), (Transport::Tcp, SocketAddr::new(remote.ip(), 5061))]
                {
                    health.handle_outcome(now, other, Refused, &known(&[]));
                }
                health.handle_outcome(now, (Transport::Tcp, remote), *outcome, &known(&[]));
            }
            assert_eq!(told(&mut health), expected, "{outcomes:?}");
        }
    }

    #[test]
    fn a_route_fails_when_every_address_of_its_server_does() {
        let now = Instant::now();
        let mut health = RouteHealth::new(&[route(1, None)], None, now);
        let known = known(&["192.0.2.1", "2001:db8::1"]);
        let at = |address: &str| (Transport::Tcp, SocketAddr::new(address.parse().unwrap(), 5060));
        health.handle_outcome(now, at("192.0.2.1"), Refused, &known);
        assert_eq!(told(&mut health), "");
        health.handle_outcome(now, at("2001:db8::1"), Refused, &known);
        assert_eq!(told(&mut health), "F");
        health.handle_outcome(now + 7 * SECOND, at("192.0.2.1"), Answered, &known);
        let recovered = Output::Recovered { route: route(1, None), after: 7 * SECOND };
        assert_eq!(health.poll_output(), Some(recovered));
    }

    #[test]
    fn what_nothing_has_passed_is_probed_and_what_is_in_use_is_not() {
        let start = Instant::now();
        let mut health = RouteHealth::new(&[route(0, Some("192.0.2.1"))], Some(30 * SECOND), start);
        let at = (Transport::Tcp, "192.0.2.1:5060".parse().unwrap());
        assert_eq!(health.poll_timeout(), Some(start + 30 * SECOND));
        health.handle_outcome(start + 10 * SECOND, at, Answered, &known(&[]));
        health.handle_timeout(start + 30 * SECOND, &known(&[]));
        assert_eq!(told(&mut health), "");
        assert_eq!(health.poll_timeout(), Some(start + 40 * SECOND));
        health.handle_timeout(start + 40 * SECOND, &known(&[]));
        assert_eq!(told(&mut health), "P");
        health.handle_timeout(start + 69 * SECOND, &known(&[]));
        assert_eq!(told(&mut health), "");
        health.handle_timeout(start + 70 * SECOND, &known(&[]));
        assert_eq!(told(&mut health), "P", "also while the first has no answer");
        let mut never = RouteHealth::new(&[route(0, Some("192.0.2.1"))], None, start);
        never.handle_timeout(start + 3600 * SECOND, &known(&[]));
        assert_eq!((never.poll_timeout(), told(&mut never)), (None, String::new()));
    }

    #[test]
    fn a_route_whose_server_has_no_address_has_failed() {
        let start = Instant::now();
        let mut health = RouteHealth::new(&[route(1, None)], Some(SECOND), start);
        health.handle_timeout(start + SECOND, &known(&[]));
        health.handle_timeout(start + 2 * SECOND, &known(&[]));
        assert_eq!(told(&mut health), "F");
        health.handle_timeout(start + 3 * SECOND, &known(&["192.0.2.1"]));
        let at = (Transport::Tcp, "192.0.2.1:5060".parse().unwrap());
        health.handle_outcome(start + 3 * SECOND, at, Answered, &known(&["192.0.2.1"]));
        assert_eq!(told(&mut health), "PR");
    }

    #[test]
    fn a_route_that_stays_is_as_ill_as_it_was_and_a_new_one_is_well() {
        let start = Instant::now();
        let mut health = RouteHealth::new(&[route(0, Some("192.0.2.1"))], Some(30 * SECOND), start);
        let at = (Transport::Tcp, "192.0.2.1:5060".parse().unwrap());
        health.handle_outcome(start, at, Refused, &known(&[]));
        assert_eq!(told(&mut health), "F");
        let later = start + 10 * SECOND;
        health.set_routes(
            &[route(2, Some("192.0.2.2")), route(0, Some("192.0.2.1"))],
            Some(30 * SECOND),
            later,
        );
        assert_eq!(health.poll_timeout(), Some(start + 30 * SECOND));
        health.handle_outcome(later, at, Answered, &known(&[]));
        let recovered = Output::Recovered { route: route(0, Some("192.0.2.1")), after: 10 * SECOND };
        assert_eq!(health.poll_output(), Some(recovered));
        // Another interval counts from now on; under another identifier it is another route.
        health.set_routes(&[route(3, Some("192.0.2.1"))], Some(SECOND), later);
        assert_eq!(health.poll_timeout(), Some(later + SECOND));
        health.handle_outcome(later, at, Answered, &known(&[]));
        assert_eq!(told(&mut health), "");
    }
}
