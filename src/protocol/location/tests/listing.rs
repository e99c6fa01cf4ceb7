//! What administrators are told: in pages, whatever comes and goes between them.

use std::collections::BTreeSet;

use super::*;

/// Every name that the pages have, and how many pages there were; `between` happens after each.
fn walk(at: &mut Fixture, count: usize, mut between: impl FnMut(&mut Fixture)) -> (Vec<String>, usize) {
    let (mut place, mut names, mut pages) = (Place::Shard(0), Vec::new(), 0);
    loop {
        let page = at.location.list_page(at.now, &place, count);
        assert!(page.listed.len() <= count.max(1), "one binding each");
        names.extend(page.listed.iter().map(|binding| binding.name.to_string()));
        pages += 1;
        between(at);
        match page.next {
            Some(next) => place = next,
            None => return (names, pages),
        }
    }
}

fn user(number: usize) -> String {
    format!("sip:user-{number}@a.test")
}

fn register(at: &mut Fixture, number: usize, contact: &str) {
    let reply = at
        .register(tcp(1), registration(SERVER, &user(number), &format!("c{number}{contact}"), 1, &[contact]));
    assert_eq!(reply.status, 200);
}

#[test]
fn pages_of_any_size_have_everybody_once() {
    let mut at = new();
    (0..600).for_each(|number| register(&mut at, number, "Contact: <sip:a@h>"));
    for count in [0, 1, 7, 256, 10_000] {
        let (names, pages) = walk(&mut at, count, |_| ());
        assert_eq!((names.len(), names.iter().collect::<BTreeSet<_>>().len()), (600, 600), "{count}");
        assert!(pages >= 600 / count.clamp(1, 256), "{pages} pages of {count}");
    }
    let page = at.location.list_page(at.now, &Place::Shard(usize::MAX), 1);
    assert_eq!((page.names, page.bindings, page.listed.len(), page.next), (600, 600, 0, None));
}

#[test]
fn who_stays_is_neither_missed_nor_repeated_while_others_come_and_go() {
    let mut at = new();
    (0..300).for_each(|number| register(&mut at, number, "Contact: <sip:a@h>"));
    let mut next = 300;
    let (names, _) = walk(&mut at, 10, |at| {
        // One comes, one refreshes, which moves it in the order of expiry, and one goes.
        register(at, next, "Contact: <sip:a@h>");
        register(at, next % 100, "Contact: <sip:a@h>;expires=7000");
        let goes = 200 + next % 100;
        at.register(
            tcp(1),
            registration(SERVER, &user(goes), &format!("d{next}"), 1, &["Contact: *", "Expires: 0"]),
        );
        next += 1;
    });
    for stays in 0..200 {
        let text = format!("user-{stays}@a.test");
        assert_eq!(names.iter().filter(|name| **name == text).count(), 1, "{text}");
    }
}

#[test]
fn one_name_has_its_bindings_that_have_not_expired() {
    let mut at = new();
    at.contact("a", 1, &["Contact: <sip:a@h>;q=0.5;expires=100", "Contact: <sip:b@h>;expires=200"]);
    at.now += Duration::from_millis(100_500);
    let page = at.location.list(at.now, &name("sip:alice@a.test"));
    let listed = &page.listed[0];
    assert_eq!(
        (page.listed.len(), listed.contact.as_slice(), listed.seconds, listed.q),
        (1, &b"sip:b@h"[..], 99, 1000)
    );
    assert!(at.location.list(at.now, &name("sip:nobody@a.test")).listed.is_empty());
}

#[test]
fn servers_are_told_with_how_they_have_logged_on() {
    let mut at = with(|settings| {
        let mut list = accounts().list().to_vec();
        list[1].secret = Secret::Certificate("uc.test".to_owned());
        list.push(Account { secret: Secret::Address, user_name: "lan".to_owned(), ..list[0].clone() });
        settings.accounts = Arc::new(Accounts::new(list));
    });
    at.log_on(tcp(1), SERVER);
    at.log_on(tcp(2), OTHER);
    at.log_on(tcp(3), AccountId(3));
    at.register(tcp(4), registration(SERVER, "sip:x@a.test", "x", 1, &["Contact: <sip:x@h>"]));
    let told: Vec<_> =
        at.location.list_servers(10).into_iter().map(|one| (one.account, one.by, one.bindings)).collect();
    let expected = [
        ("ucserver", LogOnKind::Digest, 0),
        ("other", LogOnKind::Certificate, 0),
        ("lan", LogOnKind::Address, 0),
        ("ucserver", LogOnKind::Registration, 1),
    ];
    assert_eq!(told, expected.map(|(account, by, bindings)| (account.to_owned(), by, bindings)));
    assert_eq!(at.location.list_servers(2).len(), 2);
}
