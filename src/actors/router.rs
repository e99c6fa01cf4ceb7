//! The Router: one per core, the thin shell around one [`Proxy`].
//!
//! It feeds the core with what comes in, drains it, sends what it wants sent in batches, and keeps one timer. All
//! that belongs to a transaction meets in one Router, so that no two of them share anything.
//!
//! # Restart
//! What is lost: the transactions and response contexts of this Router, and what was in its mailbox. Who notices:
//! clients over UDP, which retransmit and so begin anew; over streams, their timers. INVITE transactions that were
//! ringing are answered by the UAS to a Router that no longer knows them: dropped, and the caller tries again.
//! Dialogs go on: they live in the peers and in flow tokens. The supervisor has every connection tell the new
//! Router of itself, and the Registrar repeats which flows are logged on.

mod departures;
mod homeless;
mod log;
mod taps;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Drain as _, Logger};

use self::departures::Departures;
use self::homeless::Homeless;
use super::directory::Directory;
use super::federation_resolver::{Resolved, ServerHealth};
use super::messages::{
    ConnectionClosed, ConnectionOpened, MessagesReceived, Outgoing, Transmit, TransmitFailed,
};
use super::registrar::{Answers, Banned, FlowEnded, FlowFailed, FlowStanding, Learned, Questions};
use super::turns::Turns;
use crate::diagnostics::queues::QueueLength;
use crate::protocol::account::AccountId;
use crate::protocol::federation::{AccessAddresses, RouteId};
use crate::protocol::flow::{ConnectionId, Flow, Transport};
use crate::protocol::interface::Interfaces;
use crate::protocol::location::{Ask, ContextId, Question};
use crate::protocol::proxy::settings::Settings;
use crate::protocol::proxy::{Counts, Load, Output, Proxy, Unfinished};

/// Batches of messages that may wait for a Router. A batch holds up to 64, so this bounds what a slow Router can
/// owe; the network is refused beyond it, control messages are not.
pub const MAILBOX: usize = 256;

/// The shell of one [`Proxy`].
pub struct Router {
    index: usize,
    core: Proxy,
    directory: Arc<Directory>,
    connections: HashMap<ConnectionId, Recipient<Transmit>>,
    homeless: Homeless,
    timer: Option<(Instant, SpawnHandle)>,
    turns: Turns,
    log: Logger,
    limits: log::Limits,
    /// Batches that wait here.
    mailbox: QueueLength,
}

/// From now on these interfaces listen. To every Router, from the supervisor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct InterfacesChanged(pub Arc<Interfaces>);

/// From now on, these settings are in force. To every Router, from the supervisor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ApplySettings {
    /// For this Router alone, so that no other core counts references to them.
    pub settings: Arc<Settings>,
}

/// From now on, the access servers of static routes that are given by name have these addresses. To every Router, from
/// the FederationResolver.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct AccessServersMoved(pub AccessAddresses);

/// Ask the access server of this route whether it is there. To some Router, from the FederationResolver.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ProbeRoute(pub RouteId);

/// The Registrar has begun anew and knows of no log-ons: tell it. To every Router, from the Registrar.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RegistrarRestarted {
    /// The way to it; the directory may not know it yet.
    pub questions: Recipient<Questions>,
}

/// The process is about to end: let nothing begin, and say what is still to be done. To every Router, from the
/// supervisor, until nothing is.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Unfinished")]
pub struct Drain {
    /// When a successor may be there, in seconds.
    pub retry_after: u32,
}

/// Say what you have carried since your start, and what you hold. To every Router, for metrics.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Counted")]
pub struct Count;

/// The answer to [`Count`].
#[derive(Debug, MessageResponse)]
pub struct Counted {
    /// What was carried.
    pub counts: Counts,
    /// What is under way.
    pub load: Load,
}

impl Router {
    /// The Router number `index` around `core`. Who sends it batches counts them into `mailbox`
    /// ([`RouterAddress`](super::directory::RouterAddress)).
    pub fn new(
        index: usize,
        core: Proxy,
        directory: Arc<Directory>,
        mailbox: QueueLength,
        log: Logger,
    ) -> Self {
        Self {
            index,
            core,
            directory,
            connections: HashMap::new(),
            homeless: Homeless::default(),
            timer: None,
            turns: Turns::default(),
            log,
            limits: log::Limits::default(),
            mailbox,
        }
    }

    /// Does all that the core wants done, and arms the timer.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        let mut departures = Departures::default();
        let tells_messages = self.log.is_debug_enabled();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Transmit { hop, alternate, bytes, branch, beyond } => {
                    self.show_departing(&hop, beyond.as_deref(), &bytes);
                    if tells_messages {
                        self.tell_sent(&hop, &bytes);
                    }
                    let message = Outgoing { bytes, branch };
                    match hop.transport {
                        Transport::Udp => departures.datagram(&hop, message),
                        Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                            self.depart_by_stream(
                                &mut departures,
                                &hop,
                                alternate,
                                beyond.as_deref(),
                                message,
                            );
                        }
                    }
                }
                Output::Ask(question) => departures.questions.push(question),
                Output::Learned { user, flow } => {
                    self.to_registrar(|registrar| registrar.learned.do_send(Learned { user, flow }));
                }
                Output::FlowFailed(flow) => {
                    self.to_registrar(|registrar| registrar.flow_failed.do_send(FlowFailed(flow)));
                }
                Output::FlowEnded(flow) => {
                    self.to_registrar(|registrar| registrar.flow_ended.do_send(FlowEnded(flow)));
                }
                Output::Resolve { context, query } => departures.queries.push((context, query)),
                Output::ServerHealth { transport, remote, outcome } => {
                    if let Some(resolver) = self.directory.federation_resolver().as_deref() {
                        resolver.health.do_send(ServerHealth { transport, remote, outcome });
                    }
                }
                Output::Event(event) => self.tell(&event),
            }
        }
        self.dispatch(departures);
        self.arm(ctx);
    }

    fn to_registrar(&self, send: impl FnOnce(&super::directory::RegistrarAddress)) {
        if let Some(registrar) = self.directory.registrar().as_deref() {
            send(registrar);
        }
    }

    /// One timer, moved only when something is due earlier than it would fire.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(due) = self.core.poll_timeout() else { return };
        if self.timer.is_some_and(|(armed, _)| armed <= due) {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let handle = ctx.run_later(wait, |router, ctx| {
            router.timer = None;
            router.core.handle_timeout(Instant::now());
            router.settle(ctx);
        });
        self.timer = Some((due, handle));
    }
}

impl Actor for Router {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<MessagesReceived> for Router {
    type Result = ();

    fn handle(&mut self, MessagesReceived(batch): MessagesReceived, ctx: &mut Context<Self>) {
        self.mailbox.remove(1);
        let now = Instant::now();
        let tells_messages = self.follow_level();
        self.show_received(&batch);
        for received in batch {
            if tells_messages {
                self.tell_received(&received.flow, &received.message);
            }
            self.core.handle_message(now, &received.flow, received.proof.as_ref(), received.message);
        }
        self.settle(ctx);
        self.turns.count(ctx);
    }
}

impl Handler<Answers> for Router {
    type Result = ();

    fn handle(&mut self, Answers(answers): Answers, ctx: &mut Context<Self>) {
        let now = Instant::now();
        for answer in answers {
            self.core.handle_answer(now, answer);
        }
        self.settle(ctx);
        self.turns.count(ctx);
    }
}

impl Handler<TransmitFailed> for Router {
    type Result = ();

    fn handle(&mut self, failed: TransmitFailed, ctx: &mut Context<Self>) {
        self.core.handle_transmit_failure(Instant::now(), &failed.branch, failed.unreached);
        self.settle(ctx);
    }
}

impl Handler<ConnectionOpened> for Router {
    type Result = ();

    fn handle(&mut self, opened: ConnectionOpened, _: &mut Context<Self>) {
        if let Some(id) = opened.flow.connection {
            self.connections.insert(id, opened.connection);
        }
    }
}

impl Handler<ConnectionClosed> for Router {
    type Result = ();

    fn handle(&mut self, ConnectionClosed { flow }: ConnectionClosed, ctx: &mut Context<Self>) {
        if let Some(id) = flow.connection {
            self.connections.remove(&id);
        }
        self.core.handle_connection_closed(Instant::now(), &flow);
        self.settle(ctx);
    }
}

impl Handler<FlowStanding> for Router {
    type Result = ();

    fn handle(&mut self, standing: FlowStanding, ctx: &mut Context<Self>) {
        let FlowStanding { flow, account, is_gone } = standing;
        if is_gone {
            self.core.handle_log_off(Instant::now(), &flow);
            self.settle(ctx);
        } else {
            self.core.handle_standing(&flow, account);
        }
    }
}

impl Handler<Banned> for Router {
    type Result = ();

    fn handle(&mut self, Banned { host, until }: Banned, _: &mut Context<Self>) {
        self.core.handle_ban(Instant::now(), host, until);
    }
}

impl Handler<InterfacesChanged> for Router {
    type Result = ();

    fn handle(&mut self, InterfacesChanged(interfaces): InterfacesChanged, _: &mut Context<Self>) {
        self.core.set_interfaces(interfaces);
    }
}

impl Handler<ApplySettings> for Router {
    type Result = ();

    fn handle(&mut self, ApplySettings { settings }: ApplySettings, _: &mut Context<Self>) {
        self.core.set_settings(Instant::now(), settings);
    }
}

impl Handler<AccessServersMoved> for Router {
    type Result = ();

    fn handle(&mut self, AccessServersMoved(addresses): AccessServersMoved, _: &mut Context<Self>) {
        self.core.set_access_addresses(addresses);
    }
}

impl Handler<ProbeRoute> for Router {
    type Result = ();

    fn handle(&mut self, ProbeRoute(route): ProbeRoute, ctx: &mut Context<Self>) {
        self.core.handle_probe(Instant::now(), route);
        self.settle(ctx);
    }
}

impl Handler<RegistrarRestarted> for Router {
    type Result = ();

    fn handle(&mut self, restarted: RegistrarRestarted, _: &mut Context<Self>) {
        self.core.forget_registrations();
        // Of a connection that has ended, this Registrar may never hear.
        let is_there = |(flow, _): &(Flow, AccountId)| {
            flow.connection.is_none_or(|id| self.directory.connection(id).is_some())
        };
        // No context waits for the answers.
        let context = ContextId { slot: u32::MAX, generation: 0 };
        let question = |(flow, account)| Question {
            context,
            flow,
            nonce_use: None,
            log_on: Some(account),
            ask: Ask::Nothing,
        };
        let questions: Vec<_> = self.core.standings().filter(is_there).map(question).collect();
        restarted.questions.do_send(Questions { router: self.index, questions });
    }
}

impl Handler<Resolved> for Router {
    type Result = ();

    fn handle(&mut self, Resolved(answers): Resolved, ctx: &mut Context<Self>) {
        let now = Instant::now();
        for (context, resolution) in answers {
            match self.homeless.take(context, &resolution) {
                Some((hop, dial)) => self.send_dial(&hop, dial),
                None => self.core.handle_resolution(now, context, resolution),
            }
        }
        self.settle(ctx);
        self.turns.count(ctx);
    }
}

impl Handler<Count> for Router {
    type Result = Counted;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> Counted {
        Counted { counts: self.core.counts().clone(), load: self.core.load() }
    }
}

impl Handler<Drain> for Router {
    type Result = MessageResult<Drain>;

    fn handle(&mut self, Drain { retry_after }: Drain, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.core.drain(Instant::now(), retry_after))
    }
}

#[cfg(test)]
mod tests;
