//! What ChromeDriver is told, and answers: JSON over HTTP. It blocks: a browser is ended where nothing can be awaited.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::common::http::{HttpAnswer, http_request};

/// A browser on a busy machine takes its time to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends JSON and returns the JSON that comes back.
///
/// # Panics
///
/// Where none does.
pub(super) fn exchange(server: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let body = if method == "POST" { body.to_string() } else { String::new() };
    let host = server.to_string();
    let rows = [("Host", host.as_str()), ("Content-Type", "application/json")];
    let request = http_request(method, path, &rows, &body);
    let answer = send(server, request.as_bytes()).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    HttpAnswer::parse(&answer).json()
}

/// The answer is whole when its body is as long as it says: ChromeDriver leaves connections open.
fn send(server: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut piece = [0; 64 * 1024];
    while length(&answer).is_none_or(|length| answer.len() < length) {
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    Ok(answer)
}

/// How long the answer is, once its head has come.
fn length(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let body = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    Some(end + 4 + body.trim().parse::<usize>().ok()?)
}
