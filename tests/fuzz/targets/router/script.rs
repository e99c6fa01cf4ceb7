//! The octets of an input as messages and times.

use std::time::Duration;

use bytes::Bytes;
use sip_proxy::protocol::flow::Flow;
use sip_proxy::protocol::message::reply::Reply;
use sip_proxy::protocol::message::{Message, Name};

use super::network::DOMAIN;

const METHODS: [&str; 8] =
    ["INVITE", "MESSAGE", "SUBSCRIBE", "REGISTER", "OPTIONS", "BENOTIFY", "BYE", "WHATEVER"];

const USERS: [&str; 4] = ["sip:alice", "sip:bob", "sips:%63arol", "sip:ucserver"];

const STATUSES: [u16; 16] = [100, 180, 183, 199, 200, 200, 202, 299, 302, 401, 404, 407, 480, 486, 503, 603];

const MILLIS: [u64; 8] = [1, 40, 500, 600, 4_000, 9_000, 33_000, 200_000];

/// What is left of the input. Octets that are not there are zero.
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// What happens next; `None` at the end.
    pub(super) fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn octet(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    /// As many octets as there are, up to `length`.
    pub(super) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.octet()) % choices.len()]
    }

    pub(super) fn time(&mut self) -> Duration {
        Duration::from_millis(self.one_of(&MILLIS))
    }

    /// A request that a peer makes. Three octets choose method, user and call; eight bits say what is odd about it.
    pub(super) fn request(&mut self, from: &Flow, recorded: &str) -> Bytes {
        let (method, user, call) = (self.one_of(&METHODS), self.one_of(&USERS), self.octet());
        // Which row is the first, and how widely the request may fork.
        let (call, first) = (call % 16, usize::from(call / 16));
        let odd = self.octet();
        let is_odd = |bit: u8| odd & 1 << bit != 0;
        let uri = match (method, is_odd(0)) {
            (_, true) => "sip:x@127.0.0.1:6001".to_owned(),
            ("REGISTER", false) => format!("sip:{DOMAIN}"),
            (_, false) => format!("{user}@{DOMAIN}"),
        };
        let mut rows = Vec::new();
        let mut row = |name: &str, value: &str| rows.push(format!("{name}: {value}\r\n"));
        let rport = if is_odd(1) { "" } else { ";rport" };
        let token = from.transport.via_token();
        row("Via", &format!("SIP/2.0/{token} {};branch=z9hG4bK{method}{call}{rport}", from.remote));
        row("From", &format!("<sip:alice@{DOMAIN}>;tag=f{call}"));
        let to_tag = if is_odd(2) { ";tag=t" } else { "" };
        row("To", &format!("<{user}@{DOMAIN}>{to_tag}"));
        row("Call-ID", &format!("call{call}"));
        row("CSeq", &format!("{} {method}", u32::from(call) + 1));
        if is_odd(3) && !recorded.is_empty() {
            row("Route", recorded);
        }
        if is_odd(4) {
            row("Max-Forwards", "1");
        }
        let expires = if is_odd(5) { 0 } else { 600 };
        row("Contact", &format!("{user}@{}>;expires={expires}", from.remote).replacen("sip", "<sip", 1));
        let body = "x".repeat(if is_odd(6) { 2_000 } else { 2 });
        // By datagram it may be left out.
        if from.transport.is_reliable() || !is_odd(7) {
            row("Content-Length", &body.len().to_string());
        }
        if first > 0 {
            row("Max-Breadth", &(first % 4).to_string());
        }
        let rotation = first % rows.len();
        rows.rotate_left(rotation);
        Bytes::from(format!("{method} {uri} SIP/2.0\r\n{}\r\n{body}", rows.concat()))
    }

    /// What the peer behind `hop` answers; by datagram perhaps without saying how long its body is.
    pub(super) fn response(&mut self, hop: &Flow, request: &Message) -> Bytes {
        let status = self.one_of(&STATUSES);
        let how = self.octet();
        let tag = [b't', b'0' + how % 4];
        let mut reply = Reply::new(status);
        if matches!(status, 401 | 407) {
            reply = reply.row(Name::ProxyAuthenticate.as_str(), "Digest realm=\"x\", nonce=\"y\"".to_owned());
        }
        if status == 302 {
            let contacts = format!("<sip:bob@{DOMAIN}>, <sip:x@127.0.0.1:6002>;q=0.{}", how % 10);
            reply = reply.row(Name::Contact.as_str(), contacts);
        }
        let bytes = reply.write(request, hop.local, &tag);
        if how & 4 == 0 || hop.transport.is_reliable() {
            return bytes;
        }
        let text = String::from_utf8_lossy(&bytes).replace("Content-Length: 0\r\n", "");
        Bytes::from(format!("{text}unmeasured"))
    }

    /// The same request again, its CANCEL, its ACK, or what a client would never send.
    pub(super) fn follow_up(&mut self, request: &Message) -> Bytes {
        let text = String::from_utf8_lossy(request.bytes()).into_owned();
        let method = String::from_utf8_lossy(request.method_token()).into_owned();
        let renamed = |to: &str| {
            Bytes::from(
                text.replace(&format!("{method} "), &format!("{to} "))
                    .replace(&format!(" {method}\r\n"), &format!(" {to}\r\n")),
            )
        };
        match self.octet() % 4 {
            0 => request.bytes().clone(),
            1 => renamed("CANCEL"),
            2 => renamed("ACK"),
            _ => {
                let at = usize::from(self.octet()) * text.len() / 256;
                let mut octets = request.bytes().to_vec();
                octets[at] = self.octet();
                Bytes::from(octets)
            }
        }
    }
}
