//! The socket of a UDP interface: its options, and which address of ours a datagram came to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, RawFd};

use nix::libc;
use nix::sys::socket::{ControlMessageOwned, SockaddrStorage, setsockopt, sockopt};
use socket2::{Protocol, Type};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use crate::actors::listener::{bound_address, register, socket_for};

/// Asked of the system for either direction; it gives what `net.core.rmem_max` and `wmem_max` allow.
const BUFFER_BYTES: usize = 4 << 20;

/// Whether others of ours have the port already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This is the first: another process on the port is an error.
    First,
    /// Others of ours listen there.
    Joins,
}

/// A bound socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: AsyncFd<socket2::Socket>,
    local: SocketAddr,
}

impl Socket {
    /// Binds to `address`, so that others may join.
    pub(super) fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<Self> {
        if sharing == Sharing::First && address.port() != 0 {
            // Sockets that share a port share it with whoever has the same user identifier: a second proxy would
            // take half of the traffic and nobody would know.
            socket_for(address, Type::DGRAM, Protocol::UDP)?.bind(&address.into())?;
        }
        let socket = socket_for(address, Type::DGRAM, Protocol::UDP)?;
        socket.set_reuse_port(true)?;
        // Less than asked for is no reason not to listen.
        let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(BUFFER_BYTES);
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
        }
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            IpAddr::V6(ip) if ip.is_unspecified() => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        socket.bind(&address.into())?;
        let local = bound_address(&socket)?;
        Ok(Self { fd: register(socket, Interest::READABLE | Interest::ERROR)?, local })
    }

    /// The address that it is bound to.
    pub(super) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether it takes datagrams to every address of the machine.
    pub(super) fn is_wildcard(&self) -> bool {
        self.local.ip().is_unspecified()
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.get_ref().as_raw_fd()
    }

    /// Waits for datagrams or for errors about some that were sent.
    pub(super) async fn ready(&self) -> io::Result<AsyncFdReadyGuard<'_, socket2::Socket>> {
        self.fd.ready(Interest::READABLE | Interest::ERROR).await
    }
}

/// The address as the standard library has it.
pub(super) fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(IpAddr::V4(v4.ip()), v4.port()));
    }
    address.as_sockaddr_in6().map(|v6| SocketAddr::from(std::net::SocketAddrV6::from(*v6)))
}

/// The address of ours that a datagram came to, where the message tells it.
pub(super) fn destination(message: &ControlMessageOwned) -> Option<IpAddr> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr))))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
        _ => None,
    }
}

/// What makes a datagram leave from `source`.
pub(super) enum SourceInfo {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

impl SourceInfo {
    pub(super) fn new(source: IpAddr) -> Self {
        match source {
            IpAddr::V4(ip) => Self::V4(libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            }),
            IpAddr::V6(ip) => Self::V6(libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                ipi6_ifindex: 0,
            }),
        }
    }
}
