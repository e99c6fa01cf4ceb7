//! What follows when a message cannot be sent, is too large, or its connection ends (§16.9, §17.1.4, §18.1.1).

use super::bench::{Bench, binding};
use super::network::{Peer, UCS};
use super::text::{answer, branch, large, request, value, values};
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::location::Target;
use crate::protocol::transaction::Branch;

const A: fn() -> Peer = || Peer::udp(5070);

/// Where a large request to this UDP peer goes.
fn by_tcp(peer: Peer) -> Peer {
    Peer(Flow { transport: Transport::Tcp, ..peer.0 })
}

#[test]
fn a_large_request_goes_by_tcp_and_says_so() {
    let b = Peer::udp(6000);
    for method in ["MESSAGE", "INVITE"] {
        let mut bench = Bench::new();
        bench.log_on_all(&[A(), b]);
        bench.receive(A(), &large(method, A(), "c"));
        let forwarded = bench.one(by_tcp(b), method);
        bench.nothing_more();
        assert!(value(&forwarded, "Via").starts_with("SIP/2.0/TCP 127.0.0.1:5060;branch="));
        let recorded = values(&forwarded, "Record-Route");
        assert_eq!(recorded.len(), if method == "INVITE" { 2 } else { 0 });
        assert!(recorded.first().is_none_or(|top| top.contains(";transport=tcp")));
        bench.pass_millis(3_000);
        bench.nothing_sent_to(b);
        bench.receive(Peer::tcp(6000), &answer(&forwarded, 200));
        assert_eq!(bench.kinds(A()).last().unwrap(), "200");
        // It lives where it is logged on, not where its large messages go.
        bench.receive(A(), &request("OPTIONS", "sip:bob@a.test", A(), "next"));
        let asked = bench.one(b, "OPTIONS");
        bench.receive(b, &answer(&asked, 200));
    }
}

#[test]
fn a_large_request_falls_back_to_udp_where_there_is_no_tcp() {
    let b = Peer::udp(6000);
    for method in ["MESSAGE", "INVITE"] {
        let mut bench = Bench::new();
        bench.log_on_all(&[A(), b]);
        bench.cut_off(Transport::Tcp, b.0.remote);
        bench.receive(A(), &large(method, A(), "c"));
        let forwarded = bench.one(b, method);
        assert!(value(&forwarded, "Via").starts_with("SIP/2.0/UDP 127.0.0.1:5060;rport;branch="));
        assert_eq!(values(&forwarded, "Record-Route").len(), if method == "INVITE" { 1 } else { 0 });
        bench.pass_millis(500);
        assert_eq!(bench.one(b, method), forwarded);
        bench.receive(b, &answer(&forwarded, 200));
        assert_eq!(bench.kinds(A()).last().unwrap(), "200");
        assert_eq!(bench.failed_flows, []);
        // Where it lives is learned all the same.
        bench.log_on(Peer::udp(6001), UCS);
        bench.receive(A(), &request("OPTIONS", "sip:bob@a.test", A(), "next"));
        let asked = bench.one(b, "OPTIONS");
        bench.nothing_more();
        bench.receive(b, &answer(&asked, 200));
        bench.take(A());
    }
}

#[test]
fn a_large_request_that_gets_through_by_neither_is_480() {
    let b = Peer::udp(6000);
    let mut bench = Bench::new();
    bench.log_on_all(&[A(), b]);
    bench.cut_off(Transport::Tcp, b.0.remote);
    bench.cut_off(Transport::Udp, b.0.remote);
    bench.receive(A(), &large("MESSAGE", A(), "c"));
    bench.one(A(), "480");
    assert_eq!(bench.failed_flows, [b.0]);
}

#[test]
fn a_flow_that_was_to_be_dialled_and_leads_nowhere_is_told() {
    let b = Peer(crate::protocol::flow::Flow { connection: None, ..Peer::tcp(6000).0 });
    for is_bound in [true, false] {
        let mut bench = Bench::new();
        bench.log_on_all(&[A(), b]);
        if is_bound {
            bench.bind("bob", b, 1000);
        }
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "one"));
        let forwarded = bench.one(b, "MESSAGE");
        bench.receive(Peer::tcp(6000), &answer(&forwarded, 200));
        bench.one(A(), "200");
        assert_eq!(bench.failed_flows, []);
        bench.cut_off(Transport::Tcp, b.0.remote);
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "two"));
        bench.take(A());
        assert_eq!(bench.failed_flows, [b.0]);
    }
}

#[test]
fn a_flow_that_is_to_be_dialled_lets_no_datagram_pass() {
    let b = Peer(crate::protocol::flow::Flow { transport: Transport::Tcp, ..Peer::udp(6000).0 });
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    bench.log_on(b, UCS);
    bench.receive(Peer::udp(6000), &request("MESSAGE", "sip:bob@a.test", Peer::udp(6000), "c"));
    bench.one(Peer::udp(6000), "407");
    // Nor does its end touch that of the same address by datagrams.
    bench.log_on(Peer::udp(6000), UCS);
    let now = std::time::Instant::now();
    bench.proxy.handle_log_off(now, &b.0);
    assert!(bench.proxy.standings().any(|(flow, _)| flow == Peer::udp(6000).0));
}

#[test]
fn a_branch_that_is_not_wanted_any_more_does_not_fall_back() {
    let (b, c) = (Peer::udp(6000), Peer::tcp(6001));
    for status in [200, 603] {
        let mut bench = Bench::new();
        bench.log_on(A(), UCS);
        bench.bind("bob", b, 1000);
        bench.bind("bob", c, 1000);
        bench.receive(A(), &large("INVITE", A(), "c"));
        let tried = bench.take(by_tcp(b)).remove(0);
        let invite = bench.one(c, "INVITE");
        bench.receive(c, &answer(&invite, status));
        bench.take(c);
        // The connection could not be opened after all.
        let failed = Branch::parse(branch(&tried).as_bytes()).unwrap();
        bench.fail(&failed, b.0.remote);
        bench.nothing_sent_to(b);
        assert_eq!(bench.kinds(A()), [status.to_string()]);
    }
}

#[test]
fn every_attempt_has_a_branch_of_its_own() {
    let b = Peer::udp(6000);
    let mut bench = Bench::new();
    bench.log_on_all(&[A(), b]);
    bench.receive(A(), &large("MESSAGE", A(), "c"));
    let first = bench.one(by_tcp(b), "MESSAGE");
    bench.fail(&Branch::parse(branch(&first).as_bytes()).unwrap(), b.0.remote);
    let second = bench.one(b, "MESSAGE");
    assert_ne!(branch(&first), branch(&second));
    bench.receive(b, &answer(&first, 200));
    bench.nothing_more();
    bench.receive(b, &answer(&second, 200));
    bench.one(A(), "200");
}

#[test]
fn a_connection_that_ends_fails_what_waits_on_it_at_once() {
    for method in ["MESSAGE", "INVITE", "SUBSCRIBE", "BYE"] {
        let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
        let mut bench = Bench::new();
        bench.log_on(A(), UCS);
        bench.bind("bob", b, 1000);
        bench.bind("bob", c, 500);
        for call in ["one", "two", "three"] {
            bench.receive(A(), &request(method, "sip:bob@a.test", A(), call));
        }
        let asked = bench.take(b);
        bench.receive(b, &answer(&asked[1], 404));
        bench.take(b);
        assert_eq!(bench.kinds(c).len(), 1);
        bench.close(b);
        let retried = bench.take(c);
        assert_eq!(retried.len(), 2, "{method}");
        for asked in &retried {
            bench.receive(c, &answer(asked, 200));
        }
        assert_eq!(bench.kinds(A()), ["200", "200"]);
        bench.close(c);
    }
}

#[test]
fn a_web_socket_is_reached_over_the_connection_that_its_client_has_opened_or_not_at_all() {
    for b in [Peer::ws(6000), Peer::wss(6000)] {
        let mut bench = Bench::new();
        bench.log_on(A(), UCS);
        bench.bind("bob", b, 1000);
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
        let sent = bench.take_sent(b).remove(0);
        assert_eq!((sent.hop, &sent.alternate), (b.0, &None));
        let token = b.0.transport.via_token();
        assert!(value(&sent.text(), "Via").starts_with(&format!("SIP/2.0/{token} 127.0.0.1:8")), "{token}");
        assert!(sent.text().starts_with("MESSAGE sip:bob@web6000.invalid;transport=ws SIP/2.0\r\n"));
        bench.receive(b, &answer(&sent.text(), 200));
        bench.one(A(), "200");
        bench.cut_off(b.0.transport, b.0.remote);
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "d"));
        bench.one(A(), "480");
        // Its contact and its address lead nowhere.
        for uri in ["sip:bob@127.0.0.1:6000;transport=ws", "sips:bob@127.0.0.1:6000;transport=ws"] {
            bench.receive(A(), &request("MESSAGE", uri, A(), uri));
            bench.one(A(), "404");
        }
        bench.nothing_more();
    }
}

#[test]
fn an_answer_to_a_web_socket_has_no_other_way() {
    for (a, has_alternate) in [(Peer::tcp(6000), true), (Peer::ws(6000), false), (Peer::wss(6000), false)] {
        let mut bench = Bench::new();
        bench.log_on(a, UCS);
        bench.receive(a, &request("OPTIONS", "sip:a.test", a, "c"));
        let sent = bench.take_sent(a).remove(0);
        assert_eq!((sent.hop, sent.alternate.is_some()), (a.0, has_alternate));
        // What it calls itself is no address, so it is told the one that it has.
        let is_told = value(&sent.text(), "Via").ends_with(";received=127.0.0.1");
        assert_eq!(is_told, a.0.transport.is_web_socket());
    }
}

#[test]
fn a_connection_that_was_opened_for_a_request_fails_it_when_it_ends() {
    let b = Peer::udp(6000);
    for is_large in [true, false] {
        let mut bench = Bench::new();
        bench.log_on_all(&[A(), b]);
        let direct = request("MESSAGE", "sip:bob@127.0.0.1:6000;transport=tcp", A(), "c");
        bench.receive(A(), &if is_large { large("MESSAGE", A(), "c") } else { direct });
        bench.one(by_tcp(b), "MESSAGE");
        bench.close(Peer::tcp(6000));
        if is_large {
            bench.one(b, "MESSAGE");
        } else {
            bench.one(A(), "480");
        }
        bench.nothing_more();
    }
}

#[test]
fn a_call_that_rings_outlives_its_connection() {
    let b = Peer::tcp(6000);
    let mut bench = Bench::new();
    bench.log_on_all(&[A(), b]);
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
    let invite = bench.one(b, "INVITE");
    bench.receive(b, &answer(&invite, 180));
    bench.one(A(), "180");
    bench.close(b);
    bench.nothing_more();
    // The answer comes over another one (§18.2.2).
    bench.receive(Peer::tcp(6009), &answer(&invite, 200));
    bench.one(A(), "200");
}

#[test]
fn a_request_over_udp_that_meets_an_icmp_error_is_tried_elsewhere() {
    let (b, c) = (Peer::udp(6000), Peer::udp(6001));
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    bench.bind("bob", b, 1000);
    bench.bind("bob", c, 500);
    bench.cut_off(Transport::Udp, b.0.remote);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let asked = bench.one(c, "MESSAGE");
    bench.receive(c, &answer(&asked, 200));
    bench.one(A(), "200");
}

#[test]
fn a_failure_that_is_told_late_changes_nothing() {
    let b = Peer::udp(6000);
    let mut bench = Bench::new();
    bench.log_on_all(&[A(), b]);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let asked = bench.one(b, "MESSAGE");
    let branch = Branch::parse(branch(&asked).as_bytes()).unwrap();
    bench.receive(b, &answer(&asked, 200));
    bench.one(A(), "200");
    bench.fail(&branch, b.0.remote);
    bench.pass_millis(60_000);
    bench.fail(&branch, b.0.remote);
    bench.nothing_more();
}

/// Slots and generations stand in what others get, and ICMP has no sender: the hash and the destination prove that
/// an error is about this request.
#[test]
fn an_error_that_is_about_something_else_ends_nothing() {
    let (b, other) = (Peer::udp(6000), Peer::udp(6001));
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    bench.bind_target("bob", Target { is_flow: true, ..binding("bob", b) });
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let asked = bench.one(b, "MESSAGE");
    let branch = Branch::parse(branch(&asked).as_bytes()).unwrap();
    bench.fail(&Branch { loop_hash: branch.loop_hash ^ 1, ..branch }, b.0.remote);
    bench.fail(&branch, other.0.remote);
    bench.nothing_more();
    assert!(bench.ended_flows.is_empty());
    bench.fail(&branch, b.0.remote);
    assert_eq!(bench.ended_flows, [b.0]);
    bench.one(A(), "480");
}
