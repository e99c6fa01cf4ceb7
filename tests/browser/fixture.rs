//! A service that is in whatever state a test wants: the files of the page as the product has them, and reports in the
//! product's own types, so that they cannot drift from it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use sip_proxy::actors::control::page;
use sip_proxy::actors::control::report::{Event, Reloaded, Status};

/// Between two looks whether there is something new to follow.
const LOOK: Duration = Duration::from_millis(20);

/// What the service tells, and what it was told.
pub(super) struct State {
    pub(super) status: Status,
    pub(super) events: Vec<Event>,
    /// Prometheus' text, or no such resource.
    pub(super) metrics: Option<String>,
    pub(super) reloaded: Reloaded,
    /// Messages that are traced.
    pub(super) traced: Vec<Value>,
    /// What must be shown.
    pub(super) token: Option<&'static str>,
    /// It accepts connections and says nothing.
    pub(super) is_gone: bool,
    /// `METHOD path body` of each request that changes something or follows something.
    pub(super) asked: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Fixture {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Fixture {
    pub(super) fn start(status: Status) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = State {
            events: status.events.clone(),
            status,
            metrics: Some(String::new()),
            reloaded: Reloaded::default(),
            traced: Vec::new(),
            token: None,
            is_gone: false,
            asked: Vec::new(),
        };
        let fixture = Self { address, state: Arc::new(Mutex::new(state)) };
        let server = fixture.clone();
        // It ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                // A browser that goes away is nobody's fault.
                thread::spawn(move || server.serve(stream).ok());
            }
        });
        fixture
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(request) = Request::read(&stream)? else { return Ok(()) };
        if self.state().is_gone {
            return Ok(());
        }
        let path = request.target.split('?').next().unwrap_or_default();
        if let Some(asset) = page::find(path) {
            return reply(&mut stream, "200 OK", asset.content_type, asset.content);
        }
        if self.state().token.is_some_and(|token| request.authorization != format!("Bearer {token}")) {
            return problem(&mut stream, "401 Unauthorized", "the token is needed");
        }
        if request.method != "GET" || path == "/trace" {
            let Request { method, target, body, .. } = &request;
            self.state().asked.push(format!("{method} {target} {body}").trim_end().to_owned());
            if request.method != "GET" && !request.is_ours {
                return problem(&mut stream, "403 Forbidden", "the header X-Sip-Proxy is missing");
            }
        }
        match (request.method.as_str(), path) {
            ("GET", "/status") => {
                let status = self.state().status.clone();
                json_reply(&mut stream, "200 OK", &status)
            }
            ("GET", "/metrics") => match self.state().metrics.clone() {
                Some(text) => reply(&mut stream, "200 OK", "text/plain; version=0.0.4", text.as_bytes()),
                None => problem(&mut stream, "404 Not Found", "no such resource"),
            },
            ("GET", "/events") => self.follow(&mut stream, |state| &state.events),
            ("GET", "/trace") => self.follow(&mut stream, |state| &state.traced),
            ("POST", "/reload") => {
                let reloaded = self.state().reloaded.clone();
                let status = if reloaded.faults.is_empty() { "200 OK" } else { "422 Unprocessable Content" };
                json_reply(&mut stream, status, &reloaded)
            }
            ("POST", "/drain") | ("PUT", "/log-level") => {
                stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            }
            _ => problem(&mut stream, "404 Not Found", "no such resource"),
        }
    }

    fn follow<T: Serialize>(
        &self,
        stream: &mut TcpStream,
        rows: fn(&State) -> &Vec<T>,
    ) -> std::io::Result<()> {
        head(stream, "200 OK", "application/x-ndjson", "")?;
        let mut sent = 0;
        while !self.state().is_gone {
            let fresh: Vec<Value> = rows(&self.state())[sent..].iter().map(|row| json!(row)).collect();
            sent += fresh.len();
            for row in fresh {
                writeln!(stream, "{row}")?;
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

struct Request {
    method: String,
    target: String,
    authorization: String,
    is_ours: bool,
    body: String,
}

impl Request {
    /// `None` where the browser has opened a connection and not used it.
    fn read(stream: &TcpStream) -> std::io::Result<Option<Self>> {
        let mut lines = BufReader::new(stream);
        let mut next = || -> std::io::Result<String> {
            let mut line = String::new();
            lines.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        };
        let first = next()?;
        let mut words = first.split(' ').map(str::to_owned);
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
        let (mut authorization, mut is_ours, mut length) = (String::new(), false, 0);
        loop {
            let line = next()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => value.clone_into(&mut authorization),
                "x-sip-proxy" => is_ours = value == "1",
                "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        lines.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Some(Self { method, target, authorization, is_ours, body }))
    }
}

fn head(stream: &mut TcpStream, status: &str, content_type: &str, more: &str) -> std::io::Result<()> {
    let policy = page::CONTENT_POLICY;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Security-Policy: {policy}\r\n\
         X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n{more}\r\n"
    )
}

fn reply(stream: &mut TcpStream, status: &str, content_type: &str, body: &[u8]) -> std::io::Result<()> {
    head(stream, status, content_type, &format!("Content-Length: {}\r\n", body.len()))?;
    stream.write_all(body)
}

fn json_reply(stream: &mut TcpStream, status: &str, body: &impl Serialize) -> std::io::Result<()> {
    reply(stream, status, "application/json", json!(body).to_string().as_bytes())
}

fn problem(stream: &mut TcpStream, status: &str, error: &str) -> std::io::Result<()> {
    json_reply(stream, status, &json!({ "error": error }))
}
