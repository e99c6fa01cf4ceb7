//! Where each actor is to be reached now.
//!
//! An actor that failed comes back under a new address. The supervisor puts that here; everybody else looks it
//! up when sending, which costs one atomic load, and so nobody has to be told. The table of connections is
//! touched only when one opens or closes, and to find one that a flow or a peer's address names.

use std::collections::HashMap;
use std::hash::Hasher as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::dev::SendError;
use actix::{Addr, Recipient};
use arc_swap::{ArcSwapOption, Guard};
use siphasher::sip::SipHasher13;

use super::connection::{Announce, Connection};
use super::messages::{
    ConnectionClosed, ConnectionOpened, Dial, MessagesReceived, Outgoing, Transmit, TransmitDatagrams,
    TransmitFailed,
};
use super::registrar::{
    Answers, FlowFailed, FlowStanding, Learned, LogOn, Questions, Registrar, RouterRestarted,
};
use super::router::{Drain, InterfacesChanged, RegistrarRestarted, Router};
use crate::protocol::account::AccountId;
use crate::protocol::flow::{ConnectionId, Flow, InterfaceId, Transport};
use crate::protocol::message::Message;
use crate::protocol::transaction::Branch;

/// An address as it stands now; empty while the actor is away.
pub type Current<T> = Guard<Option<Arc<T>>>;

/// Places for addresses.
type Slots<T> = Box<[ArcSwapOption<T>]>;

/// The ways into one Router, as its many senders need them.
#[derive(Clone, Debug)]
pub struct RouterAddress {
    /// The SIP that comes in.
    pub received: Recipient<MessagesReceived>,
    /// The SIP that could not go out.
    pub failed: Recipient<TransmitFailed>,
    /// New connections.
    pub opened: Recipient<ConnectionOpened>,
    /// Connections that ended.
    pub closed: Recipient<ConnectionClosed>,
    /// What the Registrar answers.
    pub answers: Recipient<Answers>,
    /// Which flows have logged on.
    pub standing: Recipient<FlowStanding>,
    /// Which interfaces listen.
    pub interfaces: Recipient<InterfacesChanged>,
    /// That the Registrar has begun anew.
    pub registrar_restarted: Recipient<RegistrarRestarted>,
    /// That the process is about to end.
    pub drain: Recipient<Drain>,
}

impl From<Addr<Router>> for RouterAddress {
    fn from(address: Addr<Router>) -> Self {
        Self {
            received: address.clone().recipient(),
            failed: address.clone().recipient(),
            opened: address.clone().recipient(),
            closed: address.clone().recipient(),
            answers: address.clone().recipient(),
            standing: address.clone().recipient(),
            interfaces: address.clone().recipient(),
            registrar_restarted: address.clone().recipient(),
            drain: address.recipient(),
        }
    }
}

/// The ways into the Registrar.
#[derive(Clone, Debug)]
pub struct RegistrarAddress {
    /// What Routers ask.
    pub questions: Recipient<Questions>,
    /// Which UC server has answered for a user.
    pub learned: Recipient<Learned>,
    /// Flows from which nothing comes back.
    pub flow_failed: Recipient<FlowFailed>,
    /// UC servers that have logged on by their certificate.
    pub log_on: Recipient<LogOn>,
    /// Connections that ended.
    pub closed: Recipient<ConnectionClosed>,
    /// That a Router has begun anew.
    pub router_restarted: Recipient<RouterRestarted>,
}

impl From<Addr<Registrar>> for RegistrarAddress {
    fn from(address: Addr<Registrar>) -> Self {
        Self {
            questions: address.clone().recipient(),
            learned: address.clone().recipient(),
            flow_failed: address.clone().recipient(),
            log_on: address.clone().recipient(),
            closed: address.clone().recipient(),
            router_restarted: address.recipient(),
        }
    }
}

/// All addresses. One per process, shared.
#[derive(Debug)]
pub struct Directory {
    routers: Slots<RouterAddress>,
    registrar: ArcSwapOption<RegistrarAddress>,
    /// By interface, then by core.
    datagram: Box<[Slots<Recipient<TransmitDatagrams>>]>,
    stream: Slots<Recipient<Dial>>,
    connections: Mutex<Connections>,
    next_connection: AtomicU64,
    hash_key: [u8; 16],
    limits: ConnectionLimits,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// With one address of the peer.
    pub per_address: usize,
}

/// What a request that needs a connection asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Our interface.
    pub interface: InterfaceId,
    /// TCP or TLS.
    pub transport: Transport,
    /// The peer's end.
    pub remote: SocketAddr,
    /// The name that its certificate has been checked for.
    pub host: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Connections {
    open: HashMap<ConnectionId, Entry>,
    /// The newest connection to each peer, for requests that need one (RFC 3261 §18).
    by_peer: HashMap<Peer, ConnectionId>,
    per_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    remote: IpAddr,
    /// Where it stands in `by_peer`.
    peer: Option<Peer>,
    address: Option<Addr<Connection>>,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `limits.maximum_connections`.
    Total,
    /// `limits.maximum_connections_per_address`.
    PerAddress,
}

impl Directory {
    /// An empty directory for `cores` Routers and `interfaces` interfaces. `hash_key` is drawn at random, so that
    /// nobody can choose Call-IDs that all meet in one Router.
    pub fn new(cores: usize, interfaces: usize, limits: ConnectionLimits, hash_key: [u8; 16]) -> Self {
        Self {
            routers: vacant(cores),
            registrar: ArcSwapOption::empty(),
            datagram: (0..interfaces).map(|_| vacant(cores)).collect(),
            stream: vacant(interfaces),
            connections: Mutex::default(),
            next_connection: AtomicU64::new(1),
            hash_key,
            limits,
        }
    }

    /// The Router that `message` belongs to: a response to the one that has sent the request, which its branch
    /// names; a request that came by a connection to that connection's, so that what a peer sends in order stays in
    /// order; one that came by datagram to the one that all of its Call-ID meet in.
    pub fn router_of(&self, message: &Message, connection: Option<ConnectionId>) -> usize {
        let count = self.routers.len();
        if message.status().is_some() {
            let branch = message.top_via().and_then(|via| via.branch.and_then(Branch::parse));
            // What is not ours is dropped wherever it goes.
            return branch.map_or(0, |branch| usize::from(branch.router)).min(count - 1);
        }
        connection.map_or_else(|| self.router_for(message.call_id()), |id| self.core_of(id))
    }

    /// The Router in which the requests of this Call-ID meet that come by datagram.
    pub fn router_for(&self, call_id: &[u8]) -> usize {
        (self.hash(call_id) % self.routers.len() as u64) as usize
    }

    /// The core of a connection: there it lives, and its requests are routed.
    pub fn core_of(&self, connection: ConnectionId) -> usize {
        (connection.0 % self.routers.len() as u64) as usize
    }

    /// How many Routers there are.
    pub fn router_count(&self) -> usize {
        self.routers.len()
    }

    /// The Router with this index, which [`Self::router_of`] gives.
    pub fn router(&self, index: usize) -> Current<RouterAddress> {
        current(self.routers.get(index))
    }

    /// The Registrar.
    pub fn registrar(&self) -> Current<RegistrarAddress> {
        self.registrar.load()
    }

    /// The Listener of `interface` that sends datagrams for `core`.
    pub fn datagram_listener(
        &self,
        interface: InterfaceId,
        core: usize,
    ) -> Current<Recipient<TransmitDatagrams>> {
        current(self.datagram.get(usize::from(interface.0)).and_then(|cores| cores.get(core)))
    }

    /// The Listener that has or opens connections of `interface`.
    pub fn stream_listener(&self, interface: InterfaceId) -> Current<Recipient<Dial>> {
        current(self.stream.get(usize::from(interface.0)))
    }

    /// A To tag for responses of the transport, which are sent before any Router sees the request
    /// (RFC 3261 §8.2.7: the same for the same request, and not to be guessed).
    pub fn tag_for(&self, call_id: &[u8]) -> String {
        format!("{:016x}", self.hash(call_id))
    }

    fn hash(&self, octets: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        hasher.write(octets);
        hasher.finish()
    }
}

/// What the supervisor does; `None` withdraws.
impl Directory {
    /// Puts the address of a Router here. One that comes back learns of the connections by
    /// [`Self::announce_connections`], to be called afterwards.
    pub fn publish_router(&self, index: usize, address: Option<RouterAddress>) {
        self.routers[index].store(address.map(Arc::new));
    }

    /// Puts the Registrar's address here.
    pub fn publish_registrar(&self, address: Option<RegistrarAddress>) {
        self.registrar.store(address.map(Arc::new));
    }

    /// Puts the address of a datagram Listener here.
    pub fn publish_datagram_listener(
        &self,
        interface: InterfaceId,
        core: usize,
        address: Option<Recipient<TransmitDatagrams>>,
    ) {
        self.datagram[usize::from(interface.0)][core].store(address.map(Arc::new));
    }

    /// Puts the address of a stream Listener here. A UDP interface has one too, its companion's.
    pub fn publish_stream_listener(&self, interface: InterfaceId, address: Option<Recipient<Dial>>) {
        self.stream[usize::from(interface.0)].store(address.map(Arc::new));
    }

    /// Makes every open connection tell the Router `index` of itself.
    ///
    /// Messages of a connection may overtake that: a Router that meets a connection which it does not know finds
    /// it by [`Self::connection`].
    pub fn announce_connections(&self, index: usize) {
        let addresses: Vec<_> =
            self.connections().open.values().filter_map(|entry| entry.address.clone()).collect();
        for address in addresses {
            address.do_send(Announce { router: index });
        }
    }
}

/// What the Routers are told.
impl Directory {
    /// Tells every Router of a connection that opened.
    pub fn tell_opened(&self, opened: &ConnectionOpened) {
        for router in self.routers.iter().filter_map(|router| router.load_full()) {
            router.opened.do_send(opened.clone());
        }
    }

    /// Tells the Registrar that a handshake has logged a UC server on.
    pub fn tell_logged_on(&self, flow: Flow, account: AccountId) {
        if let Some(registrar) = self.registrar().as_deref() {
            registrar.log_on.do_send(LogOn { flow, account });
        }
    }

    /// Tells every Router and the Registrar of a connection that ended.
    pub fn tell_closed(&self, closed: ConnectionClosed) {
        for router in self.routers.iter().filter_map(|router| router.load_full()) {
            router.closed.do_send(closed);
        }
        if let Some(registrar) = self.registrar().as_deref() {
            registrar.closed.do_send(closed);
        }
    }

    /// Tells the Router of `branch` that its request did not go out. As often as something was to be sent at most,
    /// so that the mailbox is bounded by what the Router sends.
    pub fn tell_failed(&self, branch: Branch) {
        if let Some(router) = self.router(usize::from(branch.router)).as_deref() {
            router.failed.do_send(TransmitFailed { branch });
        }
    }

    /// [`Self::tell_failed`] for all of `messages`.
    pub fn tell_all_failed(&self, messages: &[Outgoing]) {
        for branch in messages.iter().filter_map(|message| message.branch) {
            self.tell_failed(branch);
        }
    }

    /// [`Self::tell_failed`] for what the network says, which a full mailbox refuses. False: refused.
    pub fn try_tell_failed(&self, branch: Branch) -> bool {
        let router = self.router(usize::from(branch.router));
        router.as_deref().is_none_or(|router| {
            !matches!(router.failed.try_send(TransmitFailed { branch }), Err(SendError::Full(_)))
        })
    }
}

/// The connections.
impl Directory {
    /// Lets a connection with `remote` in, where the limits allow it. It counts until the [`Admission`] is dropped.
    pub fn open_connection(self: &Arc<Self>, remote: IpAddr) -> Result<Admission, Refused> {
        let mut connections = self.connections();
        if connections.open.len() >= self.limits.total {
            return Err(Refused::Total);
        }
        let of_address = connections.per_address.entry(remote).or_default();
        if *of_address >= self.limits.per_address {
            return Err(Refused::PerAddress);
        }
        *of_address += 1;
        let id = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        connections.open.insert(id, Entry { remote, peer: None, address: None });
        Ok(Admission { directory: Arc::clone(self), id })
    }

    /// How many connections are counted, those included that are being opened.
    pub fn connection_count(&self) -> usize {
        self.connections().open.len()
    }

    /// The newest connection that requests to `peer` may use.
    pub fn connection_to(&self, peer: &Peer) -> Option<Addr<Connection>> {
        let connections = self.connections();
        let id = connections.by_peer.get(peer)?;
        connections.open.get(id)?.address.clone()
    }

    /// The connection with this identifier.
    pub fn connection(&self, id: ConnectionId) -> Option<Recipient<Transmit>> {
        Some(self.connections().open.get(&id)?.address.clone()?.recipient())
    }

    /// Puts the address of a connection here, unless it has ended meanwhile. With `peer`, requests to that peer
    /// find it.
    pub fn publish_connection(&self, id: ConnectionId, address: Addr<Connection>, peer: Option<Peer>) {
        let mut connections = self.connections();
        if !connections.open.contains_key(&id) {
            return;
        }
        connections.forget_peer(id);
        if let Some(peer) = &peer {
            connections.by_peer.insert(peer.clone(), id);
        }
        if let Some(entry) = connections.open.get_mut(&id) {
            entry.address = Some(address);
            entry.peer = peer;
        }
    }

    /// Every open connection.
    #[cfg(test)]
    pub(super) fn all_connections(&self) -> Vec<Addr<Connection>> {
        self.connections().open.values().filter_map(|entry| entry.address.clone()).collect()
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // No panic can happen between two changes that belong together, so a poisoned table is a sound one.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn forget_peer(&mut self, id: ConnectionId) {
        let peer = self.open.get_mut(&id).and_then(|entry| entry.peer.take());
        if let Some(peer) = peer
            && self.by_peer.get(&peer) == Some(&id)
        {
            self.by_peer.remove(&peer);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.forget_peer(id);
        let Some(entry) = self.open.remove(&id) else {
            return;
        };
        if let Some(count) = self.per_address.get_mut(&entry.remote) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&entry.remote);
            }
        }
    }
}

/// A connection's place in the table; dropping it gives the place back.
#[derive(Debug)]
pub struct Admission {
    directory: Arc<Directory>,
    id: ConnectionId,
}

impl Admission {
    /// The identifier that the connection has.
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Keeps new requests off: the connection is found by its identifier alone from now on.
    pub fn forget_peer(&self) {
        self.directory.connections().forget_peer(self.id);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.directory.connections().close(self.id);
    }
}

fn vacant<T>(count: usize) -> Slots<T> {
    (0..count).map(|_| ArcSwapOption::empty()).collect()
}

fn current<T>(slot: Option<&ArcSwapOption<T>>) -> Current<T> {
    slot.map_or_else(|| Guard::from_inner(None), |slot| slot.load())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(cores: usize, total: usize, per_address: usize) -> Arc<Directory> {
        Arc::new(Directory::new(cores, 1, ConnectionLimits { total, per_address }, [7; 16]))
    }

    #[test]
    fn a_call_id_has_one_router_and_call_ids_spread() {
        let directory = directory(4, 1, 1);
        let mut counts = [0; 4];
        for number in 0..4_000 {
            let call_id = format!("{number}@example.org");
            let router = directory.router_for(call_id.as_bytes());
            assert_eq!(router, directory.router_for(call_id.as_bytes()));
            counts[router] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1_200).contains(&count)), "{counts:?}");
    }

    #[test]
    fn connections_are_counted_until_they_end() {
        let directory = directory(1, 3, 2);
        let [one, two]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let first = directory.open_connection(one).unwrap();
        let second = directory.open_connection(one).unwrap();
        assert_ne!(first.id(), second.id());
        assert_eq!(directory.open_connection(one).unwrap_err(), Refused::PerAddress);
        let third = directory.open_connection(two).unwrap();
        assert_eq!(directory.open_connection(two).unwrap_err(), Refused::Total);
        drop(first);
        assert_eq!(directory.connection_count(), 2);
        let fourth = directory.open_connection(one).unwrap();
        drop((second, third, fourth));
        assert_eq!(directory.connection_count(), 0);
        assert!(directory.connections().per_address.is_empty());
    }

    #[test]
    fn what_nobody_has_published_is_vacant() {
        let directory = directory(1, 1, 1);
        assert!(directory.router(0).is_none());
        assert!(directory.router(200).is_none());
        assert!(directory.datagram_listener(InterfaceId(0), 0).is_none());
        assert!(directory.stream_listener(InterfaceId(9)).is_none());
        assert!(directory.connection(ConnectionId(1)).is_none());
    }
}
