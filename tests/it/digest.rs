//! What digest offers, accepts and refuses (RFC 7616, RFC 8760, RFC 3261 §22).

use std::fmt::Write;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::common::agent::unique;
use crate::common::digest::{Challenge, Credentials};
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::sip::Sip;
use crate::log_on::{RIGHT, guarded, register};
use crate::support::{DOMAIN, LIMIT, Site, relay, uri};

/// Answers the `index`th challenge of a 401 to a REGISTER, as the `count`th use of its nonce.
fn answer(request: &Sip, challenge: &Challenge, credentials: Credentials<'_>, count: u32) -> Sip {
    let value = challenge.answer("REGISTER", request.uri(), credentials, count);
    request.clone().with("Authorization", value)
}

/// A connection that nobody has authenticated sends `request` as it is, but for what belongs to the connection.
async fn on_new_connection(site: &Site, request: &Sip) -> Sip {
    let mut agent = site.connect(Protocol::Tcp).await;
    let request = request.clone().set("Via", agent.via()).set("Call-ID", format!("n{}", unique()));
    agent.exchange(&request).await
}

#[test]
fn each_algorithm_is_offered_once_and_accepted() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let request = register(&agent, "uc-a");
        let challenged = agent.exchange(&request).await;
        assert_eq!(challenged.status(), 401);
        let challenges = Challenge::all(&challenged);
        let algorithms: Vec<_> = challenges.iter().map(|challenge| challenge.algorithm.as_str()).collect();
        assert_eq!(algorithms, ["SHA-512-256", "SHA-256", "MD5"], "most preferred first:\n{challenged}");
        for challenge in &challenges {
            assert_eq!((&*challenge.realm, challenge.qop.as_deref()), (DOMAIN, Some("auth")));
        }
        for (place, algorithm) in algorithms.iter().enumerate() {
            let challenged = on_new_connection(&site, &request).await;
            let retry = answer(&request, &Challenge::all(&challenged)[place], RIGHT, 1);
            assert_eq!(on_new_connection(&site, &retry).await.status(), 200, "{algorithm}");
        }
    });
}

#[test]
fn what_is_not_offered_is_not_accepted() {
    run(LIMIT, async {
        let settings = guarded().key("registrar", "digest_algorithms", "[\"SHA-256\"]");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let request = register(&agent, "uc-a");
        let challenges = Challenge::all(&agent.exchange(&request).await);
        assert_eq!(challenges.len(), 1);
        let weaker = Challenge { algorithm: "MD5".to_owned(), ..challenges[0].clone() };
        assert_eq!(agent.exchange(&answer(&request, &weaker, RIGHT, 1)).await.status(), 401);
        assert_eq!(on_new_connection(&site, &answer(&request, &challenges[0], RIGHT, 2)).await.status(), 200);
    });
}

#[test]
fn an_account_may_have_a_hash_instead_of_a_password() {
    run(LIMIT, async {
        let digest = Sha256::digest(format!("uc-h:{DOMAIN}:secret h"));
        let hash = digest.iter().fold(String::new(), |mut text, octet| {
            write!(text, "{octet:02x}").expect("writing to a string does not fail");
            text
        });
        let settings = guarded().account_rows(&format!("user_name = \"uc-h\"\nha1_sha256 = \"{hash}\"\n"));
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        for (password, algorithm, status) in
            [("secret h", "SHA-256", 200), ("secret a", "SHA-256", 401), ("secret h", "MD5", 401)]
        {
            let request = register(&site.connect(Protocol::Tcp).await, "uc-h");
            let challenges = Challenge::all(&on_new_connection(&site, &request).await);
            let challenge = challenges.iter().find(|challenge| challenge.algorithm == algorithm);
            let credentials = Credentials { user: "uc-h", password };
            let retry = answer(&request, challenge.expect("all three are offered"), credentials, 1);
            assert_eq!(on_new_connection(&site, &retry).await.status(), status, "{password} by {algorithm}");
        }
    });
}

#[test]
fn wrong_credentials_are_challenged_again_and_not_called_stale() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let request = register(&agent, "uc-a");
        let challenge = Challenge::first(&agent.exchange(&request).await);
        let forged = Challenge { nonce: "0123456789abcdef".to_owned(), ..challenge.clone() };
        let other_realm = Challenge { realm: "b.test".to_owned(), ..challenge.clone() };
        for (what, challenge, user, password) in [
            ("wrong password", &challenge, "uc-a", "Secret a"),
            ("another's password", &challenge, "uc-a", "secret b"),
            ("unknown user", &challenge, "uc-x", "secret a"),
            ("an account without password", &challenge, "uc-d", ""),
            ("forged nonce", &forged, "uc-a", "secret a"),
            ("another realm", &other_realm, "uc-a", "secret a"),
        ] {
            let retry = answer(&request, challenge, Credentials { user, password }, 1);
            let refused = on_new_connection(&site, &retry).await;
            assert_eq!(refused.status(), 401, "{what}");
            let again = Challenge::first(&refused);
            assert!(!again.stale && again.nonce != challenge.nonce, "{what}:\n{refused}");
        }
    });
}

#[test]
fn a_nonce_count_is_good_once() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let request = register(&agent, "uc-a");
        let challenge = Challenge::first(&agent.exchange(&request).await);
        let use_it = |count| answer(&request, &challenge, RIGHT, count);
        for (count, status) in [(1, 200), (1, 401), (2, 200), (3, 200), (2, 401), (3, 401), (4, 200)] {
            let response = on_new_connection(&site, &use_it(count)).await;
            assert_eq!(response.status(), status, "count {count}");
            if status == 401 {
                assert!(Challenge::first(&response).stale, "the password was right:\n{response}");
            }
        }
        let replay = on_new_connection(&site, &use_it(4)).await;
        let fresh = answer(&request, &Challenge::first(&replay), RIGHT, 1);
        assert_eq!(on_new_connection(&site, &fresh).await.status(), 200);
    });
}

#[test]
fn a_nonce_expires_and_the_challenge_says_so() {
    run(LIMIT, async {
        let settings = guarded().key("registrar", "nonce_lifetime", "\"1s\"");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let request = register(&agent, "uc-a");
        let challenge = Challenge::first(&agent.exchange(&request).await);
        let begun = Instant::now();
        let mut count = 0;
        let refused = loop {
            count += 1;
            let response = on_new_connection(&site, &answer(&request, &challenge, RIGHT, count)).await;
            if response.status() != 200 {
                break response;
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "the nonce does not expire");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(begun.elapsed() > Duration::from_millis(900), "it lives a second: {:?}", begun.elapsed());
        assert_eq!(refused.status(), 401);
        assert!(Challenge::first(&refused).stale, "{refused}");
    });
}

#[test]
fn basic_is_neither_offered_nor_accepted() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        // "uc-a:secret a"
        let request = register(&agent, "uc-a").with("Authorization", "Basic dWMtYTpzZWNyZXQgYQ==");
        let challenged = agent.exchange(&request).await;
        assert_eq!(challenged.status(), 401);
        let offered = challenged.all("WWW-Authenticate");
        assert!(
            !offered.is_empty() && offered.iter().all(|value| value.starts_with("Digest ")),
            "{challenged}"
        );
    });
}

#[test]
fn credentials_for_another_realm_pass_on_and_our_own_do_not() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        let others = "Digest username=\"x\", realm=\"b.test\", nonce=\"n\", uri=\"sip:x\", response=\"0\"";
        let request = a.message(&uri("alice"), &uri("bob"), "hello").with("Proxy-Authorization", others);
        let challenged = a.exchange(&request).await;
        let ours = Challenge::first(&challenged).answer("MESSAGE", request.uri(), RIGHT, 1);
        let retry = request.clone().set("Via", a.via()).with("Proxy-Authorization", ours);
        let (arrived, _) = relay(&retry, &mut a, &mut b, 200).await;
        // RFC 3261 §22.3.
        assert_eq!(arrived.all("Proxy-Authorization"), [others], "{arrived}");
    });
}
