//! SIP text as peers write and read it, without the parser under test.

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

use super::network::Peer;

/// A request of `peer`'s from alice to bob, with the rows that every one has. `call` names it: Call-ID, and a
/// branch for each method.
pub(super) fn request(method: &str, uri: &str, peer: Peer, call: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: {};branch=z9hG4bK-{call}-{method}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@a.test>;tag=alice\r\nTo: <sip:bob@a.test>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n\
         Contact: <{}>\r\nContent-Length: 0\r\n\r\n",
        peer.via(),
        peer.contact("alice"),
    )
}

/// As [`request`] to bob, too large for UDP.
pub(super) fn large(method: &str, peer: Peer, call: &str) -> String {
    enlarged(&request(method, "sip:bob@a.test", peer, call))
}

/// `text` with a body that makes it too large for UDP.
pub(super) fn enlarged(text: &str) -> String {
    let body = format!("Content-Length: 1400\r\n\r\n{}", "x".repeat(1400));
    text.replacen("Content-Length: 0\r\n\r\n", &body, 1)
}

/// `text` with `row` as its last row but Content-Length.
pub(super) fn with(text: &str, row: &str) -> String {
    text.replacen("Content-Length:", &format!("{row}\r\nContent-Length:"), 1)
}

/// `text` without its rows called `name`.
pub(super) fn without(text: &str, name: &str) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let rows: Vec<_> = head.split("\r\n").filter(|row| row_value(row, name).is_none()).collect();
    format!("{}\r\n\r\n{body}", rows.join("\r\n"))
}

/// The answer to `request`, with `tag` in To where the request has none. `rows` end with CRLF each.
pub(super) fn answer_with(request: &str, status: u16, tag: &str, rows: &str) -> String {
    let mut out = format!("SIP/2.0 {status} Whatever\r\n");
    for name in ["Via", "Record-Route"] {
        for value in values(request, name) {
            out += &format!("{name}: {value}\r\n");
        }
    }
    let to = value(request, "To");
    let tag = if status == 100 || to.contains(";tag=") { String::new() } else { format!(";tag={tag}") };
    out += &format!("From: {}\r\nTo: {to}{tag}\r\n", value(request, "From"));
    out += &format!("Call-ID: {}\r\nCSeq: {}\r\n", value(request, "Call-ID"), value(request, "CSeq"));
    out + rows + "Content-Length: 0\r\n\r\n"
}

/// The answer to `request` with nothing special.
pub(super) fn answer(request: &str, status: u16) -> String {
    answer_with(request, status, "bob", "")
}

/// What follows an INVITE in its own transaction: its CANCEL, or with the response's `to` its ACK (RFC 3261 §9.1,
/// §17.1.1.3).
pub(super) fn for_invite(invite: &str, method: &str, to: Option<&str>) -> String {
    let mut out = format!("{method} {} SIP/2.0\r\nVia: {}\r\n", uri(invite), value(invite, "Via"));
    for route in values(invite, "Route") {
        out += &format!("Route: {route}\r\n");
    }
    out += &format!("Max-Forwards: 70\r\nFrom: {}\r\n", value(invite, "From"));
    out += &format!("To: {}\r\n", to.unwrap_or_else(|| value(invite, "To")));
    let (number, _) = value(invite, "CSeq").split_once(' ').unwrap();
    out + &format!(
        "Call-ID: {}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n",
        value(invite, "Call-ID")
    )
}

/// One end of a dialog (RFC 3261 §12.1).
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    peer: Peer,
    call: String,
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
}

impl Dialog {
    /// The caller's end, by the 2xx that it has got: the routes in reverse.
    pub(super) fn of_caller(peer: Peer, response: &str) -> Self {
        let mut dialog = Self::new(peer, response, "From", "To");
        dialog.routes.reverse();
        dialog
    }

    /// The callee's end, by the request that it has got and the tag that it has given itself.
    pub(super) fn of_callee(peer: Peer, request: &str, tag: &str) -> Self {
        let mut dialog = Self::new(peer, request, "To", "From");
        dialog.local += &format!(";tag={tag}");
        dialog
    }

    fn new(peer: Peer, text: &str, local: &str, remote: &str) -> Self {
        let contact = value(text, "Contact");
        Self {
            peer,
            call: value(text, "Call-ID").to_owned(),
            local: value(text, local).to_owned(),
            remote: value(text, remote).to_owned(),
            target: contact.trim_matches(['<', '>']).to_owned(),
            routes: values(text, "Record-Route").into_iter().map(str::to_owned).collect(),
        }
    }

    /// A request in the dialog.
    pub(super) fn request(&self, method: &str, number: u32) -> String {
        let (peer, call) = (self.peer, &self.call);
        let branch = format!("z9hG4bK-{call}-{method}-{number}-{}", peer.0.remote.port());
        let routes: String = self.routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        format!(
            "{method} {} SIP/2.0\r\nVia: {};branch={branch}\r\n{routes}Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
             Call-ID: {call}\r\nCSeq: {number} {method}\r\nContact: <{}>\r\nContent-Length: 0\r\n\r\n",
            self.target,
            peer.via(),
            self.local,
            self.remote,
            peer.contact("in-dialog"),
        )
    }
}

/// The value of the first row called `name`.
pub(super) fn value<'a>(text: &'a str, name: &str) -> &'a str {
    values(text, name).first().copied().unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// The values of all rows called `name`.
pub(super) fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let head = text.split("\r\n\r\n").next().unwrap();
    head.split("\r\n").filter_map(|row| row_value(row, name)).collect()
}

fn row_value<'a>(row: &'a str, name: &str) -> Option<&'a str> {
    let (own, value) = row.split_once(": ")?;
    own.eq_ignore_ascii_case(name).then_some(value)
}

/// The branch of the top Via.
pub(super) fn branch(text: &str) -> &str {
    value(text, "Via").split_once("branch=").unwrap().1.split(';').next().unwrap()
}

/// The method of a request, or the status code of a response.
pub(super) fn kind(text: &str) -> &str {
    match text.strip_prefix("SIP/2.0 ") {
        Some(rest) => &rest[..3],
        None => text.split(' ').next().unwrap(),
    }
}

/// The Request-URI.
pub(super) fn uri(text: &str) -> &str {
    text.split(' ').nth(1).unwrap()
}

/// A parameter of a challenge.
pub(super) fn challenge_parameter<'a>(challenge: &'a str, name: &str) -> &'a str {
    let start = challenge.find(&format!("{name}=")).unwrap() + name.len() + 1;
    challenge[start..].split([',']).next().unwrap().trim_matches('"')
}

/// What a client with a password answers to a challenge (RFC 7616 §3.4.1).
pub(super) fn credentials(challenge: &str, method: &str, user: &str, password: &str, count: u32) -> String {
    let get = |name| challenge_parameter(challenge, name);
    let (realm, nonce, algorithm) = (get("realm"), get("nonce"), get("algorithm"));
    let hash = |text: String| match algorithm {
        "MD5" => hexadecimal(&Md5::digest(text)),
        "SHA-256" => hexadecimal(&Sha256::digest(text)),
        "SHA-512-256" => hexadecimal(&Sha512_256::digest(text)),
        other => panic!("algorithm {other}"),
    };
    let uri = if method == "REGISTER" { "sip:a.test" } else { "sip:bob@a.test" };
    let (a1, a2) = (hash(format!("{user}:{realm}:{password}")), hash(format!("{method}:{uri}")));
    let response = hash(format!("{a1}:{nonce}:{count:08x}:0a4f113b:auth:{a2}"));
    format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", \
         algorithm={algorithm}, cnonce=\"0a4f113b\", qop=auth, nc={count:08x}"
    )
}

/// The same by a client of RFC 2069, which knows MD5 and no `qop`.
pub(super) fn credentials_without_qop(challenge: &str, method: &str, user: &str, password: &str) -> String {
    let get = |name| challenge_parameter(challenge, name);
    let (realm, nonce, uri) = (get("realm"), get("nonce"), "sip:bob@a.test");
    let hash = |text: String| hexadecimal(&Md5::digest(text));
    let (a1, a2) = (hash(format!("{user}:{realm}:{password}")), hash(format!("{method}:{uri}")));
    let response = hash(format!("{a1}:{nonce}:{a2}"));
    format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\""
    )
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
