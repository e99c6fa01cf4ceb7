//! Requests other than INVITE that are answered late or not at all (RFC 4320).

use std::time::{Duration, Instant};

use crate::common::proxy::Protocol;
use crate::common::run;
use crate::invite::{bind_with_q, fork};
use crate::support::{
    LIMIT, SILENCE, Site, final_response, next_within, open_house, open_house_with_t1, relay, uri,
};
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
            let (_site, mut a, mut callees) = fork(open_house_with_t1(50), protocol, 2).await;
            for is_answered in [true, false] {
                let request = a.message(&uri("alice"), &uri("bob"), "hello");
                let begun = Instant::now();
                a.send(&request).await;
                let arrived = callees[0].receive_request("MESSAGE").await;
                if is_answered {
                    callees[0].answer(&arrived, 200).await;
                }
                // RFC 3428 §7; until after Timer F.
                let mut answers = arrivals(&mut a, begun, Duration::from_secs(5)).await;
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

#[test]
fn a_refusal_beside_a_silent_branch_comes_before_its_sender_gives_up() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            // Timer F: 64 × 100 ms.
            let (_site, mut a, mut callees) = fork(open_house_with_t1(100), protocol, 2).await;
            let begun = Instant::now();
            let mut expected = Vec::new();
            for status in [401, 486, 603] {
                let request = a.message(&uri("alice"), &uri("bob"), "hello");
                a.send(&request).await;
                let arrived = loop {
                    let arrived = callees[0].receive_request("MESSAGE").await;
                    if arrived.need("Call-ID") == request.need("Call-ID") {
                        break arrived;
                    }
                };
                callees[0].answer(&arrived, status).await;
                expected.push((request.need("Call-ID").to_owned(), status));
            }
            // The other has had its time: half of it. A busy machine may bring them in another order.
            while !expected.is_empty() {
                let refused = final_response(&mut a).await;
                let at = begun.elapsed();
                let answered = (refused.need("Call-ID").to_owned(), refused.status());
                let place = expected.iter().position(|wanted| *wanted == answered);
                expected.remove(place.unwrap_or_else(|| panic!("none of {expected:?}:\n{refused}")));
                let (earliest, latest) = (Duration::from_millis(3200), Duration::from_millis(5600));
                assert!(at + TICK >= earliest && at < latest, "{at:?}");
            }
            // One final response, and what the silent one says now is no other.
            let late = callees[1].receive_request("MESSAGE").await;
            callees[1].answer(&late, 200).await;
            a.receive_nothing(SILENCE).await;
        }
    });
}

#[test]
fn a_lower_q_value_is_asked_beside_a_silent_higher_one_and_its_answer_is_in_time() {
    run(LIMIT, async {
        let site = Site::open(open_house_with_t1(100), &[Protocol::Udp]).await;
        let mut agents = Vec::new();
        for q in ["0.9", "0.5"] {
            let mut agent = site.connect(Protocol::Udp).await;
            bind_with_q(&mut agent, q).await;
            agents.push(agent);
        }
        let mut a = site.connect(Protocol::Udp).await;
        let begun = Instant::now();
        a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
        agents[0].receive_request("MESSAGE").await;
        let arrived = agents[1].receive_request("MESSAGE").await;
        // 12 × T1 are the share of the first of two.
        let asked = begun.elapsed();
        assert!(asked + TICK >= Duration::from_millis(1200), "{asked:?}");
        agents[1].answer(&arrived, 200).await;
        let accepted = final_response(&mut a).await;
        assert_eq!(accepted.need("To"), agents[1].response(&arrived, 200).need("To"));
        assert!(begun.elapsed() < Duration::from_millis(5600), "{:?}", begun.elapsed());
    });
}

#[test]
fn an_answer_is_dropped_when_its_server_transaction_is_over_though_the_client_transaction_is_not() {
    run(LIMIT, async {
        let site = Site::open(open_house_with_t1(100), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut silent, mut late) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Udp).await);
        bind_with_q(&mut silent, "0.9").await;
        bind_with_q(&mut late, "0.5").await;
        let mut a = site.connect(Protocol::Tcp).await;
        let begun = Instant::now();
        a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
        // Who is asked 12 × T1 later has its request repeated for so much longer than the sender waits (64 × T1).
        let over = Duration::from_millis(6700);
        let again = loop {
            let again = late.receive_request("MESSAGE").await;
            if begun.elapsed() > over {
                break again;
            }
        };
        late.answer(&again, 200).await;
        for (at, response) in arrivals(&mut a, begun, begun.elapsed() + SILENCE).await {
            assert_eq!(response.status(), 100, "RFC 4320 §4.2, after {at:?}:\n{response}");
        }
        site.is_well(Protocol::Tcp).await;
    });
}
