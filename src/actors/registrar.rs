//! The Registrar: the thin shell around the one [`Location`], which holds what all Routers share.
//!
//! What changes in its bindings is written, by the Journal or by its [`Pen`](super::journal::Pen), before the answers
//! leave that depend on it, and comes back from there when a Registrar begins (`keeping.rs`).
//!
//! # Restart
//! What is lost: log-ons that no registration stands for, what was learned, which nonces were used, and how often
//! hosts have erred (the Routers keep the bans); questions in the mailbox, whose contexts answer 500 when their
//! patience ends. What is not: bindings, and the log-ons that go with them; the Journal has them, and those whose
//! connection has closed meanwhile are left out. Who notices: the supervisor. The new Registrar has each Router forget
//! what rested on registrations and repeat the log-ons of connections, and answers once it has read its bindings. So
//! that no nonce can be used a second time, those minted before the restart count as stale, which costs a challenge.

mod keeping;
mod listing;
mod messages;
mod outbox;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use slog::{Logger, debug, info, warn};

use self::keeping::Telling;
pub use self::listing::{ListRegistrations, ListServers};
pub use self::messages::{
    Answers, ApplyLocation, Banned, FlowEnded, FlowFailed, FlowStanding, Learned, LogOn, Questions,
    RegistrarBegun, RouterRestarted, TellAll,
};
use self::outbox::Outbox;
use super::directory::{Directory, RouterAddress};
use super::messages::ConnectionClosed;
use super::turns::Turns;
use crate::config::Durability;
use crate::diagnostics::LogLimit;
use crate::protocol::flow::Flow;
use crate::protocol::interface::Interfaces;
use crate::protocol::location::{Answer, Location, LocationEvent, Verdict};
use crate::protocol::message::Name;
use crate::protocol::message::date::sip_date;

/// Log-ons, and log-offs, that have a line of their own, in ten seconds: many come at once when a server begins.
const LOG_ON_LINES: u32 = 100;

/// Batches of questions that may wait. Each Router has at most one per turn under way, so this is never reached
/// but by a Registrar that is stuck.
const MAILBOX: usize = 4096;

/// The shell of the [`Location`].
pub struct Registrar {
    core: Location,
    /// The interfaces of the configuration, of which some may not listen yet.
    interfaces: Interfaces,
    /// `registrar.durability`.
    durability: Durability,
    is_successor: bool,
    /// What goes to the Journal next.
    outbox: Outbox,
    /// The timer for that.
    departure: Option<(Instant, SpawnHandle)>,
    telling: Option<Telling>,
    directory: Arc<Directory>,
    timer: Option<(Instant, SpawnHandle)>,
    turns: Turns,
    log: Logger,
    /// The Date of the answers.
    date: Date,
    /// Bounds the lines about bans.
    bans: LogLimit,
    /// Bound those about log-ons and log-offs: where a password is not needed, whoever connects logs on.
    log_ons: LogLimit,
    log_offs: LogLimit,
    begun: Recipient<RegistrarBegun>,
}

impl Registrar {
    /// The Registrar around `core`, which holds nothing yet. A successor has the Routers begin anew with it.
    pub fn new(
        core: Location,
        interfaces: Interfaces,
        durability: Durability,
        is_successor: bool,
        directory: Arc<Directory>,
        log: Logger,
        begun: Recipient<RegistrarBegun>,
    ) -> Self {
        Self {
            core,
            interfaces,
            durability,
            is_successor,
            outbox: Outbox::default(),
            departure: None,
            telling: None,
            directory,
            timer: None,
            turns: Turns::default(),
            log,
            date: Date::default(),
            bans: LogLimit::default(),
            log_ons: LogLimit::new(LOG_ON_LINES),
            log_offs: LogLimit::new(LOG_ON_LINES),
            begun,
        }
    }

    /// Tells what has changed, has it kept, and arms the timer.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        while let Some(event) = self.core.poll_event() {
            self.tell(&event);
        }
        self.keep(ctx);
        self.arm(ctx);
    }

    fn answer(&self, router: usize, answers: Vec<Answer>) {
        if let Some(address) = self.directory.router(router).as_deref().filter(|_| !answers.is_empty()) {
            address.answers.do_send(Answers(answers));
        }
    }

    /// The Routers hear of it before the log does: who reads that somebody is logged on can rely on it.
    fn tell(&self, event: &LocationEvent) {
        match event {
            LocationEvent::LoggedOn { flow, account, passes } => {
                self.broadcast(FlowStanding {
                    flow: *flow,
                    account: passes.then_some(*account),
                    is_gone: false,
                });
                if let Some(repeated) = self.log_ons.pass(Instant::now()) {
                    info!(self.log, "logged_on"; "peer" => %flow, "account" => self.core.account_name(*account),
                        "passes" => passes, "repeated" => repeated);
                }
            }
            LocationEvent::LoggedOff { flow, account, reason } => {
                self.broadcast(FlowStanding { flow: *flow, account: None, is_gone: true });
                if let Some(repeated) = self.log_offs.pass(Instant::now()) {
                    info!(self.log, "logged_off"; "peer" => %flow, "account" => self.core.account_name(*account),
                        "reason" => reason.as_str(), "repeated" => repeated);
                }
            }
            LocationEvent::Banned { host, until } => {
                if let Some(repeated) = self.bans.pass(Instant::now()) {
                    warn!(self.log, "address_banned"; "peer" => %host, "reason" => "too many failed log-ons",
                        "seconds" => until.saturating_duration_since(Instant::now()).as_secs(),
                        "repeated" => repeated);
                }
                self.each_router(|router| router.banned.do_send(Banned { host: *host, until: *until }));
            }
            LocationEvent::BindingAdded { address_of_record, contact, flow } => {
                debug!(self.log, "binding_added"; "aor" => %address_of_record, "peer" => %flow,
                    "contact" => %String::from_utf8_lossy(contact));
            }
            LocationEvent::BindingRemoved { address_of_record, contact, reason } => {
                debug!(self.log, "binding_removed"; "aor" => %address_of_record, "reason" => reason.as_str(),
                    "contact" => %String::from_utf8_lossy(contact));
            }
        }
    }

    /// To every Router, before the answer that follows from it: what the peer sends after that answer finds the
    /// standing there.
    fn broadcast(&self, standing: FlowStanding) {
        self.each_router(|router| router.standing.do_send(standing));
    }

    fn each_router(&self, tell: impl Fn(&RouterAddress)) {
        for router in 0..self.directory.router_count() {
            if let Some(address) = self.directory.router(router).as_deref() {
                tell(address);
            }
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(due) = self.core.next_timeout() else { return };
        if self.timer.is_some_and(|(armed, _)| armed <= due) {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let handle = ctx.run_later(wait, |registrar, ctx| {
            registrar.timer = None;
            registrar.core.handle_timeout(Instant::now());
            registrar.settle(ctx);
        });
        self.timer = Some((due, handle));
    }
}

impl Actor for Registrar {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        if self.is_successor {
            self.introduce(ctx);
        }
        self.load(ctx);
    }
}

impl Handler<Questions> for Registrar {
    type Result = ();

    fn handle(&mut self, Questions { router, questions }: Questions, ctx: &mut Context<Self>) {
        let now = Instant::now();
        self.core.set_room(self.has_room());
        let mut answers = Vec::new();
        for question in questions {
            let changes = self.core.changes();
            let mut answer = self.core.handle_question(now, question);
            self.date.add_to(&mut answer);
            if self.core.changes() == changes {
                answers.push(answer);
            } else {
                self.outbox.push(router, answer);
            }
        }
        self.settle(ctx);
        self.answer(router, answers);
        self.turns.count(ctx);
    }
}

/// What only the shell knows of a 200 to a REGISTER (RFC 3261 §10.3 step 8), written once a second.
#[derive(Default)]
struct Date {
    seconds: u64,
    text: String,
}

impl Date {
    fn add_to(&mut self, answer: &mut Answer) {
        if let Verdict::Registered(reply) = &mut answer.verdict
            && reply.status == 200
            && let Ok(time) = SystemTime::now().duration_since(UNIX_EPOCH)
        {
            if self.text.is_empty() || self.seconds != time.as_secs() {
                *self = Self { seconds: time.as_secs(), text: sip_date(time.as_secs()) };
            }
            reply.rows.push((Name::Date.as_str(), self.text.clone()));
        }
    }
}

impl Handler<LogOn> for Registrar {
    type Result = ();

    fn handle(&mut self, LogOn { flow, account }: LogOn, ctx: &mut Context<Self>) {
        self.core.handle_log_on(Instant::now(), &flow, account);
        self.settle(ctx);
    }
}

impl Handler<Learned> for Registrar {
    type Result = ();

    fn handle(&mut self, Learned { user, flow }: Learned, ctx: &mut Context<Self>) {
        self.core.handle_learned(Instant::now(), &user, &flow);
        self.turns.count(ctx);
    }
}

impl Handler<FlowFailed> for Registrar {
    type Result = ();

    fn handle(&mut self, FlowFailed(flow): FlowFailed, ctx: &mut Context<Self>) {
        self.core.handle_flow_failed(Instant::now(), &flow);
        self.settle(ctx);
    }
}

impl Handler<FlowEnded> for Registrar {
    type Result = ();

    fn handle(&mut self, FlowEnded(flow): FlowEnded, ctx: &mut Context<Self>) {
        self.core.handle_flow_ended(Instant::now(), &flow);
        self.settle(ctx);
    }
}

impl Handler<ConnectionClosed> for Registrar {
    type Result = ();

    fn handle(&mut self, ConnectionClosed { flow }: ConnectionClosed, ctx: &mut Context<Self>) {
        self.core.handle_connection_closed(Instant::now(), &flow);
        self.settle(ctx);
    }
}

impl Handler<ApplyLocation> for Registrar {
    type Result = ();

    fn handle(&mut self, new: ApplyLocation, ctx: &mut Context<Self>) {
        let ApplyLocation { settings, interfaces, durability, lan_networks } = new;
        self.interfaces = interfaces;
        self.durability = durability;
        let is_lan = |flow: &Flow| lan_networks.iter().any(|network| network.contains(&flow.remote.ip()));
        self.core.reconfigure(Instant::now(), settings, &is_lan);
        self.settle(ctx);
    }
}

impl Handler<RouterRestarted> for Registrar {
    type Result = ();

    fn handle(&mut self, RouterRestarted { router }: RouterRestarted, _: &mut Context<Self>) {
        let Some(address) = self.directory.router(router).as_deref().cloned() else { return };
        for (flow, account) in self.core.standings() {
            address.standing.do_send(FlowStanding { flow, account: Some(account), is_gone: false });
        }
        for (host, until) in self.core.bans(Instant::now()) {
            address.banned.do_send(Banned { host, until });
        }
    }
}
