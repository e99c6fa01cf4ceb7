//! The Journal between a Registrar and Routers that are probes, over a real directory.

mod by_pen;
mod fixture;

use std::collections::BTreeMap;
use std::fs;

use self::fixture::Fixture;
use super::testing::{Scratch, set_broken, set_slow};
use super::*;

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
