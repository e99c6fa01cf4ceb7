//! What becomes of a 3xx: passed on, or followed (RFC 3261 §16.7 step 4).

use super::bench::Bench;
use super::network::{Peer, UCS};
use super::text::{answer, answer_with, kind, request, uri, values, with};

const A: fn() -> Peer = || Peer::udp(5070);
const BOB: fn() -> Peer = || Peer::udp(6000);
const CAROL: fn() -> Peer = || Peer::udp(6001);
const DAVE: fn() -> Peer = || Peer::tcp(6002);

/// Bob, Carol and Dave have a contact each; redirections are followed.
fn bench() -> Bench {
    let mut bench = Bench::with(|settings| settings.follow_redirections = true);
    bench.log_on(A(), UCS);
    for (user, peer) in [("bob", BOB()), ("carol", CAROL()), ("dave", DAVE())] {
        bench.bind(user, peer, 1000);
    }
    bench
}

/// Bob answers a request of `method` with a 302 to these contacts.
fn redirected(bench: &mut Bench, method: &str, contacts: &str) {
    bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
    let asked = bench.one(BOB(), method);
    bench.receive(BOB(), &answer_with(&asked, 302, "b", &format!("Contact: {contacts}\r\n")));
    bench.take(BOB()).iter().for_each(|ack| assert_eq!(kind(ack), "ACK"));
}

#[test]
fn it_is_for_the_client_unless_the_proxy_is_to_follow() {
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    bench.bind("bob", BOB(), 1000);
    bench.bind("carol", CAROL(), 1000);
    redirected(&mut bench, "MESSAGE", "<sip:carol@a.test>");
    assert_eq!(values(&bench.one(A(), "302"), "Contact"), ["<sip:carol@a.test>"]);
    bench.nothing_more();
}

#[test]
fn whom_it_names_is_asked_in_its_place() {
    for method in ["MESSAGE", "INVITE", "SUBSCRIBE"] {
        let mut bench = bench();
        redirected(&mut bench, method, "<sip:carol@a.test>");
        let asked = bench.one(CAROL(), method);
        assert_eq!(uri(&asked), CAROL().contact("carol"));
        bench.receive(CAROL(), &answer(&asked, 200));
        bench.one(A(), "200");
        bench.nothing_more();
    }
}

#[test]
fn a_numeric_address_of_the_lan_is_asked_as_it_stands() {
    let mut bench = bench();
    redirected(&mut bench, "MESSAGE", &format!("<sip:x@{};a=b>", CAROL().0.remote));
    let asked = bench.one(CAROL(), "MESSAGE");
    assert_eq!(uri(&asked), format!("sip:x@{};a=b", CAROL().0.remote));
    bench.receive(CAROL(), &answer(&asked, 404));
    bench.one(A(), "404");
}

#[test]
fn several_have_their_turn_by_preference() {
    let mut bench = bench();
    redirected(&mut bench, "MESSAGE", "<sip:carol@a.test>;q=0.2, \"D\" <sip:dave@a.test>;q=0.9");
    let asked = bench.one(DAVE(), "MESSAGE");
    bench.nothing_more();
    bench.receive(DAVE(), &answer(&asked, 480));
    let asked = bench.one(CAROL(), "MESSAGE");
    bench.receive(CAROL(), &answer(&asked, 200));
    bench.one(A(), "200");
}

#[test]
fn who_is_searched_for_is_asked_for_by_the_name_that_it_gives() {
    let mut bench = bench();
    bench.log_on(DAVE(), UCS);
    redirected(&mut bench, "MESSAGE", "<sip:erin@a.test;x=1>");
    let asked = bench.one(DAVE(), "MESSAGE");
    assert_eq!(uri(&asked), "sip:erin@a.test;x=1");
    bench.receive(DAVE(), &answer(&asked, 200));
    bench.one(A(), "200");
    bench.receive(A(), &request("MESSAGE", "sip:erin@a.test", A(), "d"));
    let asked = bench.one(DAVE(), "MESSAGE");
    bench.receive(DAVE(), &answer(&asked, 200));
    bench.one(A(), "200");
}

#[test]
fn what_is_not_followed_is_left_for_the_client() {
    let left = [
        "<sip:bob@far.example>",
        "<mailto:bob@a.test>",
        "<sip:carol@a.test?Subject=x>",
        "<sip:bob@192.0.2.1>",
        // The one that was asked for in the first place.
        "<sip:bob@a.test>",
        "*",
    ];
    for contact in left {
        let mut bench = bench();
        redirected(&mut bench, "MESSAGE", contact);
        assert_eq!(values(&bench.one(A(), "302"), "Contact"), [contact]);
        bench.nothing_more();
    }
    // Of several it keeps those (§16.7 step 4), and is kept itself, as the best there is.
    let mut bench = bench();
    redirected(&mut bench, "MESSAGE", "<sip:bob@far.example>,<sip:carol@a.test> , <sip:x@far.example>;q=0.5");
    let asked = bench.one(CAROL(), "MESSAGE");
    bench.receive(CAROL(), &answer(&asked, 486));
    let left = ["<sip:bob@far.example>, <sip:x@far.example>;q=0.5"];
    assert_eq!(values(&bench.one(A(), "302"), "Contact"), left);
}

#[test]
fn redirections_in_a_circle_end() {
    let mut bench = bench();
    redirected(&mut bench, "MESSAGE", "<sip:carol@a.test>");
    let asked = bench.one(CAROL(), "MESSAGE");
    let back = "Contact: <sip:bob@a.test>\r\nContact: <sip:CAROL@a.test>, <sip:carol@A.TEST>\r\n";
    bench.receive(CAROL(), &answer_with(&asked, 301, "c", back));
    // CAROL is somebody else (§19.1.4), who has no contact.
    let found = bench.one(A(), "301");
    assert_eq!(values(&found, "Contact"), ["<sip:bob@a.test>", "<sip:carol@A.TEST>"]);
    bench.nothing_more();
}

#[test]
fn only_so_many_are_followed() {
    let mut bench = bench();
    let contacts: Vec<_> = (0..30).map(|n| format!("<sip:u{n}@{}>", CAROL().0.remote)).collect();
    redirected(&mut bench, "MESSAGE", &contacts.join(","));
    let mut asked = 0;
    while let Some(text) = bench.take(CAROL()).first() {
        asked += 1;
        bench.receive(CAROL(), &answer(text, 480));
    }
    assert_eq!(asked, 16);
    let left = bench.one(A(), "302");
    assert_eq!(values(&left, "Contact")[0].split(", ").count(), 14);
}

#[test]
fn nobody_is_asked_after_a_cancel_or_a_decline() {
    let mut bench = bench();
    bench.bind("bob", DAVE(), 1000);
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
    let (first, second) = (bench.one(BOB(), "INVITE"), bench.one(DAVE(), "INVITE"));
    bench.receive(BOB(), &answer_with(&first, 302, "b", "Contact: <sip:carol@a.test>\r\n"));
    bench.one(BOB(), "ACK");
    // While one still rings, nobody else is asked.
    bench.nothing_sent_to(CAROL());
    bench.receive(DAVE(), &answer(&second, 603));
    bench.one(DAVE(), "ACK");
    bench.nothing_sent_to(CAROL());
    assert_eq!(bench.kinds(A()).last().map(String::as_str), Some("603"));
}

#[test]
fn a_registrar_that_does_not_answer_ends_it() {
    let mut bench = bench();
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let asked = bench.one(BOB(), "MESSAGE");
    bench.hold_answers();
    let contacts = "Contact: <sip:carol@a.test>, <sip:x@far.example>\r\n";
    bench.receive(BOB(), &answer_with(&asked, 302, "b", contacts));
    bench.nothing_more();
    bench.pass_millis(10_000);
    assert_eq!(bench.kinds(A()).last().map(String::as_str), Some("302"));
    bench.answer_held();
    bench.nothing_more();
}

#[test]
fn behind_a_route_of_its_own_a_redirection_is_for_the_client() {
    let mut bench = bench();
    let routed = with(
        &request("MESSAGE", "sip:bob@far.example", A(), "c"),
        &format!("Route: <sip:{};lr>", BOB().0.remote),
    );
    bench.receive(A(), &routed);
    let asked = bench.one(BOB(), "MESSAGE");
    bench.receive(BOB(), &answer_with(&asked, 302, "b", "Contact: <sip:carol@a.test>\r\n"));
    bench.one(A(), "302");
    bench.nothing_more();
}
