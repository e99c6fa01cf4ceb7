//! `[registrar]`.

use std::time::Duration;

use crate::common::agent::Agent;
use crate::common::digest::{Challenge, Credentials};
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::loopback;
use crate::common::sip::{Sip, parameter};
use crate::support::{DOMAIN, LIMIT, Site, next_within, open_house, uri};

#[test]
fn the_registrar_goes_by_its_new_bounds() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let register = |agent: &Agent| -> Sip {
            let register = agent.request("REGISTER", &format!("sip:{DOMAIN}"), &uri("bob"), &uri("bob"));
            register.set("Contact", agent.contact("bob")).set("Expires", "70")
        };
        let request = register(&agent);
        assert_eq!(agent.exchange(&request).await.status(), 200);
        site.proxy.edit(|text| format!("{text}\n[registrar]\nminimum_expires = \"2m\"\n"));
        site.proxy.reload().await;
        let request = register(&agent);
        let answer = agent.exchange(&request).await;
        assert_eq!((answer.status(), answer.need("Min-Expires")), (423, "120"), "{answer}");
    });
}

fn register(agent: &Agent, user: &str, expires: &str) -> Sip {
    let register = agent.request("REGISTER", &format!("sip:{DOMAIN}"), &uri(user), &uri(user));
    register.set("Contact", agent.contact(user)).set("Expires", expires)
}

/// The time that a registration is granted which asks for `expires`, or for nothing.
async fn granted(agent: &mut Agent, expires: Option<&str>) -> String {
    let request = register(agent, "bob", expires.unwrap_or_default());
    let request = if expires.is_some() { request } else { request.without("Expires") };
    let answer = agent.exchange(&request).await;
    assert_eq!(answer.status(), 200, "{answer}");
    parameter(answer.need("Contact"), "expires").expect("a time").to_owned()
}

#[test]
fn registrations_last_as_long_as_the_file_has_it_now() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        assert_eq!(granted(&mut agent, None).await, "3600");
        assert_eq!(granted(&mut agent, Some("100000")).await, "86400");
        site.proxy.change(&[("registrar", "default_expires", "\"30m\"")]).await;
        assert_eq!(granted(&mut agent, None).await, "1800");
        site.proxy.change(&[("registrar", "maximum_expires", "\"40m\"")]).await;
        assert_eq!(granted(&mut agent, Some("100000")).await, "2400");
    });
}

#[test]
fn an_address_of_record_may_have_another_number_of_contacts() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let contacts = |agent: &Agent| {
            let contact = |number: u8| agent.contact(&format!("c{number}"));
            register(agent, "bob", "600").set("Contact", [1, 2, 3].map(contact).join(", "))
        };
        site.proxy.change(&[("registrar", "maximum_contacts", "2")]).await;
        let refused = agent.exchange(&contacts(&agent)).await;
        assert_eq!(refused.status(), 403, "{refused}");
        site.proxy.change(&[("registrar", "maximum_contacts", "3")]).await;
        assert_eq!(agent.exchange(&contacts(&agent)).await.status(), 200);
    });
}

/// Registers somebody twenty times, each as soon as the last was answered; how often the disk was waited for.
async fn waits_of_twenty(site: &Site, agent: &mut Agent) -> u64 {
    let waits = async || -> u64 {
        let metrics = site.proxy.asked("GET", "/metrics", "").await.body;
        let (_, rest) =
            metrics.split_once("\nsip_proxy_journal_commit_seconds_count ").expect("the histogram");
        rest.lines().next().expect("a value").parse().expect("a number")
    };
    let before = waits().await;
    for _ in 0..20 {
        let request = register(agent, "bob", "600");
        assert_eq!(agent.exchange(&request).await.status(), 200);
    }
    waits().await - before
}

#[test]
fn registrations_are_as_durable_as_the_file_has_it_now() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        site.proxy.change(&[("registrar", "durability", "\"disk\"")]).await;
        assert!(waits_of_twenty(&site, &mut agent).await >= 20, "one for each answer");
        site.proxy.change(&[("registrar", "durability", "\"process\"")]).await;
        // A few times a second, however many there are; where a machine takes seconds for twenty, again.
        while waits_of_twenty(&site, &mut agent).await >= 10 {}
    });
}

#[test]
fn a_path_needs_support_or_does_not_as_the_file_has_it_now() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let with_path = |agent: &Agent| register(agent, "bob", "600").with("Path", "<sip:p.example.net;lr>");
        assert_eq!(agent.exchange(&with_path(&agent)).await.status(), 420);
        for (accepts, status) in [("true", 200), ("false", 420)] {
            site.proxy.change(&[("registrar", "accept_path_without_support", accepts)]).await;
            assert_eq!(agent.exchange(&with_path(&agent)).await.status(), status);
        }
    });
}

fn guarded() -> Settings {
    Settings::new(DOMAIN).account("uc-a", "secret a")
}

const RIGHT: Credentials<'_> = Credentials { user: "uc-a", password: "secret a" };
const WRONG: Credentials<'_> = Credentials { user: "uc-a", password: "guess" };

#[test]
fn challenges_offer_the_algorithms_of_now_and_no_other_is_accepted() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let request = register(&agent, "alice", "600");
        let before = Challenge::all(&agent.exchange(&request).await);
        assert_eq!(before.len(), 3);
        site.proxy.change(&[("registrar", "digest_algorithms", "[\"SHA-256\"]")]).await;
        let after = Challenge::all(&agent.exchange(&register(&agent, "alice", "600")).await);
        let offered: Vec<_> = after.iter().map(|challenge| challenge.algorithm.as_str()).collect();
        assert_eq!(offered, ["SHA-256"]);
        for (challenge, status) in [(&before[2], 401), (&after[0], 200)] {
            let answer = challenge.answer("REGISTER", request.uri(), RIGHT, 1);
            let retry = register(&agent, "alice", "600").with("Authorization", answer);
            assert_eq!(agent.exchange(&retry).await.status(), status, "{}", challenge.algorithm);
        }
    });
}

#[test]
fn nonces_live_for_the_time_of_now() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp]).await;
        site.proxy.change(&[("registrar", "nonce_lifetime", "\"1s\"")]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let request = register(&agent, "alice", "600");
        let challenge = Challenge::first(&agent.exchange(&request).await);
        // By default, five minutes; and who asks from elsewhere each time is not logged on already.
        for count in 1.. {
            let mut other = site.connect(Protocol::Tcp).await;
            let answer = challenge.answer("REGISTER", request.uri(), RIGHT, count);
            let response =
                other.exchange(&register(&other, "alice", "600").with("Authorization", answer)).await;
            if response.status() == 401 {
                assert!(Challenge::first(&response).stale, "{response}");
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

/// The status that a MESSAGE with these credentials for the last challenge gets.
async fn status_of(agent: &mut Agent, change: impl FnOnce(Challenge) -> Challenge, digest_uri: &str) -> u16 {
    let request = agent.message(&uri("alice"), &uri("bob"), "let me in");
    let challenge = change(Challenge::all(&agent.exchange(&request).await).remove(2));
    let answer = challenge.answer("MESSAGE", digest_uri, RIGHT, 1);
    let retry = request.set("Via", agent.via()).set("CSeq", "2 MESSAGE").with("Proxy-Authorization", answer);
    agent.exchange(&retry).await.status()
}

#[test]
fn credentials_are_as_strictly_looked_at_as_the_file_has_it_now() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp]).await;
        let mut agent = site.connect(Protocol::Udp).await;
        let without_qop = |challenge| Challenge { qop: None, ..challenge };
        assert_eq!(status_of(&mut agent, without_qop, &uri("bob")).await, 407);
        assert_eq!(status_of(&mut agent, |challenge| challenge, "sip:bob@sbc.test").await, 400);
        site.proxy.change(&[("registrar", "accept_digest_without_qop", "true")]).await;
        assert_eq!(status_of(&mut agent, without_qop, &uri("bob")).await, 480);
        assert_eq!(status_of(&mut agent, |challenge| challenge, "sip:bob@sbc.test").await, 400);
        site.proxy.change(&[("registrar", "accept_digest_for_other_uri", "true")]).await;
        assert_eq!(status_of(&mut agent, |challenge| challenge, "sip:bob@sbc.test").await, 480);
    });
}

/// Answers a challenge wrongly. Whether anybody minds: who is banned gets no answer.
async fn guess(agent: &mut Agent) -> bool {
    let request = agent.message(&uri("alice"), &uri("bob"), "guess");
    agent.send(&request).await;
    let Some(challenged) = next_within(agent, Duration::from_secs(2)).await else { return false };
    assert_eq!(challenged.status(), 407, "{challenged}");
    agent.send(&agent.answer_challenge(&request, &challenged, WRONG)).await;
    next_within(agent, Duration::from_secs(2)).await.is_some()
}

#[test]
fn who_guesses_is_banned_by_the_numbers_of_now() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp]).await;
        let mut agent = site.connect(Protocol::Udp).await;
        assert!(guess(&mut agent).await, "one of ten");
        site.proxy.change(&[("registrar", "failed_log_ons", "2")]).await;
        assert!(!guess(&mut agent).await, "the second");
        site.proxy.logs(&["address_banned"]).await;
        assert!(!guess(&mut agent).await, "for five minutes");
        // Without bans, nobody is banned; and then for a second.
        site.proxy.change(&[("registrar", "failed_log_ons", "0")]).await;
        let mut other = site.connect_from(loopback(), Protocol::Udp).await;
        for _ in 0..3 {
            assert!(guess(&mut other).await);
        }
        site.proxy.change(&[("registrar", "failed_log_ons", "1"), ("registrar", "ban_time", "\"1s\"")]).await;
        assert!(!guess(&mut other).await);
        loop {
            other.send(&other.message(&uri("alice"), &uri("bob"), "again")).await;
            if next_within(&mut other, Duration::from_millis(100)).await.is_some() {
                break;
            }
        }
    });
}
