//! Responses that the proxy makes itself (RFC 3261 §8.2.6).

use std::net::SocketAddr;

use bytes::Bytes;
use memchr::memchr;
use smallvec::SmallVec;

use super::index::Message;
use super::lexical::is_token_only;
use super::name::Name;

/// A response of ours to a request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 100 to 699.
    pub status: u16,
    /// The reason phrase; [`reason_phrase`] gives the usual one.
    pub reason: &'static str,
    /// Rows beside those that every response has, in order.
    pub rows: SmallVec<[(&'static str, String); 2]>,
}

impl Reply {
    /// A response with the usual phrase and nothing added.
    pub fn new(status: u16) -> Self {
        Self::with_reason(status, reason_phrase(status))
    }

    /// A response whose phrase says more.
    pub fn with_reason(status: u16, reason: &'static str) -> Self {
        Self { status, reason, rows: SmallVec::new() }
    }

    /// The 420 that names extensions which are asked for in vain, if there are any (§8.2.2.3); `malformed` is the
    /// phrase of the 400 where one is no token. Not longer than what it names: who the sender is, nobody may have
    /// asked yet.
    pub fn refuse_extensions<'a>(
        tags: impl Iterator<Item = &'a [u8]>,
        malformed: &'static str,
    ) -> Result<(), Self> {
        let tags: Vec<_> = tags.filter(|tag| !tag.is_empty()).collect();
        if tags.is_empty() {
            return Ok(());
        }
        let are_tokens = tags.iter().all(|tag| is_token_only(tag));
        match String::from_utf8(tags.join(&b","[..])).ok().filter(|_| are_tokens) {
            Some(unsupported) => Err(Self::new(420).row(Name::Unsupported.as_str(), unsupported)),
            None => Err(Self::with_reason(400, malformed)),
        }
    }

    /// Adds a row.
    #[must_use]
    pub fn row(mut self, name: &'static str, value: String) -> Self {
        self.rows.push((name, value));
        self
    }

    /// Writes it for `request`, which came from `source`. `to_tag` is added unless the request has one or the
    /// response is a 100 (§8.2.6.2).
    pub fn write(&self, request: &Message, source: SocketAddr, to_tag: &[u8]) -> Bytes {
        self.write_keeping_alive(request, source, to_tag, None)
    }

    /// As [`Self::write`], to a sender whose offer of keep-alives is accepted: so often, in seconds (RFC 6223 §4.4).
    pub fn write_keeping_alive(
        &self,
        request: &Message,
        source: SocketAddr,
        to_tag: &[u8],
        keep_alive: Option<u64>,
    ) -> Bytes {
        let mut out = Vec::with_capacity(512);
        self.write_start_line(&mut out);
        write_copied(&mut out, request, source, (self.status != 100).then_some(to_tag), keep_alive);
        self.write_rows(&mut out);
        out.extend_from_slice(END);
        Bytes::from(out)
    }

    /// Appends what it has beside what it copies from its request, for [`Self::complete`].
    pub fn write_outline(&self, out: &mut Vec<u8>) {
        self.write_start_line(out);
        self.write_rows(out);
    }

    /// The response of [`Self::write_keeping_alive`] once more, from its outline; no 100.
    pub fn complete(
        outline: &[u8],
        request: &Message,
        source: SocketAddr,
        to_tag: &[u8],
        keep_alive: Option<u64>,
    ) -> Bytes {
        let end = memchr(b'\n', outline).map_or(outline.len(), |end| end + 1);
        let (start_line, rows) = outline.split_at(end);
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(start_line);
        write_copied(&mut out, request, source, Some(to_tag), keep_alive);
        out.extend_from_slice(rows);
        out.extend_from_slice(END);
        Bytes::from(out)
    }

    fn write_start_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SIP/2.0 ");
        super::lexical::push_decimal(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    fn write_rows(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.rows {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// What it ends with: none has a body.
const END: &[u8] = b"Content-Length: 0\r\n\r\n";

/// The rows that a response takes from its request. A 100 has no tag of its own, and Timestamp in place of it.
fn write_copied(
    out: &mut Vec<u8>,
    request: &Message,
    source: SocketAddr,
    to_tag: Option<&[u8]>,
    keep_alive: Option<u64>,
) {
    write_vias(out, request, source, keep_alive);
    if to_tag.is_none() {
        copy_row(out, request, Name::Timestamp);
    }
    copy_row(out, request, Name::From);
    if let Some(to) = request.row(Name::To) {
        out.extend_from_slice(b"To: ");
        out.extend_from_slice(to);
        if let Some(to_tag) = to_tag.filter(|_| !request.is_in_dialog()) {
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(to_tag);
        }
        out.extend_from_slice(b"\r\n");
    }
    copy_row(out, request, Name::CallId);
    copy_row(out, request, Name::CSeq);
}

/// Copies the rows as they came, so that a response is hardly longer than its request, and says in the first value where
/// that came from.
fn write_vias(out: &mut Vec<u8>, request: &Message, source: SocketAddr, keep_alive: Option<u64>) {
    let octets = request.bytes();
    for (at, (row, line)) in request.rows(Name::Via).zip(request.row_spans(Name::Via)).enumerate() {
        let mut copied = line.start;
        if let Some(via) = request.top_via().filter(|_| at == 0) {
            let span = request.span_of(via.text);
            out.extend_from_slice(&octets[copied..span.start]);
            via.write_stamped(source, keep_alive, out);
            copied = span.end;
        }
        out.extend_from_slice(&octets[copied..request.span_of(row).end]);
        out.extend_from_slice(b"\r\n");
    }
}

fn copy_row(out: &mut Vec<u8>, request: &Message, name: Name) {
    if let Some(value) = request.row(name) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// The phrase that RFC 3261 §21 and its successors give to a status code; of unknown ones, that of the class.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        423 => "Interval Too Brief",
        430 => "Flow Failed",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        487 => "Request Terminated",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        _ => match status / 100 {
            1 => "Session Progress",
            2 => "OK",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::{Carriage, MessageLimits};

    /// What every response has beside what it copies: status line, To tag, the stamp, whole names for compact ones.
    const OWN_OCTETS: usize = 200;

    fn answer(vias: &str, reply: &Reply) -> (usize, String) {
        let text = format!(
            "OPTIONS sip:a@b SIP/2.0\r\n{vias}Timestamp: 5\r\nFrom: <sip:x@y>;tag=f\r\nTo: <sip:a@b>\r\nCall-ID: i\r\n\
             CSeq: 7 OPTIONS\r\nX: y\r\n\r\n"
        );
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        let length = text.len();
        let request = Message::parse(Bytes::from(text), Carriage::Datagram, limits).unwrap();
        let out = reply.write(&request, "192.0.2.1:40000".parse().unwrap(), b"t");
        (length, String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_reply_copies_what_identifies_the_request() {
        let vias = "v: SIP/2.0/UDP h.example;rport;branch=1, SIP/2.0/TCP c\r\n";
        let (_, out) = answer(vias, &Reply::new(420).row("Unsupported", "foo".to_owned()));
        assert_eq!(
            out,
            "SIP/2.0 420 Bad Extension\r\n\
             v: SIP/2.0/UDP h.example;rport=40000;branch=1;received=192.0.2.1, SIP/2.0/TCP c\r\n\
             From: <sip:x@y>;tag=f\r\nTo: <sip:a@b>;tag=t\r\nCall-ID: i\r\nCSeq: 7 OPTIONS\r\nUnsupported: foo\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let (_, trying) = answer(vias, &Reply::new(100));
        assert!(trying.contains("Timestamp: 5\r\n") && trying.contains("To: <sip:a@b>\r\n"));
    }

    #[test]
    fn via_rows_are_copied_as_they_came_but_for_the_stamp() {
        let stamp = ";rport=40000;received=192.0.2.1";
        let table = [
            (
                "VIA :\tSIP/2.0/UDP h;rport\r\nX: y\r\nv:SIP/2.0/TCP c,SIP/2.0/TCP d\r\n",
                "VIA :\tSIP/2.0/UDP h;rport",
            ),
            (
                "Via: SIP / 2.0 /\r\n UDP h;rport\r\n\t,  SIP/2.0/TCP c\r\n",
                "Via: SIP / 2.0 /\r\n UDP h;rport",
            ),
            ("Via: SIP/2.0/UDP h;rport,,\r\nv:\r\nv:x,\r\n", "Via: SIP/2.0/UDP h;rport"),
        ];
        for (vias, first) in table {
            let (_, out) = answer(vias, &Reply::new(400));
            let stamped = first.replace(";rport", stamp);
            let expected = vias.replacen(first, &stamped, 1).replace("X: y\r\n", "");
            assert!(out.contains(&format!("\r\n{expected}From: ")), "{out}");
        }
        // A line that is no header line is no part of the one before.
        let (_, out) = answer("Via: SIP/2.0/UDP 192.0.2.1\r\nno header\r\n", &Reply::new(400));
        assert!(out.contains("\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nFrom: "), "{out}");
    }

    #[test]
    fn a_reply_is_hardly_longer_than_its_request_whatever_stands_in_via() {
        let repeated = [",", ", ", ";rport", ";received", "\r\nv:", "\r\nv:,", ",\r\n "];
        for part in repeated {
            let vias = format!("v:SIP/2.0/UDP victim;rport;branch=z9hG4bK1{}\r\n", part.repeat(1_500));
            for status in [100, 200, 400] {
                let (length, out) = answer(&vias, &Reply::new(status));
                assert!(out.len() <= length + OWN_OCTETS, "{part:?}: {} of {length}", out.len());
            }
        }
    }
}
