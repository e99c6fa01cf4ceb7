//! Guesses of passwords: how long their answers wait, and who is banned.

use std::sync::Arc;
use std::time::Duration;

use super::super::bench::Bench;
use super::super::network::Peer;
use super::super::text::{challenge_parameter, credentials, for_invite, request, value, with};
use super::{A, B, bench, challenges, message};
use crate::protocol::account::{Accounts, Secret};
use crate::protocol::flow::Transport;
use crate::protocol::location::Penalty;
use crate::protocol::proxy::DropReason;

/// A wrong password for the challenge to `call`.
fn guess(bench: &mut Bench, call: &str) -> String {
    let offered = challenges(bench, "MESSAGE", call).remove(0);
    message(&format!("{call}-guess"), &credentials(&offered, "MESSAGE", "ucs", "guess", 1))
}

#[test]
fn the_answer_to_a_guess_waits_as_long_as_the_registrar_says() {
    let mut bench = bench();
    bench.punish_with(Penalty::Wait(Duration::from_secs(2)));
    let guess = guess(&mut bench, "one");
    bench.receive(A(), &guess);
    bench.pass_millis(500);
    // Repeated, it is the same guess.
    bench.receive(A(), &guess);
    bench.pass_millis(1400);
    bench.nothing_more();
    bench.pass_millis(200);
    bench.one(A(), "407");
    bench.receive(A(), &guess);
    bench.one(A(), "407");
    assert_eq!(bench.faults(), ["wrong_response"]);
}

#[test]
fn a_registrar_that_does_not_say_has_a_guess_answered_all_the_same() {
    let mut bench = bench();
    let guess = guess(&mut bench, "one");
    bench.hold_answers();
    bench.receive(A(), &guess);
    bench.nothing_more();
    bench.pass_millis(8100);
    assert_eq!(bench.kinds(A()).last().map(String::as_str), Some("407"));
    bench.answer_held();
    bench.nothing_more();
}

#[test]
fn a_host_that_is_banned_is_not_heard_but_on_flows_that_are_logged_on() {
    let mut bench = bench();
    bench.punish_with(Penalty::Ban);
    let guess = guess(&mut bench, "one");
    bench.receive(A(), &guess);
    bench.nothing_more();
    bench.ban(A(), Duration::from_secs(10));
    for method in ["MESSAGE", "OPTIONS", "INVITE", "ACK", "CANCEL"] {
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), "banned"));
        assert_eq!(bench.drops(), [DropReason::Banned], "{method}");
    }
    bench.nothing_more();
    // B is on the same host.
    bench.receive(B(), &request("OPTIONS", "sip:a.test", B(), "two"));
    bench.one(B(), "200");
    bench.pass_millis(10_001);
    challenges(&mut bench, "MESSAGE", "three");
}

#[test]
fn what_was_answered_from_elsewhere_or_forged_is_no_guess_and_not_verified() {
    let mut bench = bench();
    bench.punish_with(Penalty::Ban);
    let offered = challenges(&mut bench, "MESSAGE", "one").remove(0);
    let elsewhere = Peer::at(Transport::Udp, "127.0.0.77:5070".parse().unwrap());
    for (call, password) in [("two", "guess"), ("three", "pw")] {
        let answer = credentials(&offered, "MESSAGE", "ucs", password, 1);
        bench.receive(elsewhere, &message(call, &answer).replacen(&A().via(), &elsewhere.via(), 1));
        // Who was honest answers the new challenge.
        assert!(value(&bench.one(elsewhere, "407"), "Proxy-Authenticate").contains("stale=true"));
        bench.nothing_more();
    }
    let wrong = credentials(&offered, "MESSAGE", "ucs", "guess", 1);
    let forged = wrong.replace(challenge_parameter(&offered, "nonce"), &"A".repeat(43));
    bench.receive(A(), &message("four", &forged));
    bench.one(A(), "407");
}

#[test]
fn one_guess_at_a_time_is_verified() {
    let mut bench = bench();
    bench.hold_answers();
    bench.punish_with(Penalty::Wait(Duration::from_secs(1)));
    let offered = challenges(&mut bench, "MESSAGE", "one").remove(0);
    let guess = credentials(&offered, "MESSAGE", "ucs", "guess", 1);
    bench.receive(A(), &message("two", &guess));
    bench.nothing_more();
    // The right one among many does not stand out while the Registrar has not spoken, and while its word holds.
    let right = credentials(&offered, "MESSAGE", "ucs", "pw", 2);
    bench.receive(A(), &message("three", &right));
    assert!(value(&bench.one(A(), "407"), "Proxy-Authenticate").contains("stale=true"));
    bench.answer_held();
    bench.pass_millis(900);
    bench.receive(A(), &message("four", &right));
    bench.one(A(), "407");
    bench.nothing_more();
    bench.pass_millis(200);
    bench.one(A(), "407");
    bench.receive(A(), &message("five", &right));
    bench.one(B(), "MESSAGE");
}

#[test]
fn a_cancel_does_not_shorten_the_wait_for_a_guess() {
    let mut bench = bench();
    bench.punish_with(Penalty::Wait(Duration::from_secs(2)));
    let offered = challenges(&mut bench, "MESSAGE", "one").remove(0);
    let guess = credentials(&offered, "INVITE", "ucs", "guess", 1);
    let invite =
        with(&request("INVITE", "sip:bob@a.test", A(), "two"), &format!("Proxy-Authorization: {guess}"));
    bench.receive(A(), &invite);
    bench.receive(A(), &for_invite(&invite, "CANCEL", None));
    bench.one(A(), "200");
    bench.pass_millis(1900);
    assert_eq!(bench.kinds(A()), ["100"]);
    bench.pass_millis(200);
    let refused = bench.one(A(), "407");
    bench.receive(A(), &for_invite(&invite, "ACK", Some(value(&refused, "To"))));
}

#[test]
fn a_right_answer_by_an_algorithm_without_its_hash_is_no_guess() {
    let mut bench = Bench::with(|settings| {
        let mut accounts = settings.accounts.list().to_vec();
        accounts[0].secret = Secret::Hashes { md5: None, sha256: Some("0".repeat(64)), sha512_256: None };
        settings.accounts = Arc::new(Accounts::new(accounts));
    });
    bench.punish_with(Penalty::Ban);
    let offered = challenges(&mut bench, "MESSAGE", "one").remove(2);
    bench.receive(A(), &message("two", &credentials(&offered, "MESSAGE", "ucs", "pw", 1)));
    bench.one(A(), "407");
    assert_eq!(bench.faults(), ["no_secret_for_algorithm"]);
}
