use std::io::{Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocket};

use super::*;

const LIMITS: MessageLimits = MessageLimits { message_bytes: 2_000, header_bytes: 200 };
const SIP: &str = "OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 7\r\n\r\n";
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// Without the bit of the last fragment.
const FIRST: u8 = 0x01;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;

/// A frame of a client, written by hand. `first` is its first octet.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut octets = vec![first];
    match payload.len() {
        0..126 => octets.push(0x80 | payload.len() as u8),
        length @ 126..65_536 => {
            octets.push(0x80 | 126);
            octets.extend((length as u16).to_be_bytes());
        }
        length => {
            octets.push(0x80 | 127);
            octets.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [0x12, 0x00, 0xff, 0x5a];
    octets.extend(mask);
    octets.extend(payload.iter().enumerate().map(|(at, octet)| octet ^ mask[at % 4]));
    octets
}

/// Everything that comes out when `octets` come in pieces that end at `cuts`.
fn run(octets: &[u8], cuts: &[usize]) -> (Vec<Event>, Option<Broken>) {
    let mut framer = Framer::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut events = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([octets.len()]) {
        buffer.extend_from_slice(&octets[start..end]);
        start = end;
        loop {
            match framer.next(&mut buffer) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(broken) => return (events, Some(broken)),
            }
        }
    }
    (events, None)
}

fn message(octets: impl AsRef<[u8]>) -> Event {
    Event::Message(Bytes::copy_from_slice(octets.as_ref()))
}

fn answer(octets: &'static [u8]) -> Event {
    Event::Answer(Bytes::from_static(octets))
}

/// The code of a close frame of ours.
fn code(close: &[u8]) -> Option<u16> {
    match close {
        [0x88, 0] => None,
        [0x88, 2, a, b] => Some(u16::from_be_bytes([*a, *b])),
        _ => panic!("{close:?} is no close frame"),
    }
}

#[test]
fn text_binary_and_fragments_are_messages_however_they_are_cut() {
    let stream = [
        frame(TEXT, SIP),
        frame(BINARY, [SIP.as_bytes(), b"\xff\0"].concat()),
        frame(FIRST, &SIP[..5]),
        frame(PING, "are you there?"),
        frame(MORE, ""),
        frame(MORE, &SIP[5..30]),
        frame(PONG, "yes"),
        frame(LAST, &SIP[30..]),
        frame(TEXT, format!("{SIP}{}", "\u{fc}".repeat(200))),
    ]
    .concat();
    let expected = [
        message(SIP),
        message([SIP.as_bytes(), b"\xff\0"].concat()),
        answer(b"\x8a\x0eare you there?"),
        message(SIP),
        message(format!("{SIP}{}", "\u{fc}".repeat(200))),
    ];
    let every: Vec<_> = (0..stream.len()).collect();
    for cuts in [&[][..], &every, &[1, 2, 3, 50, 90, 200]] {
        let (events, broken) = run(&stream, cuts);
        assert_eq!(events, expected);
        assert!(broken.is_none());
    }
}

#[test]
fn nothing_is_kept_between_messages() {
    let mut framer = Framer::new(LIMITS);
    let mut buffer = BytesMut::from(&frame(FIRST, &SIP[..9])[..]);
    assert_eq!(framer.next(&mut buffer).unwrap(), None);
    assert!(framer.is_inside_message() && buffer.is_empty());
    buffer.extend_from_slice(&frame(LAST, &SIP[9..]));
    assert_eq!(framer.next(&mut buffer).unwrap(), Some(message(SIP)));
    assert!(!framer.is_inside_message() && buffer.is_empty());
    assert_eq!((framer.fragments.capacity(), buffer.capacity()), (0, 0));
}

#[test]
fn line_breaks_are_keep_alives() {
    let pong = || vec![answer(b"\x81\x02\r\n")];
    let table = [
        ("\r\n\r\n", pong()),
        ("\r\n", vec![]),
        ("", vec![]),
        ("\n\n\n\n", vec![]),
        ("\r\n\r\n\r\n\r\n", pong()),
        ("\r\n\r\nx", vec![message("\r\n\r\nx")]),
    ];
    for (text, expected) in table {
        for kind in [TEXT, BINARY] {
            assert_eq!(run(&frame(kind, text), &[]).0, expected, "{text:?}");
        }
    }
    let fragmented = [frame(FIRST, "\r\n"), frame(LAST, "\r\n")].concat();
    assert_eq!(run(&fragmented, &[]).0, pong());
}

#[test]
fn a_ping_is_answered_with_what_it_brought() {
    let long = vec![b'x'; CONTROL_BYTES];
    let stream = [frame(PING, ""), frame(PING, &long), frame(PONG, &long)].concat();
    let (events, broken) = run(&stream, &[]);
    assert_eq!(events[0], answer(b"\x8a\0"));
    assert_eq!(events[1], Event::Answer([&b"\x8a\x7d"[..], &long].concat().into()));
    assert!(events.len() == 2 && broken.is_none());
}

#[test]
fn what_is_no_web_socket_ends_the_connection_with_a_code_that_says_so() {
    let mut bare = frame(TEXT, SIP);
    bare[1] &= 0x7f;
    let long_control = frame(PING, [b'x'; 126]);
    let table = [
        (bare, Violation::NotMasked, 1002),
        (frame(TEXT | 0x40, SIP), Violation::ReservedBits, 1002),
        (frame(0x83, SIP), Violation::Opcode, 1002),
        (frame(0x8f, ""), Violation::Opcode, 1002),
        (vec![TEXT, 0x80 | 126, 0, 1, 0, 0, 0, 0, b'x'], Violation::Length, 1002),
        (vec![TEXT, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], Violation::Length, 1002),
        (long_control, Violation::Control, 1002),
        (frame(PING & 0x7f, ""), Violation::Control, 1002),
        (frame(LAST, SIP), Violation::Order, 1002),
        (frame(MORE, SIP), Violation::Order, 1002),
        ([frame(FIRST, SIP), frame(TEXT, SIP)].concat(), Violation::Order, 1002),
        (frame(TEXT, b"\xff"), Violation::NotUtf8, 1007),
        ([frame(FIRST, b"\xc3"), frame(LAST, b"x")].concat(), Violation::NotUtf8, 1007),
        (frame(CLOSE, b"\x03"), Violation::Close, 1002),
        (frame(CLOSE, 1005u16.to_be_bytes()), Violation::Close, 1002),
        (frame(CLOSE, 65_000u16.to_be_bytes()), Violation::Close, 1002),
        (frame(CLOSE, b"\x03\xe8\xff"), Violation::NotUtf8, 1007),
        (frame(BINARY, [0; 3_000]), Violation::TooLarge, 1009),
    ];
    for (octets, expected, expected_code) in table {
        let before = frame(TEXT, SIP);
        let (events, broken) = run(&[before, octets, frame(TEXT, SIP)].concat(), &[]);
        assert_eq!(events, [message(SIP)], "{expected:?}");
        let broken = broken.unwrap_or_else(|| panic!("{expected:?} goes through"));
        assert!(matches!(&broken, Broken::Violation(found) if *found == expected), "{broken:?}");
        assert_eq!(code(&broken.close()), Some(expected_code), "{expected:?}");
    }
}

#[test]
fn text_may_be_cut_inside_a_character() {
    let stream = [frame(FIRST, b"\xc3"), frame(LAST, b"\xbc")].concat();
    assert_eq!(run(&stream, &[]).0, [message("\u{fc}")]);
}

#[test]
fn a_close_is_answered_with_its_code() {
    for (payload, expected) in [
        (&b""[..], None),
        (b"\x03\xe8", Some(1000)),
        (b"\x03\xe9gone", Some(1001)),
        (b"\x0f\xa0", Some(4000)),
    ] {
        let (events, broken) = run(&[frame(CLOSE, payload), frame(TEXT, SIP)].concat(), &[]);
        assert!(events.is_empty());
        let broken = broken.unwrap();
        assert!(matches!(broken, Broken::Closed(_)), "{broken:?}");
        assert_eq!(code(&broken.close()), expected);
    }
}

#[test]
fn what_is_too_large_is_refused_with_its_header_section_and_no_later_than_that_is_there() {
    let body = "x".repeat(3_000);
    let whole = format!("{SIP}{body}");
    let (first, rest) = whole.split_at(30);
    for stream in [
        frame(TEXT, &whole),
        [frame(FIRST, first), frame(LAST, rest)].concat(),
        [frame(FIRST, &whole[..1_500]), frame(PING, ""), frame(MORE, &whole[1_500..])].concat(),
    ] {
        let mut framer = Framer::new(LIMITS);
        let mut buffer = BytesMut::new();
        let mut come = 0;
        let broken = loop {
            buffer.extend_from_slice(&stream[come..=come]);
            come += 1;
            match framer.next(&mut buffer) {
                Ok(_) => assert!(buffer.len() + framer.fragments.len() <= LIMITS.message_bytes),
                Err(broken) => break broken,
            }
        };
        assert_eq!(code(&broken.close()), Some(1009));
        let Broken::Sip(sip::Broken::Refused { message, fault }) = broken else { panic!("{broken:?}") };
        assert_eq!((message.call_id(), fault), (&b"7"[..], Fault::TooLarge));
        assert!(come < 1_600);
    }
}

#[test]
fn the_largest_message_passes_in_any_number_of_fragments() {
    let whole = format!("{SIP}{}", "x".repeat(LIMITS.message_bytes - SIP.len()));
    let mut fragments = frame(FIRST, &whole[..1]);
    whole.as_bytes()[1..].iter().for_each(|octet| fragments.extend(frame(MORE, [*octet])));
    fragments.extend(frame(LAST, ""));
    for stream in [frame(TEXT, &whole), fragments.clone()] {
        assert_eq!(run(&stream, &[]).0, [message(&whole)]);
    }
    let before_the_end = fragments.len() - frame(LAST, "").len();
    let one_more = [&fragments[..before_the_end], &frame(LAST, "x")].concat();
    assert!(matches!(run(&one_more, &[]).1, Some(Broken::Sip(sip::Broken::Refused { .. }))));
    // A length that no buffer can have is only too large.
    let endless = [&[TEXT, 0x80 | 127][..], &[0xff; 8], &[0; 4], &[b'x'; 200]].concat();
    assert!(matches!(run(&endless, &[]).1, Some(Broken::Violation(Violation::TooLarge))));
}

#[test]
fn what_leaves_is_text_where_it_is_utf8_else_binary() {
    for length in [0, 1, 125, 126, 65_535, 65_536] {
        for (octet, kind) in [(b'x', TEXT), (0xff, BINARY)] {
            let octets = vec![octet; length];
            let wrapped = wrap(Bytes::from(octets.clone()));
            let mut cursor = Cursor::new(&wrapped[..]);
            let (header, payload) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert_eq!((wrapped[0], payload), (if length == 0 { TEXT } else { kind }, length as u64));
            assert!(header.mask.is_none());
            assert_eq!(wrapped[cursor.position() as usize..], octets);
        }
    }
}

#[test]
fn the_mask_comes_off_octet_by_octet() {
    for length in 0..40 {
        let octets: Vec<u8> = (0..length).collect();
        let masked = frame(BINARY, &octets);
        let mut payload = masked[6..].to_vec();
        unmask(&mut payload, masked[2..6].try_into().unwrap());
        assert_eq!(payload, octets);
    }
}

/// The library's own server, as the judge: the messages that it reads.
fn judged(stream: &[u8]) -> Vec<Vec<u8>> {
    struct Half<'a>(Cursor<&'a [u8]>);
    impl Read for Half<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Half<'_> {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            Ok(octets.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut socket = WebSocket::from_raw_socket(Half(Cursor::new(stream)), Role::Server, None);
    let mut messages = Vec::new();
    while let Ok(message) = socket.read() {
        if message.is_text() || message.is_binary() {
            messages.push(message.into_data().to_vec());
        }
    }
    messages
}

/// Messages in frames, as a client may send them: with pings in between.
fn arbitrary_stream() -> impl Strategy<Value = Vec<u8>> {
    let message =
        ("[a-z\u{fc}]{1,300}", prop::collection::vec(any::<prop::sample::Index>(), 0..4), any::<bool>());
    let frames = message.prop_map(|(text, cuts, is_text)| {
        let kind = if is_text { 1 } else { 2 };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(text.len());
        let (mut stream, mut start) = (Vec::new(), 0);
        for (at, &end) in cuts.iter().enumerate() {
            let first = if at == 0 { kind } else { MORE };
            let last = if at + 1 == cuts.len() { LAST } else { 0 };
            stream.extend(frame(first | last, &text.as_bytes()[start..end]));
            start = end;
            if last == 0 && at % 2 == 0 {
                stream.extend(frame(PING, [at as u8]));
            }
        }
        stream
    });
    prop::collection::vec(frames, 0..6).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn the_messages_are_those_that_the_library_reads(stream in arbitrary_stream()) {
        let (events, broken) = run(&stream, &[]);
        prop_assert!(broken.is_none());
        let messages = events.into_iter().filter_map(|event| match event {
            Event::Message(octets) => Some(octets.to_vec()),
            Event::Answer(_) => None,
        });
        prop_assert_eq!(messages.collect::<Vec<_>>(), judged(&stream));
    }

    #[test]
    fn damage_and_splits_anywhere_never_panic_and_give_the_same(
        mut stream in arbitrary_stream(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        for (at, octet) in damage.iter().filter(|_| !stream.is_empty()).collect::<Vec<_>>() {
            let at = at.index(stream.len());
            stream[at] = *octet;
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let (whole, broken) = run(&stream, &[]);
        let (split, also) = run(&stream, &cuts);
        prop_assert_eq!(whole, split);
        prop_assert_eq!(broken.map(|b| b.close()), also.map(|b| b.close()));
    }
}
