//! The FederationResolver: the thin shell around the one [`Resolver`], which finds the servers of domains.
//!
//! It has a thread of its own, so that no answer of a name server and no look into the system's configuration holds
//! up anybody. Look-ups are made by `name_servers.rs`; what is kept of them, and in which order servers are tried, is
//! the core's. The access servers of static routes are looked up unasked (`access.rs`), and
//! how those routes do is told (`routes.rs`).
//!
//! # Restart
//! What is lost: what was looked up, which servers were sick, and the questions that waited, whose contexts answer
//! 500 when their patience ends. Who notices: the supervisor. The next FederationResolver looks up anew.

mod access;
mod inquiry;
mod name_servers;
mod routes;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Logger, debug, info, warn};

pub use self::inquiry::{Inquiry, inquire};
use self::name_servers::NameServers;
pub use self::routes::{ListRoutes, RouteListed};
use super::directory::Directory;
use super::router::InterfacesChanged;
use super::turns::Turns;
use crate::config::Dns;
use crate::diagnostics::repeats::{Repeats, Summary};
use crate::protocol::federation::Route;
use crate::protocol::flow::Transport;
use crate::protocol::interface::Interfaces;
use crate::protocol::location::ContextId;
use crate::protocol::next_hop::access::AccessServers;
use crate::protocol::next_hop::health::Outcome;
use crate::protocol::next_hop::records::Key;
use crate::protocol::next_hop::resolver::{Event, Output, Resolver, Waiting};
use crate::protocol::next_hop::route_health::RouteHealth;
use crate::protocol::next_hop::{Query, Resolution, Unresolved};

/// Batches of questions that may wait. Each Router has at most one per turn under way, so this is never reached
/// but by a resolver that is stuck.
const MAILBOX: usize = 4096;

/// A domain's fault is told once in this time, and then how often it has been repeated.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Domains and causes that are told apart.
const MAXIMUM_REPEATED: usize = 256;

/// Where are these servers? From Routers, in batches; the answers go to the Router that asked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Resolve {
    /// The index of the Router that asks.
    pub router: usize,
    /// What it asks, each on behalf of a context.
    pub queries: Vec<(ContextId, Query)>,
}

/// Answers to [`Resolve`], to the Router: one for each question, in any order, some in later batches than others.
///
/// If one is lost, the context's patience ends and answers 500.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Resolved(pub Vec<(ContextId, Resolution)>);

/// From now on, these name servers are asked, and these are the static routes. From the supervisor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ApplyLookUps {
    /// `[dns]`.
    pub dns: Dns,
    /// The routes.
    pub routes: Vec<Arc<Route>>,
    /// `static_routes.probe_interval`.
    pub probe_interval: Option<Duration>,
}

/// What became of an attempt to reach a server. From Routers, for servers that the resolver has named.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ServerHealth {
    /// What was spoken to it.
    pub transport: Transport,
    /// Where.
    pub remote: SocketAddr,
    /// What came of it.
    pub outcome: Outcome,
}

/// How much waits for name servers? From Control.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Waiting")]
pub struct CountWaiting;

/// The shell of the [`Resolver`].
pub struct FederationResolver {
    /// Who asks is a Router and one of its contexts.
    core: Resolver<(usize, ContextId)>,
    access: AccessServers,
    routes: RouteHealth,
    name_servers: NameServers,
    settings: Dns,
    directory: Arc<Directory>,
    timer: Option<(Instant, SpawnHandle)>,
    access_timer: Option<SpawnHandle>,
    probe_timer: Option<SpawnHandle>,
    turns: Turns,
    log: Logger,
    /// What goes wrong, by domain.
    repeats: Repeats<Fault>,
    summary: Option<SpawnHandle>,
}

/// What makes two lines the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Fault {
    Unresolved(Arc<str>, Unresolved),
    LeadsToOurselves(Arc<str>),
    /// A route, and where its access server is now.
    Moved(Arc<str>, Vec<IpAddr>),
}

impl FederationResolver {
    /// A resolver that asks the name servers of `settings`, unasked for the access servers of `routes`.
    pub fn new(
        settings: &Dns,
        (routes, probe_interval): (&[Arc<Route>], Option<Duration>),
        interfaces: Arc<Interfaces>,
        seed: [u8; 16],
        directory: Arc<Directory>,
        log: Logger,
    ) -> Self {
        Self {
            routes: RouteHealth::new(routes, probe_interval, Instant::now()),
            access: AccessServers::new(routes, Arc::clone(&interfaces), Instant::now()),
            core: Resolver::new(settings.timeout, interfaces, seed),
            name_servers: NameServers::new(settings, &log),
            settings: settings.clone(),
            directory,
            timer: None,
            access_timer: None,
            probe_timer: None,
            turns: Turns::default(),
            log,
            repeats: Repeats::new(REPEAT_INTERVAL, MAXIMUM_REPEATED),
            summary: None,
        }
    }

    /// Does all that the core wants done, and arms the timers.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        let mut batches: Vec<(usize, Vec<(ContextId, Resolution)>)> = Vec::new();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::LookUp(key) => self.look_up(key, ctx),
                Output::Resolved { askers, resolution } => {
                    for (router, context) in askers {
                        let answer = (context, resolution.clone());
                        match batches.iter_mut().find(|(other, _)| *other == router) {
                            Some((_, answers)) => answers.push(answer),
                            None => batches.push((router, vec![answer])),
                        }
                    }
                }
                Output::Event(event) => self.tell(event, ctx),
            }
        }
        for (router, answers) in batches {
            if let Some(address) = self.directory.router(router).as_deref() {
                address.resolved.do_send(Resolved(answers));
            }
        }
        self.arm(ctx);
    }

    fn look_up(&mut self, key: Key, ctx: &mut Context<Self>) {
        let begun = Instant::now();
        let answer = self.name_servers.look_up(key.clone());
        let handled = answer.into_actor(self).map(move |(answer, ttl), resolver, ctx| {
            let result = answer.as_ref().map_or_else(|failure| failure.name(), |_| "ok");
            resolver.directory.metrics().dns_lookup(key.kind.name(), result, begun.elapsed());
            debug!(resolver.log, "looked_up"; "name" => &*key.name, "type" => ?key.kind, "answer" => ?answer,
                "ttl" => ttl.map(|ttl| ttl.as_secs()));
            resolver.core.handle_answer(Instant::now(), &key, answer, ttl);
            resolver.settle(ctx);
        });
        ctx.spawn(handled);
    }

    fn tell(&mut self, event: Event, ctx: &mut Context<Self>) {
        match event {
            Event::Answered { query, servers } => {
                debug!(self.log, "resolved"; "domain" => &**query.name(), "servers" => servers, "query" => ?query);
            }
            Event::Failed { query, cause } => {
                let domain = Arc::clone(query.name());
                if self.is_new(&Fault::Unresolved(Arc::clone(&domain), cause), ctx) {
                    info!(self.log, "unresolved"; "domain" => &*domain, "reason" => cause.as_str(), "query" => ?query);
                }
            }
            Event::LeadsToOurselves { query, address } => {
                let domain = Arc::clone(query.name());
                self.tell_leads_to_ourselves(&domain, address, ctx);
            }
        }
    }

    fn tell_leads_to_ourselves(&mut self, domain: &Arc<str>, address: SocketAddr, ctx: &mut Context<Self>) {
        if self.is_new(&Fault::LeadsToOurselves(Arc::clone(domain)), ctx) {
            warn!(self.log, "leads_to_ourselves"; "domain" => &**domain, "address" => %address,
                "remedy" => "its DNS records name this proxy: make it a presence domain, or correct them");
        }
    }

    /// Whether this has not been said lately; else it is counted, and summed up later.
    fn is_new(&mut self, fault: &Fault, ctx: &mut Context<Self>) -> bool {
        let is_new = self.repeats.note(Instant::now(), fault);
        self.arm_summary(ctx);
        is_new
    }

    fn arm_summary(&mut self, ctx: &mut Context<Self>) {
        let Some(due) = self.repeats.next_timeout().filter(|_| self.summary.is_none()) else { return };
        let wait = due.saturating_duration_since(Instant::now());
        self.summary = Some(ctx.run_later(wait, |resolver, ctx| {
            resolver.summary = None;
            while let Some(Summary { key, repeated }) = resolver.repeats.poll_summary(Instant::now()) {
                resolver.sum_up(key, repeated);
            }
            resolver.arm_summary(ctx);
        }));
    }

    fn sum_up(&self, fault: Option<Fault>, repeated: u64) {
        match fault {
            Some(Fault::Unresolved(domain, cause)) => {
                info!(self.log, "unresolved"; "domain" => &*domain, "reason" => cause.as_str(), "repeated" => repeated);
            }
            Some(Fault::LeadsToOurselves(domain)) => {
                warn!(self.log, "leads_to_ourselves"; "domain" => &*domain, "repeated" => repeated);
            }
            Some(Fault::Moved(domain, new)) => {
                info!(self.log, "access_server_moved"; "route" => &*domain, "new" => access::list(&new), "repeated" => repeated);
            }
            None => info!(self.log, "unresolved"; "reason" => "many domains", "repeated" => repeated),
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
        let handle = ctx.run_later(wait, |resolver, ctx| {
            resolver.timer = None;
            resolver.core.handle_timeout(Instant::now());
            resolver.settle(ctx);
        });
        self.timer = Some((due, handle));
    }
}

impl Actor for FederationResolver {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.look_after_access_servers(ctx);
        self.look_after_routes(ctx);
    }
}

impl Handler<Resolve> for FederationResolver {
    type Result = ();

    fn handle(&mut self, Resolve { router, queries }: Resolve, ctx: &mut Context<Self>) {
        let now = Instant::now();
        for (context, query) in queries {
            self.core.handle_question(now, (router, context), query);
        }
        self.settle(ctx);
        self.turns.count(ctx);
    }
}

impl Handler<CountWaiting> for FederationResolver {
    type Result = MessageResult<CountWaiting>;

    fn handle(&mut self, _: CountWaiting, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.core.waiting())
    }
}

impl Handler<ServerHealth> for FederationResolver {
    type Result = ();

    fn handle(&mut self, health: ServerHealth, ctx: &mut Context<Self>) {
        let ServerHealth { transport, remote, outcome } = health;
        let now = Instant::now();
        self.core.handle_outcome(now, transport, remote, outcome);
        self.routes.handle_outcome(now, (transport, remote), outcome, &self.access.addresses());
        self.look_after_routes(ctx);
        self.turns.count(ctx);
    }
}

impl Handler<InterfacesChanged> for FederationResolver {
    type Result = ();

    fn handle(&mut self, InterfacesChanged(interfaces): InterfacesChanged, _: &mut Context<Self>) {
        self.access.set_interfaces(Arc::clone(&interfaces));
        self.core.set_interfaces(interfaces);
    }
}

impl Handler<ApplyLookUps> for FederationResolver {
    type Result = ();

    fn handle(&mut self, new: ApplyLookUps, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if new.dns != self.settings {
            if new.dns.name_servers != self.settings.name_servers {
                self.core.forget_answers();
            }
            self.core.set_budget(new.dns.timeout);
            self.name_servers = NameServers::new(&new.dns, &self.log);
            self.settings = new.dns;
        }
        self.access.set_routes(&new.routes, now);
        self.routes.set_routes(&new.routes, new.probe_interval, now);
        if let Some(timer) = self.probe_timer.take() {
            ctx.cancel_future(timer);
        }
        self.look_after_access_servers(ctx);
        self.look_after_routes(ctx);
    }
}

#[cfg(test)]
mod tests;
