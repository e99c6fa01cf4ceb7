//! Several ways to one user agent: one at a time, the next in the place of one that has failed (RFC 5626 §7,
//! RFC 5627 §6.1).

use super::bench::{Bench, binding};
use super::network::{Peer, UCS};
use super::text::{answer, kind, large, request, uri, value, with};
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::location::Target;

const A: fn() -> Peer = || Peer::udp(5070);

/// A binding of bob's user agent with these flows, in the order in which they are to be asked.
fn flows(peers: &[Peer]) -> Target {
    let flow = |&peer: &Peer| Target { is_flow: true, ..binding("bob", peer) };
    let mut ways = peers.iter().map(flow);
    let first = ways.next().unwrap();
    Target { alternatives: ways.collect(), ..first }
}

/// Bob with user agents that have these flows each.
fn bob(agents: &[&[Peer]]) -> Bench {
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    agents.iter().for_each(|peers| bench.bind_target("bob", flows(peers)));
    bench
}

/// What has been sent upstream, but for 100.
fn upstream(bench: &mut Bench) -> Vec<String> {
    bench.kinds(A()).into_iter().filter(|kind| kind != "100").collect()
}

fn refuse(bench: &mut Bench, peer: Peer, method: &str, status: u16) {
    let asked = bench.one(peer, method);
    assert_eq!(uri(&asked), peer.contact("bob"));
    bench.receive(peer, &answer(&asked, status));
    if method == "INVITE" {
        bench.one(peer, "ACK");
    }
}

#[test]
fn the_next_way_is_tried_only_where_the_user_agent_has_not_answered() {
    // What comes back by the first of two ways; whether the second is tried; what goes upstream where it is not.
    let table = [
        (430, true, ""),
        (408, true, ""),
        (480, false, "480"),
        (486, false, "486"),
        (503, false, "500"),
        (404, false, "404"),
        (302, false, "302"),
        (603, false, "603"),
    ];
    for method in ["INVITE", "MESSAGE", "SUBSCRIBE"] {
        for (status, is_tried, expected) in table {
            let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
            let mut bench = bob(&[&[b, c]]);
            bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
            bench.nothing_sent_to(c);
            refuse(&mut bench, b, method, status);
            if is_tried {
                bench.nothing_sent_to(A());
                refuse(&mut bench, c, method, 486);
            }
            let expected = if is_tried { "486" } else { expected };
            assert_eq!(upstream(&mut bench), [expected], "{method} {status}");
            bench.nothing_sent_to(c);
        }
    }
}

#[test]
fn flows_that_have_all_failed_are_480_and_nobody_hears_of_430() {
    for method in ["INVITE", "MESSAGE"] {
        let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
        for last in ["430", "unreachable"] {
            let mut bench = bob(&[&[b, c]]);
            bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
            if last == "unreachable" {
                bench.cut_off(Transport::Tcp, c.0.remote);
            }
            refuse(&mut bench, b, method, 430);
            if last == "430" {
                refuse(&mut bench, c, method, 430);
            }
            assert_eq!(upstream(&mut bench), ["480"], "{method} {last}");
        }
        // A word of anybody's is better.
        let mut bench = bob(&[&[b], &[c]]);
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
        refuse(&mut bench, b, method, 430);
        refuse(&mut bench, c, method, 404);
        assert_eq!(upstream(&mut bench), ["404"]);
    }
    // Where it is not our flow, it is not our word.
    let b = Peer::udp(6000);
    let mut bench = bob(&[]);
    bench.receive(A(), &request("MESSAGE", "sip:bob@127.0.0.1:6000", A(), "c"));
    let asked = bench.one(b, "MESSAGE");
    bench.receive(b, &answer(&asked, 430));
    assert_eq!(upstream(&mut bench), ["430"]);
}

#[test]
fn a_flow_that_cannot_be_reached_is_passed_over_at_once() {
    let peers = [Peer::tcp(6000), Peer::udp(6001), Peer::tls(6002)];
    let mut bench = bob(&[&peers]);
    bench.cut_off(Transport::Tcp, peers[0].0.remote);
    bench.cut_off(Transport::Udp, peers[1].0.remote);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    refuse(&mut bench, peers[2], "MESSAGE", 486);
    assert_eq!(upstream(&mut bench), ["486"]);
    // Of the connection the Registrar knows by itself.
    assert_eq!(bench.ended_flows, [peers[1].0]);
}

#[test]
fn user_agents_are_asked_at_once_and_each_by_one_way_at_a_time() {
    let peers: Vec<_> = (0..4).map(|n| Peer::tcp(6000 + n)).collect();
    let mut bench = bob(&[&peers[..2], &peers[2..]]);
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
    bench.nothing_sent_to(peers[1]);
    bench.nothing_sent_to(peers[3]);
    let ringing = bench.one(peers[2], "INVITE");
    bench.receive(peers[2], &answer(&ringing, 180));
    bench.one(A(), "180");
    refuse(&mut bench, peers[0], "INVITE", 430);
    let asked = bench.one(peers[1], "INVITE");
    bench.receive(peers[1], &answer(&asked, 200));
    assert_eq!(upstream(&mut bench), ["200"]);
    bench.one(peers[2], "CANCEL");
    bench.nothing_sent_to(peers[3]);
}

#[test]
fn the_time_of_a_silent_request_is_shared_among_its_ways() {
    let peers = [Peer::udp(6000), Peer::udp(6001)];
    let mut bench = bob(&[&peers]);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    bench.pass_millis(7_990);
    bench.take(peers[0]);
    bench.nothing_sent_to(peers[1]);
    bench.pass_millis(20);
    let asked = bench.one(peers[1], "MESSAGE");
    bench.receive(peers[1], &answer(&asked, 200));
    assert_eq!(upstream(&mut bench), ["200"]);
    let three = [peers[0], peers[1], Peer::udp(6002)];
    let mut bench = bob(&[&three]);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    for next in &three[1..] {
        bench.pass_millis(5_320);
        bench.nothing_sent_to(*next);
        bench.pass_millis(20);
        assert!(!bench.take(*next).is_empty());
    }
    // One that has said that it is at work has the whole of it.
    let mut bench = bob(&[&peers]);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let asked = bench.one(peers[0], "MESSAGE");
    bench.receive(peers[0], &answer(&asked, 100));
    bench.pass_millis(30_000);
    bench.nothing_sent_to(peers[1]);
    bench.receive(peers[0], &answer(&asked, 200));
    assert_eq!(upstream(&mut bench), ["200"]);
}

#[test]
fn all_ways_have_their_turn_before_a_refusal_of_another_goes_back() {
    for is_answered in [true, false] {
        let (b, c, d) = (Peer::udp(6000), Peer::udp(6001), Peer::udp(6002));
        let mut bench = bob(&[&[b, c], &[d]]);
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
        refuse(&mut bench, d, "MESSAGE", 486);
        bench.pass_millis(8_010);
        let asked = bench.one(c, "MESSAGE");
        bench.pass_millis(7_900);
        assert_eq!(bench.kinds(A()), ["100"]);
        if is_answered {
            bench.receive(c, &answer(&asked, 200));
        } else {
            bench.pass_millis(100);
        }
        bench.one(A(), if is_answered { "200" } else { "486" });
    }
}

#[test]
fn a_silent_invite_goes_on_by_the_next_way_when_its_transaction_ends() {
    let peers = [Peer::udp(6000), Peer::udp(6001)];
    let mut bench = bob(&[&peers]);
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
    bench.pass_millis(31_990);
    bench.take(peers[0]);
    bench.nothing_sent_to(peers[1]);
    bench.pass_millis(20);
    let asked = bench.one(peers[1], "INVITE");
    bench.receive(peers[1], &answer(&asked, 200));
    assert_eq!(upstream(&mut bench), ["200"]);
}

#[test]
fn a_connection_that_ends_before_it_rings_makes_room_for_the_next_way() {
    for (before, is_next) in [(0, true), (100, true), (180, false)] {
        let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
        let mut bench = bob(&[&[b, c]]);
        bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
        let asked = bench.one(b, "INVITE");
        if before > 0 {
            bench.receive(b, &answer(&asked, before));
        }
        bench.close(b);
        assert_eq!(bench.kinds(c).len(), usize::from(is_next), "{before}");
    }
}

#[test]
fn nobody_is_tried_for_a_request_that_is_over() {
    let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
    let mut bench = bob(&[&[b, c]]);
    let invite = request("INVITE", "sip:bob@a.test", A(), "c");
    bench.receive(A(), &invite);
    let asked = bench.one(b, "INVITE");
    bench.receive(A(), &super::text::for_invite(&invite, "CANCEL", None));
    bench.receive(b, &answer(&asked, 430));
    bench.one(b, "ACK");
    bench.nothing_sent_to(c);
    assert_eq!(upstream(&mut bench), ["200", "487"]);
}

#[test]
fn what_is_too_large_for_udp_stays_on_a_flow_that_was_registered() {
    let b = Peer::udp(6000);
    for is_flow in [true, false] {
        let mut bench = bob(&[]);
        bench.bind_target("bob", Target { is_flow, ..binding("bob", b) });
        bench.receive(A(), &large("MESSAGE", A(), "c"));
        let transport = if is_flow { Transport::Udp } else { Transport::Tcp };
        let asked = bench.one(Peer(Flow { transport, ..b.0 }), "MESSAGE");
        bench.receive(b, &answer(&asked, 200));
    }
}

#[test]
fn a_large_request_that_falls_back_to_udp_has_its_other_ways_still() {
    let (b, c) = (Peer::udp(6000), Peer::udp(6001));
    let mut bench = bob(&[]);
    bench.bind_target("bob", Target { alternatives: vec![binding("bob", c)], ..binding("bob", b) });
    for transport in [Transport::Tcp, Transport::Udp] {
        bench.cut_off(transport, b.0.remote);
    }
    bench.receive(A(), &large("MESSAGE", A(), "c"));
    let asked = bench.one(Peer(Flow { transport: Transport::Tcp, ..c.0 }), "MESSAGE");
    assert_eq!(uri(&asked), c.contact("bob"));
    bench.receive(c, &answer(&asked, 200));
    // An address may be in use again in a moment; only a flow is over for good.
    assert!(bench.ended_flows.is_empty());
}

#[test]
fn one_place_is_asked_once_however_often_it_is_bound() {
    let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
    let mut bench = bob(&[&[b]]);
    let same = [
        binding("%62ob", b),
        Target { uri: "sip:bob@127.0.0.1:6000;TRANSPORT=tcp?a=b".into(), ..binding("bob", b) },
    ];
    let others = [binding("bob", c), Target { path: vec!["<sip:p;lr>".into()], ..binding("bob", b) }];
    for target in same.into_iter().chain(others) {
        bench.bind_target("bob", target);
    }
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
    assert_eq!((bench.kinds(b).len(), bench.kinds(c).len()), (2, 1));
}

#[test]
fn what_nobody_answers_goes_by_the_first_way() {
    let (b, c) = (Peer::tcp(6000), Peer::tcp(6001));
    let mut bench = bob(&[&[b, c]]);
    let ack = with(&request("ACK", "sip:bob@a.test", A(), "c"), "X: y").replacen(
        "To: <sip:bob@a.test>",
        "To: <sip:bob@a.test>;tag=1",
        1,
    );
    bench.receive(A(), &ack);
    assert_eq!(kind(&bench.one(b, "ACK")), "ACK");
    bench.nothing_more();
}

#[test]
fn what_nobody_answers_leaves_by_tcp_too_if_it_is_too_large() {
    let b = Peer::udp(6000);
    for is_flow in [true, false] {
        for method in ["ACK", "BENOTIFY"] {
            let mut bench = bob(&[]);
            bench.bind_target("bob", Target { is_flow, ..binding("bob", b) });
            bench.receive(A(), &large(method, A(), "c"));
            let transport = if is_flow { Transport::Udp } else { Transport::Tcp };
            let sent = bench.one(Peer(Flow { transport, ..b.0 }), method);
            let via = format!("SIP/2.0/{} ", transport.via_token());
            assert!(value(&sent, "Via").starts_with(&via), "{sent}");
        }
    }
}

/// Both contacts are dialled at one address: that the connection to it has ended says nothing of the next one.
#[test]
fn the_end_of_a_connection_fails_nobody_who_is_asked_because_of_it() {
    let b = Peer::tcp(6000);
    let contact = |user, q| Target { q, flow: Peer::udp(6000).0, ..binding(user, b) };
    let table: [[Target; 2]; 2] = [[contact("one", 900), contact("two", 500)], {
        let ways = vec![contact("two", 900)];
        [Target { alternatives: ways, ..contact("one", 900) }, contact("three", 500)]
    }];
    for targets in table {
        let mut bench = bob(&[]);
        targets.into_iter().for_each(|target| bench.bind_target("bob", target));
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
        assert_eq!(uri(&bench.one(b, "MESSAGE")), b.contact("one"));
        bench.close(b);
        let asked = bench.one(b, "MESSAGE");
        assert_eq!(uri(&asked), b.contact("two"));
        bench.receive(b, &answer(&asked, 200));
        assert_eq!(upstream(&mut bench), ["200"]);
    }
}
