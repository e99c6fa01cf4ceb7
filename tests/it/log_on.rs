//! How UC servers log on (product.md, modes A to D), and for whom they may speak.

use crate::common::agent::{Agent, acknowledgement};
use crate::common::certificates::Authority;
use crate::common::digest::Credentials;
use crate::common::proxy::{Protocol, Settings};
use crate::common::sip::{Sip, uri_of, user_of};
use crate::common::{eventually, run};
use crate::support::{CERTIFIED, DOMAIN, LIMIT, SILENCE, Site, cancellation, open_house, relay, uri};

/// What an account of [`guarded`] can show.
pub(crate) const RIGHT: Credentials<'static> = Credentials { user: "uc-a", password: "secret a" };

/// Two UC servers with passwords, and one with a certificate.
pub(crate) fn guarded() -> Settings {
    Settings::new(DOMAIN)
        .usual_timers()
        .account("uc-a", "secret a")
        .account("uc-b", "secret b")
        .account_rows(&format!("user_name = \"uc-d\"\ncertificate = \"{CERTIFIED}\"\n"))
}

/// The REGISTER of a user, without credentials.
pub(crate) fn register(agent: &Agent, user: &str) -> Sip {
    let identity = uri(user);
    agent.request("REGISTER", &format!("sip:{DOMAIN}"), &identity, &identity).with("Expires", "600")
}

#[test]
fn mode_a_one_register_makes_a_server_the_candidate_for_every_user() {
    run(LIMIT, async {
        for (here, there) in [(Protocol::Tcp, Protocol::Tls), (Protocol::Tcp, Protocol::Udp)] {
            let site = Site::open(guarded(), &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
            let (mut a, mut b) = (site.connect(here).await, site.connect(there).await);
            let granted = a.log_on(DOMAIN, "uc-a", "secret a").await;
            assert_eq!(uri_of(granted.need("Contact")), uri_of(&a.contact("uc-a")), "{granted}");
            assert!(granted.need("Contact").contains("expires=600"), "{granted}");
            b.log_on(DOMAIN, "uc-b", "secret b").await;
            let request = a.message(&uri("alice"), &uri("whoever"), "hello");
            let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
            assert_eq!((arrived.uri(), arrived.text()), (&*uri("whoever"), "hello"));
        }
    });
}

#[test]
fn mode_a_a_datagram_server_is_reached_at_its_contact() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut a, mut ear) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Udp).await);
        a.log_on(DOMAIN, "uc-a", "secret a").await;
        let mut mouth = site.connect(Protocol::Udp).await;
        let request = register(&mouth, "uc-b").set("Contact", ear.contact("uc-b"));
        let credentials = Credentials { user: "uc-b", password: "secret b" };
        let challenged = mouth.exchange(&request).await;
        let retry = mouth.answer_challenge(&request, &challenged, credentials);
        assert_eq!(mouth.exchange(&retry).await.status(), 200);
        let request = a.message(&uri("alice"), &uri("bob"), "hello");
        relay(&request, &mut a, &mut ear, 200).await;
        mouth.receive_nothing(SILENCE).await;
    });
}

#[test]
fn mode_b_a_thousand_users_register_over_one_connection() {
    run(LIMIT, async {
        const USERS: usize = 1000;
        let site = Site::open(guarded(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        a.log_on(DOMAIN, "uc-a", "secret a").await;
        b.register(DOMAIN, "user-0", "uc-b", "secret b").await;
        // What comes after the first success is not challenged, and need not wait for the answer before.
        for users in (1..USERS).collect::<Vec<_>>().chunks(100) {
            let requests = users.iter().map(|user| register(&b, &format!("user-{user}")).to_bytes());
            b.send_bytes(&requests.collect::<Vec<_>>().concat()).await;
            let mut granted = Vec::new();
            for _ in users {
                granted.push(user_of(uri_of(b.receive_response(200).await.need("To"))).to_owned());
            }
            granted.sort();
            let mut expected: Vec<_> = users.iter().map(|user| format!("user-{user}")).collect();
            expected.sort();
            assert_eq!(granted, expected);
        }
        for user in [0, 1, 499, USERS - 1] {
            let request = a.message(&uri("alice"), &uri(&format!("user-{user}")), "hello");
            let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
            assert_eq!(
                arrived.uri().split('@').nth(1),
                b.contact("x").trim_matches(['<', '>']).split('@').nth(1)
            );
        }
    });
}

#[test]
fn mode_c_a_connection_is_challenged_once_and_is_a_candidate_then() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp, Protocol::Tls]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tls).await);
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        let request = a.message(&uri("alice"), &uri("bob"), "first");
        let challenged = a.exchange(&request).await;
        assert_eq!(challenged.status(), 407, "{challenged}");
        let retry = a.answer_challenge(&request, &challenged, RIGHT);
        relay(&retry, &mut a, &mut b, 200).await;
        let second = a.message(&uri("anna"), &uri("bob"), "second");
        relay(&second, &mut a, &mut b, 200).await;
        let back = b.message(&uri("bob"), &uri("alice"), "and back");
        relay(&back, &mut b, &mut a, 200).await;
    });
}

#[test]
fn mode_c_datagrams_are_challenged_each() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Tcp).await);
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        for text in ["first", "second"] {
            let request = a.message(&uri("alice"), &uri("bob"), text);
            let challenged = a.exchange(&request).await;
            assert_eq!(challenged.status(), 407, "{text}: {challenged}");
            let retry = a.answer_challenge(&request, &challenged, RIGHT);
            relay(&retry, &mut a, &mut b, 200).await;
        }
        let back = b.message(&uri("bob"), &uri("alice"), "the address has proven itself");
        relay(&back, &mut b, &mut a, 200).await;
    });
}

#[test]
fn each_registration_by_datagram_has_to_prove_itself() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp]).await;
        let mut a = site.connect(Protocol::Udp).await;
        a.log_on(DOMAIN, "uc-a", "secret a").await;
        // Source addresses of datagrams can be forged, and a log-on must not be undone by that (product.md, "Who
        // may send what": digest is per request; a flow that has registered may send the rest).
        for request in [register(&a, "alice"), register(&a, "uc-a").set("Contact", "*").set("Expires", "0")] {
            let refused = a.exchange(&request).await;
            assert_eq!(refused.status(), 401, "{refused}");
        }
    });
}

#[test]
fn mode_d_the_client_certificate_is_the_log_on() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp, Protocol::Mtls]).await;
        let (mut a, mut d) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Mtls).await);
        a.log_on(DOMAIN, "uc-a", "secret a").await;
        let request = d.message(&uri("dora"), &uri("alice"), "unasked");
        relay(&request, &mut d, &mut a, 200).await;
        let back = a.message(&uri("alice"), &uri("dora"), "and back");
        relay(&back, &mut a, &mut d, 200).await;
    });
}

#[test]
fn mode_d_the_handshake_makes_a_candidate() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp, Protocol::Mtls]).await;
        let (mut a, mut d) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Mtls).await);
        a.log_on(DOMAIN, "uc-a", "secret a").await;
        // It has said nothing yet, but the certificate is the log-on, as soon as the proxy has seen it: with TLS 1.3
        // the client's part of the handshake ends before that.
        site.proxy.logs(&["logged_on", "account=uc-d"]).await;
        let request = a.message(&uri("alice"), &uri("dora"), "hello");
        relay(&request, &mut a, &mut d, 200).await;
    });
}

#[test]
fn mode_d_other_certificates_are_no_log_on() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Mtls]).await;
        let (ip, peer) = (site.proxy.ip(), site.proxy.at(Protocol::Mtls));
        let stranger = site.authority.client("stranger.example.org");
        let mut agent = Agent::tls(ip, peer, site.authority.client_config(Some(&stranger))).await;
        let request = agent.message(&uri("alice"), &uri("bob"), "let me in");
        let refused = agent.exchange(&request).await.status();
        assert!(matches!(refused, 403 | 407), "a name that no account has: {refused}");

        // Others vouch for these two; the proxy's own authority is what the client trusts.
        let forger = Authority::new("forger").client(CERTIFIED);
        for identity in [Some(&forger), None] {
            let config = site.authority.client_config(identity);
            // With TLS 1.3 the client has done its part before it hears that it is refused.
            if let Ok(mut agent) = Agent::try_tls(ip, peer, config).await {
                assert!(agent.is_closed_by_peer().await);
            }
        }
    });
}

#[test]
fn a_server_speaks_for_its_users_alone() {
    run(LIMIT, async {
        let scoped = "user_name = \"uc-s\"\npassword = \"secret s\"\nusers = [\"alice@example.org\"]\n";
        let site = Site::open(guarded().account_rows(scoped), &[Protocol::Tcp]).await;
        let (mut s, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        s.register(DOMAIN, "alice", "uc-s", "secret s").await;
        let request = s.message(&uri("alice"), &uri("bob"), "mine");
        relay(&request, &mut s, &mut b, 200).await;
        for from in [&uri("bob"), "sip:alice@b.test", "sip:x@b.test", "tel:+49301234"] {
            let refused = s.exchange(&s.message(from, &uri("bob"), "not mine")).await;
            assert_eq!(refused.status(), 403, "From {from}:\n{refused}");
        }
        let refused = s.exchange(&register(&s, "bob")).await;
        assert_eq!(refused.status(), 403, "another's user:\n{refused}");
        let elsewhere =
            register(&s, "alice").set("To", "<sip:alice@zzz.test>").set("From", "<sip:alice@zzz.test>;tag=1");
        let refused = s.exchange(&elsewhere).await;
        assert_eq!(refused.status(), 404, "another domain (RFC 3261 §10.3 step 5):\n{refused}");
        b.receive_nothing(SILENCE).await;
        // An account without a scope may speak for every user of the domain, and for no other domain either.
        let refused = b.exchange(&b.message("sip:x@b.test", &uri("alice"), "spoofed")).await;
        assert_eq!(refused.status(), 403, "{refused}");
    });
}

#[test]
fn an_empty_password_lets_the_lan_in_and_nobody_else() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut agent = site.connect(protocol).await;
            let granted = agent.exchange(&register(&agent, "alice")).await;
            assert_eq!(granted.status(), 200, "{granted}");
        }
        let warned = || site.proxy.log().contains("lan.password").then_some(());
        eventually(LIMIT, "a warning about the empty password", warned).await;

        let elsewhere = open_house().key("lan", "allowed_networks", "[\"10.0.0.0/8\"]");
        let site = Site::open(elsewhere, &[Protocol::Udp, Protocol::Tcp]).await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut agent = site.connect(protocol).await;
            for request in [register(&agent, "alice"), agent.message(&uri("alice"), &uri("bob"), "hello")] {
                let refused = agent.exchange(&request).await;
                assert_eq!(refused.status(), 403, "{refused}");
            }
        }
    });
}

#[test]
fn ack_and_cancel_are_never_challenged() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp]).await;
        let mut stranger = site.connect(Protocol::Udp).await;
        let invite = stranger.request("INVITE", &uri("bob"), &uri("alice"), &uri("bob"));
        let ack = Sip::request("ACK", &uri("bob")).with("Via", stranger.via()).with("CSeq", "1 ACK");
        let ack = ["From", "To", "Call-ID"].iter().fold(ack, |ack, name| ack.with(name, invite.need(name)));
        stranger.send(&ack).await;
        stranger.send(&cancellation(&invite)).await;
        let options = stranger.request("OPTIONS", &format!("sip:{DOMAIN}"), &uri("alice"), &uri("bob"));
        stranger.send(&options).await;
        let answered = loop {
            let response = stranger.receive().await;
            assert!(!matches!(response.status(), 401 | 407), "{response}");
            if response.method() == "OPTIONS" {
                break response;
            }
        };
        assert_eq!(answered.status(), 200);

        // Of a UC server whose INVITE has proven itself, too.
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Udp).await);
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        let invite = a.request("INVITE", &uri("bob"), &uri("alice"), &uri("bob"));
        let challenged = a.exchange(&invite).await;
        assert_eq!(challenged.status(), 407);
        a.send(&acknowledgement(&invite, &challenged)).await;
        let invite = a.answer_challenge(&invite, &challenged, RIGHT);
        a.send(&invite).await;
        let arrived = b.receive_request("INVITE").await;
        b.answer(&arrived, 180).await;
        a.receive_response(180).await;
        let cancel = cancellation(&invite);
        assert_eq!(a.exchange(&cancel).await.status(), 200);
        let cancel = b.receive_request("CANCEL").await;
        b.answer(&cancel, 200).await;
        b.answer(&arrived, 487).await;
        assert_eq!(a.receive_response(487).await.method(), "INVITE");
    });
}
