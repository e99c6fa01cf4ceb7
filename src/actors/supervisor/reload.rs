//! Reload: another configuration while everything runs.
//!
//! Read, check, compare, apply. All that can fail comes before the first thing that is applied, so that a configuration is
//! in force as a whole or not at all; a port that cannot be bound is told as at the start, and tried again. A start is a
//! reload from nothing: children that begin anew are built from what is in force.
//!
//! What has begun goes on under what it has begun with: transactions keep their timers, connections their TLS.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use futures_util::future::{FutureExt as _, LocalBoxFuture, join_all};
use slog::{Logger, error, info, warn};
use tokio::signal::unix::{SignalKind, signal};

use super::watch::{Fingerprints, Watch};
use super::{Supervisor, interfaces, settings};
use crate::actors::control::report::{self, Reloaded};
use crate::actors::descriptors;
use crate::actors::federation_resolver::ApplyLookUps;
use crate::actors::registrar::ApplyLocation;
use crate::actors::router::ApplySettings;
use crate::actors::stun::{ApplyStun, Question};
use crate::actors::tls::TlsSettings;
use crate::config::{
    Change, Config, Fault, Faults, Ids, Loaded, Place, Places, Service, Source, Warning, differences,
};

/// How long a reload waits until the actors have taken what is new. One that begins anew meanwhile has it anyway.
const PATIENCE: Duration = Duration::from_secs(5);

/// Differences that the log tells; of more it tells the number.
const TOLD_AT_MOST: usize = 1000;

/// Read the configuration again. From SIGHUP and the control socket; the answer comes once it is in force.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Reloaded")]
pub struct Reload;

/// What is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// The file of the configuration and those that it names.
    Everything,
    /// Those that it names: what the file of the configuration says by now is nobody's wish yet.
    NamedFiles,
}

/// What reading again needs.
pub(super) struct Reloading {
    source: Source,
    /// The file of the configuration, as it is in force.
    text: String,
    ids: Ids,
    pub(super) watch: Watch,
}

impl Reloading {
    /// For a configuration that has just been read.
    pub(super) fn new(source: Source, text: String, places: &Places) -> Self {
        let watch = Watch::new(Fingerprints::take(places.files()));
        Self { source, text, ids: Ids::default(), watch }
    }
}

/// A configuration that can be applied.
struct Prepared {
    config: Arc<Config>,
    tls: TlsSettings,
    text: String,
    changes: Vec<Change>,
    warnings: Vec<Warning>,
    /// The files that it names.
    places: Places,
}

/// Actors that are taking what is new.
type Taking = LocalBoxFuture<'static, ()>;

impl Supervisor {
    /// Reloads at each SIGHUP.
    pub(super) fn await_hangups(&self, ctx: &mut Context<Self>) {
        let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
        let hangups = futures_util::stream::poll_fn(move |cx| hangups.poll_recv(cx));
        ctx.add_message_stream(futures_util::StreamExt::map(hangups, |()| HungUp));
    }

    /// The content of files that the configuration names has changed.
    pub(super) fn files_changed(&mut self, ctx: &mut Context<Self>) {
        let (_, taking) = self.reload(Scope::NamedFiles, ctx);
        ctx.spawn(taking.into_actor(self));
    }

    /// Reads, checks, compares, applies.
    fn reload(&mut self, scope: Scope, ctx: &mut Context<Self>) -> (Reloaded, Taking) {
        let is_told = self.is_ready && !self.stopping.is_asked_for();
        if is_told {
            self.manager.reloading();
        }
        let reloaded = self.read_and_apply(scope, ctx);
        if is_told {
            self.manager.ready();
        }
        reloaded
    }

    fn read_and_apply(&mut self, scope: Scope, ctx: &mut Context<Self>) -> (Reloaded, Taking) {
        let log = self.parts.logs.logger("config");
        let before = self.reloading.watch.before_reading();
        match self.prepare(scope) {
            Ok(prepared) => {
                self.reloading.watch.have_read(prepared.places.files(), &before);
                self.reloading.text.clone_from(&prepared.text);
                let mut reloaded = told(&log, &prepared);
                let changes = reloaded.changes.len();
                let taken = self.apply(prepared, &mut reloaded, ctx).map(move |()| {
                    info!(log, "reloaded"; "changes" => changes, "cause" => scope.as_str());
                });
                (reloaded, taken.boxed_local())
            }
            Err(Faults(faults)) => {
                // Of a request, the fault may be anywhere: files that have changed are still to be read.
                if scope == Scope::NamedFiles {
                    self.reloading.watch.have_refused(before);
                }
                error!(log, "reload_refused"; "faults" => faults.len(), "cause" => scope.as_str(),
                    "reason" => "nothing is changed");
                for fault in &faults {
                    error!(log, "configuration_faulty"; "key" => &fault.key, "place" => %fault.place,
                        "reason" => &fault.text);
                }
                let faults = faults.iter().map(as_reported).collect();
                (Reloaded { faults, ..Reloaded::default() }, async {}.boxed_local())
            }
        }
    }

    /// Everything that can fail.
    fn prepare(&mut self, scope: Scope) -> Result<Prepared, Faults> {
        let Reloading { source, text, ids, .. } = &mut self.reloading;
        if self.stopping.is_asked_for() {
            let place = Place::File(source.file().to_owned());
            let text = "is not read again: the service is ending".to_owned();
            return Err(Faults(vec![Fault { place, key: String::new(), text }]));
        }
        let loaded = match scope {
            Scope::Everything => source.load(),
            Scope::NamedFiles => source.load_as(text.clone()),
        };
        let Loaded { mut config, warnings, places, text } = loaded?;
        let old = &self.parts.config;
        let unchangeable = unchangeable(&old.service, &config.service, &places);
        if !unchangeable.is_empty() {
            return Err(Faults(unchangeable));
        }
        let (leaving, closing) = self.listening.left();
        let used_up = ids.assign(old, &mut config, &leaving, &closing);
        used_up.map_err(|fault| Faults(vec![places.remark("", fault.to_string())]))?;
        let tls = if settings::has_same_tls(old, &config) {
            self.parts.tls.clone()
        } else {
            settings::tls(&config, &self.parts.logs)
                .map_err(|fault| Faults(vec![places.remark("certificate", fault.to_string())]))?
        };
        let changes = differences(old, &config);
        Ok(Prepared { config: Arc::new(config), tls, text, changes, warnings, places })
    }

    /// Puts it in force; nothing of this fails.
    fn apply(&mut self, prepared: Prepared, reloaded: &mut Reloaded, ctx: &mut Context<Self>) -> Taking {
        let Prepared { config, tls, places, .. } = prepared;
        let old = std::mem::replace(&mut self.parts.config, config);
        let config = Arc::clone(&self.parts.config);
        self.parts.tls = tls;
        if !reloaded.changes.is_empty() {
            self.told.times.configured = SystemTime::now();
        }
        self.parts.settings = Arc::new(self.next_settings(&old));
        if config.diagnostics != old.diagnostics {
            self.parts.logs.apply(&config.diagnostics);
        }
        if config.limits != old.limits {
            let log = self.parts.logs.logger("service");
            let shortage = descriptors::provide_for(config.limits.maximum_connections, &log);
            let doubt = shortage.map(|text| places.remark("limits.maximum_connections", text));
            reloaded.warnings.extend(doubt.iter().map(as_reported));
            self.parts.directory.limit_connections(settings::connection_limits(&config));
        }
        // The interfaces first: what the Routers ask from now on can leave by them.
        self.change_listeners(&old, ctx);
        self.interfaces_changed();
        let taking = self.tell_actors();
        self.tell_connections(&old, gone_routes(&old, &config));
        taking
    }

    /// What decides about messages. What is counted of peers is kept, where its limits are the same.
    fn next_settings(&self, old: &Config) -> crate::protocol::proxy::settings::Settings {
        let (config, before) = (&self.parts.config, &self.parts.settings.federation);
        let mut next = settings::settings(config, self.arbiters.len());
        if config.federation_guard == old.federation_guard {
            next.federation.guard = Arc::clone(&before.guard);
        }
        if config.open_federation.messages_per_second == old.open_federation.messages_per_second {
            next.federation.shaper = Arc::clone(&before.shaper);
        }
        next
    }

    /// Tells the actors that live on.
    fn tell_actors(&self) -> Taking {
        let (config, directory) = (&self.parts.config, &self.parts.directory);
        let mut taken: Vec<Taking> = Vec::new();
        for router in self.routers() {
            let settings = self.settings_of_router();
            taken.push(router.settings.send(ApplySettings { settings }).map(|_| ()).boxed_local());
        }
        if let Some(registrar) = directory.registrar().as_deref() {
            let new = ApplyLocation {
                settings: self.location_settings(),
                interfaces: interfaces::configured(config, &self.states, &self.public_addresses),
                lan_networks: config.lan_allowed_networks.clone(),
            };
            taken.push(registrar.settings.send(new).map(|_| ()).boxed_local());
        }
        if let Some(resolver) = directory.federation_resolver().as_deref() {
            let new = ApplyLookUps {
                dns: config.dns.clone(),
                routes: self.parts.settings.federation.routes.clone(),
                probe_interval: config.probe_interval,
            };
            taken.push(resolver.settings.send(new).map(|_| ()).boxed_local());
        }
        if let Some(stun) = &self.stun {
            stun.do_send(ApplyStun { question: Question::new(config), interval: config.stun.interval });
        }
        // Who does not answer is being restarted with what is in force, or will take it yet.
        actix::clock::timeout(PATIENCE, join_all(taken)).map(|_| ()).boxed_local()
    }
}

impl Scope {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "request",
            Self::NamedFiles => "files_changed",
        }
    }
}

/// A SIGHUP has come.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
struct HungUp;

impl Handler<HungUp> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: HungUp, ctx: &mut Context<Self>) {
        ctx.notify(Reload);
    }
}

impl Handler<Reload> for Supervisor {
    type Result = ResponseFuture<Reloaded>;

    fn handle(&mut self, _: Reload, ctx: &mut Context<Self>) -> ResponseFuture<Reloaded> {
        let (reloaded, taking) = self.reload(Scope::Everything, ctx);
        Box::pin(taking.map(|()| reloaded))
    }
}

/// What only a restart can change, and is otherwise than it is in force.
fn unchangeable(old: &Service, new: &Service, places: &Places) -> Vec<Fault> {
    let quoted = |path: &std::path::Path| format!("{:?}", path.display().to_string());
    let keys = [
        ("state_directory", quoted(&old.state_directory), quoted(&new.state_directory)),
        ("control_socket", quoted(&old.control_socket), quoted(&new.control_socket)),
        ("worker_threads", old.worker_threads.to_string(), new.worker_threads.to_string()),
    ];
    let other = keys.into_iter().filter(|(_, old, new)| old != new);
    let fault = |(key, old, new)| {
        let text = format!("{new} needs a restart, allowed in a reload: {old}, as it is in force");
        places.remark(&format!("service.{key}"), text)
    };
    other.map(fault).collect()
}

/// The domains of the routes of `old` that are gone or lead elsewhere: nothing new goes by what was opened for them.
fn gone_routes(old: &Config, new: &Config) -> Vec<Arc<str>> {
    let stays = |id| new.static_routes.iter().find(|route| route.id == id);
    let gone = old.static_routes.iter().filter(|route| {
        stays(route.id).is_none_or(|new| {
            (new.bind_to_ip_address, &new.trusted_cas) != (route.bind_to_ip_address, &route.trusted_cas)
        })
    });
    gone.map(|route| Arc::from(route.domain_name.as_str())).collect()
}

/// Says what is different.
fn told(log: &Logger, prepared: &Prepared) -> Reloaded {
    let Prepared { changes, warnings, .. } = prepared;
    for warning in warnings {
        warn!(log, "configuration_doubtful"; "key" => &warning.key, "place" => %warning.place,
            "reason" => &warning.text);
    }
    for change in changes.iter().take(TOLD_AT_MOST) {
        info!(log, "configuration_changed"; "key" => &change.key, "kind" => change.kind.as_str(),
            "old" => change.old.as_deref(), "new" => change.new.as_deref());
    }
    Reloaded {
        changes: changes.iter().map(change_as_reported).collect(),
        warnings: warnings.iter().map(as_reported).collect(),
        faults: Vec::new(),
    }
}

fn as_reported(remark: &Fault) -> report::Fault {
    report::Fault { place: remark.place.to_string(), key: remark.key.clone(), text: remark.text.clone() }
}

fn change_as_reported(change: &Change) -> report::Change {
    report::Change {
        key: change.key.clone(),
        kind: change.kind.as_str().to_owned(),
        old: change.old.clone(),
        new: change.new.clone(),
    }
}
