//! The Journal and its disk: what outlives the Registrar, and what outlives the process.
//!
//! What it is given it writes in that order, each a little later; answers that depend on a change go out when that is
//! written. Where they need not wait for the disk, the Registrar mostly writes by itself, if nothing older waits.
//! The store is of two segments, as `src/actors/journal` has them: a new one takes what changes, while the
//! older counts until all that is there has been told to the new one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sip_proxy::config::Durability;
use sip_proxy::protocol::location::{Answer, Changes, Moment, Restored, Surroundings};

use super::{Actor, Mail, Registrar};
use crate::coverage::Count;
use crate::model::registry::Snapshot;
use crate::world::{Happening, World};

/// Between two hand-overs of the Registrar's where answers wait, and how long changes wait that no answer waits for.
const COMMIT_INTERVAL: Duration = Duration::from_millis(2);
const GATHERING_TIME: Duration = Duration::from_millis(4);
const NUMBERS: usize = 4;
const WHILE: Duration = Duration::from_millis(100);
const ENOUGH: usize = 32;
const LEISURE: Duration = Duration::from_secs(1);

/// Percent of the times at which the Registrar can write by itself.
const QUICK: u32 = 90;

/// The wall clock when the run begins, in milliseconds.
const UNIX_MILLIS: u64 = 1_700_000_000_000;

/// How many addresses-of-record are told at a time.
const TOLD_AT_ONCE: usize = 2;

/// Values by their names; an empty one where a name has nothing any more.
type Segment = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is to be done, one after the other.
#[derive(Debug)]
enum Work {
    Keep {
        changes: Changes,
        answers: Vec<(usize, Answer)>,
        /// All that there is, by the oracle.
        snapshot: Snapshot,
    },
    Load {
        incarnation: u32,
    },
    ToldAll,
}

/// The Journal, and the disk that outlives it.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    older: Segment,
    newer: Segment,
    /// Each with when it is done.
    work: VecDeque<(Duration, Work)>,
    /// Counts those that there have been; odd while there is one.
    generation: u32,
}

/// What the Registrar has for the Journal.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    answers: Vec<(usize, Answer)>,
    handed_over: Option<Duration>,
    is_busy: bool,
    due: Option<Duration>,
}

impl Outbox {
    pub(super) fn push(&mut self, router: usize, answer: Answer) {
        self.answers.push((router, answer));
    }
}

impl Journal {
    pub(super) const fn is_there(&self) -> bool {
        self.generation % 2 == 1
    }

    /// Whether nobody is registered by what the disk has.
    pub(crate) fn is_empty(&self) -> bool {
        self.older.values().chain(self.newer.values()).all(Vec::is_empty)
    }

    fn begin_segment(&mut self) {
        self.older.append(&mut self.newer);
    }
}

impl World<'_> {
    /// By both clocks.
    fn moment(&self) -> Moment {
        Moment { now: self.instant(), unix_millis: UNIX_MILLIS + self.now.as_millis() as u64 }
    }

    /// One that succeeds another does not know what was lost with that.
    pub(super) fn start_journal(&mut self, is_successor: bool) {
        let journal = &mut self.engine.journal;
        journal.generation += 1;
        if is_successor {
            journal.begin_segment();
            self.post(Actor::Registrar, Mail::TellAll);
        }
        self.model.registry.has_room = true;
    }

    /// The Journal panics, or all are killed: of what it was to write, some is written. Answers are lost.
    pub(crate) fn end_journal(&mut self) {
        let count = self.engine.journal.work.len();
        let written = self.random.below(count + 1);
        let work = std::mem::take(&mut self.engine.journal.work);
        for (_, work) in work.into_iter().take(written) {
            if let Work::Keep { changes, snapshot, .. } = work {
                self.writes(&changes, snapshot);
            }
        }
        self.engine.journal.generation += 1;
        self.model.registry.has_room = false;
        self.model.journal_ended(self.now);
    }

    /// The process ends in peace: all that has changed is written.
    pub(super) fn finish_journal(&mut self) {
        self.hand_over();
        for (_, work) in std::mem::take(&mut self.engine.journal.work) {
            if let Work::Keep { changes, snapshot, .. } = work {
                self.writes(&changes, snapshot);
            }
        }
    }

    pub(crate) fn journal_starts(&mut self, process: u32) {
        if process == self.engine.process && !self.engine.journal.is_there() {
            self.start_journal(true);
            self.model.journal_started(self.now);
            // A Registrar that waits for its registrations asks again.
            let waiting = self.engine.registrar.as_ref().filter(|registrar| registrar.waits_until.is_some());
            if let Some(incarnation) = waiting.map(|registrar| registrar.incarnation) {
                self.load(incarnation);
            }
        }
    }

    fn add_work(&mut self, work: Work) -> Duration {
        let longest = self.random.weigh(&[(12, 3), (3, 30), (1, 300)]);
        let delay = self.random.millis(0, longest);
        let journal = &mut self.engine.journal;
        let done = journal.work.back().map_or(self.now, |(done, _)| *done).max(self.now + delay);
        let generation = journal.generation;
        journal.work.push_back((done, work));
        self.schedule(done - self.now, Happening::Written { journal: generation });
        done
    }

    /// The Journal has done the next thing that it was to do.
    pub(crate) fn written(&mut self, generation: u32) {
        if self.engine.journal.generation != generation {
            return;
        }
        let Some((_, work)) = self.engine.journal.work.pop_front() else { return };
        match work {
            Work::Keep { changes, answers, snapshot } => {
                self.writes(&changes, snapshot);
                for (router, answer) in answers {
                    self.post(Actor::Router(router), Mail::Answer(answer));
                }
            }
            Work::Load { incarnation } => self.loaded(incarnation),
            Work::ToldAll => self.engine.journal.older.clear(),
        }
    }

    fn writes(&mut self, changes: &Changes, snapshot: Snapshot) {
        for (name, value) in changes.entries().filter_map(Changes::split) {
            self.engine.journal.newer.insert(name.to_vec(), value.to_vec());
        }
        self.model.registry.kept(snapshot);
    }
}

/// The Registrar's side.
impl World<'_> {
    /// A Registrar that begins waits for what is kept.
    pub(super) fn load(&mut self, incarnation: u32) {
        let until = match self.engine.journal.is_there() {
            true => self.add_work(Work::Load { incarnation }),
            false => self.now + Duration::from_millis(50),
        };
        if let Some(registrar) = &mut self.engine.registrar {
            registrar.waits_until = Some(until);
        }
    }

    fn loaded(&mut self, incarnation: u32) {
        let journal = &mut self.engine.journal;
        journal.begin_segment();
        let kept: Vec<_> = journal.older.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        self.post(Actor::Registrar, Mail::TellAll);
        let at = self.moment();
        let Some(registrar) = self.engine.registrar.as_mut().filter(|r| r.incarnation == incarnation) else {
            return;
        };
        registrar.waits_until = None;
        let network = &self.network;
        let is_open = |connection| network.is_known(connection);
        let around = Surroundings { interfaces: &self.engine.interfaces, is_open: &is_open };
        let mut restored = Restored::default();
        for (name, value) in kept.iter().filter(|(_, value)| !value.is_empty()) {
            registrar.core.restore(at, name, value, &around, &mut restored);
        }
        assert_eq!(restored.unreadable, 0, "a value that cannot be read");
        let expected = self.model.registry.restored(self.now, at.unix_millis, is_open);
        assert_eq!(restored.bindings, expected, "bindings that come back");
        (0..expected).for_each(|_| self.count(Count::Restored));
        self.tell_standings();
        self.keep();
    }

    /// Sees to it that what has changed is written: soon where answers wait for it.
    pub(super) fn keep(&mut self) {
        let now = self.now;
        let Some(Registrar { core, outbox, incarnation, .. }) = &mut self.engine.registrar else { return };
        if core.changes() == 0 {
            return;
        }
        let due = match outbox.handed_over {
            _ if outbox.answers.is_empty() => now + LEISURE,
            _ if self.profile.durability == Durability::Process => return self.hand_over(),
            Some(last) if outbox.is_busy && now < last + WHILE && outbox.answers.len() < ENOUGH => {
                now + GATHERING_TIME
            }
            Some(last) => now.max(last + COMMIT_INTERVAL),
            None => now,
        };
        let incarnation = *incarnation;
        if outbox.due.is_none_or(|armed| armed > due) {
            outbox.due = Some(due);
            self.schedule(due - now, Happening::HandsOver { incarnation });
        }
    }

    /// It is time to hand over, unless that was done meanwhile.
    pub(crate) fn hands_over(&mut self, incarnation: u32) {
        let now = self.now;
        let registrar = self.engine.registrar.as_ref().filter(|r| r.incarnation == incarnation);
        if registrar.is_some_and(|registrar| registrar.outbox.due == Some(now)) {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let (now, at) = (self.now, self.moment());
        let Some(Registrar { core, outbox, .. }) = &mut self.engine.registrar else { return };
        if core.changes() == 0 {
            return;
        }
        let changes = core.take_changes(at);
        let answers = std::mem::take(&mut outbox.answers);
        (outbox.handed_over, outbox.due) = (Some(now), None);
        outbox.is_busy = answers.len() >= NUMBERS;
        if !self.engine.journal.is_there() {
            return;
        }
        let snapshot = self.model.registry.snapshot(now, at.unix_millis);
        let is_quick = self.profile.durability == Durability::Process && !answers.is_empty();
        if is_quick && self.engine.journal.work.is_empty() && self.random.chance(QUICK) {
            self.count(Count::WrittenAtOnce);
            self.writes(&changes, snapshot);
            for (router, answer) in answers {
                self.post(Actor::Router(router), Mail::Answer(answer));
            }
        } else {
            self.add_work(Work::Keep { changes, answers, snapshot });
        }
    }

    /// Tells all that is there, for a new segment.
    pub(super) fn tell_all(&mut self) {
        let Some(registrar) = &mut self.engine.registrar else { return };
        let mut walk = registrar.core.walk();
        while let Some(rest) = walk {
            walk = registrar.core.repeat(rest, TOLD_AT_ONCE);
        }
        self.hand_over();
        if self.engine.journal.is_there() {
            self.add_work(Work::ToldAll);
        }
    }
}
