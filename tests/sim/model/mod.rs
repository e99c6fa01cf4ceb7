//! The oracle: what peers have said, what the Routers have heard of it, and so what they may and must say.
//!
//! It is small because it knows what the proxy cannot: which request of a peer's a forwarded one is (each has a number
//! in its branch), and which response of a peer's a returned one is (each has a number in a row). Every message that a
//! Router sends is held against that; what a turn of a Router owes is held against what it has sent in it; at the end
//! every request must have come to its outcome.

mod chosen;
mod compare;
mod duties;
mod forwarded;
mod heard;
mod made;
mod outcomes;
mod patience;
mod people;
mod proof;
mod records;
pub(crate) mod registry;
mod returned;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use sip_proxy::protocol::flow::{ConnectionId, Flow};
use sip_proxy::protocol::location::ContextId;
use sip_proxy::protocol::proxy::DropReason;
use sip_proxy::protocol::transaction::Timers;

use crate::coverage::Coverage;
use crate::setup::Profile;
use crate::text::Text;
use duties::Duty;
pub(crate) use proof::Proof;
pub(crate) use records::{Begun, Ends, Odd, Origin};
use records::{Branch, Life, Request, Said};
use registry::{Goal, Registry};

/// Timers fire at ticks, and a deadline is the model's only to so much.
const MARGIN: Duration = Duration::from_millis(60);

/// Why a Router has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A request of a peer's has come in, again perhaps.
    Request(usize),
    /// An ACK has: to a refusal of that request, or one that is a request of its own.
    Ack(usize),
    /// The CANCEL of that INVITE has.
    Cancel(usize),
    /// A response of a peer's has.
    Answer(usize),
    /// The Registrar's answer has, to the question for that request.
    Verdict(usize),
    /// A request could not be sent, or a connection or log-on has ended.
    Failure,
    /// Time has passed.
    Timer,
    /// Something that makes nothing leave.
    Other,
}

/// One Router, from its start to its end.
#[derive(Debug, Default)]
struct RouterRecord {
    ended: Option<Duration>,
    stalled_until: Duration,
    /// On whose behalf each context has asked.
    contexts: HashMap<ContextId, Asker>,
}

/// Whose question it is.
#[derive(Clone, Copy, Debug)]
struct Asker {
    request: usize,
    /// It is an ACK or CANCEL of that request, and not the request itself.
    is_follow_up: bool,
    source: Flow,
}

/// What a Router does at one time.
#[derive(Debug)]
struct Turn {
    incarnation: u32,
    cause: Cause,
    /// Where the request came from that this is about.
    source: Option<Flow>,
    /// Where the Registrar has just said that it goes.
    goals: Vec<Vec<Goal>>,
    /// The connection that has ended: what is sent on it now fails at once.
    closed: Option<Flow>,
    is_first_cancel: bool,
    is_first_ack: bool,
    duties: Vec<Duty>,
    sent: Vec<Sent>,
    dropped: Vec<DropReason>,
}

/// What left in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// A response to that request; with the number of the peer's that it was.
    Response { request: usize, status: u16, answer: Option<usize> },
    /// The 200 to a CANCEL of that INVITE.
    CancelAnswered(usize),
    /// That request, on a new branch.
    Branch { request: usize },
    /// A request that nobody answers.
    Unanswered(usize),
    /// The CANCEL of a branch.
    Cancel(usize),
    /// The ACK to a refusal of a branch.
    Ack(usize),
}

/// The oracle.
#[derive(Debug)]
pub(crate) struct Model {
    timers: Timers,
    maximum_transactions: usize,
    requests: Vec<Request>,
    said: Vec<Said>,
    branches: Vec<Branch>,
    by_branch: HashMap<String, usize>,
    /// What left on the branches of requests that nobody answers.
    unanswered: HashMap<String, Bytes>,
    routers: BTreeMap<u32, RouterRecord>,
    /// When a Registrar of this process has ended, with the questions that it had, and when there was another.
    outages: Vec<(Duration, Option<Duration>)>,
    /// The same of the Journal, with the answers that it had.
    losses: Vec<(Duration, Option<Duration>)>,
    /// Who was challenged with each nonce, and what the answer is worth.
    nonces: HashMap<String, (IpAddr, Proof)>,
    /// When each host has given a wrong answer to a challenge.
    guesses: HashMap<IpAddr, Duration>,
    /// Connections whose client certificate proves an account.
    certified: HashSet<ConnectionId>,
    pub(crate) registry: Registry,
    pub(crate) coverage: Coverage,
    /// Who is at each address, and at the other end of each connection.
    addresses: HashMap<SocketAddr, usize>,
    connections: HashMap<ConnectionId, usize>,
    /// Those that are there.
    live: HashSet<ConnectionId>,
    /// The latest of what has gone through from one connection to another without a question.
    passed: HashMap<(ConnectionId, ConnectionId), u64>,
    received: u64,
    is_open: bool,
    is_draining: bool,
    process: u32,
    turn: Turn,
}

impl Model {
    pub(crate) fn new(profile: &Profile) -> Self {
        Self {
            timers: profile.timers(),
            maximum_transactions: profile.maximum_transactions,
            requests: Vec::new(),
            said: Vec::new(),
            branches: Vec::new(),
            by_branch: HashMap::new(),
            unanswered: HashMap::new(),
            routers: BTreeMap::new(),
            outages: Vec::new(),
            losses: Vec::new(),
            nonces: HashMap::new(),
            guesses: HashMap::new(),
            certified: HashSet::new(),
            registry: Registry::default(),
            coverage: Coverage::default(),
            addresses: HashMap::new(),
            connections: HashMap::new(),
            live: HashSet::new(),
            passed: HashMap::new(),
            received: 0,
            is_open: profile.is_open,
            is_draining: false,
            process: 0,
            turn: Turn::new(0, Cause::Other),
        }
    }

    /// 64 × T1: how long a transaction waits.
    fn patience(&self) -> Duration {
        self.timers.t1() * 64
    }
}

impl Turn {
    const fn new(incarnation: u32, cause: Cause) -> Self {
        Self {
            incarnation,
            cause,
            source: None,
            goals: Vec::new(),
            closed: None,
            is_first_cancel: false,
            is_first_ack: false,
            duties: Vec::new(),
            sent: Vec::new(),
            dropped: Vec::new(),
        }
    }
}

/// What becomes of the actors.
impl Model {
    pub(crate) fn process_started(&mut self, now: Duration) {
        self.process += 1;
        // Its first Registrar succeeds nobody.
        self.outages.clear();
        self.losses.clear();
        self.is_draining = false;
        self.live.clear();
        self.registry.process_began(now);
    }

    pub(crate) fn drains(&mut self) {
        self.is_draining = true;
    }

    pub(crate) fn router_started(&mut self, incarnation: u32) {
        self.routers.insert(incarnation, RouterRecord::default());
    }

    pub(crate) fn router_ended(&mut self, now: Duration, incarnation: u32) {
        self.router(incarnation).ended = Some(now);
    }

    pub(crate) fn registrar_started(&mut self, now: Duration) {
        if let Some((_, back)) = self.outages.last_mut() {
            back.get_or_insert(now);
        }
    }

    pub(crate) fn registrar_ended(&mut self, now: Duration) {
        self.outages.push((now, None));
        self.registry.begin_anew();
    }

    pub(crate) fn journal_ended(&mut self, now: Duration) {
        self.losses.push((now, None));
    }

    pub(crate) fn journal_started(&mut self, now: Duration) {
        if let Some((_, back)) = self.losses.last_mut() {
            back.get_or_insert(now);
        }
    }

    /// Whether a question that was asked then may have been lost.
    fn may_be_lost(&self, asked: Duration) -> bool {
        self.outages.iter().chain(&self.losses).any(|(_, back)| back.is_none_or(|back| back >= asked))
    }

    pub(crate) fn stalled(&mut self, incarnation: u32, until: Duration) {
        self.router(incarnation).stalled_until = until;
    }

    fn router(&mut self, incarnation: u32) -> &mut RouterRecord {
        self.routers.get_mut(&incarnation).expect("every Router has started")
    }

    /// Whether timers of the Router may have fired late since then because it was kept from working.
    fn was_stalled(&self, incarnation: u32, since: Duration) -> bool {
        self.routers[&incarnation].stalled_until >= since
    }

    /// Whether the transaction of an INVITE may have ended.
    fn may_be_gone(&self, life: &Life, now: Duration) -> bool {
        let is_past = |since: Duration, time: Duration| now + MARGIN >= since + time;
        let is_refused = life.refusals > 0 && life.branches.is_empty() && life.asked.is_none();
        let is_over = life.answer.as_ref().is_some_and(|answer| {
            let is_ended = life.acknowledged.is_some_and(|at| match life.source.transport.is_reliable() {
                true => at < now,
                false => is_past(at, self.timers.t4()),
            });
            is_ended || is_past(answer.at, self.patience())
        });
        is_refused || is_over || life.accepted_at.is_some_and(|at| is_past(at, self.patience()))
    }
}

/// What the Routers do.
impl Model {
    /// From here on, what is heard and what leaves is of this turn.
    pub(crate) fn begin_turn(&mut self, incarnation: u32, cause: Cause) {
        self.turn = Turn::new(incarnation, cause);
    }

    /// A question was asked, on behalf of what this turn is for.
    pub(crate) fn asked(&mut self, now: Duration, context: ContextId) {
        let Turn { incarnation, cause, source, .. } = self.turn;
        let (request, is_follow_up) = match cause {
            Cause::Request(number) => (number, false),
            Cause::Ack(number) => (number, self.requests[number].method != "ACK"),
            Cause::Cancel(number) => (number, true),
            other => panic!("a question because of {other:?}"),
        };
        let source = source.expect("the request has just come");
        self.router(incarnation).contexts.insert(context, Asker { request, is_follow_up, source });
        if let Some(life) = self.requests[request].life_mut(incarnation).filter(|_| !is_follow_up) {
            life.asked = Some(now);
        }
    }

    /// A message has left.
    pub(crate) fn router_sends(
        &mut self,
        now: Duration,
        hop: &Flow,
        alternate: Option<SocketAddr>,
        bytes: &Bytes,
    ) {
        let text = Text::read(bytes);
        match text.status() {
            Some(status) => self.returns(now, hop, alternate, &text, status),
            None => self.forwards(now, hop, text),
        }
    }

    /// The core has dropped something without an answer.
    pub(crate) fn dropped(&mut self, reason: DropReason) {
        self.turn.dropped.push(reason);
    }
}

/// Whether what leaves by `hop` fails with this connection.
fn waits_on(hop: &Flow, connection: &Flow) -> bool {
    match hop.connection {
        Some(own) => Some(own) == connection.connection,
        None => (hop.transport, hop.remote) == (connection.transport, connection.remote),
    }
}
