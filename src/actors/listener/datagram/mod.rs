//! The Listener of a UDP interface on one core.
//!
//! Takes batches of datagrams in one system call, reads each once and gives each Router those of its Call-IDs in
//! one message; sends what the Router of its own core gives it in one system call, too. All Listeners of an
//! interface share its port, and the system spreads the peers among them.
//!
//! # Restart
//!
//! A Listener that fails loses what stands in its socket's buffer, its queue and its mailbox; UDP peers retransmit,
//! and so do our transactions. The supervisor notices and starts another, which joins the
//! port; meanwhile the system gives the datagrams to the Listeners of the other cores.

mod receive;
mod send;
mod socket;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt as _, wrap_future};
use actix::{Actor, ActorContext as _, AsyncContext as _, Context, Handler, Recipient};
use slog::{Logger, info, warn};
use tokio::sync::oneshot;

use self::receive::Receiver;
use self::send::{Sender, Sent};
use self::socket::Socket;
use super::{BIND_RETRY, Close, InterfaceState, InterfaceStatus, ListenerKind};
use crate::actors::directory::Directory;
use crate::actors::drops::{DropReason, Drops, SUMMARY_INTERVAL};
use crate::actors::messages::TransmitDatagrams;
use crate::actors::turns::Turns;
use crate::protocol::flow::InterfaceId;
use crate::protocol::message::MessageLimits;

pub use self::socket::Sharing as PortSharing;

/// Batches from Routers that wait for the actor's turn.
const MAILBOX_CAPACITY: usize = 1_024;

/// Between two attempts to write to a socket whose buffer is full. A timer, because an error queue, which this
/// socket has, makes tokio's write readiness final.
const WRITE_RETRY: Duration = Duration::from_millis(1);

/// What a [`DatagramListener`] is given.
#[derive(Clone, Debug)]
pub struct DatagramListenerSettings {
    /// Its interface.
    pub interface: InterfaceId,
    /// Its core, which is that of its Router.
    pub core: usize,
    /// Where to listen. For all cores but the first the port that the first has got.
    pub address: SocketAddr,
    /// Whether other Listeners of the interface have the port already.
    pub sharing: PortSharing,
    /// Sizes past which a message is refused.
    pub message_limits: MessageLimits,
    /// Where the Routers are.
    pub directory: Arc<Directory>,
    /// To the supervisor.
    pub reports: Recipient<InterfaceStatus>,
    /// Child logger of the interface.
    pub log: Logger,
}

/// From now on, messages may have these sizes. From the supervisor.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct ApplyLimits {
    /// Sizes past which a message is refused.
    pub message_limits: MessageLimits,
    /// Child logger of the interface, which may have another place in the configuration.
    pub log: Logger,
}

/// The Listener of a UDP interface on one core.
#[derive(Debug)]
pub struct DatagramListener {
    settings: DatagramListenerSettings,
    /// For the reading side, too.
    limits: Rc<Cell<MessageLimits>>,
    sender: Option<Sender>,
    /// Ends the reading side, while there is one.
    closer: Option<oneshot::Sender<()>>,
    drops: Rc<Drops>,
    told: Option<InterfaceState>,
    is_retrying: bool,
    turns: Turns,
}

impl DatagramListener {
    /// Not yet bound: it binds when it starts.
    pub fn new(settings: DatagramListenerSettings) -> Self {
        Self {
            limits: Rc::new(Cell::new(settings.message_limits)),
            settings,
            sender: None,
            closer: None,
            drops: Rc::default(),
            told: None,
            is_retrying: false,
            turns: Turns::default(),
        }
    }

    fn listen(&mut self, ctx: &mut Context<Self>) {
        let settings = &self.settings;
        match Socket::bind(settings.address, settings.sharing) {
            Ok(socket) => {
                let socket = Rc::new(socket);
                let address = socket.local();
                let own = ctx.address().downgrade();
                let (limits, drops) = (Rc::clone(&self.limits), Rc::clone(&self.drops));
                let receiver = Receiver::new(Rc::clone(&socket), settings, limits, drops, own);
                let (closer, closed) = oneshot::channel();
                self.closer = Some(closer);
                let reading = wrap_future(receiver.run(closed));
                // It ends by being closed alone: the socket is closed now.
                ctx.spawn(reading.map(|(), _: &mut Self, ctx| ctx.stop()));
                let directory = Arc::clone(&settings.directory);
                let limits = Rc::clone(&self.limits);
                self.sender = Some(Sender::new(socket, directory, limits, Rc::clone(&self.drops)));
                self.tell(InterfaceState::Listening { address });
            }
            Err(error) => {
                let reason = super::reason(settings.address, &error);
                self.tell(InterfaceState::NotListening { reason });
                ctx.run_later(BIND_RETRY, Self::listen);
            }
        }
    }

    fn tell(&mut self, state: InterfaceState) {
        if self.told.as_ref() == Some(&state) {
            return;
        }
        match &state {
            // The Listeners of further cores have nothing to say that the first has not said.
            InterfaceState::Listening { .. } | InterfaceState::NotListening { .. }
                if self.settings.core > 0 => {}
            InterfaceState::Listening { address } => {
                info!(self.settings.log, "listening"; "address" => %address);
            }
            InterfaceState::NotListening { reason } => {
                warn!(self.settings.log, "not_listening"; "reason" => reason);
            }
        }
        self.told = Some(state.clone());
        let status = InterfaceStatus { interface: self.settings.interface, listener: self.kind(), state };
        self.settings.reports.do_send(status);
    }

    const fn kind(&self) -> ListenerKind {
        ListenerKind::Datagram { core: self.settings.core }
    }

    fn retry_later(&mut self, sent: Sent, ctx: &mut Context<Self>) {
        if sent == Sent::All || self.is_retrying {
            return;
        }
        self.is_retrying = true;
        ctx.run_later(WRITE_RETRY, |listener, ctx| {
            listener.is_retrying = false;
            let sent = listener.sender.as_mut().map_or(Sent::All, Sender::send_waiting);
            listener.retry_later(sent, ctx);
        });
    }
}

impl Actor for DatagramListener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        ctx.run_interval(SUMMARY_INTERVAL, |listener, _| {
            listener.drops.log(&listener.settings.log, listener.settings.directory.metrics());
        });
        self.listen(ctx);
    }
}

impl Handler<ApplyLimits> for DatagramListener {
    type Result = ();

    fn handle(&mut self, ApplyLimits { message_limits, log }: ApplyLimits, _: &mut Context<Self>) {
        self.limits.set(message_limits);
        self.settings.log = log;
    }
}

impl Handler<Close> for DatagramListener {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Context<Self>) {
        self.sender = None;
        if self.closer.take().is_none() {
            ctx.stop();
        }
    }
}

impl Handler<TransmitDatagrams> for DatagramListener {
    type Result = ();

    fn handle(&mut self, TransmitDatagrams(datagrams): TransmitDatagrams, ctx: &mut Context<Self>) {
        self.turns.count(ctx);
        match &mut self.sender {
            Some(sender) => {
                let sent = sender.send(datagrams);
                self.retry_later(sent, ctx);
            }
            None => {
                self.drops.add(DropReason::NotListening, datagrams.len());
                let limits = self.limits.get();
                let branches =
                    datagrams.iter().filter_map(|datagram| send::branch_of_request(&datagram.bytes, limits));
                branches.for_each(|branch| self.settings.directory.tell_failed(branch));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use actix::Addr;
    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    use super::*;
    use crate::actors::messages::Datagram;
    use crate::actors::testing::{
        LIMITS, PATIENCE, World, branch, gone, log, request, response, unreachable,
    };
    use crate::protocol::flow::Transport;

    async fn listener(
        world: &mut World,
        address: &str,
        core: usize,
        sharing: PortSharing,
    ) -> (Addr<DatagramListener>, SocketAddr) {
        let settings = DatagramListenerSettings {
            interface: InterfaceId(0),
            core,
            address: address.parse().unwrap(),
            sharing,
            message_limits: LIMITS,
            directory: Arc::clone(&world.directory),
            reports: world.reports.clone(),
            log: log(),
        };
        let listener = DatagramListener::new(settings).start();
        (listener, world.listening().await)
    }

    async fn first(world: &mut World, address: &str) -> (Addr<DatagramListener>, SocketAddr) {
        listener(world, address, 0, PortSharing::First).await
    }

    fn datagram(local: Option<IpAddr>, remote: SocketAddr, text: String) -> Datagram {
        Datagram { local, remote, bytes: text.into() }
    }

    async fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
        let mut octets = vec![0; 65_536];
        let (length, from) =
            timeout(PATIENCE, socket.recv_from(&mut octets)).await.expect("a datagram").unwrap();
        (String::from_utf8(octets[..length].to_vec()).unwrap(), from)
    }

    #[actix::test]
    async fn datagrams_of_any_size_reach_the_router_of_their_call_id_in_order() {
        let mut world = World::new(2);
        let (_, address) = first(&mut world, "127.0.0.1:0").await;
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let count = 100;
        for number in 0..count {
            peer.send_to(request(&format!("call-{number}"), 0).as_bytes(), address).await.unwrap();
        }
        let mut expected = [Vec::new(), Vec::new()];
        for number in 0..count {
            let call_id = format!("call-{number}").into_bytes();
            expected[world.directory.router_for(&call_id)].push(call_id);
        }
        for (router, expected) in world.routers.iter_mut().zip(expected) {
            assert!(!expected.is_empty());
            for call_id in expected {
                let received = router.message().await;
                assert_eq!(received.message.call_id(), call_id);
                assert_eq!(
                    (received.flow.local, received.flow.remote),
                    (address, peer.local_addr().unwrap())
                );
                assert_eq!((received.flow.transport, received.flow.connection), (Transport::Udp, None));
            }
        }
        let head = request("large", 0).replace("Content-Length: 2", "Content-Length: 65000");
        let large = format!("{}{}", head, "x".repeat(64_998));
        peer.send_to(large.as_bytes(), address).await.unwrap();
        let router = world.directory.router_for(b"large");
        let received = world.routers[router].message().await;
        assert_eq!((received.message.bytes().len(), received.message.fault()), (large.len(), None));
    }

    #[actix::test]
    async fn datagrams_that_wait_come_in_few_batches() {
        let mut world = World::new(1);
        let (_, address) = first(&mut world, "127.0.0.1:0").await;
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        // Nothing on this thread runs until the next await.
        for number in 0..40 {
            peer.send_to(request(&number.to_string(), 0).as_bytes(), address).unwrap();
        }
        // Few had come before.
        for length in [4, 32, 4] {
            assert_eq!(world.routers[0].batch().await.len(), length);
        }
    }

    #[actix::test]
    async fn what_is_no_sip_is_dropped() {
        let mut world = World::new(1);
        let (_, address) = first(&mut world, "127.0.0.1:0").await;
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let stun = [0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let noise = [&b"\r\n\r\n"[..], b"\0", b"", &stun, b"GET / HTTP/1.1\r\n\r\n", &[0xff; 600]];
        for octets in noise {
            peer.send_to(octets, address).await.unwrap();
        }
        peer.send_to(b"OPTIONS sip:a SIP/2.0\r\nCall-ID: short\r\n", address).await.unwrap();
        let received = world.routers[0].message().await;
        assert_eq!(received.message.call_id(), b"short");
        assert!(received.message.fault().is_some());
        world.routers[0].no_message().await;
    }

    #[actix::test]
    async fn a_stun_binding_request_is_answered_from_where_it_was_sent_to() {
        let mut world = World::new(1);
        let (_listener, address) = first(&mut world, "0.0.0.0:0").await;
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        for used in ["127.0.0.2", "127.0.0.1"] {
            let to = SocketAddr::new(used.parse().unwrap(), address.port());
            peer.send_to(&request, to).await.unwrap();
            let mut answer = [0; 64];
            let (length, from) = timeout(PATIENCE, peer.recv_from(&mut answer)).await.unwrap().unwrap();
            assert_eq!((length, from), (32, to));
            assert_eq!((&answer[..4], &answer[4..20]), (&[1, 1, 0, 12][..], &request[4..]));
        }
        world.routers[0].no_message().await;
    }

    #[actix::test]
    async fn a_wildcard_answers_from_the_address_that_the_peer_used() {
        let mut world = World::new(1);
        let (listener, address) = first(&mut world, "0.0.0.0:0").await;
        for used in ["127.0.0.2", "127.0.0.3", "127.0.0.2"] {
            let used: IpAddr = used.parse().unwrap();
            let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let to = SocketAddr::new(used, address.port());
            peer.send_to(request("1", 0).as_bytes(), to).await.unwrap();
            let flow = world.routers[0].message().await.flow;
            assert_eq!((flow.local, flow.remote), (to, peer.local_addr().unwrap()));
            let answer =
                [None, Some(flow.local.ip())].map(|local| datagram(local, flow.remote, response("1")));
            listener.do_send(TransmitDatagrams(answer.into()));
            assert_eq!(receive(&peer).await.1.ip(), IpAddr::from([127, 0, 0, 1]));
            assert_eq!(receive(&peer).await, (response("1"), to));
        }
    }

    #[actix::test]
    async fn an_ipv6_wildcard_answers_from_the_address_that_the_peer_used() {
        let mut world = World::new(1);
        let (listener, address) = first(&mut world, "[::]:0").await;
        let peer = UdpSocket::bind("[::1]:0").await.unwrap();
        let to = SocketAddr::new("::1".parse().unwrap(), address.port());
        peer.send_to(request("1", 0).as_bytes(), to).await.unwrap();
        let flow = world.routers[0].message().await.flow;
        assert_eq!((flow.local, flow.remote), (to, peer.local_addr().unwrap()));
        listener.do_send(TransmitDatagrams(vec![datagram(
            Some(flow.local.ip()),
            flow.remote,
            response("1"),
        )]));
        assert_eq!(receive(&peer).await, (response("1"), to));
        // An IPv6 wildcard leaves the port to IPv4.
        std::net::UdpSocket::bind(("0.0.0.0", address.port())).unwrap();
    }

    #[actix::test]
    async fn a_batch_for_many_peers_leaves_whole() {
        let mut world = World::new(1);
        let (listener, address) = first(&mut world, "127.0.0.1:0").await;
        let mut peers = Vec::new();
        for _ in 0..70 {
            peers.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        }
        let one = |(number, peer): (usize, &UdpSocket)| {
            datagram(None, peer.local_addr().unwrap(), response(&number.to_string()))
        };
        listener.do_send(TransmitDatagrams(peers.iter().enumerate().map(one).collect()));
        for (number, peer) in peers.iter().enumerate() {
            assert_eq!(receive(peer).await, (response(&number.to_string()), address));
        }
    }

    #[actix::test]
    async fn a_port_that_is_unreachable_fails_the_requests_sent_there_and_no_others() {
        for (local, loopback) in
            [("127.0.0.1:0", "127.0.0.1:0"), ("0.0.0.0:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")]
        {
            let mut world = World::new(1);
            let (listener, _) = first(&mut world, local).await;
            let peer = UdpSocket::bind(loopback).await.unwrap();
            let (_held, dead) = unreachable(loopback).await;
            for slot in 0..20 {
                let to = if slot % 2 == 0 { dead } else { peer.local_addr().unwrap() };
                let large = request("1", slot).replace("CSeq", &format!("X: {}\r\nCSeq", "y".repeat(900)));
                listener.do_send(TransmitDatagrams(vec![
                    datagram(None, to, large),
                    datagram(None, dead, format!("SIP/2.0 200 OK\r\n{}", request("1", 99))),
                ]));
            }
            for slot in (0..20).filter(|slot| slot % 2 == 0) {
                let failed = world.routers[0].failed.next().await;
                assert_eq!((failed.branch, failed.unreached), (branch(slot), Some(dead)));
            }
            world.routers[0].failed.nothing().await;
            for _ in 0..10 {
                receive(&peer).await;
            }
        }
    }

    #[actix::test]
    async fn what_the_system_refuses_fails_at_once() {
        let mut world = World::new(1);
        let (listener, _) = first(&mut world, "127.0.0.1:0").await;
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let nowhere = "[2001:db8::1]:5060".parse().unwrap();
        listener.do_send(TransmitDatagrams(vec![
            datagram(None, nowhere, request("1", 3)),
            datagram(None, peer.local_addr().unwrap(), response("2")),
        ]));
        assert_eq!(world.routers[0].failed.next().await.branch, branch(3));
        assert_eq!(receive(&peer).await.0, response("2"));
    }

    #[actix::test]
    async fn listeners_of_one_interface_share_its_port_and_strangers_do_not() {
        let mut world = World::new(2);
        let (_first, address) = first(&mut world, "127.0.0.1:0").await;
        let (_second, same) = listener(&mut world, &address.to_string(), 1, PortSharing::Joins).await;
        assert_eq!(address, same);
        for number in 0..40 {
            // A socket each, so that the system spreads them.
            let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            peer.send_to(request(&number.to_string(), 0).as_bytes(), address).await.unwrap();
            let router = world.directory.router_for(number.to_string().as_bytes());
            assert_eq!(world.routers[router].message().await.flow.remote, peer.local_addr().unwrap());
        }
        let mut stranger = World::new(1);
        let settings = DatagramListenerSettings {
            interface: InterfaceId(1),
            core: 0,
            address,
            sharing: PortSharing::First,
            message_limits: LIMITS,
            directory: Arc::clone(&stranger.directory),
            reports: stranger.reports.clone(),
            log: log(),
        };
        let listener = DatagramListener::new(settings).start();
        let status = stranger.status.next().await;
        assert_eq!((status.interface, status.listener), (InterfaceId(1), ListenerKind::Datagram { core: 0 }));
        let InterfaceState::NotListening { reason } = status.state else { panic!("{status:?}") };
        assert!(reason.starts_with(&address.to_string()) && reason.contains("in use"), "{reason}");
        listener.do_send(TransmitDatagrams(vec![datagram(None, address, request("1", 5))]));
        assert_eq!(stranger.routers[0].failed.next().await.branch, branch(5));
    }

    #[actix::test]
    async fn a_full_router_costs_datagrams_and_nothing_else() {
        let mut world = World::new(1);
        let (_, address) = first(&mut world, "127.0.0.1:0").await;
        let away = world.directory.router(0);
        world.directory.publish_router(0, None);
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        peer.send_to(request("lost", 0).as_bytes(), address).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        world.directory.publish_router(0, away.as_deref().cloned());
        peer.send_to(request("found", 0).as_bytes(), address).await.unwrap();
        assert_eq!(world.routers[0].message().await.message.call_id(), b"found");
    }

    /// Makes the actor panic.
    #[derive(actix::Message)]
    #[rtype(result = "()")]
    struct Panic;

    impl Handler<Panic> for DatagramListener {
        type Result = ();

        fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
            panic!("as the test wants it");
        }
    }

    #[actix::test]
    async fn after_a_panic_another_takes_the_port() {
        let mut world = World::new(1);
        let (failing, address) = first(&mut world, "127.0.0.1:0").await;
        failing.do_send(Panic);
        gone(&failing).await;
        let (_again, same) = first(&mut world, &address.to_string()).await;
        assert_eq!(same, address);
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        peer.send_to(request("1", 0).as_bytes(), address).await.unwrap();
        assert_eq!(world.routers[0].message().await.message.call_id(), b"1");
    }
}
