//! WebSocket: the handshake, and frames.

use bytes::{Bytes, BytesMut};
use sip_proxy::protocol::message::{Carriage, Message, MessageLimits};
use sip_proxy::protocol::websocket::framing::{Event, Framer};
use sip_proxy::protocol::websocket::handshake::{Handshake, Refusal};

use super::messages::{LIMITS, pieces};

/// One connection behind its handshake, in pieces as in `framing`.
pub(crate) fn websocket(octets: &[u8]) {
    let Some((cuts, stream)) = pieces(octets) else { return };
    for limits in LIMITS {
        let (whole, close) = events(stream, &[], limits);
        let (split, also_close) = events(stream, &cuts, limits);
        assert_eq!((&whole, &close), (&split, &also_close), "cut at {cuts:?}");
        for event in whole {
            match event {
                Event::Message(bytes) => {
                    assert!(bytes.len() <= limits.message_bytes, "a message past the limit");
                    let _ = Message::parse(bytes, Carriage::WebSocket, limits);
                }
                Event::Answer(bytes) => assert!((2..=127).contains(&bytes.len()), "{bytes:?}"),
            }
        }
    }
}

fn events(stream: &[u8], cuts: &[usize], limits: MessageLimits) -> (Vec<Event>, Option<Bytes>) {
    let mut framer = Framer::new(limits);
    let (mut buffer, mut events, mut start) = (BytesMut::new(), Vec::new(), 0);
    for end in cuts.iter().copied().chain([stream.len()]) {
        buffer.extend_from_slice(&stream[start..end]);
        start = end;
        loop {
            match framer.next(&mut buffer) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(broken) => return (events, Some(broken.close())),
            }
        }
    }
    (events, None)
}

/// One request for WebSocket, in pieces as in `framing`.
pub(crate) fn handshake(octets: &[u8]) {
    let Some((cuts, request)) = pieces(octets) else { return };
    for limits in LIMITS {
        let whole = Handshake::new(limits.header_bytes).answer(request);
        let mut handshake = Handshake::new(limits.header_bytes);
        let split = cuts.iter().copied().chain([request.len()]).find_map(|end| {
            let answer = handshake.answer(&request[..end]);
            (answer != Ok(None)).then_some(answer)
        });
        let split = split.unwrap_or(Ok(None));
        match &whole {
            // It was complete before what follows had come.
            Err(Refusal::Behind) => assert_ne!(split, Ok(None)),
            whole => assert_eq!(&split, whole, "cut at {cuts:?}"),
        }
        if let Ok(Some(answer)) = whole {
            assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
        }
    }
}
