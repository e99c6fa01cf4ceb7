//! What can be wrong with a message in itself, and how it is answered.

use super::name::Name;

/// Why a message that was read is refused. The reason phrase of the 400 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// More or fewer than single spaces in the request line (RFC 3261 §7.1).
    RequestLine,
    /// A SIP version other than 2.0: 505.
    Version,
    /// A line that is no `name: value`.
    HeaderLine,
    /// A CR or LF that is not part of a CRLF.
    BareLineBreak,
    /// The header section ends without an empty line.
    NoEmptyLine,
    /// A header field twice that may occur once.
    Repeated(Name),
    /// Content-Length is no number, or two that differ.
    ContentLength,
    /// No Content-Length on a stream.
    NoContentLength,
    /// The datagram or WebSocket message is shorter than its Content-Length says.
    BodyTooShort,
    /// The WebSocket message goes on behind the body: a second SIP message, or a wrong Content-Length.
    BodyTooLong,
    /// Larger than the limit: 513.
    TooLarge,
}

impl Fault {
    /// Status code and reason phrase of the refusal.
    pub const fn response(self) -> (u16, &'static str) {
        match self {
            Self::RequestLine => (400, "Malformed Request-Line"),
            Self::Version => (505, "Version Not Supported"),
            Self::HeaderLine => (400, "Malformed Header Field"),
            Self::BareLineBreak => (400, "Bare CR Or LF In Header Section"),
            Self::NoEmptyLine => (400, "No Empty Line After Header Section"),
            Self::Repeated(Name::Via) | Self::Repeated(Name::Other) => (400, "Repeated Header Field"),
            Self::Repeated(Name::From) => (400, "Repeated From Header Field"),
            Self::Repeated(Name::To) => (400, "Repeated To Header Field"),
            Self::Repeated(Name::CallId) => (400, "Repeated Call-ID Header Field"),
            Self::Repeated(Name::CSeq) => (400, "Repeated CSeq Header Field"),
            Self::Repeated(Name::MaxForwards) => (400, "Repeated Max-Forwards Header Field"),
            Self::Repeated(_) => (400, "Repeated Header Field"),
            Self::ContentLength => (400, "Malformed Content-Length"),
            Self::NoContentLength => (400, "Missing Content-Length On Stream"),
            Self::BodyTooShort => (400, "Body Shorter Than Content-Length"),
            Self::BodyTooLong => (400, "Octets Behind Content-Length"),
            Self::TooLarge => (513, "Message Too Large"),
        }
    }
}

/// Why octets are no message that anything could be said about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The first line is neither a Request-Line nor a Status-Line.
    #[error("not SIP")]
    NotSip,
    /// Nothing but line breaks: a keep-alive.
    #[error("empty")]
    Empty,
}
