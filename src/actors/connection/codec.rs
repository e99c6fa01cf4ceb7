//! What the octets of a connection mean: SIP as it is on a stream, or SIP in WebSocket messages.
//!
//! The one seam between the two: what lies before it (streams, TLS) and behind it (Routers, queues, deadlines) is the
//! same for both.

use bytes::{Bytes, BytesMut};

use super::End;
use crate::protocol::flow::Transport;
use crate::protocol::message::framing::{self, Frame, Framer};
use crate::protocol::message::{Carriage, Message, MessageLimits};
use crate::protocol::websocket::framing as websocket;

/// The state of one connection's two directions.
#[derive(Debug)]
pub(super) enum Codec {
    Stream(Framer),
    WebSocket(websocket::Framer),
}

/// What has come.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A SIP message.
    Message(Bytes),
    /// A keep-alive; these octets answer it.
    KeepAlive(Bytes),
}

/// Why nothing more can be read, and what is still to be said.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) end: End,
    /// The beginning of the message that is refused.
    pub(super) refused: Option<Message>,
    /// The last words.
    pub(super) close: Option<Bytes>,
}

impl From<framing::Broken> for Broken {
    fn from(broken: framing::Broken) -> Self {
        match broken {
            framing::Broken::NotSip => Self { end: End::NotSip, refused: None, close: None },
            framing::Broken::Refused { message, fault } => {
                Self { end: End::Refused(fault), refused: Some(message), close: None }
            }
        }
    }
}

impl From<websocket::Broken> for Broken {
    fn from(broken: websocket::Broken) -> Self {
        let close = Some(broken.close());
        match broken {
            websocket::Broken::Closed(_) => Self { end: End::PeerClosed, refused: None, close },
            websocket::Broken::Violation(fault) => Self { end: End::WebSocket(fault), refused: None, close },
            websocket::Broken::Sip(broken) => Self { close, ..broken.into() },
        }
    }
}

impl Codec {
    pub(super) fn new(transport: Transport, limits: MessageLimits) -> Self {
        if transport.is_web_socket() {
            Self::WebSocket(websocket::Framer::new(limits))
        } else {
            Self::Stream(Framer::new(limits))
        }
    }

    /// Cuts what comes next from the front of `buffer`.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, Broken> {
        match self {
            Self::Stream(framer) => Ok(framer.next(buffer)?.map(|frame| match frame {
                Frame::Message(octets) => Incoming::Message(octets),
                Frame::Ping => Incoming::KeepAlive(Bytes::from_static(b"\r\n")),
            })),
            Self::WebSocket(framer) => Ok(framer.next(buffer)?.map(|event| match event {
                websocket::Event::Message(octets) => Incoming::Message(octets),
                websocket::Event::Answer(octets) => Incoming::KeepAlive(octets),
            })),
        }
    }

    /// From now on, messages may have these sizes.
    pub(super) const fn set_limits(&mut self, limits: MessageLimits) {
        match self {
            Self::Stream(framer) => framer.set_limits(limits),
            Self::WebSocket(framer) => framer.set_limits(limits),
        }
    }

    /// Reads a message that was cut.
    pub(super) fn parse(&self, octets: Bytes, limits: MessageLimits) -> Result<Message, Broken> {
        match self {
            Self::Stream(_) => Message::parse(octets, Carriage::Stream, limits)
                .map_err(|_| Broken::from(framing::Broken::NotSip)),
            Self::WebSocket(_) => Message::parse(octets, Carriage::WebSocket, limits)
                .map_err(|_| websocket::Broken::from(framing::Broken::NotSip).into()),
        }
    }

    /// Whether a message has begun that has left the buffer and is not complete.
    pub(super) const fn is_inside_message(&self) -> bool {
        match self {
            Self::Stream(_) => false,
            Self::WebSocket(framer) => framer.is_inside_message(),
        }
    }

    /// A SIP message as it leaves.
    pub(super) fn wrap(&self, octets: Bytes) -> Bytes {
        match self {
            Self::Stream(_) => octets,
            Self::WebSocket(_) => websocket::wrap(octets),
        }
    }
}
