//! What a proxy may change in a message (RFC 3261 §16.6, §16.7), and that it has changed nothing else.

use std::net::SocketAddr;

use sip_proxy::protocol::flow::{Flow, Transport};

use crate::setup::{self, DOMAIN};
use crate::text::{Header, Text, host_of, parameter, uri_of};

/// Rows of a request that a proxy may change; each has its own rule. That of Max-Breadth needs to know of all branches,
/// that of credentials of all challenges.
const OF_REQUEST: [Header; 8] = [
    Header::Via,
    Header::MaxForwards,
    Header::MaxBreadth,
    Header::Route,
    Header::RecordRoute,
    Header::Authorization,
    Header::ProxyAuthorization,
    Header::ContentLength,
];

/// Rows of a response that a proxy may change.
const OF_RESPONSE: [Header; 4] =
    [Header::Via, Header::ContentLength, Header::WwwAuthenticate, Header::ProxyAuthenticate];

/// Whether `sent`, which left by `hop`, is what became of `original`, which came in by `source`. `path` is that of the
/// binding to which it goes; the Request-URI is the caller's to judge.
pub(super) fn check_forwarded(
    original: &Text,
    source: &Flow,
    sent: &Text,
    hop: &Flow,
    path: &[String],
) -> Result<(), String> {
    if sent.method() != original.method() {
        return Err("another method".to_owned());
    }
    check_vias(original, source, sent, hop)?;
    let hops =
        |text: &Text| text.get(Header::MaxForwards).map(|value| value.parse::<u32>().unwrap_or(u32::MAX));
    if hops(sent) != Some(hops(original).map_or(70, |hops| hops.saturating_sub(1))) {
        return Err(format!("Max-Forwards {:?} from {:?}", hops(sent), hops(original)));
    }
    check_routes(original, sent, path)?;
    check_recorded(original, source, sent, hop)?;
    check_length(original, sent, hop.transport.is_reliable())?;
    check_rest(original, sent, &OF_REQUEST)
}

/// Ours on top; below it the one that says where the request came from; then those that were there.
fn check_vias(original: &Text, source: &Flow, sent: &Text, hop: &Flow) -> Result<(), String> {
    let mut vias = sent.values(Header::Via);
    let ours = vias.next().ok_or("no Via")?;
    let rport = if hop.transport == Transport::Udp { ";rport" } else { "" };
    let expected = format!(
        "SIP/2.0/{} {}{rport};branch=z9hG4bK",
        hop.transport.via_token(),
        setup::bound_text(hop.interface)
    );
    if !ours.starts_with(&expected) {
        return Err(format!("our Via is {ours}, not {expected}.."));
    }
    let mut before = original.values(Header::Via);
    let top = before.next().ok_or("no Via in the original")?;
    let stamped = stamped(top, source.remote);
    if vias.next() != Some(&stamped) {
        return Err(format!("the sender's Via is not {stamped}"));
    }
    if vias.eq(before) { Ok(()) } else { Err("Vias of others are changed".to_owned()) }
}

/// What RFC 3261 §18.2.1 and RFC 3581 §4 make of a peer's Via.
pub(super) fn stamped(via: &str, source: SocketAddr) -> String {
    let sent_by = via.split(';').next().and_then(|part| part.split(' ').nth(1)).unwrap_or_default();
    let is_source = sent_by.parse::<SocketAddr>().is_ok_and(|sent_by| sent_by.ip() == source.ip());
    let has_rport = parameter(via, "rport").is_some();
    let filled = via.replace(";rport", &format!(";rport={}", source.port()));
    let received = if has_rport || !is_source { format!(";received={}", source.ip()) } else { String::new() };
    filled + &received
}

/// Only values at the front may go, and only ours; those of the path come before what is left.
fn check_routes(original: &Text, sent: &Text, path: &[String]) -> Result<(), String> {
    let before: Vec<_> = original.values(Header::Route).collect();
    let after: Vec<_> = sent.values(Header::Route).collect();
    let Some(left) = after.strip_prefix(&path.iter().map(String::as_str).collect::<Vec<_>>()[..]) else {
        return Err(format!("Route is {after:?} without {path:?}"));
    };
    let Some(gone) = before.len().checked_sub(left.len()) else {
        return Err("Route values are added".to_owned());
    };
    if before[gone..] != *left {
        return Err("Route values are changed".to_owned());
    }
    match before[..gone].iter().find(|value| !is_ours(uri_of(value))) {
        None => Ok(()),
        Some(value) => Err(format!("the Route value {value} is gone, which is none of ours")),
    }
}

fn is_ours(uri: &str) -> bool {
    let host = host_of(uri);
    host == DOMAIN || setup::INTERFACES.iter().any(|(_, _, bound)| *bound == host)
}

/// The proxy stays on the path of what forms a dialog, and of NOTIFY in dialogs that it has recorded (§16.6 step 4,
/// RFC 6665 §4.3); two values where the message changes its socket (RFC 5658).
fn check_recorded(original: &Text, source: &Flow, sent: &Text, hop: &Flow) -> Result<(), String> {
    let forms_dialog = matches!(original.method(), "INVITE" | "SUBSCRIBE" | "REFER");
    let wanted = match (forms_dialog, original.is_in_dialog()) {
        (true, false) => true,
        (_, true) => {
            let is_known = original.values(Header::Route).any(|value| is_ours(uri_of(value)));
            is_known && (forms_dialog || original.method() == "NOTIFY")
        }
        (false, false) => false,
    };
    let is_one_socket = source.transport == Transport::Udp
        && hop.transport == Transport::Udp
        && source.interface == hop.interface;
    let expected = match (wanted, is_one_socket) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => 2,
    };
    let after: Vec<_> = sent.values(Header::RecordRoute).collect();
    let before: Vec<_> = original.values(Header::RecordRoute).collect();
    if after.len() != before.len() + expected || after[expected..] != before {
        return Err(format!(
            "Record-Route has {} new values instead of {expected}",
            after.len() - before.len()
        ));
    }
    let is_good = |value: &&str| is_ours(uri_of(value)) && value.contains(";lr");
    if after[..expected].iter().all(is_good) { Ok(()) } else { Err(format!("Record-Route {after:?}")) }
}

/// A stream must say how long a body is (§18.3); what was said stays.
fn check_length(original: &Text, sent: &Text, is_reliable: bool) -> Result<(), String> {
    let added = original.body().len().to_string();
    let expected = original.get(Header::ContentLength).or(is_reliable.then_some(&*added));
    if sent.get(Header::ContentLength) == expected {
        Ok(())
    } else {
        Err("another Content-Length".to_owned())
    }
}

/// All other rows, octet for octet and in their order, and the body.
fn check_rest(original: &Text, sent: &Text, changeable: &[Header]) -> Result<(), String> {
    let is_fixed = |(header, _): &(Header, &str)| !changeable.contains(header);
    let mut after = sent.rows().filter(is_fixed).map(|(_, line)| line);
    for (_, line) in original.rows().filter(is_fixed) {
        match after.next() {
            Some(other) if other == line => {}
            other => return Err(format!("the row {line:?} has become {other:?}")),
        }
    }
    if let Some(line) = after.next() {
        return Err(format!("the row {line:?} was added"));
    }
    if sent.body() == original.body() { Ok(()) } else { Err("the body is changed".to_owned()) }
}

/// Whether `sent` is what became of `answer` on its way back. `others` are the other responses whose challenges it
/// carries as well (§16.7 step 7).
pub(super) fn check_returned(
    answer: &Text,
    sent: &Text,
    is_reliable: bool,
    others: &[&Text],
) -> Result<(), String> {
    if sent.start() != answer.start() {
        return Err("another status line".to_owned());
    }
    if !sent.values(Header::Via).eq(answer.values(Header::Via).skip(1)) {
        return Err("the Vias are not those of the response without ours".to_owned());
    }
    check_length(answer, sent, is_reliable)?;
    for header in [Header::WwwAuthenticate, Header::ProxyAuthenticate] {
        let mut expected: Vec<_> = answer.values(header).collect();
        let own = expected.len();
        expected.extend(others.iter().flat_map(|other| other.values(header)));
        // Those of others in any order.
        let mut found: Vec<_> = sent.values(header).collect();
        if found.len() >= own {
            expected[own..].sort_unstable();
            found[own..].sort_unstable();
        }
        if found != expected {
            return Err(format!("{header:?} is {found:?} instead of {expected:?}"));
        }
    }
    check_rest(answer, sent, &OF_RESPONSE)
}

/// Whether `sent` is a response of the proxy's own to `request` (§8.2.6): what it must copy.
pub(super) fn check_own(request: &Text, source: SocketAddr, sent: &Text) -> Result<(), String> {
    let mut vias = sent.values(Header::Via);
    let mut expected = request.values(Header::Via);
    let top = stamped(expected.next().unwrap_or_default(), source);
    if vias.next() != Some(&top) || !vias.eq(expected) {
        return Err(format!("the Vias are not those of the request, stamped {top}"));
    }
    for header in [Header::From, Header::CallId, Header::CSeq] {
        if sent.get(header) != request.get(header) {
            return Err(format!("another {header:?}"));
        }
    }
    let (before, after) = (request.value(Header::To), sent.value(Header::To));
    let is_tagged = parameter(before, "tag").is_some() || sent.status() == Some(100);
    let is_good = match is_tagged {
        true => before == after,
        false => after.strip_prefix(before).is_some_and(|rest| rest.starts_with(";tag=")),
    };
    if is_good && sent.body().is_empty() { Ok(()) } else { Err("another To, or a body".to_owned()) }
}
