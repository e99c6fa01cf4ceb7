//! Reload: another configuration while everything runs.
//!
//! Read, check, compare (`preparing.rs`), apply: one at a time, and who asks meanwhile gets another one afterwards. All that
//! can fail comes before the first thing that is applied, so that a configuration is in force as a whole or not at all; a port that cannot be bound is told as at the start, and tried again. A start is a
//! reload from nothing: children that begin anew are built from what is in force.
//!
//! What has begun goes on under what it has begun with: transactions keep their timers, connections their TLS.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use futures_util::future::{FutureExt as _, LocalBoxFuture, join_all};
use slog::{Logger, error, info, warn};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::preparing::{Absence, DEADLINE, Outcome, Prepared, Scope, Task, Threads};
use super::watch::{Fingerprints, Watch};
use super::{Supervisor, interfaces, settings};
use crate::actors::control::report::{self, Reloaded};
use crate::actors::descriptors;
use crate::actors::federation_resolver::ApplyLookUps;
use crate::actors::registrar::ApplyLocation;
use crate::actors::router::ApplySettings;
use crate::actors::stun::{ApplyStun, Question};
use crate::config::{Change, Config, Fault, Faults, Ids, Places, Source};

/// How long a reload waits until the actors have taken what is new. One that begins anew meanwhile has it anyway.
const PATIENCE: Duration = Duration::from_secs(5);

/// Differences that the log tells; of more it tells the number.
const TOLD_AT_MOST: usize = 1000;

/// Read the configuration again. From the control socket; the answer comes once it is in force.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Reloaded")]
pub struct Reload;

/// Who waits for what has come of a reload.
type Asker = oneshot::Sender<Reloaded>;

/// What reading again needs.
pub(super) struct Reloading {
    source: Source,
    /// The file of the configuration, as it is in force.
    text: String,
    ids: Ids,
    pub(super) watch: Watch,
    threads: Threads,
    under_way: Option<UnderWay>,
    /// Who has asked since, and waits for another one: that sees what the files are by then.
    next: Option<Vec<Asker>>,
}

/// A reload that reads.
struct UnderWay {
    scope: Scope,
    askers: Vec<Asker>,
    /// The service manager knows.
    is_told: bool,
}

impl Reloading {
    /// For a configuration that has just been read.
    pub(super) fn new(source: Source, text: String, places: &Places) -> Self {
        let watch = Watch::new(Fingerprints::take(places.files()));
        let threads = Threads::default();
        Self { source, text, ids: Ids::default(), watch, threads, under_way: None, next: None }
    }

    /// Whether one reads.
    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }
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
        self.begin_reload(Scope::NamedFiles(self.reloading.text.clone()), Vec::new(), ctx);
    }

    /// Somebody wants everything to be read: at once, or as soon as the one who reads has come to an end.
    fn reload(&mut self, asker: Option<Asker>, ctx: &mut Context<Self>) {
        if self.reloading.is_under_way() {
            self.reloading.next.get_or_insert_default().extend(asker);
        } else {
            self.begin_reload(Scope::Everything, asker.into_iter().collect(), ctx);
        }
    }

    /// Has a thread read and check. Nobody else does.
    fn begin_reload(&mut self, scope: Scope, askers: Vec<Asker>, ctx: &mut Context<Self>) {
        let is_told = self.is_ready && !self.stopping.is_asked_for();
        if is_told {
            self.manager.reloading();
        }
        let task = Task {
            source: self.reloading.source.clone(),
            scope: scope.clone(),
            known: self.reloading.watch.seen().clone(),
            config: Arc::clone(&self.parts.config),
            tls: self.parts.tls.clone(),
            logs: Arc::clone(&self.parts.logs),
        };
        self.reloading.under_way = Some(UnderWay { scope, askers, is_told });
        if self.stopping.is_asked_for() {
            return self.end_reload(Err(Absence::Ending), ctx);
        }
        let (mut told, progress) = match self.reloading.threads.begin(task) {
            Ok(begun) => begun,
            Err(error) => return self.end_reload(Err(Absence::NotBegun(error)), ctx),
        };
        let waiting = async move {
            let outcome = actix::clock::timeout(DEADLINE, &mut told).await;
            (outcome.map_err(|_| Absence::Late(progress)), told)
        };
        ctx.spawn(waiting.into_actor(self).map(|(outcome, told), supervisor, ctx| {
            if outcome.is_err() {
                supervisor.await_late(told, ctx);
            }
            let outcome = outcome.and_then(|told| told.map_err(|_| Absence::Panicked));
            supervisor.end_reload(outcome, ctx);
        }));
    }

    /// What nobody waited for in the end may have been a change of files that nobody else will notice.
    fn await_late(&self, told: oneshot::Receiver<Outcome>, ctx: &mut Context<Self>) {
        let is_of_files = |reload: &UnderWay| matches!(reload.scope, Scope::NamedFiles(_));
        if self.reloading.under_way.as_ref().is_some_and(is_of_files) {
            let late = told.into_actor(self);
            ctx.spawn(late.map(|_, supervisor, _| supervisor.reloading.watch.distrust()));
        }
    }

    /// The one who read has come to an end: applies what it has prepared, or tells why there is nothing.
    fn end_reload(&mut self, outcome: Result<Outcome, Absence>, ctx: &mut Context<Self>) {
        let Some(UnderWay { scope, askers, is_told }) = self.reloading.under_way.take() else { return };
        let outcome = if self.stopping.is_asked_for() { Err(Absence::Ending) } else { outcome };
        let (before, prepared) = match outcome {
            Ok(Outcome { before, prepared }) => (before, prepared),
            Err(absence) => {
                (self.reloading.watch.seen().clone(), Err(absence.faults(&self.reloading.source)))
            }
        };
        let (reloaded, taking) = match prepared.and_then(|prepared| self.identify(prepared)) {
            Ok(prepared) => self.put_in_force(prepared, scope.as_str(), ctx),
            Err(faults) => {
                // Of a request, the fault may be anywhere: files that have changed are still to be read.
                if scope != Scope::Everything {
                    self.reloading.watch.have_refused(before);
                }
                (refused(&self.parts.logs.logger("config"), &faults, scope.as_str()), async {}.boxed_local())
            }
        };
        if is_told && !self.stopping.is_asked_for() {
            self.manager.ready();
        }
        let answers = taking.map(move |()| {
            for asker in askers {
                // Who has asked may be gone.
                let _ = asker.send(reloaded.clone());
            }
        });
        ctx.spawn(answers.into_actor(self));
        if let Some(askers) = self.reloading.next.take() {
            self.begin_reload(Scope::Everything, askers, ctx);
        }
    }

    /// Gives what stays the identifiers that it has. The last step that can fail.
    fn identify(&mut self, mut prepared: Prepared) -> Result<Prepared, Faults> {
        let (leaving, closing) = self.listening.left();
        let used_up = self.reloading.ids.assign(&self.parts.config, &mut prepared.config, &leaving, &closing);
        used_up.map_err(|fault| Faults(vec![prepared.places.remark("", fault.to_string())]))?;
        Ok(prepared)
    }

    fn put_in_force(
        &mut self,
        mut prepared: Prepared,
        cause: &'static str,
        ctx: &mut Context<Self>,
    ) -> (Reloaded, Taking) {
        let log = self.parts.logs.logger("config");
        self.reloading.watch.have_read(std::mem::take(&mut prepared.read));
        self.reloading.text.clone_from(&prepared.text);
        let mut reloaded = told(&log, &prepared);
        let changes = reloaded.changes.len();
        let taken = self.apply(prepared, &mut reloaded, ctx).map(move |()| {
            info!(log, "reloaded"; "changes" => changes, "cause" => cause);
        });
        (reloaded, taken.boxed_local())
    }

    /// Puts it in force; nothing of this fails.
    fn apply(&mut self, prepared: Prepared, reloaded: &mut Reloaded, ctx: &mut Context<Self>) -> Taking {
        let Prepared { config, tls, places, .. } = prepared;
        let old = std::mem::replace(&mut self.parts.config, Arc::new(config));
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
                durability: config.registrar.durability,
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

/// A SIGHUP has come.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
struct HungUp;

impl Handler<HungUp> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: HungUp, ctx: &mut Context<Self>) {
        self.reload(None, ctx);
    }
}

impl Handler<Reload> for Supervisor {
    type Result = ResponseFuture<Reloaded>;

    fn handle(&mut self, _: Reload, ctx: &mut Context<Self>) -> ResponseFuture<Reloaded> {
        let (asker, told) = oneshot::channel();
        self.reload(Some(asker), ctx);
        let gone = Absence::Ending.faults(&self.reloading.source);
        Box::pin(told.map(move |told| told.unwrap_or_else(|_| faulty(&gone))))
    }
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

/// Says why nothing is.
fn refused(log: &Logger, faults: &Faults, cause: &'static str) -> Reloaded {
    error!(log, "reload_refused"; "faults" => faults.0.len(), "cause" => cause, "reason" => "nothing is changed");
    for fault in &faults.0 {
        error!(log, "configuration_faulty"; "key" => &fault.key, "place" => %fault.place, "reason" => &fault.text);
    }
    faulty(faults)
}

fn faulty(faults: &Faults) -> Reloaded {
    Reloaded { faults: faults.0.iter().map(as_reported).collect(), ..Reloaded::default() }
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
