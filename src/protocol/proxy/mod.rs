//! The proxy core (RFC 3261 §16): what a Router does with each message, without a clock or a socket.
//!
//! One [`Proxy`] per Router. Feed it with `handle_*`, drain [`Proxy::poll_output`], call [`Proxy::handle_timeout`]
//! when [`Proxy::poll_timeout`] says so. A request's way through the files:
//!
//! | step | file |
//! |---|---|
//! | which transaction, may it pass | `incoming.rs`, with `validate.rs`, `loop_check.rs` (§16.3), `authenticate.rs` |
//! | who from the outside it comes from | `border.rs` (RFC 5922 §7.4) |
//! | whether that domain is watched | `watch.rs` |
//! | where it goes | `preprocess.rs`, `route.rs` (§16.4), `locating.rs` and `targets.rs` (§16.5) |
//! | what it begins with | `begin.rs` |
//! | what a wrong answer to a challenge costs | `guesses.rs` |
//! | where the servers of another domain are | `outward.rs` (RFC 3263) |
//! | whether static routes work | `probe.rs` |
//! | when requests for discovered peers leave | `turns.rs` |
//! | asking: branches, forking, failover | `forking.rs`, `forward.rs` (§16.6) |
//! | responses: which goes upstream | `responses.rs`, `response_context.rs` (§16.7 to §16.9) |
//! | answering who asked | `upstream.rs` |
//! | asking those to whom a 3xx leads | `redirect.rs` (§16.7 step 4) |
//! | ending it | `cancel.rs` (§16.10) |
//! | how long connections may be silent, for peers that ask | `keep_alive.rs` (MS-CONMGMT) |
//! | what nobody answers | `unanswered.rs` (§16.11) |
//! | what is refused, and what is left, once the process is to end | `farewell.rs` |
//! | what is remembered meanwhile | `table.rs`, in tables of `slots.rs` |
//! | what is remembered afterwards | `answered.rs` (§17.2.2) |

mod answered;
mod authenticate;
mod begin;
mod border;
mod cancel;
mod counts;
mod event;
mod farewell;
mod forking;
pub mod forward;
mod guesses;
mod incoming;
mod keep_alive;
mod locating;
mod loop_check;
pub mod outward;
pub mod preprocess;
mod probe;
mod redirect;
mod response_context;
mod responses;
pub mod route;
pub mod settings;
mod slots;
mod source_rate;
mod standings;
mod table;
pub mod targets;
mod turns;
mod unanswered;
mod upstream;
pub mod validate;
mod watch;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::protocol::account::{AccountId, AccountKind};
use crate::protocol::digest::Nonces;
use crate::protocol::federation::AccessAddresses;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::identity::PeerProof;
use crate::protocol::interface::Interfaces;
use crate::protocol::location::{AddressOfRecord, Answer, ContextId, Question};
use crate::protocol::message::{Message, Method};
use crate::protocol::next_hop::Query;
use crate::protocol::next_hop::health::Outcome;
use crate::protocol::random::Random;
use crate::protocol::record_route::TokenKey;
use crate::protocol::timer_wheel::TimerWheel;
use crate::protocol::transaction::{Branch, KeyHasher};

use answered::Answered;
use border::Proven;
pub use counts::{Counts, Direction, RESPONSE_TIME_BOUNDS, ResponseTimes};
pub use event::{DropReason, Event, EventDetail};
use farewell::Farewell;
pub use farewell::Unfinished;
use guesses::Guesses;
use outward::{Beyond, ToldWell};
use response_context::ResponseContext;
use settings::Settings;
use slots::{Keys, Slot, Table, Tenant};
use source_rate::SourceRate;
use standings::Standings;
pub use table::{Alternate, SentBy};
use table::{ClientTransaction, Line, ServerTransaction, Waiting};

/// How finely timers are kept. A retransmission that is late by this much harms nobody.
const TICK: Duration = Duration::from_millis(5);

/// What the proxy wants done.
#[derive(Debug)]
pub enum Output {
    /// Send these octets.
    Transmit {
        /// Where: for a stream the connection, or without one any that leads to the remote address.
        hop: Flow,
        /// Where to open a connection if that of `hop` has ended.
        alternate: Option<Alternate>,
        /// What.
        bytes: Bytes,
        /// The client transaction to be told of a failure.
        branch: Option<Branch>,
        /// How a server of another domain is reached, where `hop` has no connection.
        beyond: Option<Arc<Beyond>>,
    },
    /// Ask the FederationResolver.
    Resolve {
        /// Who waits for the answer.
        context: ContextId,
        /// What.
        query: Query,
    },
    /// Tell the FederationResolver how a server of another domain does.
    ServerHealth {
        /// What was spoken to it.
        transport: Transport,
        /// Where it is.
        remote: SocketAddr,
        /// What came of it.
        outcome: Outcome,
    },
    /// Ask the Registrar.
    Ask(Question),
    /// Tell the Registrar which UC server has answered for a user.
    Learned {
        /// The user.
        user: AddressOfRecord,
        /// The server's flow.
        flow: Flow,
    },
    /// Tell the Registrar that nothing comes back from this flow, or that no connection can be had by it.
    FlowFailed(Flow),
    /// Tell the Registrar that nothing arrives over this flow any more, as the network says.
    FlowEnded(Flow),
    /// For the log.
    Event(Event),
}

/// Secrets that all Routers of a process share.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Matches requests to transactions.
    pub transaction_key: [u8; 16],
    /// Signs nonces.
    pub nonce_key: [u8; 32],
    /// Signs Record-Route.
    pub token_key: TokenKey,
    /// The zero of the nonces' clock.
    pub epoch: Instant,
}

/// Who is due when a timer fires.
#[derive(Clone, Copy, Debug)]
enum Due {
    Server(Slot),
    Client(Slot),
    Context(Slot),
}

/// The core of one Router.
#[derive(Debug)]
pub struct Proxy {
    router: u8,
    settings: Arc<Settings>,
    interfaces: Arc<Interfaces>,
    detail: EventDetail,
    hasher: KeyHasher,
    token_key: TokenKey,
    loop_key: [u8; 16],
    nonces: Nonces,
    epoch: Instant,
    random: Random,
    servers: Table<ServerTransaction>,
    by_key: Keys,
    answered: Answered,
    clients: Table<ClientTransaction>,
    waiting: Waiting,
    contexts: Table<ResponseContext>,
    /// Which flows have logged on, by the Registrar's word.
    standing: Standings,
    source_rate: SourceRate,
    guesses: Guesses,
    proven: Proven,
    told_well: ToldWell,
    access_addresses: AccessAddresses,
    /// The process is about to end.
    farewell: Option<Farewell>,
    wheel: TimerWheel<Due>,
    outputs: VecDeque<Output>,
    scratch: Vec<u8>,
    counts: Counts,
}

impl Proxy {
    /// `router` is its index among its kind, `seed` must differ between processes and Routers.
    pub fn new(
        router: u8,
        settings: Arc<Settings>,
        interfaces: Arc<Interfaces>,
        secrets: &Secrets,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            router,
            hasher: KeyHasher::new(secrets.transaction_key),
            token_key: secrets.token_key.of_router(router, &settings.accounts),
            loop_key: secrets.transaction_key,
            nonces: Nonces::new(secrets.nonce_key, settings.nonce_lifetime),
            epoch: secrets.epoch,
            source_rate: SourceRate::new(settings.requests_per_second_per_address, now),
            settings,
            interfaces,
            detail: EventDetail::Faults,
            random: Random::new(secrets.transaction_key, seed),
            servers: Table::new(),
            by_key: Keys::new(),
            answered: Answered::new(now),
            clients: Table::new(),
            waiting: Waiting::default(),
            contexts: Table::new(),
            standing: Standings::default(),
            guesses: Guesses::default(),
            proven: Proven::default(),
            told_well: ToldWell::default(),
            access_addresses: AccessAddresses::default(),
            farewell: None,
            wheel: TimerWheel::new(now, TICK),
            outputs: VecDeque::new(),
            scratch: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// From now on, these interfaces listen.
    pub fn set_interfaces(&mut self, interfaces: Arc<Interfaces>) {
        self.interfaces = interfaces;
    }

    /// From now on, these settings are in force. What has begun goes on under those that it has begun with, as far as
    /// that can be seen from outside.
    pub fn set_settings(&mut self, now: Instant, settings: Arc<Settings>) {
        self.token_key = self.token_key.of_router(self.router, &settings.accounts);
        self.nonces.set_lifetime(settings.nonce_lifetime);
        if settings.requests_per_second_per_address != self.settings.requests_per_second_per_address {
            self.source_rate = SourceRate::new(settings.requests_per_second_per_address, now);
        }
        self.settings = settings;
    }

    /// From now on, the access servers of static routes that are given by name have these addresses.
    pub fn set_access_addresses(&mut self, addresses: AccessAddresses) {
        self.access_addresses = addresses;
    }

    /// From now on, this much becomes an event.
    pub fn set_detail(&mut self, detail: EventDetail) {
        self.detail = detail;
    }

    /// A message has come in. `proof` is what the certificate of its connection proves.
    pub fn handle_message(
        &mut self,
        now: Instant,
        flow: &Flow,
        proof: Option<&Arc<PeerProof>>,
        message: Message,
    ) {
        if let Some(method) = message.method() {
            self.counts.request(Direction::In, method);
            self.handle_request(now, flow, proof, message);
        } else {
            self.counts.response(Direction::In, message.status().unwrap_or_default());
            self.handle_response(now, flow, &message);
        }
    }

    /// The Registrar has answered.
    pub fn handle_answer(&mut self, now: Instant, answer: Answer) {
        self.resume(now, answer);
    }

    /// The Registrar says what a flow has proven: an account, or `None` when it has logged off.
    pub fn handle_standing(&mut self, flow: &Flow, account: Option<AccountId>) {
        match account {
            // Nothing comes in by it.
            _ if flow.is_dialled() => {}
            Some(account) => self.standing.insert(flow, account),
            None => self.standing.remove(flow),
        }
    }

    /// The Registrar has banned a host, as [`host_of`](crate::protocol::flow::host_of) has it: its requests are dropped
    /// unless their flow has logged on.
    pub fn handle_ban(&mut self, now: Instant, host: IpAddr, until: Instant) {
        self.guesses.ban(now, host, until);
    }

    /// A UC server has logged off: what a search has asked it, it will not answer.
    pub fn handle_log_off(&mut self, now: Instant, flow: &Flow) {
        self.handle_standing(flow, None);
        let asked = match flow.connection {
            Some(id) => self.waiting.all_on(&self.clients, Line::Connection(id)),
            None => self.clients.slots(|client| client.hop == *flow && client.request_is_open()),
        };
        for client in asked {
            self.give_up(now, client);
        }
    }

    /// The Registrar has begun anew: of what rests on registrations, it says again what is left.
    pub fn forget_registrations(&mut self) {
        let accounts = Arc::clone(&self.settings.accounts);
        self.standing.retain(|flow, account| {
            let is_server =
                accounts.get(account).is_some_and(|account| account.kind == AccountKind::UcServer);
            is_server && flow.connection.is_some()
        });
    }

    /// What has logged on by the last word of the Registrar: one that begins anew is told so.
    pub fn standings(&self) -> impl Iterator<Item = (Flow, AccountId)> {
        self.standing.iter()
    }

    /// A message to `branch` could not be sent, or has not arrived where it was sent to, as the network says. Anybody
    /// can forge what the network says: it must know the whole branch and name the destination.
    pub fn handle_transmit_failure(&mut self, now: Instant, branch: &Branch, unreached: Option<SocketAddr>) {
        let slot = Slot { index: branch.slot, generation: branch.generation };
        let client = self.clients.get(slot).filter(|client| client.loop_hash == branch.loop_hash);
        let Some(client) = client else { return };
        let place = |address: SocketAddr| (address.ip(), address.port());
        if let Some(destination) = unreached {
            if place(destination) != place(client.hop.remote) {
                return;
            }
            self.note_ended_flow(slot);
        }
        self.client_transport_failed(now, slot);
    }

    /// A connection has ended. What is begun because of it, perhaps to the same peer, goes by the next connection.
    pub fn handle_connection_closed(&mut self, now: Instant, flow: &Flow) {
        self.handle_standing(flow, None);
        self.proven.forget(flow);
        let lines = Line::all_of(flow);
        let waiting: Vec<_> = lines.flat_map(|line| self.waiting.all_on(&self.clients, line)).collect();
        for slot in waiting {
            self.waiting.leave(&mut self.clients, slot);
            self.client_transport_failed(now, slot);
            self.give_up(now, slot);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.answered.handle_timeout(now);
        while let Some(due) = self.wheel.pop_expired(now) {
            match due {
                Due::Server(slot) if is_due(&mut self.servers, slot, now) => self.server_timeout(now, slot),
                Due::Client(slot) if is_due(&mut self.clients, slot, now) => self.client_timeout(now, slot),
                Due::Context(slot) if is_due(&mut self.contexts, slot, now) => {
                    self.context_timeout(now, slot);
                }
                Due::Server(_) | Due::Client(_) | Due::Context(_) => {}
            }
        }
    }

    /// The next thing to do; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How late [`Self::handle_timeout`] may come where nothing else happens.
    pub fn timer_slack(&self) -> Duration {
        self.settings.timers.slack()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wheel.next_deadline().into_iter().chain(self.answered.next_timeout()).min()
    }

    /// Transactions of both kinds and contexts that are there now.
    pub fn load(&self) -> Load {
        let servers = self.servers.len() + self.answered.len();
        Load { servers, clients: self.clients.len(), contexts: self.contexts.len() }
    }

    /// What has been carried since the start.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    fn transmit(&mut self, hop: Flow, alternate: Option<Alternate>, bytes: Bytes, branch: Option<Branch>) {
        self.counts.sent(&bytes);
        self.outputs.push_back(Output::Transmit { hop, alternate, bytes, branch, beyond: None });
    }

    /// To a server of another domain, where there is `beyond`.
    fn transmit_beyond(
        &mut self,
        hop: Flow,
        beyond: Option<Arc<Beyond>>,
        bytes: Bytes,
        branch: Option<Branch>,
    ) {
        self.counts.sent(&bytes);
        self.outputs.push_back(Output::Transmit { hop, alternate: None, bytes, branch, beyond });
    }

    fn dropped(&mut self, flow: &Flow, reason: DropReason) {
        self.counts.dropped(reason);
        if self.detail >= EventDetail::Faults {
            self.outputs.push_back(Output::Event(Event::Dropped { flow: *flow, reason }));
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    fn arm_server(&mut self, slot: Slot) {
        arm(&mut self.servers, &mut self.wheel, slot, Due::Server);
    }

    fn arm_client(&mut self, slot: Slot) {
        arm(&mut self.clients, &mut self.wheel, slot, Due::Client);
    }

    fn arm_context(&mut self, slot: Slot) {
        arm(&mut self.contexts, &mut self.wheel, slot, Due::Context);
    }
}

/// How much a [`Proxy`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Server transactions, those included that have been answered and wait for repetitions.
    pub servers: usize,
    /// Client transactions.
    pub clients: usize,
    /// Response contexts.
    pub contexts: usize,
}

/// Schedules a tenant's wake-up, unless one that is early enough is scheduled already.
fn arm<T: Tenant>(
    table: &mut Table<T>,
    wheel: &mut TimerWheel<Due>,
    slot: Slot,
    due: impl FnOnce(Slot) -> Due,
) {
    let Some(tenant) = table.get_mut(slot) else { return };
    let Some(at) = tenant.next_timeout() else { return };
    if tenant.armed().is_none_or(|armed| at < armed) {
        *tenant.armed() = Some(at);
        wheel.schedule(at, due(slot));
    }
}

/// Whether this wake-up is the one that the tenant waits for: an earlier one may have replaced it.
fn is_due<T: Tenant>(table: &mut Table<T>, slot: Slot, now: Instant) -> bool {
    let Some(tenant) = table.get_mut(slot) else { return false };
    let is_due = tenant.armed().is_some_and(|armed| armed <= now);
    if is_due {
        *tenant.armed() = None;
    }
    is_due
}

/// Whether nobody ever answers this method.
const fn is_unanswered(method: Method) -> bool {
    matches!(method, Method::Ack | Method::Benotify)
}
