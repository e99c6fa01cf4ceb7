//! What is not forwarded: validation (§16.3), routing (§16.5), limits, and the ACK to what was refused.

use super::bench::Bench;
use super::network::{Peer, UCS};
use super::text::{Dialog, answer, answer_with, branch, for_invite, kind, request, value, values, with};
use crate::protocol::proxy::DropReason;

const A: fn() -> Peer = || Peer::udp(5070);
const B: fn() -> Peer = || Peer::udp(5072);

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.log_on_all(&[A(), B()]);
    bench
}

#[test]
fn each_fault_has_its_answer_and_leaves_no_state() {
    let table = [
        ("Max-Forwards: 70", "Max-Forwards: 0", "483"),
        ("Max-Forwards: 70", "Max-Forwards: many", "400"),
        ("Max-Forwards: 70", "Max-Forwards: 70\r\nProxy-Require: foo, bar", "420"),
        ("sip:bob@a.test SIP", "tel:+4930123 SIP", "416"),
        ("sip:bob@a.test SIP", "sip:bob@b.test SIP", "404"),
        ("sip:bob@a.test SIP", "sip:bob@192.0.2.1 SIP", "403"),
        ("sip:bob@a.test SIP", "sip:bob@127.0.0.1:5060 SIP", "404"),
        ("sip:bob@a.test SIP", "sip:bob@127.0.0.1;transport=sctp SIP", "404"),
        ("sip:bob@a.test SIP", "sip:a.test SIP", "404"),
        ("Max-Forwards: 70", "Max-Forwards: 70\r\nRoute: <sip:p.b.test;lr>", "404"),
        ("Max-Forwards: 70", "Max-Forwards: 70\r\nRoute: nonsense", "400"),
        ("From: <sip:alice@a.test>", "From: <sip:alice@b.test>", "403"),
        ("CSeq: 1 ", "CSeq: x ", "400"),
        ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia", "505"),
    ];
    for (from, to, status) in table {
        for method in ["MESSAGE", "INVITE"] {
            let mut bench = bench();
            let text = request(method, "sip:bob@a.test", A(), "c").replacen(from, to, 1);
            bench.receive(A(), &text);
            bench.receive(A(), &text);
            let refusals = bench.take(A());
            assert_eq!(refusals.iter().map(|text| kind(text)).collect::<Vec<_>>(), [status; 2], "{to}");
            // The same request gets the same tag, though nothing was kept (§8.2.7).
            assert_eq!(value(&refusals[0], "To"), value(&refusals[1], "To"));
            assert_eq!(bench.proxy.load().servers, 0);
            if method == "INVITE" {
                bench.receive(A(), &for_invite(&text, "ACK", Some(value(&refusals[0], "To"))));
                assert_eq!(bench.drops(), [] as [DropReason; 0]);
            }
            bench.nothing_more();
        }
    }
}

#[test]
fn an_unsupported_extension_is_named() {
    let mut bench = bench();
    bench.receive(A(), &with(&request("MESSAGE", "sip:bob@a.test", A(), "c"), "Proxy-Require: foo, bar"));
    assert_eq!(value(&bench.one(A(), "420"), "Unsupported"), "foo,bar");
    // Require is for who answers (§16.3 step 5).
    bench.receive(A(), &with(&request("MESSAGE", "sip:bob@a.test", A(), "d"), "Require: foo"));
    bench.one(B(), "MESSAGE");
}

#[test]
fn an_unknown_method_is_no_fault() {
    let mut bench = bench();
    bench.receive(A(), &with(&request("FOO", "sip:bob@a.test", A(), "c"), "X-Foo: bar"));
    let forwarded = bench.one(B(), "FOO");
    assert_eq!(value(&forwarded, "X-Foo"), "bar");
    bench.receive(B(), &answer(&forwarded, 299));
    bench.one(A(), "299");
}

#[test]
fn options_for_the_proxy_itself_are_answered_whoever_asks() {
    for uri in ["sip:a.test", "sip:127.0.0.1:5060"] {
        let (mut bench, stranger) = (Bench::new(), Peer::udp(5999));
        let text = request("OPTIONS", uri, stranger, "c").replacen("Max-Forwards: 70", "Max-Forwards: 0", 1);
        bench.receive(stranger, &text);
        assert!(value(&bench.one(stranger, "200"), "Allow").contains("SUBSCRIBE"));
    }
}

#[test]
fn a_request_that_comes_back_unchanged_is_a_loop() {
    let mut bench = bench();
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let forwarded = bench.one(B(), "MESSAGE");
    let via = format!("Via: {};branch=z9hG4bK-again\r\n", B().via());
    bench.receive(B(), &forwarded.replacen("Via: ", &format!("{via}Via: "), 1));
    let loop_detected = bench.one(B(), "482");
    assert_eq!(values(&loop_detected, "Via").len(), 3);
    // With another Request-URI it is a spiral, and goes on (§16.3 step 4).
    let spiral = forwarded.replacen("sip:bob@", "sip:carol@", 1).replacen("Via: ", &format!("{via}Via: "), 1);
    bench.receive(B(), &spiral);
    let onward = bench.one(A(), "MESSAGE");
    let loop_hash = |text: &str| branch(text)[26..].to_owned();
    assert_ne!(loop_hash(&forwarded), loop_hash(&onward));
}

#[test]
fn the_loop_hash_does_not_depend_on_the_method() {
    let mut bench = bench();
    let hashes = ["MESSAGE", "SUBSCRIBE"].map(|method| {
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
        branch(&bench.one(B(), method))[26..].to_owned()
    });
    assert_eq!(hashes[0], hashes[1]);
}

#[test]
fn under_overload_new_work_is_shed_first() {
    let mut bench = Bench::with(|settings| settings.maximum_transactions = 10);
    bench.log_on_all(&[A(), B()]);
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "call"));
    let invite = bench.one(B(), "INVITE");
    bench.receive(B(), &answer_with(&invite, 200, "bob", &format!("Contact: <{}>\r\n", B().contact("bob"))));
    let dialog = Dialog::of_caller(A(), &bench.one(A(), "200"));
    for n in 0..8 {
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), &n.to_string()));
        bench.one(B(), "MESSAGE");
    }
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "over"));
    let overload = bench.one(A(), "503");
    assert!(values(&overload, "Retry-After").is_empty());
    // What is in a dialog still passes, up to the whole.
    bench.receive(A(), &dialog.request("INFO", 2));
    bench.one(B(), "INFO");
    bench.receive(A(), &dialog.request("BYE", 3));
    bench.one(A(), "503");
    // Repetitions and responses are no new work.
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "0"));
    bench.nothing_more();
    bench.pass_millis(40_000);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "over"));
    assert_eq!(bench.kinds(B()).last().unwrap(), "MESSAGE");
}

#[test]
fn requests_that_nobody_answers_are_shed_too() {
    let mut bench = Bench::with(|settings| settings.maximum_transactions = 10);
    bench.log_on_all(&[A(), B()]);
    bench.hold_answers();
    for n in 0..100 {
        bench.receive(A(), &request("BENOTIFY", "sip:bob@a.test", A(), &n.to_string()));
        let ack = request("ACK", "sip:bob@a.test", A(), &format!("ack{n}"));
        bench.receive(A(), &ack);
    }
    assert!(bench.proxy.load().contexts <= 10);
    bench.nothing_more();
}

#[test]
fn a_registrar_that_does_not_answer_ends_in_a_500() {
    for method in ["INVITE", "MESSAGE", "REGISTER"] {
        let mut bench = bench();
        let a = Peer::tcp(5076);
        bench.log_on(a, UCS);
        bench.hold_answers();
        bench.receive(a, &request(method, "sip:bob@a.test", a, "c"));
        bench.pass_millis(7_990);
        bench.take(a);
        bench.pass_millis(20);
        bench.one(a, "500");
        // Its answer is then for nobody.
        bench.answer_held();
        bench.nothing_sent_to(B());
    }
}

#[test]
fn a_benotify_is_forwarded_and_never_answered() {
    let mut bench = bench();
    bench.receive(A(), &request("BENOTIFY", "sip:bob@a.test", A(), "c"));
    bench.one(B(), "BENOTIFY");
    bench.receive(A(), &request("BENOTIFY", "sip:bob@b.test", A(), "c"));
    bench.receive(Peer::udp(5999), &request("BENOTIFY", "sip:bob@a.test", Peer::udp(5999), "c"));
    let load = bench.proxy.load();
    assert_eq!((load.servers, load.clients, load.contexts), (0, 0, 0));
    bench.nothing_more();
}

#[test]
fn a_request_to_an_address_on_the_lan_goes_there_alone() {
    let (mut bench, c) = (bench(), Peer::udp(5080));
    bench.bind("bob", B(), 1000);
    for (uri, to) in [("sip:bob@127.0.0.1:5080", c), ("sip:127.0.0.1:5080", c)] {
        bench.receive(A(), &request("MESSAGE", uri, A(), uri));
        let forwarded = bench.one(to, "MESSAGE");
        bench.nothing_more();
        bench.receive(to, &answer(&forwarded, 404));
        bench.one(A(), "404");
    }
    let tcp = "sip:bob@127.0.0.1:5080;transport=TCP";
    bench.receive(A(), &request("MESSAGE", tcp, A(), "tcp"));
    bench.one(Peer::tcp(5080), "MESSAGE");
}

#[test]
fn a_request_without_a_via_to_answer_to_is_dropped() {
    let mut bench = bench();
    for via in ["X: ", "Via: nonsense ", "Via: SIP/2.0/UDP ;x="] {
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c").replacen("Via: ", via, 1));
        assert_eq!(bench.drops(), [DropReason::NoVia]);
    }
    bench.nothing_more();
}

#[test]
fn a_registration_reaches_the_registrar_and_nobody_else() {
    let mut bench = bench();
    let a = Peer::tcp(5076);
    bench.log_on(a, UCS);
    let register = request("REGISTER", "sip:a.test", a, "c").replace("sip:bob@a.test", "sip:alice@a.test");
    bench.receive(a, &register);
    let ok = bench.one(a, "200");
    assert!(values(&ok, "Record-Route").is_empty());
    bench.receive(a, &register);
    assert_eq!(bench.one(a, "200"), ok);
    bench.receive(a, &request("REGISTER", "sip:a.test", a, "d").replace("sip:bob@a.test", "sip:bob@b.test"));
    bench.one(a, "404");
    bench.log_on(Peer::udp(5999), UCS);
    bench.nothing_more();
}
