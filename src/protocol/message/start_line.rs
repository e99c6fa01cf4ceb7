//! Request-Line and Status-Line (RFC 3261 §7.1, §7.2).

use super::fault::Fault;
use super::lexical::is_token_only;

/// The methods that the proxy treats apart; all others are [`Method::Other`] and pass. Compared with case (§7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// §13.
    Invite,
    /// §17.1.1.3: no response, no transaction of its own.
    Ack,
    /// §9.
    Cancel,
    /// §15.
    Bye,
    /// §10.
    Register,
    /// §11.
    Options,
    /// RFC 3428.
    Message,
    /// RFC 6665.
    Subscribe,
    /// RFC 6665.
    Notify,
    /// RFC 3903.
    Publish,
    /// RFC 3515.
    Refer,
    /// RFC 3311.
    Update,
    /// MS-SIP: a NOTIFY that is never answered.
    Benotify,
    /// Any other token.
    Other,
}

impl Method {
    /// All, in the order of their declaration.
    pub const ALL: [Self; 14] = [
        Self::Invite,
        Self::Ack,
        Self::Cancel,
        Self::Bye,
        Self::Register,
        Self::Options,
        Self::Message,
        Self::Subscribe,
        Self::Notify,
        Self::Publish,
        Self::Refer,
        Self::Update,
        Self::Benotify,
        Self::Other,
    ];

    /// The token; `other` of those that have no name here.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Cancel => "CANCEL",
            Self::Bye => "BYE",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Message => "MESSAGE",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Publish => "PUBLISH",
            Self::Refer => "REFER",
            Self::Update => "UPDATE",
            Self::Benotify => "BENOTIFY",
            Self::Other => "other",
        }
    }

    /// The method that `token` writes.
    pub fn parse(token: &[u8]) -> Self {
        match token {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"CANCEL" => Self::Cancel,
            b"BYE" => Self::Bye,
            b"REGISTER" => Self::Register,
            b"OPTIONS" => Self::Options,
            b"MESSAGE" => Self::Message,
            b"SUBSCRIBE" => Self::Subscribe,
            b"NOTIFY" => Self::Notify,
            b"PUBLISH" => Self::Publish,
            b"REFER" => Self::Refer,
            b"UPDATE" => Self::Update,
            b"BENOTIFY" => Self::Benotify,
            _ => Self::Other,
        }
    }

    /// Whether a 2xx to an initial request of this method makes a dialog (RFC 3261 §12, 6665 §4.1, 3515 §2.4.4).
    pub const fn forms_dialog(self) -> bool {
        matches!(self, Self::Invite | Self::Subscribe | Self::Refer)
    }
}

/// The first line, as offsets into the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine {
    /// `METHOD SP Request-URI SP SIP/2.0`.
    Request {
        /// The method, for comparisons.
        method: Method,
        /// Where the method's octets end; they begin at 0.
        method_end: u16,
        /// Where the Request-URI begins.
        uri_start: u16,
        /// Where it ends.
        uri_end: u16,
    },
    /// `SIP/2.0 SP Status-Code SP Reason-Phrase`.
    Response {
        /// 100 to 699.
        status: u16,
        /// Where the reason phrase begins; it ends with the line.
        reason_start: u16,
    },
}

/// What a first line can be.
pub(super) enum FirstLine {
    /// Understood.
    Good(StartLine),
    /// A SIP request, but one to be refused for this.
    Faulty(StartLine, Fault),
    /// Nothing that could be answered.
    NotSip,
}

/// Reads the line without its CRLF; `line` is shorter than 65,536 octets.
pub(super) fn parse(line: &[u8]) -> FirstLine {
    if line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
        return parse_status_line(line);
    }
    let Some(method_end) = memchr::memchr(b' ', line) else {
        return FirstLine::NotSip;
    };
    let Some(uri_end) = memchr::memrchr(b' ', trim_trailing_spaces(line)).filter(|&end| end > method_end)
    else {
        return FirstLine::NotSip;
    };
    let version = &line[uri_end + 1..];
    if !is_token_only(&line[..method_end]) || !is_sip_version(trim_trailing_spaces(version)) {
        return FirstLine::NotSip;
    }
    let start_line = StartLine::Request {
        method: Method::parse(&line[..method_end]),
        method_end: method_end as u16,
        uri_start: method_end as u16 + 1,
        uri_end: uri_end as u16,
    };
    let uri = &line[method_end + 1..uri_end];
    if version.ends_with(b" ") || uri.is_empty() || uri.iter().any(|&c| c <= b' ' || c == 0x7f) {
        FirstLine::Faulty(start_line, Fault::RequestLine)
    } else if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        FirstLine::Faulty(start_line, Fault::Version)
    } else {
        FirstLine::Good(start_line)
    }
}

fn parse_status_line(line: &[u8]) -> FirstLine {
    let is_form = line.len() >= 12
        && line[..7].eq_ignore_ascii_case(b"SIP/2.0")
        && line[7] == b' '
        && line[8..11].iter().all(u8::is_ascii_digit)
        && line[11] == b' ';
    if !is_form {
        return FirstLine::NotSip;
    }
    let status = line[8..11].iter().fold(0, |sum, &digit| sum * 10 + u16::from(digit - b'0'));
    if (100..700).contains(&status) {
        FirstLine::Good(StartLine::Response { status, reason_start: 12 })
    } else {
        FirstLine::NotSip
    }
}

fn trim_trailing_spaces(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|&c| c != b' ').map_or(0, |last| last + 1);
    &line[..end]
}

/// `SIP/` 1*DIGIT `.` 1*DIGIT, any number: those that are not 2.0 get a 505 and no silence.
fn is_sip_version(text: &[u8]) -> bool {
    let Some(numbers) = text.get(4..).filter(|_| text[..4].eq_ignore_ascii_case(b"SIP/")) else {
        return false;
    };
    let Some(dot) = memchr::memchr(b'.', numbers) else {
        return false;
    };
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    is_number(&numbers[..dot]) && is_number(&numbers[dot + 1..])
}
