//! What listens, and as what: from what Listeners and Stun report to what the protocol knows.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use actix::prelude::*;
use slog::warn;

use super::Supervisor;
use crate::actors::listener::{Companion, InterfaceState, ListenerKind, companion};
use crate::actors::stun::NatDetermined;
use crate::config::{Config, Protocol};
use crate::protocol::flow::InterfaceId;
use crate::protocol::interface::{Interface, Interfaces, Side};

/// What the Listeners have reported.
pub(super) type States = BTreeMap<(InterfaceId, ListenerKind), InterfaceState>;

/// What STUN has told of our address on the Internet, the latest first. Dialogs may have recorded the earlier ones.
#[derive(Debug, Default)]
pub(super) struct PublicAddresses(VecDeque<IpAddr>);

/// Public addresses that are remembered.
const MAXIMUM_PUBLIC_ADDRESSES: usize = 8;

impl PublicAddresses {
    /// The latest of the family of `ip`.
    pub(super) fn like(&self, ip: IpAddr) -> Option<IpAddr> {
        self.0.iter().copied().find(|known| known.is_ipv4() == ip.is_ipv4())
    }

    /// Takes a new one.
    pub(super) fn learn(&mut self, ip: IpAddr) {
        self.0.retain(|known| *known != ip);
        self.0.push_front(ip);
        self.0.truncate(MAXIMUM_PUBLIC_ADDRESSES);
    }
}

/// Every Listener that `config` asks for, on this many cores.
pub(super) fn listeners(config: &Config, cores: usize) -> Vec<(InterfaceId, ListenerKind)> {
    let mut listeners = Vec::new();
    for interface in &config.interfaces {
        let id = interface.id;
        if interface.protocol != Protocol::Udp {
            listeners.push((id, ListenerKind::Stream));
            continue;
        }
        listeners.extend((0..cores).map(|core| (id, ListenerKind::Datagram { core })));
        if companion(&config.interfaces, id) == Companion::Own {
            listeners.push((id, ListenerKind::Stream));
        }
    }
    listeners
}

/// Whether a Listener waits for nobody. Whoever else is on a UDP port waits for the first core's Listener, which
/// may be given any port.
pub(super) fn starts_at_once(config: &Config, interface: InterfaceId, kind: ListenerKind) -> bool {
    let is_datagram = config.interface(interface).is_some_and(|known| known.protocol == Protocol::Udp);
    !is_datagram || kind == (ListenerKind::Datagram { core: 0 })
}

/// The interfaces that listen.
pub(super) fn listening(config: &Config, states: &States, public: &PublicAddresses) -> Interfaces {
    let all = config.interfaces.iter();
    interfaces(config, public, all.filter_map(|interface| Some((interface, address(states, interface)?))))
}

/// All interfaces, those that do not listen where they are to.
pub(super) fn configured(config: &Config, states: &States, public: &PublicAddresses) -> Interfaces {
    let address =
        |interface| (interface, address(states, interface).unwrap_or_else(|| interface.socket_address()));
    interfaces(config, public, config.interfaces.iter().map(address))
}

/// All interfaces, as far as the configuration alone tells.
pub(crate) fn as_configured(config: &Config) -> Interfaces {
    configured(config, &States::new(), &PublicAddresses::default())
}

/// Where connections of the interface `of` leave from to peers of the other address family: the address of another
/// interface with the same side and protocol.
pub(super) fn other_family(interfaces: &[crate::config::Interface], of: InterfaceId) -> Option<IpAddr> {
    let own = interfaces.iter().find(|interface| interface.id == of)?;
    let is_twin = |other: &&crate::config::Interface| {
        (other.side, other.protocol) == (own.side, own.protocol)
            && other.ip_address.is_ipv4() != own.ip_address.is_ipv4()
    };
    interfaces.iter().find(is_twin).map(|twin| twin.ip_address)
}

/// Where an interface listens, if it does.
fn address(states: &States, interface: &crate::config::Interface) -> Option<SocketAddr> {
    let kind = match interface.protocol {
        Protocol::Udp => ListenerKind::Datagram { core: 0 },
        Protocol::Tcp | Protocol::Tls | Protocol::Mtls | Protocol::Ws | Protocol::Wss => ListenerKind::Stream,
    };
    match states.get(&(interface.id, kind))? {
        InterfaceState::Listening { address } => Some(*address),
        InterfaceState::NotListening { .. } => None,
    }
}

fn interfaces<'a>(
    config: &'a Config,
    determined: &PublicAddresses,
    bound: impl Iterator<Item = (&'a crate::config::Interface, SocketAddr)>,
) -> Interfaces {
    let interface = |(interface, bound): (&crate::config::Interface, SocketAddr)| Interface {
        id: interface.id,
        side: interface.side,
        transport: interface.protocol.transport(),
        bound,
        public: public_name(config, determined, interface.side, bound),
    };
    let names = config.certificate.as_ref().map(|certificate| certificate.names.clone()).unwrap_or_default();
    let public = config.wan_public_address.as_ref().filter(|public| public.ip_address.is_none());
    let outside =
        public.map(|public| determined.0.iter().map(|ip| SocketAddr::new(*ip, public.port)).collect());
    Interfaces::new(bound.map(interface).collect(), local_addresses())
        .with_names(names)
        .with_public(outside.unwrap_or_default())
}

/// What the WAN side is known as: the name that the certificate has, or the public address where there is none, be it
/// configured or `determined`.
fn public_name(
    config: &Config,
    determined: &PublicAddresses,
    side: Side,
    bound: SocketAddr,
) -> Option<(String, u16)> {
    if side == Side::Lan {
        return None;
    }
    let public = config.wan_public_address.as_ref();
    let configured = public.and_then(|public| public.host_name.clone());
    let domains = &config.service.presence_domains;
    let certified = config.certificate.as_ref().and_then(|certificate| certificate.host_name(domains));
    let address = public.and_then(|public| public.ip_address.or_else(|| determined.like(bound.ip())));
    let address = address.map(|ip| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    });
    let host = configured.or(certified.map(str::to_owned)).or(address)?;
    Some((host, public.map_or(bound.port(), |public| public.port)))
}

/// The addresses of this machine, those that are not loopback first.
fn local_addresses() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let mut addresses: Vec<IpAddr> = all
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect();
    addresses.sort_by_key(IpAddr::is_loopback);
    addresses
}

impl Handler<NatDetermined> for Supervisor {
    type Result = ();

    /// An address that was found stands in messages from now on, if none is configured. One that cannot be found again
    /// stays: that a server is silent does not move us.
    fn handle(&mut self, determined: NatDetermined, _: &mut Context<Self>) {
        let public = determined.verdict.public;
        self.told.nat = Some((determined, SystemTime::now()));
        let Some(new) = public.map(|public| public.ip()) else { return };
        let old = self.public_addresses.like(new);
        if old == Some(new) {
            return;
        }
        if let Some(old) = old {
            let log = self.parts.logs.logger("stun");
            warn!(log, "public_address_changed"; "old" => %old, "new" => %new);
        }
        self.public_addresses.learn(new);
        self.interfaces_changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Interface;
    use crate::config::tests::config;

    #[test]
    fn the_wan_side_is_known_by_the_address_that_was_determined_last_and_answers_to_the_earlier_ones() {
        let auto = "[wan.public_address]\nenabled = true\nport = 5099\n";
        let all = format!("[stun]\nservers = [\"stun.test:3478\"]\n{auto}");
        let fixed = format!("{auto}ip_address = \"198.51.100.9\"\n");
        let named = format!("{all}host_name = \"sip.test\"\n");
        let mut public = PublicAddresses::default();
        let name = |text: &str, public: &PublicAddresses, bound: &str| {
            public_name(&config(text), public, Side::Wan, bound.parse().unwrap()).map(|(host, _)| host)
        };
        assert_eq!(name(&all, &public, "0.0.0.0:5061"), None);
        for address in ["198.51.100.1", "2001:db8::1", "198.51.100.2"] {
            public.learn(address.parse().unwrap());
        }
        let table = [
            (&*all, "0.0.0.0:5061", Some("198.51.100.2")),
            (&*all, "[::]:5061", Some("[2001:db8::1]")),
            (&*fixed, "0.0.0.0:5061", Some("198.51.100.9")),
            (&*named, "0.0.0.0:5061", Some("sip.test")),
            ("", "0.0.0.0:5061", None),
        ];
        for (text, bound, expected) in table {
            assert_eq!(name(text, &public, bound).as_deref(), expected, "{text}");
        }
        let ours = |text: &str, ip: &str| {
            let host = crate::protocol::message::uri::Host::Address(ip.parse().unwrap());
            configured(&config(text), &States::new(), &public).is_ours(&host, Some(5099))
        };
        assert!(["198.51.100.1", "198.51.100.2", "2001:db8::1"].iter().all(|ip| ours(&all, ip)));
        assert!(!ours(&fixed, "198.51.100.1"));
    }

    #[test]
    fn so_many_public_addresses_are_remembered_and_each_once() {
        let mut public = PublicAddresses::default();
        for last in (0..20).chain([19, 18]) {
            public.learn(IpAddr::from([198, 51, 100, last]));
        }
        let kept: Vec<_> = public.0.iter().map(ToString::to_string).collect();
        let expected = [18, 19, 17, 16, 15, 14, 13, 12].map(|last| format!("198.51.100.{last}"));
        assert_eq!(kept, expected);
    }

    #[test]
    fn the_other_family_is_served_by_an_interface_of_the_same_kind() {
        let interface = |id, side, address: &str, protocol| Interface {
            id: InterfaceId(id),
            side,
            ip_address: address.parse().unwrap(),
            port: 5061,
            protocol,
            key: String::new(),
        };
        let all = [
            interface(0, Side::Wan, "192.0.2.1", Protocol::Mtls),
            interface(1, Side::Lan, "2001:db8::1", Protocol::Mtls),
            interface(2, Side::Wan, "2001:db8::2", Protocol::Tls),
            interface(3, Side::Wan, "2001:db8::3", Protocol::Mtls),
        ];
        let twins = [0, 1, 2, 3].map(|id| other_family(&all, InterfaceId(id)).map(|ip| ip.to_string()));
        assert_eq!(twins, [Some("2001:db8::3".to_owned()), None, None, Some("192.0.2.1".to_owned())]);
    }
}
