//! Framing: where messages begin and end in a stream (RFC 3261 §18.3), and the keep-alives between them
//! (RFC 5626 §4.4.1).
//!
//! The owner appends what it reads to a buffer and calls [`Framer::next`] until it answers `None`. What was
//! scanned once is not scanned again, so a message that comes in single octets costs what it costs in one piece.
//!
//! The rules by which lines and the end of the header section are found are those of [`Message::parse`], which
//! reads each message afterwards: two readings of one message would be a way to smuggle a second one in.
//!
//! Not here: time. Between messages the buffer is empty, so the owner can tell how long one has been on its way.

use bytes::{Buf as _, Bytes, BytesMut};

use super::fault::Fault;
use super::index::{Carriage, Message, MessageLimits};
use super::lexical::{decimal, is_token, trim};

/// The ping of a peer that keeps the connection alive.
const PING: &[u8; 4] = b"\r\n\r\n";

/// The largest header section that [`Message`] can index.
const INDEXABLE: usize = u16::MAX as usize - 4;

/// What was cut from the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The octets of one message, from its start line to the last octet of its body.
    Message(Bytes),
    /// A double CRLF between messages: a single CRLF is to be sent at once (RFC 5626 §5.4).
    Ping,
}

/// Why nothing more can be cut from the stream: where the next message begins is not known, so the connection ends.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Broken {
    /// What came is no SIP.
    #[error("not SIP")]
    NotSip,
    /// The message is too large or does not tell its length.
    #[error("{}", fault.response().1)]
    Refused {
        /// Its header section, as far as it is there: enough to answer a request.
        message: Message,
        /// What to answer with.
        fault: Fault,
    },
}

/// The state of one stream.
#[derive(Clone, Debug)]
pub struct Framer {
    limits: MessageLimits,
    /// How much of [`PING`] the latest octets between messages make up.
    ping: u8,
    progress: Progress,
}

/// How far the message at the front of the buffer is known.
#[derive(Clone, Copy, Debug)]
enum Progress {
    /// No line end before this offset ends the header section.
    Headers(usize),
    /// The header section is complete: the length of the whole message.
    Body(usize),
}

impl Framer {
    /// From now on, messages may have these sizes.
    pub const fn set_limits(&mut self, limits: MessageLimits) {
        self.limits = limits;
    }

    /// At the beginning of a stream.
    pub const fn new(limits: MessageLimits) -> Self {
        Self { limits, ping: 0, progress: Progress::Headers(0) }
    }

    /// Cuts what comes next from the front of `buffer`. `None`: it takes more octets; none are left in `buffer`
    /// unless a message has begun.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        if let Progress::Headers(scanned) = self.progress {
            if scanned == 0 && self.skip_line_breaks(buffer) {
                return Ok(Some(Frame::Ping));
            }
            let Some(&first) = buffer.first() else {
                return Ok(None);
            };
            if !is_token(first) {
                return Err(Broken::NotSip);
            }
            let limit = self.limits.header_bytes.min(INDEXABLE);
            match header_end(&buffer[..buffer.len().min(limit)], scanned) {
                Ok(end) => self.progress = Progress::Body(self.whole_length(buffer, end)?),
                Err(_) if buffer.len() >= limit => {
                    return Err(refusal(&buffer[..limit], self.limits, Fault::TooLarge));
                }
                Err(scanned) => {
                    self.progress = Progress::Headers(scanned);
                    return Ok(None);
                }
            }
        }
        match self.progress {
            Progress::Body(length) if buffer.len() >= length => {
                self.progress = Progress::Headers(0);
                Ok(Some(Frame::Message(cut(buffer, length))))
            }
            Progress::Body(_) | Progress::Headers(_) => Ok(None),
        }
    }

    /// Drops the CR and LF at the front; true where they complete a ping.
    fn skip_line_breaks(&mut self, buffer: &mut BytesMut) -> bool {
        let mut skipped = 0;
        let breaks = buffer.iter().take_while(|&&octet| matches!(octet, b'\r' | b'\n'));
        for &octet in breaks {
            skipped += 1;
            self.ping = match octet {
                _ if octet == PING[usize::from(self.ping)] => self.ping + 1,
                b'\r' => 1,
                _ => 0,
            };
            if usize::from(self.ping) == PING.len() {
                break;
            }
        }
        buffer.advance(skipped);
        let is_ping = usize::from(self.ping) == PING.len();
        if is_ping || !buffer.is_empty() {
            self.ping = 0;
        }
        is_ping
    }

    /// The length of the message whose header section ends at `header_end`.
    fn whole_length(&self, buffer: &[u8], header_end: usize) -> Result<usize, Broken> {
        let header = &buffer[..header_end];
        let length = match content_length(header) {
            Ok(body) => header_end.saturating_add(body),
            Err(fault) => return Err(refusal(header, self.limits, fault)),
        };
        if length > self.limits.message_bytes {
            return Err(refusal(header, self.limits, Fault::TooLarge));
        }
        Ok(length)
    }
}

/// Refuses the message that begins with `header`: its header section, or as much of it as there may be.
pub(in crate::protocol) fn refusal(header: &[u8], limits: MessageLimits, fault: Fault) -> Broken {
    match Message::parse(Bytes::copy_from_slice(header), Carriage::Stream, limits) {
        Ok(message) => Broken::Refused { message, fault },
        Err(_) => Broken::NotSip,
    }
}

/// Cuts the first `length` octets off. A buffer that holds nothing else is given away whole, so that nothing is
/// kept for a connection that waits.
pub(in crate::protocol) fn cut(buffer: &mut BytesMut, length: usize) -> Bytes {
    if buffer.len() == length { std::mem::take(buffer).freeze() } else { buffer.split_to(length).freeze() }
}

/// Where the header section ends, the empty line included; else the offset from which to look on.
pub(in crate::protocol) fn header_end(octets: &[u8], scanned: usize) -> Result<usize, usize> {
    for found in memchr::memchr_iter(b'\n', &octets[scanned..]) {
        let line_end = scanned + found;
        match &octets[line_end + 1..] {
            [b'\n', ..] => return Ok(line_end + 2),
            [b'\r', b'\n', ..] => return Ok(line_end + 3),
            [] | [b'\r'] => return Err(line_end),
            _ => {}
        }
    }
    Err(octets.len())
}

/// The Content-Length, which a message on a stream must have, and in one value only.
fn content_length(header_section: &[u8]) -> Result<usize, Fault> {
    let mut found = None;
    let mut rest = header_section;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = &rest[..=end];
        rest = &rest[end + 1..];
        let Some(start) = content_length_value(line) else {
            continue;
        };
        let folded = folded_lines(rest);
        let value = [&line[start..], &rest[..folded]].concat();
        rest = &rest[folded..];
        let length = decimal(trim(&value)).ok_or(Fault::ContentLength)? as usize;
        if found.is_some_and(|other| other != length) {
            return Err(Fault::ContentLength);
        }
        found = Some(length);
    }
    found.ok_or(Fault::NoContentLength)
}

/// Where the value begins, if this is the line of a Content-Length.
fn content_length_value(line: &[u8]) -> Option<usize> {
    if !matches!(line.first(), Some(b'C' | b'c' | b'L' | b'l')) {
        return None;
    }
    let colon = memchr::memchr(b':', line)?;
    let name_end = line[..colon].iter().rposition(|&c| c != b' ' && c != b'\t')? + 1;
    let name = &line[..name_end];
    (name.eq_ignore_ascii_case(b"Content-Length") || name.eq_ignore_ascii_case(b"l")).then_some(colon + 1)
}

/// The length of the continuation lines at the front (RFC 3261 §7.3.1).
fn folded_lines(octets: &[u8]) -> usize {
    let mut end = 0;
    while matches!(octets.get(end), Some(b' ' | b'\t')) {
        let Some(line_end) = memchr::memchr(b'\n', &octets[end..]) else {
            break;
        };
        end += line_end + 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: MessageLimits = MessageLimits { message_bytes: 2_000, header_bytes: 1_000 };

    /// Everything that comes out when `octets` come in pieces that end at `cuts`.
    fn run(octets: &[u8], cuts: &[usize]) -> (Vec<Frame>, Option<Broken>) {
        let mut framer = Framer::new(LIMITS);
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([octets.len()]) {
            buffer.extend_from_slice(&octets[start..end]);
            start = end;
            loop {
                match framer.next(&mut buffer) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(broken) => return (frames, Some(broken)),
                }
            }
        }
        (frames, None)
    }

    fn message(text: &str) -> Frame {
        Frame::Message(Bytes::copy_from_slice(text.as_bytes()))
    }

    const FIRST: &str = "MESSAGE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 5\r\n\r\n\r\n\r\nx";
    const SECOND: &str = "SIP/2.0 200 OK\r\nl : 0\r\n\r\n";
    const THIRD: &str = "OPTIONS sip:a@b SIP/2.0\r\nX: y\r\ncontent-LENGTH:\r\n 2 \r\nY: z\r\n\r\nab";

    #[test]
    fn messages_are_cut_where_their_content_length_says() {
        let stream = [FIRST, SECOND, THIRD].concat();
        let (frames, broken) = run(stream.as_bytes(), &[]);
        assert_eq!(frames, [message(FIRST), message(SECOND), message(THIRD)]);
        assert!(broken.is_none());
    }

    #[test]
    fn single_octets_give_the_same_messages() {
        let stream = ["\r\n", FIRST, "\r\n\r\n", SECOND, "\r\n\r\n\r\n", THIRD, "\r\n"].concat();
        let every: Vec<_> = (0..stream.len()).collect();
        let (frames, broken) = run(stream.as_bytes(), &every);
        assert_eq!(frames, [message(FIRST), Frame::Ping, message(SECOND), Frame::Ping, message(THIRD)]);
        assert!(broken.is_none());
    }

    #[test]
    fn what_was_scanned_is_not_scanned_again() {
        let stream = format!("OPTIONS sip:a SIP/2.0\r\n{}", "X: y\r\n".repeat(150));
        let mut framer = Framer::new(LIMITS);
        let mut buffer = BytesMut::new();
        for octet in stream.bytes() {
            buffer.extend_from_slice(&[octet]);
            assert_eq!(framer.next(&mut buffer).unwrap(), None);
            let Progress::Headers(scanned) = framer.progress else { panic!("no end has come") };
            assert!(scanned + 2 >= buffer.len());
        }
    }

    #[test]
    fn a_ping_is_two_line_breaks_between_messages() {
        let table: [(&str, usize); 8] = [
            ("\r\n\r\n", 1),
            ("\r\n", 0),
            ("\r\n\r\n\r\n\r\n", 2),
            ("\n\n\n\n", 0),
            ("\r\r\n\r\n", 1),
            ("\r\n\r\r\n\r\n", 1),
            ("\r\n\r\nSIP/2.0 200 OK\r\nl:0\r\n\r\n", 1),
            ("\r\nSIP/2.0 200 OK\r\nl:0\r\n\r\n\r\n", 0),
        ];
        for (text, pings) in table {
            let (frames, broken) = run(text.as_bytes(), &[]);
            assert_eq!(frames.iter().filter(|frame| **frame == Frame::Ping).count(), pings, "{text:?}");
            assert!(broken.is_none());
        }
    }

    #[test]
    fn nothing_is_kept_between_messages() {
        let mut framer = Framer::new(LIMITS);
        let mut buffer = BytesMut::from(FIRST);
        assert!(framer.next(&mut buffer).unwrap().is_some());
        assert_eq!((buffer.len(), buffer.capacity()), (0, 0));
        buffer.extend_from_slice(b"\r");
        assert_eq!(framer.next(&mut buffer).unwrap(), None);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_has_no_length_is_refused_with_its_header_section() {
        let table = [
            ("OPTIONS sip:a SIP/2.0\r\nCall-ID: 7\r\n\r\n", Fault::NoContentLength),
            ("OPTIONS sip:a SIP/2.0\r\n Content-Length: 0\r\nCall-ID: 7\r\n\r\n", Fault::NoContentLength),
            (
                "OPTIONS sip:a SIP/2.0\r\nX:\r\n Content-Length: 0\r\nCall-ID: 7\r\n\r\n",
                Fault::NoContentLength,
            ),
            ("OPTIONS sip:a SIP/2.0\r\nCall-ID: 7\r\nContent-Length: x\r\n\r\n", Fault::ContentLength),
            ("OPTIONS sip:a SIP/2.0\r\nCall-ID: 7\r\nContent-Length: -1\r\n\r\n", Fault::ContentLength),
            ("OPTIONS sip:a SIP/2.0\r\nCall-ID: 7\r\nContent-Length:\r\n\r\n", Fault::ContentLength),
            ("OPTIONS sip:a SIP/2.0\r\nCall-ID: 7\r\nContent-Length: 0\r\n 1\r\n\r\n", Fault::ContentLength),
            (
                "OPTIONS sip:a SIP/2.0\r\nCall-ID: 7\r\nl: 0\r\nContent-Length: 1\r\n\r\nx",
                Fault::ContentLength,
            ),
            ("OPTIONS sip:a SIP/2.0\r\nCall-ID: 7\r\nl: 99999999999\r\n\r\n", Fault::ContentLength),
            ("OPTIONS sip:a SIP/2.0\r\nCall-ID: 7\r\nl: 4294967295\r\n\r\n", Fault::TooLarge),
            ("OPTIONS sip:a SIP/2.0\r\nCall-ID: 7\r\nl: 1990\r\n\r\n", Fault::TooLarge),
        ];
        for (text, expected) in table {
            match run(text.as_bytes(), &[]).1 {
                Some(Broken::Refused { message, fault }) => {
                    assert_eq!((fault, message.call_id()), (expected, &b"7"[..]), "{text:?}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_header_section_without_end_is_refused_at_the_limit_and_not_before() {
        let text = format!("OPTIONS sip:a SIP/2.0\r\nCall-ID: 7\r\nX: {}", "y".repeat(2_000));
        assert!(run(&text.as_bytes()[..999], &[]).1.is_none());
        for cuts in [&[][..], &[10, 999]] {
            let broken = run(&text.as_bytes()[..1_000], cuts).1;
            assert!(matches!(broken, Some(Broken::Refused { fault: Fault::TooLarge, .. })), "{broken:?}");
        }
        let fits = format!("OPTIONS sip:a SIP/2.0\r\nl: 0\r\nX: {}\r\n\r\n", "y".repeat(1_000 - 36));
        assert_eq!(fits.len(), 1_000);
        assert_eq!(run(fits.as_bytes(), &[]).0, [message(&fits)]);
    }

    #[test]
    fn what_is_no_sip_ends_the_stream() {
        for text in
            ["\x16\x03\x01\x02\x00", "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", " x", "<xml/>", "\0"]
        {
            assert!(matches!(run(text.as_bytes(), &[]).1, Some(Broken::NotSip)), "{text:?}");
        }
    }

    #[test]
    fn bare_line_feeds_end_lines_as_they_do_for_the_index() {
        let text = "OPTIONS sip:a SIP/2.0\nCall-ID: 7\nContent-Length: 2\n\nab";
        let (frames, _) = run(text.as_bytes(), &[]);
        assert_eq!(frames, [message(text)]);
        let read = Message::parse(Bytes::from_static(text.as_bytes()), Carriage::Stream, LIMITS).unwrap();
        assert_eq!((read.fault(), read.body()), (Some(Fault::BareLineBreak), &b"ab"[..]));
    }

    fn arbitrary_stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(FIRST.to_owned()),
            Just(SECOND.to_owned()),
            Just(THIRD.to_owned()),
            "[\r\n]{0,5}",
            "(\r|\n|\r\n|l:|Content-Length :| |\t|1|0|a:b|SIP/2.0 200 OK\r\n|X){0,12}",
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn a_split_anywhere_gives_the_same_messages(
            stream in arbitrary_stream(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let (whole, broken) = run(&stream, &[]);
            let (split, also) = run(&stream, &cuts);
            prop_assert_eq!(whole, split);
            prop_assert_eq!(broken.map(|b| b.to_string()), also.map(|b| b.to_string()));
        }

        #[test]
        fn the_index_reads_a_frame_to_its_last_octet(stream in arbitrary_stream()) {
            for frame in run(&stream, &[]).0 {
                let Frame::Message(bytes) = frame else { continue };
                if let Ok(message) = Message::parse(bytes.clone(), Carriage::Stream, LIMITS) {
                    prop_assert_eq!(message.bytes(), &bytes);
                    let lost = [Fault::NoContentLength, Fault::ContentLength, Fault::BodyTooShort, Fault::NoEmptyLine];
                    prop_assert!(message.fault().is_none_or(|fault| !lost.contains(&fault)));
                }
            }
        }
    }
}
