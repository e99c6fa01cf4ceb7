//! A process that is about to end: what is refused, what passes, what is left.

use super::bench::Bench;
use super::network::Peer;
use super::text::{Dialog, answer, answer_with, for_invite, request, value};
use crate::protocol::proxy::Unfinished;

const A: fn() -> Peer = || Peer::udp(5070);
const B: fn() -> Peer = || Peer::udp(5072);

const fn left(begun: usize, since: usize) -> Unfinished {
    Unfinished { begun, since }
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.log_on_all(&[A(), B()]);
    bench
}

#[test]
fn what_would_begin_is_told_when_to_come_again() {
    let mut bench = bench();
    assert_eq!(bench.say_farewell(32), left(0, 0));
    for (method, uri) in
        [("INVITE", "sip:bob@a.test"), ("MESSAGE", "sip:bob@a.test"), ("OPTIONS", "sip:127.0.0.1")]
    {
        bench.receive(A(), &request(method, uri, A(), method));
        let refusal = bench.one(A(), "503");
        assert_eq!(value(&refusal, "Retry-After"), "32", "{method}");
        assert!(value(&refusal, "Warning").starts_with("399 sip-proxy \"Shutting down"), "{method}");
    }
    bench.say_farewell(0);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "last"));
    assert_eq!(value(&bench.one(A(), "503"), "Retry-After"), "1", "0 would mean at once");
    assert_eq!(bench.say_farewell(1), left(0, 0), "a refusal leaves nothing to do");
}

#[test]
fn a_call_that_rings_is_completed_and_ends_before_the_process_does() {
    let mut bench = bench();
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "call"));
    let invite = bench.one(B(), "INVITE");
    bench.receive(B(), &answer(&invite, 180));
    bench.one(A(), "180");
    assert_eq!(bench.say_farewell(32), left(1, 0));
    bench.pass_millis(60_000);
    assert_eq!(bench.say_farewell(32), left(1, 0));
    bench.receive(B(), &answer_with(&invite, 200, "bob", &format!("Contact: <{}>\r\n", B().contact("bob"))));
    let dialog = Dialog::of_caller(A(), &bench.one(A(), "200"));
    assert_eq!(bench.say_farewell(32), left(1, 0), "its ACK comes by here");
    bench.receive(A(), &dialog.request("ACK", 1));
    bench.one(B(), "ACK");
    bench.pass_millis(5_000);
    assert_eq!(bench.say_farewell(32), left(0, 0), "after T4 there is no ACK on its way any more");
    bench.receive(A(), &dialog.request("BYE", 2));
    let bye = bench.one(B(), "BYE");
    assert_eq!(bench.say_farewell(32), left(0, 1), "what has begun since counts apart");
    bench.receive(B(), &answer(&bye, 200));
    bench.one(A(), "200");
    assert_eq!(bench.say_farewell(32), left(0, 0));
}

#[test]
fn a_refusal_of_a_call_is_repeated_until_its_ack_comes() {
    let mut bench = bench();
    let invite = request("INVITE", "sip:bob@a.test", A(), "call");
    bench.receive(A(), &invite);
    let forwarded = bench.one(B(), "INVITE");
    assert_eq!(bench.say_farewell(32), left(1, 0));
    bench.receive(B(), &answer(&forwarded, 486));
    bench.one(B(), "ACK");
    let refusal = bench.one(A(), "486");
    assert_eq!(bench.say_farewell(32), left(1, 0));
    bench.pass_millis(500);
    bench.one(A(), "486");
    bench.receive(A(), &for_invite(&invite, "ACK", Some(value(&refusal, "To"))));
    assert_eq!(bench.say_farewell(32), left(0, 0));
}

#[test]
fn a_call_may_be_given_up() {
    let mut bench = bench();
    let invite = request("INVITE", "sip:bob@a.test", A(), "call");
    bench.receive(A(), &invite);
    let forwarded = bench.one(B(), "INVITE");
    bench.receive(B(), &answer(&forwarded, 180));
    bench.one(A(), "180");
    bench.say_farewell(32);
    bench.receive(A(), &for_invite(&invite, "CANCEL", None));
    bench.one(A(), "200");
    bench.one(B(), "CANCEL");
}
