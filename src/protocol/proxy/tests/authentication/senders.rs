//! Who may send for whom, and what else than a password proves it.

use super::super::bench::Bench;
use super::super::network::{PARTNER, Peer, SCOPED, UCS};
use super::super::text::{credentials, request, value, with};
use super::{A, B, bench};
use crate::protocol::account::{Account, AccountKind, Accounts, Scope, Secret};

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
