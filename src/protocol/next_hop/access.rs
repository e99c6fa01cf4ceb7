//! The access servers of static routes that are given by name: their addresses tell what comes in by a trusted route, so
//! they are known before anything is sent there, and are looked up again as their TTL says.
//!
//! Holds no clock and no socket: pass `now`, drain [`AccessServers::poll_output`], arm a timer at
//! [`AccessServers::poll_timeout`]. Each [`Output::LookUp`] must be answered by [`AccessServers::handle_answer`].

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::records::{Answer, Failure, Key, RecordType, Records};
use crate::protocol::federation::{AccessAddresses, Route, RouteId};
use crate::protocol::interface::Interfaces;
use crate::protocol::message::uri::Host;

/// Not oftener, whatever the TTL.
const SHORTEST: Duration = Duration::from_secs(1);

/// Not more seldom, whatever the TTL, and this where there is none to go by.
const LONGEST: Duration = Duration::from_secs(60);

/// After a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask the name servers on behalf of this route.
    LookUp(RouteId, Key),
    /// Tell every Router.
    Addresses(AccessAddresses),
    /// The access server of a route has other addresses than before; there were none before the first look-up.
    Moved {
        /// The route.
        route: Arc<Route>,
        /// Where it was.
        old: Vec<IpAddr>,
        /// Where it is.
        new: Vec<IpAddr>,
    },
    /// The access server of a route is ourselves: nothing is taken for the route's by that address.
    LeadsToOurselves {
        /// The route.
        route: Arc<Route>,
        /// Which of our addresses.
        address: SocketAddr,
    },
}

/// One access server.
#[derive(Debug)]
struct Server {
    route: Arc<Route>,
    host: Arc<str>,
    /// By the last answer of each family: IPv4, IPv6.
    found: [Vec<IpAddr>; 2],
    /// Look-ups under way.
    awaited: usize,
    /// When to look up again, by what has been answered of this round.
    due: Instant,
    /// What the Routers have been told of it.
    told: Vec<IpAddr>,
}

/// The access servers that are given by name.
#[derive(Debug)]
pub struct AccessServers {
    interfaces: Arc<Interfaces>,
    servers: Vec<Server>,
    outputs: VecDeque<Output>,
}

impl AccessServers {
    /// Those of `routes`, to be looked up at once. The others have an address already.
    pub fn new(routes: &[Arc<Route>], interfaces: Arc<Interfaces>, now: Instant) -> Self {
        let named = routes.iter().filter_map(|route| Some((route, route.host.as_ref()?)));
        let servers = named.map(|(route, host)| Server {
            route: Arc::clone(route),
            host: Arc::clone(host),
            found: [const { Vec::new() }; 2],
            awaited: 0,
            due: now,
            told: Vec::new(),
        });
        Self { interfaces, servers: servers.collect(), outputs: VecDeque::new() }
    }

    /// From now on, these are the routes. What is known of those that stay is kept, the others' addresses are told as
    /// gone.
    pub fn set_routes(&mut self, routes: &[Arc<Route>], now: Instant) {
        let before = self.addresses();
        let fresh = Self::new(routes, Arc::clone(&self.interfaces), now).servers;
        let mut known = std::mem::take(&mut self.servers);
        let kept = |new: Server| match known.iter().position(|server| is_same(&server.route, &new.route)) {
            Some(at) => Server { route: new.route, ..known.swap_remove(at) },
            None => new,
        };
        self.servers = fresh.into_iter().map(kept).collect();
        let addresses = self.addresses();
        if addresses != before {
            self.outputs.push_back(Output::Addresses(addresses));
        }
    }

    /// What listens now: access servers that are ourselves are left out.
    pub fn set_interfaces(&mut self, interfaces: Arc<Interfaces>) {
        self.interfaces = interfaces;
    }

    /// The addresses that are known now.
    pub fn addresses(&self) -> AccessAddresses {
        let of = |server: &Server| {
            let id = server.route.id;
            server.told.iter().map(move |address| (id, *address)).collect::<Vec<_>>()
        };
        AccessAddresses(self.servers.iter().flat_map(of).collect())
    }

    /// Looks up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for server in self.servers.iter_mut().filter(|server| server.awaited == 0 && server.due <= now) {
            server.awaited = 2;
            server.due = now + LONGEST;
            for kind in [RecordType::A, RecordType::Aaaa] {
                let key = Key { name: Arc::clone(&server.host), kind };
                self.outputs.push_back(Output::LookUp(server.route.id, key));
            }
        }
    }

    /// A look-up has ended. `ttl` is that of the records.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        route: RouteId,
        kind: RecordType,
        answer: Answer,
        ttl: Option<Duration>,
    ) {
        let server = self.servers.iter_mut().find(|server| server.route.id == route && server.awaited > 0);
        let Some(server) = server else { return };
        server.awaited -= 1;
        let found = &mut server.found[usize::from(kind == RecordType::Aaaa)];
        let wait = match answer.map(Records::bounded) {
            Ok(Records::Addresses(addresses)) => {
                *found = addresses;
                ttl.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST)
            }
            Ok(Records::Naptr(_) | Records::Srv(_)) | Err(Failure::NoSuchName | Failure::NoRecord) => {
                found.clear();
                LONGEST
            }
            // What was known stays known.
            Err(Failure::Timeout | Failure::ServerFailure) => AFTER_FAILURE,
        };
        server.due = server.due.min(now + wait);
        if server.awaited == 0 {
            self.compare(route);
        }
    }

    /// Tells what has changed, once both families are known.
    fn compare(&mut self, route: RouteId) {
        let Some(server) = self.servers.iter_mut().find(|server| server.route.id == route) else { return };
        let mut new = server.found.concat();
        new.sort_unstable();
        new.dedup();
        let port = server.route.port;
        let is_ours = |address: &IpAddr| self.interfaces.is_ours(&Host::Address(*address), Some(port));
        if let Some(ours) = new.iter().find(|address| is_ours(address)) {
            let (route, address) = (Arc::clone(&server.route), SocketAddr::new(*ours, port));
            self.outputs.push_back(Output::LeadsToOurselves { route, address });
        }
        new.retain(|address| !is_ours(address));
        if new == server.told {
            return;
        }
        let old = std::mem::replace(&mut server.told, new.clone());
        let route = Arc::clone(&server.route);
        self.outputs.push_back(Output::Moved { route, old, new });
        let addresses = self.addresses();
        self.outputs.push_back(Output::Addresses(addresses));
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.servers.iter().filter(|server| server.awaited == 0).map(|server| server.due).min()
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// Whether what is known of the access server of one holds for that of the other.
fn is_same(one: &Route, other: &Route) -> bool {
    (one.id, &one.host) == (other.id, &other.host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::flow::Transport;
    use crate::protocol::proxy::tests::network::interfaces;

    const SECOND: Duration = Duration::from_secs(1);

    /// What a look-up brings.
    type Found<'a> = Result<&'a [&'a str], Failure>;

    fn route(id: u16, host: Option<&str>, port: u16) -> Arc<Route> {
        Arc::new(Route {
            id: RouteId(id),
            domain: Arc::from("c.test"),
            host: host.map(Arc::from),
            address: None,
            port,
            transport: Transport::Tcp,
            is_mutual: false,
            is_trusted: true,
            bind_address: None,
        })
    }

    fn access(port: u16) -> (AccessServers, Instant) {
        let now = Instant::now();
        let routes = [route(0, None, port), route(1, Some("sip.c.test"), port)];
        (AccessServers::new(&routes, Arc::new(interfaces()), now), now)
    }

    /// Looks up what is due, answers both families, and gives what is told then.
    fn round(access: &mut AccessServers, now: Instant, [v4, v6]: [Found<'_>; 2], ttl: u64) -> Vec<Output> {
        access.handle_timeout(now);
        for (kind, answer) in [(RecordType::A, v4), (RecordType::Aaaa, v6)] {
            let key = Key { name: Arc::from("sip.c.test"), kind };
            assert_eq!(access.poll_output(), Some(Output::LookUp(RouteId(1), key)));
            let answer = answer.map(|list| Records::Addresses(addresses(list)));
            access.handle_answer(now, RouteId(1), kind, answer, Some(SECOND * ttl as u32));
        }
        std::iter::from_fn(|| access.poll_output()).collect()
    }

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn moved(old: &[&str], new: &[&str]) -> Vec<Output> {
        let [old, new] = [old, new].map(addresses);
        let told = AccessAddresses(new.iter().map(|address| (RouteId(1), *address)).collect());
        let route = route(1, Some("sip.c.test"), 5070);
        vec![Output::Moved { route, old, new }, Output::Addresses(told)]
    }

    #[test]
    fn a_change_is_told_once_and_what_was_known_outlives_a_failure() {
        const NONE: Found<'static> = Err(Failure::NoRecord);
        const SILENT: Found<'static> = Err(Failure::Timeout);
        let (mut access, mut now) = access(5070);
        let one: &[&str] = &["192.0.2.7"];
        let steps: [([Found<'_>; 2], Vec<Output>); 8] = [
            ([SILENT, SILENT], vec![]),
            ([Ok(one), NONE], moved(&[], one)),
            ([Ok(one), NONE], vec![]),
            ([SILENT, Err(Failure::ServerFailure)], vec![]),
            ([Ok(&["192.0.2.9", "192.0.2.8"]), NONE], moved(one, &["192.0.2.8", "192.0.2.9"])),
            // The order is the name servers' whim.
            ([Ok(&["192.0.2.8", "192.0.2.9"]), NONE], vec![]),
            (
                [SILENT, Ok(&["2001:db8::1"])],
                moved(&["192.0.2.8", "192.0.2.9"], &["192.0.2.8", "192.0.2.9", "2001:db8::1"]),
            ),
            (
                [Err(Failure::NoSuchName), Err(Failure::NoSuchName)],
                moved(&["192.0.2.8", "192.0.2.9", "2001:db8::1"], &[]),
            ),
        ];
        for (number, (answers, told)) in steps.into_iter().enumerate() {
            assert_eq!(round(&mut access, now, answers, 30), told, "step {number}");
            now = access.poll_timeout().unwrap();
        }
        assert_eq!(access.addresses(), AccessAddresses::default());
    }

    #[test]
    fn the_ttl_says_when_to_look_again_within_bounds() {
        let one: Found<'_> = Ok(&["192.0.2.7"]);
        for (ttl, other, seconds) in [
            (0, Err(Failure::NoRecord), 1),
            (30, Err(Failure::NoRecord), 30),
            (86_400, Err(Failure::NoRecord), 60),
            (30, Err(Failure::Timeout), 5),
        ] {
            let (mut access, now) = access(5070);
            assert_eq!(access.poll_timeout(), Some(now), "at once");
            round(&mut access, now, [one, other], ttl);
            assert_eq!(access.poll_timeout(), Some(now + SECOND * seconds), "{ttl} {other:?}");
        }
    }

    #[test]
    fn while_an_answer_is_awaited_nothing_is_due() {
        let (mut access, now) = access(5070);
        access.handle_timeout(now);
        assert_eq!(access.poll_timeout(), None);
        access.handle_answer(now, RouteId(1), RecordType::A, Err(Failure::Timeout), None);
        assert_eq!(access.poll_timeout(), None);
        // An answer that nobody waits for changes nothing.
        access.handle_answer(
            now,
            RouteId(0),
            RecordType::A,
            Ok(Records::Addresses(addresses(&["192.0.2.7"]))),
            None,
        );
        assert_eq!(access.addresses(), AccessAddresses::default());
    }

    #[test]
    fn an_access_server_that_is_ourselves_is_left_out() {
        let (mut access, now) = access(5060);
        let answers = [Ok(&["127.0.0.1", "192.0.2.7"][..]), Err(Failure::NoRecord)];
        let told = round(&mut access, now, answers, 30);
        let address = "127.0.0.1:5060".parse().unwrap();
        assert!(matches!(&told[0], Output::LeadsToOurselves { address: found, .. } if *found == address));
        assert_eq!(access.addresses(), AccessAddresses(vec![(RouteId(1), "192.0.2.7".parse().unwrap())]));
    }

    #[test]
    fn what_is_known_of_a_route_that_stays_is_kept_and_another_is_looked_up_at_once() {
        let (mut access, now) = access(5070);
        let one: &[&str] = &["192.0.2.7"];
        assert_eq!(round(&mut access, now, [Ok(one), Err(Failure::NoRecord)], 30), moved(&[], one));
        let same = Arc::new(Route { is_trusted: false, ..(*route(1, Some("sip.c.test"), 5070)).clone() });
        let other = route(2, Some("sip.d.test"), 5070);
        access.set_routes(&[Arc::clone(&other), same], now);
        assert_eq!(access.poll_output(), None, "nothing has changed for the Routers");
        access.handle_timeout(now);
        let key = |kind| Key { name: Arc::from("sip.d.test"), kind };
        let asked: Vec<_> = std::iter::from_fn(|| access.poll_output()).collect();
        assert_eq!(
            asked,
            [RecordType::A, RecordType::Aaaa].map(|kind| Output::LookUp(RouteId(2), key(kind)))
        );
        // Whatever comes for a route that is gone is nobody's.
        access.set_routes(&[other], now);
        assert_eq!(access.poll_output(), Some(Output::Addresses(AccessAddresses::default())));
        access.handle_answer(now, RouteId(1), RecordType::A, Ok(Records::Addresses(addresses(one))), None);
        assert_eq!((access.poll_output(), access.addresses()), (None, AccessAddresses::default()));
    }
}
