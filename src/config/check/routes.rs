//! `[static_routes]`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::certificates::trusted_cas;
use super::interfaces::dialled_protocol;
use super::machine;
use crate::config::reader::Section;
use crate::config::rules::{address, domain, duration, flag, host, port, unless, unless_empty};
use crate::config::{Federation, Host, Interface, Protocol, Service, Side, StaticRoute};
use crate::protocol::account::{AccountKind, Accounts};
use crate::protocol::federation::RouteId;

/// What routes are checked against.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// Domains that cannot have a route, with what they are.
    unroutable: HashMap<&'a str, &'static str>,
    interfaces: &'a [Interface],
    accounts: &'a Accounts,
    /// Whether the proxy has a certificate to show as a TLS client.
    shows_certificate: bool,
}

/// The static routes, and the switch of all.
#[derive(Debug)]
pub(super) struct Routes {
    pub(super) all_enabled: bool,
    pub(super) on: Vec<StaticRoute>,
    pub(super) off: Vec<StaticRoute>,
}

impl<'a> Reader<'a> {
    /// Routes beside these domains, interfaces and accounts.
    pub(super) fn new(
        service: &'a Service,
        federation: &'a Federation,
        interfaces: &'a [Interface],
        accounts: &'a Accounts,
        shows_certificate: bool,
    ) -> Self {
        let own = service.presence_domains.iter().map(|domain| (domain.as_str(), "is a presence domain"));
        let blocked = &federation.blocked_domains;
        let blocked =
            blocked.iter().map(|domain| (domain.as_str(), "stands in `federation.blocked_domains`"));
        Self { unroutable: own.chain(blocked).collect(), interfaces, accounts, shows_certificate }
    }

    /// The routes. Those that are not enabled obey the same rules, but for what they need of the machine.
    pub(super) fn read(&self, mut section: Section<'_>) -> Routes {
        let all_enabled = section.get("enabled", flag, true);
        let mut domains = HashMap::new();
        let mut routes = Routes { all_enabled, on: Vec::new(), off: Vec::new() };
        for mut section in section.sections("route").unwrap_or_default() {
            let enabled = section.get("enabled", flag, true);
            let Some(route) = read_route(&mut section) else { continue };
            if let Some(other) = domains.insert(route.domain_name.clone(), route.key.clone()) {
                section.fault(
                    "domain_name",
                    format!("`{}` has `{other}` already, allowed: one route", route.domain_name),
                );
            }
            if enabled && all_enabled {
                self.check(&section, &route);
                routes.on.push(route);
            } else {
                routes.off.push(route);
            }
        }
        routes
    }

    fn check(&self, section: &Section<'_>, route: &StaticRoute) {
        if let Some(what) = self.unroutable.get(route.domain_name.as_str()) {
            section.fault("domain_name", format!("`{}` {what}, allowed: other domains", route.domain_name));
        }
        if let Some(address) = route.bind_to_ip_address.filter(|address| !machine::has_address(*address)) {
            section.fault("bind_to_ip_address", machine::describe_missing(address));
        }
        if let Host::Address(address) = route.access_server {
            self.check_address(section, route, SocketAddr::new(address, route.port));
        }
        self.warn(section, route);
    }

    /// Checks an access server that is given as an address; names are known only when they are looked up.
    fn check_address(&self, section: &Section<'_>, route: &StaticRoute, server: SocketAddr) {
        if route.bind_to_ip_address.is_some_and(|bound| bound.is_ipv4() != server.is_ipv4()) {
            let text =
                format!("is not of the family of {}, allowed: an address that is, or \"\"", server.ip());
            section.fault("bind_to_ip_address", text);
        }
        // A UDP interface answers on TCP, too.
        let carries = |p| p == Protocol::Udp || route.transport_protocol != Protocol::Udp;
        let is_own = |i: &&Interface| {
            i.port == server.port()
                && carries(i.protocol)
                && (i.ip_address == server.ip()
                    || i.ip_address.is_unspecified()
                        && i.ip_address.is_ipv4() == server.is_ipv4()
                        && machine::has_address(server.ip()))
        };
        if let Some(own) = self.interfaces.iter().find(is_own) {
            section.fault(
                "access_server",
                format!("{server} is the proxy itself, `{}`, allowed: another server", own.key),
            );
        }
    }

    /// Requests leave by an interface that speaks the route's protocol, so there has to be one.
    fn warn_of_interfaces(&self, section: &Section<'_>, route: &StaticRoute) {
        let protocol = route.transport_protocol;
        let carries = |i: &&Interface| {
            let is_tcp_beside_udp = (i.protocol, protocol) == (Protocol::Udp, Protocol::Tcp);
            i.protocol.transport() == protocol.transport() || is_tcp_beside_udp
        };
        let is_on = |i: &&Interface| {
            route.bind_to_ip_address.is_none_or(|ip| {
                i.ip_address == ip
                    || (i.ip_address.is_unspecified() && i.ip_address.is_ipv4() == ip.is_ipv4())
            })
        };
        let mut candidates = self.interfaces.iter().filter(carries).filter(is_on).peekable();
        if candidates.peek().is_none() {
            let at = route.bind_to_ip_address.map(|ip| format!(" on {ip}")).unwrap_or_default();
            let text = format!(
                "no network interface speaks {protocol}{at}: the route will fail, add a `[[wan.network_interface]]`"
            );
            section.warn("transport_protocol", text);
        } else if candidates.all(|i| i.side == Side::Lan) {
            let text = format!(
                "only the LAN speaks {protocol}: the route leaves by it, add a `[[wan.network_interface]]`"
            );
            section.warn("transport_protocol", text);
        }
    }

    fn warn(&self, section: &Section<'_>, route: &StaticRoute) {
        self.warn_of_interfaces(section, route);
        let protocol = route.transport_protocol;
        if route.trusted_cas.is_some() && !protocol.is_secure() {
            section.warn("trusted_cas", format!("has no effect on {protocol}"));
        }
        if protocol == Protocol::Mtls && !self.shows_certificate {
            section.warn(
                "transport_protocol",
                "mtls needs a certificate and `certificate.chain` is empty: the route will fail",
            );
        }
        if route.trusted && protocol == Protocol::Udp {
            section.warn("trusted", "source addresses of UDP can be forged: whoever does is trusted");
        }
        let registrants = || self.accounts.find(|account| account.kind == AccountKind::Registrant);
        if !route.trusted && registrants().is_none() {
            section.warn(
                "trusted",
                "is false and there is no `registrar.account`: nothing comes in by this route",
            );
        }
    }
}

/// `static_routes.probe_interval`.
pub(super) fn probe_interval(section: &mut Section<'_>) -> Option<Duration> {
    let range = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
    section.get("probe_interval", unless("0s", duration(range)), Some(Duration::from_secs(30)))
}

fn read_route(section: &mut Section<'_>) -> Option<StaticRoute> {
    let domain_name = section.required("domain_name", domain);
    let access_server = section.required("access_server", host);
    let transport_protocol = section.get("transport_protocol", dialled_protocol, Protocol::Mtls);
    let trusted = section.get("trusted", flag, false) || transport_protocol == Protocol::Mtls;
    let port = section.get("port", port, transport_protocol.transport().default_port());
    let bind_to_ip_address = section.get("bind_to_ip_address", unless_empty(address), None);
    let trusted_cas = section.get("trusted_cas", unless_empty(trusted_cas), None);
    Some(StaticRoute {
        id: RouteId(0),
        trusted,
        domain_name: domain_name?,
        access_server: access_server?,
        port,
        transport_protocol,
        bind_to_ip_address,
        trusted_cas,
        key: section.path().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{assert_any, assert_only, config, faults, warnings};
    use crate::config::{Host, Protocol};

    fn route(keys: &str) -> String {
        format!(
            "[[static_routes.route]]\ndomain_name = \"b.example\"\naccess_server = \"sip.b.example\"\n{keys}\n"
        )
    }

    #[test]
    fn the_port_follows_the_protocol_and_mtls_is_trusted() {
        for (keys, protocol, port, trusted) in [
            ("", Protocol::Mtls, 5061, true),
            ("transport_protocol = \"tls\"", Protocol::Tls, 5061, false),
            ("transport_protocol = \"tcp\"\ntrusted = true", Protocol::Tcp, 5060, true),
            ("transport_protocol = \"udp\"\nport = 5070", Protocol::Udp, 5070, false),
        ] {
            let routes = config(&route(keys)).static_routes;
            assert_eq!(routes[0].access_server, Host::Name("sip.b.example".into()));
            assert_eq!(
                (routes[0].transport_protocol, routes[0].port, routes[0].trusted),
                (protocol, port, trusted)
            );
        }
    }

    #[test]
    fn probes_can_be_switched_off() {
        let interval = |value: &str| config(&format!("[static_routes]\n{value}")).probe_interval;
        assert_eq!(interval("").map(|interval| interval.as_secs()), Some(30));
        assert_eq!(interval("probe_interval = \"2m\"").map(|interval| interval.as_secs()), Some(120));
        assert_eq!(interval("probe_interval = \"0s\""), None);
        assert_only(
            &faults("[static_routes]\nprobe_interval = \"10ms\""),
            &["2: static_routes.probe_interval: `10ms` is out of range"],
        );
    }

    #[test]
    fn routes_that_are_switched_off_are_left_out_and_still_unique() {
        assert!(config(&route("enabled = false")).static_routes.is_empty());
        assert!(config(&format!("[static_routes]\nenabled = false\n{}", route(""))).static_routes.is_empty());
        let text = format!("{}{}", route("enabled = false"), route(""));
        assert_only(
            &faults(&text),
            &["6: static_routes.route[1].domain_name: `b.example` has `static_routes.route[0]`"],
        );
    }

    #[test]
    fn what_a_route_needs_is_checked() {
        let own = route("transport_protocol = \"tcp\"").replace("sip.b.example", "127.0.0.1");
        let wildcard = route("").replace("sip.b.example", "127.0.0.1");
        let v6 = route("bind_to_ip_address = \"127.0.0.1\"").replace("sip.b.example", "2001:db8::1");
        let domains = "presence_domains = [\"b.example\"]";
        for (text, part) in [
            (
                route("bind_to_ip_address = \"203.0.113.77\""),
                "4: static_routes.route[0].bind_to_ip_address: this machine has no",
            ),
            (own, "3: static_routes.route[0].access_server: 127.0.0.1:5060 is the proxy itself, `lan`"),
            (wildcard, "127.0.0.1:5061 is the proxy itself, `wan.network_interface[0]`"),
            (v6, "4: static_routes.route[0].bind_to_ip_address: is not of the family of 2001:db8::1"),
            (
                format!("[service]\n{domains}\n{}", route("")),
                "static_routes.route[0].domain_name: `b.example` is a presence domain",
            ),
            (
                format!("[federation]\nblocked_domains = [\"B.example\"]\n{}", route("")),
                "federation.blocked_domains",
            ),
            (route("").replace("sip.b.example", "1.2.3"), "access_server: `1.2.3` is no host"),
            (
                route("transport_protocol = \"wss\""),
                "4: static_routes.route[0].transport_protocol: `wss` is unknown",
            ),
            (
                route("").replace("access_server", "port = 1 #"),
                "1: static_routes.route[0].access_server: is missing",
            ),
            (
                route("trusted_cas = \"none.pem\""),
                "4: static_routes.route[0].trusted_cas: /nowhere/none.pem cannot be read",
            ),
        ] {
            assert_only(&faults(&text), &[part]);
        }
    }

    #[test]
    fn doubtful_routes_are_warnings() {
        assert_any(&warnings(&route("")), &["transport_protocol: mtls needs a certificate"]);
        assert_any(&warnings(&route("transport_protocol = \"tcp\"")), &["route[0].trusted: is false"]);
        let udp = route("transport_protocol = \"udp\"\ntrusted = true");
        assert_any(&warnings(&udp), &["5: static_routes.route[0].trusted: ", "can be forged"]);
        let registrant = "[[registrar.account]]\nuser_name = \"b\"\npassword = \"b\"\n";
        let found = warnings(&format!("{}{registrant}", route("transport_protocol = \"tcp\"")));
        assert!(!found.iter().any(|w| w.contains("trusted")), "{found:#?}");
    }

    #[test]
    fn a_route_needs_an_interface_of_its_protocol() {
        let wan = "[[wan.network_interface]]\nport = 5080\nprotocol = \"udp\"\n";
        let table = [
            ("", "mtls", None),
            ("", "tls", None),
            ("", "tcp", Some("only the LAN speaks tcp")),
            ("", "udp", Some("no network interface speaks udp")),
            (wan, "udp", None),
            (wan, "tcp", None),
        ];
        for (interfaces, protocol, expected) in table {
            let text = format!(
                "{interfaces}[[static_routes.route]]\ndomain_name = \"b.example\"\naccess_server = \"192.0.2.7\"\n\
                 transport_protocol = \"{protocol}\"\n"
            );
            let found = warnings(&text);
            let told = |part: &str| found.iter().any(|line| line.contains(part));
            match expected {
                Some(part) => assert!(told(part), "{protocol}: {found:#?}"),
                None => assert!(!told("network interface"), "{protocol}: {found:#?}"),
            }
        }
    }
}
