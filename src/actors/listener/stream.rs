//! The Listener of a stream interface: TCP, TLS, MTLS, and TCP on the port of a UDP interface.
//!
//! It accepts connections and opens them, and hands each to a worker Arbiter in turn, where a [`Connection`] lives
//! on its own: handshakes happen there.
//!
//! # Restart
//!
//! A Listener that fails loses the connections that the system has accepted and it has not, and the [`Dial`]s in
//! its mailbox, whose transactions time out. Connections live on. The supervisor notices by [`ListenerStopped`]
//! and starts another; clients whose connection was refused meanwhile try again.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::dev::SendError;
use actix::fut::wrap_future;
use actix::{Actor, ArbiterHandle, AsyncContext as _, Context, Handler};
use slog::{info, warn};
use socket2::{Protocol, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{
    BIND_RETRY, InterfaceState, InterfaceStatus, ListenerKind, ListenerStopped, Reports, bound_address,
};
use crate::actors::connection::{Connection, ConnectionSettings};
use crate::actors::directory::{Admission, Peer, Refused};
use crate::actors::drops::{DropReason, Drops, SUMMARY_INTERVAL};
use crate::actors::messages::{Dial, Transmit};
use crate::actors::turns::Turns;

/// Dials that wait for the actor's turn; Routers fail what a full mailbox refuses.
const MAILBOX_CAPACITY: usize = 1_024;

/// Connections that the system completes and keeps until they are accepted.
const BACKLOG: i32 = 4_096;

/// Connections accepted in one turn; then other actors of the Arbiter have theirs.
const ACCEPTS_PER_TURN: usize = 64;

/// After an accept that failed for want of something (descriptors, memory): the first wait, doubled up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What a [`StreamListener`] is given.
#[derive(Clone, Debug)]
pub struct StreamListenerSettings {
    /// Where to listen.
    pub address: SocketAddr,
    /// Why it must not listen, though connections may be opened: a certificate that is missing.
    pub hindrance: Option<String>,
    /// What its connections have in common.
    pub connections: Arc<ConnectionSettings>,
    /// Where connections live, in turn; never empty.
    pub workers: Vec<ArbiterHandle>,
    /// To the supervisor.
    pub reports: Reports,
}

/// The Listener of a stream interface.
#[derive(Debug)]
pub struct StreamListener {
    settings: StreamListenerSettings,
    workers: Rc<Workers>,
    drops: Rc<Drops>,
    told: Option<InterfaceState>,
    turns: Turns,
}

/// The worker Arbiters, in turn.
#[derive(Debug)]
struct Workers {
    arbiters: Vec<ArbiterHandle>,
    next: std::cell::Cell<usize>,
}

impl Workers {
    fn next(&self) -> &ArbiterHandle {
        let index = self.next.get();
        self.next.set((index + 1) % self.arbiters.len());
        &self.arbiters[index]
    }
}

impl StreamListener {
    /// Not yet bound: it binds when it starts.
    pub fn new(settings: StreamListenerSettings) -> Self {
        let workers = Workers { arbiters: settings.workers.clone(), next: 0.into() };
        Self {
            settings,
            workers: Rc::new(workers),
            drops: Rc::default(),
            told: None,
            turns: Turns::default(),
        }
    }

    fn listen(&mut self, ctx: &mut Context<Self>) {
        let bound = match &self.settings.hindrance {
            Some(hindrance) => Err(hindrance.clone()),
            None => bind(self.settings.address).map_err(|error| super::reason(self.settings.address, &error)),
        };
        match bound {
            Ok((listener, address)) => {
                let acceptor = Acceptor {
                    listener,
                    connections: Arc::clone(&self.settings.connections),
                    workers: Rc::clone(&self.workers),
                    drops: Rc::clone(&self.drops),
                };
                ctx.spawn(wrap_future(acceptor.run()));
                self.tell(InterfaceState::Listening { address });
            }
            Err(reason) => {
                self.tell(InterfaceState::NotListening { reason });
                if self.settings.hindrance.is_none() {
                    ctx.run_later(BIND_RETRY, Self::listen);
                }
            }
        }
    }

    fn tell(&mut self, state: InterfaceState) {
        if self.told.as_ref() == Some(&state) {
            return;
        }
        let log = &self.settings.connections.log;
        match &state {
            InterfaceState::Listening { address } => info!(log, "listening"; "address" => %address),
            InterfaceState::NotListening { reason } => warn!(log, "not_listening"; "reason" => reason),
        }
        self.told = Some(state.clone());
        let interface = self.settings.connections.interface;
        self.settings.reports.status.do_send(InterfaceStatus {
            interface,
            listener: ListenerKind::Stream,
            state,
        });
    }

    /// Opens a connection for `dial`.
    fn open(&self, dial: Dial, peer: Peer) {
        let settings = &self.settings.connections;
        match settings.directory.open_connection(dial.remote.ip()) {
            Ok(admission) => {
                Connection::dialled(
                    self.workers.next(),
                    Arc::clone(settings),
                    admission,
                    peer,
                    dial.messages,
                );
            }
            Err(refused) => {
                self.drops.add(drop_reason(refused), 1);
                settings.directory.tell_all_failed(&dial.messages);
            }
        }
    }
}

impl Actor for StreamListener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        ctx.run_interval(SUMMARY_INTERVAL, |listener, _| {
            listener.drops.log(&listener.settings.connections.log)
        });
        self.listen(ctx);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        let interface = self.settings.connections.interface;
        let panicked = std::thread::panicking();
        let stopped = ListenerStopped { interface, listener: ListenerKind::Stream, panicked };
        self.settings.reports.stopped.do_send(stopped);
    }
}

impl Handler<Dial> for StreamListener {
    type Result = ();

    fn handle(&mut self, mut dial: Dial, ctx: &mut Context<Self>) {
        self.turns.count(ctx);
        let settings = &self.settings.connections;
        if dial.remote.is_ipv4() != settings.bind_address.is_ipv4() {
            return settings.directory.tell_all_failed(&dial.messages);
        }
        let peer = Peer {
            interface: settings.interface,
            transport: settings.transport(),
            remote: dial.remote,
            host: dial.host.clone(),
        };
        if let Some(connection) = settings.directory.connection_to(&peer) {
            match connection.try_send(Transmit(dial.messages)) {
                Ok(()) => return,
                Err(SendError::Full(Transmit(messages))) => {
                    return settings.directory.tell_all_failed(&messages);
                }
                // It has just ended.
                Err(SendError::Closed(Transmit(messages))) => dial.messages = messages,
            }
        }
        self.open(dial, peer);
    }
}

fn bind(address: SocketAddr) -> io::Result<(AsyncFd<TcpListener>, SocketAddr)> {
    let socket = super::socket_for(address, Type::STREAM, Protocol::TCP)?;
    // A restart need not wait until the system has forgotten the connections of before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = bound_address(&socket)?;
    Ok((AsyncFd::with_interest(socket.into(), Interest::READABLE)?, bound))
}

/// The accepting side. Connections are accepted outside of tokio, because they belong to the reactor of the worker
/// that they go to.
struct Acceptor {
    listener: AsyncFd<TcpListener>,
    connections: Arc<ConnectionSettings>,
    workers: Rc<Workers>,
    drops: Rc<Drops>,
}

impl Acceptor {
    async fn run(self) {
        let mut back_off = BACK_OFF.0;
        loop {
            // It fails when the Arbiter ends.
            let Ok(mut ready) = self.listener.readable().await else {
                return;
            };
            match self.accept_some() {
                Ok(true) => {
                    ready.retain_ready();
                    back_off = BACK_OFF.0;
                    tokio::task::yield_now().await;
                }
                Ok(false) => {
                    ready.clear_ready();
                    back_off = BACK_OFF.0;
                }
                Err(error) => {
                    // Ready still: what is waiting is accepted after the pause.
                    ready.retain_ready();
                    warn!(self.connections.log, "accept_failed"; "reason" => %error, "pause" => ?back_off);
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    /// Accepts what waits. True: there may be more.
    fn accept_some(&self) -> io::Result<bool> {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.get_ref().accept() {
                Ok((stream, remote)) => self.hand_over(stream, remote),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(false),
                    // The peer has given up before it was its turn (accept(2) lists what the network may say here).
                    io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::Interrupted
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NetworkDown
                    | io::ErrorKind::TimedOut => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(true)
    }

    fn hand_over(&self, stream: TcpStream, remote: SocketAddr) {
        match self.connections.directory.open_connection(remote.ip()) {
            Ok(admission) => self.start(stream, remote, admission),
            Err(refused) => self.drops.add(drop_reason(refused), 1),
        }
    }

    fn start(&self, stream: TcpStream, remote: SocketAddr, admission: Admission) {
        // Fails for no open socket; if it did, the connection would be dropped here.
        if stream.set_nonblocking(true).is_ok() {
            let settings = Arc::clone(&self.connections);
            Connection::accepted(self.workers.next(), settings, admission, stream, remote);
        }
    }
}

const fn drop_reason(refused: Refused) -> DropReason {
    match refused {
        Refused::Total => DropReason::ConnectionLimit,
        Refused::PerAddress => DropReason::ConnectionLimitPerAddress,
    }
}
