//! Challenges and credentials (§22, RFC 7616, RFC 8760), as far as the proxy carries them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::bench::Bench;
use super::network::{PARTNER, Peer, SCOPED, UCS};
use super::text::{
    answer, challenge_parameter, credentials, credentials_without_qop, for_invite, request, value, values,
    with,
};
use crate::protocol::account::{Account, AccountKind, Accounts, Scope, Secret};
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::location::Penalty;
use crate::protocol::proxy::DropReason;

const A: fn() -> Peer = || Peer::udp(5070);
const B: fn() -> Peer = || Peer::tcp(5072);

/// B is logged on, A is not.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.log_on(B(), UCS);
    bench
}

/// The challenges that `method` gets.
fn challenges(bench: &mut Bench, method: &str, call: &str) -> Vec<String> {
    let text = request(method, "sip:bob@a.test", A(), call);
    bench.receive(A(), &text);
    let (status, name) =
        if method == "REGISTER" { ("401", "WWW-Authenticate") } else { ("407", "Proxy-Authenticate") };
    let challenge = bench.one(A(), status);
    values(&challenge, name).into_iter().map(str::to_owned).collect()
}

/// A MESSAGE with this value of Proxy-Authorization.
fn message(call: &str, credentials: &str) -> String {
    with(&request("MESSAGE", "sip:bob@a.test", A(), call), &format!("Proxy-Authorization: {credentials}"))
}

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
fn nobody_sends_for_users_outside_its_scope() {
    let table = [
        (UCS, "alice@a.test", None),
        (UCS, "alice@b.test", Some("403")),
        (UCS, "alice@a.test.evil.test", Some("403")),
        (SCOPED, "carol@a.test", None),
        (SCOPED, "%63arol@A.TEST", None),
        (SCOPED, "alice@a.test", Some("403")),
        (SCOPED, "scoped@a.test", None),
    ];
    for (account, user, refused) in table {
        let mut bench = bench();
        bench.log_on(A(), account);
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c").replacen("alice@a.test", user, 1));
        match refused {
            Some(status) => drop(bench.one(A(), status)),
            None => drop(bench.one(B(), "MESSAGE")),
        }
        // A registration is for who stands in To.
        let peer = Peer::tcp(5074);
        bench.log_on(peer, account);
        let register = request("REGISTER", "sip:a.test", peer, "d").replacen("bob@a.test", user, 1);
        bench.receive(peer, &register);
        let expected = match refused {
            None => "200",
            Some(_) if user.contains("b.test") || user.contains("evil") => "404",
            Some(status) => status,
        };
        bench.one(peer, expected);
    }
}

#[test]
fn a_registration_by_datagram_is_proven_each_time() {
    let mut bench = bench();
    bench.log_on(A(), UCS);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    bench.one(B(), "MESSAGE");
    bench.receive(A(), &request("REGISTER", "sip:a.test", A(), "d"));
    bench.one(A(), "401");
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
fn a_client_certificate_is_proof_enough() {
    let (mut bench, a) = (bench(), Peer::tls(5080));
    let text = request("MESSAGE", "sip:bob@a.test", a, "c");
    bench.receive_with(a, Some(SCOPED), text.as_bytes());
    bench.one(a, "403");
    bench.receive_with(a, Some(UCS), text.as_bytes());
    bench.one(B(), "MESSAGE");
}

#[test]
fn an_account_without_password_is_its_address() {
    let open = |settings: &mut crate::protocol::proxy::settings::Settings| {
        settings.accounts = std::sync::Arc::new(Accounts::new(vec![Account {
            user_name: "open".to_owned(),
            secret: Secret::Address,
            scope: Scope::everybody(),
            kind: AccountKind::UcServer,
        }]));
        settings.lan_networks = vec!["127.0.0.1/32".parse().unwrap()];
    };
    let mut bench = Bench::with(open);
    bench.log_on(B(), UCS);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    bench.one(B(), "MESSAGE");
    for stranger in [Peer::at(A().0.transport, "127.0.0.2:5070".parse().unwrap()), Peer::outside(5070)] {
        bench.receive(stranger, &request("MESSAGE", "sip:bob@a.test", stranger, "c"));
        bench.one(stranger, "403");
        bench.nothing_more();
    }
}

#[test]
fn from_outside_a_uc_servers_password_is_worth_nothing() {
    let (mut bench, stranger) = (bench(), Peer::outside(5070));
    let text = request("MESSAGE", "sip:bob@a.test", stranger, "c");
    bench.receive(stranger, &text);
    let challenge = bench.one(stranger, "407");
    let proof = credentials(value(&challenge, "Proxy-Authenticate"), "MESSAGE", "ucs", "pw", 1);
    bench.receive(stranger, &with(&text, &format!("Proxy-Authorization: {proof}")));
    bench.one(stranger, "407");
    assert_eq!(bench.faults(), ["unknown_user"]);
    // A registrant may send from there, for its own users.
    let proof = credentials(value(&challenge, "Proxy-Authenticate"), "MESSAGE", "partner", "pw", 1);
    let own = text.replacen("alice@a.test", "dave@partner.example", 1);
    bench.receive(stranger, &with(&own, &format!("Proxy-Authorization: {proof}")));
    bench.one(B(), "MESSAGE");
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
fn a_registrants_flow_speaks_for_its_own_user_and_credentials_for_theirs() {
    let mut bench = bench();
    let partner = Peer::outside(7000);
    bench.proxy.handle_standing(&partner.0, Some(PARTNER));
    let from = |user: &str, call: &str| {
        request("MESSAGE", "sip:bob@a.test", partner, call).replacen("alice@a.test", user, 1)
    };
    bench.receive(partner, &from("x@partner.example", "one"));
    bench.one(B(), "MESSAGE");
    // Another user on the same connection is asked for a proof of its own.
    bench.receive(partner, &from("alice@a.test", "two"));
    bench.one(partner, "407");
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
