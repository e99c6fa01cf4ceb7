//! Responses that the proxy makes itself (RFC 3261 §8.2.6).

use std::net::SocketAddr;

use bytes::Bytes;
use smallvec::SmallVec;

use super::index::Message;
use super::name::Name;
use super::via::Via;

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

    /// Adds a row.
    #[must_use]
    pub fn row(mut self, name: &'static str, value: String) -> Self {
        self.rows.push((name, value));
        self
    }

    /// Writes it for `request`, which came from `source`. `to_tag` is added unless the request has one or the
    /// response is a 100 (§8.2.6.2).
    pub fn write(&self, request: &Message, source: SocketAddr, to_tag: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"SIP/2.0 ");
        super::lexical::push_decimal(&mut out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        write_vias(&mut out, request, source);
        if self.status == 100 {
            copy_row(&mut out, request, Name::Timestamp);
        }
        copy_row(&mut out, request, Name::From);
        if let Some(to) = request.row(Name::To) {
            out.extend_from_slice(b"To: ");
            out.extend_from_slice(to);
            if self.status != 100 && request.to().is_none_or(|to| to.tag().is_none()) {
                out.extend_from_slice(b";tag=");
                out.extend_from_slice(to_tag);
            }
            out.extend_from_slice(b"\r\n");
        }
        copy_row(&mut out, request, Name::CallId);
        copy_row(&mut out, request, Name::CSeq);
        for (name, value) in &self.rows {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        Bytes::from(out)
    }
}

fn write_vias(out: &mut Vec<u8>, request: &Message, source: SocketAddr) {
    for (at, value) in request.values(Name::Via).enumerate() {
        out.extend_from_slice(b"Via: ");
        match Via::read(value).filter(|_| at == 0) {
            Some(via) => via.write_stamped(source, out),
            None => out.extend_from_slice(value),
        }
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

    #[test]
    fn a_reply_copies_what_identifies_the_request() {
        let text = "OPTIONS sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP h.example;rport;branch=1, SIP/2.0/TCP c\r\nTimestamp: 5\r\n\
                    From: <sip:x@y>;tag=f\r\nTo: <sip:a@b>\r\nCall-ID: i\r\nCSeq: 7 OPTIONS\r\nX: y\r\n\r\n";
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        let request =
            Message::parse(Bytes::from_static(text.as_bytes()), Carriage::Datagram, limits).unwrap();
        let reply = Reply::new(420).row("Unsupported", "foo".to_owned());
        let out = reply.write(&request, "192.0.2.1:40".parse().unwrap(), b"t");
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            "SIP/2.0 420 Bad Extension\r\nVia: SIP/2.0/UDP h.example;rport=40;branch=1;received=192.0.2.1\r\n\
             Via: SIP/2.0/TCP c\r\nFrom: <sip:x@y>;tag=f\r\nTo: <sip:a@b>;tag=t\r\nCall-ID: i\r\n\
             CSeq: 7 OPTIONS\r\nUnsupported: foo\r\nContent-Length: 0\r\n\r\n"
        );
        let trying = Reply::new(100).write(&request, "192.0.2.1:40".parse().unwrap(), b"t");
        let trying = std::str::from_utf8(&trying).unwrap();
        assert!(trying.contains("Timestamp: 5\r\n") && trying.contains("To: <sip:a@b>\r\n"));
    }
}
