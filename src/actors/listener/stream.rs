//! The Listener of a stream interface: TCP, TLS, MTLS, WebSocket, and TCP on the port of a UDP interface.
//!
//! It accepts connections and opens them, and hands each to a worker Arbiter in turn, where a [`Connection`] lives
//! on its own: handshakes happen there.
//!
//! # Restart
//!
//! A Listener that fails loses the connections that the system has accepted and it has not, and the [`Dial`]s in
//! its mailbox, whose transactions time out. Connections live on. The supervisor notices
//! and starts another; clients whose connection was refused meanwhile try again.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::dev::SendError;
use actix::fut::{ActorFutureExt as _, wrap_future};
use actix::{
    Actor, ActorContext as _, ArbiterHandle, AsyncContext as _, Context, Handler, Recipient, SpawnHandle,
};
use futures_util::future::select;
use slog::{Logger, info, warn};
use socket2::{Protocol, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::{BIND_RETRY, Close, InterfaceState, InterfaceStatus, ListenerKind, bound_address};
use crate::actors::connection::{Connection, ConnectionSettings};
use crate::actors::directory::{Admission, Peer, Refused};
use crate::actors::drops::{DropReason, Drops, SUMMARY_INTERVAL};
use crate::actors::messages::{Dial, Transmit};
use crate::actors::turns::Turns;
use crate::diagnostics::LogLimit;

/// Dials that wait for the actor's turn; Routers fail what a full mailbox refuses.
const MAILBOX_CAPACITY: usize = 1_024;

/// Connections that the system completes and keeps until they are accepted.
const BACKLOG: i32 = 4_096;

/// Connections accepted in one turn; then other actors of the Arbiter have theirs.
const ACCEPTS_PER_TURN: usize = 64;

/// After an accept that failed for want of something (descriptors, memory): the first wait, doubled up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Why an interface with TLS, MTLS or WSS does not listen.
const NO_CERTIFICATE: &str = "no certificate: set certificate.chain and certificate.private_key";

/// What a [`StreamListener`] is given.
#[derive(Clone, Debug)]
pub struct StreamListenerSettings {
    /// Where to listen.
    pub address: SocketAddr,
    /// What its connections have in common.
    pub connections: Arc<ConnectionSettings>,
    /// Where connections live: one for each Router, on its core; never empty.
    pub workers: Vec<ArbiterHandle>,
    /// To the supervisor.
    pub reports: Recipient<InterfaceStatus>,
    /// Child logger of the interface.
    pub log: Logger,
}

/// From now on, connections are made with these settings. From the supervisor.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct ApplyConnections {
    /// What they have in common.
    pub connections: Arc<ConnectionSettings>,
    /// Child logger of the interface, which may have another place in the configuration.
    pub log: Logger,
}

/// The Listener of a stream interface.
#[derive(Debug)]
pub struct StreamListener {
    settings: StreamListenerSettings,
    /// What the accepting side makes connections with.
    accepting: Rc<RefCell<Arc<ConnectionSettings>>>,
    /// Ends the accepting side, while there is one.
    closer: Option<oneshot::Sender<()>>,
    retry: Option<SpawnHandle>,
    is_closing: bool,
    drops: Rc<Drops>,
    told: Option<InterfaceState>,
    turns: Turns,
}

impl StreamListener {
    /// Not yet bound: it binds when it starts.
    pub fn new(settings: StreamListenerSettings) -> Self {
        Self {
            accepting: Rc::new(RefCell::new(Arc::clone(&settings.connections))),
            settings,
            closer: None,
            retry: None,
            is_closing: false,
            drops: Rc::default(),
            told: None,
            turns: Turns::default(),
        }
    }

    fn listen(&mut self, ctx: &mut Context<Self>) {
        self.retry = None;
        if self.lacks_certificate() {
            // It begins with the reload that brings one.
            return self.tell(InterfaceState::NotListening { reason: NO_CERTIFICATE.to_owned() });
        }
        match bind(self.settings.address) {
            Ok((listener, address)) => {
                let acceptor = Acceptor {
                    listener,
                    connections: Rc::clone(&self.accepting),
                    workers: self.settings.workers.clone(),
                    log: self.settings.log.clone(),
                    drops: Rc::clone(&self.drops),
                    failures: LogLimit::default(),
                };
                let (closer, closed) = oneshot::channel();
                self.closer = Some(closer);
                ctx.spawn(wrap_future(acceptor.run(closed)).map(|(), listener: &mut Self, ctx| {
                    if listener.is_closing {
                        ctx.stop();
                    }
                }));
                self.tell(InterfaceState::Listening { address });
            }
            Err(error) => {
                let reason = super::reason(self.settings.address, &error);
                self.tell(InterfaceState::NotListening { reason });
                self.retry = Some(ctx.run_later(BIND_RETRY, Self::listen));
            }
        }
    }

    fn lacks_certificate(&self) -> bool {
        let connections = &self.settings.connections;
        connections.transport.is_secure() && connections.tls.is_none()
    }

    fn tell(&mut self, state: InterfaceState) {
        if self.told.as_ref() == Some(&state) {
            return;
        }
        let log = &self.settings.log;
        match &state {
            InterfaceState::Listening { address } => {
                info!(log, "listening"; "address" => %address);
            }
            InterfaceState::NotListening { reason } => {
                warn!(log, "not_listening"; "reason" => reason);
            }
        }
        self.told = Some(state.clone());
        let interface = self.settings.connections.interface;
        self.settings.reports.do_send(InterfaceStatus { interface, listener: ListenerKind::Stream, state });
    }

    /// Opens a connection for `dial`.
    fn open(&self, dial: Dial, peer: Peer, domain: Option<Arc<str>>) {
        let settings = &self.settings.connections;
        match settings.directory.open_connection(peer.addresses[0].ip()) {
            Ok(admission) => {
                Connection::dialled(
                    worker(&self.settings.workers, settings, &admission),
                    Arc::clone(settings),
                    admission,
                    (peer, domain),
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
            listener.drops.log(&listener.settings.log, listener.settings.connections.directory.metrics());
        });
        self.listen(ctx);
    }
}

impl Handler<ApplyConnections> for StreamListener {
    type Result = ();

    fn handle(&mut self, ApplyConnections { connections, log }: ApplyConnections, ctx: &mut Context<Self>) {
        self.accepting.replace(Arc::clone(&connections));
        self.settings.connections = connections;
        self.settings.log = log;
        if self.lacks_certificate() {
            // Dropped, it ends the accepting side.
            self.closer = None;
            self.tell(InterfaceState::NotListening { reason: NO_CERTIFICATE.to_owned() });
        } else if self.closer.is_none() && self.retry.is_none() {
            self.listen(ctx);
        }
    }
}

impl Handler<Close> for StreamListener {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Context<Self>) {
        self.is_closing = true;
        match self.closer.take() {
            // It ends once the socket is closed.
            Some(closer) => drop(closer),
            None => ctx.stop(),
        }
    }
}

impl Handler<Dial> for StreamListener {
    type Result = ();

    fn handle(&mut self, mut dial: Dial, ctx: &mut Context<Self>) {
        self.turns.count(ctx);
        let settings = &self.settings.connections;
        dial.addresses.retain(|remote| settings.source(*remote).is_some());
        if !settings.transport.is_dialled() || dial.addresses.is_empty() || self.lacks_certificate() {
            return settings.directory.tell_all_failed(&dial.messages);
        }
        let domain = dial.expected.as_ref().and_then(|expected| expected.domain.clone());
        let peer = Peer {
            side: settings.side,
            interface: settings.interface,
            transport: settings.transport,
            addresses: std::mem::take(&mut dial.addresses),
            expected: dial.expected.take().filter(|_| settings.transport.is_secure()),
            profile: settings.tls.as_ref().map(|tls| tls.profile).unwrap_or_default(),
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
        self.open(dial, peer, domain);
    }
}

fn bind(address: SocketAddr) -> io::Result<(AsyncFd<TcpListener>, SocketAddr)> {
    let socket = super::socket_for(address, Type::STREAM, Protocol::TCP)?;
    // A restart need not wait until the system has forgotten the connections of before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = bound_address(&socket)?;
    Ok((super::register(socket.into(), Interest::READABLE)?, bound))
}

/// The accepting side. Connections are accepted outside of tokio, because they belong to the reactor of the worker
/// that they go to.
struct Acceptor {
    listener: AsyncFd<TcpListener>,
    connections: Rc<RefCell<Arc<ConnectionSettings>>>,
    workers: Vec<ArbiterHandle>,
    log: Logger,
    drops: Rc<Drops>,
    failures: LogLimit,
}

impl Acceptor {
    /// Accepts until `closed`, or its other end, is no more; the socket is closed then.
    async fn run(self, closed: oneshot::Receiver<()>) {
        select(pin!(self.accept()), closed).await;
    }

    async fn accept(&self) {
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
                    if let Some(left_out) = self.failures.pass(Instant::now()) {
                        warn!(self.log, "accept_failed"; "reason" => %error, "repeated" => left_out);
                    }
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
        let opened = self.connections.borrow().directory.open_connection(remote.ip());
        match opened {
            Ok(admission) => self.start(stream, remote, admission),
            Err(refused) => self.drops.add(drop_reason(refused), 1),
        }
    }

    fn start(&self, stream: TcpStream, remote: SocketAddr, admission: Admission) {
        // Fails for no open socket; if it did, the connection would be dropped here.
        if stream.set_nonblocking(true).is_ok() {
            let connections = Arc::clone(&self.connections.borrow());
            let worker = worker(&self.workers, &connections, &admission);
            Connection::accepted(worker, connections, admission, stream, remote);
        }
    }
}

/// Where a connection lives: on the core of its Router, so that what it brings changes no thread.
fn worker<'a>(
    workers: &'a [ArbiterHandle],
    settings: &ConnectionSettings,
    admission: &Admission,
) -> &'a ArbiterHandle {
    &workers[settings.directory.core_of(admission.id()) % workers.len()]
}

const fn drop_reason(refused: Refused) -> DropReason {
    match refused {
        Refused::Total => DropReason::ConnectionLimit,
        Refused::PerAddress => DropReason::ConnectionLimitPerAddress,
    }
}

#[cfg(test)]
mod tests {
    use actix::Addr;
    use smallvec::smallvec;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net as tokio_net;
    use tokio::time::timeout;

    use super::*;
    use crate::actors::directory::ConnectionLimits;
    use crate::actors::messages::Outgoing;
    use crate::actors::testing::{
        PATIENCE, QUIET, World, branch, gone, here, outgoing, refusing, request, response,
    };
    use crate::protocol::flow::{InterfaceId, Transport};

    fn start(world: &World, connections: ConnectionSettings) -> Addr<StreamListener> {
        let settings = StreamListenerSettings {
            address: connections.bind_address,
            connections: Arc::new(connections),
            workers: vec![here()],
            reports: world.reports.clone(),
            log: Logger::root(slog::Discard, slog::o!()),
        };
        StreamListener::new(settings).start()
    }

    async fn closed(stream: &mut tokio_net::TcpStream) -> bool {
        let mut octet = [0];
        matches!(timeout(PATIENCE, stream.read(&mut octet)).await.expect("an end"), Ok(0) | Err(_))
    }

    fn dial(remote: SocketAddr, messages: Vec<Outgoing>) -> Dial {
        Dial { addresses: smallvec![remote], expected: None, messages }
    }

    #[actix::test]
    async fn connections_past_a_limit_are_closed_until_there_is_room() {
        let mut world = World::with_limits(1, ConnectionLimits { total: 10, per_address: 2 });
        let _listener = start(&world, world.connections());
        let address = world.listening().await;
        let mut first = tokio_net::TcpStream::connect(address).await.unwrap();
        let _second = tokio_net::TcpStream::connect(address).await.unwrap();
        let opened = world.routers[0].opened.next().await;
        world.routers[0].opened.next().await;
        let mut third = tokio_net::TcpStream::connect(address).await.unwrap();
        assert!(closed(&mut third).await);
        first.shutdown().await.unwrap();
        assert!(closed(&mut first).await);
        assert_eq!(world.routers[0].closed.next().await.flow, opened.flow);
        let _fourth = tokio_net::TcpStream::connect(address).await.unwrap();
        world.routers[0].opened.next().await;
    }

    #[actix::test]
    async fn dials_to_one_peer_share_a_connection_and_keep_their_order() {
        let mut world = World::new(1);
        let listener = start(&world, world.connections());
        world.listening().await;
        let peer = tokio_net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = peer.local_addr().unwrap();
        let texts: Vec<_> = (0..20).map(|number| request(&number.to_string(), number)).collect();
        for (slot, text) in texts.iter().enumerate() {
            listener.do_send(dial(remote, vec![outgoing(text.clone(), Some(slot as u32))]));
        }
        let (mut stream, from) = peer.accept().await.unwrap();
        assert_eq!(from.ip(), remote.ip());
        let mut received = vec![0; texts.concat().len()];
        timeout(PATIENCE, stream.read_exact(&mut received)).await.expect("all requests").unwrap();
        assert_eq!(String::from_utf8(received).unwrap(), texts.concat());
        let opened = world.routers[0].opened.next().await;
        assert_eq!((opened.flow.remote, opened.flow.local), (remote, from));
        // Answers come back by it, and what follows leaves by it.
        stream.write_all(response("0").as_bytes()).await.unwrap();
        assert_eq!(world.routers[0].message().await.flow, opened.flow);
        listener.do_send(dial(remote, vec![outgoing(response("again"), None)]));
        let mut received = vec![0; response("again").len()];
        timeout(PATIENCE, stream.read_exact(&mut received)).await.expect("one more").unwrap();
        assert!(timeout(QUIET, peer.accept()).await.is_err());
        drop(stream);
        assert_eq!(world.routers[0].closed.next().await.flow, opened.flow);
        listener.do_send(dial(remote, vec![outgoing(response("anew"), None)]));
        timeout(PATIENCE, peer.accept()).await.expect("a new connection").unwrap();
    }

    #[actix::test]
    async fn a_connection_that_was_accepted_serves_requests_to_its_peer() {
        let mut world = World::new(1);
        let listener = start(&world, world.connections());
        let address = world.listening().await;
        let mut peer = tokio_net::TcpStream::connect(address).await.unwrap();
        world.routers[0].opened.next().await;
        listener.do_send(dial(peer.local_addr().unwrap(), vec![outgoing(response("1"), None)]));
        let mut received = vec![0; response("1").len()];
        timeout(PATIENCE, peer.read_exact(&mut received)).await.expect("the message").unwrap();
    }

    #[actix::test]
    async fn a_dial_that_cannot_be_fails_its_requests() {
        let mut world = World::with_limits(1, ConnectionLimits { total: 1, per_address: 1 });
        let listener = start(&world, world.connections());
        let address = world.listening().await;
        let (_held, dead) = refusing();
        let messages = vec![
            outgoing(request("1", 1), Some(1)),
            outgoing(response("2"), None),
            outgoing(request("3", 3), Some(3)),
        ];
        listener.do_send(dial(dead, messages));
        assert_eq!(world.routers[0].failed.next().await.branch, branch(1));
        assert_eq!(world.routers[0].failed.next().await.branch, branch(3));
        listener.do_send(dial("[::1]:5060".parse().unwrap(), vec![outgoing(request("4", 4), Some(4))]));
        assert_eq!(world.routers[0].failed.next().await.branch, branch(4));
        let _only = tokio_net::TcpStream::connect(address).await.unwrap();
        world.routers[0].opened.next().await;
        listener.do_send(dial(dead, vec![outgoing(request("5", 5), Some(5))]));
        assert_eq!(world.routers[0].failed.next().await.branch, branch(5));
        world.routers[0].closed.nothing().await;
    }

    #[actix::test]
    async fn the_addresses_of_a_server_are_tried_until_one_answers() {
        let mut world = World::with_limits(1, ConnectionLimits { total: 10, per_address: 1 });
        let both = ConnectionSettings { other_family: Some("::1".parse().unwrap()), ..world.connections() };
        let listener = start(&world, both);
        world.listening().await;
        let peer = tokio_net::TcpListener::bind("[::1]:0").await.unwrap();
        let (_held, dead) = refusing();
        let addresses = smallvec![dead, peer.local_addr().unwrap()];
        let dial = |addresses, slot| {
            let messages = vec![outgoing(request("1", slot), Some(slot))];
            Dial { addresses, expected: None, messages }
        };
        listener.do_send(dial(addresses, 1));
        let (mut stream, _) = timeout(PATIENCE, peer.accept()).await.expect("a connection").unwrap();
        let mut received = vec![0; request("1", 1).len()];
        timeout(PATIENCE, stream.read_exact(&mut received)).await.expect("the request").unwrap();
        let opened = world.routers[0].opened.next().await;
        assert_eq!(opened.flow.remote, peer.local_addr().unwrap());
        // It counts where it has ended up, and is found there alone.
        listener.do_send(dial(smallvec![dead], 2));
        assert_eq!(world.routers[0].failed.next().await.branch, branch(2));
        listener.do_send(dial(smallvec![opened.flow.remote], 1));
        timeout(PATIENCE, stream.read_exact(&mut received)).await.expect("the request").unwrap();
        let other = std::net::SocketAddr::new(opened.flow.remote.ip(), 9);
        listener.do_send(dial(smallvec![other], 3));
        assert_eq!(world.routers[0].failed.next().await.branch, branch(3));
        assert_eq!(world.directory.connection_count(), 1);
    }

    #[actix::test]
    async fn a_web_socket_is_never_dialled() {
        let mut world = World::new(1);
        let peer = tokio_net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = start(&world, ConnectionSettings { transport: Transport::Ws, ..world.connections() });
        world.listening().await;
        listener.do_send(dial(peer.local_addr().unwrap(), vec![outgoing(request("1", 1), Some(1))]));
        assert_eq!(world.routers[0].failed.next().await.branch, branch(1));
        assert!(timeout(QUIET, peer.accept()).await.is_err());
    }

    #[actix::test]
    async fn what_hinders_an_interface_is_told() {
        let mut world = World::new(1);
        let _listener = start(&world, world.connections());
        let address = world.listening().await;
        let mut taken = world.connections();
        taken.bind_address = address;
        let _other = start(&world, taken);
        let status = world.status.next().await;
        assert_eq!((status.interface, status.listener), (InterfaceId(0), ListenerKind::Stream));
        let InterfaceState::NotListening { reason } = status.state else { panic!("{status:?}") };
        assert!(reason.contains(&address.to_string()) && reason.contains("in use"), "{reason}");
        for transport in [Transport::Wss, Transport::Tls] {
            let _bare = start(&world, ConnectionSettings { transport, ..world.connections() });
            let state = world.status.next().await.state;
            assert_eq!(state, InterfaceState::NotListening { reason: NO_CERTIFICATE.to_owned() });
        }
        let bare = start(&world, ConnectionSettings { transport: Transport::Tls, ..world.connections() });
        world.status.next().await;
        // Nothing leaves in the clear instead.
        let peer = tokio_net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        bare.do_send(dial(peer.local_addr().unwrap(), vec![outgoing(request("1", 1), Some(1))]));
        assert_eq!(world.routers[0].failed.next().await.branch, branch(1));
        assert!(timeout(QUIET, peer.accept()).await.is_err());
    }

    /// Makes the actor panic.
    #[derive(actix::Message)]
    #[rtype(result = "()")]
    struct Panic;

    impl Handler<Panic> for StreamListener {
        type Result = ();

        fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
            panic!("as the test wants it");
        }
    }

    #[actix::test]
    async fn connections_live_on_after_a_panic() {
        let mut world = World::new(1);
        let listener = start(&world, world.connections());
        let address = world.listening().await;
        let mut peer = tokio_net::TcpStream::connect(address).await.unwrap();
        world.routers[0].opened.next().await;
        listener.do_send(Panic);
        gone(&listener).await;
        peer.write_all(request("1", 0).as_bytes()).await.unwrap();
        assert_eq!(world.routers[0].message().await.message.call_id(), b"1");
        let mut again = world.connections();
        again.bind_address = address;
        let _again = start(&world, again);
        assert_eq!(world.listening().await, address);
    }
}
