//! What the tests of the actors share: probes in place of Routers, Registrar and supervisor.

mod authority;
// The black-box tests have the same.
#[path = "../../../tests/common/dns.rs"]
#[allow(dead_code)]
pub(crate) mod dns;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, MessageResult, Recipient, ResponseFuture};
use slog::{Discard, Logger, o};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

pub(crate) use self::authority::Authority;
use super::connection::{Connection, ConnectionSettings};
use super::directory::{ConnectionLimits, Directory, RegistrarAddress, RouterAddress};
use super::federation_resolver::Resolved;
use super::listener::{InterfaceState, InterfaceStatus};
use super::messages::{
    ConnectionClosed, ConnectionOpened, MessagesReceived, Outgoing, Received, TransmitFailed,
};
use super::registrar::{Answers, TellAll};
use super::router::{Count, Counted, Drain};
use crate::diagnostics::queues::QueueLength;
use crate::protocol::flow::{InterfaceId, Transport};
use crate::protocol::interface::Side;
use crate::protocol::message::MessageLimits;
use crate::protocol::proxy::{Counts, Load, Unfinished};
use crate::protocol::transaction::Branch;

/// As long as a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// As long as a test waits for what must not come.
pub(crate) const QUIET: Duration = Duration::from_millis(100);

pub(crate) const LIMITS: MessageLimits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };

/// Passes on what it is sent.
struct Probe<M>(UnboundedSender<M>);

impl<M: Unpin + 'static> Actor for Probe<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Unpin + 'static> Handler<M> for Probe<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Context<Self>) {
        let _ = self.0.send(message);
    }
}

/// A Router that has nothing to answer.
struct Idle;

impl Actor for Idle {
    type Context = Context<Self>;
}

impl Handler<Drain> for Idle {
    type Result = MessageResult<Drain>;

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Unfinished::default())
    }
}

impl Handler<Count> for Idle {
    type Result = Counted;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> Counted {
        Counted { counts: Counts::default(), load: Load { servers: 0, clients: 0, contexts: 0 } }
    }
}

/// What a probe has been sent.
#[derive(Debug)]
pub(crate) struct Seen<M>(UnboundedReceiver<M>);

impl<M> Seen<M> {
    /// How much nobody has taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.0.len()
    }
}

impl<M: Debug> Seen<M> {
    pub(crate) async fn next(&mut self) -> M {
        timeout(PATIENCE, self.0.recv()).await.expect("a message within the patience of a test").unwrap()
    }

    pub(crate) async fn nothing(&mut self) {
        if let Ok(message) = timeout(QUIET, self.0.recv()).await {
            panic!("unexpected: {message:?}");
        }
    }
}

pub(crate) fn probe<M>() -> (Recipient<M>, Seen<M>)
where
    M: Message<Result = ()> + Send + Unpin + 'static,
{
    let (sender, receiver) = unbounded_channel();
    (Probe(sender).start().recipient(), Seen(receiver))
}

/// Takes questions and answers none.
struct Silent;

impl Actor for Silent {
    type Context = Context<Self>;
}

impl<M> Handler<M> for Silent
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Result = ResponseFuture<M::Result>;

    fn handle(&mut self, _: M, _: &mut Context<Self>) -> Self::Result {
        Box::pin(std::future::pending())
    }
}

/// Whom to ask in vain.
pub(crate) fn silent<M>() -> Recipient<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    Silent.start().recipient()
}

/// The probes of one Router.
#[derive(Debug)]
pub(crate) struct Router {
    received: Seen<MessagesReceived>,
    waiting: Vec<Received>,
    pub(crate) failed: Seen<TransmitFailed>,
    pub(crate) opened: Seen<ConnectionOpened>,
    pub(crate) closed: Seen<ConnectionClosed>,
    pub(crate) answers: Seen<Answers>,
    pub(crate) resolved: Seen<Resolved>,
}

impl Router {
    pub(crate) fn start() -> (RouterAddress, Self) {
        let (received, received_seen) = probe();
        let (failed, failed_seen) = probe();
        let (opened, opened_seen) = probe();
        let (closed, closed_seen) = probe();
        let (answers, answers_seen) = probe();
        let (resolved, resolved_seen) = probe();
        let seen = Self {
            received: received_seen,
            waiting: Vec::new(),
            failed: failed_seen,
            opened: opened_seen,
            closed: closed_seen,
            answers: answers_seen,
            resolved: resolved_seen,
        };
        let address = RouterAddress {
            received,
            mailbox: QueueLength::default(),
            failed,
            opened,
            closed,
            answers,
            resolved,
            standing: probe().0,
            banned: probe().0,
            interfaces: probe().0,
            settings: probe().0,
            access_servers: silent(),
            probe: probe().0,
            registrar_restarted: probe().0,
            drain: Idle.start().recipient(),
            count: Idle.start().recipient(),
        };
        (address, seen)
    }

    /// The next message of whatever batch.
    pub(crate) async fn message(&mut self) -> Received {
        while self.waiting.is_empty() {
            self.waiting = self.received.next().await.0;
            self.waiting.reverse();
        }
        self.waiting.pop().unwrap()
    }

    /// The next batch.
    pub(crate) async fn batch(&mut self) -> Vec<Received> {
        assert!(self.waiting.is_empty());
        self.received.next().await.0
    }

    pub(crate) async fn no_message(&mut self) {
        assert!(self.waiting.is_empty());
        self.received.nothing().await;
    }
}

/// Everything around a Listener.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) directory: Arc<Directory>,
    pub(crate) routers: Vec<Router>,
    pub(crate) registrar: Seen<ConnectionClosed>,
    pub(crate) tell_all: Seen<TellAll>,
    pub(crate) reports: Recipient<InterfaceStatus>,
    pub(crate) status: Seen<InterfaceStatus>,
}

impl World {
    pub(crate) fn new(cores: usize) -> Self {
        Self::with_limits(cores, ConnectionLimits { total: 100, per_address: 100 })
    }

    pub(crate) fn with_limits(cores: usize, limits: ConnectionLimits) -> Self {
        let directory = Arc::new(Directory::new(cores, 2, limits, [9; 16]));
        let routers = (0..cores)
            .map(|index| {
                let (address, router) = Router::start();
                directory.publish_router(index, Some(address));
                router
            })
            .collect();
        let (closed, registrar) = probe();
        let (tell_all_to, tell_all) = probe();
        directory.publish_registrar(Some(RegistrarAddress {
            closed,
            questions: probe().0,
            servers: silent(),
            registrations: silent(),
            learned: probe().0,
            flow_failed: probe().0,
            flow_ended: probe().0,
            log_on: probe().0,
            router_restarted: probe().0,
            settings: probe().0,
            tell_all: tell_all_to,
            finish: probe().0,
        }));
        let (reports, status) = probe();
        Self { directory, routers, registrar, tell_all, reports, status }
    }

    /// What connections of interface 0 have in common, without TLS.
    pub(crate) fn connections(&self) -> ConnectionSettings {
        ConnectionSettings {
            interface: InterfaceId(0),
            side: Side::Wan,
            bind_address: "127.0.0.1:0".parse().unwrap(),
            other_family: None,
            transport: Transport::Tcp,
            tls: None,
            message_limits: LIMITS,
            handshake_timeout: PATIENCE,
            message_timeout: PATIENCE,
            idle_timeout: PATIENCE,
            answer_timeout: PATIENCE,
            directory: Arc::clone(&self.directory),
            log: log(),
            security: log(),
            failures: Arc::default(),
        }
    }

    /// The address that the interface has told to listen on.
    pub(crate) async fn listening(&mut self) -> SocketAddr {
        match self.status.next().await.state {
            InterfaceState::Listening { address } => address,
            InterfaceState::NotListening { reason } => panic!("{reason}"),
        }
    }
}

/// A connection of the world's with a peer of the test's.
pub(crate) async fn accept(settings: ConnectionSettings) -> (TcpStream, Addr<Connection>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    peer.set_nodelay(true).unwrap();
    let (stream, remote) = listener.accept().await.unwrap();
    let admission = settings.directory.open_connection(remote.ip()).unwrap();
    let connection =
        Connection::accepted(&here(), Arc::new(settings), admission, stream.into_std().unwrap(), remote);
    (peer, connection)
}

/// Waits until this actor has ended.
pub(crate) async fn gone<A: Actor<Context = Context<A>>>(address: &Addr<A>) {
    let ended = async {
        while address.connected() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.expect("its end within the patience of a test");
}

/// A port of TCP at which connections are refused while the socket is kept: bound, so that nobody else gets it, and
/// not listening.
pub(crate) fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A port of UDP from which datagrams come back as unreachable while the socket is kept: connected to itself, it takes
/// nothing from anybody else.
pub(crate) async fn unreachable(loopback: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(loopback).await.unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(address).await.unwrap();
    (socket, address)
}

pub(crate) fn log() -> Logger {
    Logger::root(Discard, o!())
}

pub(crate) fn here() -> actix::ArbiterHandle {
    Arbiter::current()
}

pub(crate) fn branch(slot: u32) -> Branch {
    Branch { router: 0, slot, generation: 7, loop_hash: 11 }
}

/// A request with our branch on top.
pub(crate) fn request(call_id: &str, slot: u32) -> String {
    let branch = String::from_utf8(branch(slot).to_octets().to_vec()).unwrap();
    format!(
        "MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch={branch}\r\n\
         From: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: {call_id}\r\n\
         CSeq: 1 MESSAGE\r\nContent-Length: 2\r\n\r\nhi"
    )
}

pub(crate) fn response(call_id: &str) -> String {
    format!("SIP/2.0 200 OK\r\nCall-ID: {call_id}\r\nContent-Length: 0\r\n\r\n")
}

pub(crate) fn outgoing(text: String, slot: Option<u32>) -> Outgoing {
    Outgoing { bytes: text.into(), branch: slot.map(branch) }
}
