//! What is believed of whom, and what is told to whom (RFC 3325, RFC 3323): identities and marks of trust at the border.

use crate::abroad::{Border, message_in, named, route};
use crate::common::agent::Agent;
use crate::common::certificates::Identity;
use crate::common::port::Port;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::scratch::loopback;
use crate::common::sip::Sip;
use crate::support::{DOMAIN, LIMIT, SILENCE, relay, uri};

const MARK: &str = "ms-edge-proxy-message-trust";
const MARK_VALUE: &str = "ms-source-type=AuthorizedServer;ms-ep-fqdn=x.test";

/// What claims to be trusted, in any case and as several rows.
fn with_claims(request: Sip) -> Sip {
    request
        .with("P-Asserted-Identity", "\"Boss\" <sip:ceo@example.org>")
        .with("p-asserted-identity", "<tel:+4930123>")
        .with("P-Preferred-Identity", "<sip:ceo@example.org>")
        .with(MARK, MARK_VALUE)
        .with("Ms-Edge-Proxy-Message-Trust", MARK_VALUE)
}

/// How many rows of each there are: asserted, preferred, marks.
fn claims(message: &Sip) -> [usize; 3] {
    ["P-Asserted-Identity", "P-Preferred-Identity", MARK].map(|name| message.all(name).len())
}

/// A border with three static routes: trusted by address, trusted by its certificate, and not trusted.
struct Routes {
    border: Border,
    trusted: Port,
    mutual: Port,
    mutual_identity: Identity,
    untrusted: Port,
}

async fn routes() -> Routes {
    let (trusted, untrusted) = (Port::tcp(loopback()).await, Port::tcp(loopback()).await);
    let address = loopback();
    let mut mutual = None;
    let number = crate::common::scratch::free_port(address);
    let border = Border::with(|settings, authority| {
        mutual = Some(authority.issue(&named(&["m.test"])));
        let (t, u) = (trusted.local(), untrusted.local());
        settings
            .listen_outside(Protocol::Tcp)
            .text(&route("t.test", "tcp", &t.ip().to_string(), t.port(), "trusted = true\n"))
            .text(&route("m.test", "mtls", &address.to_string(), number, ""))
            .text(&route("u.test", "tcp", &u.ip().to_string(), u.port(), ""))
            .text("\n[[registrar.account]]\nuser_name = \"partner\"\npassword = \"pw\"\nusers = [\"*@u.test\"]\n")
    })
    .await;
    let mutual_identity = mutual.expect("it was issued");
    let config = border.site.authority.server_config(&mutual_identity, true);
    let mutual = Port::tls_at((address, number).into(), config).await;
    Routes { border, trusted, mutual, mutual_identity, untrusted }
}

#[test]
fn what_is_asserted_from_outside_is_believed_of_trusted_routes_alone() {
    run(LIMIT, async {
        let Routes { border, trusted, mutual_identity, untrusted, .. } = routes().await;
        let foreign = border.usual("b.test").await;
        let outside = border.site.proxy.outside_at(Protocol::Tcp);
        let mut alice = border.server("alice").await;
        let mut discovered = border.enter(Some(&foreign.identity)).await;
        let mut mutual = border.enter(Some(&mutual_identity)).await;
        let mut by_address = Agent::tcp(trusted.local().ip(), outside).await;
        for (peer, from, expected) in [
            (&mut discovered, "sip:bob@b.test", [0, 0, 0]),
            (&mut mutual, "sip:bob@m.test", [2, 0, 0]),
            (&mut by_address, "sip:bob@t.test", [2, 0, 0]),
        ] {
            let request = with_claims(message_in(peer, from, "alice"));
            let (arrived, _) = relay(&request, peer, &mut alice, 200).await;
            assert_eq!(claims(&arrived), expected, "{from}:\n{arrived}");
        }
        // By a route that is not trusted comes who logs on, and even then nothing is believed.
        let mut partner = Agent::tcp(untrusted.local().ip(), outside).await;
        let request = with_claims(message_in(&partner, "sip:bob@u.test", "alice"));
        let challenged = partner.exchange(&request).await;
        assert_eq!(challenged.status(), 407, "{challenged}");
        let credentials = crate::common::digest::Credentials { user: "partner", password: "pw" };
        let retry = partner.answer_challenge(&request, &challenged, credentials);
        let (arrived, _) = relay(&retry, &mut partner, &mut alice, 200).await;
        assert_eq!(claims(&arrived), [0, 0, 0], "{arrived}");
    });
}

#[test]
fn who_asks_not_to_be_known_is_told_to_trusted_routes_alone() {
    run(LIMIT, async {
        let Routes { border, trusted, mutual, untrusted, .. } = routes().await;
        let foreign = border.usual("b.test").await;
        let mut alice = border.server("alice").await;
        for (port, domain, is_trusted) in [
            (&foreign.port, "b.test", false),
            (&untrusted, "u.test", false),
            (&trusted, "t.test", true),
            (&mutual, "m.test", true),
        ] {
            let bob = format!("sip:bob@{domain}");
            let mut peer: Option<Agent> = None;
            for (privacy, is_hidden) in [
                (None, false),
                (Some("none"), false),
                (Some("id"), true),
                (Some("header; ID;critical"), true),
                (Some("user"), false),
            ] {
                let request = with_claims(alice.message(&uri("alice"), &bob, "to abroad"));
                let request = privacy.iter().fold(request, |request, value| request.with("Privacy", *value));
                alice.send(&request).await;
                let mut there = match peer.take() {
                    Some(there) => there,
                    None => port.accept().await,
                };
                let arrived = there.receive_request("MESSAGE").await;
                let asserted = if is_hidden && !is_trusted { 0 } else { 2 };
                assert_eq!(claims(&arrived), [asserted, 0, 0], "{privacy:?} to {domain}:\n{arrived}");
                assert_eq!(arrived.header("Privacy"), privacy, "{arrived}");
                there.answer(&arrived, 200).await;
                alice.receive_response(200).await;
                peer = Some(there);
            }
        }
    });
}

#[test]
fn marks_of_trust_cross_the_border_in_neither_direction_and_in_no_response() {
    run(LIMIT, async {
        let border = Border::open().await;
        let foreign = border.usual("b.test").await;
        let (mut alice, mut carol) = (border.server("alice").await, border.server("carol").await);
        let request = with_claims(alice.message(&uri("alice"), "sip:bob@b.test", "to abroad"));
        alice.send(&request).await;
        let mut bob = foreign.port.accept().await;
        let arrived = bob.receive_request("MESSAGE").await;
        assert_eq!(arrived.all(MARK).len(), 0, "{arrived}");
        bob.send(&with_claims(bob.response(&arrived, 200))).await;
        let answered = alice.receive_response(200).await;
        assert_eq!(claims(&answered), [0, 0, 0], "{answered}");
        let request = with_claims(message_in(&bob, "sip:bob@b.test", "alice"));
        bob.send(&request).await;
        let arrived = alice.receive_request("MESSAGE").await;
        assert_eq!(arrived.all(MARK).len(), 0, "{arrived}");
        alice.send(&with_claims(alice.response(&arrived, 200)).with("Privacy", "id")).await;
        let answered = bob.receive_response(200).await;
        assert_eq!(claims(&answered), [0, 0, 0], "{answered}");
        // Within the LAN it is nobody's business.
        let request = with_claims(alice.message(&uri("alice"), &uri("carol"), "at home"));
        let (arrived, _) = relay(&request, &mut alice, &mut carol, 200).await;
        assert_eq!(arrived.all(MARK).len(), 2, "{arrived}");
    });
}

#[test]
fn our_own_domain_comes_from_outside_by_trusted_routes_alone() {
    run(LIMIT, async {
        let Routes { border, trusted, mutual_identity, untrusted, .. } = routes().await;
        let foreign = border.usual("b.test").await;
        // Whoever shows our own name, too, is no other.
        let as_us = border.site.authority.issue(&named(&[DOMAIN, "b.test"]));
        let outside = border.site.proxy.outside_at(Protocol::Tcp);
        let mut alice = border.server("alice").await;
        for identity in [&foreign.identity, &as_us] {
            let mut peer = border.enter(Some(identity)).await;
            for from in [uri("carol"), format!("sips:carol@{}", DOMAIN.to_uppercase())] {
                for method in ["MESSAGE", "INVITE", "SUBSCRIBE", "NOTIFY"] {
                    let request = peer.request(method, &uri("alice"), &from, &uri("alice"));
                    let refused = peer.exchange(&request).await;
                    assert_eq!(refused.status(), 403, "{method} {from}:\n{refused}");
                }
            }
        }
        border.site.proxy.logs(&["peer_refused", DOMAIN, "names=b.test"]).await;
        let mut mutual = border.enter(Some(&mutual_identity)).await;
        let mut by_address = Agent::tcp(trusted.local().ip(), outside).await;
        for peer in [&mut mutual, &mut by_address] {
            let request = message_in(peer, &uri("carol"), "alice");
            relay(&request, peer, &mut alice, 200).await;
        }
        let mut partner = Agent::tcp(untrusted.local().ip(), outside).await;
        let request = message_in(&partner, &uri("carol"), "alice");
        let refused = partner.authorised_exchange(&request, "partner", "pw").await;
        assert_eq!(refused.status(), 403, "{refused}");
        alice.receive_nothing(SILENCE).await;
    });
}
