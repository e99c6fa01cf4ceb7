//! The interfaces: sockets that datagrams and connections come in by.
//!
//! A UDP interface has one [`datagram::DatagramListener`] per core, which share its port (`SO_REUSEPORT`), and a
//! stream interface one [`stream::StreamListener`]. Each UDP port is listened on for TCP too (RFC 3261 §18.2.1):
//! [`companion`] says by whom.
//!
//! A Listener that cannot bind tells why ([`InterfaceStatus`]) and tries again every [`BIND_RETRY`]: an address
//! may come later than the proxy, and a port may become free.

pub mod datagram;
pub mod stream;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use actix::Message as ActorMessage;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::config::{Interface, Protocol as InterfaceProtocol};
use crate::protocol::flow::InterfaceId;

/// Between two attempts to bind.
pub const BIND_RETRY: Duration = Duration::from_secs(5);

/// Which of an interface's Listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenerKind {
    /// Datagrams, on this core.
    Datagram {
        /// The index of the core, which is that of its Router.
        core: usize,
    },
    /// Connections.
    Stream,
}

/// Whether an interface listens: to the supervisor, once after the start and whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq, ActorMessage)]
#[rtype(result = "()")]
pub struct InterfaceStatus {
    /// The interface.
    pub interface: InterfaceId,
    /// Whose state it is.
    pub listener: ListenerKind,
    /// The state.
    pub state: InterfaceState,
}

/// The state of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceState {
    /// It listens.
    Listening {
        /// The address and port that it has, also where the configuration leaves the port to the system.
        address: SocketAddr,
    },
    /// It does not listen.
    NotListening {
        /// Why, for people.
        reason: String,
    },
}

/// Close the socket and end: then the port is free. From the supervisor.
#[derive(Clone, Copy, Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct Close;

/// Who listens for TCP on the port of a UDP interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Companion {
    /// A stream Listener of its own, with the interface's identifier and protocol TCP.
    Own,
    /// The stream interface that the configuration puts there.
    Configured(InterfaceId),
}

/// The companion of the UDP interface `of`.
pub fn companion(interfaces: &[Interface], of: InterfaceId) -> Companion {
    let Some(udp) = interfaces.iter().find(|interface| interface.id == of) else { return Companion::Own };
    let same = |other: &Interface| {
        other.protocol != InterfaceProtocol::Udp
            && other.ip_address == udp.ip_address
            && other.port == udp.port
    };
    let found = interfaces.iter().find(|other| udp.port != 0 && same(other));
    found.map_or(Companion::Own, |other| Companion::Configured(other.id))
}

/// A socket for `address`, not blocking, not bound. An IPv6 socket takes IPv6 alone, so that `::` and `0.0.0.0`
/// can stand side by side and no address shows up in two forms.
fn socket_for(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// The address that `socket` is bound to.
fn bound_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// Registers `socket` with the reactor of this thread, for `interest` alone: to be told each time that a datagram
/// which was sent makes room would cost more than to send it.
#[allow(
    deprecated,
    reason = "its successor is unsafe; a socket that owns its descriptor keeps what that demands"
)]
fn register<S: AsRawFd>(socket: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    AsyncFd::with_interest(socket, interest)
}

/// What to tell of a bind that failed.
fn reason(address: SocketAddr, error: &io::Error) -> String {
    format!("{address}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Side;

    fn interface(address: &str, protocol: InterfaceProtocol) -> Interface {
        let address: SocketAddr = address.parse().unwrap();
        Interface {
            id: InterfaceId(0),
            side: Side::Lan,
            ip_address: address.ip(),
            port: address.port(),
            protocol,
            key: String::new(),
        }
    }

    #[test]
    fn a_udp_port_is_listened_on_for_tcp_by_one_listener() {
        let mut interfaces = [
            interface("127.0.0.1:5060", InterfaceProtocol::Udp),
            interface("127.0.0.2:5060", InterfaceProtocol::Tcp),
            interface("127.0.0.2:5060", InterfaceProtocol::Udp),
            interface("127.0.0.3:0", InterfaceProtocol::Tcp),
            interface("127.0.0.3:0", InterfaceProtocol::Udp),
        ];
        (0..).map(InterfaceId).zip(&mut interfaces).for_each(|(id, interface)| interface.id = id);
        assert_eq!(companion(&interfaces, InterfaceId(0)), Companion::Own);
        assert_eq!(companion(&interfaces, InterfaceId(2)), Companion::Configured(InterfaceId(1)));
        assert_eq!(companion(&interfaces, InterfaceId(4)), Companion::Own);
    }
}
