//! Federation: which other domains there are, how each is reached, and who may speak for it (product rules).

pub mod guard;
pub mod shaper;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use self::guard::Guard;
use self::shaper::Shaper;
use super::flow::{Flow, Transport};
use super::identity::{Expected, Profile};
use super::interface::{Interfaces, Side};
use super::message::reply::Reply;
use super::next_hop::{Query, Server};

/// What the configuration says of other domains. All names are in lower case.
#[derive(Clone, Debug)]
pub struct Federation {
    /// Whether anything passes between the presence domains and other domains.
    pub is_enabled: bool,
    /// Whether domains are found by their SRV records.
    pub is_open: bool,
    /// Whether open federation is for the allowed domains alone.
    pub is_closed: bool,
    /// How a certificate proves a domain.
    pub profile: Profile,
    /// Domains with which nothing is exchanged.
    pub blocked: Vec<String>,
    /// Domains that the guard leaves alone, and under a closed policy the only ones.
    pub allowed: Vec<String>,
    /// Domains whose access servers are configured.
    pub routes: Vec<Arc<Route>>,
    /// When requests may leave for discovered peers that are not allowed ones; one for all Routers.
    pub shaper: Arc<Shaper>,
    /// What discovered peers that are not allowed ones do; one for all Routers.
    pub guard: Arc<Guard>,
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its place in the configuration.
    pub id: RouteId,
    /// The domain that it leads to.
    pub domain: Arc<str>,
    /// The host name of the access server; `None` where it is an address.
    pub host: Option<Arc<str>>,
    /// The address of the access server; `None` where it is a name.
    pub address: Option<IpAddr>,
    /// The port of the access server.
    pub port: u16,
    /// What is spoken to it.
    pub transport: Transport,
    /// Whether its certificate is demanded, and ours shown.
    pub is_mutual: bool,
    /// Whether what comes from it needs no authorisation.
    pub is_trusted: bool,
    /// Which of our addresses it is reached from, where that is configured.
    pub bind_address: Option<IpAddr>,
}

/// A static route; its index among those of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u16);

/// How a domain is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outward {
    /// By its static route.
    Route(Arc<Route>),
    /// By its SRV record.
    Discovered(Arc<str>),
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            is_enabled: true,
            is_open: false,
            is_closed: false,
            profile: Profile::Federation,
            blocked: Vec::new(),
            allowed: Vec::new(),
            routes: Vec::new(),
            shaper: Arc::default(),
            guard: Arc::default(),
        }
    }
}

impl Federation {
    /// How requests for `domain` leave; the error is the answer to them.
    pub fn outward(&self, domain: &str) -> Result<Outward, Reply> {
        self.check_policy(domain)?;
        if let Some(route) = self.route_of(domain) {
            return Ok(Outward::Route(Arc::clone(route)));
        }
        if !self.is_open {
            return Err(refusal(404, "No Route To Domain", "no static route, and open federation is off"));
        }
        self.check_discovered(domain)?;
        Ok(Outward::Discovered(Arc::from(domain)))
    }

    /// Whether anything may be exchanged with `domain`; the error is the answer.
    pub fn check_policy(&self, domain: &str) -> Result<(), Reply> {
        if !self.is_enabled {
            return Err(refusal(403, "Federation Is Off", "federation is off"));
        }
        if self.blocked.iter().any(|blocked| blocked == domain) {
            return Err(refusal(403, "Domain Blocked", "the domain is blocked"));
        }
        Ok(())
    }

    /// Whether `domain`, which has no static route, may be federated with; the error is the answer.
    pub fn check_discovered(&self, domain: &str) -> Result<(), Reply> {
        if !self.is_open {
            return Err(refusal(403, "No Open Federation", "open federation is off"));
        }
        if self.is_closed && !self.is_allowed(domain) {
            return Err(refusal(
                403,
                "Domain Not Allowed",
                "the policy is closed, and the domain is not allowed",
            ));
        }
        Ok(())
    }

    /// Whether the domain is on the list of the allowed ones.
    pub fn is_allowed(&self, domain: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == domain)
    }

    /// The static route to `domain`.
    pub fn route_of(&self, domain: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| *route.domain == *domain)
    }

    /// The trusted route whose access server `flow` comes from, as far as addresses tell: of MTLS the certificate does.
    /// `addresses` are those that the names of access servers have now.
    pub fn trusted_by_address(&self, flow: &Flow, addresses: &AccessAddresses) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| {
            let is_there =
                route.address == Some(flow.remote.ip()) || addresses.has(route.id, flow.remote.ip());
            route.is_trusted && !route.is_mutual && route.transport == flow.transport && is_there
        })
    }
}

impl Outward {
    /// The domain that is reached.
    pub fn domain(&self) -> &Arc<str> {
        match self {
            Self::Route(route) => &route.domain,
            Self::Discovered(domain) => domain,
        }
    }

    /// The static route, where it is one.
    pub fn route(&self) -> Option<&Route> {
        match self {
            Self::Route(route) => Some(route),
            Self::Discovered(_) => None,
        }
    }

    /// The server that needs no look-up; else what to look up.
    pub fn server(&self) -> Result<Server, Query> {
        match self {
            Self::Route(route) => route.server(),
            Self::Discovered(domain) => Err(Query::Federation(Arc::clone(domain))),
        }
    }

    /// Who the server `host` has to prove to be. One that is given by its address is called by the domain.
    pub fn expected(&self, host: &Arc<str>) -> Expected {
        let server_name = match self {
            Self::Route(route) => route.host.as_ref().unwrap_or(&route.domain),
            Self::Discovered(_) => host,
        };
        Expected { server_name: Arc::clone(server_name), domain: Some(Arc::clone(self.domain())) }
    }

    /// The flow to `remote` by an interface of the WAN; for a static route by the address that it is bound to, and
    /// where the WAN has none that reaches it, by one of the LAN.
    pub fn flow_to(&self, transport: Transport, remote: SocketAddr, interfaces: &Interfaces) -> Option<Flow> {
        let bound = self.route().and_then(|route| route.bind_address);
        let from = |side| interfaces.flow_from_address(side, transport, remote, bound);
        from(Side::Wan).or_else(|| self.route().and_then(|_| from(Side::Lan)))
    }
}

impl Route {
    /// The access server, or what to look up for it.
    fn server(&self) -> Result<Server, Query> {
        let Some(address) = self.socket_address() else {
            return Err(Query::Server {
                host: self.host.clone().unwrap_or_else(|| Arc::from("")),
                port: Some(self.port),
                transport: Some(self.transport),
                is_secure: false,
            });
        };
        let host = Arc::from(address.ip().to_string());
        Ok(Server { transport: self.transport, host, addresses: [address].into_iter().collect() })
    }

    /// Where the access server is, if no name has to be looked up for that.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.address.map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// The addresses that access servers given by name have now, by the last word of the name servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessAddresses(pub Vec<(RouteId, IpAddr)>);

impl AccessAddresses {
    fn has(&self, route: RouteId, address: IpAddr) -> bool {
        self.0.contains(&(route, address))
    }
}

/// A refusal that also says why to whoever reads the message (RFC 3261 §20.43).
fn refusal(status: u16, reason: &'static str, text: &str) -> Reply {
    Reply::with_reason(status, reason).row("Warning", format!("399 sip-proxy \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: u16, domain: &str, is_trusted: bool) -> Arc<Route> {
        Arc::new(Route {
            id: RouteId(id),
            domain: Arc::from(domain),
            host: (id == 1).then(|| Arc::from("sip.partner.test")),
            address: (id != 1).then(|| "192.0.2.7".parse().unwrap()),
            port: 5060,
            transport: Transport::Tcp,
            is_mutual: false,
            is_trusted,
            bind_address: None,
        })
    }

    fn federation() -> Federation {
        Federation {
            is_open: true,
            blocked: vec!["bad.test".to_owned(), "worse.test".to_owned()],
            allowed: vec!["good.test".to_owned()],
            routes: vec![route(0, "c.test", true), route(1, "d.test", true), route(2, "worse.test", false)],
            ..Federation::default()
        }
    }

    #[test]
    fn a_domain_is_reached_by_its_route_else_by_its_record_if_policy_lets_it() {
        let off = Federation { is_enabled: false, ..federation() };
        let closed = Federation { is_closed: true, ..federation() };
        let routes_only = Federation { is_open: false, ..federation() };
        let table = [
            (federation(), "c.test", Ok("route")),
            (federation(), "x.test", Ok("record")),
            (federation(), "bad.test", Err(403)),
            (federation(), "worse.test", Err(403)),
            (off, "c.test", Err(403)),
            (closed.clone(), "x.test", Err(403)),
            (closed.clone(), "good.test", Ok("record")),
            (closed, "c.test", Ok("route")),
            (routes_only.clone(), "x.test", Err(404)),
            (routes_only, "c.test", Ok("route")),
        ];
        for (federation, domain, expected) in table {
            let way = federation.outward(domain).map(|way| match way {
                Outward::Route(_) => "route",
                Outward::Discovered(_) => "record",
            });
            assert_eq!(way.map_err(|reply| reply.status), expected, "{domain}");
        }
    }

    #[test]
    fn a_trusted_route_is_known_by_its_address_and_transport() {
        let flow = |transport, ip: &str| Flow {
            interface: crate::protocol::flow::InterfaceId(0),
            transport,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: SocketAddr::new(ip.parse().unwrap(), 40_000),
            connection: None,
        };
        let known = AccessAddresses(vec![(RouteId(1), "192.0.2.8".parse().unwrap())]);
        let table = [
            (Transport::Tcp, "192.0.2.7", Some("c.test")),
            (Transport::Tcp, "192.0.2.8", Some("d.test")),
            (Transport::Tcp, "192.0.2.9", None),
            (Transport::Udp, "192.0.2.7", None),
            (Transport::Tls, "192.0.2.7", None),
        ];
        for (transport, ip, expected) in table {
            let found = federation();
            let found = found.trusted_by_address(&flow(transport, ip), &known);
            assert_eq!(found.map(|route| &*route.domain), expected, "{transport} {ip}");
        }
        let mut mutual = federation();
        mutual.routes = vec![Arc::new(Route { is_mutual: true, ..(*route(0, "c.test", true)).clone() })];
        assert!(mutual.trusted_by_address(&flow(Transport::Tcp, "192.0.2.7"), &known).is_none());
    }
}
