//! What the Registrar writes by itself.

use super::fixture::{changes, eventually};
use super::*;

#[actix::test]
async fn what_the_registrar_writes_is_there_at_once_and_on_the_disk_before_long() {
    let mut at = Fixture::start("pen", false);
    assert!(!at.write("alice", "0"), "no segment is open yet");
    at.load().await;
    at.tell_all(&[]).await;
    for count in 1..=3 {
        let before = at.syncs();
        at.writes("alice", &count.to_string()).await;
        assert_eq!(at.on_disk(), map(&[("alice", &count.to_string())]), "a process that starts now finds it");
        at.has_synced(before + 1).await;
    }
    // What goes by the Journal without waiting for the disk is no different.
    let before = at.syncs();
    at.hand_over(Durability::Process, "bob", "1", 0, Some(7));
    assert_eq!(at.answered(0).await, [7]);
    assert_eq!(at.on_disk(), map(&[("alice", "3"), ("bob", "1")]));
    at.has_synced(before + 1).await;
    at.idle().await;
}

#[actix::test]
async fn while_the_disk_is_waited_for_the_journal_writes_and_nobody_waits() {
    let mut at = Fixture::start("pen-slow", false);
    at.load().await;
    at.tell_all(&[]).await;
    let (before, store) = (at.syncs(), at.scratch.0.join(SUBDIRECTORY));
    set_slow(&store, true);
    at.writes("alice", "1").await;
    at.has_synced(before + 1).await;
    for question in 2..50 {
        assert!(!at.write("alice", "never"), "the disk is being waited for");
        at.hand_over(Durability::Process, "alice", &question.to_string(), 0, Some(question));
        assert_eq!(at.answered(0).await, [question]);
    }
    assert_eq!((at.on_disk(), at.syncs()), (map(&[("alice", "49")]), before + 1));
    // Who promises more than that waits.
    at.keep("alice", "50", 0, Some(50));
    at.world.routers[0].answers.nothing().await;
    set_slow(&store, false);
    assert_eq!(at.answered(0).await, [50]);
    at.writes("alice", "51").await;
    assert_eq!(at.on_disk(), map(&[("alice", "51")]));
}

#[actix::test]
async fn the_registrar_does_not_overtake_what_waits() {
    let mut at = Fixture::start("pen-order", false);
    at.load().await;
    at.tell_all(&[]).await;
    let store = at.scratch.0.join(SUBDIRECTORY);
    set_slow(&store, true);
    at.keep("alice", "1", 0, Some(1));
    at.hand_over(Durability::Process, "alice", "2", 0, Some(2));
    assert!(!at.write("alice", "3"), "two are before it");
    set_slow(&store, false);
    at.writes("alice", "3").await;
    assert!(at.backlog.is_empty(), "it has waited for both");
    let mut answered = at.answered(0).await;
    if answered.len() < 2 {
        answered.extend(at.answered(0).await);
    }
    assert_eq!((answered, at.on_disk()), (vec![1, 2], map(&[("alice", "3")])));
    // Nobody waits for the disk, and yet something is before it.
    at.backlog.add(1);
    assert!(!at.write("alice", "4"));
    at.backlog.remove(1);
    at.writes("alice", "4").await;
}

#[actix::test]
async fn what_the_registrar_cannot_write_is_told_by_the_journal() {
    let mut at = Fixture::start("pen-full", false);
    at.load().await;
    at.tell_all(&[]).await;
    at.lines.take();
    at.writes("alice", "1").await;
    let before = at.syncs();
    at.set_full(true);
    for _ in 0..2 {
        assert!(!at.write("alice", "2"));
    }
    at.hand_over(Durability::Process, "alice", "2", 0, Some(1));
    assert_eq!(at.answered(0).await, [1], "from memory");
    assert!(!at.write("alice", "3"));
    at.has_synced(before + 1).await;
    at.set_full(false);
    at.tell_all(&[("alice", "3")]).await;
    assert_eq!((at.on_disk(), at.segments()), (map(&[("alice", "3")]), 1));
    assert_eq!(at.lines.take(), ["ERRO registrations_not_kept", "INFO registrations_kept"]);
    at.writes("alice", "4").await;
}

#[actix::test]
async fn a_disk_that_does_not_take_what_the_registrar_has_written_is_told_of() {
    let mut at = Fixture::start("pen-broken", false);
    at.load().await;
    at.tell_all(&[]).await;
    at.lines.take();
    let store = at.scratch.0.join(SUBDIRECTORY);
    set_broken(&store, true);
    at.writes("alice", "1").await;
    eventually("it fails", || at.lines.0.lock().unwrap().contains(&"ERRO registrations_not_kept".to_owned()))
        .await;
    assert!(!at.write("alice", "2"), "nothing is kept");
    at.hand_over(Durability::Process, "alice", "2", 0, Some(1));
    assert_eq!(at.answered(0).await, [1], "from memory");
    set_broken(&store, false);
    at.tell_all(&[("alice", "2")]).await;
    assert_eq!((at.on_disk(), at.segments()), (map(&[("alice", "2")]), 1));
    at.writes("alice", "3").await;
}

#[actix::test]
async fn no_segment_goes_before_the_disk_has_the_next_whoever_waits_for_it() {
    let mut at = Fixture::start("pen-complete", false);
    at.load().await;
    at.tell_all(&[("alice", "1")]).await;
    at.load().await;
    let TellAll { segment } = at.world.tell_all.next().await;
    let (before, store) = (at.syncs(), at.scratch.0.join(SUBDIRECTORY));
    set_slow(&store, true);
    at.writes("alice", "2").await;
    at.has_synced(before + 1).await;
    // All is told; another thread waits for the disk, which will not take it.
    at.journal.do_send(ToldAll { segment });
    at.world.tell_all.nothing().await;
    assert_eq!(at.segments(), 2);
    set_broken(&store, true);
    set_slow(&store, false);
    at.journal.send(ToldAll { segment }).await.unwrap();
    assert_eq!(at.segments(), 2, "the older one is all that there is on the disk");
    set_broken(&store, false);
    at.tell_all(&[("alice", "2")]).await;
    assert_eq!((at.on_disk(), at.segments()), (map(&[("alice", "2")]), 1));
}

#[actix::test]
async fn what_was_written_before_a_journal_ended_is_brought_to_the_disk_by_the_next() {
    let mut at = Fixture::start("pen-successor", false);
    at.load().await;
    at.tell_all(&[]).await;
    let (scratch, store) = (Scratch::new("pen-successor-next"), at.scratch.0.join(SUBDIRECTORY));
    fs::create_dir_all(scratch.0.join(SUBDIRECTORY)).unwrap();
    // One that the Journal does not hear of, as if it had ended.
    let before = at.syncs();
    assert_eq!(at.pen.write(&changes("alice", "1")), Written::First);
    let next = Fixture::with(scratch, at.pen.clone(), true);
    eventually("it is on the disk", || at.syncs() > before).await;
    assert_eq!(next.syncs(), 1, "that its own has begun");
    assert_eq!(fs::read_dir(store).unwrap().count(), 3, "lock, segment, syncs");
}

#[actix::test]
async fn a_segment_that_the_registrar_has_filled_is_followed_by_another() {
    let mut at = Fixture::start("pen-grows", false);
    at.load().await;
    at.tell_all(&[]).await;
    assert!(!at.write("alice", &"x".repeat(100 << 10)), "that much is not quick");
    let large = "x".repeat(50 << 10);
    for _ in 0..100 {
        at.writes("alice", &large).await;
    }
    at.tell_all(&[("alice", "1")]).await;
    assert_eq!((at.on_disk(), at.segments()), (map(&[("alice", "1")]), 1));
}
