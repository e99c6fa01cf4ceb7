//! Lets connections in: over the Unix socket and over TCP, bounded in number and in time.
//!
//! One request, one connection. Each has [`REQUEST_TIME`] from its first octet to the end of its answer; an answer
//! without end moves its own deadline as long as the client takes it (see [`Deadline`]).

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use slog::{Logger, error, info, warn};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::access::Door;
use super::desk::{Desk, Visit};
use super::places::{NoPlace, Places};
use super::report::{Endpoint, Problem};
use super::socket::ControlSocket;
use crate::config::Admin;

/// From the first octet of a request to the last one of its answer.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// Request line and headers together, and how many of these.
const MAXIMUM_HEADER_BYTES: usize = 16 * 1024;
const MAXIMUM_HEADERS: usize = 64;

/// Between two attempts to listen, and two looks whether the socket's file is still there.
const RETRY: Duration = Duration::from_secs(5);

/// Between two looks whether a reload has changed `[admin]`.
const LOOK: Duration = Duration::from_secs(1);

/// The key of the endpoint on the network.
const ADMIN: &str = "admin.listen";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Who has no place is answered; so many of them at once may take so long to read that. Others are closed at once.
const MAXIMUM_FAREWELLS: usize = 16;
const FAREWELL: Duration = Duration::from_secs(1);

/// What is read of them, in octets.
const MAXIMUM_READ: u64 = 64 * 1024;

/// When a connection ends, whatever it does.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    at: Rc<Cell<Instant>>,
    /// Whether the door that it came by is closed.
    is_closed: Rc<Cell<bool>>,
}

impl Deadline {
    pub(super) fn new(is_closed: Rc<Cell<bool>>) -> Self {
        Self { at: Rc::new(Cell::new(Instant::now() + REQUEST_TIME)), is_closed }
    }

    /// The client takes what it is sent: it has so long from now on. Not where the door is closed meanwhile: what was
    /// allowed there, by that token, ends.
    pub(super) fn extend(&self, time: Duration) {
        if !self.is_closed.get() {
            self.at.set(Instant::now() + time);
        }
    }

    async fn passed(&self) {
        while self.at.get() > Instant::now() {
            sleep_until(self.at.get()).await;
        }
    }
}

/// Closes a door when it is dropped.
#[derive(Debug, Default)]
struct Closing(Rc<Cell<bool>>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

/// Listens on the Unix socket, for ever.
pub(super) async fn serve_socket(path: PathBuf, desk: Rc<Desk>, log: Logger) {
    let endpoint = |status: &str, reason: Option<String>| Endpoint {
        key: "service.control_socket".to_owned(),
        address: path.display().to_string(),
        status: status.to_owned(),
        reason,
    };
    let mut told = None;
    loop {
        match ControlSocket::bind(&path).await {
            Ok(socket) => {
                told = None;
                desk.note_endpoint(endpoint("listening", None));
                info!(log, "control_listening"; "socket" => %path.display());
                let accept = || async { socket.listener.accept().await.map(|(stream, _)| (stream, None)) };
                let gone = async {
                    while socket.is_reachable() {
                        sleep(RETRY).await;
                    }
                };
                let _ = select(pin!(admit(accept, Door::Socket, &desk, &log)), pin!(gone)).await;
            }
            Err(fault) => {
                let (reason, remedy) = (fault.to_string(), fault.remedy());
                if told.as_ref() != Some(&reason) {
                    error!(log, "control_not_listening"; "socket" => %path.display(), "reason" => &reason,
                        "remedy" => remedy);
                }
                desk.note_endpoint(endpoint("not_listening", Some(reason.clone())));
                told = Some(reason);
                sleep(RETRY).await;
            }
        }
    }
}

/// Listens on `[admin] listen` as the configuration in force has it, for ever: from `admin` on.
pub(super) async fn follow_admin(mut admin: Option<Admin>, desk: Rc<Desk>, log: Logger) {
    loop {
        let serve = async {
            match &admin {
                Some(admin) => serve_network(admin, &desk, &log).await,
                None => std::future::pending().await,
            }
        };
        let Either::Right((next, _)) = select(pin!(serve), pin!(another(&admin, &desk))).await else {
            return;
        };
        desk.forget_endpoint(ADMIN);
        admin = next;
    }
}

/// What `[admin]` is once it is something else than `known`.
async fn another(known: &Option<Admin>, desk: &Desk) -> Option<Admin> {
    loop {
        sleep(LOOK).await;
        if let Some(service) = desk.description().await.filter(|service| service.config.admin != *known) {
            return service.config.admin.clone();
        }
    }
}

/// Listens on `[admin] listen`, for ever.
async fn serve_network(admin: &Admin, desk: &Rc<Desk>, log: &Logger) {
    let endpoint = |address: String, status: &str, reason: Option<String>| Endpoint {
        key: ADMIN.to_owned(),
        address,
        status: status.to_owned(),
        reason,
    };
    let mut told = None;
    loop {
        match listen(admin).and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => {
                desk.note_endpoint(endpoint(address.to_string(), "listening", None));
                info!(log, "admin_listening"; "address" => %address);
                let accept = || async { listener.accept().await.map(|(stream, peer)| (stream, Some(peer))) };
                admit(accept, Door::Network { token: admin.token.clone() }, desk, log).await;
            }
            Err(fault) => {
                let reason = fault.to_string();
                if told.as_ref() != Some(&reason) {
                    error!(log, "admin_not_listening"; "address" => %admin.listen, "reason" => &reason,
                        "remedy" => "free the port, or set another admin.listen; it is tried again every 5 s");
                }
                desk.note_endpoint(endpoint(admin.listen.to_string(), "not_listening", Some(reason.clone())));
                told = Some(reason);
                sleep(RETRY).await;
            }
        }
    }
}

fn listen(admin: &Admin) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(admin.listen), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&admin.listen.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts for ever. Each connection is a task of its own.
async fn admit<S, A>(accept: impl Fn() -> A, door: Door, desk: &Rc<Desk>, log: &Logger)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    A: Future<Output = io::Result<(S, Option<SocketAddr>)>>,
{
    let (door, places) = (Rc::new(door), Places::default());
    let farewells = Arc::new(Semaphore::new(MAXIMUM_FAREWELLS));
    let closing = Closing::default();
    loop {
        let (stream, peer) = match accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or of memory: that passes, or others have more reason to complain.
                warn!(log, "accept_failed"; "reason" => %error);
                sleep(RETRY).await;
                continue;
            }
        };
        let place = match places.take(peer.map(|peer| peer.ip())) {
            Ok(place) => place,
            Err(full) => {
                desk.tell_full(peer, full);
                turn_away(stream, full, &farewells).await;
                continue;
            }
        };
        let deadline = Deadline::new(Rc::clone(&closing.0));
        let (visit, desk) = (Visit { door: Rc::clone(&door), peer, deadline }, Rc::clone(desk));
        spawn_local(async move {
            serve(stream, visit, desk).await;
            drop(place);
        });
    }
}

/// Says that there is no place, and why.
async fn turn_away<S>(mut stream: S, full: NoPlace, farewells: &Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    // What does not fit into the buffer of a new connection at once is not worth a wait.
    let _ = timeout(Duration::ZERO, stream.write_all(no_place(full).as_bytes())).await;
    let Ok(farewell) = Arc::clone(farewells).try_acquire_owned() else { return };
    spawn_local(async move {
        let read = async {
            // A connection that closes before it has read the request takes its answer away again.
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(MAXIMUM_READ), &mut tokio::io::sink()).await
        };
        let _ = timeout(FAREWELL, read).await;
        drop(farewell);
    });
}

/// What whoever has no place is answered.
fn no_place(full: NoPlace) -> String {
    let body = serde_json::to_string(&Problem { error: full.why().to_owned() })
        .expect("a string has a form in JSON");
    format!(
        "HTTP/1.1 {}\r\nContent-Type: application/json\r\nConnection: close\r\nRetry-After: 1\r\n\
         Content-Length: {}\r\n\r\n{body}",
        full.status(),
        body.len()
    )
}

/// Answers one request.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, visit: Visit, desk: Rc<Desk>) {
    let deadline = visit.deadline.clone();
    let service = service_fn(|request| {
        let (desk, visit) = (Rc::clone(&desk), visit.clone());
        async move { Ok::<_, Infallible>(desk.answer(request, visit).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .keep_alive(false)
        .max_headers(MAXIMUM_HEADERS)
        .max_header_size(MAXIMUM_HEADER_BYTES)
        .max_buf_size(2 * MAXIMUM_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away, or sends what is no HTTP, has been answered as far as it can be.
    match select(pin!(connection), pin!(deadline.passed())).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}
