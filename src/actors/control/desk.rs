//! The resources: what each path answers.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body as HttpBody;
use hyper::{Method, Request, Response, StatusCode};
use slog::{Logger, error, info, warn};
use tokio::task::spawn_local;

use super::SupervisorAddress;
use super::access::{Door, Refusal};
use super::answer::{Answer, Body, finish, not_allowed, page_file, refused};
use super::collect::{Collector, RELOAD_TIME};
use super::door::Deadline;
use super::exposition::Format;
use super::page;
use super::places::NoPlace;
use super::query::Query;
use super::report::{Endpoint, LogLevel, ServiceRecord};
use super::{events, tables, trace};
use crate::actors::directory::Directory;
use crate::actors::supervisor::describe::Description;
use crate::config::{self, LOG_MODULES};
use crate::diagnostics::{Diagnostics, LogLimit};

/// No body that is wanted is longer.
const MAXIMUM_BODY: usize = 64 * 1024;

/// Bindings in one page: at most, and where nothing is said.
const MAXIMUM_PAGE: usize = 10_000;
const USUAL_PAGE: usize = 1000;

/// Events: at most, and where nothing is said.
const MAXIMUM_EVENTS: usize = 1000;
const USUAL_EVENTS: usize = 30;

/// How a request has come in.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) door: Rc<Door>,
    /// Who asks, where that has an address.
    pub(super) peer: Option<SocketAddr>,
    pub(super) deadline: Deadline,
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Status,
    Interfaces,
    Routes,
    Peers,
    Registrations,
    Certificate,
    Events,
    Health,
    Metrics,
    LogLevel,
    Reload,
    Drain,
    Stop,
    Trace,
}

const TABLE: [(&str, Method, Resource); 14] = [
    ("/status", Method::GET, Resource::Status),
    ("/interfaces", Method::GET, Resource::Interfaces),
    ("/routes", Method::GET, Resource::Routes),
    ("/peers", Method::GET, Resource::Peers),
    ("/registrations", Method::GET, Resource::Registrations),
    ("/certificate", Method::GET, Resource::Certificate),
    ("/events", Method::GET, Resource::Events),
    ("/health", Method::GET, Resource::Health),
    ("/metrics", Method::GET, Resource::Metrics),
    ("/log-level", Method::PUT, Resource::LogLevel),
    ("/reload", Method::POST, Resource::Reload),
    ("/drain", Method::POST, Resource::Drain),
    ("/stop", Method::POST, Resource::Stop),
    ("/trace", Method::GET, Resource::Trace),
];

/// What is asked for.
struct Question {
    resource: Resource,
    /// A HEAD is answered as a GET would be, without the body; and whatever begins with that does not begin.
    is_head: bool,
    /// Of metrics.
    format: Format,
    query: Query,
    body: Bytes,
}

/// Who answers.
pub(super) struct Desk {
    collector: Collector,
    log: Logger,
    /// Who may not ask.
    security: Logger,
    /// Bounds the lines about them.
    refusals: LogLimit,
    /// Bounds those about connections for which there is no place.
    crowding: LogLimit,
    is_reloading: Cell<bool>,
}

/// Something is under way until this is dropped.
struct Busy<'a>(&'a Cell<bool>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Desk {
    pub(super) fn new(
        supervisor: SupervisorAddress,
        directory: Arc<Directory>,
        logs: Arc<Diagnostics>,
    ) -> Self {
        let (log, security) = (logs.logger("control"), logs.logger("security"));
        Self {
            collector: Collector::new(supervisor, directory, logs),
            log,
            security,
            refusals: LogLimit::default(),
            crowding: LogLimit::default(),
            is_reloading: Cell::new(false),
        }
    }

    /// What has become of listening.
    pub(super) fn note_endpoint(&self, endpoint: Endpoint) {
        self.collector.note_endpoint(endpoint);
    }

    /// There is no such place to listen any more.
    pub(super) fn forget_endpoint(&self, key: &str) {
        self.collector.forget_endpoint(key);
    }

    /// What the supervisor says now.
    pub(super) async fn description(&self) -> Option<Description> {
        self.collector.describe().await.filter(|(_, is_old)| !is_old).map(|(service, _)| service)
    }

    /// What DNS has said of the presence domains.
    pub(super) fn set_records(&self, records: Vec<ServiceRecord>) {
        self.collector.set_records(records);
    }

    /// Answers a request. One whose answer panics gets a 500, and nobody else notices.
    pub(super) async fn answer<B>(self: Rc<Self>, request: Request<B>, visit: Visit) -> Response<Body>
    where
        B: HttpBody + 'static,
        B::Data: 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let desk = Rc::clone(&self);
        let path = request.uri().path().to_owned();
        let answered = spawn_local(async move { desk.respond(request, &visit).await });
        answered.await.unwrap_or_else(|fault| {
            error!(self.log, "request_failed"; "path" => path, "reason" => %fault);
            let why = "the proxy has failed to answer this; its log says more".to_owned();
            finish(Answer::Problem(StatusCode::INTERNAL_SERVER_ERROR, why))
        })
    }

    async fn respond<B>(&self, request: Request<B>, visit: &Visit) -> Response<Body>
    where
        B: HttpBody,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        // Before it is asked who comes: there is nothing of the service in these, and a token is entered there.
        if let Some(asset) = page::find(head.uri.path()) {
            return page_file(asset, &head.method, &head.headers);
        }
        let service = self.collector.describe().await;
        let names = service.as_ref().map(|(service, _)| tables::own_names(service)).unwrap_or_default();
        if let Err(refusal) = visit.door.check(&head.method, &head.headers, &names) {
            self.tell_refused(visit, head.uri.path(), &refusal);
            return refused(&refusal);
        }
        let resource = match find(head.uri.path(), &head.method) {
            Ok(resource) => resource,
            Err(Missing::Path) => {
                let paths: Vec<_> = TABLE.iter().map(|(path, ..)| *path).collect();
                let why = format!("there is no {}, allowed: {}", head.uri.path(), paths.join(" "));
                return finish(Answer::Problem(StatusCode::NOT_FOUND, why));
            }
            Err(Missing::Method(allowed)) => return not_allowed(&head.method, &allowed),
        };
        let body = match Limited::new(body, MAXIMUM_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(fault) => {
                let why = format!("the body cannot be read ({fault}), allowed: {MAXIMUM_BODY} octets");
                return finish(Answer::Problem(StatusCode::PAYLOAD_TOO_LARGE, why));
            }
        };
        let Some((service, is_old)) = &service else { return finish(Answer::silent("supervisor")) };
        let question = Question {
            resource,
            is_head: head.method == Method::HEAD,
            format: Format::asked_for(&head.headers),
            query: Query::new(head.uri.query()),
            body,
        };
        let answered = self.answer_of(&question, (service, *is_old), visit).await;
        finish(answered.unwrap_or_else(|answer| answer))
    }

    fn tell_refused(&self, visit: &Visit, path: &str, refusal: &Refusal) {
        if let Some(repeated) = self.refusals.pass(Instant::now()) {
            warn!(self.security, "admin_refused"; "peer" => visit.peer.map(|peer| peer.to_string()), "path" => path,
                "status" => refusal.status.as_u16(), "reason" => refusal.why, "repeated" => repeated);
        }
    }

    /// Somebody has come for whom there is no place.
    pub(super) fn tell_full(&self, peer: Option<SocketAddr>, full: NoPlace) {
        if let Some(repeated) = self.crowding.pass(Instant::now()) {
            warn!(self.security, "admin_refused"; "peer" => peer.map(|peer| peer.to_string()),
                "status" => full.status().as_u16(), "reason" => full.why(), "repeated" => repeated);
        }
    }

    /// One at a time: what another asker wants to be read may be read already.
    async fn reload(&self, visit: &Visit) -> Result<Answer, Answer> {
        if self.is_reloading.replace(true) {
            let why = "another reload is under way: ask again when it is done".to_owned();
            return Err(Answer::Problem(StatusCode::CONFLICT, why));
        }
        let _busy = Busy(&self.is_reloading);
        visit.deadline.extend(2 * RELOAD_TIME);
        let reloaded = self.collector.reload().await.ok_or_else(|| Answer::silent("supervisor"))?;
        Ok(if reloaded.faults.is_empty() { Answer::json(&reloaded) } else { Answer::faulty(&reloaded) })
    }

    /// An `Err` is an answer, too: the one to a question that makes no sense.
    async fn answer_of(
        &self,
        question: &Question,
        (service, is_old): (&Description, bool),
        visit: &Visit,
    ) -> Result<Answer, Answer> {
        let &Question { resource, is_head, format, ref query, ref body } = question;
        if !matches!(resource, Resource::Registrations | Resource::Events | Resource::Trace) {
            query.allow(&[]).map_err(Answer::bad)?;
        }
        let resolver = || Answer::silent("federation resolver");
        Ok(match resource {
            Resource::Status => Answer::json(&self.collector.status((service, is_old)).await),
            Resource::Interfaces => Answer::json(&self.collector.interfaces(service).await),
            Resource::Routes => Answer::json(&self.collector.routes(service).await.ok_or_else(resolver)?),
            Resource::Peers => Answer::json(&self.collector.peers(service).await),
            Resource::Registrations => self.registrations(query).await?,
            Resource::Events => self.events(query, visit, is_head)?,
            Resource::Certificate => Answer::json(&self.collector.certificate(service)),
            Resource::Health => match self.collector.health((service, is_old)).await {
                Ok(well) => Answer::Text(StatusCode::OK, well),
                Err(why) => Answer::Text(StatusCode::SERVICE_UNAVAILABLE, why),
            },
            Resource::Metrics => Answer::Metrics(format, self.collector.metrics(service).await),
            Resource::Reload => self.reload(visit).await?,
            Resource::Drain => self.stop(true).await?,
            Resource::Stop => self.stop(false).await?,
            Resource::LogLevel => self.set_log_level(body)?,
            Resource::Trace => self.trace(query, service, visit, is_head)?,
        })
    }

    async fn registrations(&self, query: &Query) -> Result<Answer, Answer> {
        query.allow(&["aor", "limit", "after"]).map_err(Answer::bad)?;
        let of = query.address_of_record("aor").map_err(Answer::bad)?;
        let after = query.address_of_record("after").map_err(Answer::bad)?;
        let limit = query.number("limit", 1..=MAXIMUM_PAGE, USUAL_PAGE).map_err(Answer::bad)?;
        let found = match of {
            Some(name) => self.collector.registrations_of(name).await,
            None => self.collector.registrations(after, limit).await,
        };
        found.map(|found| Answer::json(&found)).ok_or_else(|| Answer::silent("registrar"))
    }

    fn events(&self, query: &Query, visit: &Visit, is_head: bool) -> Result<Answer, Answer> {
        query.allow(&["limit", "follow"]).map_err(Answer::bad)?;
        let limit = query.number("limit", 0..=MAXIMUM_EVENTS, USUAL_EVENTS).map_err(Answer::bad)?;
        let logs = self.collector.logs();
        if query.switch("follow").map_err(Answer::bad)? {
            if is_head {
                return Ok(Answer::Lines(Box::pin(futures_util::stream::empty())));
            }
            Ok(Answer::Lines(events::follow(logs.events(), limit, visit.deadline.clone())))
        } else {
            Ok(Answer::json(&logs.events().last(limit)))
        }
    }

    fn trace(
        &self,
        query: &Query,
        service: &Description,
        visit: &Visit,
        is_head: bool,
    ) -> Result<Answer, Answer> {
        let asked = trace::Asked::new(query)?;
        if is_head {
            return asked.head(self.collector.trace()).map(Answer::Lines);
        }
        let keys = trace::Keys::new(service, self.collector.supervisor().describe.clone());
        asked.follow(self.collector.trace(), keys, visit.deadline.clone(), &self.log).map(Answer::Lines)
    }

    async fn stop(&self, drain: bool) -> Result<Answer, Answer> {
        info!(self.log, "end_asked_for"; "drain" => drain);
        self.collector.stop(drain).await.map(|()| Answer::Done).ok_or_else(|| Answer::silent("supervisor"))
    }

    fn set_log_level(&self, body: &[u8]) -> Result<Answer, Answer> {
        let LogLevel { module, level } = serde_json::from_slice(body).map_err(|fault| {
            Answer::bad(format!("{fault}, allowed: {{\"module\": \"router\", \"level\": \"debug\"}}"))
        })?;
        let Some(wanted) = config::LogLevel::parse(&level) else {
            let levels = config::LogLevel::ALL.map(config::LogLevel::as_str).join(" ");
            return Err(Answer::bad(format!("`{level}` is no level, allowed: {levels}")));
        };
        if let Some(unknown) = module.as_deref().filter(|module| !LOG_MODULES.contains(module)) {
            let modules = LOG_MODULES.join(" ");
            return Err(Answer::bad(format!("`{unknown}` is no module, allowed: {modules}")));
        }
        self.collector.logs().levels().set(module.as_deref(), wanted);
        info!(self.log, "log_level_changed"; "of" => module.as_deref().unwrap_or("default"), "to" => level);
        Ok(Answer::Done)
    }
}

enum Missing {
    Path,
    Method(Vec<Method>),
}

fn find(path: &str, method: &Method) -> Result<Resource, Missing> {
    let mut allowed = Vec::new();
    for (known, takes, resource) in &TABLE {
        if *known == path {
            if takes == method || (*takes == Method::GET && *method == Method::HEAD) {
                return Ok(*resource);
            }
            allowed.push(takes.clone());
        }
    }
    Err(if allowed.is_empty() { Missing::Path } else { Missing::Method(allowed) })
}

#[cfg(test)]
mod tests;
