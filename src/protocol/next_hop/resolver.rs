//! The resolver: who waits for which look-ups, what is kept of them, and what is answered.
//!
//! Holds no clock and no socket: pass `now`, drain [`Resolver::poll_output`], arm a timer at
//! [`Resolver::poll_timeout`]. Each [`Output::LookUp`] must be answered by [`Resolver::handle_answer`] some time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{Cache, Cached};
use super::health::{Health, Outcome};
use super::records::{Answer, Failure, Key};
use super::search::{Found, search};
use super::{Query, Resolution, Server, Unresolved};
use crate::protocol::flow::Transport;
use crate::protocol::interface::Interfaces;
use crate::protocol::message::uri::Host;
use crate::protocol::random::Random;

/// Questions that wait for look-ups, each once.
pub const MAXIMUM_QUESTIONS: usize = 1024;

/// Requests that wait for the answer to one question.
pub const MAXIMUM_ASKERS: usize = 16_384;

/// Look-ups under way.
pub const MAXIMUM_LOOK_UPS: usize = 1024;

/// Look-ups under way for one question, so that no domain has them all.
pub const LOOK_UPS_OF_A_QUESTION: usize = 16;

/// What the resolver wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<T> {
    /// Ask the name servers.
    LookUp(Key),
    /// Those who have asked get this.
    Resolved {
        /// Who.
        askers: Vec<T>,
        /// What.
        resolution: Resolution,
    },
    /// Something to log.
    Event(Event),
}

/// What is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A question has been answered with servers.
    Answered {
        /// The question.
        query: Query,
        /// How many.
        servers: usize,
    },
    /// There is no server.
    Failed {
        /// The question.
        query: Query,
        /// Why.
        cause: Unresolved,
    },
    /// Servers of a domain are ourselves: to send there would be to send in a circle.
    LeadsToOurselves {
        /// The question.
        query: Query,
        /// One of our addresses among them.
        address: SocketAddr,
    },
}

/// A question that waits for look-ups.
#[derive(Debug)]
struct Question<T> {
    query: Query,
    askers: Vec<T>,
    deadline: Instant,
    awaited: Vec<Key>,
}

/// How much a [`Resolver`] has under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Questions that wait for look-ups.
    pub questions: usize,
    /// Requests that wait for the answers to those.
    pub askers: usize,
    /// Look-ups.
    pub look_ups: usize,
}

/// Questions, look-ups, and what is known. `T` stands for who asks.
#[derive(Debug)]
pub struct Resolver<T> {
    budget: Duration,
    interfaces: Arc<Interfaces>,
    cache: Cache,
    health: Health,
    random: Random,
    questions: HashMap<u64, Question<T>>,
    by_query: HashMap<Query, u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    next_question: u64,
    /// How many wait in all.
    askers: usize,
    /// By what is looked up, the questions that it may carry on. None: what is stale is being replaced.
    look_ups: HashMap<Key, Vec<u64>>,
    outputs: VecDeque<Output<T>>,
}

impl<T> Resolver<T> {
    /// A resolver that knows nothing. A question has `budget` for all of its look-ups.
    pub fn new(budget: Duration, interfaces: Arc<Interfaces>, seed: [u8; 16]) -> Self {
        Self {
            budget,
            interfaces,
            cache: Cache::new(),
            health: Health::new(),
            random: Random::new(seed, 0),
            questions: HashMap::new(),
            by_query: HashMap::new(),
            deadlines: BTreeSet::new(),
            next_question: 0,
            askers: 0,
            look_ups: HashMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// What is under way.
    pub fn waiting(&self) -> Waiting {
        Waiting { questions: self.questions.len(), askers: self.askers, look_ups: self.look_ups.len() }
    }

    /// From now on, questions have this budget.
    pub const fn set_budget(&mut self, budget: Duration) {
        self.budget = budget;
    }

    /// Forgets what was looked up: other name servers may say something else. What is being looked up goes on.
    pub fn forget_answers(&mut self) {
        self.cache = Cache::new();
    }

    /// What listens now: servers that are ourselves are left out.
    pub fn set_interfaces(&mut self, interfaces: Arc<Interfaces>) {
        self.interfaces = interfaces;
    }

    /// Somebody asks. The answer is at hand, or comes when its look-ups have been made.
    pub fn handle_question(&mut self, now: Instant, asker: T, query: Query) {
        if let Some(question) = self.by_query.get(&query).and_then(|id| self.questions.get_mut(id)) {
            if self.askers >= MAXIMUM_ASKERS {
                return self.refuse(vec![asker], query);
            }
            self.askers += 1;
            question.askers.push(asker);
            return;
        }
        match self.search(now, &query, false) {
            Found::Missing(keys) => self.wait(now, asker, query, keys),
            found => self.conclude(now, vec![asker], query, found),
        }
    }

    /// A look-up has ended. `ttl` is that of the records or, of their absence, what the SOA record says.
    pub fn handle_answer(&mut self, now: Instant, key: &Key, answer: Answer, ttl: Option<Duration>) {
        let Some(waiting) = self.look_ups.remove(key) else { return };
        self.cache.insert(now, key.clone(), answer, ttl);
        for id in waiting {
            if let Some(question) = self.questions.get_mut(&id) {
                question.awaited.retain(|awaited| awaited != key);
                self.carry_on(now, id, false);
            }
        }
    }

    /// What became of an attempt to reach a server.
    pub fn handle_outcome(
        &mut self,
        now: Instant,
        transport: Transport,
        remote: SocketAddr,
        outcome: Outcome,
    ) {
        self.health.report(now, transport, remote, outcome);
    }

    /// Answers the questions whose time is up with what is known by now.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.pop_first();
            self.carry_on(now, id, true);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output<T>> {
        self.outputs.pop_front()
    }

    /// Searches in what is known, and has what is stale looked up anew. When its time `is_over`, what is unknown
    /// counts as not answered.
    fn search(&mut self, now: Instant, query: &Query, is_over: bool) -> Found {
        let (cache, random) = (&mut self.cache, &mut self.random);
        let mut stale = Vec::new();
        let mut known = |key: &Key| match cache.get(now, key) {
            Some(Cached { answer, wants_refresh }) => {
                if wants_refresh && !stale.contains(key) {
                    stale.push(key.clone());
                }
                Some(answer)
            }
            None => is_over.then(|| Arc::new(Err(Failure::Timeout))),
        };
        let found = search(query, random, &mut known);
        for key in stale {
            self.look_up(&key);
        }
        found
    }

    /// Whether the look-up is under way.
    fn look_up(&mut self, key: &Key) -> bool {
        if self.look_ups.contains_key(key) {
            return true;
        }
        if self.look_ups.len() >= MAXIMUM_LOOK_UPS {
            return false;
        }
        self.look_ups.insert(key.clone(), Vec::new());
        self.outputs.push_back(Output::LookUp(key.clone()));
        true
    }

    fn wait(&mut self, now: Instant, asker: T, query: Query, keys: Vec<Key>) {
        if self.questions.len() >= MAXIMUM_QUESTIONS || self.askers >= MAXIMUM_ASKERS {
            return self.refuse(vec![asker], query);
        }
        let id = self.next_question;
        self.next_question += 1;
        let awaited = self.begin_look_ups(id, Vec::new(), keys);
        if awaited.is_empty() {
            return self.refuse(vec![asker], query);
        }
        let deadline = now + self.budget;
        self.askers += 1;
        self.by_query.insert(query.clone(), id);
        self.deadlines.insert((deadline, id));
        self.questions.insert(id, Question { query, askers: vec![asker], deadline, awaited });
    }

    /// Begins as many of the look-ups that a question lacks as there is room for.
    fn begin_look_ups(&mut self, id: u64, mut awaited: Vec<Key>, missing: Vec<Key>) -> Vec<Key> {
        for key in missing {
            if awaited.len() >= LOOK_UPS_OF_A_QUESTION {
                break;
            }
            if awaited.contains(&key) || !self.look_up(&key) {
                continue;
            }
            self.look_ups.entry(key.clone()).or_default().push(id);
            awaited.push(key);
        }
        awaited
    }

    /// A question goes on: to its end, or to its next look-ups.
    fn carry_on(&mut self, now: Instant, id: u64, is_over: bool) {
        let Some(question) = self.questions.get_mut(&id) else { return };
        let (query, awaited) = (question.query.clone(), std::mem::take(&mut question.awaited));
        let found = match self.search(now, &query, is_over) {
            Found::Missing(keys) => {
                let awaited = self.begin_look_ups(id, awaited, keys);
                if let Some(question) = self.questions.get_mut(&id).filter(|_| !awaited.is_empty()) {
                    question.awaited = awaited;
                    return;
                }
                Found::Unresolved(Unresolved::Overload)
            }
            found => found,
        };
        if let Some(question) = self.questions.remove(&id) {
            self.by_query.remove(&query);
            self.deadlines.remove(&(question.deadline, id));
            self.askers -= question.askers.len();
            self.conclude(now, question.askers, query, found);
        }
    }

    fn refuse(&mut self, askers: Vec<T>, query: Query) {
        self.answer(askers, query, Err(Unresolved::Overload));
    }

    fn conclude(&mut self, now: Instant, askers: Vec<T>, query: Query, found: Found) {
        let resolution = match found {
            Found::Servers(servers) => self.leave_ourselves_out(&query, servers),
            Found::Unresolved(cause) => Err(cause),
            Found::Missing(_) => Err(Unresolved::Timeout),
        };
        let sorted = resolution.map(|mut servers| {
            self.health.sort(now, &mut servers);
            servers
        });
        self.answer(askers, query, sorted);
    }

    fn leave_ourselves_out(&mut self, query: &Query, mut servers: Vec<Server>) -> Resolution {
        let mut ours = None;
        servers.retain_mut(|server| {
            let had_any = !server.addresses.is_empty();
            server.addresses.retain(|address| {
                let is_ours = self.interfaces.is_ours(&Host::Address(address.ip()), Some(address.port()));
                ours = ours.or(is_ours.then_some(*address));
                !is_ours
            });
            !had_any || !server.addresses.is_empty()
        });
        if let Some(address) = ours {
            let query = query.clone();
            self.outputs.push_back(Output::Event(Event::LeadsToOurselves { query, address }));
        }
        if servers.is_empty() { Err(Unresolved::Ourselves) } else { Ok(servers) }
    }

    fn answer(&mut self, askers: Vec<T>, query: Query, resolution: Resolution) {
        let event = match &resolution {
            Ok(servers) => Event::Answered { query, servers: servers.len() },
            Err(cause) => Event::Failed { query, cause: *cause },
        };
        self.outputs.push_back(Output::Resolved { askers, resolution });
        self.outputs.push_back(Output::Event(event));
    }
}

#[cfg(test)]
mod tests;
