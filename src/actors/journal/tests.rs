//! The Journal between a Registrar and Routers that are probes, over a real directory.

mod by_pen;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::Instant;

use slog::{Drain, OwnedKVList, Record, o};
use tokio::time::{sleep, timeout};

use super::testing::{Scratch, create_failing, set_broken, set_full, set_slow};
use super::*;
use crate::actors::directory::JournalAddress;
use crate::actors::testing::{PATIENCE, World};
use crate::protocol::location::{Changes, ContextId, Verdict};

/// The lines of a log: level and event.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn take(&self) -> Vec<String> {
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
struct Fixture {
    journal: Addr<Journal>,
    backlog: Backlog,
    pen: Pen,
    address: JournalAddress,
    world: World,
    scratch: Scratch,
    lines: Lines,
    _thread: Arbiter,
}

impl Fixture {
    fn start(name: &str, is_successor: bool) -> Self {
        let scratch = Scratch::new(name);
        fs::create_dir_all(scratch.0.join(SUBDIRECTORY)).unwrap();
        Self::over(scratch, is_successor)
    }

    fn over(scratch: Scratch, is_successor: bool) -> Self {
        Self::with(scratch, Pen::default(), is_successor)
    }

    fn with(scratch: Scratch, pen: Pen, is_successor: bool) -> Self {
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
    fn set_full(&self, is_full: bool) {
        set_full(&self.scratch.0.join(SUBDIRECTORY), is_full);
    }

    /// A Registrar begins; what is kept, by name.
    async fn load(&self) -> BTreeMap<String, String> {
        let registrar = self.world.directory.registrar().as_ref().unwrap().tell_all.clone();
        let kept = self.journal.send(Load { registrar }).await.unwrap();
        assert_eq!(kept.damaged, 0);
        let text = |octets: Box<[u8]>| String::from_utf8(octets.into()).unwrap();
        kept.entries.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// What a process finds that is started now.
    fn on_disk(&self) -> BTreeMap<String, String> {
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
    fn keep(&self, name: &str, value: &str, router: usize, question: Option<u32>) {
        self.hand_over(Durability::Disk, name, value, router, question);
    }

    fn hand_over(
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
    fn write(&self, name: &str, value: &str) -> bool {
        self.address.write(&changes(name, value))
    }

    /// Writes as soon as that can be done.
    async fn writes(&self, name: &str, value: &str) {
        eventually("the Registrar may write", || self.write(name, value)).await;
    }

    /// The disk has been waited for so often.
    async fn has_synced(&self, times: usize) {
        eventually("the disk is waited for", || self.syncs() >= times).await;
    }

    /// The next answers that the Router gets.
    async fn answered(&mut self, router: usize) -> Vec<u32> {
        let Answers(answers) = self.world.routers[router].answers.next().await;
        answers.into_iter().map(|answer| answer.context.slot).collect()
    }

    /// Tells all that a Registrar knows, as it is asked to.
    async fn tell_all(&mut self, everything: &[(&str, &str)]) {
        let TellAll { segment } = self.world.tell_all.next().await;
        for (name, value) in everything {
            self.keep(name, value, 0, None);
        }
        self.journal.send(ToldAll { segment }).await.unwrap();
    }

    fn segments(&self) -> usize {
        let entries = fs::read_dir(self.scratch.0.join(SUBDIRECTORY)).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some()).count()
    }

    /// How often anything was written to the disk.
    fn syncs(&self) -> usize {
        fs::read(self.scratch.0.join(SUBDIRECTORY).join("syncs")).unwrap_or_default().len()
    }

    /// Waits until nothing waits. That is so soon after the last answer, not before it.
    async fn idle(&self) {
        let emptied = async {
            while !self.backlog.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, emptied).await.expect("nothing waits any more");
    }
}

/// That `name` has this value now.
fn changes(name: &str, value: &str) -> Changes {
    let mut changes = Changes::default();
    changes.push(name.as_bytes(), |out| out.extend_from_slice(value.as_bytes()));
    changes
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < limit, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[actix::test]
async fn an_answer_comes_when_the_disk_has_what_it_depends_on() {
    let mut at = Fixture::start("answers", false);
    assert_eq!(at.load().await, map(&[]));
    at.tell_all(&[]).await;
    for question in 0..50 {
        at.keep("alice", &question.to_string(), question as usize % 2, Some(question));
        assert_eq!(at.answered(question as usize % 2).await, [question]);
        assert_eq!(at.on_disk(), map(&[("alice", &question.to_string())]));
    }
    at.idle().await;
    assert_eq!(at.lines.take(), ["DEBG registrations_kept"]);
}

#[actix::test]
async fn what_comes_together_is_written_at_once_and_answered_in_order() {
    let mut at = Fixture::start("group", false);
    at.load().await;
    at.tell_all(&[]).await;
    let (before, store) = (at.syncs(), at.scratch.0.join(SUBDIRECTORY));
    set_slow(&store, true);
    for question in 0..1000 {
        at.keep("alice", &question.to_string(), 0, Some(question));
        at.keep(&format!("user{question}"), "x", 1, Some(question));
    }
    set_slow(&store, false);
    for router in 0..2 {
        let mut answered = Vec::new();
        while answered.len() < 1000 {
            answered.extend(at.answered(router).await);
        }
        assert!(answered.into_iter().eq(0..1000), "router {router}");
    }
    // One that had begun with whatever was there, and one with all that has come meanwhile.
    assert!(at.syncs() - before <= 2, "{} commits for 2,000 changes", at.syncs() - before);
    assert_eq!(at.on_disk().len(), 1001);
    assert_eq!(at.on_disk()["alice"], "999");
}

#[actix::test]
async fn a_disk_that_takes_its_time_holds_up_answers_and_nobody_else() {
    let mut at = Fixture::start("slow", false);
    at.load().await;
    at.tell_all(&[]).await;
    let store = at.scratch.0.join(SUBDIRECTORY);
    set_slow(&store, true);
    let large = "x".repeat(MAXIMUM_WAITING / 100);
    let mut sent = 0;
    // Whoever sends does not wait, and learns when it is too much.
    while at.backlog.has_room() {
        at.keep(&format!("user{sent}"), &large, 0, Some(sent));
        sent += 1;
    }
    assert_eq!(sent, 100);
    at.world.routers[0].answers.nothing().await;
    set_slow(&store, false);
    let mut answered = Vec::new();
    while answered.len() < sent as usize {
        answered.extend(at.answered(0).await);
    }
    assert!(answered.into_iter().eq(0..sent));
    at.idle().await;
    assert_eq!(at.on_disk().len(), sent as usize);
}

#[actix::test]
async fn a_registrar_that_begins_finds_all_that_was_sent_before() {
    let mut at = Fixture::start("begins", false);
    at.load().await;
    at.tell_all(&[]).await;
    at.keep("alice", "1", 0, Some(1));
    at.keep("bob", "1", 0, None);
    assert_eq!(at.load().await, map(&[("alice", "1"), ("bob", "1")]));
    assert_eq!(at.answered(0).await, [1]);
    // What it does not take back is gone once it has told everything.
    at.tell_all(&[("bob", "2")]).await;
    assert_eq!((at.on_disk(), at.segments()), (map(&[("bob", "2")]), 1));
}

#[actix::test]
async fn a_journal_that_comes_back_has_everything_told_again() {
    let mut at = Fixture::start("back", true);
    // Already now, what is answered is kept.
    at.keep("alice", "1", 0, Some(1));
    assert_eq!(at.answered(0).await, [1]);
    assert_eq!(at.on_disk(), map(&[("alice", "1")]));
    at.tell_all(&[("alice", "1"), ("bob", "1")]).await;
    assert_eq!(at.on_disk(), map(&[("alice", "1"), ("bob", "1")]));
}

#[actix::test]
async fn a_store_that_grows_begins_anew_with_what_is_needed() {
    let mut at = Fixture::start("grows", false);
    at.load().await;
    at.tell_all(&[]).await;
    let large = "x".repeat(1 << 20);
    for question in 0..5 {
        at.keep("alice", &large, 0, Some(question));
        assert_eq!(at.answered(0).await, [question]);
    }
    let before = at.segments();
    at.tell_all(&[("alice", "1")]).await;
    assert_eq!((before, at.segments()), (2, 1));
    assert_eq!(at.on_disk(), map(&[("alice", "1")]));
}

#[actix::test]
async fn what_was_sent_before_the_end_is_written() {
    let mut at = Fixture::start("finish", false);
    at.load().await;
    at.tell_all(&[]).await;
    at.keep("alice", "1", 0, None);
    at.journal.send(Finish).await.unwrap();
    assert_eq!(at.on_disk(), map(&[("alice", "1")]));
}

#[actix::test]
async fn a_disk_that_fills_up_stops_nothing_and_everything_is_told_when_there_is_room() {
    let mut at = Fixture::start("fills-up", false);
    at.load().await;
    at.tell_all(&[]).await;
    at.keep("alice", "1", 0, Some(1));
    at.answered(0).await;
    at.lines.take();
    at.set_full(true);
    for question in 2..100 {
        at.keep("alice", &question.to_string(), 0, Some(question));
        assert_eq!(at.answered(0).await, [question], "from memory");
    }
    at.idle().await;
    at.set_full(false);
    // It is tried again by itself.
    at.tell_all(&[("alice", "99"), ("bob", "1")]).await;
    assert_eq!((at.on_disk(), at.segments()), (map(&[("alice", "99"), ("bob", "1")]), 1));
    assert_eq!(at.lines.take(), ["ERRO registrations_not_kept", "INFO registrations_kept"]);
    at.keep("alice", "100", 0, Some(100));
    assert_eq!(at.answered(0).await, [100]);
    assert_eq!(at.on_disk()["alice"], "100");
}

#[actix::test]
async fn a_store_that_fails_while_it_is_told_everything_keeps_what_it_had() {
    let mut at = Fixture::start("fails-again", false);
    at.load().await;
    at.tell_all(&[("alice", "1"), ("bob", "1")]).await;
    at.load().await;
    let TellAll { segment } = at.world.tell_all.next().await;
    at.keep("alice", "2", 0, Some(2));
    assert_eq!(at.answered(0).await, [2]);
    at.set_full(true);
    at.keep("bob", "2", 0, Some(3));
    assert_eq!(at.answered(0).await, [3]);
    at.journal.send(ToldAll { segment }).await.unwrap();
    assert_eq!(
        at.on_disk(),
        map(&[("alice", "2"), ("bob", "1")]),
        "half a state is no reason to forget the other"
    );
    assert_eq!(at.lines.take(), ["DEBG registrations_kept", "ERRO registrations_not_kept"]);
}

#[actix::test]
async fn without_a_directory_answers_do_not_wait_and_one_line_says_so() {
    let scratch = Scratch::new("no-directory");
    fs::create_dir_all(&scratch.0).unwrap();
    fs::write(scratch.0.join(SUBDIRECTORY), b"a file").unwrap();
    let mut at = Fixture::over(scratch, false);
    assert_eq!(at.load().await, map(&[]));
    at.keep("alice", "1", 0, Some(1));
    assert_eq!(at.answered(0).await, [1]);
    assert_eq!(at.lines.take(), ["WARN registrations_not_kept"]);
    fs::remove_file(at.scratch.0.join(SUBDIRECTORY)).unwrap();
    at.tell_all(&[("alice", "1")]).await;
    assert_eq!(at.on_disk(), map(&[("alice", "1")]));
    assert_eq!(at.lines.take(), ["INFO registrations_kept"]);
}

#[actix::test]
async fn what_another_process_keeps_is_left_alone() {
    let scratch = Scratch::new("another");
    let mut other = Store::open(&scratch.0.join(SUBDIRECTORY), create_file, Pen::default()).unwrap();
    other.begin().unwrap();
    let mut at = Fixture::over(scratch, false);
    assert_eq!(at.load().await, map(&[]));
    at.keep("alice", "1", 0, Some(1));
    assert_eq!(at.answered(0).await, [1]);
    drop(other);
    assert_eq!(at.load().await, map(&[]), "as long as this process lives");
    at.keep("alice", "2", 0, Some(2));
    assert_eq!(at.answered(0).await, [2]);
    assert_eq!((at.segments(), at.on_disk()), (1, map(&[])));
    assert_eq!(at.lines.take(), ["WARN registrations_not_kept"]);
}

#[test]
fn a_backlog_has_room_until_it_is_full() {
    let backlog = Backlog::default();
    backlog.add(MAXIMUM_WAITING - 1);
    assert!(backlog.has_room());
    backlog.add(1);
    assert!(!backlog.has_room());
    backlog.remove(MAXIMUM_WAITING);
    assert!(backlog.has_room());
}
