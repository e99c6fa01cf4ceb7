//! Credentials that count only where the administrator wants them to (RFC 8760 §2.6), and what guessing costs.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::common::agent::Agent;
use crate::common::digest::{Challenge, Credentials};
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::support::{DOMAIN, LIMIT, SILENCE, Site, next_within, relay, uri};

const RIGHT: Credentials<'_> = Credentials { user: "uc-a", password: "secret a" };
const WRONG: Credentials<'_> = Credentials { user: "uc-a", password: "guess" };

fn guarded() -> Settings {
    Settings::new(DOMAIN).account("uc-a", "secret a").account("uc-b", "secret b")
}

/// The status that a MESSAGE with these credentials for the first challenge gets.
async fn status_of(agent: &mut Agent, change: impl FnOnce(Challenge) -> Challenge, digest_uri: &str) -> u16 {
    let request = agent.message(&uri("alice"), &uri("bob"), "let me in");
    let challenged = agent.exchange(&request).await;
    let challenge = change(Challenge::all(&challenged).remove(2));
    let answer = challenge.answer("MESSAGE", digest_uri, RIGHT, 1);
    let retry = request.set("Via", agent.via()).set("CSeq", "2 MESSAGE").with("Proxy-Authorization", answer);
    agent.exchange(&retry).await.status()
}

#[test]
fn qop_is_always_offered_and_may_be_left_away_only_where_the_switch_is_on() {
    run(LIMIT, async {
        for (accepts, status) in [(false, 407), (true, 480)] {
            let settings = guarded().key("registrar", "accept_digest_without_qop", &accepts.to_string());
            let site = Site::open(settings, &[Protocol::Tcp]).await;
            let mut agent = site.connect(Protocol::Tcp).await;
            let without_qop = |challenge: Challenge| {
                assert_eq!((challenge.qop.as_deref(), &*challenge.algorithm), (Some("auth"), "MD5"));
                Challenge { qop: None, ..challenge }
            };
            assert_eq!(status_of(&mut agent, without_qop, &uri("bob")).await, status, "{accepts}");
        }
    });
}

#[test]
fn an_algorithm_that_is_left_away_is_md5() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let request = agent.message(&uri("alice"), &uri("bob"), "let me in");
        let challenge = Challenge::all(&agent.exchange(&request).await).remove(2);
        let answer = challenge.answer("MESSAGE", &uri("bob"), RIGHT, 1).replace(", algorithm=MD5", "");
        assert!(!answer.contains("algorithm"));
        let retry = request.set("Via", agent.via()).with("Proxy-Authorization", answer);
        assert_eq!(agent.exchange(&retry).await.status(), 480);
    });
}

#[test]
fn credentials_for_another_request_uri_are_accepted_only_where_the_switch_is_on() {
    run(LIMIT, async {
        // The last is the same URI, written otherwise.
        let (other, same) = ("sip:bob@sbc.test", "SIP:%62ob@EXAMPLE.org");
        for (accepts, digest_uri, status) in [(false, other, 400), (true, other, 480), (false, same, 480)] {
            let settings = guarded().key("registrar", "accept_digest_for_other_uri", &accepts.to_string());
            let site = Site::open(settings, &[Protocol::Tcp]).await;
            let mut agent = site.connect(Protocol::Tcp).await;
            let found = status_of(&mut agent, |challenge| challenge, digest_uri).await;
            assert_eq!(found, status, "{accepts} {digest_uri}");
        }
    });
}

/// Answers a challenge wrongly. How long the next challenge takes; `None`: it does not come.
async fn guess(agent: &mut Agent) -> Option<Duration> {
    let request = agent.message(&uri("alice"), &uri("bob"), "guess");
    agent.send(&request).await;
    let challenged = next_within(agent, Duration::from_secs(2)).await?;
    assert_eq!(challenged.status(), 407, "{challenged}");
    let begun = Instant::now();
    agent.send(&agent.answer_challenge(&request, &challenged, WRONG)).await;
    loop {
        let again = next_within(agent, Duration::from_secs(2)).await?;
        if again.status() != 100 {
            assert_eq!(again.status(), 407, "{again}");
            return Some(begun.elapsed());
        }
    }
}

#[test]
fn who_guesses_waits_longer_and_longer_and_is_not_heard_in_the_end() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp, Protocol::Tls]).await;
        // Of the same host, logged on over TLS; and somebody else.
        let host = site.proxy.ip();
        let mut established = site.connect(Protocol::Tls).await;
        established.log_on(DOMAIN, "uc-b", "secret b").await;
        let mut agent = site.connect_from(host, Protocol::Udp).await;
        // Not to know the challenge yet is no guess.
        for _ in 0..20 {
            let request = agent.message(&uri("alice"), &uri("bob"), "who am I?");
            assert_eq!(agent.exchange(&request).await.status(), 407);
        }
        let mut waits = Vec::new();
        while let Some(wait) = guess(&mut agent).await {
            waits.push(wait);
            assert!(waits.len() < 20, "no end to it: {waits:?}");
        }
        assert_eq!(waits.len(), 9, "the tenth is not answered: {waits:?}");
        // T1/2, doubled each time, up to T2.
        for (wait, least) in waits[3..].iter().zip([25, 50, 100, 200, 400, 400]) {
            assert!(*wait >= Duration::from_millis(least), "{least} ms: {waits:?}");
        }
        let request = agent.message(&uri("alice"), &uri("bob"), "nobody listens");
        agent.send(&request).await;
        agent.receive_nothing(SILENCE).await;
        assert!(site.proxy.log().contains("address_banned"), "{}", site.proxy.log());

        let other = match host {
            IpAddr::V4(v4) => IpAddr::from((v4.to_bits() ^ 1).to_be_bytes()),
            IpAddr::V6(_) => panic!("tests are on IPv4"),
        };
        let mut elsewhere = site.connect_from(other, Protocol::Udp).await;
        elsewhere.log_on(DOMAIN, "uc-a", "secret a").await;
        let request = established.message(&uri("alice"), &uri("bob"), "are you there?");
        relay(&request, &mut established, &mut elsewhere, 200).await;
    });
}

#[test]
fn a_ban_ends_and_0_means_that_there_is_none() {
    run(LIMIT, async {
        let settings =
            guarded().key("registrar", "failed_log_ons", "1").key("registrar", "ban_time", "\"1s\"");
        let site = Site::open(settings, &[Protocol::Udp]).await;
        let mut agent = site.connect(Protocol::Udp).await;
        assert_eq!(guess(&mut agent).await, None);
        // As long as the guess itself was waited for, and then some.
        let begun = Instant::now();
        loop {
            let request = agent.message(&uri("alice"), &uri("bob"), "again");
            agent.send(&request).await;
            if next_within(&mut agent, Duration::from_millis(100)).await.is_some() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "it does not end");
        }
        let site = Site::open(guarded().key("registrar", "failed_log_ons", "0"), &[Protocol::Udp]).await;
        let mut agent = site.connect(Protocol::Udp).await;
        for _ in 0..30 {
            assert!(guess(&mut agent).await.is_some());
        }
    });
}

#[test]
fn a_nonce_is_good_for_the_host_alone_that_it_was_sent_to() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp]).await;
        let mut agent = site.connect(Protocol::Udp).await;
        let mut other = site.connect_from("127.77.0.1".parse().expect("an address"), Protocol::Udp).await;
        let request = agent.message(&uri("alice"), &uri("bob"), "not mine");
        let for_other = other.exchange(&request.clone().set("Via", other.via())).await;
        for credentials in [WRONG; 20].into_iter().chain([RIGHT]) {
            let again = agent.exchange(&agent.answer_challenge(&request, &for_other, credentials)).await;
            assert_eq!(again.status(), 407, "{again}");
            assert!(again.need("Proxy-Authenticate").contains("stale=true"), "{again}");
        }
        // It has not been banned for what anybody could have had it say.
        agent.log_on(DOMAIN, "uc-a", "secret a").await;
    });
}

/// Two who may register, each for itself.
const PARTNERS: &str = "\n[[registrar.account]]\nuser_name = \"p\"\npassword = \"secret p\"\n\
                        users = [\"p@partner.example\"]\n\
                        [[registrar.account]]\nuser_name = \"q\"\npassword = \"secret q\"\n\
                        users = [\"q@partner.example\"]\n";

/// The status of a MESSAGE without credentials to a user who is not there.
async fn message_passes_as(agent: &mut Agent, user: &str) -> u16 {
    let message = agent.message(&format!("sip:{user}@partner.example"), &uri("nobody"), "may I?");
    agent.exchange(&message).await.status()
}

#[test]
fn a_connection_is_a_registrants_only_if_it_is_at_the_other_end() {
    run(LIMIT, async {
        let site = Site::open(guarded().text(PARTNERS), &[Protocol::Tcp]).await;
        let register = |agent: &Agent| {
            let identity = "sip:p@partner.example";
            agent.request("REGISTER", &format!("sip:{DOMAIN}"), identity, identity)
        };
        let mut phone = site.connect(Protocol::Tcp).await;
        assert_eq!(message_passes_as(&mut phone, "p").await, 407);
        let request = register(&phone);
        assert_eq!(phone.authorised_exchange(&request, "p", "secret p").await.status(), 200);
        assert_eq!(message_passes_as(&mut phone, "p").await, 480);
        assert_eq!(message_passes_as(&mut phone, "q").await, 407, "in its scope alone");

        let mut edge = site.connect(Protocol::Tcp).await;
        let below = "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK-phone";
        let request = register(&edge).with("Via", below);
        let challenged = edge.exchange(&request).await;
        let credentials = Credentials { user: "p", password: "secret p" };
        let retry = edge.answer_challenge(&request.clone().without("Via"), &challenged, credentials);
        let own = retry.need("Via").to_owned();
        let retry = retry.without("Via").with("Via", own).with("Via", below);
        assert_eq!(edge.exchange(&retry).await.status(), 200);
        for user in ["p", "q"] {
            assert_eq!(message_passes_as(&mut edge, user).await, 407, "{user} may be anybody behind it");
        }
    });
}
