//! Requests as peers write them.

use std::fmt::Write as _;

use bytes::Bytes;

use super::Peer;
use crate::model::{Ends, Odd};
use crate::text::Header;

/// What a peer wants by a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Register,
    /// A dialog, by INVITE or SUBSCRIBE.
    Dialog,
    /// Something in a dialog of its own.
    InDialog(usize),
    /// An answer, and nothing more.
    Answer,
}

/// A request before it has a branch.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) method: &'static str,
    pub(crate) uri: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    pub(crate) routes: Vec<String>,
    /// Further rows, each with its CRLF.
    pub(crate) rows: String,
    pub(crate) has_contact: bool,
    /// `None`: no such row.
    pub(crate) max_forwards: Option<u32>,
    pub(crate) body: Vec<u8>,
    /// With short names of headers, and without Content-Length where that may be.
    pub(crate) is_terse: bool,
    pub(crate) odd: Odd,
    pub(crate) ends: Option<Ends>,
    pub(crate) purpose: Purpose,
    /// How often it has been challenged.
    pub(crate) challenges: u32,
    /// The password is wrong.
    pub(crate) is_impostor: bool,
    /// It will be cancelled.
    pub(crate) will_cancel: bool,
}

impl Draft {
    pub(crate) fn new(method: &'static str, uri: &str, purpose: Purpose) -> Self {
        Self {
            method,
            uri: uri.to_owned(),
            from: String::new(),
            to: String::new(),
            call_id: String::new(),
            cseq: 1,
            routes: Vec::new(),
            rows: String::new(),
            has_contact: true,
            max_forwards: Some(70),
            body: Vec::new(),
            is_terse: false,
            odd: Odd::Nothing,
            ends: None,
            purpose,
            challenges: 0,
            is_impostor: false,
            will_cancel: false,
        }
    }

    /// The request as `peer` sends it under this number, with these credentials.
    pub(super) fn write(&self, peer: &Peer, number: usize, credentials: Option<&str>) -> Bytes {
        let mut out = String::with_capacity(700);
        let name = |long: &'static str, short: &'static str| if self.is_terse { short } else { long };
        let _ = write!(out, "{} {} SIP/2.0\r\n", self.method, self.uri);
        let _ = write!(out, "{}: {}\r\n", name("Via", "v"), peer.via(number));
        if let Some(hops) = self.max_forwards {
            let _ = write!(out, "Max-Forwards: {hops}\r\n");
        }
        for route in &self.routes {
            let _ = write!(out, "Route: {route}\r\n");
        }
        let _ = write!(out, "{}: {}\r\n{}: {}\r\n", name("From", "f"), self.from, name("To", "t"), self.to);
        let _ = write!(
            out,
            "{}: {}\r\nCSeq: {} {}\r\n",
            name("Call-ID", "i"),
            self.call_id,
            self.cseq,
            self.method
        );
        if self.has_contact {
            let _ = write!(out, "{}: <{}>\r\n", name("Contact", "m"), peer.contact("me"));
        }
        let _ = write!(out, "{}: {number}\r\n{}", Header::Request.name(), self.rows);
        if let Some(credentials) = credentials {
            let header = if self.method == "REGISTER" { "Authorization" } else { "Proxy-Authorization" };
            let _ = write!(out, "{header}: {credentials}\r\n");
        }
        if !self.is_terse || peer.transport.is_reliable() {
            let _ = write!(out, "{}: {}\r\n", name("Content-Length", "l"), self.body.len());
        }
        out += "\r\n";
        let mut octets = out.into_bytes();
        octets.extend_from_slice(&self.body);
        Bytes::from(octets)
    }
}
