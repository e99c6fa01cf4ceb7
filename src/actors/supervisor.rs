//! The supervisor: starts all other actors, rebuilds those that fail, and ends the process when that does not help.
//!
//! actix's own `Supervisor` does not survive a panic and keeps the state that caused it. This one builds a fresh
//! child from its parts, learns of a death from the child's `stopped()`, which runs while it unwinds, and puts the
//! new address into the [`Directory`].
//!
//! # Restart
//! The supervisor itself is not restarted. If it panics, the process ends with status 70 and the service manager
//! begins anew.

mod children;
pub mod describe;
mod interfaces;
mod listening;
pub mod reload;
mod settings;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use futures_util::future::{Either, select};
use slog::{Logger, crit, error, info, warn};

pub(crate) use self::interfaces::as_configured;
pub use self::reload::Reload;
pub(crate) use self::settings::{connection_settings, federation, message_limits, stream_protocol};
use super::directory::{Directory, RouterAddress};
use super::journal::Finish;
use super::listener::{InterfaceStatus, ListenerKind, ListenerStopped};
use super::registrar::{RegistrarBegun, RouterRestarted};
use super::router::{Drain, InterfacesChanged};
use super::state;
use super::stun::ApplyStun;
use super::tls::TlsSettings;
use crate::config::{Config, Loaded, MAXIMUM_INTERFACES, Source};
use crate::diagnostics::Diagnostics;
use crate::protocol::flow::InterfaceId;
use crate::protocol::interface::Interfaces;
use crate::protocol::proxy::Secrets;
use crate::protocol::proxy::settings::Settings;
use crate::protocol::record_route::TokenKey;

/// More failures than this in [`RESTART_WINDOW`], of all children together, end the process.
const MAXIMUM_RESTARTS: usize = 10;

/// A branch names its Router in one octet; `service.worker_threads` has the same bound.
const MAXIMUM_CORES: usize = 256;

const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// Before the second restart in a window; doubled with each further one, so that a child that fails at once does
/// not use up the limit in a moment.
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);

/// How long requests that have begun may take to be answered once the process is to end: as long as a client waits
/// that is not calling (64*T1 at its default).
const DRAIN_TIME: Duration = Duration::from_secs(32);

/// Between two looks at what is left to answer.
const DRAIN_INTERVAL: Duration = Duration::from_millis(50);

/// How long it may take to write what is still to be kept once the process is to end.
const FINISH_TIME: Duration = Duration::from_secs(5);

/// The status that tells the service manager to begin anew (`EX_SOFTWARE`).
const EXIT_INTERNAL: i32 = 70;

/// One of the supervisor's children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildId {
    /// The Router with this index.
    Router(usize),
    /// The Registrar.
    Registrar,
    /// The FederationResolver.
    FederationResolver,
    /// The Journal.
    Journal,
    /// Stun.
    Stun,
    /// Control.
    Control,
    /// A Listener.
    Listener(InterfaceId, ListenerKind),
}

impl ChildId {
    /// What it is, without which of several.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Router(_) => "router",
            Self::Registrar => "registrar",
            Self::FederationResolver => "federation_resolver",
            Self::Journal => "journal",
            Self::Stun => "stun",
            Self::Control => "control",
            Self::Listener(..) => "listener",
        }
    }
}

/// A child has ended; from its `stopped()`.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ChildStopped {
    /// Which.
    pub child: ChildId,
    /// Whether by a panic.
    pub panicked: bool,
}

/// What every child is built from.
struct Parts {
    config: Arc<Config>,
    settings: Arc<Settings>,
    secrets: Secrets,
    location_key: [u8; 16],
    directory: Arc<Directory>,
    tls: TlsSettings,
    logs: Arc<Diagnostics>,
}

/// Parent of all actors.
pub struct Supervisor {
    parts: Parts,
    arbiters: Vec<Arbiter>,
    /// The Journal's, which may block.
    journal_arbiter: Arbiter,
    /// The FederationResolver's.
    resolver_arbiter: Arbiter,
    /// Control's, so that nobody who asks how the service is holds up SIP.
    control_arbiter: Arbiter,
    told: describe::Told,
    reloading: reload::Reloading,
    listening: listening::Listening,
    stun: Option<Recipient<ApplyStun>>,
    states: interfaces::States,
    interfaces: Arc<Interfaces>,
    public_addresses: interfaces::PublicAddresses,
    restarts: VecDeque<Instant>,
    /// There has been a Registrar: the next one succeeds it.
    has_registrar: bool,
    /// The same of the Journal.
    has_journal: bool,
    /// The Listeners have been started, which wait for the first Registrar.
    has_listeners: bool,
    is_ready: bool,
    /// The process ends, and its actors with it.
    is_stopping: bool,
    log: Logger,
    #[cfg(test)]
    collapsible: tests::Collapsible,
}

impl Supervisor {
    /// Starts everything that the configuration asks for, on one Arbiter per core. `source` is where it has come from.
    ///
    /// # Errors
    /// Where the system has no random numbers, or the certificate cannot be used.
    pub fn launch(loaded: Loaded, source: Source, logs: &Arc<Diagnostics>) -> io::Result<Addr<Self>> {
        let Loaded { config, warnings: _, places, text } = loaded;
        let config = Arc::new(config);
        let log = logs.logger("supervisor");
        let cores = match config.service.worker_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAXIMUM_CORES),
            threads => threads,
        };
        let token_key = state::token_key(&config.service.state_directory).or_else(|fault| {
            warn!(log, "state_not_kept"; "reason" => %fault,
                "remedy" => "make service.state_directory writable; dialogs do not outlive a restart until then");
            state::random().map(TokenKey::new)
        })?;
        let secrets = Secrets {
            transaction_key: state::random()?,
            nonce_key: state::random()?,
            token_key,
            epoch: Instant::now(),
        };
        let limits = settings::connection_limits(&config);
        let directory = Arc::new(Directory::new(cores, MAXIMUM_INTERFACES, limits, state::random()?));
        let tls = settings::tls(&config, logs).map_err(io::Error::other)?;
        let settings = Arc::new(settings::settings(&config, cores));
        let parts = Parts {
            settings,
            secrets,
            location_key: state::random()?,
            directory,
            tls,
            logs: Arc::clone(logs),
            config,
        };
        let arbiters = (0..cores).map(|_| children::new_arbiter()).collect();
        Ok(Self {
            parts,
            arbiters,
            journal_arbiter: children::new_arbiter(),
            resolver_arbiter: children::new_arbiter(),
            control_arbiter: children::new_arbiter(),
            told: describe::Told::now(),
            reloading: reload::Reloading::new(source, text, &places),
            listening: listening::Listening::default(),
            stun: None,
            states: interfaces::States::new(),
            interfaces: Arc::default(),
            public_addresses: interfaces::PublicAddresses::default(),
            restarts: VecDeque::new(),
            has_registrar: false,
            has_journal: false,
            has_listeners: false,
            is_ready: false,
            is_stopping: false,
            log,
            #[cfg(test)]
            collapsible: tests::Collapsible::default(),
        }
        .start())
    }

    /// A child has ended: it is built anew, at once the first time, later and later if that does not help.
    fn replace(&mut self, child: ChildId, panicked: bool, ctx: &mut Context<Self>) {
        if self.is_stopping {
            return;
        }
        self.withdraw(child);
        let now = Instant::now();
        while self.restarts.front().is_some_and(|at| now.saturating_duration_since(*at) > RESTART_WINDOW) {
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        let count = self.restarts.len();
        self.parts.directory.metrics().actor_failed(child.kind());
        error!(self.log, "actor_failed"; "actor" => %child, "panicked" => panicked, "failures_in_a_minute" => count);
        if count > MAXIMUM_RESTARTS {
            crit!(self.log, "giving_up"; "reason" => "too many actors have failed", "status" => EXIT_INTERNAL);
            end(&self.parts.directory, EXIT_INTERNAL);
            return;
        }
        let doublings = u32::try_from(count.saturating_sub(2)).unwrap_or(u32::MAX).min(6);
        let wait = if count == 1 { Duration::ZERO } else { FIRST_BACK_OFF * 2u32.pow(doublings) };
        ctx.run_later(wait, move |supervisor, ctx| {
            if !supervisor.is_wanted(child) || supervisor.is_running(child) {
                return;
            }
            supervisor.start_child(child, ctx);
            supervisor.reintroduce(child);
            info!(supervisor.log, "actor_restarted"; "actor" => %child);
        });
    }

    /// Tells a child that has begun anew what its predecessor knew and others still know.
    fn reintroduce(&self, child: ChildId) {
        let directory = &self.parts.directory;
        match child {
            ChildId::Router(router) => {
                directory.announce_connections(router);
                if let Some(registrar) = directory.registrar().as_deref() {
                    registrar.router_restarted.do_send(RouterRestarted { router });
                }
                if let Some(resolver) = directory.federation_resolver().as_deref() {
                    resolver.router_restarted.do_send(RouterRestarted { router });
                }
            }
            // These ask for it themselves, or begin with nothing.
            ChildId::Registrar
            | ChildId::FederationResolver
            | ChildId::Journal
            | ChildId::Stun
            | ChildId::Control
            | ChildId::Listener(..) => {}
        }
    }

    /// Lets the requests that have begun be answered, for [`DRAIN_TIME`] at most, and ends. A second signal ends at
    /// once.
    fn stop(&mut self, signal: &'static str, ctx: &mut Context<Self>) {
        info!(self.log, "stopping"; "reason" => signal);
        self.is_stopping = true;
        let routers: Vec<_> = self.routers().collect();
        let drained = async move {
            let end = Instant::now() + DRAIN_TIME;
            while Instant::now() < end && unanswered(&routers).await > 0 {
                actix::clock::sleep(DRAIN_INTERVAL).await;
            }
            // What was answered last is on its way out.
            actix::clock::sleep(DRAIN_INTERVAL).await;
        };
        let directory = Arc::clone(&self.parts.directory);
        let ended = async move {
            select(pin!(drained), pin!(stop_signal())).await;
            let registrar = directory.registrar().as_deref().map(|registrar| registrar.finish.clone());
            if let Some(registrar) = registrar {
                // A disk that takes longer may have its reasons, but is not waited for.
                let _ = actix::clock::timeout(FINISH_TIME, registrar.send(Finish)).await;
            }
            end(&directory, 0);
        };
        ctx.spawn(ended.into_actor(self));
    }

    fn routers(&self) -> impl Iterator<Item = Arc<RouterAddress>> {
        let directory = &self.parts.directory;
        (0..directory.router_count()).filter_map(|index| directory.router(index).as_ref().cloned())
    }

    /// What listens has changed: the Routers and the resolver are told, and once everything has reported, whoever waits for us is.
    fn interfaces_changed(&mut self) {
        self.interfaces =
            Arc::new(interfaces::listening(&self.parts.config, &self.states, &self.public_addresses));
        for router in self.routers() {
            router.interfaces.do_send(InterfacesChanged(Arc::clone(&self.interfaces)));
        }
        if let Some(resolver) = self.parts.directory.federation_resolver().as_deref() {
            resolver.interfaces.do_send(InterfacesChanged(Arc::clone(&self.interfaces)));
        }
        let expected = interfaces::listeners(&self.parts.config, self.arbiters.len());
        if !self.is_ready && expected.iter().all(|listener| self.states.contains_key(listener)) {
            self.is_ready = true;
            let (count, routes) = (self.interfaces.count(), self.parts.config.static_routes.len());
            let plural = |count: usize| if count == 1 { "" } else { "s" };
            let line =
                format!("ready: {count} interface{}, {routes} route{}\n", plural(count), plural(routes));
            // Whoever started us may have closed its end, and is then not waiting for the line.
            let _ = io::stdout().write_all(line.as_bytes());
            info!(self.log, "ready"; "interfaces" => count, "routes" => routes, "version" => env!("CARGO_PKG_VERSION"));
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.start_child(ChildId::Control, ctx);
        for router in 0..self.arbiters.len() {
            self.start_child(ChildId::Router(router), ctx);
        }
        self.start_child(ChildId::FederationResolver, ctx);
        // The Registrar begins with what the Journal has kept.
        self.start_child(ChildId::Journal, ctx);
        self.start_child(ChildId::Registrar, ctx);
        self.start_child(ChildId::Stun, ctx);
        self.await_hangups(ctx);
        self.watch_files(ctx);
        ctx.spawn(stop_signal().into_actor(self).map(|signal, supervisor, ctx| supervisor.stop(signal, ctx)));
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        if std::thread::panicking() {
            end(&self.parts.directory, EXIT_INTERNAL);
        }
    }
}

/// Ends the process. Connections that close because of that are no reason to forget what was registered over them.
fn end(directory: &Directory, status: i32) {
    directory.publish_registrar(None);
    System::current().stop_with_code(status);
}

/// How many requests are being answered. A Router that is gone answers none.
async fn unanswered(routers: &[Arc<RouterAddress>]) -> usize {
    let mut sum = 0;
    for router in routers {
        sum += router.drain.send(Drain).await.unwrap_or(0);
    }
    sum
}

/// Waits for SIGTERM or SIGINT.
async fn stop_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        // Without handlers the signals end the process as they always did.
        return std::future::pending().await;
    };
    match select(pin!(terminate.recv()), pin!(interrupt.recv())).await {
        Either::Left(_) => "SIGTERM",
        Either::Right(_) => "SIGINT",
    }
}

impl Handler<ChildStopped> for Supervisor {
    type Result = ();

    fn handle(&mut self, ChildStopped { child, panicked }: ChildStopped, ctx: &mut Context<Self>) {
        self.replace(child, panicked, ctx);
    }
}

impl Handler<ListenerStopped> for Supervisor {
    type Result = ();

    fn handle(&mut self, stopped: ListenerStopped, ctx: &mut Context<Self>) {
        let listener = (stopped.interface, stopped.listener);
        if self.listening.has_closed(listener) {
            return self.closed(listener, ctx);
        }
        self.replace(ChildId::Listener(stopped.interface, stopped.listener), stopped.panicked, ctx);
    }
}

impl Handler<RegistrarBegun> for Supervisor {
    type Result = ();

    /// Nothing is received before the Routers know who is logged on: the first request of a UC server that was
    /// registered before a restart finds its standing.
    fn handle(&mut self, _: RegistrarBegun, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.has_listeners, true) {
            return;
        }
        self.start_listeners(ctx);
        self.interfaces_changed();
    }
}

impl Handler<InterfaceStatus> for Supervisor {
    type Result = ();

    fn handle(&mut self, status: InterfaceStatus, ctx: &mut Context<Self>) {
        let InterfaceStatus { interface, listener, state } = status;
        if !self.is_wanted(ChildId::Listener(interface, listener)) {
            return;
        }
        self.states.insert((interface, listener), state);
        self.start_listeners(ctx);
        self.interfaces_changed();
    }
}
