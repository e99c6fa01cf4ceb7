//! The supervisor: starts all other actors, rebuilds those that fail, and ends the process when that does not help.
//!
//! actix's own `Supervisor` does not survive a panic and keeps the state that caused it. This one builds a fresh
//! child from its parts, learns of a death from what the child's context holds (`lifeline.rs`), and puts the new address
//! into the [`Directory`].
//!
//! # Restart
//! The supervisor itself is not restarted. If it panics, the process ends with status 70 and the service manager
//! begins anew.

mod children;
pub mod describe;
mod interfaces;
mod lifeline;
mod listening;
mod notify;
mod preparing;
pub mod reload;
mod restarts;
mod settings;
mod stopping;
#[cfg(test)]
mod tests;
mod watch;
mod watchdog;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use slog::{Logger, crit, error, info, warn};

pub(crate) use self::interfaces::as_configured;
pub(crate) use self::lifeline::report_panics;
use self::notify::ServiceManager;
pub use self::reload::Reload;
use self::restarts::{Restarts, Verdict};
pub(crate) use self::settings::{connection_settings, federation, message_limits, stream_protocol};
pub use self::stopping::Stop;
use self::stopping::Stopping;
use self::watchdog::Watchdog;
use super::directory::{Directory, RouterAddress};
use super::journal::Pen;
use super::listener::{InterfaceStatus, ListenerKind};
use super::registrar::{RegistrarBegun, RouterRestarted};
use super::router::InterfacesChanged;
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

/// A branch names its Router in one octet; `service.worker_threads` has the same bound.
const MAXIMUM_CORES: usize = 256;

/// The status that tells the service manager to begin anew (`EX_SOFTWARE`).
const EXIT_INTERNAL: i32 = 70;

/// One of the supervisor's children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// A child has ended; from its lifeline.
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
    reloading: reload::Reloading,
    listening: listening::Listening,
    stun: Option<Recipient<ApplyStun>>,
    /// Control's, so that nobody who asks how the service is holds up SIP.
    control_arbiter: Arbiter,
    told: describe::Told,
    states: interfaces::States,
    interfaces: Arc<Interfaces>,
    public_addresses: interfaces::PublicAddresses,
    restarts: Restarts,
    watchdog: Watchdog,
    manager: ServiceManager,
    /// There has been a Registrar: the next one succeeds it.
    has_registrar: bool,
    /// The same of the Journal.
    has_journal: bool,
    /// What Registrar and Journal write by, whichever there is.
    pen: Pen,
    /// The Listeners have been started, which wait for the first Registrar.
    has_listeners: bool,
    is_ready: bool,
    stopping: Stopping,
    log: Logger,
    #[cfg(test)]
    collapsible: tests::Collapsible,
    #[cfg(test)]
    freezable: Option<actix::Recipient<tests::Freeze>>,
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
        let token_key = token_key(&config, &log)?;
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
        let manager = service_manager(&log);
        let arbiters = (0..cores).map(|_| children::new_arbiter()).collect();
        Ok(Self {
            parts,
            arbiters,
            journal_arbiter: children::new_arbiter(),
            resolver_arbiter: children::new_arbiter(),
            reloading: reload::Reloading::new(source, text, &places),
            listening: listening::Listening::default(),
            stun: None,
            control_arbiter: children::new_arbiter(),
            told: describe::Told::now(),
            states: interfaces::States::new(),
            interfaces: Arc::default(),
            public_addresses: interfaces::PublicAddresses::default(),
            restarts: Restarts::default(),
            watchdog: Watchdog::new(sd_notify::watchdog_enabled().filter(|_| manager.is_there())),
            manager,
            has_registrar: false,
            has_journal: false,
            pen: Pen::default(),
            has_listeners: false,
            is_ready: false,
            stopping: Stopping::default(),
            log,
            #[cfg(test)]
            collapsible: tests::Collapsible::default(),
            #[cfg(test)]
            freezable: None,
        }
        .start())
    }

    /// A child has ended: it is built anew, at once the first time, later and later if that does not help.
    fn replace(&mut self, child: ChildId, panicked: bool, ctx: &mut Context<Self>) {
        if self.stopping.is_ending() {
            return;
        }
        self.withdraw(child);
        let verdict = self.restarts.failed(Instant::now());
        error!(self.log, "actor_failed"; "actor" => %child, "panicked" => panicked,
            "failures_in_a_minute" => self.restarts.count());
        if self.has_lost_its_thread(child) {
            return self.give_up("a thread has ended");
        }
        self.parts.directory.metrics().actor_failed(child.kind());
        let Verdict::Rebuild(wait) = verdict else { return self.give_up("too many actors have failed") };
        ctx.run_later(wait, move |supervisor, ctx| {
            if !supervisor.is_wanted(child) || supervisor.is_running(child) {
                return;
            }
            supervisor.start_child(child, ctx);
            supervisor.reintroduce(child);
            info!(supervisor.log, "actor_restarted"; "actor" => %child);
        });
    }

    /// Ends the process: whoever has started it may begin anew.
    fn give_up(&mut self, reason: &'static str) {
        crit!(self.log, "giving_up"; "reason" => reason, "status" => EXIT_INTERNAL);
        self.stopping.at_once();
        end(&self.parts.directory, EXIT_INTERNAL);
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
        let summary = notify::summary(&self.parts.config, &self.states);
        self.manager.status(summary, self.is_ready && !self.stopping.is_asked_for());
        let expected = interfaces::listeners(&self.parts.config, self.arbiters.len());
        if !self.is_ready && expected.iter().all(|listener| self.states.contains_key(listener)) {
            self.is_ready = true;
            let (count, routes) = (self.interfaces.count(), self.parts.config.static_routes.len());
            self.manager.ready();
            let line =
                format!("ready: {}, {}\n", notify::count(count, "interface"), notify::count(routes, "route"));
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
        self.keep_watch(ctx);
        self.heed_signals(ctx);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        if std::thread::panicking() {
            end(&self.parts.directory, EXIT_INTERNAL);
        }
    }
}

/// The key of the tokens in Record-Route. Without a place to keep it, one for this process alone.
fn token_key(config: &Config, log: &Logger) -> io::Result<TokenKey> {
    state::token_key(&config.service.state_directory).or_else(|fault| {
        warn!(log, "state_not_kept"; "reason" => %fault,
            "remedy" => "make service.state_directory writable; dialogs do not outlive a restart until then");
        state::random().map(TokenKey::new)
    })
}

fn service_manager(log: &Logger) -> ServiceManager {
    ServiceManager::from_environment().unwrap_or_else(|fault| {
        warn!(log, "service_manager_not_told"; "reason" => %fault, "remedy" => "correct NOTIFY_SOCKET");
        ServiceManager::default()
    })
}

/// Ends the process. Connections that close because of that are no reason to forget what was registered over them.
fn end(directory: &Directory, status: i32) {
    directory.publish_registrar(None);
    System::current().stop_with_code(status);
}

impl Handler<ChildStopped> for Supervisor {
    type Result = ();

    fn handle(&mut self, ChildStopped { child, panicked }: ChildStopped, ctx: &mut Context<Self>) {
        if let ChildId::Listener(interface, kind) = child
            && self.listening.has_closed((interface, kind))
        {
            return self.closed((interface, kind), ctx);
        }
        self.replace(child, panicked, ctx);
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
