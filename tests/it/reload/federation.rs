//! Other domains: who is let in and reached, by which proof, and how much of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{is_logged, listens_anew};
use crate::abroad::{Border, OWN_NAME, message_in, named};
use crate::common::agent::Agent;
use crate::common::run;
use crate::common::scratch::{free_port, loopback};
use crate::discovered;
use crate::federation::{passes_both_ways, refused_in, status_out};
use crate::support::{LIMIT, final_response, relay, uri};

#[test]
fn policy_and_lists_of_domains_hold_for_what_comes_and_goes_afterwards() {
    run(LIMIT, async {
        let border = Border::open().await;
        let mut alice = border.server("alice").await;
        let peer = border.usual("peer.test").await;
        let proxy = &border.site.proxy;
        passes_both_ways(&border, &peer, "peer.test", &mut alice).await;
        let mut kept = border.enter(Some(&peer.identity)).await;
        for (key, value, passes) in [
            ("policy", "\"closed\"", false),
            ("allowed_domains", "[\"peer.test\"]", true),
            ("allowed_domains", "[]", false),
            ("policy", "\"open\"", true),
            ("blocked_domains", "[\"peer.test\"]", false),
            ("blocked_domains", "[]", true),
            ("enabled", "false", false),
            ("enabled", "true", true),
        ] {
            proxy.change(&[("federation", key, value)]).await;
            let request = message_in(&kept, "sip:bob@peer.test", "alice");
            if passes {
                relay(&request, &mut kept, &mut alice, 200).await;
                let back = alice.message(&uri("alice"), "sip:bob@peer.test", "and back");
                relay(&back, &mut alice, &mut kept, 200).await;
            } else {
                assert!([403, 404].contains(&status_out(&mut alice, "peer.test").await), "{key} = {value}");
                refused_in(&border, &peer, "sip:bob@peer.test").await;
                assert_eq!(kept.exchange(&request).await.status(), 403, "{key} = {value}");
            }
        }
    });
}

#[test]
fn a_domain_is_proven_by_the_rules_of_now() {
    run(LIMIT, async {
        // The certificate names the server that the domain's record leads to.
        let border = Border::open().await;
        let mut alice = border.server("alice").await;
        let peer = border.foreign("peer.test", "sip.peer.test", &named(&["sip.peer.test"])).await;
        passes_both_ways(&border, &peer, "peer.test", &mut alice).await;
        border.site.proxy.change(&[("federation", "identity", "\"rfc5922\"")]).await;
        refused_in(&border, &peer, "sip:bob@peer.test").await;
        border.site.proxy.change(&[("federation", "identity", "\"federation\"")]).await;
        passes_both_ways(&border, &peer, "peer.test", &mut alice).await;
    });
}

#[test]
fn open_federation_is_switched_and_its_interface_moved() {
    run(LIMIT, async {
        let border = discovered::Border::open(&[]).await;
        let mut alice = border.uc_server("alice").await;
        let config = border.authority.client_config(Some(&border.authority.client("b.test")));
        // Who connects checks that the certificate has the address.
        let own = border.authority.server(&[OWN_NAME, &border.outside.ip().to_string()]);
        own.write(border.proxy.directory(), "proxy");
        let enter = async |at: SocketAddr, alice: &mut Agent| {
            let mut peer = Agent::tls(loopback(), at, config.clone()).await;
            relay(&peer.message("sip:pat@b.test", &uri("alice"), "hello"), &mut peer, alice, 200).await;
            peer
        };
        let mut peer = enter(border.outside, &mut alice).await;
        border.proxy.change(&[("open_federation", "enabled", "false")]).await;
        let refused = peer.exchange(&peer.message("sip:pat@b.test", &uri("alice"), "hello")).await;
        assert_eq!(refused.status(), 403, "{refused}");
        assert_eq!(status_out(&mut alice, "b.test").await, 404);
        border.proxy.change(&[("open_federation", "enabled", "true")]).await;
        listens_anew(&border.proxy, border.outside, 2).await;
        enter(border.outside, &mut alice).await;
        let moved = SocketAddr::new(border.outside.ip(), free_port(border.outside.ip()));
        border.proxy.change(&[("open_federation", "port", &moved.port().to_string())]).await;
        listens_anew(&border.proxy, moved, 1).await;
        enter(moved, &mut alice).await;
        let moved = SocketAddr::new(loopback(), moved.port());
        let own = border.authority.server(&[OWN_NAME, &moved.ip().to_string()]);
        own.write(border.proxy.directory(), "proxy");
        let quoted = format!("\"{}\"", moved.ip());
        border.proxy.change(&[("open_federation", "bind_to_ip_address", &quoted)]).await;
        listens_anew(&border.proxy, moved, 1).await;
        enter(moved, &mut alice).await;
    });
}

/// Sends messages of a peer to these users, which bob answers with `status`, until the peer is watched.
async fn is_watched(border: &discovered::Border, users: &[&str], status: u16, most: usize) {
    let mut bob = border.uc_server("bob").await;
    let mut carol = border.uc_server("carol").await;
    let config = border.authority.client_config(Some(&border.authority.client("b.test")));
    let mut peer = Agent::tls(loopback(), border.outside, config).await;
    let before = watched(border);
    for number in 0.. {
        let user = users[number % users.len()];
        let server = if user == "bob" { &mut bob } else { &mut carol };
        peer.send(&peer.message("sip:pat@b.test", &uri(user), "hello")).await;
        tokio::select! {
            arrived = server.receive_request("MESSAGE") => {
                server.answer(&arrived, status).await;
                peer.receive_response(status).await;
            }
            answer = peer.receive() => {
                assert_eq!(answer.status(), 503, "{answer}");
                break;
            }
        }
        assert!(number <= most, "{number} requests have passed");
    }
    is_logged(&border.proxy, &["peer_watched"], before + 1).await;
    for agent in [&mut bob, &mut carol, &mut peer] {
        agent.close().await;
    }
}

fn watched(border: &discovered::Border) -> usize {
    border.proxy.log().lines().filter(|line| line.contains("peer_watched")).count()
}

#[test]
fn the_guard_on_discovered_peers_goes_by_its_new_limits_and_begins_to_count_anew() {
    run(2 * LIMIT, async {
        let border = discovered::Border::open(&[]).await;
        let guard = "federation_guard";
        border.proxy.change(&[(guard, "requests", "3")]).await;
        is_watched(&border, &["bob"], 200, 4).await;
        border.proxy.change(&[(guard, "requests", "12000"), (guard, "users", "1")]).await;
        is_watched(&border, &["bob", "carol"], 200, 4).await;
        // From twenty answers on.
        border.proxy.change(&[(guard, "users", "0"), (guard, "failures", "10")]).await;
        is_watched(&border, &["bob"], 486, 40).await;
        border.proxy.change(&[(guard, "failures", "0"), (guard, "requests", "3")]).await;
        is_watched(&border, &["bob"], 200, 4).await;
        // Who has been watched for a window is released; by default, that is ten minutes.
        border.proxy.change(&[(guard, "window", "\"1s\"")]).await;
        is_watched(&border, &["bob"], 200, 4).await;
        let mut bob = border.uc_server("bob").await;
        let config = border.authority.client_config(Some(&border.authority.client("b.test")));
        let mut peer = Agent::tls(loopback(), border.outside, config).await;
        while !border.proxy.log().contains("peer_released") {
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            let message = peer.message("sip:pat@b.test", &uri("bob"), "hello");
            relay(&message, &mut peer, &mut bob, 200).await;
        }
    });
}

#[test]
fn discovered_peers_are_sent_as_much_a_second_as_the_file_has_it_now() {
    run(LIMIT, async {
        let border = discovered::Border::open(&[("open_federation", "messages_per_second", "0")]).await;
        let mut alice = border.uc_server("alice").await;
        let port = border.peer("b.test", loopback()).await;
        let burst = async |alice: &mut Agent| {
            for _ in 0..40 {
                alice.send(&alice.message(&uri("alice"), "sip:bob@b.test", "hello")).await;
            }
        };
        burst(&mut alice).await;
        let mut peer = port.accept().await;
        for _ in 0..40 {
            let message = peer.receive_request("MESSAGE").await;
            peer.answer(&message, 200).await;
            alice.receive_response(200).await;
        }
        // At one a second, most of them cannot leave in time.
        border.proxy.change(&[("open_federation", "messages_per_second", "1")]).await;
        burst(&mut alice).await;
        assert_eq!(final_response(&mut alice).await.status(), 503);
        border.proxy.logs(&["peer_queue_full", "b.test"]).await;
        // What waits does not hold up what comes after.
        border.proxy.change(&[("open_federation", "messages_per_second", "0")]).await;
        let mut other = border.uc_server("carol").await;
        let begun = Instant::now();
        for number in 0..40 {
            other.send(&other.message(&uri("carol"), "sip:bob@b.test", &number.to_string())).await;
        }
        let mut left = 40;
        while left > 0 {
            let message = peer.receive_request("MESSAGE").await;
            peer.answer(&message, 200).await;
            left -= usize::from(message.need("From").contains("carol"));
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "at one a second it were 35 s");
    });
}
