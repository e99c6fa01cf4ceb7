//! A Journal between probes, and what tests do with it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::Instant;

use slog::{Drain, OwnedKVList, Record, o};

use super::super::testing::{Scratch, create_failing, set_full};
use super::super::*;
use crate::actors::directory::JournalAddress;
use crate::actors::testing::World;
use crate::protocol::location::{Changes, ContextId, Verdict};

/// The lines of a log: level and event.
#[derive(Clone, Default)]
pub(super) struct Lines(pub(super) Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Drain for Lines {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        let line = format!("{} {}", record.level().as_short_str(), record.msg());
        self.0.lock().unwrap().push(line);
        Ok(())
    }
}

/// A Journal and what is around it.
pub(super) struct Fixture {
    pub(super) journal: Addr<Journal>,
    pub(super) backlog: Backlog,
    pub(super) pen: Pen,
    pub(super) address: JournalAddress,
    pub(super) world: World,
    pub(super) scratch: Scratch,
    pub(super) lines: Lines,
    _thread: Arbiter,
}

impl Fixture {
    pub(super) fn start(name: &str, is_successor: bool) -> Self {
        let scratch = Scratch::new(name);
        fs::create_dir_all(scratch.0.join(SUBDIRECTORY)).unwrap();
        Self::over(scratch, is_successor)
    }

    pub(super) fn over(scratch: Scratch, is_successor: bool) -> Self {
        Self::with(scratch, Pen::default(), is_successor)
    }

    pub(super) fn with(scratch: Scratch, pen: Pen, is_successor: bool) -> Self {
        let (world, backlog, lines) = (World::new(2), Backlog::default(), Lines::default());
        let settings = JournalSettings {
            state_directory: scratch.0.clone(),
            is_successor,
            backlog: backlog.clone(),
            pen: pen.clone(),
            directory: Arc::clone(&world.directory),
            log: Logger::root(lines.clone().fuse(), o!()),
        };
        let thread = Arbiter::new();
        let journal =
            Journal::start_in_arbiter(&thread.handle(), |_| Journal::over(settings, create_failing));
        let address = JournalAddress::new(journal.clone(), backlog.clone(), pen.clone());
        Self { journal, backlog, pen, address, world, scratch, lines, _thread: thread }
    }

    /// A disk on which the store finds no room.
    pub(super) fn set_full(&self, is_full: bool) {
        set_full(&self.scratch.0.join(SUBDIRECTORY), is_full);
    }

    /// A Registrar begins; what is kept, by name.
    pub(super) async fn load(&self) -> BTreeMap<String, String> {
        let registrar = self.world.directory.registrar().as_ref().unwrap().tell_all.clone();
        let kept = self.journal.send(Load { registrar }).await.unwrap();
        assert_eq!(kept.damaged, 0);
        let text = |octets: Box<[u8]>| String::from_utf8(octets.into()).unwrap();
        kept.entries.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// What a process finds that is started now.
    pub(super) fn on_disk(&self) -> BTreeMap<String, String> {
        let copy = Scratch::new(&format!("{}-copy", self.scratch.0.file_name().unwrap().display()));
        fs::create_dir_all(&copy.0).unwrap();
        for entry in fs::read_dir(self.scratch.0.join(SUBDIRECTORY)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.0.join(path.file_name().unwrap())).unwrap();
        }
        let kept = Store::open(&copy.0, create_file, Pen::default()).unwrap().load();
        let text = |octets: Box<[u8]>| String::from_utf8(octets.into()).unwrap();
        kept.entries.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// Has `value` kept for `name` on the disk, and then the question of this number answered.
    pub(super) fn keep(&self, name: &str, value: &str, router: usize, question: Option<u32>) {
        self.hand_over(Durability::Disk, name, value, router, question);
    }

    pub(super) fn hand_over(
        &self,
        durability: Durability,
        name: &str,
        value: &str,
        router: usize,
        question: Option<u32>,
    ) {
        let changes = changes(name, value);
        let answer = |slot| Answer { context: ContextId { slot, generation: 0 }, verdict: Verdict::Admitted };
        self.backlog.add(changes.size());
        let mut answers = vec![Vec::new(), Vec::new()];
        answers[router].extend(question.map(answer));
        self.journal.do_send(Keep { changes, answers, durability });
    }

    /// Writes `value` for `name` as the Registrar does; whether that was done.
    pub(super) fn write(&self, name: &str, value: &str) -> bool {
        self.address.write(&changes(name, value))
    }

    /// Writes as soon as that can be done.
    pub(super) async fn writes(&self, name: &str, value: &str) {
        eventually("the Registrar may write", || self.write(name, value)).await;
    }

    /// The disk has been waited for so often.
    pub(super) async fn has_synced(&self, times: usize) {
        eventually("the disk is waited for", || self.syncs() >= times).await;
    }

    /// The next answers that the Router gets.
    pub(super) async fn answered(&mut self, router: usize) -> Vec<u32> {
        let Answers(answers) = self.world.routers[router].answers.next().await;
        answers.into_iter().map(|answer| answer.context.slot).collect()
    }

    /// Tells all that a Registrar knows, as it is asked to.
    pub(super) async fn tell_all(&mut self, everything: &[(&str, &str)]) {
        let TellAll { segment } = self.world.tell_all.next().await;
        for (name, value) in everything {
            self.keep(name, value, 0, None);
        }
        self.journal.send(ToldAll { segment }).await.unwrap();
    }

    pub(super) fn segments(&self) -> usize {
        let entries = fs::read_dir(self.scratch.0.join(SUBDIRECTORY)).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some()).count()
    }

    /// How often anything was written to the disk.
    pub(super) fn syncs(&self) -> usize {
        fs::read(self.scratch.0.join(SUBDIRECTORY).join("syncs")).unwrap_or_default().len()
    }

    /// Waits until nothing waits. That is so soon after the last answer, not before it.
    pub(super) async fn idle(&self) {
        eventually("nothing waits any more", || self.backlog.is_empty()).await;
    }
}

/// That `name` has this value now.
pub(super) fn changes(name: &str, value: &str) -> Changes {
    let mut changes = Changes::default();
    changes.push(name.as_bytes(), |out| out.extend_from_slice(value.as_bytes()));
    changes
}

pub(super) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < limit, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
