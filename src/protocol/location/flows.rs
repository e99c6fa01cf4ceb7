//! Standing of flows: which are logged on, as whom, and which of them are UC servers to be asked for users.
//!
//! A flow has a standing while it proves or registers something. A UC server's stream keeps it until it closes,
//! its datagrams until some time after the last proof or until its last registration ends; a registrant's flow
//! keeps it while it has a registration. So does the flow that is to be dialled where a UC server's connection has
//! not outlived a restart; nothing comes in by that.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::clock::Millis;
use super::event::{Events, LocationEvent, LogOffReason};
use super::hash::KeyedHash;
use super::{AddressOfRecord, Server};
use crate::protocol::account::{Account, AccountId, AccountKind, Accounts};
use crate::protocol::flow::{ConnectionId, Flow, Transport};

/// UC servers that are asked for one user; more logged-on flows than this are no servers, but somebody who would have
/// one message become thousands.
pub(super) const SEARCHED_AT_MOST: usize = 256;

/// Closed connections that are remembered.
const CLOSED_REMEMBERED: usize = 4096;

/// One log-on of a UC server. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ServerId(u64);

#[cfg(test)]
impl ServerId {
    pub(super) fn sequence() -> impl Iterator<Item = Self> {
        (0..).map(Self)
    }
}

/// What is known of a flow that has proven or registered something.
#[derive(Debug, Default)]
struct Standing {
    account: Option<AccountId>,
    /// Of a UC server.
    server: Option<ServerId>,
    /// Bindings that were registered over it.
    bindings: u32,
}

impl Standing {
    /// Whether what comes in on `flow`, whose standing this is, is the account's without a new challenge.
    const fn passes(&self, flow: &Flow) -> bool {
        flow.connection.is_some() || (self.bindings > 0 && !flow.is_dialled())
    }
}

/// A UC server that is logged on.
#[derive(Debug)]
struct LoggedOn {
    flow: Arc<Flow>,
    account: AccountId,
    /// Until when a datagram flow needs no registration to keep its standing.
    proven_until: Millis,
    /// Where a datagram server wants to be reached.
    contact: Option<SocketAddr>,
    /// Did not answer the last time, and was not heard from since.
    is_silent: bool,
}

impl LoggedOn {
    fn destination(&self) -> Flow {
        Flow { remote: self.contact.unwrap_or(self.flow.remote), ..*self.flow }
    }
}

#[derive(Debug)]
pub(super) struct Flows {
    standings: HashMap<Arc<Flow>, Standing, KeyedHash>,
    /// In the order of their log-ons.
    servers: BTreeMap<ServerId, LoggedOn>,
    /// Those of them that are to be dialled.
    dialled: BTreeSet<ServerId>,
    /// When proofs of datagram servers end.
    proofs: BTreeSet<(Millis, ServerId)>,
    next_server: u64,
    maximum_datagram_servers: usize,
    /// A question may arrive after the news that its connection has closed: they come from different senders.
    closed: VecDeque<ConnectionId>,
    closed_set: BTreeSet<ConnectionId>,
}

impl Flows {
    pub(super) fn new(maximum_datagram_servers: usize, hash: KeyedHash) -> Self {
        Self {
            standings: HashMap::with_hasher(hash),
            servers: BTreeMap::new(),
            dialled: BTreeSet::new(),
            proofs: BTreeSet::new(),
            next_server: 0,
            maximum_datagram_servers,
            closed: VecDeque::new(),
            closed_set: BTreeSet::new(),
        }
    }

    /// Whether it is a connection that has closed lately.
    pub(super) fn is_closed(&self, flow: &Flow) -> bool {
        flow.connection.is_some_and(|id| self.closed_set.contains(&id))
    }

    /// A request has come in on `flow`.
    pub(super) fn hear(&mut self, flow: &Flow) {
        let server = self.standings.get(flow).and_then(|standing| standing.server);
        if let Some(server) = server.and_then(|id| self.servers.get_mut(&id)) {
            server.is_silent = false;
        }
    }

    /// A search ran into a datagram flow that leads nowhere. A stream's failure closes it.
    pub(super) fn fail(&mut self, flow: &Flow) {
        let silent = self.servers.values_mut().filter(|server| server.destination() == *flow);
        for server in silent.filter(|server| !server.flow.transport.is_reliable()) {
            server.is_silent = true;
        }
    }

    /// `flow` has proven to be the UC server `account`; of datagrams that is good until `until`.
    pub(super) fn prove(&mut self, flow: &Flow, account: AccountId, until: Millis, events: &mut Events) {
        let until = if flow.transport.is_reliable() { Millis::MAX } else { until };
        match self.standings.get(flow) {
            Some(Standing { account: Some(known), server: Some(id), .. }) if *known == account => {
                let id = *id;
                self.prolong(id, until);
            }
            Some(_) | None => {
                self.log_off(flow, LogOffReason::Superseded, events);
                self.log_on_server(flow, account, until, events);
            }
        }
    }

    /// A binding is registered over `flow`, by `account`. Gives the flow a standing if it has none.
    pub(super) fn attach(
        &mut self,
        flow: &Flow,
        account: Option<(AccountId, AccountKind)>,
        events: &mut Events,
    ) -> Arc<Flow> {
        let shared = self.share(flow);
        let standing = self.standing(&shared);
        standing.bindings += 1;
        match account.filter(|_| standing.account.is_none()) {
            None => {
                let first_of_datagrams = standing.bindings == 1 && !flow.transport.is_reliable();
                if let Some(account) = standing.account.filter(|_| first_of_datagrams) {
                    events.push_back(LocationEvent::LoggedOn { flow: *flow, account, passes: true });
                }
            }
            Some((account, AccountKind::Registrant)) => {
                standing.account = Some(account);
                events.push_back(LocationEvent::LoggedOn { flow: *flow, account, passes: true });
            }
            Some((account, AccountKind::UcServer)) => {
                let until = if flow.connection.is_some() { Millis::MAX } else { 0 };
                self.log_on_server(flow, account, until, events);
            }
        }
        shared
    }

    /// Whether one more binding over `flow`, by `account`, would say nothing new.
    pub(super) fn is_attached(&self, flow: &Flow, account: Option<(AccountId, AccountKind)>) -> bool {
        let standing = self.standings.get(flow).filter(|standing| standing.bindings > 0);
        standing.is_some_and(|standing| account.is_none() || standing.account.is_some())
    }

    /// A binding over `flow` has ended. `reason`: why the flow loses its standing if it was the last.
    pub(super) fn detach(&mut self, flow: &Flow, now: Millis, reason: LogOffReason, events: &mut Events) {
        let Some(standing) = self.standings.get_mut(flow) else { return };
        standing.bindings = standing.bindings.saturating_sub(1);
        let server = standing.server.and_then(|id| self.servers.get(&id));
        if standing.bindings > 0 {
            return;
        }
        if server.is_none_or(|server| server.proven_until <= now) {
            self.log_off(flow, reason, events);
        } else if let Some(account) = standing.account.filter(|_| !flow.transport.is_reliable()) {
            events.push_back(LocationEvent::LoggedOn { flow: *flow, account, passes: false });
        }
    }

    /// Ends the standing of `flow`, whatever it rests on.
    pub(super) fn log_off(&mut self, flow: &Flow, reason: LogOffReason, events: &mut Events) {
        let Some(standing) = self.standings.get_mut(flow) else { return };
        let (account, server) = (standing.account.take(), standing.server.take());
        if standing.bindings == 0 {
            self.standings.remove(flow);
        }
        if let Some((id, server)) = server.and_then(|id| self.servers.remove_entry(&id)) {
            self.proofs.remove(&(server.proven_until, id));
            self.dialled.remove(&id);
        }
        if let Some(account) = account {
            events.push_back(LocationEvent::LoggedOff { flow: *flow, account, reason });
        }
    }

    /// The flows that are logged on as one of those that `test` accepts.
    pub(super) fn logged_on_as(&self, test: impl Fn(AccountId, &Flow) -> bool) -> Vec<Flow> {
        let known = self.standings.iter().map(|(flow, standing)| (**flow, standing.account));
        let accepted = known.filter(|(flow, account)| account.is_some_and(|account| test(account, flow)));
        let mut flows: Vec<Flow> = accepted.map(|(flow, _)| flow).collect();
        flows.sort_unstable();
        flows
    }

    /// The connection has closed: its standing ends, and questions that come late find nothing.
    pub(super) fn close(&mut self, flow: &Flow, events: &mut Events) {
        self.log_off(flow, LogOffReason::ConnectionClosed, events);
        self.standings.remove(flow);
        let Some(id) = flow.connection.filter(|id| self.closed_set.insert(*id)) else { return };
        self.closed.push_back(id);
        if self.closed.len() > CLOSED_REMEMBERED
            && let Some(oldest) = self.closed.pop_front()
        {
            self.closed_set.remove(&oldest);
        }
    }

    /// Ends the standings of datagram servers that have not proven themselves again and have no registration.
    pub(super) fn expire(&mut self, now: Millis, events: &mut Events) {
        while let Some((until, id)) = self.proofs.first().copied().filter(|(until, _)| *until <= now) {
            self.proofs.remove(&(until, id));
            let Some(flow) = self.servers.get(&id).map(|server| *server.flow) else { continue };
            if self.standings.get(&flow).is_none_or(|standing| standing.bindings == 0) {
                self.log_off(&flow, LogOffReason::Expired, events);
            }
        }
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn first_due(&self) -> Option<Millis> {
        self.proofs.first().map(|(until, _)| *until)
    }

    /// Where the UC server of `flow` wants to be reached: the address of its server binding.
    pub(super) fn set_contact(&mut self, flow: &Flow, contact: Option<SocketAddr>) {
        let server = self.standings.get(flow).and_then(|standing| standing.server);
        let is_datagram = flow.transport == Transport::Udp;
        if let Some(server) = server.filter(|_| is_datagram).and_then(|id| self.servers.get_mut(&id)) {
            server.contact = contact.filter(|contact| contact.ip() == flow.remote.ip());
        }
    }

    /// The UC server that is asked by way of `flow`.
    pub(super) fn server_at(&self, flow: &Flow) -> Option<ServerId> {
        let is_there = |server: &LoggedOn| server.destination() == *flow;
        let direct = self.standings.get(flow).and_then(|standing| standing.server);
        direct.filter(|id| self.servers.get(id).is_some_and(is_there)).or_else(|| {
            let mut servers = self.servers.iter();
            servers.find(|(_, server)| is_there(server)).map(|(id, _)| *id)
        })
    }

    /// Every flow whose requests pass without a new challenge.
    pub(super) fn standings(&self) -> impl Iterator<Item = (Flow, AccountId)> {
        let passing = |(flow, standing): &(&Arc<Flow>, &Standing)| standing.passes(flow);
        let known = self.standings.iter().filter(passing);
        known.filter_map(|(flow, standing)| Some((**flow, standing.account?)))
    }

    /// The UC servers in the order of their log-ons: account, flow, bindings that were registered over it.
    pub(super) fn servers(&self) -> impl Iterator<Item = (AccountId, Flow, u32)> {
        self.servers.values().map(|server| {
            let bindings = self.standings.get(&server.flow).map_or(0, |standing| standing.bindings);
            (server.account, *server.flow, bindings)
        })
    }

    /// Whether this log-on still stands.
    pub(super) fn is_logged_on(&self, server: ServerId) -> bool {
        self.servers.contains_key(&server)
    }

    /// The UC servers that may have the user, each destination once: `first` before the others, then by log-on.
    pub(super) fn candidates(
        &self,
        name: &AddressOfRecord,
        asking: &Flow,
        first: Option<ServerId>,
        accounts: &Accounts,
    ) -> Candidates {
        let mut found = Candidates::default();
        let mut seen = HashSet::with_hasher(*self.standings.hasher());
        let preferred = first.and_then(|id| self.servers.get(&id));
        for server in preferred.into_iter().chain(self.servers.values()) {
            let destination = server.destination();
            let may_have = |account: &Account| account.scope.contains(name.user(), name.domain());
            let is_asker = *server.flow == *asking || destination == *asking;
            if found.servers.len() == SEARCHED_AT_MOST {
                break;
            }
            if !server.is_silent
                && !is_asker
                && accounts.get(server.account).is_some_and(may_have)
                && seen.insert(destination)
            {
                found.is_first_there |= preferred.is_some_and(|first| std::ptr::eq(first, server));
                found.servers.push(Server { account: server.account, flow: destination });
            }
        }
        found
    }

    fn log_on_server(&mut self, flow: &Flow, account: AccountId, until: Millis, events: &mut Events) {
        self.log_off_dialled(flow, account, events);
        let flow = self.share(flow);
        let id = ServerId(self.next_server);
        self.next_server += 1;
        let standing = self.standing(&flow);
        standing.account = Some(account);
        standing.server = Some(id);
        let passes = standing.passes(&flow);
        events.push_back(LocationEvent::LoggedOn { flow: *flow, account, passes });
        let server = LoggedOn { flow, account, proven_until: 0, contact: None, is_silent: false };
        self.dialled.extend(server.flow.is_dialled().then_some(id));
        self.servers.insert(id, server);
        self.prolong(id, until);
        while self.proofs.len() > self.maximum_datagram_servers {
            let oldest = self.proofs.pop_first().and_then(|(_, id)| self.servers.get(&id));
            let Some(flow) = oldest.map(|server| *server.flow) else { continue };
            self.log_off(&flow, LogOffReason::Displaced, events);
        }
    }

    /// A server that has come by a connection need not be dialled.
    fn log_off_dialled(&mut self, flow: &Flow, account: AccountId, events: &mut Events) {
        if flow.connection.is_none() {
            return;
        }
        let servers = self.dialled.iter().filter_map(|id| self.servers.get(id));
        let same =
            servers.filter(|server| server.account == account && server.flow.remote.ip() == flow.remote.ip());
        let same: Vec<_> = same.map(|server| *server.flow).collect();
        for other in same {
            self.log_off(&other, LogOffReason::Superseded, events);
        }
    }

    /// A stream's proof has no end, and one that rests on registrations alone has none to wait for.
    fn prolong(&mut self, id: ServerId, until: Millis) {
        let Some(server) = self.servers.get_mut(&id).filter(|server| server.proven_until < until) else {
            return;
        };
        self.proofs.remove(&(server.proven_until, id));
        server.proven_until = until;
        if until < Millis::MAX {
            self.proofs.insert((until, id));
        }
    }

    /// One copy of a flow for all that refer to it.
    fn share(&mut self, flow: &Flow) -> Arc<Flow> {
        if let Some((shared, _)) = self.standings.get_key_value(flow) {
            return Arc::clone(shared);
        }
        let shared = Arc::new(*flow);
        self.standings.insert(Arc::clone(&shared), Standing::default());
        shared
    }

    fn standing(&mut self, flow: &Arc<Flow>) -> &mut Standing {
        self.standings.entry(Arc::clone(flow)).or_default()
    }
}

/// Servers to ask for a user.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) servers: Vec<Server>,
    /// Whether the preferred one is among them, as the first.
    pub(super) is_first_there: bool,
}

#[cfg(test)]
impl Flows {
    /// Panics unless each flow counts the bindings that it has, and is known for nothing else but a standing.
    pub(super) fn check(&self, mut bindings: BTreeMap<Flow, u32>) {
        for (flow, standing) in &self.standings {
            assert_eq!(standing.bindings, bindings.remove(flow).unwrap_or(0), "{flow}");
            assert!(standing.bindings > 0 || standing.account.is_some(), "{flow} is known for nothing");
            let server = standing.server.map(|id| &self.servers[&id]);
            assert!(
                server
                    .is_none_or(|server| *server.flow == **flow && Some(server.account) == standing.account)
            );
        }
        assert!(bindings.is_empty(), "bindings over flows that are not known: {bindings:?}");
        let logged_on = self.standings.values().filter(|standing| standing.server.is_some()).count();
        assert_eq!(self.servers.len(), logged_on);
        let dialled = self.servers.iter().filter(|(_, server)| server.flow.is_dialled());
        assert!(dialled.map(|(id, _)| id).eq(&self.dialled));
        assert!(self.proofs.iter().all(|(until, id)| self.servers[id].proven_until == *until));
    }
}
