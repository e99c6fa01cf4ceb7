//! The challenges, and which credentials answer them.

use std::net::SocketAddr;

use super::super::bench::Bench;
use super::super::network::{Peer, UCS};
use super::super::text::{
    answer, challenge_parameter, credentials, credentials_without_qop, for_invite, request, value, values,
    with,
};
use super::{A, B, bench, challenges, message};
use crate::protocol::flow::Flow;
use crate::protocol::proxy::DropReason;

#[test]
fn every_algorithm_offered_lets_its_user_in() {
    for at in 0..3 {
        let mut bench = bench();
        let offered = challenges(&mut bench, "MESSAGE", "one");
        let algorithms: Vec<_> =
            offered.iter().map(|value| challenge_parameter(value, "algorithm")).collect();
        assert_eq!(algorithms, ["SHA-512-256", "SHA-256", "MD5"]);
        assert!(offered.iter().all(|value| !value.contains("stale") && value.contains("qop=\"auth\"")));
        bench.receive(A(), &message("two", &credentials(&offered[at], "MESSAGE", "ucs", "pw", 1)));
        let forwarded = bench.one(B(), "MESSAGE");
        // What was for us goes no further (§22.3).
        assert!(values(&forwarded, "Proxy-Authorization").is_empty());
        bench.receive(B(), &answer(&forwarded, 200));
        bench.one(A(), "200");
        // The flow is logged on now.
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "three"));
        bench.one(B(), "MESSAGE");
    }
}

#[test]
fn a_register_is_challenged_with_401_and_answered_once_proven() {
    let mut bench = bench();
    let offered = challenges(&mut bench, "REGISTER", "one");
    let proof = credentials(&offered[1], "REGISTER", "ucs", "pw", 1);
    let register = request("REGISTER", "sip:a.test", A(), "two");
    bench.receive(A(), &with(&register, &format!("Authorization: {proof}")));
    bench.one(A(), "200");
    bench.nothing_more();
}

#[test]
fn a_repeated_register_gets_the_same_octets_again_and_nobody_else_does() {
    let mut bench = bench();
    let offered = challenges(&mut bench, "REGISTER", "one");
    let proof = credentials(&offered[1], "REGISTER", "ucs", "pw", 1);
    let register = with(&request("REGISTER", "sip:a.test", A(), "two"), &format!("Authorization: {proof}"));
    bench.receive(A(), &register);
    let first = bench.one(A(), "200");
    bench.receive(A(), &register);
    assert_eq!(bench.one(A(), "200"), first);
    // A NAT may give a host another port, and nobody another host.
    let moved = Peer(Flow { remote: SocketAddr::new(A().0.remote.ip(), 40_000), ..A().0 });
    bench.receive(moved, &register);
    let again = bench.one(A(), "200");
    assert_eq!(value(&again, "To"), value(&first, "To"));
    bench.receive(Peer(Flow { remote: "203.0.113.7:5070".parse().unwrap(), ..A().0 }), &register);
    bench.nothing_more();
}

#[test]
fn credentials_that_prove_nothing_are_challenged_anew() {
    let mut bench = bench();
    let offered = challenges(&mut bench, "MESSAGE", "c").remove(1);
    let good = credentials(&offered, "MESSAGE", "ucs", "pw", 1);
    let table = [
        (credentials(&offered, "MESSAGE", "ucs", "wrong", 1), Some("wrong_response")),
        (credentials(&offered, "INVITE", "ucs", "pw", 1), Some("wrong_response")),
        (credentials(&offered, "MESSAGE", "nobody", "pw", 1), Some("unknown_user")),
        (good.replace(challenge_parameter(&offered, "nonce"), &"A".repeat(43)), None),
        (good.replace("a.test\", nonce", "b.test\", nonce"), None),
        ("Basic dWNzOnB3".to_owned(), None),
        (good.replace("algorithm=SHA-256", "algorithm=AKAv1-MD5"), None),
        (good.replace("qop=auth", "qop=auth-int"), None),
    ];
    for (n, (proof, fault)) in table.into_iter().enumerate() {
        bench.receive(A(), &message(&n.to_string(), &proof));
        let challenge = bench.one(A(), "407");
        assert!(!value(&challenge, "Proxy-Authenticate").contains("stale"), "{proof}");
        assert_eq!(bench.faults(), Vec::from_iter(fault), "{proof}");
    }
    bench.receive(A(), &message("malformed", "Digest username"));
    bench.one(A(), "400");
    bench.nothing_more();
    bench.receive(A(), &message("good", &good));
    bench.one(B(), "MESSAGE");
}

#[test]
fn an_answer_is_good_once_and_an_old_nonce_is_stale() {
    let mut bench = bench();
    let offered = challenges(&mut bench, "MESSAGE", "c").remove(0);
    let first = credentials(&offered, "MESSAGE", "ucs", "pw", 1);
    bench.receive(A(), &message("one", &first));
    bench.one(B(), "MESSAGE");
    // Somebody else has overheard it.
    let thief = Peer::udp(5999);
    let replay = message("two", &first).replacen(&A().via(), &thief.via(), 1);
    bench.receive(thief, &replay);
    assert!(value(&bench.one(thief, "407"), "Proxy-Authenticate").contains("stale=true"));
    bench.nothing_more();
    let second = credentials(&offered, "MESSAGE", "ucs", "pw", 2);
    bench.receive(thief, &message("three", &second).replacen(&A().via(), &thief.via(), 1));
    bench.one(B(), "MESSAGE");
    bench.pass_millis(301_000);
    let other = Peer::udp(5998);
    let late = credentials(&offered, "MESSAGE", "ucs", "pw", 3);
    bench.take(B());
    bench.receive(other, &message("four", &late).replacen(&A().via(), &other.via(), 1));
    let stale = bench.one(other, "407");
    assert!(value(&stale, "Proxy-Authenticate").contains("stale=true"));
    bench.nothing_sent_to(B());
    // Only who knows the password is told.
    let wrong = credentials(&offered, "MESSAGE", "ucs", "no", 3);
    bench.receive(other, &message("five", &wrong).replacen(&A().via(), &other.via(), 1));
    assert!(!value(&bench.one(other, "407"), "Proxy-Authenticate").contains("stale"));
}

#[test]
fn a_replayed_invite_is_challenged_and_its_ack_swallowed() {
    let mut bench = bench();
    let offered = challenges(&mut bench, "MESSAGE", "c").remove(0);
    let proof = credentials(&offered, "INVITE", "ucs", "pw", 1);
    let row = format!("Proxy-Authorization: {proof}");
    let (first, thief) = (request("INVITE", "sip:bob@a.test", A(), "one"), Peer::udp(5999));
    bench.receive(A(), &with(&first, &row));
    bench.one(B(), "INVITE");
    let replay = with(&request("INVITE", "sip:bob@a.test", thief, "two"), &row);
    bench.receive(thief, &replay);
    let challenge = bench.one(thief, "407");
    bench.receive(thief, &with(&for_invite(&replay, "ACK", Some(value(&challenge, "To"))), &row));
    bench.pass_millis(1_000);
    bench.nothing_sent_to(thief);
    bench.nothing_sent_to(B());
}

#[test]
fn credentials_for_others_are_left_alone() {
    let mut bench = bench();
    let offered = challenges(&mut bench, "MESSAGE", "c").remove(2);
    let ours = credentials(&offered, "MESSAGE", "ucs", "pw", 1);
    let theirs = "Digest username=\"x\", realm=\"b.test\", nonce=\"n\", uri=\"sip:b\", response=\"0\", algorithm=AKAv1-MD5";
    let text =
        with(&message("d", theirs), &format!("Proxy-Authorization: {ours}\r\nAuthorization: {theirs}"));
    bench.receive(A(), &text);
    let forwarded = bench.one(B(), "MESSAGE");
    assert_eq!(values(&forwarded, "Proxy-Authorization"), [theirs]);
    assert_eq!(values(&forwarded, "Authorization"), [theirs]);
}

#[test]
fn an_ack_and_a_cancel_are_never_challenged() {
    let mut bench = bench();
    for method in ["ACK", "CANCEL"] {
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
    }
    assert_eq!(bench.drops(), [DropReason::StrayAck, DropReason::StrayCancel]);
    bench.nothing_more();
}

#[test]
fn the_ack_to_a_challenge_is_dropped_and_the_next_try_is_new() {
    let mut bench = bench();
    let invite = request("INVITE", "sip:bob@a.test", A(), "c");
    bench.receive(A(), &invite);
    let challenge = bench.one(A(), "407");
    bench.receive(A(), &for_invite(&invite, "ACK", Some(value(&challenge, "To"))));
    bench.nothing_more();
    let proof = credentials(value(&challenge, "Proxy-Authenticate"), "INVITE", "ucs", "pw", 1);
    let again = with(&invite, &format!("Proxy-Authorization: {proof}")).replace("z9hG4bK-c", "z9hG4bK-d");
    bench.receive(A(), &again);
    let forwarded = bench.one(B(), "INVITE");
    bench.receive(B(), &answer(&forwarded, 200));
    let ok = bench.one(A(), "200");
    // The ACK to the 200 repeats the credentials (§22.1), whose nonce is spent.
    let ack = request("ACK", "sip:bob@a.test", A(), "e")
        .replace("To: <sip:bob@a.test>", &format!("To: {}", value(&ok, "To")));
    bench.receive(A(), &with(&ack, &format!("Proxy-Authorization: {proof}")));
    bench.one(B(), "ACK");
}

#[test]
fn credentials_for_another_request_uri_count_only_where_that_is_wanted() {
    for (accepts, status) in [(false, "400"), (true, "200")] {
        let mut bench = Bench::with(|settings| settings.accepts_digest_for_other_uri = accepts);
        bench.log_on(B(), UCS);
        let offered = challenges(&mut bench, "MESSAGE", "c").remove(0);
        let proof = credentials(&offered, "MESSAGE", "ucs", "pw", 1);
        let other = message("two", &proof).replacen("sip:bob@a.test SIP", "sip:carol@a.test SIP", 1);
        bench.receive(A(), &other);
        if let Some(forwarded) = bench.take(B()).first() {
            bench.receive(B(), &answer(forwarded, 200));
        }
        bench.one(A(), status);
        // Written otherwise it is the same URI still (§19.1.4).
        let proof = credentials(&offered, "MESSAGE", "ucs", "pw", 2);
        let same = message("three", &proof).replacen("sip:bob@a.test SIP", "SIP:%62ob@A.test SIP", 1);
        bench.receive(A(), &same);
        bench.one(B(), "MESSAGE");
    }
}

#[test]
fn credentials_without_qop_count_only_where_that_is_wanted() {
    for accepts in [false, true] {
        let mut bench = Bench::with(|settings| settings.accepts_digest_without_qop = accepts);
        bench.log_on(B(), UCS);
        let offered = challenges(&mut bench, "MESSAGE", "c").remove(2);
        let proof = credentials_without_qop(&offered, "MESSAGE", "ucs", "pw");
        bench.receive(A(), &message("two", &proof));
        if accepts {
            bench.one(B(), "MESSAGE");
            continue;
        }
        assert!(value(&bench.one(A(), "407"), "Proxy-Authenticate").contains("qop=\"auth\""));
        assert_eq!(bench.faults(), ["without_qop"]);
    }
}

#[test]
fn credentials_are_for_the_request_uri_as_it_came() {
    let mut bench = bench();
    let offered = challenges(&mut bench, "MESSAGE", "one").remove(0);
    let proof = credentials(&offered, "MESSAGE", "ucs", "pw", 1);
    // The digest's uri is sip:bob@a.test, and so is what is left; what came is another.
    let other =
        message("two", &proof).replacen("sip:bob@a.test SIP", "sip:bob@a.test;maddr=127.0.0.1 SIP", 1);
    bench.receive(A(), &other);
    bench.one(A(), "400");
    bench.nothing_more();
}

#[test]
fn a_register_goes_no_further_so_it_may_have_come_as_far_as_it_may() {
    let mut bench = bench();
    let register =
        request("REGISTER", "sip:a.test", B(), "one").replacen("Max-Forwards: 70", "Max-Forwards: 0", 1);
    bench.receive(B(), &with(&register, "Max-Breadth: 0"));
    bench.one(B(), "200");
}
