//! Asks the other actors, and makes reports of their answers. Nobody is waited for longer than [`PATIENCE`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::{Message, Recipient};
use futures_util::future::{join, join3};
use tokio::time::timeout;

use super::metrics::Gauges;
use super::report::{
    Certificate, Endpoint, Interface, Peer, RegistrationCount, Registrations, Reloaded, Route, Server,
    ServiceRecord, Status,
};
use super::tables::{self, Connected};
use super::{SupervisorAddress, metrics};
use crate::actors::directory::Directory;
use crate::actors::federation_resolver::{CountWaiting, ListRoutes, RouteListed};
use crate::actors::registrar::{ListRegistrations, ListServers};
use crate::actors::supervisor::Stop;
use crate::actors::supervisor::describe::{Describe, Description};
use crate::actors::supervisor::reload::Reload;
use crate::actors::trace::Trace;
use crate::diagnostics::Diagnostics;
use crate::diagnostics::queues::Queue;
use crate::protocol::location::{AddressOfRecord, Page, Place};
use crate::protocol::next_hop::resolver::{MAXIMUM_ASKERS, MAXIMUM_LOOK_UPS, MAXIMUM_QUESTIONS, Waiting};

/// How long somebody who is asked may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a reload may take.
pub(super) const RELOAD_TIME: Duration = Duration::from_secs(50);

/// Events in `GET /status`.
const EVENTS: usize = 30;

/// Connections that are looked at under the lock of their table at once.
const CONNECTIONS_AT_ONCE: usize = 512;

/// UC servers and peers of one report.
const MAXIMUM_ROWS: usize = 1000;

/// Asks.
pub(super) struct Collector {
    supervisor: SupervisorAddress,
    directory: Arc<Directory>,
    logs: Arc<Diagnostics>,
    /// What the supervisor has told last.
    known: RefCell<Option<Description>>,
    endpoints: RefCell<BTreeMap<String, Endpoint>>,
    records: RefCell<Vec<ServiceRecord>>,
}

/// Who has not answered.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Vec<String>);

impl Unanswered {
    fn note<T: Default>(&mut self, who: &str, answer: Option<T>) -> T {
        answer.unwrap_or_else(|| {
            self.0.push(who.to_owned());
            T::default()
        })
    }
}

impl Collector {
    pub(super) fn new(
        supervisor: SupervisorAddress,
        directory: Arc<Directory>,
        logs: Arc<Diagnostics>,
    ) -> Self {
        Self {
            supervisor,
            directory,
            logs,
            known: RefCell::default(),
            endpoints: RefCell::default(),
            records: RefCell::default(),
        }
    }

    /// What has become of listening.
    pub(super) fn note_endpoint(&self, endpoint: Endpoint) {
        self.endpoints.borrow_mut().insert(endpoint.key.clone(), endpoint);
    }

    /// There is no such place any more.
    pub(super) fn forget_endpoint(&self, key: &str) {
        self.endpoints.borrow_mut().remove(key);
    }

    /// What DNS has said of the presence domains.
    pub(super) fn set_records(&self, records: Vec<ServiceRecord>) {
        *self.records.borrow_mut() = records;
    }

    /// The log, whose levels and events are here.
    pub(super) fn logs(&self) -> &Diagnostics {
        &self.logs
    }

    /// Who knows of the service as a whole.
    pub(super) const fn supervisor(&self) -> &SupervisorAddress {
        &self.supervisor
    }

    /// Who watches messages pass.
    pub(super) fn trace(&self) -> &Arc<Trace> {
        self.directory.trace()
    }

    /// What the supervisor says; where it does not answer, what it has said before, and then true.
    pub(super) async fn describe(&self) -> Option<(Description, bool)> {
        if let Some(description) = ask(&self.supervisor.describe, Describe).await {
            *self.known.borrow_mut() = Some(description.clone());
            return Some((description, false));
        }
        self.known.borrow().clone().map(|description| (description, true))
    }

    /// `GET /status`.
    pub(super) async fn status(&self, (service, is_old): (&Description, bool)) -> Status {
        let mut unanswered = Unanswered(is_old.then(|| "supervisor".to_owned()).into_iter().collect());
        let (routes, servers, count) = join3(self.ask_routes(), self.servers(service), self.count()).await;
        let routes = unanswered.note("federation_resolver", routes);
        let registered = servers.and_then(|servers| Some((servers, count?)));
        let (servers, registrations) = unanswered.note("registrar", registered);
        let connected = self.connected(service).await;
        let interfaces = tables::interfaces(service, &connected);
        let config = &service.config;
        let routes = tables::routes(config, &routes);
        Status {
            state: tables::state(service, &interfaces, &routes),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: tables::time(service.times.started),
            uptime_seconds: service.times.begun.elapsed().as_secs(),
            configuration: config.file.display().to_string(),
            configured: tables::time(service.times.configured),
            presence_domains: config.service.presence_domains.clone(),
            interfaces,
            static_routes_enabled: !config.switched_off.static_routes,
            routes,
            servers,
            peers: connected.peers,
            registrations,
            federation: tables::federation(config, self.records.borrow().clone()),
            nat: tables::nat(service),
            certificate: self.certificate(service),
            settings: tables::settings(config, &self.logs),
            events: self.logs.events().last(EVENTS),
            endpoints: self.endpoints.borrow().values().cloned().collect(),
            unanswered: unanswered.0,
        }
    }

    /// `POST /reload`, which may wait for files, and for every part of the service.
    pub(super) async fn reload(&self) -> Option<Reloaded> {
        timeout(RELOAD_TIME, self.supervisor.reload.send(Reload)).await.ok()?.ok()
    }

    /// `POST /stop` and `POST /drain`: whether the supervisor has been told.
    pub(super) async fn stop(&self, drain: bool) -> Option<()> {
        ask(&self.supervisor.stop, Stop { drain }).await
    }

    /// `GET /routes`.
    pub(super) async fn routes(&self, service: &Description) -> Option<Vec<Route>> {
        Some(tables::routes(&service.config, &self.ask_routes().await?))
    }

    async fn ask_routes(&self) -> Option<Vec<RouteListed>> {
        let resolver = self.directory.federation_resolver().as_deref()?.routes.clone();
        ask(&resolver, ListRoutes).await
    }

    async fn servers(&self, service: &Description) -> Option<Vec<Server>> {
        let registrar = self.directory.registrar().as_deref()?.servers.clone();
        let servers = ask(&registrar, ListServers { count: MAXIMUM_ROWS }).await?;
        Some(servers.into_iter().map(|server| tables::server(&service.config, server)).collect())
    }

    async fn count(&self) -> Option<RegistrationCount> {
        // Nobody is behind the last shard.
        let page = self.page(ListRegistrations::From { place: Place::Shard(usize::MAX), count: 1 }).await?;
        Some(RegistrationCount { addresses_of_record: page.names, bindings: page.bindings })
    }

    async fn page(&self, question: ListRegistrations) -> Option<Page> {
        let registrar = self.directory.registrar().as_deref()?.registrations.clone();
        ask(&registrar, question).await
    }

    /// `GET /registrations` of one address-of-record.
    pub(super) async fn registrations_of(&self, name: AddressOfRecord) -> Option<Registrations> {
        let page = self.page(ListRegistrations::Of(name)).await?;
        Some(tables::registrations(page, Vec::new()))
    }

    /// `GET /registrations`: at least `limit` of them behind `after`, as far as there are so many. Each piece is a turn of
    /// the Registrar's, and SIP has its own in between.
    pub(super) async fn registrations(
        &self,
        after: Option<AddressOfRecord>,
        limit: usize,
    ) -> Option<Registrations> {
        let mut listed = Vec::new();
        let mut place = after.map_or(Place::Shard(0), Place::Behind);
        loop {
            let count = limit.saturating_sub(listed.len());
            let mut page = self.page(ListRegistrations::From { place, count }).await?;
            listed.append(&mut page.listed);
            match page.next.take() {
                Some(next) if listed.len() < limit => place = next,
                next => {
                    page.next = next;
                    return Some(tables::registrations(page, listed));
                }
            }
        }
    }

    /// All connections, looked at in pieces.
    async fn connected(&self, service: &Description) -> Connected {
        let mut connected = Connected::default();
        let mut last = None;
        loop {
            let found = self.directory.connections_behind(last, CONNECTIONS_AT_ONCE);
            let Some((id, _)) = found.last() else { break };
            last = Some(*id);
            for established in found.into_iter().filter_map(|(_, established)| established) {
                connected.note(&service.config, &established, MAXIMUM_ROWS);
            }
            tokio::task::yield_now().await;
        }
        connected
    }

    /// `GET /peers`.
    pub(super) async fn peers(&self, service: &Description) -> Vec<Peer> {
        self.connected(service).await.peers
    }

    /// `GET /health`: why the service does not work, if it does not.
    pub(super) async fn health(&self, (service, is_old): (&Description, bool)) -> Result<String, String> {
        let interfaces = tables::interfaces(service, &Connected::default());
        let is_deaf = |interface: &&Interface| interface.status == "not_listening";
        let deaf: Vec<_> = interfaces.iter().filter(is_deaf).map(|interface| &*interface.key).collect();
        if is_old {
            return Err("the supervisor does not answer".to_owned());
        } else if service.is_stopping {
            return Err("the service ends".to_owned());
        } else if !service.is_ready {
            return Err("the service is starting".to_owned());
        } else if !interfaces.iter().any(|interface| interface.status == "listening") {
            return Err("no interface listens".to_owned());
        } else if self.count().await.is_none() {
            return Err("the registrar does not answer".to_owned());
        }
        Ok(if deaf.is_empty() {
            "ok".to_owned()
        } else {
            format!("ok, but not listening: {}", deaf.join(", "))
        })
    }

    async fn waiting(&self) -> Option<Waiting> {
        let resolver = self.directory.federation_resolver().as_deref()?.waiting.clone();
        ask(&resolver, CountWaiting).await
    }

    /// `GET /metrics`.
    pub(super) async fn metrics(&self, service: &Description) -> String {
        let (count, waiting) = join(self.count(), self.waiting()).await;
        let now = SystemTime::now();
        let turns = service.shaper.waiting(Instant::now());
        let queues = [self.logs.queue(), Queue { name: "peer_requests", length: turns, capacity: None }];
        let gauges = Gauges {
            uptime: service.times.begun.elapsed(),
            addresses_of_record: count.map(|count| count.addresses_of_record),
            bindings: count.map(|count| count.bindings),
            interfaces: (service.interfaces.count(), service.config.interfaces.len()),
            log_lines_dropped: self.logs.dropped(),
            certificate_seconds: service.config.certificate.as_ref().map(|own| seconds(now, own.not_after)),
            queues: queues.into_iter().chain(waiting.into_iter().flat_map(look_ups)).collect(),
        };
        metrics::scrape(&self.directory, gauges).await
    }

    /// `GET /interfaces`.
    pub(super) async fn interfaces(&self, service: &Description) -> Vec<Interface> {
        tables::interfaces(service, &self.connected(service).await)
    }

    /// `GET /certificate`.
    pub(super) fn certificate(&self, service: &Description) -> Option<Certificate> {
        service.config.certificate.as_ref().map(|own| tables::certificate(own, SystemTime::now()))
    }
}

/// What waits for name servers.
fn look_ups(waiting: Waiting) -> [Queue; 3] {
    let Waiting { questions, askers, look_ups } = waiting;
    [
        ("look_up_requests", askers, MAXIMUM_ASKERS),
        ("look_up_questions", questions, MAXIMUM_QUESTIONS),
        ("look_ups", look_ups, MAXIMUM_LOOK_UPS),
    ]
    .map(|(name, length, capacity)| Queue { name, length, capacity: Some(capacity) })
}

/// From `now` until `end`; negative where that is over.
fn seconds(now: SystemTime, end: SystemTime) -> i64 {
    let whole = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    end.duration_since(now).map_or_else(|over| -whole(over.duration()), whole)
}

/// Asks somebody. `None`: nobody is there, or takes too long.
pub(super) async fn ask<M>(whom: &Recipient<M>, question: M) -> Option<M::Result>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    timeout(PATIENCE, whom.send(question)).await.ok()?.ok()
}
