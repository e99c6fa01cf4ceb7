//! The form of STUN messages (RFC 8489 §5, §14).
//!
//! RFC 3489 has the same form without the cookie, which its servers take for a part of the transaction identifier and
//! send back: one form does for both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::protocol::message::demux::STUN_HEADER as HEADER;

const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();

pub(super) const BINDING_REQUEST: u16 = 0x0001;
pub(super) const BINDING_RESPONSE: u16 = 0x0101;
pub(super) const BINDING_ERROR: u16 = 0x0111;

pub(super) const MAPPED_ADDRESS: u16 = 0x0001;
pub(super) const CHANGE_REQUEST: u16 = 0x0003;
/// RFC 3489's name for what RFC 5780 calls [`OTHER_ADDRESS`].
pub(super) const CHANGED_ADDRESS: u16 = 0x0005;
pub(super) const ERROR_CODE: u16 = 0x0009;
pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
pub(super) const OTHER_ADDRESS: u16 = 0x802c;

/// Attributes from here on may be ignored by who does not know them (RFC 8489 §14).
pub(super) const OPTIONAL: u16 = 0x8000;

/// The identifier of a transaction: nobody who does not see the request can guess it (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionId(pub [u8; 12]);

/// A message, well-formed to the end of its last attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) transaction: TransactionId,
    attributes: &'a [u8],
}

impl<'a> Message<'a> {
    /// `None` where `datagram` is no message with the cookie, or is malformed.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, attributes) = datagram.split_first_chunk::<HEADER>()?;
        let [kind, length] = [[header[0], header[1]], [header[2], header[3]]].map(u16::from_be_bytes);
        if header[4..8] != COOKIE || usize::from(length) != attributes.len() {
            return None;
        }
        let mut rest = attributes;
        while !rest.is_empty() {
            (_, _, rest) = split_attribute(rest)?;
        }
        let transaction = header[8..].try_into().expect("a header has 20 octets");
        Some(Self { kind, transaction: TransactionId(transaction), attributes })
    }

    /// Kind and value of each attribute.
    pub(super) fn attributes(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.attributes;
        std::iter::from_fn(move || {
            let (kind, value, others) = split_attribute(rest)?;
            rest = others;
            Some((kind, value))
        })
    }

    /// The value of the first attribute of this kind: further ones are ignored (RFC 8489 §14).
    pub(super) fn attribute(self, kind: u16) -> Option<&'a [u8]> {
        self.attributes().find_map(|(other, value)| (other == kind).then_some(value))
    }

    /// The address in an attribute.
    pub(super) fn address(self, kind: u16) -> Option<SocketAddr> {
        read_address(self.attribute(kind)?)
    }

    /// The address in XOR-MAPPED-ADDRESS, else in MAPPED-ADDRESS, which is all that RFC 3489 knows.
    pub(super) fn mapped_address(self) -> Option<SocketAddr> {
        let masked = self.attribute(XOR_MAPPED_ADDRESS).and_then(|value| {
            let mut value = value.to_vec();
            mask(&mut value, self.transaction);
            read_address(&value)
        });
        masked.or_else(|| self.address(MAPPED_ADDRESS))
    }

    /// The code of an error response (§14.8): 300 to 699.
    pub(super) fn error_code(self) -> Option<u16> {
        let value = self.attribute(ERROR_CODE)?;
        let (class, number) = (*value.get(2)? & 7, *value.get(3)?);
        ((3..=6).contains(&class) && number < 100).then(|| u16::from(class) * 100 + u16::from(number))
    }
}

/// Kind and value of the first attribute, and those behind it.
fn split_attribute(attributes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, rest) = attributes.split_first_chunk::<4>()?;
    let [kind, length] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
    let others = rest.get(usize::from(length).next_multiple_of(4)..)?;
    Some((kind, &rest[..usize::from(length)], others))
}

/// A message that is being written.
pub(super) struct Writer {
    transaction: TransactionId,
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn new(kind: u16, transaction: TransactionId) -> Self {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&COOKIE);
        out.extend_from_slice(&transaction.0);
        Self { transaction, out }
    }

    pub(super) fn push(&mut self, kind: u16, value: &[u8]) {
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.out.extend_from_slice(value);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }

    pub(super) fn push_xor_mapped(&mut self, address: SocketAddr) {
        let mut value = write_address(address);
        mask(&mut value, self.transaction);
        self.push(XOR_MAPPED_ADDRESS, &value);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u16::try_from(self.out.len() - HEADER).expect("few attributes are short");
        self.out[2..4].copy_from_slice(&length.to_be_bytes());
        self.out
    }
}

/// §14.1: family, port and address.
pub(super) fn write_address(address: SocketAddr) -> Vec<u8> {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend_from_slice(&address.port().to_be_bytes());
    value.extend_from_slice(&ip);
    value
}

fn read_address(value: &[u8]) -> Option<SocketAddr> {
    let (head, ip) = value.split_first_chunk::<4>()?;
    let ip = match head[1] {
        1 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        2 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([head[2], head[3]])))
}

/// §14.2: port and address under cookie and transaction, so that no NAT takes them for its own to rewrite. Twice is
/// nothing.
fn mask(value: &mut [u8], transaction: TransactionId) {
    let masks = || COOKIE.iter().chain(&transaction.0);
    for field in [2..4, 4..value.len()] {
        let octets = value.get_mut(field).unwrap_or_default();
        octets.iter_mut().zip(masks()).for_each(|(octet, mask)| *octet ^= mask);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: TransactionId =
        TransactionId([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);

    fn written(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(BINDING_RESPONSE, ID);
        attributes.iter().for_each(|(kind, value)| writer.push(*kind, value));
        writer.finish()
    }

    /// The addresses of RFC 5769 §2.2 and §2.3.
    #[test]
    fn h13_the_mapped_address_is_the_masked_one_else_the_plain_one_of_either_family() {
        let v4 = [0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let v6 = [
            0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe,
            0xd2, 0xb9, 0xd9,
        ];
        let plain = write_address("198.51.100.7:99".parse().unwrap());
        let plain_v6 = write_address("[2001:db8::7]:99".parse().unwrap());
        type Attributes<'a> = &'a [(u16, &'a [u8])];
        let table: [(Attributes<'_>, Option<&str>); 9] = [
            (&[(XOR_MAPPED_ADDRESS, &v4)], Some("192.0.2.1:32853")),
            (&[(XOR_MAPPED_ADDRESS, &v6)], Some("[2001:db8:1234:5678:11:2233:4455:6677]:32853")),
            (&[(MAPPED_ADDRESS, &plain), (XOR_MAPPED_ADDRESS, &v4)], Some("192.0.2.1:32853")),
            (&[(XOR_MAPPED_ADDRESS, &v4), (XOR_MAPPED_ADDRESS, &v6)], Some("192.0.2.1:32853")),
            (&[(MAPPED_ADDRESS, &plain)], Some("198.51.100.7:99")),
            (&[(MAPPED_ADDRESS, &plain_v6)], Some("[2001:db8::7]:99")),
            (&[(XOR_MAPPED_ADDRESS, &v4[..7]), (MAPPED_ADDRESS, &plain)], Some("198.51.100.7:99")),
            (&[(XOR_MAPPED_ADDRESS, &[0, 3, 0, 0, 0, 0, 0, 0])], None),
            (&[], None),
        ];
        for (attributes, expected) in table {
            let octets = written(attributes);
            let found = Message::parse(&octets).unwrap().mapped_address();
            assert_eq!(found, expected.map(|address| address.parse().unwrap()), "{attributes:?}");
        }
    }

    #[test]
    fn the_code_of_an_error_has_a_class_and_a_number() {
        let table: [(&[u8], Option<u16>); 5] = [
            (b"\0\0\x04\x14Unknown Attribute", Some(420)),
            (b"\xff\xff\xfb\0", Some(300)),
            (b"\0\0\x02\0", None),
            (b"\0\0\x04\x64", None),
            (b"\0\0\x04", None),
        ];
        for (value, expected) in table {
            let octets = written(&[(ERROR_CODE, value)]);
            assert_eq!(Message::parse(&octets).unwrap().error_code(), expected, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_do_harm(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut datagram = Writer::new(BINDING_RESPONSE, ID).finish();
            datagram[3] = octets.len() as u8;
            datagram.extend_from_slice(&octets);
            if let Some(message) = Message::parse(&datagram) {
                let sum: usize = message.attributes().map(|(_, value)| 4 + value.len().next_multiple_of(4)).sum();
                prop_assert_eq!(sum, octets.len());
                let _ = (message.mapped_address(), message.error_code());
            }
        }

        #[test]
        fn an_address_that_was_written_is_read(ip in any::<IpAddr>(), port in any::<u16>()) {
            let address = SocketAddr::new(ip, port);
            let mut writer = Writer::new(BINDING_RESPONSE, ID);
            writer.push_xor_mapped(address);
            prop_assert_eq!(Message::parse(&writer.finish()).unwrap().mapped_address(), Some(address));
        }
    }
}
