//! Where each actor is to be reached now.
//!
//! An actor that failed comes back under a new address. The supervisor puts that here; everybody else looks it
//! up when sending, which costs one atomic load, and so nobody has to be told. The table of connections is
//! touched only when one opens or closes, and to find one that a flow or a peer's address names.

mod addresses;
mod connections;
mod reuse;

use std::hash::Hasher as _;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use actix::Recipient;
use actix::dev::SendError;
use arc_swap::{ArcSwapOption, Guard};
use siphasher::sip::SipHasher13;

pub use self::addresses::{FederationResolverAddress, JournalAddress, RegistrarAddress, RouterAddress};
use self::connections::Connections;
pub use self::connections::{Admission, ConnectionLimits, Established, Refused};
pub use self::reuse::{Peer, Reuse};
use super::messages::{
    ConnectionClosed, ConnectionOpened, Dial, Outgoing, TransmitDatagrams, TransmitFailed,
};
use super::registrar::LogOn;
use super::router::AccessServersMoved;
use super::trace::Trace;
use crate::diagnostics::metrics::Metrics;
use crate::protocol::account::AccountId;
use crate::protocol::flow::{ConnectionId, Flow, InterfaceId};
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::uri::Uri;
use crate::protocol::message::{Message, Name};
use crate::protocol::record_route::TokenKey;
use crate::protocol::transaction::Branch;

/// An address as it stands now; empty while the actor is away.
pub type Current<T> = Guard<Option<Arc<T>>>;

/// Places for addresses.
type Slots<T> = Box<[ArcSwapOption<T>]>;

/// All addresses. One per process, shared.
#[derive(Debug)]
pub struct Directory {
    routers: Slots<RouterAddress>,
    registrar: ArcSwapOption<RegistrarAddress>,
    journal: ArcSwapOption<JournalAddress>,
    federation_resolver: ArcSwapOption<FederationResolverAddress>,
    /// By interface, then by core.
    datagram: Box<[Slots<Recipient<TransmitDatagrams>>]>,
    stream: Slots<Recipient<Dial>>,
    connections: Mutex<Connections>,
    next_connection: AtomicU64,
    hash_key: [u8; 16],
    metrics: Metrics,
    trace: Arc<Trace>,
}

impl Directory {
    /// An empty directory for `cores` Routers and interfaces with identifiers below `interfaces`. `hash_key` is drawn at random, so that
    /// nobody can choose Call-IDs that all meet in one Router.
    pub fn new(cores: usize, interfaces: usize, limits: ConnectionLimits, hash_key: [u8; 16]) -> Self {
        Self {
            routers: vacant(cores),
            registrar: ArcSwapOption::empty(),
            journal: ArcSwapOption::empty(),
            federation_resolver: ArcSwapOption::empty(),
            datagram: (0..interfaces).map(|_| vacant(cores)).collect(),
            stream: vacant(interfaces),
            connections: Mutex::new(Connections::new(limits)),
            next_connection: AtomicU64::new(Self::first_connection(&hash_key)),
            hash_key,
            metrics: Metrics::default(),
            trace: Arc::default(),
        }
    }

    /// Where the numbers of this process's connections begin. Flow tokens outlive the process, and must not name a
    /// connection of the next one by chance.
    fn first_connection(hash_key: &[u8; 16]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(hash_key);
        hasher.write(b"connections");
        hasher.finish() >> 1 | 1
    }

    /// Who watches messages pass.
    pub const fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    /// The Router that `message` belongs to: a response to the one that has sent the request, which its branch
    /// names; a request in a dialog to the one that has recorded the dialog, which its Route names, so that it does not
    /// overtake responses; another that came by a connection to that connection's, so that what a peer sends in order
    /// stays in order; one that came by datagram to the one that all of its Call-ID meet in.
    pub fn router_of(&self, message: &Message, connection: Option<ConnectionId>) -> usize {
        let count = self.routers.len();
        if message.status().is_some() {
            let branch = message.top_via().and_then(|via| via.branch.and_then(Branch::parse));
            // What is not ours is dropped wherever it goes.
            return branch.map_or(0, |branch| usize::from(branch.router)).min(count - 1);
        }
        if let Some(router) = dialog_router(message).map(usize::from).filter(|&router| router < count) {
            return router;
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

    /// The FederationResolver.
    pub fn federation_resolver(&self) -> Current<FederationResolverAddress> {
        self.federation_resolver.load()
    }

    /// The Journal.
    pub fn journal(&self) -> Current<JournalAddress> {
        self.journal.load()
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

    /// What is counted of what happens seldom.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
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

    /// Puts the FederationResolver's address here.
    pub fn publish_federation_resolver(&self, address: Option<FederationResolverAddress>) {
        self.federation_resolver.store(address.map(Arc::new));
    }

    /// Puts the Journal's address here.
    pub fn publish_journal(&self, address: Option<JournalAddress>) {
        self.journal.store(address.map(Arc::new));
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
}

/// What the Routers are told.
impl Directory {
    /// Tells every Router of a connection that opened.
    pub fn tell_opened(&self, opened: &ConnectionOpened) {
        for router in self.routers.iter().filter_map(|router| router.load_full()) {
            router.opened.do_send(opened.clone());
        }
    }

    /// Tells every Router where the access servers of static routes are.
    pub fn tell_access_servers(&self, moved: &AccessServersMoved) {
        for router in self.routers.iter().filter_map(|router| router.load_full()) {
            router.access_servers.do_send(moved.clone());
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
            router.failed.do_send(TransmitFailed { branch, unreached: None });
        }
    }

    /// [`Self::tell_failed`] for all of `messages`.
    pub fn tell_all_failed(&self, messages: &[Outgoing]) {
        for branch in messages.iter().filter_map(|message| message.branch) {
            self.tell_failed(branch);
        }
    }

    /// Tells the Router of `branch` that its request has not arrived at `destination`. A full mailbox refuses it: false.
    pub fn try_tell_unreached(&self, branch: Branch, destination: SocketAddr) -> bool {
        let router = self.router(usize::from(branch.router));
        router.as_deref().is_none_or(|router| {
            let failed = TransmitFailed { branch, unreached: Some(destination) };
            !matches!(router.failed.try_send(failed), Err(SendError::Full(_)))
        })
    }
}

/// The Router that has recorded the dialog of a request.
fn dialog_router(request: &Message) -> Option<u8> {
    let route = NameAddr::parse(request.values(Name::Route).next()?)?;
    TokenKey::router_of(Uri::parse(route.uri).ok()?.user?)
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
    fn what_nobody_has_published_is_vacant() {
        let directory = directory(1, 1, 1);
        assert!(directory.router(0).is_none());
        assert!(directory.router(200).is_none());
        assert!(directory.datagram_listener(InterfaceId(0), 0).is_none());
        assert!(directory.stream_listener(InterfaceId(9)).is_none());
        assert!(directory.connection(ConnectionId(1)).is_none());
    }
}
