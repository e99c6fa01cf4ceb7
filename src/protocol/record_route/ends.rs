//! Addresses as the octets of a token.

use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use super::LONGEST;

pub(super) fn push_ip(octets: &mut SmallVec<[u8; LONGEST]>, ip: Option<IpAddr>) {
    match ip {
        None => octets.push(0),
        Some(IpAddr::V4(ip)) => {
            octets.push(4);
            octets.extend_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            octets.push(6);
            octets.extend_from_slice(&ip.octets());
        }
    }
}

pub(super) fn read_ip(octets: &[u8]) -> Option<(Option<IpAddr>, &[u8])> {
    let (&family, rest) = octets.split_first()?;
    match family {
        0 => Some((None, rest)),
        4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (Some(IpAddr::from(*ip)), rest)),
        6 => rest.split_first_chunk::<16>().map(|(ip, rest)| (Some(IpAddr::from(*ip)), rest)),
        _ => None,
    }
}

pub(super) fn push_end(octets: &mut SmallVec<[u8; LONGEST]>, end: SocketAddr) {
    push_ip(octets, Some(end.ip()));
    octets.extend_from_slice(&end.port().to_be_bytes());
}

pub(super) fn read_end(octets: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (ip, rest) = read_ip(octets)?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip?, u16::from_be_bytes(*port)), rest))
}
