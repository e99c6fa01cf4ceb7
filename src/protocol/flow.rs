//! Flows: who a message came from, and where one goes, as values (RFC 5626 §3, RFC 3261 §18).

use std::fmt;
use std::net::SocketAddr;

/// What carries the octets. MTLS is [`Transport::Tls`] with a client certificate demanded by the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams, lost and reordered at will: the transaction layer retransmits.
    Udp,
    /// A stream in the clear.
    Tcp,
    /// A stream under TLS.
    Tls,
}

impl Transport {
    /// Whether the transport itself delivers or fails, so that nobody retransmits (RFC 3261 §17).
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// The token of a Via's sent-protocol (RFC 3261 §20.42).
    pub const fn via_token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// The port that a sent-by or URI without one means (RFC 3261 §19.1.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        })
    }
}

/// A network interface of the configuration; its index in `Config::interfaces`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u16);

/// One stream connection. Never used twice while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The path between one socket of ours and one of a peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.remote)
    }
}
