//! A capture file that Wireshark reads: pcapng (draft-ietf-opsawg-pcapng), with raw IP packets.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::packet::Packets;

/// `LINKTYPE_RAW`: a packet begins with its IP header.
const LINK_TYPE: u16 = 101;

/// Block types.
mod block {
    pub(super) const SECTION: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const PACKET: u32 = 6;
}

/// Codes of options. The first ones mean something else in each kind of block.
mod option {
    pub(super) const END: u16 = 0;
    pub(super) const COMMENT: u16 = 1;
    pub(super) const APPLICATION: u16 = 4;
    pub(super) const INTERFACE_NAME: u16 = 2;
    pub(super) const FLAGS: u16 = 2;
    pub(super) const DROP_COUNT: u16 = 4;
}

/// One message to be written.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) time: SystemTime,
    pub(super) is_incoming: bool,
    /// `udp`, `tcp`, `tls`, `ws`, `wss`.
    pub(super) transport: &'a str,
    /// The name of the interface that it passed.
    pub(super) interface: &'a str,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) octets: &'a [u8],
    /// Messages that are missing before it.
    pub(super) missed: u64,
}

/// What has been written so far.
#[derive(Debug, Default)]
pub(super) struct Capture {
    packets: Packets,
    interfaces: Vec<String>,
}

impl Capture {
    /// The file's beginning.
    pub(super) fn begin() -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        body.extend_from_slice(&1_u16.to_le_bytes());
        body.extend_from_slice(&0_u16.to_le_bytes());
        // The section's length is not known.
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        let application = concat!("sip-proxy ", env!("CARGO_PKG_VERSION"));
        put_option(&mut body, option::APPLICATION, application.as_bytes());
        put_option(&mut body, option::END, &[]);
        block(block::SECTION, &body)
    }

    /// The blocks of one message.
    pub(super) fn write(&mut self, record: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let interface = self.interface(record.interface, &mut out);
        let is_stream = record.transport != "udp";
        let packets = self.packets.carry(is_stream, record.source, record.destination, record.octets);
        for (at, packet) in packets.iter().enumerate() {
            let missed = if at == 0 { record.missed } else { 0 };
            out.extend_from_slice(&packet_block(record, interface, packet, missed));
        }
        out
    }

    /// The number of an interface; a new one is described in `out`.
    fn interface(&mut self, name: &str, out: &mut Vec<u8>) -> u32 {
        let known = self.interfaces.iter().position(|known| known == name);
        let at = known.unwrap_or_else(|| {
            let mut body = Vec::new();
            body.extend_from_slice(&LINK_TYPE.to_le_bytes());
            // Reserved, and no limit to the length of packets.
            body.extend_from_slice(&[0; 6]);
            put_option(&mut body, option::INTERFACE_NAME, name.as_bytes());
            put_option(&mut body, option::END, &[]);
            out.extend_from_slice(&block(block::INTERFACE, &body));
            self.interfaces.push(name.to_owned());
            self.interfaces.len() - 1
        });
        u32::try_from(at).expect("the interfaces of a configuration have 16 bits")
    }
}

fn packet_block(record: &Record<'_>, interface: u32, packet: &[u8], missed: u64) -> Vec<u8> {
    let since = record.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    // Microseconds, the resolution where none is given; 64 bits have room until the year 586,000.
    let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    let length = u32::try_from(packet.len()).expect("a packet has at most 65,575 octets");
    let mut body = Vec::with_capacity(packet.len() + 80);
    for word in [interface, (micros >> 32) as u32, micros as u32, length, length] {
        body.extend_from_slice(&word.to_le_bytes());
    }
    body.extend_from_slice(packet);
    pad(&mut body);
    put_option(&mut body, option::COMMENT, record.transport.as_bytes());
    let direction = if record.is_incoming { 1_u32 } else { 2 };
    put_option(&mut body, option::FLAGS, &direction.to_le_bytes());
    if missed > 0 {
        put_option(&mut body, option::DROP_COUNT, &missed.to_le_bytes());
    }
    put_option(&mut body, option::END, &[]);
    block(block::PACKET, &body)
}

/// A block has its length before and behind.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 12).expect("a block holds one packet");
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), body, &length.to_le_bytes()].concat()
}

fn put_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).expect("names and numbers are short");
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(value);
    pad(out);
}

/// Everything begins at a multiple of four octets.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind and body of each block, whose lengths at both ends agree.
    fn blocks(mut octets: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let number = |octets: &[u8]| u32::from_le_bytes(octets[..4].try_into().unwrap());
        let mut found = Vec::new();
        while !octets.is_empty() {
            let (kind, length) = (number(octets), number(&octets[4..]) as usize);
            assert_eq!((length % 4, number(&octets[length - 4..]) as usize), (0, length));
            found.push((kind, octets[8..length - 4].to_vec()));
            octets = &octets[length..];
        }
        found
    }

    fn record<'a>(interface: &'a str, transport: &'a str, octets: &'a [u8], missed: u64) -> Record<'a> {
        Record {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(0x0001_0203_0405_0607),
            is_incoming: true,
            transport,
            interface,
            source: "192.0.2.7:5060".parse().unwrap(),
            destination: "192.0.2.1:5060".parse().unwrap(),
            octets,
            missed,
        }
    }

    #[test]
    fn an_interface_is_described_once_before_its_first_packet() {
        let mut capture = Capture::default();
        let mut file = Capture::begin();
        for (interface, transport) in [("lan", "udp"), ("wan", "tls"), ("lan", "tcp")] {
            file.extend(capture.write(&record(interface, transport, b"abc", 0)));
        }
        let blocks = blocks(&file);
        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        let (section, interface, packet) = (block::SECTION, block::INTERFACE, block::PACKET);
        assert_eq!(kinds, [section, interface, packet, interface, packet, packet]);
        assert_eq!(blocks[0].1[..4], [0x4d, 0x3c, 0x2b, 0x1a]);
        let numbers: Vec<_> = [2, 4, 5].map(|at: usize| blocks[at].1[0]).into();
        assert_eq!(numbers, [0, 1, 0]);
        assert_eq!(blocks[3].1[..16], *b"\x65\0\0\0\0\0\0\0\x02\0\x03\0wan\0");
    }

    #[test]
    fn a_packet_has_its_time_its_length_its_direction_and_what_was_missed_before_it() {
        let mut capture = Capture::default();
        let written = blocks(&capture.write(&record("lan", "udp", b"abc", 5)));
        let body = &written[1].1;
        assert_eq!(body[4..12], [3, 2, 1, 0, 7, 6, 5, 4]);
        let length = 20 + 8 + 3;
        assert_eq!((body[12], body[16], body[20]), (length, length, 0x45));
        let expected = b"\x01\0\x03\0udp\0\x02\0\x04\0\x01\0\0\0\x04\0\x08\0\x05\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(body[20 + 32..], *expected);
    }

    #[test]
    fn a_message_of_a_stream_that_is_too_long_for_a_packet_has_several() {
        let mut capture = Capture::default();
        let long = vec![b'x'; 150_000];
        let written = blocks(&capture.write(&record("lan", "tls", &long, 1)));
        assert_eq!(written.len(), 1 + 3);
        let has_drops = |body: &[u8]| body.windows(4).any(|octets| octets == b"\x04\0\x08\0");
        assert_eq!(
            written[1..].iter().map(|(_, body)| has_drops(body)).collect::<Vec<_>>(),
            [true, false, false]
        );
    }
}
