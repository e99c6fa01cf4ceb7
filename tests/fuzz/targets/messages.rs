//! Whole messages and streams of them: the index, the edits, the framing.

use bytes::{Bytes, BytesMut};
use sip_proxy::protocol::message::demux::{DatagramKind, classify};
use sip_proxy::protocol::message::edit::Edit;
use sip_proxy::protocol::message::framing::{Frame, Framer};
use sip_proxy::protocol::message::reply::Reply;
use sip_proxy::protocol::message::uri::Uri;
use sip_proxy::protocol::message::{Carriage, Fault, Message, MessageLimits, Name};
use sip_proxy::protocol::proxy::validate::{check_max_forwards, check_proxy_require, check_syntax};

/// Those of the default configuration, and some that most messages exceed.
pub(super) const LIMITS: [MessageLimits; 2] = [
    MessageLimits { message_bytes: 65_535, header_bytes: 65_535 },
    MessageLimits { message_bytes: 400, header_bytes: 300 },
];

/// Names that the proxy reads, of one value and of lists.
const NAMES: [Name; 14] = [
    Name::Via,
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::MaxForwards,
    Name::Route,
    Name::RecordRoute,
    Name::Contact,
    Name::ContentLength,
    Name::Expires,
    Name::Authorization,
    Name::ProxyRequire,
    Name::Other,
];

/// One message: every view of it, its refusal, and what edits leave of it.
pub(crate) fn message(octets: &[u8]) {
    for carriage in [Carriage::Datagram, Carriage::Stream, Carriage::WebSocket] {
        for limits in LIMITS {
            let Ok(message) = Message::parse(Bytes::copy_from_slice(octets), carriage, limits) else {
                continue;
            };
            check_index(octets, &message);
            check_unchanged(&message);
            check_views(&message);
            if message.method().is_some() && check_syntax(&message).is_ok() {
                check_refusal(&message);
                check_added_via(&message, carriage, limits);
            }
        }
    }
}

fn check_index(octets: &[u8], message: &Message) {
    let skipped = octets.iter().take_while(|&&c| c == b'\r' || c == b'\n').count();
    assert!(octets[skipped..].starts_with(message.bytes()), "octets that did not come");
    let body_start = message.bytes().len() - message.body().len();
    assert!(message.header_start() <= message.header_end() && message.header_end() <= body_start);
    let mut end = message.header_start();
    for (name, written, value) in message.all_rows() {
        assert!(!written.is_empty(), "a row without a name");
        let value = message.span_of(value);
        assert!(end <= value.start && value.end <= message.header_end(), "{name:?} lies outside its row");
        end = value.end;
    }
    for name in NAMES {
        let spans: Vec<_> = message.row_spans(name).collect();
        assert_eq!(message.rows(name).count(), spans.len(), "{name:?}");
        assert_eq!(message.first_row_start(name), spans.first().map(|span| span.start), "{name:?}");
        assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start), "{name:?}");
        assert!(message.values(name).count() >= spans.len(), "{name:?}");
    }
}

fn check_unchanged(message: &Message) {
    let mut scratch = b"used before".to_vec();
    assert_eq!(Edit::new(message, &mut scratch).write(), message.bytes());
    let mut edit = Edit::new(message, &mut scratch);
    edit.remove_first_values(Name::Route, 0);
    assert_eq!(edit.write(), message.bytes());
}

fn check_views(message: &Message) {
    let Some(method) = message.method() else {
        assert!(message.status().is_some_and(|status| (100..700).contains(&status)));
        return;
    };
    assert!(!message.method_token().is_empty() && message.status().is_none());
    let span = message.request_uri_span();
    assert_eq!(&message.bytes()[span], message.request_uri(), "{method:?}");
    for refusal in [check_max_forwards(message).err(), check_proxy_require(message, &[]).err()] {
        assert!(refusal.is_none_or(|reply| (400..500).contains(&reply.status)));
    }
    if check_syntax(message).is_ok() {
        assert!(message.fault().is_none() && Uri::parse(message.request_uri()).is_ok());
        assert!(message.cseq().is_some_and(|cseq| cseq.method == message.method_token()));
    }
}

/// What the sender of a well-formed request is told must be a well-formed response to it.
fn check_refusal(request: &Message) {
    let Some(via) = request.top_via() else { return };
    let source = "192.0.2.200:4321".parse().expect("a socket address");
    let bytes = Reply::new(400).write(request, source, b"0123");
    let reply = Message::parse(bytes.clone(), Carriage::Stream, LIMITS[0]).expect("a response");
    // Stamping may lengthen a section that was as long as it may be.
    if reply.fault() == Some(Fault::TooLarge) {
        return;
    }
    assert_eq!((reply.status(), reply.fault(), reply.bytes()), (Some(400), None, &bytes));
    assert_eq!((reply.call_id(), reply.cseq()), (request.call_id(), request.cseq()));
    assert_eq!(reply.values(Name::Via).count(), request.values(Name::Via).count());
    let stamped = reply.top_via().expect("a Via that was read once is read again");
    assert_eq!((stamped.branch, stamped.host_text), (via.branch, via.host_text));
    let (from, to) = (request.from().expect("checked"), reply.to().expect("a To that was read once"));
    assert_eq!(reply.from().map(|again| again.tag()), Some(from.tag()));
    assert!(to.tag().is_some(), "an answer without To tag");
}

/// A Via on top changes nothing else, and without it the message is again what it was.
fn check_added_via(request: &Message, carriage: Carriage, limits: MessageLimits) {
    let mut scratch = Vec::new();
    let mut edit = Edit::new(request, &mut scratch);
    edit.insert_row(Name::Via, |out| out.extend_from_slice(b"SIP/2.0/UDP h;branch=z9hG4bKours"));
    let bytes = edit.write();
    let forwarded = Message::parse(bytes, carriage, limits).expect("still a request");
    if forwarded.fault() == Some(Fault::TooLarge) {
        return;
    }
    assert_eq!(forwarded.fault(), None);
    assert_eq!(forwarded.body(), request.body());
    assert_eq!(forwarded.values(Name::Via).count(), request.values(Name::Via).count() + 1);
    assert_eq!(forwarded.top_via().and_then(|via| via.branch), Some(&b"z9hG4bKours"[..]));
    let mut edit = Edit::new(&forwarded, &mut scratch);
    edit.remove_first_values(Name::Via, 1);
    assert_eq!(edit.write(), request.bytes());
}

/// One stream: the first octet says into how many pieces it is cut, as many octets after it where.
pub(crate) fn framing(octets: &[u8]) {
    let Some((cuts, stream)) = pieces(octets) else { return };
    for limits in LIMITS {
        let (whole, broken) = frames(stream, &[], limits);
        let (split, also_broken) = frames(stream, &cuts, limits);
        assert_eq!((&whole, &broken), (&split, &also_broken), "cut at {cuts:?}");
        for frame in whole {
            let Frame::Message(bytes) = frame else { continue };
            assert!(bytes.len() <= limits.message_bytes, "a message past the limit");
            // The index must read a frame to its last octet, or a second message could hide in it.
            if let Ok(message) = Message::parse(bytes.clone(), Carriage::Stream, limits) {
                assert_eq!(message.bytes(), &bytes);
                let lost =
                    [Fault::NoContentLength, Fault::ContentLength, Fault::BodyTooShort, Fault::NoEmptyLine];
                assert!(message.fault().is_none_or(|fault| !lost.contains(&fault)));
            }
        }
    }
}

/// Where to cut, and what.
pub(super) fn pieces(octets: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let (&pieces, rest) = octets.split_first()?;
    let (cuts, stream) = rest.split_at(usize::from(pieces % 16).min(rest.len()));
    let mut cuts: Vec<_> = cuts.iter().map(|&cut| stream.len() * usize::from(cut) / 256).collect();
    cuts.sort_unstable();
    Some((cuts, stream))
}

fn frames(stream: &[u8], cuts: &[usize], limits: MessageLimits) -> (Vec<Frame>, Option<String>) {
    let mut framer = Framer::new(limits);
    let (mut buffer, mut frames, mut start) = (BytesMut::new(), Vec::new(), 0);
    for end in cuts.iter().copied().chain([stream.len()]) {
        buffer.extend_from_slice(&stream[start..end]);
        start = end;
        loop {
            match framer.next(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(broken) => return (frames, Some(broken.to_string())),
            }
        }
    }
    (frames, None)
}

/// One datagram: what is told apart by its first octets is nothing that the parser would take.
pub(crate) fn demux(octets: &[u8]) {
    let kind = classify(octets);
    let is_message = Message::parse(Bytes::copy_from_slice(octets), Carriage::Datagram, LIMITS[0]).is_ok();
    assert!(!is_message || kind == DatagramKind::Sip, "a message taken for {kind:?}");
    if kind == DatagramKind::Stun {
        assert!(octets.len() >= 20 && octets[0] < 64, "too short or not STUN");
    }
}
