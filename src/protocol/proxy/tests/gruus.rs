//! Request-URIs that name one user agent (RFC 5627 §6.1), in dialogs and outside of them.

use super::bench::{Bench, binding};
use super::network::{Peer, UCS};
use super::text::{Dialog, answer, answer_with, request, uri, values, with};
use crate::protocol::location::Target;

const A: fn() -> Peer = || Peer::udp(5070);
const GRUU: &str = "sip:bob@a.test;gr=urn:x:phone";

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    bench
}

/// A call from `a` to bob's user agent at `b`, which has its GRUU as Contact: the caller's end.
fn call(bench: &mut Bench, a: Peer, b: Peer) -> Dialog {
    bench.bind("bob", b, 1000);
    bench.bind_instance("bob", "urn:x:phone", binding("bob", b));
    bench.receive(a, &request("INVITE", "sip:bob@a.test", a, "c"));
    let invite = bench.one(b, "INVITE");
    bench.receive(b, &answer_with(&invite, 200, "bob", &format!("Contact: <{GRUU}>\r\n")));
    let ok = bench.take(a).pop().unwrap();
    Dialog::of_caller(a, &ok)
}

#[test]
fn the_request_uri_becomes_the_contact_of_the_user_agent() {
    let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
    let mut bench = bench();
    bench.bind("bob", b, 1000);
    bench.bind("bob", c, 1000);
    bench.bind_instance("bob", "urn:x:phone", binding("bob", c));
    bench.receive(A(), &request("MESSAGE", GRUU, A(), "c"));
    let asked = bench.one(c, "MESSAGE");
    assert_eq!(uri(&asked), c.contact("bob"));
    bench.nothing_more();
    bench.receive(c, &answer(&asked, 200));
}

#[test]
fn the_status_of_a_user_agent_that_is_not_there_goes_upstream() {
    for status in [404, 480] {
        let mut bench = bench();
        bench.log_on(Peer::tcp(6000), UCS);
        bench.withdraw_instance("bob", "urn:x:phone", status);
        bench.receive(A(), &request("MESSAGE", GRUU, A(), "c"));
        bench.one(A(), &status.to_string());
        bench.nothing_more();
    }
}

#[test]
fn a_user_agent_that_nobody_has_registered_is_searched_for_as_it_is_written() {
    let server = Peer::tcp(6000);
    let mut bench = bench();
    bench.log_on(server, UCS);
    bench.receive(A(), &request("MESSAGE", GRUU, A(), "c"));
    let asked = bench.one(server, "MESSAGE");
    assert_eq!(uri(&asked), GRUU);
    bench.receive(server, &answer(&asked, 200));
}

#[test]
fn in_a_dialog_the_user_agent_is_reached_where_it_is_now() {
    let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
    for method in ["ACK", "BYE", "INFO"] {
        let mut bench = bench();
        let caller = call(&mut bench, A(), b);
        // It has lost its connection and has come back by another.
        bench.bind_instance("bob", "urn:x:phone", binding("bob", c));
        bench.receive(A(), &caller.request(method, 2));
        let asked = bench.one(c, method);
        assert_eq!((uri(&asked), values(&asked, "Route").len()), (&*c.contact("bob"), 0), "{method}");
        bench.nothing_more();
        if method != "ACK" {
            bench.receive(c, &answer(&asked, 200));
        }
    }
}

#[test]
fn in_a_dialog_without_route_left_its_path_leads_there() {
    let b = Peer::tcp(6000);
    let mut bench = bench();
    let caller = call(&mut bench, A(), b);
    let path = vec!["<sip:edge.test;lr;ob>".into()];
    bench.bind_instance("bob", "urn:x:phone", Target { path, ..binding("bob", b) });
    bench.receive(A(), &caller.request("BYE", 2));
    let asked = bench.one(b, "BYE");
    assert_eq!(values(&asked, "Route"), ["<sip:edge.test;lr;ob>"]);
    bench.receive(b, &answer(&asked, 200));
}

#[test]
fn in_a_dialog_with_a_route_left_that_leads_there_and_its_path_does_not() {
    let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
    let mut bench = bench();
    let caller = call(&mut bench, A(), b);
    let path = vec!["<sip:edge.test;lr;ob>".into()];
    bench.bind_instance("bob", "urn:x:phone", Target { path, ..binding("bob", c) });
    bench.receive(A(), &with(&caller.request("BYE", 2), "Route: <sip:token@edge.test;lr>"));
    // By the way that the dialog was recorded with.
    let asked = bench.one(b, "BYE");
    assert_eq!(values(&asked, "Route"), ["<sip:token@edge.test;lr>"]);
    assert_eq!(uri(&asked), c.contact("bob"));
    bench.receive(b, &answer(&asked, 200));
}

#[test]
fn in_a_dialog_its_way_is_left_for_a_user_agent_that_nobody_knows() {
    let b = Peer::tcp(6000);
    // With and without other bindings of the user.
    for is_withdrawn in [true, false] {
        let mut bench = bench();
        let caller = call(&mut bench, A(), b);
        if is_withdrawn {
            bench.withdraw_instance("bob", "urn:x:phone", 480);
        } else {
            bench.forget("bob");
        }
        bench.receive(A(), &caller.request("BYE", 2));
        let asked = bench.one(b, "BYE");
        assert_eq!(uri(&asked), GRUU);
        bench.receive(b, &answer(&asked, 200));
    }
}

#[test]
fn in_a_dialog_what_is_no_gruu_of_ours_is_left_alone() {
    let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
    for target in ["sip:bob@a.test", "sip:bob@a.test;gr", "sip:bob@a.test;opaque=user:epid:x;gruu"] {
        let mut bench = bench();
        let caller = call(&mut bench, A(), b);
        bench.bind("bob", c, 1000);
        bench.receive(A(), &caller.request("BYE", 2).replacen(GRUU, target, 1));
        let asked = bench.one(b, "BYE");
        assert_eq!(uri(&asked), target);
        bench.receive(b, &answer(&asked, 200));
        bench.one(A(), "200");
        bench.nothing_more();
    }
}

#[test]
fn in_a_dialog_too_a_name_that_was_withdrawn_leads_nowhere() {
    let b = Peer::tcp(6000);
    let mut bench = bench();
    let caller = call(&mut bench, A(), b);
    bench.withdraw_instance("bob", "urn:x:phone", 404);
    bench.receive(A(), &caller.request("BYE", 2));
    bench.one(A(), "404");
    bench.nothing_more();
}
