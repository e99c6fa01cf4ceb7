//! Frames: SIP messages cut from WebSocket messages, and wrapped into them (RFC 6455 §5, RFC 7118 §4.2, §5).
//!
//! The owner appends what it reads to a buffer and calls [`Framer::next`] until it answers `None`. A frame waits in
//! that buffer until it is whole; the fragments of a message wait in the Framer. Together they are never longer than
//! one message may be: of a message that is too large, no more is awaited than it takes to answer it.
//!
//! Not here: time. [`Framer::is_inside_message`] tells the owner that fragments wait, beside what its buffer holds.

use std::io::Cursor;

use bytes::{Buf as _, Bytes, BytesMut};
use tungstenite::Utf8Bytes;
use tungstenite::protocol::CloseFrame;
pub use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::protocol::message::framing::{self as sip, cut, refusal};
use crate::protocol::message::{Fault, MessageLimits};

/// The longest payload of a control frame (RFC 6455 §5.5).
const CONTROL_BYTES: usize = 125;

/// What was cut from the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The octets of one SIP message, to be read as [`Carriage::WebSocket`].
    ///
    /// [`Carriage::WebSocket`]: crate::protocol::message::Carriage::WebSocket
    Message(Bytes),
    /// A ping, or a double CRLF (RFC 5626 §4.4.1, RFC 7118 §6), has come: these octets are to be sent at once.
    Answer(Bytes),
}

/// Why nothing more is cut from the stream. [`Broken::close`] gives the last words.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Broken {
    /// The peer has closed the connection, with this code or none.
    #[error("closed")]
    Closed(Option<CloseCode>),
    /// It does not keep to WebSocket.
    #[error("{0}")]
    Violation(Violation),
    /// What came is no SIP, or too large.
    #[error("{0}")]
    Sip(#[from] sip::Broken),
}

/// What a peer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A client masks what it sends (RFC 6455 §5.1).
    #[error("frame without a mask")]
    NotMasked,
    /// Nothing was negotiated that would give them a meaning (§5.2).
    #[error("reserved bits")]
    ReservedBits,
    /// An opcode without a meaning (§5.2).
    #[error("reserved opcode")]
    Opcode,
    /// A length written in more octets than it needs (§5.2).
    #[error("length in too many octets")]
    Length,
    /// A control frame that is fragmented or too long (§5.5).
    #[error("control frame fragmented or too long")]
    Control,
    /// A fragment that continues nothing, or a message that begins inside another (§5.4).
    #[error("fragment out of order")]
    Order,
    /// A text message that is no UTF-8 (§8.1).
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A close frame whose payload is none (§5.5.1, §7.4).
    #[error("malformed close frame")]
    Close,
    /// Larger than a message may be, and nothing that could be answered.
    #[error("message too large")]
    TooLarge,
}

impl Violation {
    const fn close_code(self) -> CloseCode {
        match self {
            Self::NotUtf8 => CloseCode::Invalid,
            Self::TooLarge => CloseCode::Size,
            Self::NotMasked
            | Self::ReservedBits
            | Self::Opcode
            | Self::Length
            | Self::Control
            | Self::Order
            | Self::Close => CloseCode::Protocol,
        }
    }
}

impl From<Violation> for Broken {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl Broken {
    /// The close frame that ends the connection, or answers the peer's (RFC 6455 §5.5.1, §7.4.1).
    pub fn close(&self) -> Bytes {
        let code = match self {
            Self::Closed(code) => *code,
            Self::Violation(violation) => Some(violation.close_code()),
            Self::Sip(sip::Broken::NotSip) => Some(CloseCode::Unsupported),
            Self::Sip(sip::Broken::Refused { .. }) => Some(CloseCode::Size),
        };
        write(Frame::close(code.map(|code| CloseFrame { code, reason: Utf8Bytes::default() })))
    }
}

/// Wraps a SIP message, or a keep-alive, into one WebSocket message: text where it is UTF-8, else binary
/// (RFC 7118 §4.2).
pub fn wrap(octets: Bytes) -> Bytes {
    let kind = if std::str::from_utf8(&octets).is_ok() { Data::Text } else { Data::Binary };
    write(Frame::message(octets, OpCode::Data(kind), true))
}

fn write(frame: Frame) -> Bytes {
    let mut out = Vec::with_capacity(frame.len());
    frame.format(&mut out).expect("a Vec takes all that is written");
    Bytes::from(out)
}

/// The state of one connection.
#[derive(Clone, Debug)]
pub struct Framer {
    limits: MessageLimits,
    /// What has come of a fragmented message; without memory of its own where there is none.
    fragments: BytesMut,
    /// Whether that is text; `None` outside of a fragmented message.
    is_text: Option<bool>,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug)]
struct Head {
    is_final: bool,
    opcode: OpCode,
    mask: [u8; 4],
    /// Its own length.
    length: usize,
    /// The length of what follows it.
    payload: usize,
}

impl Framer {
    /// From now on, messages may have these sizes.
    pub const fn set_limits(&mut self, limits: MessageLimits) {
        self.limits = limits;
    }

    /// Behind the handshake.
    pub fn new(limits: MessageLimits) -> Self {
        Self { limits, fragments: BytesMut::new(), is_text: None }
    }

    /// Whether a message has begun and not ended, as far as it has left the buffer.
    pub const fn is_inside_message(&self) -> bool {
        self.is_text.is_some()
    }

    /// Cuts what comes next from the front of `buffer`. `None`: it takes more octets.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Broken> {
        while let Some(head) = Head::read(buffer)? {
            self.check(&head)?;
            if self.is_too_large(&head) {
                return self.refuse(buffer, &head).map_or(Ok(None), Err);
            }
            if buffer.len() < head.length + head.payload {
                return Ok(None);
            }
            buffer.advance(head.length);
            unmask(&mut buffer[..head.payload], head.mask);
            let payload = cut(buffer, head.payload);
            if let Some(event) = self.take(&head, payload)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn check(&self, head: &Head) -> Result<(), Violation> {
        let is_fit = match head.opcode {
            OpCode::Control(_) if !head.is_final || head.payload > CONTROL_BYTES => {
                return Err(Violation::Control);
            }
            OpCode::Control(_) => true,
            OpCode::Data(Data::Continue) => self.is_inside_message(),
            OpCode::Data(_) => !self.is_inside_message(),
        };
        if is_fit { Ok(()) } else { Err(Violation::Order) }
    }

    fn is_too_large(&self, head: &Head) -> bool {
        let whole = self.fragments.len().saturating_add(head.payload);
        matches!(head.opcode, OpCode::Data(_)) && whole > self.limits.message_bytes
    }

    /// Refuses a message that is too large, once as much has come as its header section may have.
    fn refuse(&self, buffer: &[u8], head: &Head) -> Option<Broken> {
        let here = &buffer[head.length..];
        let here = &here[..here.len().min(head.payload)];
        let wanted = self.limits.header_bytes.min(self.fragments.len().saturating_add(head.payload));
        if self.fragments.len() + here.len() < wanted {
            return None;
        }
        let mut octets = self.fragments.to_vec();
        octets.extend_from_slice(here);
        unmask(&mut octets[self.fragments.len()..], head.mask);
        octets.truncate(wanted);
        Some(match refusal(&octets, self.limits, Fault::TooLarge) {
            sip::Broken::NotSip => Violation::TooLarge.into(),
            refused @ sip::Broken::Refused { .. } => refused.into(),
        })
    }

    /// Takes a frame that is whole.
    fn take(&mut self, head: &Head, payload: Bytes) -> Result<Option<Event>, Broken> {
        match head.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Event::Answer(write(Frame::pong(payload))))),
            OpCode::Control(Control::Close) => Err(closed(&payload)),
            OpCode::Control(Control::Pong | Control::Reserved(_)) => Ok(None),
            OpCode::Data(kind) => {
                let is_text = self.is_text.unwrap_or(kind == Data::Text);
                if head.is_final && !self.is_inside_message() {
                    return complete(payload, is_text);
                }
                self.fragments.extend_from_slice(&payload);
                if !head.is_final {
                    self.is_text = Some(is_text);
                    return Ok(None);
                }
                self.is_text = None;
                complete(std::mem::take(&mut self.fragments).freeze(), is_text)
            }
        }
    }
}

/// A WebSocket message that is whole.
fn complete(octets: Bytes, is_text: bool) -> Result<Option<Event>, Broken> {
    if is_text && std::str::from_utf8(&octets).is_err() {
        return Err(Violation::NotUtf8.into());
    }
    if !octets.iter().all(|c| matches!(c, b'\r' | b'\n')) {
        return Ok(Some(Event::Message(octets)));
    }
    let is_ping = octets.windows(4).any(|four| four == b"\r\n\r\n");
    Ok(is_ping.then(|| Event::Answer(wrap(Bytes::from_static(b"\r\n")))))
}

/// The peer's close frame.
fn closed(payload: &[u8]) -> Broken {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Broken::Closed(None) } else { Violation::Close.into() };
    };
    let code = CloseCode::from(u16::from_be_bytes(*code));
    match std::str::from_utf8(reason) {
        Err(_) => Violation::NotUtf8.into(),
        Ok(_) if !code.is_allowed() => Violation::Close.into(),
        Ok(_) => Broken::Closed(Some(code)),
    }
}

impl Head {
    /// The header at the front of `buffer`, where that is whole.
    fn read(buffer: &[u8]) -> Result<Option<Self>, Violation> {
        let mut cursor = Cursor::new(buffer);
        let Some((header, payload)) = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Opcode)? else {
            return Ok(None);
        };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::ReservedBits);
        }
        let mask = header.mask.ok_or(Violation::NotMasked)?;
        let length = header.len(payload);
        if cursor.position() != length as u64 {
            return Err(Violation::Length);
        }
        let payload = usize::try_from(payload).unwrap_or(usize::MAX);
        Ok(Some(Self { is_final: header.is_final, opcode: header.opcode, mask, length, payload }))
    }
}

/// Takes the client's mask off (RFC 6455 §5.3).
fn unmask(octets: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = octets.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (octet, key) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *octet ^= key;
    }
}

#[cfg(test)]
mod tests;
