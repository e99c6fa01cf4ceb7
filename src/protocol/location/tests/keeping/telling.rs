//! Which changes are told, and that a walk over everything misses nothing.

use super::*;

#[test]
fn whatever_changes_bindings_is_told_once_and_nothing_else_is() {
    let mut at = new();
    let other = |at: &mut Fixture, cseq, rows: &[&str]| {
        at.register(udp("10.0.0.3:5060"), registration(SERVER, "sip:bob@a.test", "b", cseq, rows)).status
    };
    at.contact("a", 1, &["Contact: <sip:a@h>"]);
    at.contact("a", 2, &["Contact: <sip:b@h>"]);
    other(&mut at, 1, &["Contact: <sip:b@h>;expires=60"]);
    assert_eq!(at.changed(), ["alice@a.test", "bob@a.test"]);
    assert_eq!(at.changed(), [""; 0]);

    at.contact("a", 3, &["Contact: <sip:a@h>"]);
    assert_eq!(at.changed(), ["alice@a.test"], "a refresh");
    at.contact("a", 3, &["Contact: <sip:a@h>"]);
    at.contact("q", 1, &[]);
    at.log_on(tcp(5), SERVER);
    at.locate(ALICE, tcp(9));
    assert_eq!(at.changed(), [""; 0], "a refusal, two questions, and a log-on");
    at.after(Duration::from_secs(60));
    assert_eq!(at.changed(), ["bob@a.test"], "its time is over");
    at.contact("a", 4, &["Contact: <sip:a@h>;expires=0"]);
    assert_eq!(at.changed(), ["alice@a.test"], "a removal");
    at.location.handle_connection_closed(at.now, &tcp(1));
    assert_eq!(at.changed(), ["alice@a.test"], "a connection that closes");
    assert_eq!(at.everything(), Store::new());
}

#[test]
fn while_there_is_no_room_nothing_is_changed_by_a_register() {
    let mut at = new();
    at.contact("a", 1, &["Contact: <sip:a@h>;expires=60"]);
    at.changed();
    at.location.set_room(false);
    let unchanged: [&[&str]; 3] =
        [&["Contact: <sip:b@h>"], &["Contact: <sip:a@h>"], &["Contact: *", "Expires: 0"]];
    for rows in unchanged {
        assert_eq!(refusal(&at.contact("b", 1, rows)), (503, "Registrations Wait To Be Kept"));
    }
    assert_eq!(at.contact("b", 1, &[]).status, 200);
    assert_eq!(at.changed(), [""; 0]);
    at.after(Duration::from_secs(60));
    assert_eq!(at.changed(), ["alice@a.test"], "time does not ask for room");
    at.location.set_room(true);
    assert_eq!(at.contact("b", 2, &["Contact: <sip:b@h>"]).status, 200);
}

#[test]
fn a_walk_misses_nothing_whatever_changes_on_the_way() {
    let mut at = new();
    let user = |number: u32| format!("sip:user{number}@a.test");
    let register = |at: &mut Fixture, number, expires: u32, call_id: &str| {
        let rows = [&*format!("Contact: <sip:x@h>;expires={expires}")];
        at.register(tcp(1), registration(SERVER, &user(number), call_id, 1, &rows));
    };
    (0..100).for_each(|number| register(&mut at, number, 1000 + number, "a"));
    at.changed();
    let (mut store, mut walk, mut turns) = (Store::new(), at.location.walk(), 0);
    while let Some(rest) = walk {
        walk = at.location.repeat(rest, 10);
        at.keep(&mut store);
        // One moves behind the walk, one ahead of it, one comes and one goes.
        register(&mut at, 99 - turns, 60, "b");
        register(&mut at, turns, 5000, "b");
        register(&mut at, 1000 + turns, 1050, "b");
        register(&mut at, 50 + turns, 0, "b");
        at.keep(&mut store);
        turns += 1;
        assert!(turns < 20, "it does not run after what moves ahead");
    }
    assert_eq!(store, at.everything());
    assert!(store.len() > 90);
}

#[test]
fn a_walk_misses_nobody_whose_deadline_moves_because_its_time_has_come() {
    let mut at = new();
    let users: Vec<_> = (0..10).map(|number| format!("sip:user{number}@a.test")).collect();
    for (cseq, expires) in [(1, 60), (2, 600)] {
        let rows = [&*format!("Contact: <sip:x@h>;expires={expires}")];
        for user in &users {
            at.register(tcp(1), registration(SERVER, user, "a", cseq, &rows));
        }
    }
    at.changed();
    let (mut store, walk) = (Store::new(), at.location.walk());
    let rest = at.location.repeat(walk.expect("there is something"), 3);
    at.keep(&mut store);
    at.after(Duration::from_secs(60));
    let mut walk = rest;
    while let Some(rest) = walk {
        walk = at.location.repeat(rest, 3);
    }
    at.keep(&mut store);
    assert_eq!(store.len(), 10);
    at.after(Duration::from_secs(540));
    assert_eq!(at.location.bindings(), 0);
    // When nobody walks, a deadline that moves is no change.
    at.changed();
    for (cseq, expires) in [(3, 60), (4, 600)] {
        at.register(
            tcp(1),
            registration(SERVER, &users[0], "a", cseq, &[&*format!("Contact: <sip:x@h>;expires={expires}")]),
        );
    }
    at.changed();
    at.after(Duration::from_secs(60));
    assert_eq!(at.changed(), [""; 0]);
}
