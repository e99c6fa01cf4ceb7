//! One run: a queue of things that will happen, a clock that jumps from one to the next, and chance.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip_proxy::protocol::flow::{ConnectionId, Flow};
use sip_proxy::protocol::location::{Ask, ContextId, Destination, Question, Verdict};
use sip_proxy::protocol::proxy::Load;

use crate::coverage::{Count, Coverage};
use crate::engine::{Actor, Engine, Mail};
use crate::model::Model;
use crate::model::registry::Registry;
use crate::network::Network;
use crate::peer::{Alarm, Peer};
use crate::random::Random;
use crate::sabotage::{Fault, Sabotage};
use crate::setup::{self, Profile};
use crate::trace::Trace;

/// A run in which more happens than this has no end.
const MOST: u64 = 400_000;

/// Between two looks at whether the actors agree.
const LOOK_INTERVAL: Duration = Duration::from_secs(17);

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// Mail arrives at an actor, if that is the one that it was for.
    Mail {
        to: Actor,
        incarnation: u32,
        mail: Box<Mail>,
    },
    /// The supervisor has built an actor anew.
    ActorStarts {
        actor: Actor,
        process: u32,
    },
    /// The supervisor tells the others of it.
    ActorIntroduced {
        actor: Actor,
        process: u32,
    },
    ProcessStarts,
    ProcessStops {
        is_in_peace: bool,
    },
    JournalStarts {
        process: u32,
    },
    /// The Registrar hands over to the Journal what has changed.
    HandsOver {
        incarnation: u32,
    },
    /// The Journal has done what was next.
    Written {
        journal: u32,
    },
    /// Octets arrive at the proxy.
    AtProxy {
        flow: Flow,
        bytes: Bytes,
    },
    /// Octets arrive at a peer.
    AtPeer {
        peer: usize,
        flow: Flow,
        bytes: Bytes,
    },
    /// A dial has ended, one way or the other.
    Dialled {
        id: ConnectionId,
    },
    /// The proxy notices the end of a stream.
    Ends {
        id: ConnectionId,
    },
    /// A peer has something to do.
    Alarm {
        peer: usize,
        alarm: Alarm,
    },
    /// Something is begun, or goes wrong.
    Act,
    /// Something more goes wrong.
    Fault,
    /// A look at whether the actors agree.
    Look,
}

/// One run.
pub(crate) struct World<'t> {
    pub(crate) now: Duration,
    epoch: Instant,
    pub(crate) random: Random,
    pub(crate) profile: Profile,
    pub(crate) trace: &'t Trace,
    pub(crate) engine: Engine,
    pub(crate) network: Network,
    pub(crate) peers: Vec<Peer>,
    pub(crate) model: Model,
    pub(crate) sabotage: Sabotage,
    queue: BTreeMap<(Duration, u64), Happening>,
    sequence: u64,
    /// Between actors of the proxy.
    pub(crate) mail_under_way: usize,
}

impl<'t> World<'t> {
    pub(crate) fn new(seed: u64, fault: Option<Fault>, trace: &'t Trace) -> Self {
        let epoch = Instant::now();
        let mut random = Random::new(seed);
        let profile = Profile::draw(&mut random);
        trace.note(Duration::ZERO, || format!("{profile:?}"));
        let engine = Engine::new(&profile, &mut random, epoch);
        let model = Model::new(&profile);
        Self {
            now: Duration::ZERO,
            epoch,
            random,
            profile,
            trace,
            engine,
            network: Network::default(),
            peers: Vec::new(),
            model,
            sabotage: Sabotage::new(fault),
            queue: BTreeMap::new(),
            sequence: 0,
            mail_under_way: 0,
        }
    }

    pub(crate) fn instant(&self) -> Instant {
        self.epoch + self.now
    }

    pub(crate) fn schedule(&mut self, wait: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + wait, self.sequence), happening);
    }

    /// Lets something happen later which was due now, before all that came after it.
    pub(crate) fn put_off(&mut self, until: Duration, sequence: u64, happening: Happening) {
        self.queue.insert((until, sequence), happening);
    }

    pub(crate) fn count(&mut self, count: Count) {
        self.model.coverage.add(count);
    }

    /// Runs to the end: acts for a while, then until nobody has anything to do any more.
    pub(crate) fn run(mut self) -> Coverage {
        self.start_process();
        self.people();
        for _ in 0..self.profile.acts {
            let span = self.profile.span.as_millis() as u64;
            let wait = self.random.millis(0, span);
            self.schedule(wait, Happening::Act);
        }
        for look in 1..8 {
            self.schedule(LOOK_INTERVAL * look, Happening::Look);
        }
        for step in 0.. {
            assert!(step < MOST, "this never ends");
            if !self.step() {
                break;
            }
        }
        self.check_end();
        self.model.coverage
    }

    /// Lets the next thing happen. False: there is none.
    fn step(&mut self) -> bool {
        let is_stopped = self.sabotage.goes_on(Fault::TimersStopped);
        let timer =
            self.engine.next_timer(self.epoch).filter(|(_, actor)| !is_stopped || *actor == Actor::Registrar);
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        match (next, timer) {
            (None, None) => return false,
            (Some(at), timer) if timer.is_none_or(|(due, _)| at <= due) => {
                let ((at, sequence), happening) = self.queue.pop_first().expect("it was looked at");
                self.now = self.now.max(at);
                self.happen(sequence, happening);
            }
            (_, Some((due, actor))) => {
                self.now = self.now.max(due);
                self.timer_fires(actor);
            }
            (Some(_), None) => unreachable!("it was taken above"),
        }
        true
    }

    fn happen(&mut self, sequence: u64, happening: Happening) {
        match happening {
            Happening::Mail { to, incarnation, mail } => self.mail_arrives(sequence, to, incarnation, mail),
            Happening::ActorStarts { actor, process } => self.actor_starts(actor, process),
            Happening::ActorIntroduced { actor, process } => self.actor_introduced(actor, process),
            Happening::ProcessStarts => self.start_process(),
            Happening::ProcessStops { is_in_peace } => self.stop_process(is_in_peace),
            Happening::JournalStarts { process } => self.journal_starts(process),
            Happening::HandsOver { incarnation } => self.hands_over(incarnation),
            Happening::Written { journal } => self.written(journal),
            Happening::AtProxy { flow, bytes } => self.arrives(sequence, flow, bytes),
            Happening::AtPeer { peer, flow, bytes } => self.reaches(peer, flow, bytes),
            Happening::Dialled { id } => self.dialled(id),
            Happening::Ends { id } => self.ends(id),
            Happening::Alarm { peer, alarm } => self.alarm(peer, alarm),
            Happening::Act => self.act(),
            Happening::Fault => self.fault(),
            Happening::Look => self.check_agreement(),
        }
    }

    /// When nothing is on its way between them, every Router knows what the Registrar knows, and nothing rests on
    /// connections that are gone.
    fn check_agreement(&mut self) {
        if self.mail_under_way > 0 || !self.engine.is_whole() {
            return;
        }
        self.count(Count::Looks);
        let Some(registrar) = &self.engine.registrar else { return };
        let mut known: Vec<_> = registrar.core.standings().collect();
        known.sort_unstable();
        let gone =
            known.iter().find(|(flow, _)| flow.connection.is_some_and(|id| !self.network.is_known(id)));
        assert_eq!(gone, None, "a log-on by a connection that is gone");
        for (index, router) in self.engine.routers.iter().enumerate() {
            let Some(router) = router else { continue };
            let mut standings: Vec<_> = router.core.standings().collect();
            standings.sort_unstable();
            assert_eq!(standings, known, "router {index} and the Registrar disagree");
        }
        self.check_bindings();
    }

    /// The bindings are those that the oracle knows, none of them over a connection that is gone.
    fn check_bindings(&mut self) {
        let now = self.instant();
        let Some(registrar) = &mut self.engine.registrar else { return };
        for name in self.model.registry.names() {
            let question = Question {
                context: ContextId { slot: u32::MAX, generation: 0 },
                flow: setup::lan_stream(SocketAddr::from(([127, 0, 0, 99], 1))),
                nonce_use: None,
                log_on: None,
                ask: Ask::Locate(Destination::User(name)),
            };
            let asked = Registry::question(&question);
            let answer = registrar.core.handle_question(now, question);
            self.model.registry.verdict(self.now, asked, &answer);
            let Verdict::Located(located) = answer.verdict else { continue };
            let mut ids = located.targets.iter().filter_map(|target| target.flow.connection);
            assert!(ids.all(|id| self.network.is_known(id)), "a binding over a connection that is gone");
        }
    }

    /// Nothing is left of what has happened.
    fn check_end(&mut self) {
        self.check_agreement();
        for (index, router) in self.engine.routers.iter().enumerate() {
            let router = router.as_ref().expect("the supervisor has built it anew");
            assert_eq!(router.core.load(), Load { servers: 0, clients: 0, contexts: 0 }, "router {index}");
            assert_eq!(router.core.poll_timeout(), None, "router {index}");
        }
        let registrar = self.engine.registrar.as_ref().expect("the supervisor has built it anew");
        assert_eq!(registrar.core.bindings(), 0, "bindings that do not expire");
        assert!(self.engine.journal.is_empty(), "registrations that the disk has for ever");
        self.model.check_outcomes();
    }
}
