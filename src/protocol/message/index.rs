//! The index: one pass over the octets that notes where each header field lies (RFC 3261 §7).
//!
//! Offsets into the header section are 16 bits wide, so that the index of a usual message is a few cache lines;
//! the header section is therefore at most 65,535 octets long, which `limits.maximum_header_bytes` lowers.
//!
//! A message with a fault is still indexed as far as it can be, so that it can be refused with a response that
//! reaches its sender. Only what is no SIP at all, or has no end to its header section, is [`Unreadable`].

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::fault::{Fault, Unreadable};
use super::lexical::{Class, CommaList, decimal, trim};
use super::name::Name;
use super::places::Places;
use super::start_line::{self, FirstLine, Method, StartLine};

/// How the message came: that decides what its Content-Length means (RFC 3261 §18.3, RFC 7118 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// One datagram: octets after the body are discarded, a body cut short is a fault.
    Datagram,
    /// A stream: the buffer is exactly the message, cut by its Content-Length, which must be there.
    Stream,
    /// One WebSocket message, which may hold no second SIP message: a body cut short is a fault, and so is what
    /// stands behind the body, but for line breaks.
    WebSocket,
}

/// Sizes past which a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Of the whole message, in octets.
    pub message_bytes: usize,
    /// Of its header section with the start line, in octets; at most 65,535.
    pub header_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    name: Name,
    /// Where the line begins, its name that is.
    start: u16,
    value_start: u16,
    value_end: u16,
}

/// A message: its octets and the index into them. It goes from hand to hand as a pointer; a clone copies the index.
#[derive(Clone, Debug)]
pub struct Message(Box<Index>);

#[derive(Clone, Debug)]
struct Index {
    bytes: Bytes,
    start_line: StartLine,
    rows: SmallVec<[Row; 20]>,
    /// Behind the last header line: where the empty line begins.
    rows_end: u16,
    body_start: u32,
    fault: Option<Fault>,
    places: Places,
}

impl Message {
    /// Reads `bytes`, which hold one message; line breaks before it are skipped (§7.5).
    pub fn parse(bytes: Bytes, carriage: Carriage, limits: MessageLimits) -> Result<Self, Unreadable> {
        let skipped = bytes.iter().position(|&c| c != b'\r' && c != b'\n').ok_or(Unreadable::Empty)?;
        let bytes = if skipped == 0 { bytes } else { bytes.slice(skipped..) };
        let header_limit = limits.header_bytes.min(usize::from(u16::MAX) - 4);
        let mut scan = Scan { bytes: &bytes, limit: header_limit.min(bytes.len()), at: 0, fault: None };
        if bytes.len() > limits.message_bytes {
            scan.note(Fault::TooLarge);
        }
        let line = scan.line().ok_or(Unreadable::NotSip)?;
        let start_line = match start_line::parse(&bytes[line.start..line.end]) {
            FirstLine::Good(start_line) => start_line,
            FirstLine::Faulty(start_line, fault) => {
                scan.note(fault);
                start_line
            }
            FirstLine::NotSip => return Err(Unreadable::NotSip),
        };
        let (rows, rows_end, body_start) = scan.rows();
        let fault = scan.fault;
        let places = Places::default();
        let index = Index { start_line, rows, rows_end, body_start, fault, places, bytes };
        let mut message = Self(Box::new(index));
        message.check_repeats();
        message.cut_body(carriage);
        Ok(message)
    }

    fn check_repeats(&mut self) {
        let mut seen = 0u64;
        for row in &self.0.rows {
            let bit = 1u64 << row.name as u8;
            let once = matches!(
                row.name,
                Name::From
                    | Name::To
                    | Name::CallId
                    | Name::CSeq
                    | Name::MaxForwards
                    | Name::MaxBreadth
                    | Name::Expires
            );
            if once && seen & bit != 0 {
                self.0.fault.get_or_insert(Fault::Repeated(row.name));
            }
            seen |= bit;
        }
    }

    /// Applies Content-Length (§18.3, §20.14).
    fn cut_body(&mut self, carriage: Carriage) {
        let available = self.0.bytes.len() - self.0.body_start as usize;
        let length = match self.content_length() {
            Ok(length) => length,
            Err(fault) => {
                self.0.fault.get_or_insert(fault);
                return;
            }
        };
        match (length, carriage) {
            (Some(length), _) if length > available => {
                self.0.fault.get_or_insert(Fault::BodyTooShort);
            }
            (Some(length), _) => {
                let is_line_break = |c: &u8| matches!(c, b'\r' | b'\n');
                if carriage == Carriage::WebSocket && !self.body()[length..].iter().all(is_line_break) {
                    self.0.fault.get_or_insert(Fault::BodyTooLong);
                }
                self.0.bytes.truncate(self.0.body_start as usize + length);
            }
            (None, Carriage::Stream) => {
                self.0.fault.get_or_insert(Fault::NoContentLength);
            }
            (None, Carriage::Datagram | Carriage::WebSocket) => {}
        }
    }

    /// The Content-Length; an error where there are several that differ, or one that is no number.
    fn content_length(&self) -> Result<Option<usize>, Fault> {
        let mut found = None;
        for row in self.rows(Name::ContentLength) {
            let length = decimal(row).ok_or(Fault::ContentLength)? as usize;
            if found.is_some_and(|other| other != length) {
                return Err(Fault::ContentLength);
            }
            found = Some(length);
        }
        Ok(found)
    }

    /// All octets.
    pub const fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// What the message is to be refused for, where it is faulty in itself.
    pub const fn fault(&self) -> Option<Fault> {
        self.0.fault
    }

    /// The first line.
    pub const fn start_line(&self) -> StartLine {
        self.0.start_line
    }

    /// What has been read of it.
    pub(super) const fn places(&self) -> &Places {
        &self.0.places
    }

    /// The method of a request; `None` for a response.
    pub const fn method(&self) -> Option<Method> {
        match self.0.start_line {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => None,
        }
    }

    /// The status code of a response; `None` for a request.
    pub const fn status(&self) -> Option<u16> {
        match self.0.start_line {
            StartLine::Request { .. } => None,
            StartLine::Response { status, .. } => Some(status),
        }
    }

    /// The octets of the method; of a response, empty.
    pub fn method_token(&self) -> &[u8] {
        match self.0.start_line {
            StartLine::Request { method_end, .. } => &self.0.bytes[..usize::from(method_end)],
            StartLine::Response { .. } => b"",
        }
    }

    /// The Request-URI; of a response, empty.
    pub fn request_uri(&self) -> &[u8] {
        &self.0.bytes[self.request_uri_span()]
    }

    /// Where the Request-URI lies.
    pub fn request_uri_span(&self) -> Range<usize> {
        match self.0.start_line {
            StartLine::Request { uri_start, uri_end, .. } => usize::from(uri_start)..usize::from(uri_end),
            StartLine::Response { .. } => 0..0,
        }
    }

    /// The value of the first row with this name, trimmed, as written: a comma list is not split.
    pub fn row(&self, name: Name) -> Option<&[u8]> {
        self.rows(name).next()
    }

    /// The values of all rows with this name, in their order.
    pub fn rows(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.0.rows.iter().filter(move |row| row.name == name).map(|row| self.value_of(row))
    }

    /// All values of a header that takes comma-separated lists, across its rows.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.rows(name).flat_map(CommaList::new)
    }

    /// Every row: name, octets of the name, value.
    pub fn all_rows(&self) -> impl Iterator<Item = (Name, &[u8], &[u8])> {
        self.0.rows.iter().map(|row| {
            let name = &self.0.bytes[usize::from(row.start)..];
            let colon = memchr::memchr(b':', name).unwrap_or(0);
            (row.name, trim(&name[..colon]), self.value_of(row))
        })
    }

    /// Call-ID, or nothing.
    pub fn call_id(&self) -> &[u8] {
        self.row(Name::CallId).unwrap_or_default()
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.0.bytes[self.0.body_start as usize..]
    }

    /// Where the first line of a header with this name begins.
    pub fn first_row_start(&self, name: Name) -> Option<usize> {
        self.0.rows.iter().find(|row| row.name == name).map(|row| usize::from(row.start))
    }

    /// Where the first header line begins, or the empty line where there is none.
    pub fn header_start(&self) -> usize {
        usize::from(self.0.rows.first().map_or(self.0.rows_end, |row| row.start))
    }

    /// Where the empty line begins: the place behind the last header line.
    pub const fn header_end(&self) -> usize {
        self.0.rows_end as usize
    }

    /// The lines, CRLF included, of every row with this name.
    pub fn row_spans(&self, name: Name) -> impl Iterator<Item = Range<usize>> {
        self.0.rows.iter().enumerate().filter(move |(_, row)| row.name == name).map(|(at, row)| {
            let end = self.0.rows.get(at + 1).map_or(self.0.rows_end, |next| next.start);
            usize::from(row.start)..usize::from(end)
        })
    }

    /// Where `part`, a slice of this message's octets, lies in them.
    ///
    /// # Panics
    /// If `part` is not one of them: an error of ours.
    pub fn span_of(&self, part: &[u8]) -> Range<usize> {
        let start = (part.as_ptr() as usize).wrapping_sub(self.0.bytes.as_ptr() as usize);
        assert!(
            start <= self.0.bytes.len() && part.len() <= self.0.bytes.len() - start,
            "a slice of this message"
        );
        start..start + part.len()
    }

    fn value_of(&self, row: &Row) -> &[u8] {
        &self.0.bytes[usize::from(row.value_start)..usize::from(row.value_end)]
    }
}

/// The pass over the header section.
struct Scan<'a> {
    bytes: &'a [u8],
    limit: usize,
    at: usize,
    fault: Option<Fault>,
}

impl Scan<'_> {
    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// The next line without its CRLF, continuation lines included (§7.3.1). `None` at the end of the octets or
    /// of the limit.
    fn line(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let mut from = start;
        loop {
            let found = memchr::memchr2(b'\r', b'\n', &self.bytes[from..self.limit])? + from;
            if self.bytes[found] == b'\n' || self.bytes.get(found + 1) != Some(&b'\n') {
                self.note(Fault::BareLineBreak);
                if self.bytes[found] == b'\r' {
                    from = found + 1;
                    continue;
                }
            }
            let next = found + if self.bytes[found] == b'\r' { 2 } else { 1 };
            // The limit may lie between the CR and its LF.
            if next > self.limit {
                return None;
            }
            let is_folded = matches!(self.bytes.get(next), Some(b' ' | b'\t')) && found > start && start > 0;
            if is_folded {
                from = next;
                continue;
            }
            self.at = next;
            return Some(start..found);
        }
    }

    fn rows(&mut self) -> (SmallVec<[Row; 20]>, u16, u32) {
        let mut rows = SmallVec::new();
        loop {
            let before = self.at;
            let Some(line) = self.line() else {
                let too_long = self.limit < self.bytes.len();
                self.note(if too_long { Fault::TooLarge } else { Fault::NoEmptyLine });
                // What is left is no whole line: neither header nor body.
                return (rows, before as u16, self.bytes.len() as u32);
            };
            if line.is_empty() {
                return (rows, before as u16, self.at as u32);
            }
            match parse_row(&self.bytes[line.clone()], line.start) {
                Some(row) => rows.push(row),
                None => self.note(Fault::HeaderLine),
            }
        }
    }
}

fn parse_row(line: &[u8], start: usize) -> Option<Row> {
    let (name, mut rest) = line.split_at(Class::TOKEN.run(line));
    // White space may stand between the name and its colon, not before the name (§7.3.1).
    while let [b' ' | b'\t', behind @ ..] = rest {
        rest = behind;
    }
    let value = trim(rest.strip_prefix(b":").filter(|_| !name.is_empty())?);
    let value_start = if value.is_empty() {
        start + line.len()
    } else {
        start + (value.as_ptr() as usize - line.as_ptr() as usize)
    };
    Some(Row {
        name: Name::parse(name),
        start: start as u16,
        value_start: value_start as u16,
        value_end: (value_start + value.len()) as u16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MessageLimits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };

    fn read(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), Carriage::Datagram, LIMITS).unwrap()
    }

    #[test]
    fn folding_case_compact_names_and_white_space_before_the_colon() {
        let message = read(
            "MESSAGE sip:bob@example.org SIP/2.0\r\nv : SIP/2.0/UDP a;branch=z9hG4bK1,\r\n SIP/2.0/TCP b\r\n\
             tO:\t<sip:bob@example.org>\r\nsubject:\r\nX-Odd: \u{fc}\r\n\r\nbody",
        );
        assert_eq!(message.fault(), None);
        assert_eq!(message.method(), Some(Method::Message));
        assert_eq!(message.request_uri(), b"sip:bob@example.org");
        assert_eq!(
            message.values(Name::Via).collect::<Vec<_>>(),
            [&b"SIP/2.0/UDP a;branch=z9hG4bK1"[..], b"SIP/2.0/TCP b"]
        );
        assert_eq!(message.row(Name::To), Some(&b"<sip:bob@example.org>"[..]));
        assert_eq!(message.all_rows().count(), 4);
        assert_eq!(message.body(), b"body");
        let via = message.row_spans(Name::Via).next().unwrap();
        assert!(message.bytes()[via].ends_with(b"TCP b\r\n"));
    }

    #[test]
    fn faults_are_named_and_the_rest_is_indexed() {
        let table = [
            ("MESSAGE  sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n", Fault::RequestLine),
            ("MESSAGE sip:a@b SIP/2.0 \r\nCall-ID: 1\r\n\r\n", Fault::RequestLine),
            ("MESSAGE sip:a@b SIP/7.0\r\nCall-ID: 1\r\n\r\n", Fault::Version),
            ("MESSAGE sip:a@b SIP/2.0\r\nno colon\r\nCall-ID: 1\r\n\r\n", Fault::HeaderLine),
            ("MESSAGE sip:a@b SIP/2.0\r\nb\u{e4}d: 1\r\nCall-ID: 1\r\n\r\n", Fault::HeaderLine),
            ("MESSAGE sip:a@b SIP/2.0\nCall-ID: 1\r\n\r\n", Fault::BareLineBreak),
            ("MESSAGE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nx: a\rb\r\n\r\n", Fault::BareLineBreak),
            ("MESSAGE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n", Fault::NoEmptyLine),
            ("MESSAGE sip:a@b SIP/2.0\r\nCall-ID: 1\r\ni: 2\r\n\r\n", Fault::Repeated(Name::CallId)),
            ("MESSAGE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nl: -1\r\n\r\n", Fault::ContentLength),
            (
                "MESSAGE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nl: 1\r\nContent-Length: 2\r\n\r\nab",
                Fault::ContentLength,
            ),
            (
                "MESSAGE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nl: 99999999999999999999\r\n\r\nab",
                Fault::ContentLength,
            ),
            ("MESSAGE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nl: 3\r\n\r\nab", Fault::BodyTooShort),
        ];
        for (text, fault) in table {
            let message = read(text);
            assert_eq!(message.fault(), Some(fault), "{text:?}");
            assert_eq!(message.call_id(), b"1", "{text:?}");
            assert!((400..=513).contains(&fault.response().0));
        }
    }

    #[test]
    fn what_is_no_sip_is_unreadable() {
        for text in [
            "",
            "\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "SIP/2.0 99 x\r\n\r\n",
            "SIP/2.0 200\r\n\r\n",
            "x",
            "a b",
        ] {
            let parsed = Message::parse(Bytes::copy_from_slice(text.as_bytes()), Carriage::Datagram, LIMITS);
            assert!(parsed.is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_datagram_is_cut_at_its_content_length_and_a_stream_needs_one() {
        let text = b"SIP/2.0 200 \r\nl: 2\r\n\r\nabXX";
        let message = Message::parse(Bytes::from_static(text), Carriage::Datagram, LIMITS).unwrap();
        assert_eq!((message.status(), message.body(), message.fault()), (Some(200), &b"ab"[..], None));
        let text = b"\r\n\r\nOPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n";
        let message = Message::parse(Bytes::from_static(text), Carriage::Stream, LIMITS).unwrap();
        assert_eq!(message.fault(), Some(Fault::NoContentLength));
        assert_eq!(message.method(), Some(Method::Options));
    }

    #[test]
    fn a_web_socket_message_is_one_sip_message_with_or_without_content_length() {
        let table = [
            ("\r\nab", None, "ab"),
            ("l: 2\r\n\r\nab", None, "ab"),
            ("l: 2\r\n\r\nab\r\n", None, "ab"),
            ("l: 1\r\n\r\nab", Some(Fault::BodyTooLong), "a"),
            ("l: 0\r\n\r\nOPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n", Some(Fault::BodyTooLong), ""),
            ("l: 3\r\n\r\nab", Some(Fault::BodyTooShort), "ab"),
            ("l: x\r\n\r\nab", Some(Fault::ContentLength), "ab"),
        ];
        for (rest, fault, body) in table {
            let text = Bytes::from(format!("OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\n{rest}"));
            let message = Message::parse(text, Carriage::WebSocket, LIMITS).unwrap();
            assert_eq!((message.fault(), message.body()), (fault, body.as_bytes()), "{rest:?}");
        }
    }

    #[test]
    fn a_header_section_past_its_limit_is_too_large() {
        let text = format!("OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\nX: {}\r\n\r\n", "y".repeat(20_000));
        let message = read(&text);
        assert_eq!(message.fault(), Some(Fault::TooLarge));
        assert_eq!(message.call_id(), b"1");
    }

    #[test]
    fn a_limit_anywhere_in_a_message_is_no_more_than_a_limit() {
        let text = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\nX: y\r\n z\r\n\r\n";
        for header_bytes in 0..text.len() {
            let limits = MessageLimits { header_bytes, ..LIMITS };
            if let Ok(message) = Message::parse(Bytes::from_static(text), Carriage::Datagram, limits) {
                assert_eq!(message.fault(), Some(Fault::TooLarge), "{header_bytes}");
                assert!(message.all_rows().count() < 3);
            }
        }
        let limits = MessageLimits { header_bytes: text.len(), ..LIMITS };
        let message = Message::parse(Bytes::from_static(text), Carriage::Datagram, limits).unwrap();
        assert_eq!((message.fault(), message.all_rows().count()), (None, 2));
    }
}
