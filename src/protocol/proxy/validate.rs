//! Request validation (RFC 3261 §16.3): what must be right before anything is done with a request.

use crate::protocol::message::headers::delta_seconds;
use crate::protocol::message::lexical::decimal;
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::rsip::capabilities;
use crate::protocol::message::uri::{Uri, UriFault};
use crate::protocol::message::{Message, Method, Name};

/// Max-Forwards of a request that has none (§16.6 step 3).
pub const DEFAULT_MAX_FORWARDS: u32 = 70;

/// Max-Breadth of a request that has none, and the largest that is let in (RFC 5393 §5.3.3).
pub const MAXIMUM_BREADTH: u32 = 60;

/// Step 1, reasonable syntax, and step 2, URI scheme. The error is the refusal.
pub fn check_syntax(request: &Message) -> Result<(), Reply> {
    if let Some(fault) = request.fault() {
        let (status, reason) = fault.response();
        return Err(Reply::with_reason(status, reason));
    }
    let refuse = |reason| Err(Reply::with_reason(400, reason));
    if request.call_id().is_empty() {
        return refuse("Missing Call-ID");
    }
    match request.cseq() {
        None => return refuse("Missing Or Malformed CSeq"),
        Some(cseq) if cseq.method != request.method_token() => {
            return refuse("CSeq Method Differs From Request Method");
        }
        Some(_) => {}
    }
    if request.from().is_none() {
        return refuse("Missing Or Malformed From");
    }
    if request.to().is_none() {
        return refuse("Missing Or Malformed To");
    }
    if !request.vias().all(|via| via.is_some_and(|via| via.is_whole)) {
        return refuse("Malformed Via");
    }
    let is_route = |value| NameAddr::parse(value).is_some_and(|route| Uri::parse(route.uri).is_ok());
    if !request.values(Name::Route).all(is_route) {
        return refuse("Malformed Route");
    }
    if !request.values(Name::RecordRoute).all(|value| NameAddr::parse(value).is_some()) {
        return refuse("Malformed Record-Route");
    }
    match request.target() {
        // Headers have no place in a Request-URI (§19.1.1).
        Ok(uri) if !uri.headers.is_empty() => refuse("Headers In Request-URI"),
        Ok(_) => Ok(()),
        Err(UriFault::Scheme) => Err(Reply::new(416)),
        Err(UriFault::NoScheme | UriFault::Host | UriFault::Parameters) => refuse("Malformed Request-URI"),
    }
}

/// What Max-Forwards says (step 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxForwards {
    /// What to write into the request when it is forwarded.
    Forward(u32),
    /// It has come as far as it may.
    Exhausted,
}

/// Step 3. A value that is none of 0 to 255 is refused.
pub fn check_max_forwards(request: &Message) -> Result<MaxForwards, Reply> {
    let Some(value) = request.row(Name::MaxForwards) else {
        return Ok(MaxForwards::Forward(DEFAULT_MAX_FORWARDS));
    };
    match decimal(value).filter(|&hops| hops <= 255) {
        Some(0) => Ok(MaxForwards::Exhausted),
        Some(hops) => Ok(MaxForwards::Forward(hops - 1)),
        None => Err(Reply::with_reason(400, "Malformed Max-Forwards")),
    }
}

/// How many branches the request may have at one time (RFC 5393 §5.3.3). One that may have none cannot be forwarded.
pub fn check_max_breadth(request: &Message) -> Result<u32, Reply> {
    let Some(value) = request.row(Name::MaxBreadth) else {
        return Ok(MAXIMUM_BREADTH);
    };
    match delta_seconds(value) {
        Some(0) => Err(Reply::new(440)),
        Some(breadth) => Ok(breadth.min(MAXIMUM_BREADTH)),
        None => Err(Reply::with_reason(400, "Malformed Max-Breadth")),
    }
}

/// Whether a request offers compression (MS-SIPCOMP), which there is none of: its sender goes on without. It concerns this
/// hop alone, so that it is never forwarded, whoever sends it. The answer says what may be asked instead (RFC 3261 §21.4.6).
pub fn check_compression(request: &Message) -> Result<(), Reply> {
    if request.method_token() != b"NEGOTIATE" {
        return Ok(());
    }
    let allowed = capabilities().rows.into_iter().filter(|(name, _)| *name == "Allow");
    Err(allowed.fold(Reply::new(405), |reply, (name, value)| reply.row(name, value)))
}

/// Step 5. The proxy supports no extension that a peer could require of it; those of `tolerated` ask nothing of it. CANCEL
/// and ACK cannot be refused for it (§20.29).
pub fn check_proxy_require(request: &Message, tolerated: &[String]) -> Result<(), Reply> {
    if matches!(request.method(), Some(Method::Ack | Method::Cancel)) {
        return Ok(());
    }
    let is_tolerated =
        |tag: &&[u8]| tolerated.iter().any(|tolerated| tag.eq_ignore_ascii_case(tolerated.as_bytes()));
    let refused = request.values(Name::ProxyRequire).filter(|tag| !is_tolerated(tag));
    Reply::refuse_extensions(refused, "Malformed Proxy-Require")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::message::{Carriage, MessageLimits};

    fn request(change: impl FnOnce(&mut String)) -> Message {
        let mut text = String::from(
            "MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\r\n",
        );
        change(&mut text);
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        Message::parse(Bytes::from(text.into_bytes()), Carriage::Datagram, limits).unwrap()
    }

    #[test]
    fn each_fault_has_its_own_reason() {
        let table = [
            ("Call-ID: c\r\n", "", 400, "Missing Call-ID"),
            ("CSeq: 1 MESSAGE", "CSeq: x MESSAGE", 400, "Missing Or Malformed CSeq"),
            ("CSeq: 1 MESSAGE", "CSeq: 1 INVITE", 400, "CSeq Method Differs From Request Method"),
            ("From: <sip:alice@example.org>;tag=1", "From: \"x", 400, "Missing Or Malformed From"),
            ("To: <sip:bob@example.org>\r\n", "", 400, "Missing Or Malformed To"),
            ("Max-", "Via: x\r\nMax-", 400, "Malformed Via"),
            ("Max-", "Route: <sip:[>\r\nMax-", 400, "Malformed Route"),
            ("Max-", "Record-Route: <sip:x\r\nMax-", 400, "Malformed Record-Route"),
            ("sip:bob@example.org SIP", "sip:bob@example.org?a=b SIP", 400, "Headers In Request-URI"),
            ("sip:bob@example.org SIP", "bob SIP", 400, "Malformed Request-URI"),
            ("sip:bob@example.org SIP", "tel:+4930 SIP", 416, "Unsupported URI Scheme"),
            ("SIP/2.0\r\n", "SIP/3.0\r\n", 505, "Version Not Supported"),
        ];
        for (from, to, status, reason) in table {
            let refusal = check_syntax(&request(|text| *text = text.replacen(from, to, 1))).unwrap_err();
            assert_eq!((refusal.status, refusal.reason), (status, reason));
        }
        assert!(check_syntax(&request(|_| ())).is_ok());
    }

    #[test]
    fn max_forwards_counts_down_and_is_added() {
        let with = |value: &str| {
            check_max_forwards(&request(|text| *text = text.replace("Max-Forwards: 70\r\n", value)))
        };
        assert_eq!(with("Max-Forwards: 70\r\n").unwrap(), MaxForwards::Forward(69));
        assert_eq!(with("").unwrap(), MaxForwards::Forward(70));
        assert_eq!(with("Max-Forwards: 0\r\n").unwrap(), MaxForwards::Exhausted);
        for bad in ["256", "-1", "", "x"] {
            assert_eq!(with(&format!("Max-Forwards: {bad}\r\n")).unwrap_err().status, 400);
        }
    }

    #[test]
    fn required_extensions_are_listed_as_unsupported_unless_they_are_tolerated() {
        let tolerated = ["ms-benotify".to_owned()];
        let with = |rows: &str| {
            let request = request(|text| *text = text.replace("Call-ID", &format!("{rows}\r\nCall-ID")));
            check_proxy_require(&request, &tolerated)
                .map_err(|refusal| (refusal.status, refusal.rows.to_vec()))
        };
        let unsupported = |tags: &str| Err((420, vec![("Unsupported", tags.to_owned())]));
        assert_eq!(with("Proxy-Require: foo, bar\r\nProxy-Require: baz"), unsupported("foo,bar,baz"));
        assert_eq!(
            with("Proxy-Require: foo, MS-benotify\r\nProxy-Require: ms-benotify2"),
            unsupported("foo,ms-benotify2")
        );
        assert_eq!(with("Proxy-Require: ms-BENOTIFY\r\nProxy-Require: ms-benotify,ms-benotify"), Ok(()));
        assert_eq!(with("Proxy-Require: foo, \u{e9}"), Err((400, Vec::new())));
        assert_eq!(with("Require: foo"), Ok(()));
    }

    #[test]
    fn compression_is_refused_by_its_method_alone() {
        for (method, status) in [("NEGOTIATE", Some(405)), ("negotiate", None), ("MESSAGE", None)] {
            let request = request(|text| *text = text.replace("MESSAGE", method));
            assert_eq!(check_compression(&request).err().map(|refusal| refusal.status), status, "{method}");
        }
    }
}
