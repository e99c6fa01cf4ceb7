//! Flows: who a message came from, and where one goes, as values (RFC 5626 §3, RFC 3261 §18).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What carries the octets. MTLS is [`Transport::Tls`] with a client certificate demanded by the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams, lost and reordered at will: the transaction layer retransmits.
    Udp,
    /// A stream in the clear.
    Tcp,
    /// A stream under TLS.
    Tls,
    /// WebSocket messages over a stream in the clear (RFC 7118).
    Ws,
    /// WebSocket messages over a stream under TLS.
    Wss,
}

impl Transport {
    /// Whether the transport itself delivers or fails, so that nobody retransmits (RFC 3261 §17).
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// Whether TLS protects it.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether SIP goes in messages of WebSocket, one in each (RFC 7118 §5).
    pub const fn is_web_socket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Whether we can open connections of it. A WebSocket client listens nowhere: what it has not opened itself cannot
    /// be had.
    pub const fn is_dialled(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// The token of a Via's sent-protocol (RFC 3261 §20.42, RFC 7118 §5.1).
    pub const fn via_token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// The value of a URI's transport parameter; `None` for the transport that a `sip:` URI without one means.
    ///
    /// `tls` is deprecated (RFC 3261 §26.2.2), but a `sip:` URI without it means UDP to most peers. WebSocket has one
    /// value, under TLS or not (RFC 7118 §5.2).
    pub const fn uri_parameter(self) -> Option<&'static str> {
        match self {
            Self::Udp => None,
            Self::Tcp => Some("tcp"),
            Self::Tls => Some("tls"),
            Self::Ws | Self::Wss => Some("ws"),
        }
    }

    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The port that a sent-by or URI without one means (RFC 3261 §19.1.2, RFC 7118 §5.5).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose address this is, as far as addresses tell: one machine has a whole IPv6 network of 64 bits to choose from.
pub fn host_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// A network interface of the configuration; its index in `Config::interfaces`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u16);

/// One stream connection. Never used twice while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The path between one socket of ours and one of a peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The interface that the flow belongs to.
    pub interface: InterfaceId,
    /// What carries it.
    pub transport: Transport,
    /// Our end. Its address is the one that the peer used, also where the interface is a wildcard.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// The connection of a stream; `None` for datagrams.
    pub connection: Option<ConnectionId>,
}

impl Flow {
    /// Whether it is a stream's without a connection: what leaves by it opens one, and nothing comes in by it.
    pub const fn is_dialled(&self) -> bool {
        self.transport.is_reliable() && self.connection.is_none()
    }
}

/// By as few words as tell flows apart: several tables are asked about that of each message.
impl Hash for Flow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.connection {
            Some(ConnectionId(id)) => state.write_u64(id),
            None => hash_peer(self.interface, self.remote, state),
        }
    }
}

/// What tells flows of datagrams apart. Our address seldom does where the interface is the same.
pub fn hash_peer<H: Hasher>(interface: InterfaceId, remote: SocketAddr, state: &mut H) {
    let word = u64::from(remote.port()) | u64::from(interface.0) << 16;
    match remote.ip() {
        IpAddr::V4(ip) => state.write_u64(word | u64::from(ip.to_bits()) << 32),
        IpAddr::V6(ip) => {
            state.write_u64(word);
            state.write_u128(ip.to_bits());
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_ipv4_address_or_64_bits_of_ipv6() {
        let table = [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
        ];
        for (address, host) in table {
            assert_eq!(host_of(address.parse().unwrap()), host.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn each_transport_has_its_tokens_and_port() {
        let table = [
            (Transport::Udp, "UDP", None, 5060, "udp"),
            (Transport::Tcp, "TCP", Some("tcp"), 5060, "tcp"),
            (Transport::Tls, "TLS", Some("tls"), 5061, "tls"),
            (Transport::Ws, "WS", Some("ws"), 80, "ws"),
            (Transport::Wss, "WSS", Some("ws"), 443, "wss"),
        ];
        for (transport, via, parameter, port, name) in table {
            assert_eq!(
                (transport.via_token(), transport.uri_parameter(), transport.default_port()),
                (via, parameter, port)
            );
            assert_eq!(transport.to_string(), name);
        }
    }

    #[test]
    fn a_web_socket_is_reliable_and_never_dialled() {
        let table = [
            (Transport::Udp, false, false, false, false),
            (Transport::Tcp, true, false, true, false),
            (Transport::Tls, true, true, true, false),
            (Transport::Ws, true, false, false, true),
            (Transport::Wss, true, true, false, true),
        ];
        for (transport, is_reliable, is_secure, is_dialled, is_web_socket) in table {
            assert_eq!(
                (transport.is_reliable(), transport.is_secure(), transport.is_dialled()),
                (is_reliable, is_secure, is_dialled),
                "{transport}"
            );
            assert_eq!(transport.is_web_socket(), is_web_socket, "{transport}");
        }
    }
}
