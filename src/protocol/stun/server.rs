//! Binding on the ports of SIP: user agents keep their flows of datagrams alive by it, and learn that a NAT has moved
//! them (RFC 5626 §5.4, §8; RFC 8489 §6).
//!
//! No more than that: what only RFC 3489 knows is not answered.

use std::net::SocketAddr;

use super::codec::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_RESPONSE, ERROR_CODE, Message, OPTIONAL, UNKNOWN_ATTRIBUTES,
    Writer, XOR_MAPPED_ADDRESS,
};

/// The attributes of RFC 8489. None of them changes the answer of a server that authenticates nobody.
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
    let request = Message::parse(datagram).filter(|message| message.kind == BINDING_REQUEST)?;
    let unknown: Vec<u8> = request
        .attributes()
        .filter(|(kind, _)| *kind < OPTIONAL && !KNOWN.contains(kind))
        .take(LISTED_AT_MOST)
        .flat_map(|(kind, _)| kind.to_be_bytes())
        .collect();
    if unknown.is_empty() {
        let mut response = Writer::new(BINDING_RESPONSE, request.transaction);
        response.push_xor_mapped(source);
        return Some(response.finish());
    }
    let mut refusal = Writer::new(BINDING_ERROR, request.transaction);
    refusal.push(ERROR_CODE, b"\0\0\x04\x14Unknown Attribute");
    refusal.push(UNKNOWN_ATTRIBUTES, &unknown);
    Some(refusal.finish())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::message::demux::STUN_HEADER as HEADER;

    const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

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
