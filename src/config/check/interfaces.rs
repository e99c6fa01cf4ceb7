//! `[lan]`, `[wan]`: the network interfaces, and that they get along with each other and with this machine.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::machine;
use crate::config::reader::{Entry, Section};
use crate::config::report::Report;
use crate::config::rules::{
    address, choice, domain, flag, list, network, one_or_set, port, range, unless, unless_empty,
};
use crate::config::{Interface, MAXIMUM_INTERFACES, Protocol, PublicAddress, Side, Stun};
use crate::protocol::flow::InterfaceId;

/// Half of the identifiers: a reload may change all of them at once.
const MAXIMUM_CONFIGURED: usize = MAXIMUM_INTERFACES / 2;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(super) const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// `lan.allowed_networks`.
pub(super) fn allowed_networks(lan: &mut Section<'_>) -> Vec<IpNet> {
    const DEFAULT: [&str; 6] =
        ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
    let default = || DEFAULT.map(|network| network.parse().expect("a constant network")).to_vec();
    lan.optional("allowed_networks", list(network)).unwrap_or_else(default)
}

/// `[wan.public_address]`, where it is enabled.
pub(super) fn public_address(mut section: Section<'_>, stun: &Stun) -> Option<PublicAddress> {
    let enabled = section.get("enabled", flag, false);
    let public = PublicAddress {
        ip_address: section.get("ip_address", unless("auto", address), None),
        port: section.get("port", port, 5061),
        host_name: section.get("host_name", unless_empty(domain), None),
    };
    match public.ip_address {
        None if enabled && section.is_sound() && stun.servers.is_empty() => {
            section.fault(
                "ip_address",
                "\"auto\" asks `stun.servers`, which is empty, allowed: an address, or servers",
            );
        }
        Some(address) if address.is_unspecified() => {
            section.fault("ip_address", "is a wildcard, allowed: one address, or \"auto\"");
        }
        _ => {}
    }
    enabled.then_some(public)
}

/// Interfaces by their switches, each in the order of the configuration.
#[derive(Debug, Default)]
pub(super) struct Switches {
    pub(super) on: Vec<Interface>,
    pub(super) off: Vec<Interface>,
}

impl Switches {
    pub(super) fn add(&mut self, enabled: bool, interface: Interface) {
        if enabled { &mut self.on } else { &mut self.off }.push(interface);
    }
}

/// The interfaces of `[lan]`, `[[lan.network_interface]]` and `[[wan.network_interface]]`.
pub(super) fn read(lan_enabled: bool, lan: &mut Section<'_>, wan: &mut Section<'_>) -> Switches {
    let mut interfaces = Switches::default();
    own_interfaces(lan).into_iter().for_each(|interface| interfaces.add(lan_enabled, interface));
    for section in lan.sections("network_interface").unwrap_or_default() {
        let (enabled, interface) = listed_interface(section, Side::Lan, LOCALHOST, Protocol::Tls);
        interfaces.add(enabled, interface);
    }
    let default = Interface {
        id: InterfaceId(0),
        side: Side::Wan,
        ip_address: ANY,
        port: 5061,
        protocol: Protocol::Mtls,
        key: "wan.network_interface[0]".to_owned(),
    };
    let Some(sections) = wan.sections("network_interface") else {
        interfaces.add(true, default);
        return interfaces;
    };
    for section in sections {
        let (enabled, interface) = listed_interface(section, Side::Wan, ANY, Protocol::Mtls);
        interfaces.add(enabled, interface);
    }
    interfaces
}

/// Those of `[lan]` itself: one for each of its protocols.
fn own_interfaces(lan: &mut Section<'_>) -> Vec<Interface> {
    let ip_address = lan.get("bind_to_ip_address", address, LOCALHOST);
    let port = lan.get("port", range(0..=u16::MAX), 5060);
    let protocols = lan.get("transport_protocol", one_or_set(protocol), vec![Protocol::Tcp]);
    let interface = |protocol| {
        let (id, key) = (InterfaceId(0), lan.path().to_owned());
        Interface { id, side: Side::Lan, ip_address, port, protocol, key }
    };
    protocols.into_iter().map(interface).collect()
}

fn listed_interface(
    mut section: Section<'_>,
    side: Side,
    default_address: IpAddr,
    default_protocol: Protocol,
) -> (bool, Interface) {
    let enabled = section.get("enabled", flag, true);
    let interface = Interface {
        id: InterfaceId(0),
        side,
        ip_address: section.get("ip_address", address, default_address),
        port: section.get("port", range(0..=u16::MAX), 5061),
        protocol: section.get("protocol", protocol, default_protocol),
        key: section.path().to_owned(),
    };
    (enabled, interface)
}

/// What interfaces speak; [`DIALLED`] of them in front are what routes speak, too.
static PROTOCOLS: [(&str, Protocol); 6] = [
    ("udp", Protocol::Udp),
    ("tcp", Protocol::Tcp),
    ("tls", Protocol::Tls),
    ("mtls", Protocol::Mtls),
    ("ws", Protocol::Ws),
    ("wss", Protocol::Wss),
];

/// Only its client can open a WebSocket.
const DIALLED: usize = 4;

/// The protocol of an interface.
fn protocol(entry: &Entry<'_>) -> Option<Protocol> {
    choice(&PROTOCOLS)(entry)
}

/// The protocol of a route.
pub(super) fn dialled_protocol(entry: &Entry<'_>) -> Option<Protocol> {
    choice(&PROTOCOLS[..DIALLED])(entry)
}

/// Checks the enabled interfaces: addresses of this machine, no two at one place, nothing in the clear to the
/// world, certificates where they are needed.
pub(super) fn verify(report: &Report, interfaces: &[Interface], lan: &[IpNet], has_certificate: bool) {
    if interfaces.len() > MAXIMUM_CONFIGURED {
        report.fault(
            "wan.network_interface",
            format!("{} network interfaces are too many, allowed: {MAXIMUM_CONFIGURED}", interfaces.len()),
        );
    }
    for (index, interface) in interfaces.iter().enumerate() {
        if !machine::has_address(interface.ip_address) {
            report.fault(&address_key(interface), machine::describe_missing(interface.ip_address));
        }
        if let Some(other) = interfaces[..index].iter().find(|other| collide(interface, other)) {
            refuse_collision(report, interface, other);
        }
        warn_of_exposure(report, interface, lan);
        if interface.protocol.is_secure() && !has_certificate {
            let text = format!(
                "{} needs a certificate and `certificate.chain` is empty: it will not listen",
                interface.protocol
            );
            report.warn(&interface.key, text);
        }
    }
}

/// Reports the later of two interfaces, or the earlier where the later is a default that nobody wrote down.
fn refuse_collision(report: &Report, later: &Interface, earlier: &Interface) {
    let is_default = report.given(&[&later.key, &earlier.key]) == earlier.key;
    let (faulty, other) = if is_default { (earlier, later) } else { (later, earlier) };
    let text = format!(
        "{} {} is taken by `{}` ({} {}), allowed: another port or address",
        faulty.protocol,
        faulty.socket_address(),
        other.key,
        other.protocol,
        other.socket_address()
    );
    report.fault(&format!("{}.port", faulty.key), text);
}

/// Nothing protects what UDP, TCP and WS carry but the network itself.
fn warn_of_exposure(report: &Report, interface: &Interface, lan: &[IpNet]) {
    let address = interface.ip_address;
    if interface.protocol.is_secure() {
        return;
    }
    if address.is_unspecified() {
        let text =
            format!("{} in the clear on every address of this machine, LAN or not", interface.protocol);
        report.warn(&address_key(interface), text);
    } else if !address.is_loopback() && !lan.iter().any(|network| network.contains(&address)) {
        let text = format!(
            "{} in the clear on {address}, which `lan.allowed_networks` does not name",
            interface.protocol
        );
        report.warn(&address_key(interface), text);
    }
}

/// Whether two interfaces want one socket.
///
/// UDP brings its port on TCP with it (RFC 3261 §18.2.1), so that it collides with every stream there, except
/// that UDP and TCP side by side at one address are the same pair written out.
fn collide(a: &Interface, b: &Interface) -> bool {
    let (x, y) = (a.ip_address, b.ip_address);
    let overlap = x == y || x.is_ipv4() == y.is_ipv4() && (x.is_unspecified() || y.is_unspecified());
    let pair = x == y
        && matches!(
            (a.protocol, b.protocol),
            (Protocol::Udp, Protocol::Tcp) | (Protocol::Tcp, Protocol::Udp)
        );
    a.port == b.port && a.port != 0 && overlap && !pair
}

/// The key that says the interface's address.
fn address_key(interface: &Interface) -> String {
    let listed = interface.key.ends_with(']');
    format!("{}.{}", interface.key, if listed { "ip_address" } else { "bind_to_ip_address" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{assert_any, assert_only, config, faults, warnings};

    fn interface(text: &str) -> Interface {
        let mut words = text.split(' ');
        let protocol = match words.next() {
            Some("udp") => Protocol::Udp,
            Some("tcp") => Protocol::Tcp,
            Some("tls") => Protocol::Tls,
            Some("ws") => Protocol::Ws,
            Some("wss") => Protocol::Wss,
            _ => Protocol::Mtls,
        };
        let at: std::net::SocketAddr = words.next().unwrap().parse().unwrap();
        let (id, key) = (InterfaceId(0), String::new());
        Interface { id, side: Side::Lan, ip_address: at.ip(), port: at.port(), protocol, key }
    }

    #[test]
    fn interfaces_collide_where_they_want_one_socket() {
        for (a, b, expected) in [
            ("udp 127.0.0.1:5060", "udp 127.0.0.1:5060", true),
            ("udp 0.0.0.0:5060", "udp 127.0.0.1:5060", true),
            ("udp 127.0.0.1:5060", "udp 127.0.0.2:5060", false),
            ("udp 127.0.0.1:5060", "udp 127.0.0.1:5061", false),
            ("udp 127.0.0.1:5060", "tcp 127.0.0.1:5060", false),
            ("udp 0.0.0.0:5060", "tcp 127.0.0.1:5060", true),
            ("udp 127.0.0.1:5060", "tls 127.0.0.1:5060", true),
            ("tcp 127.0.0.1:5060", "tls 127.0.0.1:5060", true),
            ("tls 0.0.0.0:5061", "mtls 127.0.0.1:5061", true),
            ("mtls [::]:5061", "mtls 0.0.0.0:5061", false),
            ("mtls [::]:5061", "tls [::1]:5061", true),
            ("tcp 127.0.0.1:0", "tcp 127.0.0.1:0", false),
            ("ws 127.0.0.1:8080", "tcp 127.0.0.1:8080", true),
            ("ws 127.0.0.1:8080", "udp 127.0.0.1:8080", true),
            ("ws 127.0.0.1:8080", "wss 0.0.0.0:8080", true),
            ("wss 127.0.0.1:8443", "tls 127.0.0.1:8443", true),
            ("ws 127.0.0.1:8080", "wss 127.0.0.1:8443", false),
        ] {
            assert_eq!(collide(&interface(a), &interface(b)), expected, "{a} {b}");
            assert_eq!(collide(&interface(b), &interface(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn interfaces_that_are_switched_off_are_left_out_and_keep_their_place_in_the_list() {
        let text = "[lan]\nenabled = false\n[[wan.network_interface]]\nenabled = false\nip_address = \"203.0.113.77\"\n\
                    [[wan.network_interface]]\nport = 0\n[[lan.network_interface]]\n";
        let keys: Vec<_> = config(text).interfaces.into_iter().map(|i| i.key).collect();
        assert_eq!(keys, ["lan.network_interface[0]", "wan.network_interface[1]"]);
    }

    #[test]
    fn addresses_that_cannot_be_bound_are_refused() {
        for (address, part) in [
            ("203.0.113.77", "this machine has no 203.0.113.77, allowed: 127.0.0.1"),
            ("224.0.0.1", "`224.0.0.1` is the address of many machines"),
            ("localhost", "`localhost` is no IP address"),
        ] {
            let text = format!("[[lan.network_interface]]\nip_address = \"{address}\"\nport = 0");
            assert_only(&faults(&text), &["2: lan.network_interface[0].ip_address: ", part]);
        }
    }

    #[test]
    fn two_interfaces_at_one_place_are_refused_at_the_later_one() {
        let text = "[lan]\ntransport_protocol = [\"udp\", \"tcp\"]\n[[wan.network_interface]]\nport = 5060\nprotocol = \"udp\"";
        assert_only(
            &faults(text),
            &["4: wan.network_interface[0].port: udp 0.0.0.0:5060 is taken by `lan` (udp 127.0.0.1:5060)"],
        );
    }

    #[test]
    fn a_default_that_nobody_wrote_down_is_not_the_one_at_fault() {
        assert_only(
            &faults("[[lan.network_interface]]\n"),
            &["1: lan.network_interface[0].port: tls 127.0.0.1:5061 is taken by `wan.network_interface[0]`"],
        );
    }

    #[test]
    fn what_travels_in_the_clear_outside_of_the_lan_is_a_warning() {
        let interface = |address, protocol| {
            format!(
                "[[lan.network_interface]]\nip_address = \"{address}\"\nport = 0\nprotocol = \"{protocol}\""
            )
        };
        assert_any(
            &warnings(&interface("0.0.0.0", "udp")),
            &["2: lan.network_interface[0].ip_address: udp in the clear"],
        );
        assert_any(
            &warnings(&interface("0.0.0.0", "ws")),
            &["2: lan.network_interface[0].ip_address: ws in the clear"],
        );
        for silent in
            [interface("127.0.0.2", "tcp"), interface("0.0.0.0", "tls"), interface("0.0.0.0", "wss")]
        {
            let found = warnings(&silent);
            assert!(!found.iter().any(|w| w.contains("in the clear")), "{found:#?}");
        }
    }

    #[test]
    fn an_address_beyond_the_allowed_networks_is_exposed() {
        let exposed = |ip_address: &str| {
            let report = Report::new("a.toml".into(), std::collections::BTreeMap::new());
            let interface =
                Interface { ip_address: ip_address.parse().unwrap(), ..interface("udp 127.0.0.1:5060") };
            warn_of_exposure(&report, &interface, &["10.0.0.0/8".parse().unwrap()]);
            report.finish().1.len() == 1
        };
        for (address, expected) in
            [("10.1.1.1", false), ("127.0.0.1", false), ("198.51.100.1", true), ("::", true)]
        {
            assert_eq!(exposed(address), expected, "{address}");
        }
    }

    #[test]
    fn a_public_address_is_one_address_or_found_by_stun() {
        let text = "[wan.public_address]\nenabled = true\n";
        assert_only(&faults(text), &["1: wan.public_address.ip_address: \"auto\" asks"]);
        assert_only(
            &faults(&format!("{text}ip_address = \"0.0.0.0\"")),
            &["3: wan.public_address.ip_address: is a wildcard"],
        );
        let address = |rest: &str| config(&format!("{text}{rest}")).wan_public_address.unwrap();
        assert_eq!(address("[stun]\nservers = [\"[::1]:3478\"]").ip_address, None);
        let public = address("ip_address = \"198.51.100.1\"\nhost_name = \"SIP.example.org.\"");
        assert_eq!(public.ip_address, Some("198.51.100.1".parse().unwrap()));
        assert_eq!(public.host_name.as_deref(), Some("sip.example.org"));
    }
}
