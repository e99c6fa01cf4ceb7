//! The interfaces that listen, as the protocol sees them: which names are ours, and by which one to leave.

use std::net::{IpAddr, SocketAddr};

use super::flow::{Flow, InterfaceId, Transport};
use super::message::lexical::{push_address, push_decimal};
use super::message::uri::Host;

/// Which side of the proxy an interface faces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The UC servers of the organisation.
    Lan,
    /// Other organisations.
    Wan,
}

/// One listening interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Which of the configuration.
    pub id: InterfaceId,
    /// Whom it faces.
    pub side: Side,
    /// What it carries. A UDP interface takes TCP on the same port (RFC 3261 §18.2.1).
    pub transport: Transport,
    /// Where it is bound, with the port that a configured 0 became.
    pub bound: SocketAddr,
    /// Host and port that stand in Via and Record-Route instead of `bound`.
    pub public: Option<(String, u16)>,
}

impl Interface {
    fn carries(&self, transport: Transport) -> bool {
        self.transport == transport || (self.transport == Transport::Udp && transport == Transport::Tcp)
    }

    /// Whether a socket bound like this one can reach `remote`.
    fn reaches(&self, remote: IpAddr) -> bool {
        let ip = self.bound.ip();
        ip.is_ipv4() == remote.is_ipv4() && (ip.is_unspecified() || ip.is_loopback() == remote.is_loopback())
    }
}

/// All interfaces that listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    list: Vec<Interface>,
    /// The addresses of this machine: what a wildcard stands for.
    addresses: Vec<IpAddr>,
    /// Names that this machine is known by, with the port of any interface.
    names: Vec<String>,
    /// Addresses of a NAT by which it is or was reached from outside.
    public: Vec<SocketAddr>,
}

impl Interfaces {
    /// `addresses` are those of this machine, the preferred one of each family first.
    pub const fn new(list: Vec<Interface>, addresses: Vec<IpAddr>) -> Self {
        Self { list, addresses, names: Vec::new(), public: Vec::new() }
    }

    /// Peers may also write these names, such as those of the certificate.
    #[must_use]
    pub fn with_names(mut self, names: Vec<String>) -> Self {
        self.names = names;
        self
    }

    /// Dialogs may have recorded these addresses, which belong to a NAT.
    #[must_use]
    pub fn with_public(mut self, public: Vec<SocketAddr>) -> Self {
        self.public = public;
        self
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.list.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.list.iter()
    }

    /// Our address of a flow of datagrams, where its interface has more than one: its peer knows us by no other.
    pub fn chosen_address(&self, flow: &Flow) -> Option<IpAddr> {
        let interface = self.get(flow.interface).filter(|_| flow.transport == Transport::Udp)?;
        interface.bound.ip().is_unspecified().then(|| flow.local.ip())
    }

    /// `flow` from `ip`, if that is an address of its interface.
    #[must_use]
    pub fn from_address(&self, flow: Flow, ip: IpAddr) -> Flow {
        let is_ours = |interface: &Interface| self.covers(interface.bound.ip(), ip);
        let local = SocketAddr::new(ip, flow.local.port());
        if self.get(flow.interface).is_some_and(is_ours) { Flow { local, ..flow } } else { flow }
    }

    /// The interface with this identifier, where it listens.
    pub fn get(&self, id: InterfaceId) -> Option<&Interface> {
        self.list.iter().find(|interface| interface.id == id)
    }

    /// The interface that carries `transport` on a socket of this address, be it by a wildcard.
    pub fn of_socket(&self, transport: Transport, local: SocketAddr) -> Option<&Interface> {
        let is_there =
            |i: &&Interface| i.bound.port() == local.port() && self.covers(i.bound.ip(), local.ip());
        let own = self.list.iter().filter(is_there).find(|interface| interface.transport == transport);
        own.or_else(|| self.list.iter().filter(is_there).find(|interface| interface.carries(transport)))
    }

    /// Which side a flow came in on; an interface that no longer listens counts as outside.
    pub fn side(&self, id: InterfaceId) -> Side {
        self.get(id).map_or(Side::Wan, |interface| interface.side)
    }

    /// Appends the sent-by that peers of `flow` reach us under (RFC 3261 §18.1.1).
    pub fn write_sent_by(&self, flow: &Flow, out: &mut Vec<u8>) {
        match self.get(flow.interface) {
            Some(Interface { public: Some((host, port)), .. }) => {
                out.extend_from_slice(host.as_bytes());
                out.push(b':');
                push_decimal(out, u64::from(*port));
            }
            Some(interface) => {
                let ip = if interface.bound.ip().is_unspecified() {
                    flow.local.ip()
                } else {
                    interface.bound.ip()
                };
                write_address(out, SocketAddr::new(ip, interface.bound.port()));
            }
            None => write_address(out, flow.local),
        }
    }

    /// Whether `host` and `port` name one of our interfaces; without a port, the transports' defaults do.
    pub fn is_ours(&self, host: &Host<'_>, port: Option<u16>) -> bool {
        let is_outside = |ours: &SocketAddr| {
            *host == Host::Address(ours.ip()) && port.is_none_or(|port| port == ours.port())
        };
        self.public.iter().any(is_outside) || self.is_interface(host, port)
    }

    fn is_interface(&self, host: &Host<'_>, port: Option<u16>) -> bool {
        self.list.iter().any(|interface| {
            let is_port =
                |ours: u16| port.map_or(ours == interface.transport.default_port(), |port| port == ours);
            let is_bound = match host {
                Host::Address(ip) => {
                    self.covers(interface.bound.ip(), *ip) && is_port(interface.bound.port())
                }
                Host::Name(_) => {
                    is_port(interface.bound.port()) && self.names.iter().any(|name| host.is_name(name))
                }
            };
            let is_public = interface.public.as_ref().is_some_and(|(name, ours)| {
                is_port(*ours) && Host::parse(name.as_bytes()).is_some_and(|public| public.is_same(host))
            });
            is_bound || is_public
        })
    }

    fn covers(&self, bound: IpAddr, ip: IpAddr) -> bool {
        bound == ip
            || (bound.is_unspecified()
                && bound.is_ipv4() == ip.is_ipv4()
                && (ip.is_loopback() || self.addresses.contains(&ip)))
    }

    /// The flow by which to reach `remote` from this side: for streams, whichever connection leads there.
    pub fn flow_to(&self, side: Side, transport: Transport, remote: SocketAddr) -> Option<Flow> {
        let fits = |interface: &&Interface| interface.side == side && interface.reaches(remote.ip());
        let own = self.list.iter().filter(fits).find(|interface| interface.transport == transport);
        let interface = own.or_else(|| self.list.iter().filter(fits).find(|i| i.carries(transport)))?;
        Some(self.flow_of(interface, transport, remote))
    }

    /// As [`Self::flow_to`], by an interface on the address `bound` of ours, where that is given.
    pub fn flow_from_address(
        &self,
        side: Side,
        transport: Transport,
        remote: SocketAddr,
        bound: Option<IpAddr>,
    ) -> Option<Flow> {
        let Some(bound) = bound else { return self.flow_to(side, transport, remote) };
        let fits = |interface: &&Interface| {
            interface.side == side
                && interface.carries(transport)
                && interface.reaches(remote.ip())
                && self.covers(interface.bound.ip(), bound)
        };
        let interface = self.list.iter().find(fits)?;
        Some(Flow {
            local: SocketAddr::new(bound, interface.bound.port()),
            ..self.flow_of(interface, transport, remote)
        })
    }

    /// The flow by which to reach `remote` from this interface and no other.
    pub fn flow_from(&self, id: InterfaceId, transport: Transport, remote: SocketAddr) -> Option<Flow> {
        let interface = self.get(id).filter(|i| i.carries(transport) && i.reaches(remote.ip()))?;
        Some(self.flow_of(interface, transport, remote))
    }

    fn flow_of(&self, interface: &Interface, transport: Transport, remote: SocketAddr) -> Flow {
        let ip = self.local_address(interface.bound.ip(), remote.ip());
        let local = SocketAddr::new(ip, interface.bound.port());
        Flow { interface: interface.id, transport, local, remote, connection: None }
    }

    fn local_address(&self, bound: IpAddr, remote: IpAddr) -> IpAddr {
        if !bound.is_unspecified() {
            return bound;
        }
        let fits =
            |ip: &&IpAddr| ip.is_ipv4() == remote.is_ipv4() && ip.is_loopback() == remote.is_loopback();
        self.addresses.iter().find(fits).copied().unwrap_or(bound)
    }
}

/// Appends `host:port`, IPv6 in brackets.
pub fn write_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(_) => push_address(out, address.ip()),
        IpAddr::V6(_) => {
            out.push(b'[');
            push_address(out, address.ip());
            out.push(b']');
        }
    }
    out.push(b':');
    push_decimal(out, u64::from(address.port()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces() -> Interfaces {
        let interface = |id, side, transport, bound: &str, public| Interface {
            id: InterfaceId(id),
            side,
            transport,
            bound: bound.parse().unwrap(),
            public,
        };
        let list = vec![
            interface(0, Side::Lan, Transport::Udp, "127.0.0.1:5060", None),
            interface(1, Side::Lan, Transport::Tls, "0.0.0.0:5061", None),
            interface(2, Side::Wan, Transport::Tls, "10.0.0.1:5071", Some(("sip.example.org".into(), 5061))),
        ];
        Interfaces::new(list, vec!["10.0.0.1".parse().unwrap(), "127.0.0.1".parse().unwrap()])
    }

    #[test]
    fn our_names_are_told_from_others() {
        let table = [
            ("127.0.0.1", Some(5060), true),
            ("127.0.0.1", None, true),
            ("127.0.0.2", Some(5060), false),
            ("10.0.0.1", Some(5061), true),
            ("10.0.0.1", Some(5060), false),
            ("10.0.0.2", Some(5061), false),
            ("SIP.example.org", Some(5061), true),
            ("sip.example.org.", None, true),
            ("sip.example.org", Some(5071), false),
            ("example.org", None, false),
            ("198.51.100.1", Some(5061), true),
            ("198.51.100.1", None, true),
            ("198.51.100.1", Some(5060), false),
            ("198.51.100.2", Some(5061), false),
        ];
        for (host, port, ours) in table {
            let host = Host::parse(host.as_bytes()).unwrap();
            let interfaces = || interfaces().with_public(vec!["198.51.100.1:5061".parse().unwrap()]);
            assert_eq!(interfaces().is_ours(&host, port), ours, "{host:?} {port:?}");
        }
    }

    #[test]
    fn a_socket_is_found_by_its_address_and_what_it_carries() {
        let all = interfaces();
        let of = |transport, local: &str| all.of_socket(transport, local.parse().unwrap()).map(|i| i.id.0);
        assert_eq!(of(Transport::Udp, "127.0.0.1:5060"), Some(0));
        assert_eq!(of(Transport::Tcp, "127.0.0.1:5060"), Some(0));
        assert_eq!(of(Transport::Tls, "127.0.0.1:5060"), None);
        assert_eq!(of(Transport::Udp, "127.0.0.1:5062"), None);
        for ip in ["127.0.0.1", "127.0.0.77", "10.0.0.1"] {
            assert_eq!(of(Transport::Tls, &format!("{ip}:5061")), Some(1), "the wildcard");
        }
        assert_eq!(of(Transport::Tls, "10.0.0.9:5061"), None, "no address of this machine");
        assert_eq!(of(Transport::Tls, "[::1]:5061"), None);
    }

    #[test]
    fn a_flow_leaves_by_an_interface_that_reaches_its_peer() {
        let all = interfaces();
        let to = |side, transport, remote: &str| all.flow_to(side, transport, remote.parse().unwrap());
        let udp = to(Side::Lan, Transport::Udp, "127.0.0.9:7").unwrap();
        assert_eq!((udp.interface, udp.local), (InterfaceId(0), "127.0.0.1:5060".parse().unwrap()));
        assert_eq!(to(Side::Lan, Transport::Tcp, "127.0.0.9:7").unwrap().interface, InterfaceId(0));
        assert_eq!(to(Side::Lan, Transport::Udp, "10.0.0.9:7"), None);
        let tls = to(Side::Lan, Transport::Tls, "10.0.0.9:7").unwrap();
        assert_eq!(tls.local, "10.0.0.1:5061".parse().unwrap());
        assert_eq!(to(Side::Lan, Transport::Tls, "[::1]:7"), None);
        assert_eq!(to(Side::Wan, Transport::Tcp, "10.0.0.9:7"), None);
    }

    #[test]
    fn a_flow_from_one_interface_leaves_by_no_other() {
        let all = interfaces();
        let from =
            |id, transport, remote: &str| all.flow_from(InterfaceId(id), transport, remote.parse().unwrap());
        assert_eq!(from(0, Transport::Tcp, "127.0.0.9:7").unwrap().local, "127.0.0.1:5060".parse().unwrap());
        let tls = from(1, Transport::Tls, "127.0.0.9:7").unwrap();
        assert_eq!((tls.interface, tls.local), (InterfaceId(1), "127.0.0.1:5061".parse().unwrap()));
        assert_eq!(from(1, Transport::Udp, "127.0.0.9:7"), None);
        assert_eq!(from(0, Transport::Udp, "10.0.0.9:7"), None);
        assert_eq!(from(9, Transport::Udp, "127.0.0.9:7"), None);
    }

    #[test]
    fn a_datagram_of_a_wildcard_leaves_from_the_address_that_was_chosen() {
        let mut all = interfaces();
        all.list[0].bound = "0.0.0.0:5060".parse().unwrap();
        let udp = all.flow_from(InterfaceId(0), Transport::Udp, "127.0.0.9:7".parse().unwrap()).unwrap();
        let table = [("127.1.2.3", "127.1.2.3"), ("10.0.0.1", "10.0.0.1"), ("10.0.0.9", "127.0.0.1")];
        for (chosen, left_from) in table {
            let flow = all.from_address(udp, chosen.parse().unwrap());
            assert_eq!(flow.local, SocketAddr::new(left_from.parse().unwrap(), 5060));
            assert_eq!(all.chosen_address(&flow), Some(flow.local.ip()));
            assert_eq!(all.chosen_address(&Flow { transport: Transport::Tcp, ..flow }), None);
        }
        assert_eq!(interfaces().chosen_address(&udp), None);
    }

    #[test]
    fn sent_by_is_the_public_name_or_the_address_that_the_peer_sees() {
        let all = interfaces();
        let sent_by = |side, remote: &str| {
            let mut out = Vec::new();
            all.write_sent_by(&all.flow_to(side, Transport::Tls, remote.parse().unwrap()).unwrap(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(sent_by(Side::Lan, "127.0.0.3:9"), "127.0.0.1:5061");
        assert_eq!(sent_by(Side::Lan, "10.0.0.3:9"), "10.0.0.1:5061");
        assert_eq!(sent_by(Side::Wan, "10.0.0.3:9"), "sip.example.org:5061");
    }
}
