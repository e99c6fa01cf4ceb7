//! IP packets as they could have carried a message: UDP for datagrams, TCP for streams, all in the clear.
//!
//! The proxy sees messages, not packets. Those of a stream get sequence numbers without a gap, so that a reader puts
//! together what one segment cannot hold; there is no handshake and there are no bare acknowledgements.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The longest payload of UDP over IPv4: no datagram that came was longer. What masking has added beyond is cut.
const LONGEST_DATAGRAM: usize = 65_507;

/// Octets of one segment. IPv4 could hold 65,495.
const LONGEST_SEGMENT: usize = 65_000;

/// Directions of connections whose sequence numbers are kept; past them all begin anew.
const MAXIMUM_STREAMS: usize = 65_536;

const UDP: u8 = 17;
const TCP: u8 = 6;

/// PSH and ACK.
const TCP_FLAGS: u8 = 0x18;

/// What has been written so far.
#[derive(Debug, Default)]
pub(super) struct Packets {
    /// The next sequence number of each direction.
    sequence: HashMap<(SocketAddr, SocketAddr), u32>,
    identification: u16,
}

impl Packets {
    /// The packets that carry `octets`, the first one first.
    pub(super) fn carry(
        &mut self,
        is_stream: bool,
        source: SocketAddr,
        destination: SocketAddr,
        octets: &[u8],
    ) -> Vec<Vec<u8>> {
        if is_stream {
            let segments = octets.chunks(LONGEST_SEGMENT);
            segments.map(|segment| self.segment(source, destination, segment)).collect()
        } else {
            let octets = &octets[..octets.len().min(LONGEST_DATAGRAM)];
            vec![self.datagram(source, destination, octets)]
        }
    }

    fn datagram(&mut self, source: SocketAddr, destination: SocketAddr, octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + octets.len());
        put16(&mut out, source.port());
        put16(&mut out, destination.port());
        put16(&mut out, length(8 + octets.len()));
        put16(&mut out, 0);
        out.extend_from_slice(octets);
        self.packet(UDP, source.ip(), destination.ip(), out, 6)
    }

    fn segment(&mut self, source: SocketAddr, destination: SocketAddr, octets: &[u8]) -> Vec<u8> {
        if self.sequence.len() >= MAXIMUM_STREAMS {
            self.sequence.clear();
        }
        let acknowledged = self.sequence.get(&(destination, source)).copied().unwrap_or(1);
        let next = self.sequence.entry((source, destination)).or_insert(1);
        let mut out = Vec::with_capacity(20 + octets.len());
        put16(&mut out, source.port());
        put16(&mut out, destination.port());
        out.extend_from_slice(&next.to_be_bytes());
        out.extend_from_slice(&acknowledged.to_be_bytes());
        out.extend_from_slice(&[5 << 4, TCP_FLAGS]);
        put16(&mut out, u16::MAX);
        put16(&mut out, 0);
        put16(&mut out, 0);
        out.extend_from_slice(octets);
        *next = next.wrapping_add(u32::try_from(octets.len()).expect("a segment is short"));
        self.packet(TCP, source.ip(), destination.ip(), out, 16)
    }

    /// Puts the IP header before `payload`, whose checksum belongs at `checksum_at`.
    fn packet(
        &mut self,
        protocol: u8,
        source: IpAddr,
        destination: IpAddr,
        mut payload: Vec<u8>,
        checksum_at: usize,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(40 + payload.len());
        // What the transport's checksum covers besides (RFC 768, RFC 9293 §3.1, RFC 8200 §8.1).
        let mut pseudo = Vec::with_capacity(40);
        if let (IpAddr::V4(from), IpAddr::V4(to)) = (source, destination) {
            self.identification = self.identification.wrapping_add(1);
            out.extend_from_slice(&[0x45, 0]);
            put16(&mut out, length(20 + payload.len()));
            put16(&mut out, self.identification);
            out.extend_from_slice(&[0, 0, 64, protocol, 0, 0]);
            pseudo.extend_from_slice(&from.octets());
            pseudo.extend_from_slice(&to.octets());
            out.extend_from_slice(&pseudo);
            let sum = checksum(&[&out]);
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            put16(&mut out, length(payload.len()));
            out.extend_from_slice(&[protocol, 64]);
            pseudo.extend_from_slice(&to_v6(source).octets());
            pseudo.extend_from_slice(&to_v6(destination).octets());
            out.extend_from_slice(&pseudo);
        }
        pseudo.extend_from_slice(&[0, protocol]);
        put16(&mut pseudo, length(payload.len()));
        let sum = match checksum(&[&pseudo, &payload]) {
            // Zero would say that there is none.
            0 if protocol == UDP => u16::MAX,
            sum => sum,
        };
        payload[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&payload);
        out
    }
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn length(octets: usize) -> u16 {
    u16::try_from(octets).expect("what a packet carries is cut to what it can")
}

fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The Internet checksum (RFC 1071) of `parts` one behind the other; all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("the carries are folded in")
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: (&str, &str) = ("192.0.2.1:5060", "192.0.2.7:40000");
    const V6: (&str, &str) = ("[2001:db8::1]:5060", "[2001:db8::7]:40000");

    fn carry(packets: &mut Packets, is_stream: bool, ends: (&str, &str), octets: &[u8]) -> Vec<Vec<u8>> {
        packets.carry(is_stream, ends.0.parse().unwrap(), ends.1.parse().unwrap(), octets)
    }

    /// Of an IP packet: its header, and what it carries.
    fn split(packet: &[u8]) -> (&[u8], &[u8]) {
        packet.split_at(if packet[0] >> 4 == 4 { 20 } else { 40 })
    }

    fn number(octets: &[u8]) -> usize {
        octets.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet))
    }

    /// Whether the sums over header and over payload, with their checksums, are what a receiver wants.
    fn is_intact(packet: &[u8]) -> bool {
        let (header, payload) = split(packet);
        let (addresses, protocol) =
            if header.len() == 20 { (&header[12..], header[9]) } else { (&header[8..], header[6]) };
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        (header.len() == 40 || checksum(&[header]) == 0)
            && checksum(&[addresses, &[0, protocol], &length, payload]) == 0
    }

    #[test]
    fn a_datagram_is_one_packet_with_addresses_lengths_and_checksums() {
        for (ends, addresses) in [(V4, 12..20), (V6, 8..40)] {
            for text in ["odd", "even"] {
                let packets = carry(&mut Packets::default(), false, ends, text.as_bytes());
                let [packet] = &packets[..] else { panic!("one datagram, one packet") };
                assert!(is_intact(packet));
                let (header, payload) = split(packet);
                let total = if header.len() == 20 { &header[2..4] } else { &header[4..6] };
                let counted = if header.len() == 20 { packet.len() } else { payload.len() };
                assert_eq!(number(total), counted);
                assert_eq!(header[addresses.clone()].last(), Some(&7));
                assert_eq!((number(&payload[..2]), number(&payload[2..4])), (5060, 40000));
                assert_eq!(number(&payload[4..6]), payload.len());
                assert_eq!(&payload[8..], text.as_bytes());
            }
        }
    }

    #[test]
    fn a_datagram_is_no_longer_than_one_can_be() {
        for ends in [V4, V6] {
            let packets = carry(&mut Packets::default(), false, ends, &[b'x'; 70_000]);
            assert_eq!((packets.len(), split(&packets[0]).1.len()), (1, 8 + LONGEST_DATAGRAM));
            assert!(is_intact(&packets[0]));
        }
    }

    #[test]
    fn a_stream_has_no_gap_and_acknowledges_what_came() {
        for ends in [V4, V6] {
            let mut packets = Packets::default();
            let back = (ends.1, ends.0);
            let long = vec![b'x'; 2 * LONGEST_SEGMENT + 1];
            let mut all = carry(&mut packets, true, ends, b"abc");
            all.extend(carry(&mut packets, true, back, b"de"));
            all.extend(carry(&mut packets, true, ends, &long));
            all.extend(carry(&mut packets, true, back, b"f"));
            assert!(all.iter().all(|packet| is_intact(packet)));
            let seen: Vec<_> = all
                .iter()
                .map(|packet| split(packet).1)
                .map(|segment| (number(&segment[4..8]), number(&segment[8..12]), segment.len() - 20))
                .collect();
            let end = 4 + long.len();
            let expected = [
                (1, 1, 3),
                (1, 4, 2),
                (4, 3, LONGEST_SEGMENT),
                (4 + LONGEST_SEGMENT, 3, LONGEST_SEGMENT),
                (end - 1, 3, 1),
                (3, end, 1),
            ];
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn connections_have_numbers_of_their_own_and_these_do_not_grow_without_bound() {
        let mut packets = Packets::default();
        for port in 0..=u16::MAX {
            let source = SocketAddr::from(([192, 0, 2, 1], port));
            packets.carry(true, source, V4.1.parse().unwrap(), b"abc");
        }
        assert_eq!(packets.sequence.len(), MAXIMUM_STREAMS);
        assert!(packets.sequence.values().all(|next| *next == 4));
        carry(&mut packets, true, V6, b"abc");
        assert_eq!(packets.sequence.len(), 1);
    }

    /// The example of RFC 1071 §3, and a datagram whose sum is zero.
    #[test]
    fn the_checksum_is_that_of_the_internet() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03], &[0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        let mut packets = Packets::default();
        let plain = carry(&mut packets, false, V4, &[0, 0]);
        let sum = &split(&plain[0]).1[6..8];
        let zero = carry(&mut packets, false, V4, sum);
        assert_eq!(split(&zero[0]).1[6..8], [0xff, 0xff]);
    }
}
