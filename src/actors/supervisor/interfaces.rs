//! What listens: from what the Listeners report to what the protocol knows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::actors::listener::{Companion, InterfaceState, ListenerKind, companion};
use crate::config::{Config, Protocol};
use crate::protocol::flow::InterfaceId;
use crate::protocol::interface::{Interface, Interfaces, Side};

/// Every Listener that `config` asks for, on this many cores.
pub(super) fn listeners(config: &Config, cores: usize) -> Vec<(InterfaceId, ListenerKind)> {
    let mut listeners = Vec::new();
    for (id, interface) in (0..).map(InterfaceId).zip(&config.interfaces) {
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
    let is_datagram = config.interfaces[usize::from(interface.0)].protocol == Protocol::Udp;
    !is_datagram || kind == (ListenerKind::Datagram { core: 0 })
}

/// The interfaces that listen.
pub(super) fn listening(
    config: &Config,
    states: &BTreeMap<(InterfaceId, ListenerKind), InterfaceState>,
) -> Interfaces {
    let mut list = Vec::new();
    for (id, interface) in (0..).map(InterfaceId).zip(&config.interfaces) {
        let kind = match interface.protocol {
            Protocol::Udp => ListenerKind::Datagram { core: 0 },
            Protocol::Tcp | Protocol::Tls | Protocol::Mtls | Protocol::Ws | Protocol::Wss => {
                ListenerKind::Stream
            }
        };
        if let Some(InterfaceState::Listening { address }) = states.get(&(id, kind)) {
            list.push(Interface {
                id,
                side: interface.side,
                transport: interface.protocol.transport(),
                bound: *address,
                public: public_name(config, interface.side, address.port()),
            });
        }
    }
    let names = config.certificate.as_ref().map(|certificate| certificate.names.clone()).unwrap_or_default();
    Interfaces::new(list, local_addresses()).with_names(names)
}

/// What the WAN side is known as: the name that the certificate has, or the public address where there is none.
fn public_name(config: &Config, side: Side, port: u16) -> Option<(String, u16)> {
    if side == Side::Lan {
        return None;
    }
    let public = config.wan_public_address.as_ref();
    let configured = public.and_then(|public| public.host_name.clone());
    let certified = config.certificate.as_ref().and_then(|certificate| certificate.names.first().cloned());
    let address = public.and_then(|public| public.ip_address).map(|ip| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    });
    let host = configured.or(certified).or(address)?;
    Some((host, public.map_or(port, |public| public.port)))
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
