//! `[limits]`.

use std::time::Duration;

use crate::common::agent::Agent;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::loopback;
use crate::support::{DOMAIN, LIMIT, Site, Wire, answers_options, next_within, open_house, relay, uri};

/// How long something may take that takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(8);

#[test]
fn limits_hold_for_messages_and_connections_afterwards() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Udp]).await;
        let mut known = site.server(Protocol::Tcp, "bob").await;
        let mut datagrams = site.connect(Protocol::Udp).await;
        let proxy = format!("sip:{DOMAIN}");
        let long = |agent: &Agent| {
            agent.request("OPTIONS", &proxy, &uri("alice"), &proxy).body("text/plain", "x".repeat(3000))
        };
        let message = long(&datagrams);
        assert_eq!(datagrams.exchange(&message).await.status(), 200);
        site.proxy.edit(|file| format!("{file}\n[limits]\nmaximum_message_bytes = 2048\nmaximum_header_bytes = 1024\nmaximum_connections_per_address = 1\n"));
        site.proxy.reload().await;
        let message = long(&datagrams);
        assert_eq!(datagrams.exchange(&message).await.status(), 513);
        // A connection that was open goes by it, too; and there may be no second one.
        answers_options(&mut known).await;
        let mut second = site.connect(Protocol::Tcp).await;
        assert!(second.is_closed_by_peer().await);
        let message = long(&known);
        known.send(&message).await;
        known.receive_response(513).await;
    });
}

#[test]
fn connections_are_limited_anew_and_those_that_are_open_stay() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut kept = [site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await];
        for (key, is_full) in [("maximum_connections", "2"), ("maximum_connections_per_address", "2")] {
            for (limit, closes) in [(is_full, true), ("10", false)] {
                site.proxy.change(&[("limits", key, limit)]).await;
                let mut third = site.connect(Protocol::Tcp).await;
                if closes {
                    assert!(third.is_closed_by_peer().await, "{key} = {limit}");
                } else {
                    answers_options(&mut third).await;
                    third.close().await;
                    site.proxy.logs(&["connection_ended", &format!("peer={}", third.local())]).await;
                }
                for agent in &mut kept {
                    answers_options(agent).await;
                }
            }
        }
    });
}

#[test]
fn transactions_are_limited_anew_and_those_that_have_begun_end() {
    run(LIMIT, async {
        // One Router, so that its share is the whole.
        let settings = open_house().key("service", "worker_threads", "1");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        let message = |a: &Agent| a.message(&uri("alice"), &uri("bob"), "hello");
        a.send(&message(&a)).await;
        let arrived = b.receive_request("MESSAGE").await;
        site.proxy.change(&[("limits", "maximum_transactions", "1")]).await;
        let mut other = site.connect(Protocol::Tcp).await;
        assert_eq!(other.exchange(&message(&other)).await.status(), 503);
        site.proxy.change(&[("limits", "maximum_transactions", "1000")]).await;
        relay(&message(&other), &mut other, &mut b, 200).await;
        b.answer(&arrived, 200).await;
        a.receive_response(200).await;
    });
}

#[test]
fn handshakes_messages_and_silence_have_their_new_times() {
    run(LIMIT, async {
        // Before, each of them has longer than a test.
        let settings = open_house().key("limits", "handshake_timeout", "\"5m\"").key(
            "limits",
            "message_timeout",
            "\"5m\"",
        );
        let site = Site::open(settings, &[Protocol::Tls, Protocol::Tcp]).await;
        let (tls, tcp) = (site.proxy.at(Protocol::Tls), site.proxy.at(Protocol::Tcp));
        site.proxy.change(&[("limits", "handshake_timeout", "\"300ms\"")]).await;
        Wire::tcp(tls).await.read_until_closed(PATIENCE).await;
        site.proxy.change(&[("limits", "message_timeout", "\"300ms\"")]).await;
        let mut wire = Wire::tcp(tcp).await;
        wire.send(b"MESSAGE sip:bob@exa").await;
        wire.read_until_closed(PATIENCE).await;
        site.proxy.change(&[("limits", "idle_timeout", "\"600ms\"")]).await;
        Wire::tcp(tcp).await.read_until_closed(PATIENCE).await;
        let long =
            ["handshake_timeout", "message_timeout", "idle_timeout"].map(|key| ("limits", key, "\"5m\""));
        site.proxy.change(&long).await;
        site.is_well(Protocol::Tls).await;
    });
}

#[test]
fn strangers_are_slowed_down_and_let_go_again() {
    run(LIMIT, async {
        let settings = Settings::new(DOMAIN).usual_timers().account("uc", "secret");
        let site = Site::open(settings.key("service", "worker_threads", "1"), &[Protocol::Udp]).await;
        for (limit, is_limited) in [("2", true), ("0", false)] {
            if is_limited {
                assert_eq!(answered(&site).await, 40);
            }
            site.proxy.change(&[("limits", "requests_per_second_per_address", limit)]).await;
            let answered = answered(&site).await;
            assert_eq!(answered < 40, is_limited, "{answered} of 40 with {limit}");
        }
    });
}

/// How many of forty requests of a stranger are answered, from an address of its own.
async fn answered(site: &Site) -> usize {
    let mut stranger = site.connect_from(loopback(), Protocol::Udp).await;
    for _ in 0..40 {
        stranger.send(&stranger.message(&uri("alice"), &uri("bob"), "hello")).await;
    }
    let mut answered = 0;
    while next_within(&mut stranger, Duration::from_secs(2)).await.is_some() {
        answered += 1;
    }
    answered
}
