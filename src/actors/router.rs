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
mod messages;
mod taps;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Drain as _, Logger};

use self::departures::Departures;
use self::homeless::Homeless;
pub use self::messages::{
    AccessServersMoved, ApplySettings, Count, Counted, Drain, InterfacesChanged, ProbeRoute,
    RegistrarRestarted,
};
use super::directory::Directory;
use super::federation_resolver::{Resolved, ServerHealth};
use super::messages::{
    ConnectionClosed, ConnectionOpened, MessagesReceived, Outgoing, Transmit, TransmitFailed,
};
use super::registrar::{Answers, Banned, FlowEnded, FlowFailed, FlowStanding, Learned, Questions};
use super::turns::Turns;
use crate::diagnostics::queues::QueueLength;
use crate::protocol::account::AccountId;
use crate::protocol::flow::{ConnectionId, Flow, Transport};
use crate::protocol::location::{Ask, ContextId, Question};
use crate::protocol::proxy::{Output, Proxy};

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
    /// When the core wants to know the time.
    due: Option<Instant>,
    timer: Option<(Instant, SpawnHandle)>,
    turns: Turns,
    log: Logger,
    limits: log::Limits,
    /// Batches that wait here.
    mailbox: QueueLength,
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
            due: None,
            timer: None,
            turns: Turns::default(),
            log,
            limits: log::Limits::default(),
            mailbox,
        }
    }

    /// Tells the core the time if it is due, does all that it wants done, and arms the timer.
    fn settle(&mut self, now: Instant, ctx: &mut Context<Self>) {
        if self.due.is_some_and(|due| due <= now) {
            self.core.handle_timeout(now);
        }
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

    /// One timer, moved only when something is due earlier than it would fire. It fires late, for most of what is due
    /// then is done by the messages that come meanwhile: at some hundreds of requests a second the timers would
    /// otherwise wake the Router as often again.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        self.due = self.core.poll_timeout();
        let Some(due) = self.due else { return };
        let latest = due + self.core.timer_slack();
        if self.timer.is_some_and(|(armed, _)| armed <= latest) {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        let wait = latest.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let handle = ctx.run_later(wait, |router, ctx| {
            router.timer = None;
            router.settle(Instant::now(), ctx);
        });
        self.timer = Some((latest, handle));
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
        self.settle(now, ctx);
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
        self.settle(now, ctx);
        self.turns.count(ctx);
    }
}

impl Handler<TransmitFailed> for Router {
    type Result = ();

    fn handle(&mut self, failed: TransmitFailed, ctx: &mut Context<Self>) {
        let now = Instant::now();
        self.core.handle_transmit_failure(now, &failed.branch, failed.unreached);
        self.settle(now, ctx);
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
        let now = Instant::now();
        self.core.handle_connection_closed(now, &flow);
        self.settle(now, ctx);
    }
}

impl Handler<FlowStanding> for Router {
    type Result = ();

    fn handle(&mut self, standing: FlowStanding, ctx: &mut Context<Self>) {
        let FlowStanding { flow, account, is_gone } = standing;
        if is_gone {
            let now = Instant::now();
            self.core.handle_log_off(now, &flow);
            self.settle(now, ctx);
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
        let now = Instant::now();
        self.core.handle_probe(now, route);
        self.settle(now, ctx);
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
        self.settle(now, ctx);
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
