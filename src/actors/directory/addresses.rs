//! The ways into the Routers, the Registrar, the FederationResolver and the Journal, as their many senders need them.

use actix::prelude::SendError;
use actix::{Addr, Recipient};

use crate::actors::federation_resolver::{
    ApplyLookUps, CountWaiting, FederationResolver, ListRoutes, Resolve, Resolved, ServerHealth,
};
use crate::actors::journal::{Backlog, Finish, HasWritten, Journal, Keep, Load, Pen, ToldAll, Written};
use crate::actors::messages::{ConnectionClosed, ConnectionOpened, MessagesReceived, TransmitFailed};
use crate::actors::registrar::{
    Answers, ApplyLocation, Banned, FlowEnded, FlowFailed, FlowStanding, Learned, ListRegistrations,
    ListServers, LogOn, Questions, Registrar, RouterRestarted, TellAll,
};
use crate::actors::router::{
    AccessServersMoved, ApplySettings, Count, Drain, InterfacesChanged, ProbeRoute, RegistrarRestarted,
    Router,
};
use crate::diagnostics::queues::QueueLength;
use crate::protocol::location::Changes;

/// The ways into one Router, as its many senders need them.
#[derive(Clone, Debug)]
pub struct RouterAddress {
    /// The SIP that comes in; by [`Self::receive`], which counts it.
    pub(in crate::actors) received: Recipient<MessagesReceived>,
    /// Batches of it that wait.
    pub mailbox: QueueLength,
    /// The SIP that could not go out.
    pub failed: Recipient<TransmitFailed>,
    /// New connections.
    pub opened: Recipient<ConnectionOpened>,
    /// Connections that ended.
    pub closed: Recipient<ConnectionClosed>,
    /// What the Registrar answers.
    pub answers: Recipient<Answers>,
    /// What the FederationResolver answers.
    pub resolved: Recipient<Resolved>,
    /// Which flows have logged on.
    pub standing: Recipient<FlowStanding>,
    /// Which hosts are banned.
    pub banned: Recipient<Banned>,
    /// Which interfaces listen.
    pub interfaces: Recipient<InterfacesChanged>,
    /// Which settings are in force.
    pub settings: Recipient<ApplySettings>,
    /// Where the access servers of static routes are.
    pub access_servers: Recipient<AccessServersMoved>,
    /// Which static routes are to be probed.
    pub probe: Recipient<ProbeRoute>,
    /// That the Registrar has begun anew.
    pub registrar_restarted: Recipient<RegistrarRestarted>,
    /// That the process is about to end.
    pub drain: Recipient<Drain>,
    /// What it has carried.
    pub count: Recipient<Count>,
}

impl RouterAddress {
    /// Those of one Router, which counts what it takes out of `mailbox`.
    pub fn new(address: Addr<Router>, mailbox: QueueLength) -> Self {
        Self {
            mailbox,
            received: address.clone().recipient(),
            failed: address.clone().recipient(),
            opened: address.clone().recipient(),
            closed: address.clone().recipient(),
            answers: address.clone().recipient(),
            resolved: address.clone().recipient(),
            standing: address.clone().recipient(),
            banned: address.clone().recipient(),
            interfaces: address.clone().recipient(),
            settings: address.clone().recipient(),
            access_servers: address.clone().recipient(),
            probe: address.clone().recipient(),
            registrar_restarted: address.clone().recipient(),
            drain: address.clone().recipient(),
            count: address.recipient(),
        }
    }

    /// Sends a batch, unless there is no room.
    pub fn receive(&self, batch: MessagesReceived) -> Result<(), SendError<MessagesReceived>> {
        // Before it is sent: the Router may take it at once.
        self.mailbox.add(1);
        let sent = self.received.try_send(batch);
        if sent.is_err() {
            self.mailbox.remove(1);
        }
        sent
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
    /// Flows over which nothing arrives any more.
    pub flow_ended: Recipient<FlowEnded>,
    /// UC servers that have logged on by their certificate.
    pub log_on: Recipient<LogOn>,
    /// Connections that ended.
    pub closed: Recipient<ConnectionClosed>,
    /// That a Router has begun anew.
    pub router_restarted: Recipient<RouterRestarted>,
    /// Which settings are in force.
    pub settings: Recipient<ApplyLocation>,
    /// That the Journal wants to know everything.
    pub tell_all: Recipient<TellAll>,
    /// That the process is about to end.
    pub finish: Recipient<Finish>,
    /// Who is logged on.
    pub servers: Recipient<ListServers>,
    /// Who is registered.
    pub registrations: Recipient<ListRegistrations>,
}

impl From<Addr<Registrar>> for RegistrarAddress {
    fn from(address: Addr<Registrar>) -> Self {
        Self {
            questions: address.clone().recipient(),
            learned: address.clone().recipient(),
            flow_failed: address.clone().recipient(),
            flow_ended: address.clone().recipient(),
            log_on: address.clone().recipient(),
            closed: address.clone().recipient(),
            router_restarted: address.clone().recipient(),
            settings: address.clone().recipient(),
            tell_all: address.clone().recipient(),
            finish: address.clone().recipient(),
            servers: address.clone().recipient(),
            registrations: address.recipient(),
        }
    }
}

/// The ways into the FederationResolver.
#[derive(Clone, Debug)]
pub struct FederationResolverAddress {
    /// What Routers ask.
    pub resolve: Recipient<Resolve>,
    /// Which servers could be reached.
    pub health: Recipient<ServerHealth>,
    /// Which interfaces listen.
    pub interfaces: Recipient<InterfacesChanged>,
    /// Which settings are in force.
    pub settings: Recipient<ApplyLookUps>,
    /// That a Router has begun anew.
    pub router_restarted: Recipient<RouterRestarted>,
    /// How the static routes do.
    pub routes: Recipient<ListRoutes>,
    /// How much waits for name servers.
    pub waiting: Recipient<CountWaiting>,
}

impl From<Addr<FederationResolver>> for FederationResolverAddress {
    fn from(address: Addr<FederationResolver>) -> Self {
        Self {
            resolve: address.clone().recipient(),
            health: address.clone().recipient(),
            interfaces: address.clone().recipient(),
            settings: address.clone().recipient(),
            router_restarted: address.clone().recipient(),
            routes: address.clone().recipient(),
            waiting: address.recipient(),
        }
    }
}

/// The ways into the Journal.
#[derive(Clone, Debug)]
pub struct JournalAddress {
    /// What the Registrar has kept.
    pub keep: Recipient<Keep>,
    /// What a Registrar asks that begins.
    pub load: Recipient<Load>,
    /// That the Registrar has told everything.
    pub told_all: Recipient<ToldAll>,
    /// That the process is about to end.
    pub finish: Recipient<Finish>,
    /// How much of `keep` waits.
    pub backlog: Backlog,
    /// That the Registrar has written by the `pen`.
    has_written: Recipient<HasWritten>,
    pen: Pen,
}

impl JournalAddress {
    /// Those of one Journal, which counts in `backlog` and has given `pen` a segment.
    pub fn new(address: Addr<Journal>, backlog: Backlog, pen: Pen) -> Self {
        Self {
            keep: address.clone().recipient(),
            load: address.clone().recipient(),
            told_all: address.clone().recipient(),
            finish: address.clone().recipient(),
            has_written: address.recipient(),
            backlog,
            pen,
        }
    }

    /// Writes `changes` at once, for the disk to get them a while later, if that is quick and nothing older waits.
    /// Whether it did.
    pub fn write(&self, changes: &Changes) -> bool {
        let written = if self.backlog.is_empty() { self.pen.write(changes) } else { Written::Not };
        if written == Written::First {
            self.has_written.do_send(HasWritten);
        }
        written != Written::Not
    }
}
