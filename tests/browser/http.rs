//! As much of HTTP as ChromeDriver needs of a client: one request, one connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A browser on a busy machine takes its time to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends JSON and returns the JSON that comes back.
///
/// # Panics
///
/// Where none does.
pub(super) fn exchange(server: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let body = if method == "POST" { body.to_string() } else { String::new() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = send(server, request.as_bytes()).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    serde_json::from_slice(&answer).unwrap_or_else(|error| {
        panic!("{method} {path}: {error} in {}", String::from_utf8_lossy(&answer));
    })
}

/// The body of the answer, which has a length: the connection may stay open.
fn send(server: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut piece = [0; 64 * 1024];
    loop {
        if let Some((start, length)) = body_of(&answer)
            && answer.len() >= start + length
        {
            return Ok(answer[start..start + length].to_vec());
        }
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
}

/// Where the body begins and how long it is, once the head has come.
fn body_of(answer: &[u8]) -> Option<(usize, usize)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    Some((end + 4, length.trim().parse().ok()?))
}
