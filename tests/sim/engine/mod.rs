//! The proxy under test: Routers and Registrar around their cores, with mailboxes that lose what their actor loses.
//!
//! What the shells in `src/actors` do between the cores is done here in virtual time. Each actor reads its mail in the
//! order in which it was sent, some time later than others do; what stands in the mailbox of one that panics is gone.

mod journal;
mod mail;
mod shells;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip_proxy::actors::directory::{ConnectionLimits, Directory};
use sip_proxy::protocol::interface::Interfaces;
use sip_proxy::protocol::location::Location;
use sip_proxy::protocol::proxy::settings::Settings;
use sip_proxy::protocol::proxy::{EventDetail, Proxy, Secrets};
use sip_proxy::protocol::record_route::TokenKey;

use crate::random::Random;
use crate::setup::{self, INTERFACES, LocationKeys, Profile};
use crate::world::{Happening, World};
use journal::{Journal, Outbox};
pub(crate) use mail::Mail;

/// Who sends mail and who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actor {
    Router(usize),
    Registrar,
}

/// One Router, until it panics.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) core: Proxy,
    /// No two Routers of a run have the same, one after the other neither.
    pub(crate) incarnation: u32,
    /// It is kept from working until then.
    stalled_until: Duration,
}

/// The Registrar, until it panics.
#[derive(Debug)]
pub(crate) struct Registrar {
    pub(crate) core: Location,
    incarnation: u32,
    outbox: Outbox,
    /// Till then it waits for what the Journal has kept, and does nothing.
    waits_until: Option<Duration>,
}

/// One process, and what outlives it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) directory: Arc<Directory>,
    /// Empty while one is away.
    pub(crate) routers: Vec<Option<Router>>,
    pub(crate) registrar: Option<Registrar>,
    pub(crate) journal: Journal,
    /// Counts the processes; odd while there is one.
    pub(crate) process: u32,
    /// The process is to end soon.
    pub(crate) is_ending: bool,
    settings: Arc<Settings>,
    interfaces: Arc<Interfaces>,
    secrets: Secrets,
    location_keys: LocationKeys,
    has_registrar: bool,
    incarnations: u32,
    /// When the latest mail of each is read.
    mailboxes: BTreeMap<Actor, Duration>,
    token_key: TokenKey,
}

impl Engine {
    pub(crate) fn new(profile: &Profile, random: &mut Random, epoch: Instant) -> Self {
        let token_key = TokenKey::new(random.octets());
        Self {
            directory: directory(profile.routers, random),
            routers: (0..profile.routers).map(|_| None).collect(),
            registrar: None,
            journal: Journal::default(),
            process: 0,
            is_ending: false,
            settings: setup::settings(profile),
            interfaces: setup::interfaces(),
            secrets: secrets(&token_key, random, epoch),
            location_keys: location_keys(&token_key, random),
            has_registrar: false,
            incarnations: 0,
            mailboxes: BTreeMap::new(),
            token_key,
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.process % 2 == 1
    }

    fn incarnation(&self, actor: Actor) -> Option<u32> {
        match actor {
            Actor::Router(index) => self.routers[index].as_ref().map(|router| router.incarnation),
            Actor::Registrar => self.registrar.as_ref().map(|registrar| registrar.incarnation),
        }
    }

    fn next_incarnation(&mut self) -> u32 {
        self.incarnations += 1;
        self.incarnations
    }

    /// Whether every actor is there.
    pub(crate) fn is_whole(&self) -> bool {
        let has_registrar = self.registrar.as_ref().is_some_and(|registrar| registrar.waits_until.is_none());
        has_registrar && self.routers.iter().all(Option::is_some)
    }

    /// When the next timer of a core is due, and whose it is.
    pub(crate) fn next_timer(&self, epoch: Instant) -> Option<(Duration, Actor)> {
        let since = |at: Instant| at.saturating_duration_since(epoch);
        let routers = self.routers.iter().enumerate().filter_map(|(index, router)| {
            let router = router.as_ref()?;
            let due = since(router.core.poll_timeout()?);
            Some((due.max(router.stalled_until), Actor::Router(index)))
        });
        let registrar = self.registrar.as_ref().and_then(|registrar| registrar.core.next_timeout());
        routers.chain(registrar.map(|at| (since(at), Actor::Registrar))).min()
    }
}

fn directory(cores: usize, random: &mut Random) -> Arc<Directory> {
    let limits = ConnectionLimits { total: 1000, per_address: 1000 };
    Arc::new(Directory::new(cores, INTERFACES.len(), limits, random.octets()))
}

fn location_keys(token_key: &TokenKey, random: &mut Random) -> LocationKeys {
    LocationKeys { hash: random.octets(), gruus: token_key.derive("temporary GRUUs") }
}

fn secrets(token_key: &TokenKey, random: &mut Random, epoch: Instant) -> Secrets {
    Secrets {
        transaction_key: random.octets(),
        nonce_key: random.octets(),
        token_key: token_key.clone(),
        epoch,
    }
}

/// What goes wrong in the proxy, or is done to it.
impl World<'_> {
    /// Starts all actors, with secrets of this process.
    pub(crate) fn start_process(&mut self) {
        let now = self.instant();
        let engine = &mut self.engine;
        engine.process += 1;
        engine.is_ending = false;
        engine.has_registrar = false;
        engine.directory = directory(engine.routers.len(), &mut self.random);
        engine.secrets = secrets(&engine.token_key, &mut self.random, now);
        engine.location_keys = location_keys(&engine.token_key, &mut self.random);
        engine.mailboxes.clear();
        self.model.process_started(self.now);
        self.start_journal(false);
        for index in 0..self.engine.routers.len() {
            self.start_router(index);
        }
        self.start_registrar();
        self.trace.note(self.now, || "the process has started".to_owned());
    }

    /// Ends all actors and connections at once; in peace, what has changed is written before.
    pub(crate) fn stop_process(&mut self, is_in_peace: bool) {
        if is_in_peace {
            self.finish_journal();
        }
        if self.engine.journal.is_there() {
            self.end_journal();
        }
        self.trace.note(self.now, || "the process has ended".to_owned());
        self.engine.process += 1;
        for index in 0..self.engine.routers.len() {
            self.end_router(index);
        }
        self.engine.registrar = None;
        self.model.registrar_ended(self.now);
        self.lose_connections();
    }

    fn start_router(&mut self, index: usize) {
        let now = self.instant();
        let seed = self.random.next();
        let engine = &mut self.engine;
        let number = u8::try_from(index).expect("there are a few");
        let (settings, interfaces) = (Arc::clone(&engine.settings), Arc::clone(&engine.interfaces));
        let mut core = Proxy::new(number, settings, interfaces, &engine.secrets, seed, now);
        core.set_detail(EventDetail::Transactions);
        let incarnation = engine.next_incarnation();
        engine.routers[index] = Some(Router { core, incarnation, stalled_until: Duration::ZERO });
        self.model.router_started(incarnation);
    }

    fn end_router(&mut self, index: usize) {
        if let Some(router) = self.engine.routers[index].take() {
            self.model.router_ended(self.now, router.incarnation);
        }
    }

    fn start_registrar(&mut self) {
        let succeeded = self.engine.has_registrar.then(|| self.instant());
        let seed = self.random.octets();
        let engine = &mut self.engine;
        let (epoch, keys) = (engine.secrets.epoch, &engine.location_keys);
        let settings = setup::location_settings(&engine.settings, epoch, succeeded, keys, seed);
        engine.has_registrar = true;
        let incarnation = engine.next_incarnation();
        let core = Location::new(settings);
        let outbox = Outbox::default();
        engine.registrar = Some(Registrar { core, incarnation, outbox, waits_until: Some(self.now) });
        self.model.registrar_started(self.now);
        if succeeded.is_some() {
            for index in 0..self.engine.routers.len() {
                self.post(Actor::Router(index), Mail::RegistrarRestarted);
            }
        }
        self.load(incarnation);
    }

    /// A Router or the Registrar panics. The supervisor builds it anew at once, or after a while.
    pub(crate) fn crash(&mut self, actor: Actor) {
        self.trace.note(self.now, || format!("{actor} panics"));
        match actor {
            Actor::Router(index) => self.end_router(index),
            _ => {
                self.engine.registrar = None;
                self.model.registrar_ended(self.now);
            }
        }
        let wait = self.random.weigh(&[(3, Duration::ZERO), (1, Duration::from_millis(100))]);
        let process = self.engine.process;
        self.schedule(wait, Happening::ActorStarts { actor, process });
    }

    /// The supervisor has built an actor anew. A Registrar tells the Routers itself; of a Router the Registrar hears a
    /// little later.
    pub(crate) fn actor_starts(&mut self, actor: Actor, process: u32) {
        if process != self.engine.process {
            return;
        }
        match actor {
            Actor::Router(index) if self.engine.routers[index].is_none() => self.start_router(index),
            Actor::Registrar if self.engine.registrar.is_none() => return self.start_registrar(),
            _ => return,
        }
        let longest = self.random.pick(&[1, 60]);
        let wait = self.random.millis(0, longest);
        self.mail_under_way += 1;
        self.schedule(wait, Happening::ActorIntroduced { actor, process });
    }

    pub(crate) fn actor_introduced(&mut self, actor: Actor, process: u32) {
        self.mail_under_way -= 1;
        if process != self.engine.process {
            return;
        }
        if let Actor::Router(index) = actor {
            self.post(Actor::Registrar, Mail::RouterRestarted(index));
        }
    }

    /// The Journal panics, and is built anew.
    pub(crate) fn crash_journal(&mut self) {
        if !self.engine.journal.is_there() {
            return;
        }
        self.trace.note(self.now, || "the journal panics".to_owned());
        self.end_journal();
        let wait = self.random.weigh(&[(3, Duration::ZERO), (1, Duration::from_millis(100))]);
        let process = self.engine.process;
        self.schedule(wait, Happening::JournalStarts { process });
    }

    /// A Router is kept from working for a while.
    pub(crate) fn stall(&mut self, index: usize, time: Duration) {
        let until = self.now + time;
        if let Some(router) = &mut self.engine.routers[index] {
            router.stalled_until = router.stalled_until.max(until);
            self.model.stalled(router.incarnation, router.stalled_until);
            self.trace.note(self.now, || format!("router {index} stalls for {time:?}"));
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router(index) => write!(f, "router {index}"),
            Self::Registrar => f.write_str("registrar"),
        }
    }
}
