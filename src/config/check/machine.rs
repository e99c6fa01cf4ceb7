//! What this machine says about itself.

use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use socket2::{Domain, Socket, Type};

/// Whether a socket here can have `address`: one of this machine's, or the wildcard of a family that it
/// speaks.
///
/// The system is asked by a socket at a port of its choice: its list of addresses does not show that all of
/// 127.0.0.0/8 is here.
pub(super) fn has_address(address: IpAddr) -> bool {
    let at = SocketAddr::new(address, 0);
    Socket::new(Domain::for_address(at), Type::DGRAM, None).and_then(|socket| socket.bind(&at.into())).is_ok()
}

/// The fault of an address that this machine does not have.
pub(super) fn describe_missing(address: IpAddr) -> String {
    let known: Vec<_> = addresses().iter().map(IpAddr::to_string).collect();
    format!("this machine has no {address}, allowed: {}, or a wildcard", known.join(", "))
}

/// The addresses of this machine's interfaces, each once.
fn addresses() -> Vec<IpAddr> {
    let list = getifaddrs().into_iter().flatten();
    let mut addresses: Vec<_> = list.filter_map(|i| ip_address(&i.address?)).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn ip_address(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = || address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4().or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_loopback_and_wildcard_and_no_documentation_address() {
        for (address, expected) in
            [("127.0.0.1", true), ("127.9.9.9", true), ("0.0.0.0", true), ("203.0.113.77", false)]
        {
            assert_eq!(has_address(address.parse().unwrap()), expected, "{address}");
        }
        assert!(describe_missing("203.0.113.77".parse().unwrap()).contains("127.0.0.1"));
    }
}
