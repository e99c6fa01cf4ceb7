//! What carries messages between the proxy and its peers: datagrams that get lost, come twice or late; streams that
//! keep their order and end at any time.

mod outward;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sip_proxy::actors::directory::Admission;
use sip_proxy::protocol::account::AccountId;
use sip_proxy::protocol::flow::{ConnectionId, Flow, InterfaceId};
use sip_proxy::protocol::message::{Carriage, Message, MessageLimits};
use sip_proxy::protocol::transaction::Branch;

use crate::coverage::Count;
use crate::engine::{Actor, Mail};
use crate::setup::{self, MUTUAL};
use crate::trace::What;
use crate::world::{Happening, World};

const LIMITS: MessageLimits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };

/// How long a stream waits before it offers again what a Router has not taken.
const HELD_RETRY: Duration = Duration::from_millis(5);

/// A message of the proxy's for a stream.
#[derive(Clone, Debug)]
struct Outgoing {
    bytes: Bytes,
    /// The client transaction that wants to know of a failure.
    branch: Option<Branch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dialling,
    Open,
    /// The proxy has not noticed yet.
    Cut,
}

/// A stream. Gone from the table when the proxy has noticed its end.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: usize,
    flow: Flow,
    certificate: Option<AccountId>,
    stage: Stage,
    /// Its place in the directory.
    _admission: Admission,
    /// Written while it is being dialled.
    queued: Vec<Outgoing>,
    /// What has left and not arrived.
    under_way: Vec<(Duration, Option<Branch>)>,
    /// What will be told to have failed when the end is noticed.
    failures: Vec<Branch>,
    /// When the latest message of each direction arrives.
    to_proxy: Duration,
    to_peer: Duration,
    /// A Router has not taken what it has read.
    held_until: Duration,
}

/// All streams.
#[derive(Debug, Default)]
pub(crate) struct Network {
    connections: BTreeMap<ConnectionId, Connection>,
    /// The newest that the proxy has dialled, to each address.
    dialled: BTreeMap<(InterfaceId, SocketAddr), ConnectionId>,
    next_port: u16,
}

impl Network {
    /// The flow of a connection that peers can use.
    pub(crate) fn open_flow(&self, id: ConnectionId) -> Option<Flow> {
        self.connections.get(&id).filter(|connection| connection.stage == Stage::Open).map(|c| c.flow)
    }

    /// The connections of which the proxy knows.
    pub(crate) fn is_known(&self, id: ConnectionId) -> bool {
        self.connections.contains_key(&id)
    }

    /// Those of a peer that are open.
    pub(crate) fn of_peer(&self, peer: usize) -> Vec<ConnectionId> {
        let own = self.connections.iter().filter(|(_, c)| c.peer == peer && c.stage == Stage::Open);
        own.map(|(id, _)| *id).collect()
    }

    /// Those that are open.
    pub(crate) fn open(&self) -> Vec<ConnectionId> {
        let open = self.connections.iter().filter(|(_, connection)| connection.stage == Stage::Open);
        open.map(|(id, _)| *id).collect()
    }
}

/// From peers to the proxy.
impl World<'_> {
    /// Opens a stream of a peer's, unless nobody listens.
    pub(crate) fn connect(&mut self, peer: usize) -> Option<Flow> {
        if !self.engine.is_running() || self.peers[peer].is_down {
            return None;
        }
        let (interface, transport, ip) =
            (self.peers[peer].interface, self.peers[peer].transport, self.peers[peer].address.ip());
        let admission = self.engine.directory.open_connection(ip).expect("the limits are high");
        self.network.next_port += 1;
        let remote = SocketAddr::new(ip, 40_000 + self.network.next_port % 20_000);
        let id = admission.id();
        let flow =
            Flow { interface, transport, local: setup::bound(interface), remote, connection: Some(id) };
        let certificate = self.peers[peer].has_certificate().then_some(MUTUAL);
        self.opens(peer, flow, certificate, admission, Stage::Open);
        if let Some(account) = certificate {
            self.post(Actor::Registrar, Mail::LogOn(flow, account));
        }
        Some(flow)
    }

    fn opens(
        &mut self,
        peer: usize,
        flow: Flow,
        certificate: Option<AccountId>,
        admission: Admission,
        stage: Stage,
    ) {
        let id = admission.id();
        self.model.connection_is_of(peer, id, certificate.is_some());
        self.trace.note(self.now, || format!("connection {} of peer {peer}: {flow} {stage:?}", id.0 % 1000));
        let connection = Connection {
            peer,
            flow,
            certificate,
            stage,
            _admission: admission,
            queued: Vec::new(),
            under_way: Vec::new(),
            failures: Vec::new(),
            to_proxy: self.now,
            to_peer: self.now,
            held_until: self.now,
        };
        self.network.connections.insert(id, connection);
    }

    /// A peer sends octets by a datagram or stream. False where the stream has ended.
    pub(crate) fn send(&mut self, peer: usize, flow: Flow, bytes: Bytes) -> bool {
        self.trace.push(self.now, What::PeerSends { peer, flow, bytes: bytes.clone() });
        let Some(id) = flow.connection else {
            for delay in self.fates(&bytes) {
                self.schedule(delay, Happening::AtProxy { flow, bytes: bytes.clone() });
            }
            return true;
        };
        let delay = self.random.millis(0, 10);
        let now = self.now;
        let Some(connection) = self.network.connections.get_mut(&id).filter(|c| c.stage == Stage::Open)
        else {
            self.trace.push(now, What::Lost("no connection", bytes));
            return false;
        };
        connection.to_proxy = connection.to_proxy.max(now + delay);
        let wait = connection.to_proxy - now;
        self.schedule(wait, Happening::AtProxy { flow, bytes });
        true
    }

    /// When each copy of a datagram arrives.
    fn fates(&mut self, bytes: &Bytes) -> Vec<Duration> {
        let (loss, duplication, delay) = (self.profile.loss, self.profile.duplication, self.profile.delay);
        if self.random.chance(loss) {
            self.count(Count::DatagramsLost);
            self.trace.push(self.now, What::Lost("network", bytes.clone()));
            return Vec::new();
        }
        let mut fates = vec![self.random.millis(0, delay)];
        if self.random.chance(duplication) {
            self.count(Count::DatagramsDoubled);
            fates.push(self.random.millis(0, delay));
        }
        fates
    }

    /// Octets have come to a socket of the proxy's.
    pub(crate) fn arrives(&mut self, sequence: u64, flow: Flow, bytes: Bytes) {
        let now = self.now;
        if !self.engine.is_running() {
            return self.trace.push(now, What::Lost("no process", bytes));
        }
        let carriage = if flow.connection.is_some() { Carriage::Stream } else { Carriage::Datagram };
        let message = Message::parse(bytes.clone(), carriage, LIMITS).expect("peers send SIP");
        let router = self.engine.directory.router_of(&message, flow.connection);
        let Some(id) = flow.connection else {
            let mail = Mail::Received { flow, certificate: None, message };
            return self.post(Actor::Router(router), mail);
        };
        let Some(connection) = self.network.connections.get_mut(&id) else {
            return self.trace.push(now, What::Lost("no connection", bytes));
        };
        // What a Router that is away has not taken is offered again; until then nothing is read.
        if self.engine.routers[router].is_none() && connection.held_until <= now {
            connection.held_until = now + HELD_RETRY;
        }
        if connection.held_until > now {
            let until = connection.held_until;
            return self.put_off(until, sequence, Happening::AtProxy { flow, bytes });
        }
        let certificate = connection.certificate;
        let mail = Mail::Received { flow, certificate, message };
        self.post(Actor::Router(router), mail);
    }
}

/// How streams end.
impl World<'_> {
    /// Ends a stream at its peer's side. Of what is under way from the proxy nothing arrives; of the other direction
    /// everything does, unless the end is abrupt.
    pub(crate) fn cut(&mut self, id: ConnectionId, is_abrupt: bool) {
        let tells = self.random.chance(50);
        let delay = self.random.millis(0, 100);
        let now = self.now;
        let Some(connection) = self.network.connections.get_mut(&id).filter(|c| c.stage == Stage::Open)
        else {
            return;
        };
        connection.stage = Stage::Cut;
        let lost = connection.under_way.iter().filter(|(at, _)| *at > now);
        let lost = lost.filter_map(|(_, branch)| branch.filter(|_| tells));
        connection.failures = lost.collect();
        let (peer, until) = (connection.peer, connection.to_proxy.max(now + delay));
        self.count(Count::ConnectionsCut);
        self.trace.note(now, || format!("connection {} ends, abruptly: {is_abrupt}", id.0 % 1000));
        self.schedule(if is_abrupt { Duration::ZERO } else { until - now }, Happening::Ends { id });
        self.peer_disconnected(peer, id);
    }

    /// The proxy has noticed the end of a stream.
    pub(crate) fn ends(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connections.remove(&id) else { return };
        self.model.connection_ends(id);
        for branch in connection.failures {
            self.tell_failed(Some(branch), None);
        }
        for index in 0..self.engine.routers.len() {
            self.post(Actor::Router(index), Mail::Closed(connection.flow));
        }
        self.post(Actor::Registrar, Mail::Closed(connection.flow));
    }

    /// The process has ended, and all its streams with it.
    pub(crate) fn lose_connections(&mut self) {
        self.network.dialled.clear();
        for (id, connection) in std::mem::take(&mut self.network.connections) {
            if connection.stage == Stage::Open {
                self.peer_disconnected(connection.peer, id);
            }
        }
    }
}
