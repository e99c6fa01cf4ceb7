//! Requests other than INVITE that are answered late or not at all (RFC 4320).

use std::time::{Duration, Instant};

use crate::common::proxy::Protocol;
use crate::common::run;
use crate::invite::fork;
use crate::support::{LIMIT, SILENCE, Site, next_within, open_house, open_house_with_t1, relay, uri};
use crate::timers::{T1, T2, TICK, arrivals};

#[test]
fn a_request_other_than_invite_gets_one_100_and_no_other_provisional_response() {
    run(LIMIT, async {
        let site = Site::open(open_house_with_t1(T1), &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Tls] {
            let mut a = site.connect(protocol).await;
            let begun = Instant::now();
            a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
            let arrived = b.receive_request("MESSAGE").await;
            for status in [100, 180, 183] {
                b.answer(&arrived, status).await;
            }
            assert_eq!(
                a.receive().await.status(),
                100,
                "RFC 4320 §4.1: one there must be, over {protocol:?}"
            );
            // When Timer E has reached T2, after T1 + 2 T1 + 4 T1.
            assert!(begun.elapsed() + TICK >= Duration::from_millis(350), "{:?}", begun.elapsed());
            a.receive_nothing(Duration::from_millis(T2)).await;
            b.answer(&arrived, 200).await;
            assert_eq!(a.receive().await.status(), 200);
        }
    });
}

#[test]
fn what_is_answered_soon_has_no_100() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut a = site.connect(protocol).await;
            a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
            let arrived = b.receive_request("MESSAGE").await;
            b.answer(&arrived, 100).await;
            a.receive_nothing(SILENCE).await;
            b.answer(&arrived, 200).await;
            assert_eq!(a.receive().await.status(), 200);
        }
    });
}

#[test]
fn no_request_other_than_invite_is_told_that_it_has_timed_out() {
    run(LIMIT, async {
        // Timer F: 64 × 10 ms.
        let site = Site::open(open_house_with_t1(10), &[Protocol::Udp, Protocol::Tcp]).await;
        // What comes to these two waits in their sockets.
        let _silent = [site.server(Protocol::Udp, "bob").await, site.server(Protocol::Tcp, "carol").await];
        let begun = Instant::now();
        let mut senders = Vec::new();
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            for method in ["MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "OPTIONS", "FOO"] {
                for callee in ["bob", "carol"] {
                    let mut a = site.connect(protocol).await;
                    let request = a.request(method, &uri(callee), &uri("alice"), &uri(callee));
                    a.send(&request.with("Event", "presence")).await;
                    senders.push(a);
                }
            }
        }
        for a in &mut senders {
            for (at, response) in arrivals(a, begun, Duration::from_secs(2)).await {
                assert_eq!(response.status(), 100, "RFC 4320 §4.2, after {at:?}:\n{response}");
            }
        }
    });
}

#[test]
fn a_408_of_downstreams_is_not_passed_on() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut a = site.connect(protocol).await;
            for method in ["MESSAGE", "SUBSCRIBE"] {
                let request = a.request(method, &uri("bob"), &uri("alice"), &uri("bob"));
                let request = request.with("Event", "presence");
                a.send(&request).await;
                let arrived = b.receive_request(method).await;
                b.answer(&arrived, 408).await;
                a.receive_nothing(SILENCE).await;
                // It is as if it had not been answered: over UDP it is known still.
                if protocol == Protocol::Udp {
                    a.send(&request).await;
                    b.receive_nothing(SILENCE).await;
                }
            }
            relay(&a.message(&uri("alice"), &uri("bob"), "and now?"), &mut a, &mut b, 200).await;
        }
    });
}

#[test]
fn a_message_that_forks_has_one_final_response_at_most() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let (_site, mut a, mut callees) = fork(open_house_with_t1(10), protocol, 2).await;
            for is_answered in [true, false] {
                let request = a.message(&uri("alice"), &uri("bob"), "hello");
                let begun = Instant::now();
                a.send(&request).await;
                let arrived = callees[0].receive_request("MESSAGE").await;
                if is_answered {
                    callees[0].answer(&arrived, 200).await;
                }
                // RFC 3428 §7; until after Timer F.
                let mut answers = arrivals(&mut a, begun, Duration::from_secs(2)).await;
                answers.retain(|(_, response)| response.status() != 100);
                let statuses: Vec<_> = answers.iter().map(|(_, response)| response.status()).collect();
                assert_eq!(statuses, if is_answered { vec![200] } else { vec![] });
                for callee in &mut callees {
                    while next_within(callee, SILENCE).await.is_some() {}
                }
            }
        }
    });
}
