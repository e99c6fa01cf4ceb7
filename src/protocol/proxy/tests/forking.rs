//! Several bindings: in which order they are asked, and which of their answers goes upstream (§16.5 to §16.7).

use super::bench::Bench;
use super::network::{Peer, UCS};
use super::text::{answer, answer_with, branch, for_invite, kind, request, uri, value, values};
use crate::protocol::flow::Transport;

const A: fn() -> Peer = || Peer::udp(5070);

/// `count` bindings of bob's, with equal preference.
fn fork(count: u16) -> (Bench, Vec<Peer>) {
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    let peers: Vec<_> = (0..count).map(|n| Peer::udp(6000 + n)).collect();
    for &peer in &peers {
        bench.bind("bob", peer, 1000);
    }
    (bench, peers)
}

/// Sends `method` to bob and answers with these status codes, in order; 0 is silence. The answers upstream.
fn outcome(method: &str, answers: &[u16]) -> (Bench, Vec<String>) {
    let (mut bench, peers) = fork(answers.len() as u16);
    let text = request(method, "sip:bob@a.test", A(), "c");
    bench.receive(A(), &text);
    for (&peer, &status) in peers.iter().zip(answers) {
        let forwarded = bench.one(peer, method);
        if status > 0 {
            let rows = format!("X-From: {status}\r\n");
            bench.receive(peer, &answer_with(&forwarded, status, "t", &rows));
        }
    }
    bench.pass_millis(if method == "INVITE" { 32_010 } else { 16_010 });
    let up = bench.take(A());
    (bench, up.into_iter().filter(|text| kind(text) != "100").collect())
}

#[test]
fn the_best_response_is_chosen_among_all() {
    let table: [(&[u16], &str); 22] = [
        (&[404], "404"),
        (&[404, 603], "603"),
        (&[500, 404], "404"),
        (&[404, 302], "302"),
        (&[404, 401], "401"),
        (&[486, 407], "407"),
        (&[404, 415], "415"),
        (&[404, 420], "420"),
        (&[486, 484], "484"),
        (&[484, 401], "401"),
        (&[600, 302, 401], "600"),
        (&[486, 404], "486"),
        (&[404, 486], "404"),
        (&[503], "500"),
        (&[503, 503], "500"),
        (&[503, 500], "500"),
        (&[503, 404], "404"),
        (&[503, 504], "504"),
        (&[404, 0], "404"),
        (&[486, 0, 401], "401"),
        (&[603, 0, 404], "603"),
        (&[302, 0], "302"),
    ];
    for (answers, expected) in table {
        for method in ["INVITE", "MESSAGE"] {
            let (bench, mut up) = outcome(method, answers);
            up.dedup();
            assert_eq!(
                up.iter().map(|text| kind(text)).collect::<Vec<_>>(),
                [expected],
                "{method} {answers:?}"
            );
            let has_theirs = !values(&up[0], "X-From").is_empty();
            assert_eq!(has_theirs, !is_own_500(answers), "{method} {answers:?}");
            drop(bench);
        }
    }
}

/// The silence of one is a 408 to an INVITE, and no word to any other request (RFC 4320 §4.2).
#[test]
fn a_503_beside_a_silent_branch() {
    for (method, expected) in [("INVITE", "408"), ("MESSAGE", "500")] {
        let (_bench, up) = outcome(method, &[503, 0]);
        assert_eq!(up.iter().map(|text| kind(text)).collect::<Vec<_>>(), [expected], "{method}");
    }
}

#[test]
fn a_refusal_waits_half_of_timer_f_for_the_silent_and_no_longer() {
    for status in [401, 486, 603] {
        let (mut bench, peers) = fork(2);
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
        let forwarded = bench.one(peers[0], "MESSAGE");
        bench.receive(peers[0], &answer(&forwarded, status));
        bench.pass_millis(15_990);
        assert_eq!(bench.kinds(A()), ["100"], "{status}");
        bench.pass_millis(20);
        bench.one(A(), &status.to_string());
        // What the other says now has nobody to go to.
        let late = bench.take(peers[1]).remove(0);
        bench.receive(peers[1], &answer(&late, 200));
        bench.nothing_sent_to(A());
    }
}

#[test]
fn a_refusal_that_comes_when_patience_has_ended_goes_back_at_once() {
    let (mut bench, peers) = fork(2);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let forwarded = bench.one(peers[0], "MESSAGE");
    bench.pass_millis(20_000);
    assert_eq!(bench.kinds(A()), ["100"]);
    bench.receive(peers[0], &answer(&forwarded, 486));
    bench.one(A(), "486");
}

#[test]
fn silence_of_all_and_a_408_are_not_told() {
    for (answers, method) in [(&[0][..], "MESSAGE"), (&[0, 0], "SUBSCRIBE"), (&[408, 0], "MESSAGE")] {
        let (mut bench, up) = outcome(method, answers);
        assert_eq!(up, Vec::<String>::new(), "{answers:?}");
        bench.pass_millis(60_000);
        bench.nothing_sent_to(A());
    }
    // Beside a 408, a late answer of the silent one is still one.
    let (mut bench, peers) = fork(2);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let forwarded = peers.iter().map(|&peer| bench.one(peer, "MESSAGE")).collect::<Vec<_>>();
    bench.receive(peers[0], &answer(&forwarded[0], 408));
    bench.pass_millis(20_000);
    bench.take(A());
    bench.receive(peers[1], &answer(&forwarded[1], 200));
    bench.one(A(), "200");
}

#[test]
fn who_is_at_work_is_waited_for_until_the_sender_is_about_to_give_up() {
    let (mut bench, peers) = fork(2);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let forwarded: Vec<_> = peers.iter().map(|&peer| bench.one(peer, "MESSAGE")).collect();
    bench.receive(peers[0], &answer(&forwarded[0], 486));
    bench.receive(peers[1], &answer(&forwarded[1], 100));
    bench.pass_millis(27_990);
    assert_eq!(bench.kinds(A()), ["100"]);
    bench.pass_millis(20);
    bench.one(A(), "486");
}

#[test]
fn a_silent_preference_leaves_the_next_one_its_time() {
    for late in [false, true] {
        let (mut bench, peers) = fork(1);
        let second = Peer::udp(6999);
        bench.bind("bob", second, 500);
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
        let first = bench.one(peers[0], "MESSAGE");
        bench.pass_millis(5_990);
        bench.nothing_sent_to(second);
        bench.pass_millis(20);
        let asked = bench.one(second, "MESSAGE");
        // A late answer of the first still counts.
        let (peer, text) = if late { (peers[0], &first) } else { (second, &asked) };
        bench.receive(peer, &answer(text, 200));
        assert_eq!(bench.kinds(A()), ["100", "200"]);
    }
}

#[test]
fn all_preferences_have_their_turn_and_the_best_refusal_goes_back_in_time() {
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    let peers: Vec<_> = (0..8).map(|n| Peer::udp(6000 + n)).collect();
    for (&peer, q) in peers.iter().zip((1..=8).rev()) {
        bench.bind("bob", peer, q * 100);
    }
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    bench.pass_millis(12_000);
    let forwarded: Vec<_> = peers.iter().map(|&peer| bench.take(peer).remove(0)).collect();
    bench.receive(peers[3], &answer(&forwarded[3], 486));
    bench.pass_millis(16_000);
    assert_eq!(bench.kinds(A()), ["100", "486"]);
}

#[test]
fn a_6xx_asks_no_further_preference_and_does_not_wait_for_the_silent_for_long() {
    let (mut bench, peers) = fork(2);
    let further = Peer::udp(6999);
    bench.bind("bob", further, 500);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let forwarded = bench.one(peers[0], "MESSAGE");
    bench.receive(peers[0], &answer(&forwarded, 603));
    bench.pass_millis(16_000);
    assert_eq!(bench.kinds(A()), ["100", "603"]);
    bench.nothing_sent_to(further);
}

/// A 500 that stands for a 503 (§16.7 step 6).
fn is_own_500(answers: &[u16]) -> bool {
    answers.iter().all(|&status| status == 503)
}

#[test]
fn a_response_that_has_not_come_yet_may_be_the_best() {
    let (mut bench, peers) = fork(3);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    for (&peer, status) in peers.iter().zip([486, 603, 200]) {
        bench.nothing_sent_to(A());
        let forwarded = bench.one(peer, "MESSAGE");
        bench.receive(peer, &answer(&forwarded, status));
    }
    bench.one(A(), "200");
    bench.nothing_more();
}

#[test]
fn only_one_final_response_goes_upstream_but_to_invite_every_200() {
    for (method, count) in [("MESSAGE", 1), ("SUBSCRIBE", 1), ("INVITE", 2)] {
        let (mut bench, peers) = fork(2);
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
        let forwarded: Vec<_> = peers.iter().map(|&peer| bench.one(peer, method)).collect();
        assert_ne!(branch(&forwarded[0]), branch(&forwarded[1]));
        for (&peer, (text, tag)) in peers.iter().zip(forwarded.iter().zip(["one", "two"])) {
            bench.receive(peer, &answer_with(text, 200, tag, ""));
        }
        let tags: Vec<_> = bench.take(A()).iter().map(|text| value(text, "To").to_owned()).collect();
        assert_eq!(tags, ["<sip:bob@a.test>;tag=one", "<sip:bob@a.test>;tag=two"][..count]);
        bench.nothing_more();
    }
}

#[test]
fn an_accepted_call_cancels_the_branches_that_ring() {
    let (mut bench, peers) = fork(4);
    let invite = request("INVITE", "sip:bob@a.test", A(), "c");
    bench.receive(A(), &invite);
    let forwarded: Vec<_> = peers.iter().map(|&peer| bench.one(peer, "INVITE")).collect();
    bench.receive(peers[1], &answer(&forwarded[1], 180));
    bench.receive(peers[2], &answer(&forwarded[2], 486));
    bench.receive(peers[0], &answer(&forwarded[0], 200));
    assert_eq!(bench.kinds(A()), ["180", "200"]);
    assert_eq!(bench.one(peers[1], "CANCEL"), for_invite(&forwarded[1], "CANCEL", None));
    bench.one(peers[2], "ACK");
    // The fourth has not said anything: not before it does (§9.1).
    bench.nothing_more();
    bench.receive(peers[3], &answer(&forwarded[3], 100));
    assert_eq!(bench.one(peers[3], "CANCEL"), for_invite(&forwarded[3], "CANCEL", None));
    // What it says then is its caller's no more.
    bench.receive(peers[3], &answer(&forwarded[3], 180));
    bench.nothing_sent_to(A());
    for n in [1, 3] {
        bench.receive(peers[n], &answer(&for_invite(&forwarded[n], "CANCEL", None), 200));
        bench.receive(peers[n], &answer(&forwarded[n], 487));
        bench.one(peers[n], "ACK");
    }
    bench.nothing_more();
    assert_eq!(bench.drops(), []);
}

#[test]
fn a_200_that_has_crossed_its_cancel_is_forwarded() {
    let (mut bench, peers) = fork(2);
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
    let forwarded: Vec<_> = peers.iter().map(|&peer| bench.one(peer, "INVITE")).collect();
    bench.receive(peers[1], &answer(&forwarded[1], 180));
    bench.receive(peers[0], &answer(&forwarded[0], 200));
    bench.one(peers[1], "CANCEL");
    bench.take(A());
    bench.pass_millis(300);
    bench.receive(peers[1], &answer(&for_invite(&forwarded[1], "CANCEL", None), 200));
    for _ in 0..2 {
        bench.receive(peers[1], &answer_with(&forwarded[1], 200, "late", ""));
        assert!(bench.one(A(), "200").contains("tag=late"));
        bench.pass_millis(10_000);
    }
}

#[test]
fn a_6xx_ends_the_search_for_others_and_waits_for_those_that_ring() {
    let (mut bench, peers) = fork(2);
    bench.bind("bob", Peer::udp(6999), 500);
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
    let forwarded: Vec<_> = peers.iter().map(|&peer| bench.one(peer, "INVITE")).collect();
    bench.receive(peers[1], &answer(&forwarded[1], 180));
    bench.one(A(), "180");
    bench.receive(peers[0], &answer(&forwarded[0], 603));
    bench.one(peers[0], "ACK");
    bench.one(peers[1], "CANCEL");
    bench.nothing_more();
    bench.receive(peers[1], &answer(&for_invite(&forwarded[1], "CANCEL", None), 200));
    bench.receive(peers[1], &answer(&forwarded[1], 487));
    bench.one(peers[1], "ACK");
    bench.one(A(), "603");
    bench.nothing_more();
}

#[test]
fn a_200_after_a_6xx_wins() {
    let (mut bench, peers) = fork(2);
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
    let forwarded: Vec<_> = peers.iter().map(|&peer| bench.one(peer, "INVITE")).collect();
    bench.receive(peers[0], &answer(&forwarded[0], 603));
    bench.pass_millis(100);
    bench.receive(peers[1], &answer(&forwarded[1], 200));
    assert_eq!(bench.kinds(A()), ["200"]);
    bench.pass_millis(20_000);
    bench.nothing_sent_to(A());
}

#[test]
fn the_challenges_of_all_branches_go_upstream_in_one_response() {
    for (order, best) in [([401, 407, 404], "401"), ([404, 407, 401], "407")] {
        let (mut bench, peers) = fork(3);
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
        for (&peer, status) in peers.iter().zip(order) {
            let forwarded = bench.one(peer, "MESSAGE");
            let rows = match status {
                401 => "WWW-Authenticate: Digest realm=\"one\"\r\nWWW-Authenticate: Digest realm=\"two\"\r\n",
                407 => "Proxy-Authenticate: Digest realm=\"three\"\r\n",
                _ => "WWW-Authenticate: Digest realm=\"not a challenge\"\r\n",
            };
            bench.receive(peer, &answer_with(&forwarded, status, "t", rows));
        }
        let up = bench.one(A(), best);
        assert_eq!(values(&up, "WWW-Authenticate"), ["Digest realm=\"one\"", "Digest realm=\"two\""]);
        assert_eq!(values(&up, "Proxy-Authenticate"), ["Digest realm=\"three\""]);
    }
}

#[test]
fn bindings_are_asked_by_falling_preference() {
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    let peers: Vec<_> = (0..4).map(|n| Peer::udp(6000 + n)).collect();
    for (&peer, q) in peers.iter().zip([1000, 1000, 500, 100]) {
        bench.bind("bob", peer, q);
    }
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
    let refuse = |bench: &mut Bench, peer, status| {
        let forwarded = bench.one(peer, "INVITE");
        assert_eq!(uri(&forwarded), peer.contact("bob"));
        bench.receive(peer, &answer(&forwarded, status));
        bench.one(peer, "ACK");
    };
    refuse(&mut bench, peers[0], 486);
    bench.nothing_sent_to(peers[2]);
    refuse(&mut bench, peers[1], 480);
    bench.nothing_sent_to(peers[3]);
    bench.nothing_sent_to(A());
    // One that cannot be reached is passed over at once (§16.9).
    bench.cut_off(Transport::Udp, peers[3].0.remote);
    refuse(&mut bench, peers[2], 404);
    bench.one(A(), "486");
    bench.nothing_more();
}

#[test]
fn a_user_whose_only_binding_cannot_be_reached_is_unavailable() {
    for method in ["INVITE", "MESSAGE"] {
        let (mut bench, peers) = fork(1);
        bench.cut_off(Transport::Udp, peers[0].0.remote);
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
        bench.one(A(), "480");
        bench.nothing_more();
    }
}
