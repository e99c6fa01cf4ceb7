//! STUN Binding on the ports of SIP: user agents keep their flows of datagrams alive by it, and learn that a NAT has
//! moved them (RFC 5626 §5.4, §8; RFC 8489 §6).
//!
//! No more than that: nobody is authenticated, and what only RFC 3489 knows is not answered.

use std::net::{IpAddr, SocketAddr};

use super::message::demux::STUN_HEADER as HEADER;

const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_RESPONSE: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Attributes from here on may be ignored by who does not know them (RFC 8489 §14).
const OPTIONAL: u16 = 0x8000;

/// The others of RFC 8489. None of them changes the answer of a server that authenticates nobody.
const KNOWN: [u16; 11] = [
    0x0001,
    0x0006,
    0x0008,
    ERROR_CODE,
    UNKNOWN_ATTRIBUTES,
    0x0014,
    0x0015,
    0x001c,
    0x001d,
    0x001e,
    XOR_MAPPED_ADDRESS,
];

/// Unknown attributes that an answer lists: it must not become much longer than the request.
const LISTED_AT_MOST: usize = 8;

/// The answer to a Binding request that `source` has sent; `None` where `datagram` is none.
pub fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let (header, attributes) = datagram.split_first_chunk::<HEADER>()?;
    let [kind, length] = [[header[0], header[1]], [header[2], header[3]]].map(u16::from_be_bytes);
    let (cookie, transaction) = header[4..].split_at(COOKIE.len());
    if kind != BINDING_REQUEST || cookie != COOKIE || usize::from(length) != attributes.len() {
        return None;
    }
    let unknown = unknown_attributes(attributes)?;
    let mut out = Vec::with_capacity(64);
    let kind = if unknown.is_empty() { BINDING_RESPONSE } else { BINDING_ERROR };
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&header[4..]);
    if unknown.is_empty() {
        push(&mut out, XOR_MAPPED_ADDRESS, &xor_mapped(source, transaction));
    } else {
        push(&mut out, ERROR_CODE, b"\0\0\x04\x14Unknown Attribute");
        let listed: Vec<u8> = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        push(&mut out, UNKNOWN_ATTRIBUTES, &listed);
    }
    let length = u16::try_from(out.len() - HEADER).expect("few attributes are short");
    out[2..4].copy_from_slice(&length.to_be_bytes());
    Some(out)
}

/// Those that must be understood and are not; `None` where the attributes are malformed.
fn unknown_attributes(mut attributes: &[u8]) -> Option<Vec<u16>> {
    let mut unknown = Vec::new();
    while !attributes.is_empty() {
        let (head, rest) = attributes.split_first_chunk::<4>()?;
        let [kind, length] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
        attributes = rest.get(usize::from(length).next_multiple_of(4)..)?;
        if kind < OPTIONAL && !KNOWN.contains(&kind) && unknown.len() < LISTED_AT_MOST {
            unknown.push(kind);
        }
    }
    Some(unknown)
}

/// §14.2: family, port and address, under cookie and transaction, so that no NAT takes them for its own to rewrite.
fn xor_mapped(source: SocketAddr, transaction: &[u8]) -> Vec<u8> {
    let mask = || COOKIE.iter().chain(transaction);
    let (family, address) = match source.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let port = source.port().to_be_bytes();
    let mut value = vec![0, family];
    value.extend(port.iter().zip(mask()).map(|(octet, mask)| octet ^ mask));
    value.extend(address.iter().zip(mask()).map(|(octet, mask)| octet ^ mask));
    value
}

fn push(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRANSACTION: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    /// A message of this kind with these attributes.
    fn message(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let length = (attributes.len() as u16).to_be_bytes();
        [&kind.to_be_bytes()[..], &length, &COOKIE, &TRANSACTION, attributes].concat()
    }

    /// The addresses and results of RFC 5769 §2.2 and §2.3.
    #[test]
    fn the_answer_has_the_address_that_the_request_came_from() {
        let table = [
            ("192.0.2.1:32853", vec![0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]),
            (
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
                vec![
                    0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5,
                    0xbe, 0xd2, 0xb9, 0xd9,
                ],
            ),
        ];
        for (source, value) in table {
            let length = value.len() as u8;
            let attribute = [&[0, 0x20, 0, length][..], &value].concat();
            // What is optional, and what only matters to who authenticates, changes nothing.
            for sent in [&b""[..], b"\x80\x22\0\x05a sip\0\0\0", b"\0\x06\0\x01u\0\0\0"] {
                let answer = answer(&message(1, sent), source.parse().unwrap());
                assert_eq!(answer, Some(message(0x0101, &attribute)), "{source} {sent:?}");
            }
        }
    }

    #[test]
    fn what_must_be_understood_and_is_not_is_listed() {
        // CHANGE-REQUEST (RFC 5780) and an unknown one.
        let sent = message(1, b"\0\x03\0\x04\0\0\0\x06\x7f\xff\0\x01x\0\0\0");
        let expected = b"\0\x09\0\x15\0\0\x04\x14Unknown Attribute\0\0\0\0\x0a\0\x04\0\x03\x7f\xff";
        assert_eq!(answer(&sent, "192.0.2.1:1".parse().unwrap()), Some(message(0x0111, expected)));
        let many = message(1, &b"\0\x03\0\0".repeat(1000));
        assert!(answer(&many, "192.0.2.1:1".parse().unwrap()).unwrap().len() < 80);
    }

    #[test]
    fn what_is_no_binding_request_is_not_answered() {
        let mut rfc3489 = message(1, b"");
        rfc3489[4] = 0;
        let cases = [
            Vec::new(),
            message(1, b"")[..19].to_vec(),
            message(1, b"\0\x06\0\x04u\0\0\0")[..24].to_vec(),
            message(1, b"\0\x06\0\x05u\0\0\0"),
            message(1, b"\0\x06\0"),
            message(0x0101, b""),
            message(0x0011, b""),
            message(0x0003, b""),
            rfc3489,
        ];
        for case in cases {
            assert_eq!(answer(&case, "192.0.2.1:1".parse().unwrap()), None, "{case:?}");
        }
    }

    proptest! {
        #[test]
        fn no_datagram_does_harm(attributes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(answer) = answer(&message(1, &attributes), "[::1]:9".parse().unwrap()) {
                prop_assert_eq!(answer.len() % 4, 0);
                prop_assert_eq!(usize::from(u16::from_be_bytes([answer[2], answer[3]])), answer.len() - HEADER);
            }
        }
    }
}
