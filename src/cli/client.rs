//! Asks the running service: HTTP/1.1 over `service.control_socket`.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Exit, block_on};
use crate::actors::control::report::Problem;

/// How long the service may take. A reload reads files and may have to wait for addresses.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an endless answer may be silent: the service says something every 10 or 15 seconds.
const SIGNS_OF_LIFE: Duration = Duration::from_secs(45);

/// Where the service is asked.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

/// An answer with a status below 400, or one that the command asks for.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) text: String,
}

/// Why there is no answer, or not the one that was wanted. Displays what to tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the service does not answer on {socket}: {reason}\n{remedy}", socket = socket.display())]
    Silent { socket: PathBuf, reason: String, remedy: &'static str },
    /// It says no.
    #[error("{text}")]
    Refused { text: String, is_ours: bool },
    #[error("{0}")]
    Internal(#[from] io::Error),
}

impl Failure {
    /// Prints it; the exit status that goes with it.
    pub(super) fn tell(&self) -> Exit {
        eprintln!("{self}");
        match self {
            Self::Silent { .. } | Self::Refused { is_ours: false, .. } => Exit::Unavailable,
            Self::Refused { is_ours: true, .. } => Exit::No,
            Self::Internal(_) => Exit::Internal,
        }
    }
}

impl Client {
    /// The one of the service that is configured by `file`, which may have any other fault.
    pub(super) fn new(file: &Path) -> Result<Self, Exit> {
        match crate::config::control_socket(file, super::environment()) {
            Ok(socket) => Ok(Self { socket }),
            Err(faults) => {
                eprintln!(
                    "{faults}\nservice.control_socket, where the service is asked, cannot be told from that"
                );
                Err(Exit::Configuration)
            }
        }
    }

    /// `GET path`, and what it means.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<(String, T), Failure> {
        let reply = self.request(Method::GET, path, String::new())?;
        let value = serde_json::from_str(&reply.text).map_err(|fault| Failure::Refused {
            text: format!("the service is of another version than this command: {fault}"),
            is_ours: true,
        })?;
        Ok((reply.text, value))
    }

    /// Any request. A status of 400 and above is a failure, but 422, which says in detail what is wrong.
    pub(super) fn request(&self, method: Method, path: &str, body: String) -> Result<Reply, Failure> {
        block_on(async {
            let response = timeout(PATIENCE, self.send(method, path, body));
            let response =
                response.await.unwrap_or_else(|_| Err(self.silent(&io::ErrorKind::TimedOut.into())))?;
            let status = response.status();
            let octets = timeout(PATIENCE, response.into_body().collect()).await.map_err(io::Error::from);
            let octets = octets.map_err(|late| self.silent(&late))?;
            let octets = octets.map_err(|broken| self.silent(&io::Error::other(broken)))?.to_bytes();
            accept(status, &octets)
        })?
    }

    /// `GET path`; each line of the answer, an empty sign of life, too, goes to `line`, until there are no more, or that is
    /// false, or `until` is over.
    pub(super) fn follow(
        &self,
        path: &str,
        until: impl Future<Output = ()>,
        line: impl FnMut(&str) -> bool,
    ) -> Result<(), Failure> {
        block_on(async {
            match select(pin!(self.read_lines(path, line)), pin!(until)).await {
                Either::Left((read, _)) => read,
                Either::Right(_) => Ok(()),
            }
        })?
    }

    async fn read_lines(&self, path: &str, mut line: impl FnMut(&str) -> bool) -> Result<(), Failure> {
        let begun = timeout(SIGNS_OF_LIFE, self.send(Method::GET, path, String::new())).await;
        let mut response = begun.map_err(|_| self.overdue())??;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let octets = response.into_body().collect().await;
            let octets = octets.map_err(|broken| self.silent(&io::Error::other(broken)))?.to_bytes();
            return accept(status, &octets).map(|_| ());
        }
        let mut waiting = Vec::new();
        while let Some(frame) = timeout(SIGNS_OF_LIFE, response.frame()).await.map_err(|_| self.overdue())? {
            let frame = frame.map_err(|broken| self.silent(&io::Error::other(broken)))?;
            waiting.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
            while let Some(end) = waiting.iter().position(|octet| *octet == b'\n') {
                let octets: Vec<u8> = waiting.drain(..=end).collect();
                if !line(String::from_utf8_lossy(&octets).trim_end()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Waits until nobody answers any more.
    pub(super) fn wait_for_end(&self) -> io::Result<()> {
        block_on(async {
            while UnixStream::connect(&self.socket).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.silent(&error))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|broken| self.silent(&io::Error::other(broken)))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header("x-sip-proxy", "1")
            .body(Full::<Bytes>::from(body))
            .map_err(io::Error::other)?;
        sender.send_request(request).await.map_err(|broken| self.silent(&io::Error::other(broken)))
    }

    fn overdue(&self) -> Failure {
        self.silent(&io::ErrorKind::TimedOut.into())
    }

    fn silent(&self, error: &io::Error) -> Failure {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "is it running? `sip-proxy run` starts it; does it run by this configuration? --config names another"
            }
            io::ErrorKind::PermissionDenied => "ask as the user that the service runs as, or as root",
            _ => "its log says more",
        };
        Failure::Silent { socket: self.socket.clone(), reason: error.to_string(), remedy }
    }
}

fn accept(status: StatusCode, octets: &[u8]) -> Result<Reply, Failure> {
    let text = String::from_utf8_lossy(octets).into_owned();
    if status.as_u16() < 400 || status == StatusCode::UNPROCESSABLE_ENTITY {
        return Ok(Reply { text });
    }
    let problem = serde_json::from_str(&text).map(|Problem { error }| error);
    let text = problem.unwrap_or_else(|_| format!("the service answers {status}"));
    Err(Failure::Refused { text, is_ours: status.is_client_error() })
}

/// As the value of a parameter.
pub(super) fn escape(text: &str) -> String {
    let octet = |octet: u8| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    };
    text.bytes().map(octet).collect()
}
