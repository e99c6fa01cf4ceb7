//! CANCEL and Timer C (§9, §16.8, §16.10).

use std::time::Duration;

use super::bench::Bench;
use super::network::{Peer, UCS};
use super::text::{answer, for_invite, request, value, values, with};
use crate::protocol::proxy::DropReason;

/// A call of `a`'s to the bindings of bob's, each of which has got its INVITE.
struct Ringing {
    bench: Bench,
    a: Peer,
    invite: String,
    peers: Vec<Peer>,
    forwarded: Vec<String>,
}

impl Ringing {
    fn begin(a: Peer, peers: &[Peer]) -> Self {
        let mut bench = Bench::new();
        bench.log_on(a, UCS);
        for &peer in peers {
            bench.bind("bob", peer, 1000);
        }
        let invite = request("INVITE", "sip:bob@a.test", a, "c");
        bench.receive(a, &invite);
        let forwarded = peers.iter().map(|&peer| bench.one(peer, "INVITE")).collect();
        Self { bench, a, invite, peers: peers.to_vec(), forwarded }
    }

    fn cancel(&mut self) {
        self.bench.receive(self.a, &for_invite(&self.invite, "CANCEL", None));
    }

    /// Branch `n` answers its INVITE.
    fn respond(&mut self, n: usize, status: u16) {
        self.bench.receive(self.peers[n], &answer(&self.forwarded[n], status));
    }

    /// Branch `n` has got a CANCEL that fits, and answers it.
    fn expect_cancel(&mut self, n: usize) {
        let cancel = self.bench.one(self.peers[n], "CANCEL");
        assert_eq!(cancel, for_invite(&self.forwarded[n], "CANCEL", None));
        self.bench.receive(self.peers[n], &answer(&cancel, 200));
    }
}

const PEERS: fn() -> [Peer; 2] = || [Peer::udp(6000), Peer::tcp(6001)];

#[test]
fn a_cancel_is_answered_at_once_and_ends_every_branch_by_its_own_via() {
    for a in [Peer::udp(5070), Peer::tcp(5070)] {
        let mut call = Ringing::begin(a, &PEERS());
        call.respond(0, 180);
        call.respond(1, 100);
        assert_eq!(call.bench.kinds(a), ["180"]);
        call.cancel();
        let ok = call.bench.one(a, "200");
        assert_eq!(value(&ok, "CSeq"), "1 CANCEL");
        call.expect_cancel(0);
        call.expect_cancel(1);
        call.respond(0, 487);
        call.bench.one(call.peers[0], "ACK");
        call.bench.nothing_more();
        call.respond(1, 487);
        call.bench.one(call.peers[1], "ACK");
        let terminated = call.bench.one(a, "487");
        call.bench.receive(a, &for_invite(&call.invite, "ACK", Some(value(&terminated, "To"))));
        call.bench.pass_millis(40_000);
        call.bench.nothing_more();
        assert_eq!(call.bench.drops(), []);
    }
}

#[test]
fn no_branch_is_cancelled_before_it_has_said_anything() {
    let mut call = Ringing::begin(Peer::udp(5070), &[Peer::udp(6000)]);
    call.cancel();
    call.bench.one(call.a, "200");
    call.bench.pass_millis(1_600);
    assert_eq!(call.bench.kinds(call.a), ["100"]);
    assert_eq!(call.bench.kinds(call.peers[0]), ["INVITE", "INVITE"]);
    call.respond(0, 100);
    call.expect_cancel(0);
    // Once is enough, also when it goes on talking.
    call.bench.pass_millis(6_000);
    call.respond(0, 100);
    call.bench.nothing_more();
    call.respond(0, 487);
    call.bench.one(call.peers[0], "ACK");
    call.bench.one(call.a, "487");
}

#[test]
fn a_repeated_cancel_is_answered_again_and_does_nothing() {
    let mut call = Ringing::begin(Peer::udp(5070), &[Peer::udp(6000)]);
    call.respond(0, 180);
    call.bench.one(call.a, "180");
    call.cancel();
    call.cancel();
    assert_eq!(call.bench.kinds(call.a), ["200", "200"]);
    call.expect_cancel(0);
    call.respond(0, 487);
    call.bench.one(call.peers[0], "ACK");
    call.bench.one(call.a, "487");
    call.cancel();
    call.bench.one(call.a, "200");
    call.bench.nothing_more();
}

#[test]
fn a_cancel_that_meets_the_200_changes_nothing() {
    let mut call = Ringing::begin(Peer::udp(5070), &[Peer::udp(6000)]);
    call.respond(0, 200);
    call.bench.one(call.a, "200");
    call.cancel();
    assert_eq!(value(&call.bench.one(call.a, "200"), "CSeq"), "1 CANCEL");
    call.bench.nothing_more();
}

#[test]
fn a_cancel_before_the_registrar_has_answered_ends_the_call() {
    let (a, b) = (Peer::udp(5070), Peer::udp(6000));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    bench.hold_answers();
    let invite = request("INVITE", "sip:bob@a.test", a, "c");
    bench.receive(a, &invite);
    bench.receive(a, &for_invite(&invite, "CANCEL", None));
    let sent = bench.take(a);
    assert!(sent[0].starts_with("SIP/2.0 200 ") && sent[1].starts_with("SIP/2.0 487 ") && sent.len() == 2);
    // Both are ours, so both have the same tag (§9.2).
    assert_eq!(value(&sent[0], "To"), value(&sent[1], "To"));
    bench.receive(a, &for_invite(&invite, "ACK", Some(value(&sent[1], "To"))));
    bench.answer_held();
    bench.pass_millis(60_000);
    bench.nothing_more();
}

#[test]
fn a_cancelled_call_asks_nobody_else() {
    let (a, b, c) = (Peer::udp(5070), Peer::udp(6000), Peer::udp(6001));
    let mut bench = Bench::new();
    bench.log_on(a, UCS);
    bench.bind("bob", b, 1000);
    bench.bind("bob", c, 500);
    let invite = request("INVITE", "sip:bob@a.test", a, "c");
    bench.receive(a, &invite);
    let forwarded = bench.one(b, "INVITE");
    bench.receive(b, &answer(&forwarded, 100));
    bench.receive(a, &for_invite(&invite, "CANCEL", None));
    assert_eq!(bench.kinds(b), ["CANCEL"]);
    bench.receive(b, &answer(&forwarded, 486));
    assert_eq!(bench.kinds(b), ["ACK"]);
    assert_eq!(bench.kinds(a), ["200", "486"]);
    bench.nothing_more();
}

#[test]
fn a_branch_that_does_not_heed_its_cancel_is_given_up() {
    let mut call = Ringing::begin(Peer::udp(5070), &[Peer::udp(6000)]);
    call.respond(0, 180);
    call.cancel();
    call.bench.take(call.a);
    call.bench.pass_millis(31_990);
    call.bench.nothing_sent_to(call.a);
    assert_eq!(call.bench.kinds(call.peers[0]).len(), 11);
    call.bench.pass_millis(20);
    call.bench.one(call.a, "487");
    call.respond(0, 487);
    assert_eq!(call.bench.drops(), [DropReason::StrayResponse]);
}

#[test]
fn other_methods_are_not_cancelled() {
    for method in ["MESSAGE", "SUBSCRIBE", "INFO", "UPDATE"] {
        let (a, b) = (Peer::udp(5070), Peer::udp(6000));
        let mut bench = Bench::new();
        bench.log_on_all(&[a, b]);
        let text = request(method, "sip:bob@a.test", a, "c");
        bench.receive(a, &text);
        let forwarded = bench.one(b, method);
        bench.receive(a, &for_invite(&text, "CANCEL", None));
        assert_eq!(value(&bench.one(a, "200"), "CSeq"), "1 CANCEL");
        bench.nothing_more();
        bench.receive(b, &answer(&forwarded, 200));
        assert_eq!(value(&bench.one(a, "200"), "CSeq"), format!("1 {method}"));
    }
}

#[test]
fn somebody_else_cannot_cancel() {
    let mut call = Ringing::begin(Peer::udp(5070), &[Peer::udp(6000)]);
    call.respond(0, 180);
    call.bench.one(call.a, "180");
    let mut other = call.a;
    other.0.remote.set_ip("127.0.0.7".parse().unwrap());
    call.bench.receive(other, &for_invite(&call.invite, "CANCEL", None));
    call.bench.nothing_more();
    assert_eq!(call.bench.drops(), [DropReason::StrayCancel]);
    call.respond(0, 200);
    call.bench.one(call.a, "200");
}

#[test]
fn a_cancel_of_nothing_is_forwarded_without_state() {
    let (a, b, stranger) = (Peer::udp(5070), Peer::udp(6000), Peer::udp(5999));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    let cancel = with(&request("CANCEL", "sip:bob@a.test", a, "c"), "Route: <sip:127.0.0.1:6000;lr>");
    bench.receive(a, &cancel);
    let forwarded = bench.one(b, "CANCEL");
    assert_eq!(values(&forwarded, "Via")[1], value(&cancel, "Via"));
    assert_eq!(value(&forwarded, "Max-Forwards"), "69");
    bench.receive(a, &cancel);
    assert_eq!(bench.one(b, "CANCEL"), forwarded);
    let load = bench.proxy.load();
    assert_eq!((load.servers, load.clients, load.contexts), (0, 0, 0));
    bench.receive(stranger, &cancel);
    assert_eq!(bench.drops(), [DropReason::StrayCancel]);
    bench.nothing_more();
}

#[test]
fn timer_c_cancels_what_rings_too_long() {
    let mut call = Ringing::begin(Peer::udp(5070), &[Peer::udp(6000)]);
    call.respond(0, 180);
    // Each provisional response but 100 begins it anew.
    call.bench.pass(Duration::from_secs(100));
    call.respond(0, 183);
    call.bench.pass(Duration::from_secs(100));
    call.respond(0, 100);
    call.bench.pass(Duration::from_secs(84));
    call.bench.nothing_sent_to(call.peers[0]);
    call.bench.take(call.a);
    call.bench.pass(Duration::from_secs(2));
    call.bench.nothing_sent_to(call.a);
    let cancels = call.bench.take(call.peers[0]);
    assert_eq!(cancels[0], for_invite(&call.forwarded[0], "CANCEL", None));
    call.bench.receive(call.peers[0], &answer(&cancels[0], 200));
    call.respond(0, 487);
    call.bench.one(call.peers[0], "ACK");
    call.bench.one(call.a, "487");
}

#[test]
fn timer_c_ends_what_has_not_said_anything() {
    let (a, b, c) = (Peer::udp(5070), Peer::tcp(6000), Peer::udp(6001));
    let mut bench = Bench::with(|settings| settings.timer_c = Duration::from_secs(10));
    bench.log_on(a, UCS);
    bench.bind("bob", b, 1000);
    bench.bind("bob", c, 500);
    bench.receive(a, &request("INVITE", "sip:bob@a.test", a, "c"));
    bench.one(b, "INVITE");
    bench.pass_millis(9_900);
    assert_eq!(bench.kinds(a), ["100"]);
    bench.nothing_more();
    // As if it had answered 408: the next is asked.
    bench.pass_millis(110);
    bench.one(c, "INVITE");
    bench.nothing_more();
    bench.pass_millis(10_000);
    bench.one(a, "408");
}

#[test]
fn timer_c_of_one_branch_leaves_the_others_alone() {
    let mut call = Ringing::begin(Peer::udp(5070), &PEERS());
    call.respond(0, 180);
    call.respond(1, 180);
    call.bench.pass(Duration::from_secs(100));
    call.respond(1, 180);
    call.bench.take(call.a);
    call.bench.pass(Duration::from_secs(86));
    assert!(call.bench.take(call.peers[0]).iter().all(|text| text.starts_with("CANCEL ")));
    call.bench.nothing_more();
    call.bench.pass(Duration::from_secs(40));
    call.bench.take(call.peers[0]);
    call.respond(1, 200);
    call.bench.one(call.a, "200");
}
