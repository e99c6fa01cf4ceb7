//! The location service and registrar (RFC 3261 §10.3, §16.5; RFC 3327, 5626 §6, 5627 §5): where users can be reached.
//!
//! One for all Routers, so it also holds whatever else they share: which flows are logged on, which nonces were
//! used. Holds no clock: pass `now`, drain [`Location::poll_event`], arm a timer at [`Location::next_timeout`].
//!
//! How a UC server gets its users found (product rule), in any mixture:
//! - it registers itself, under its account's user name or the bare domain: a *server binding*, which says where
//!   its datagrams are to go and by whose removal it logs off;
//! - it registers each of its users;
//! - it does neither: the flow that has proven its account is enough to be asked.
//!
//! What it holds of bindings can outlive it: [`Location::take_changes`] tells what has changed, in octets to be kept
//! somewhere, and [`Location::restore`] takes them back.
//!
//! Bounded: bindings, datagram log-ons and learned servers have limits; streams are limited where they are
//! accepted; nonces in their ledger.
//!
//! Not here: who may register what, and for whom (admission); the nonces themselves (digest).

mod address_of_record;
mod binding;
mod bindings;
mod changes;
mod clock;
mod contact;
mod event;
mod flows;
mod granted;
mod gruu;
mod guard;
mod hash;
mod instance;
mod learned;
mod listing;
mod plan;
mod question;
mod reconfigure;
mod record;
mod register;
mod registration;
mod restore;
mod settings;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Instant;

pub use address_of_record::AddressOfRecord;
pub use bindings::Walk;
pub use changes::Changes;
pub use clock::Moment;
pub use contact::{Contact, Details};
pub use event::{LocationEvent, LogOffReason, RemovalReason};
pub use gruu::{GruuKey, Series};
pub use guard::{GuardSettings, Penalty};
pub use instance::{Destination, InstanceId};
pub use listing::{BindingListed, LogOnKind, Page, Place, ServerListed};
pub use question::{Answer, Ask, ContextId, Located, Question, Server, Target, Verdict};
pub use registration::{Change, EXTENSIONS, Registration, Supports, check_extensions};
pub use restore::{Restored, Surroundings};
pub use settings::{LocationLimits, LocationSettings};

use crate::protocol::account::{AccountId, AccountKind};
use crate::protocol::digest::{NonceLedger, Spending};
use crate::protocol::flow::{Flow, host_of};
use crate::protocol::message::reply::Reply;
use bindings::{Binding, Bindings, Tie};
use clock::{Clock, Millis};
use event::Events;
use flows::Flows;
use gruu::Gruus;
use guard::Guard;
use hash::KeyedHash;
use learned::Learned;
use register::take_where;

/// Addresses-of-record that one call of [`Location::handle_timeout`] rids of expired bindings.
const EXPIRED_AT_ONCE: usize = 1024;

/// The location service.
#[derive(Debug)]
pub struct Location {
    settings: LocationSettings,
    clock: Clock,
    bindings: Bindings,
    flows: Flows,
    learned: Learned,
    nonces: NonceLedger,
    guard: Guard,
    gruus: Gruus,
    events: Events,
    /// Whether changes find room where they are kept.
    has_room: bool,
}

impl Location {
    /// An empty one.
    pub fn new(settings: LocationSettings) -> Self {
        let hash = KeyedHash(settings.hash_key);
        let limits = settings.limits;
        let clock = Clock { epoch: settings.epoch };
        let nonces = match settings.succeeded {
            None => NonceLedger::new(settings.nonce_lifetime, limits.nonces),
            Some(end) => NonceLedger::begun_at(settings.nonce_lifetime, limits.nonces, clock.millis(end)),
        };
        Self {
            clock,
            bindings: Bindings::new(hash),
            flows: Flows::new(limits.datagram_servers, hash),
            learned: Learned::new(limits.learned, hash),
            nonces,
            guard: Guard::new(settings.guard, hash),
            gruus: Gruus::new(&settings.gruu_key, settings.seed),
            events: Events::new(),
            has_room: true,
            settings,
        }
    }

    /// Answers a question. The events that come of it are to be told before the answer is.
    pub fn handle_question(&mut self, now: Instant, question: Question) -> Answer {
        let Question { context, flow, nonce_use, log_on, ask } = question;
        let now = self.clock.millis(now);
        if nonce_use.is_some_and(|nonce_use| self.nonces.spend(nonce_use, now) != Spending::Accepted) {
            return Answer { context, verdict: Verdict::Replayed };
        }
        self.flows.hear(&flow);
        if let Some(account) = log_on {
            self.log_on(now, &flow, account);
        }
        let verdict = match ask {
            Ask::Nothing => Verdict::Admitted,
            Ask::Locate(destination) => self.locate(now, &destination, &flow),
            Ask::Register(registration) => Verdict::Registered(self.register(now, &flow, &registration)),
            Ask::Punish => Verdict::Punished(self.punish(now, &flow)),
        };
        Answer { context, verdict }
    }

    /// A flow has proven an account by itself, before any request.
    pub fn handle_log_on(&mut self, now: Instant, flow: &Flow, account: AccountId) {
        let now = self.clock.millis(now);
        self.log_on(now, flow, account);
    }

    /// The UC server that is reached by `flow` has answered for a user.
    pub fn handle_learned(&mut self, _now: Instant, name: &AddressOfRecord, flow: &Flow) {
        if let Some(server) = self.flows.server_at(flow) {
            self.learned.learn(name, server);
        }
    }

    /// A connection is gone: with it go its log-on and what was registered over it (RFC 5626 §7).
    pub fn handle_connection_closed(&mut self, _now: Instant, flow: &Flow) {
        let Some(id) = flow.connection else { return };
        self.flows.close(flow, &mut self.events);
        for name in self.bindings.tied_to(Tie::Connection(id)) {
            let is_gone = |binding: &Binding| binding.flow.connection == Some(id);
            let gone = self.bindings.change(&name, |list| take_where(list, |_, binding| is_gone(binding)));
            self.tell_removed(&name, gone, RemovalReason::ConnectionClosed);
        }
    }

    /// The network says that nothing arrives over this flow of datagrams any more: bindings that it alone leads to end
    /// with it (RFC 5626 §7). One of an address stays, since its server may only be starting anew.
    pub fn handle_flow_ended(&mut self, now: Instant, flow: &Flow) {
        let now = self.clock.millis(now);
        for name in self.bindings.tied_to(Tie::Datagrams((*flow).into())) {
            let is_gone = |binding: &Binding| binding.is_of_flow() && *binding.flow == *flow;
            let gone = self.bindings.change(&name, |list| take_where(list, |_, binding| is_gone(binding)));
            self.release(now, &name, &gone, LogOffReason::FlowEnded);
            self.tell_removed(&name, gone, RemovalReason::FlowEnded);
        }
    }

    /// A request to a UC server by this flow came to nothing. Over datagrams it was not answered, or met an ICMP
    /// error: the server is no longer asked, until it is heard from. Over a stream no connection could be had: what
    /// was to be reached by it is gone.
    pub fn handle_flow_failed(&mut self, now: Instant, flow: &Flow) {
        self.flows.fail(flow);
        if flow.is_dialled() {
            self.give_up_dialled(self.clock.millis(now), flow);
        }
    }

    /// Removes what has expired: so much at a time that nobody else has to wait; the rest is due at once.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.millis(now);
        for _ in 0..EXPIRED_AT_ONCE {
            let Some((_, name)) = self.bindings.first_due().filter(|(due, _)| *due <= now) else { break };
            let name = name.clone();
            self.remove_expired(now, &name);
            self.bindings.postpone(&name);
        }
        self.flows.expire(now, &mut self.events);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let binding = self.bindings.first_due().map(|(due, _)| *due);
        binding.into_iter().chain(self.flows.first_due()).min().map(|due| self.clock.instant(due))
    }

    /// The next event, in their order. Drain after every call that takes `now`.
    pub fn poll_event(&mut self) -> Option<LocationEvent> {
        self.events.pop_front()
    }

    /// Every flow whose requests pass, and as whose.
    pub fn standings(&self) -> impl Iterator<Item = (Flow, AccountId)> {
        self.flows.standings()
    }

    /// Every host that is banned, and until when.
    pub fn bans(&self, now: Instant) -> impl Iterator<Item = (IpAddr, Instant)> {
        self.guard.bans(self.clock.millis(now)).map(|(host, until)| (host, self.clock.instant(until)))
    }

    /// How many bindings there are.
    pub const fn bindings(&self) -> usize {
        self.bindings.len()
    }

    /// The user name of an account, for logs.
    pub fn account_name(&self, account: AccountId) -> Option<&str> {
        self.settings.accounts.get(account).map(|account| account.user_name.as_str())
    }

    fn punish(&mut self, now: Millis, flow: &Flow) -> Penalty {
        let penalty = self.guard.note(now, flow.remote.ip());
        if penalty == Penalty::Ban {
            let host = host_of(flow.remote.ip());
            let until = self.clock.instant(now) + self.settings.guard.ban;
            self.events.push_back(LocationEvent::Banned { host, until });
        }
        penalty
    }

    fn log_on(&mut self, now: Millis, flow: &Flow, account: AccountId) {
        let is_server = self.kind(account) == Some(AccountKind::UcServer);
        if is_server && !self.flows.is_closed(flow) {
            let until = now.saturating_add(clock::whole_millis(self.settings.default_expires));
            self.flows.prove(flow, account, until, &mut self.events);
        }
    }

    fn locate(&mut self, now: Millis, destination: &Destination, asking: &Flow) -> Verdict {
        let series = match destination {
            Destination::Temporary(name) => self.gruus.series_of(name),
            Destination::User(_) | Destination::Instance(..) => None,
        };
        let targets = match (destination, series) {
            (_, Some(series)) => match self.bindings.owner_of(series) {
                Some(name) => self.targets(now, name, |binding| binding.series() == Some(series)),
                None => Vec::new(),
            },
            (Destination::Instance(name, instance), None) => {
                self.targets(now, name, |binding| binding.instance() == Some(instance))
            }
            (Destination::User(name) | Destination::Temporary(name), None) => {
                self.targets(now, name, |_| true)
            }
        };
        if !targets.is_empty() {
            return Verdict::Located(Located { targets, ..Located::default() });
        }
        let name = destination.name();
        if series.is_some() {
            return Verdict::Unreachable(Reply::with_reason(404, "Temporary GRUU No Longer Valid"));
        }
        if destination.is_instance() && self.live(now, name).next().is_some() {
            return Verdict::Unreachable(Reply::with_reason(480, "User Agent Not Registered"));
        }
        Verdict::Located(self.search(name, asking))
    }

    fn live(&self, now: Millis, name: &AddressOfRecord) -> impl DoubleEndedIterator<Item = &Binding> {
        self.bindings.get(name).iter().filter(move |binding| binding.expires > now)
    }

    /// The live bindings that `test` accepts. Of one user agent only one may be asked at a time (RFC 5626 §7).
    fn targets(&self, now: Millis, name: &AddressOfRecord, test: impl Fn(&Binding) -> bool) -> Vec<Target> {
        // Nearly all have one.
        let mut targets: Vec<Target> = Vec::with_capacity(1);
        let mut instances: Vec<(&InstanceId, usize)> = Vec::new();
        for binding in self.live(now, name).rev().filter(|binding| test(binding)) {
            if let Some(instance) = binding.instance() {
                if let Some((_, first)) = instances.iter().find(|(known, _)| *known == instance) {
                    targets[*first].alternatives.push(binding.target());
                    continue;
                }
                instances.push((instance, targets.len()));
            }
            targets.push(binding.target());
        }
        targets.sort_by_key(|target| std::cmp::Reverse(target.q));
        targets
    }

    /// The UC servers that may have a user without bindings.
    fn search(&mut self, name: &AddressOfRecord, asking: &Flow) -> Located {
        let first = self.learned.server_of(name);
        if first.is_some_and(|server| !self.flows.is_logged_on(server)) {
            self.learned.forget(name);
        }
        let found = self.flows.candidates(name, asking, first, &self.settings.accounts);
        Located { targets: Vec::new(), servers: found.servers, learned: found.is_first_there }
    }

    fn kind(&self, account: AccountId) -> Option<AccountKind> {
        self.settings.accounts.get(account).map(|account| account.kind)
    }
}
