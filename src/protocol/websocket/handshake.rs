//! The handshake: the HTTP request that asks for WebSocket with SIP in it, and its answer (RFC 6455 §4.2,
//! RFC 7118 §4.1).
//!
//! Any path is served. Origin and cookies are not looked at: who may send what is decided by digest, as on every
//! transport (RFC 7118 §A.1).

use std::fmt::Write as _;

use bytes::Bytes;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::handshake::machine::TryParse as _;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::header::{HOST, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

use crate::protocol::message::framing::header_end;
use crate::protocol::message::lexical::is_token;

/// The subprotocol that a client must offer and is told to use.
const SUBPROTOCOL: &str = "sip";

/// One handshake.
#[derive(Clone, Debug)]
pub struct Handshake {
    header_bytes: usize,
    /// No line end before this offset ends the request.
    scanned: usize,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read.
    #[error("not an HTTP request")]
    NotHttp,
    /// Longer than its limit, or more header fields than are read.
    #[error("HTTP header too large")]
    TooLarge,
    /// Another method than GET.
    #[error("HTTP method is not GET")]
    Method,
    /// Older than HTTP/1.1.
    #[error("HTTP version is not 1.1")]
    HttpVersion,
    /// No Host.
    #[error("no Host")]
    Host,
    /// It asks for no upgrade to WebSocket.
    #[error("not a WebSocket upgrade")]
    NotWebSocket,
    /// It asks for another version than 13.
    #[error("WebSocket version is not 13")]
    WebSocketVersion,
    /// No nonce of 16 octets.
    #[error("missing or malformed Sec-WebSocket-Key")]
    Key,
    /// It does not offer SIP.
    #[error("subprotocol sip is not offered")]
    Subprotocol,
    /// A client says nothing more until it has the answer.
    #[error("octets behind the request")]
    Behind,
}

impl Handshake {
    /// For a request of this many octets at most.
    pub const fn new(header_bytes: usize) -> Self {
        Self { header_bytes, scanned: 0 }
    }

    /// The answer to the request in `octets`, which are all that has come. `None`: it takes more.
    pub fn answer(&mut self, octets: &[u8]) -> Result<Option<Bytes>, Refusal> {
        if !octets.first().is_none_or(|&first| is_token(first)) {
            return Err(Refusal::NotHttp);
        }
        match header_end(&octets[..octets.len().min(self.header_bytes)], self.scanned) {
            Ok(end) if end < octets.len() => Err(Refusal::Behind),
            Ok(_) => accept(octets).map(Some),
            Err(_) if octets.len() >= self.header_bytes => Err(Refusal::TooLarge),
            Err(scanned) => {
                self.scanned = scanned;
                Ok(None)
            }
        }
    }
}

fn accept(octets: &[u8]) -> Result<Bytes, Refusal> {
    let Some((_, request)) = Request::try_parse(octets).map_err(refusal)? else {
        return Err(Refusal::NotHttp);
    };
    let mut response = create_response(&request).map_err(refusal)?;
    if !request.headers().contains_key(HOST) {
        return Err(Refusal::Host);
    }
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let mut offered = offered.filter_map(|row| row.to_str().ok()).flat_map(|row| row.split(','));
    if !offered.any(|name| name.trim() == SUBPROTOCOL) {
        return Err(Refusal::Subprotocol);
    }
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let mut out = Vec::with_capacity(256);
    write_response(&mut out, &response)
        .expect("a Vec takes all that is written, and ours is HTTP/1.1 in ASCII");
    Ok(Bytes::from(out))
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::Capacity(CapacityError::TooManyHeaders) => Refusal::TooLarge,
        Error::Protocol(fault) => match fault {
            ProtocolError::WrongHttpMethod => Refusal::Method,
            ProtocolError::WrongHttpVersion => Refusal::HttpVersion,
            ProtocolError::MissingConnectionUpgradeHeader | ProtocolError::MissingUpgradeWebSocketHeader => {
                Refusal::NotWebSocket
            }
            ProtocolError::MissingSecWebSocketVersionHeader => Refusal::WebSocketVersion,
            ProtocolError::MissingSecWebSocketKey | ProtocolError::InvalidSecWebSocketKey => Refusal::Key,
            _ => Refusal::NotHttp,
        },
        _ => Refusal::NotHttp,
    }
}

impl Refusal {
    /// The status line behind the version.
    const fn status(self) -> &'static str {
        match self {
            Self::NotHttp | Self::Host | Self::Key | Self::Subprotocol | Self::Behind => "400 Bad Request",
            Self::Method => "405 Method Not Allowed",
            Self::NotWebSocket | Self::WebSocketVersion => "426 Upgrade Required",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::HttpVersion => "505 HTTP Version Not Supported",
        }
    }

    /// What must stand in the answer beside its text (RFC 9110 §15.5.6, §15.5.22; RFC 6455 §4.4).
    const fn rows(self) -> &'static str {
        match self {
            Self::Method => "Allow: GET\r\n",
            Self::NotWebSocket | Self::WebSocketVersion => {
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            }
            Self::NotHttp
            | Self::TooLarge
            | Self::HttpVersion
            | Self::Host
            | Self::Key
            | Self::Subprotocol
            | Self::Behind => "",
        }
    }

    /// The answer, after which the connection ends.
    pub fn response(self) -> Bytes {
        let text = format!("{self}: SIP over WebSocket (RFC 7118) is spoken here\n");
        let connection = if self.rows().contains("Upgrade:") { "Upgrade, close" } else { "close" };
        let mut out = String::with_capacity(320);
        write!(
            out,
            "HTTP/1.1 {}\r\n{}Connection: {connection}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
            self.status(),
            self.rows(),
            text.len()
        )
        .expect("a String takes all that is written");
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request of RFC 7118 §4.1, with a path and what browsers add.
    const REQUEST: &str = "GET /any/path?x=y HTTP/1.1\r\nHost: sip-ws.example.com\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://www.example.com\r\nSec-WebSocket-Protocol: chat, sip\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\nCookie: a=b\r\n\r\n";
    const LIMIT: usize = 2_000;

    fn answer(request: &str) -> Result<Option<Bytes>, Refusal> {
        Handshake::new(LIMIT).answer(request.as_bytes())
    }

    #[test]
    fn the_request_of_the_rfc_is_answered_with_101_and_sip() {
        let answer = answer(REQUEST).unwrap().unwrap();
        let answer = std::str::from_utf8(&answer).unwrap().to_ascii_lowercase();
        let (status, rows) = answer.split_once("\r\n").unwrap();
        assert_eq!(status, "http/1.1 101 switching protocols");
        for row in [
            "upgrade: websocket\r\n",
            "connection: upgrade\r\n",
            "sec-websocket-protocol: sip\r\n",
            &"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n".to_ascii_lowercase(),
        ] {
            assert!(rows.contains(row), "{row:?} in {rows:?}");
        }
        assert!(rows.ends_with("\r\n\r\n") && !rows.contains("extensions"), "{rows:?}");
    }

    #[test]
    fn a_request_may_come_in_any_pieces() {
        let mut handshake = Handshake::new(LIMIT);
        for end in 0..REQUEST.len() {
            assert_eq!(handshake.answer(&REQUEST.as_bytes()[..end]), Ok(None));
            assert!(handshake.scanned + 2 >= end, "what was scanned is not scanned again");
        }
        assert!(handshake.answer(REQUEST.as_bytes()).unwrap().is_some());
    }

    #[test]
    fn what_asks_for_something_else_is_told_so() {
        let without = |name: &str| {
            let start = REQUEST.find(name).unwrap();
            let end = start + REQUEST[start..].find("\r\n").unwrap() + 2;
            format!("{}{}", &REQUEST[..start], &REQUEST[end..])
        };
        let many: String = (0..150).map(|number| format!("X{number}: y\r\n")).collect();
        let table = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Refusal::NotWebSocket, 426),
            (without("Upgrade: "), Refusal::NotWebSocket, 426),
            (without("Connection: "), Refusal::NotWebSocket, 426),
            (REQUEST.replace("Version: 13", "Version: 8"), Refusal::WebSocketVersion, 426),
            (without("Sec-WebSocket-Version"), Refusal::WebSocketVersion, 426),
            (without("Sec-WebSocket-Key"), Refusal::Key, 400),
            (REQUEST.replace("dGhl", "dGh"), Refusal::Key, 400),
            (without("Host"), Refusal::Host, 400),
            (without("Sec-WebSocket-Protocol"), Refusal::Subprotocol, 400),
            (REQUEST.replace("chat, sip", "chat, sips"), Refusal::Subprotocol, 400),
            (REQUEST.replace("GET", "POST"), Refusal::Method, 405),
            (REQUEST.replace("HTTP/1.1", "HTTP/1.0"), Refusal::HttpVersion, 505),
            (format!("{REQUEST}\u{1}"), Refusal::Behind, 400),
            (REQUEST.replace("Cookie: a=b\r\n", &many), Refusal::TooLarge, 431),
            (REQUEST.replace("a=b", &"c".repeat(LIMIT)), Refusal::TooLarge, 431),
            (format!("GET /{}", "x".repeat(LIMIT)), Refusal::TooLarge, 431),
            ("OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n".to_owned(), Refusal::NotHttp, 400),
            ("\u{16}\u{3}\u{1}".to_owned(), Refusal::NotHttp, 400),
            ("\r\n\r\n".to_owned(), Refusal::NotHttp, 400),
        ];
        for (request, expected, status) in table {
            assert_eq!(answer(&request), Err(expected), "{request:?}");
            let response = String::from_utf8(expected.response().to_vec()).unwrap();
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
            let (head, text) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", text.len())), "{response}");
            assert!(text.starts_with(&expected.to_string()) && text.ends_with('\n'));
            assert_eq!(head.contains("Sec-WebSocket-Version: 13"), status == 426, "{response}");
            assert_eq!(head.contains("Allow: GET"), status == 405, "{response}");
        }
    }

    #[test]
    fn the_subprotocol_may_stand_in_a_row_of_its_own() {
        let rows = "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: sip\r\n";
        assert!(answer(&REQUEST.replace("Sec-WebSocket-Protocol: chat, sip\r\n", rows)).unwrap().is_some());
    }

    #[test]
    fn the_limit_is_that_of_the_whole_request() {
        let answer = |limit| Handshake::new(limit).answer(REQUEST.as_bytes());
        assert!(answer(REQUEST.len()).unwrap().is_some());
        assert_eq!(answer(REQUEST.len() - 1), Err(Refusal::TooLarge));
    }
}
