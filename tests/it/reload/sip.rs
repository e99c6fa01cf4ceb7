//! `[sip]`: timers and what requests may be.

use std::time::Duration;

use crate::common::agent::{Agent, acknowledgement};
use crate::common::http::ask_socket;
use crate::common::port::Port;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::invite::{fork, invitation, is_cancelled, ring};
use crate::support::{LIMIT, Site, final_response, next_within, open_house, open_house_with_t1, relay, uri};

#[test]
fn an_invite_is_given_up_after_64_of_the_new_t1() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let _bob = site.server(Protocol::Udp, "bob").await;
        let mut caller = site.connect(Protocol::Udp).await;
        let first = invitation(&caller, "bob");
        caller.send(&first).await;
        site.proxy.logs(&["INVITE"]).await;
        // 1.3 s instead of 32; what has begun goes on.
        site.proxy.change(&[("sip", "t1", "\"20ms\"")]).await;
        let second = invitation(&caller, "bob");
        caller.send(&second).await;
        let answer = loop {
            let answer = final_response(&mut caller).await;
            if answer.need("Call-ID") == second.need("Call-ID") {
                break answer;
            }
        };
        assert_eq!(answer.status(), 408, "{answer}");
    });
}

#[test]
fn a_request_is_repeated_at_the_new_t2() {
    run(LIMIT, async {
        let site = Site::open(open_house_with_t1(50), &[Protocol::Udp]).await;
        let mut bob = site.server(Protocol::Udp, "bob").await;
        let mut caller = site.connect(Protocol::Udp).await;
        // By T2 = 400 ms there are eleven of it.
        site.proxy.change(&[("sip", "t2", "\"50ms\"")]).await;
        caller.send(&caller.message(&uri("alice"), &uri("bob"), "are you there?")).await;
        let mut copies = 0;
        while next_within(&mut bob, Duration::from_secs(1)).await.is_some() {
            copies += 1;
        }
        assert!(copies > 16, "{copies} copies");
    });
}

/// How many server transactions there are.
async fn held(site: &Site) -> u32 {
    let socket = site.proxy.directory().path().join("var/run/control.sock");
    let text = ask_socket(&socket, "GET", "/metrics", "").await.body;
    let row = text.lines().find_map(|row| row.strip_prefix("sip_proxy_transactions_held{kind=\"server\"} "));
    row.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number in:\n{text}"))
}

/// An INVITE is refused, and the refusal acknowledged.
async fn refuse(a: &mut Agent, bob: &mut Agent) {
    let invite = invitation(a, "bob");
    let (_, refusal) = relay(&invite, a, bob, 486).await;
    bob.receive_request("ACK").await;
    a.send(&acknowledgement(&invite, &refusal)).await;
}

#[test]
fn a_transaction_that_is_over_is_kept_for_the_new_t4() {
    run(LIMIT, async {
        // Timer I: datagrams of the ACK may come again.
        let settings = open_house().key("sip", "t4", "\"1m\"");
        let site = Site::open(settings, &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut a, mut bob) = (site.connect(Protocol::Udp).await, site.server(Protocol::Tcp, "bob").await);
        refuse(&mut a, &mut bob).await;
        assert_eq!(held(&site).await, 1);
        site.proxy.change(&[("sip", "t4", "\"10ms\"")]).await;
        refuse(&mut a, &mut bob).await;
        // The first stays for its minute.
        while held(&site).await != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn what_rings_for_ever_is_ended_by_the_new_timer_c() {
    run(LIMIT, async {
        let (site, mut a, mut callees) = fork(open_house_with_t1(15), Protocol::Tcp, 1).await;
        site.proxy.change(&[("sip", "timer_c", "\"5400ms\"")]).await;
        a.send(&invitation(&a, "bob")).await;
        let invites = ring(&mut callees).await;
        a.receive_response(180).await;
        is_cancelled(&mut callees[0], &invites[0]).await;
        assert!(matches!(final_response(&mut a).await.status(), 408 | 487));
    });
}

#[test]
fn what_is_longer_than_the_new_udp_mtu_leaves_by_a_stream() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (mut a, mut bob) = (site.connect(Protocol::Udp).await, site.server(Protocol::Udp, "bob").await);
        let streams = Port::tcp_at(bob.local()).await;
        let long = |a: &Agent| a.message(&uri("alice"), &uri("bob"), &"x".repeat(400));
        relay(&long(&a), &mut a, &mut bob, 200).await;
        site.proxy.change(&[("sip", "udp_mtu", "500")]).await;
        a.send(&long(&a)).await;
        let mut stream = streams.accept().await;
        let arrived = stream.receive_request("MESSAGE").await;
        stream.answer(&arrived, 200).await;
        a.receive_response(200).await;
    });
}

#[test]
fn redirections_are_followed_or_passed_on_as_the_file_has_it_now() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut a, mut bob) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Udp, "bob").await);
        let mut carol = site.server(Protocol::Tcp, "carol").await;
        for follows in [false, true, false] {
            if follows || site.proxy.reloads() > 0 {
                site.proxy.change(&[("sip", "follow_redirections", &follows.to_string())]).await;
            }
            a.send(&a.message(&uri("alice"), &uri("bob"), "wherever you are")).await;
            let arrived = bob.receive_request("MESSAGE").await;
            let moved = bob.response(&arrived, 302).with("Contact", format!("<{}>", uri("carol")));
            bob.send(&moved).await;
            if follows {
                let arrived = carol.receive_request("MESSAGE").await;
                carol.answer(&arrived, 200).await;
            }
            a.receive_response(if follows { 200 } else { 302 }).await;
        }
    });
}

#[test]
fn other_extensions_are_tolerated_in_proxy_require() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        let message =
            |a: &Agent| a.message(&uri("alice"), &uri("bob"), "hello").with("Proxy-Require", "x-ours");
        assert_eq!(a.exchange(&message(&a)).await.status(), 420);
        site.proxy.change(&[("sip", "tolerated_proxy_require", "[\"x-ours\"]")]).await;
        relay(&message(&a), &mut a, &mut b, 200).await;
        site.proxy.change(&[("sip", "tolerated_proxy_require", "[]")]).await;
        assert_eq!(a.exchange(&message(&a)).await.status(), 420);
    });
}
