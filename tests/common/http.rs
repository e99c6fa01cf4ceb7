//! A small HTTP/1.1 client: one request on each connection, over TCP or a Unix socket.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl HttpAnswer {
    /// What the peer has sent until it closed.
    pub(crate) fn parse(octets: &[u8]) -> Self {
        let text = String::from_utf8_lossy(octets);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let row = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let headers: HashMap<_, _> = lines.map(row).collect();
        let is_chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
        Self {
            status: status.unwrap_or_else(|| panic!("no status: {first:?}")),
            headers,
            body: if is_chunked { unchunk(body) } else { body.to_owned() },
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|fault| panic!("{fault} in {:?}", self.body))
    }

    /// What is wrong, as every error has it.
    #[track_caller]
    pub(crate) fn problem(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no problem: {}", self.body)).to_owned()
    }
}

fn unchunk(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = text.split_once("\r\n") {
        let Ok(length @ 1..) = usize::from_str_radix(length, 16) else { break };
        let Some(chunk) = rest.get(..length) else { break };
        body.push_str(chunk);
        text = rest[length..].trim_start_matches("\r\n");
    }
    body
}

/// The octets of a request.
pub(crate) fn http_request(method: &str, path: &str, rows: &[(&str, &str)], body: &str) -> String {
    let rows: String = rows.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\n{rows}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Sends `octets` and reads until the peer closes.
pub(crate) async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, octets: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    // A peer that has seen enough closes before everything is written; what it has answered counts.
    let exchanged = async {
        let _ = stream.write_all(octets).await;
        while stream.read_buf(&mut answer).await.is_ok_and(|length| length > 0) {}
    };
    assert!(timeout(PATIENCE, exchanged).await.is_ok(), "the peer neither answers nor closes");
    answer
}

/// One request over a Unix socket.
pub(crate) async fn ask_socket(path: &Path, method: &str, target: &str, body: &str) -> HttpAnswer {
    let stream =
        UnixStream::connect(path).await.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let request = http_request(method, target, &[("Host", "localhost")], body);
    HttpAnswer::parse(&exchange(stream, request.as_bytes()).await)
}

/// One request over TCP, with these headers and no other.
pub(crate) async fn ask_network(
    address: SocketAddr,
    method: &str,
    target: &str,
    rows: &[(&str, &str)],
    body: &str,
) -> HttpAnswer {
    let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    HttpAnswer::parse(&exchange(stream, http_request(method, target, rows, body).as_bytes()).await)
}
