//! When requests and responses are repeated, and when that ends (RFC 3261 §17; RFC 4320; RFC 6026).
//!
//! A test counts time from before it sends what starts a timer: nothing can rightly come earlier than the RFC has it.
//! How much later it comes is a matter of how busy the machine is.

use std::time::{Duration, Instant};

use futures_util::future::join;

use crate::common::agent::{Agent, acknowledgement};
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::sip::Sip;
use crate::invite::{fork, invitation, ring};
use crate::support::{
    LIMIT, SILENCE, Site, final_response, next_request, next_within, open_house, open_house_that_waits,
    open_house_with_t1, uri,
};

/// T1 of these tests, in milliseconds.
pub(crate) const T1: u32 = 50;

/// T2 of these tests, in milliseconds.
pub(crate) const T2: u64 = 400;

/// Timers B, F, H, J, L and M.
const SIXTY_FOUR_T1: Duration = Duration::from_millis(3200);

/// How long to listen to what ends after that.
const END: Duration = Duration::from_millis(4200);

/// How finely the proxy keeps its timers.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// What comes until `end` has passed since `begun`, and when.
pub(crate) async fn arrivals(agent: &mut Agent, begun: Instant, end: Duration) -> Vec<(Duration, Sip)> {
    let mut arrived = Vec::new();
    while let Some(left) = end.checked_sub(begun.elapsed()) {
        if let Some(message) = next_within(agent, left).await {
            arrived.push((begun.elapsed(), message));
        }
    }
    arrived
}

/// Milliseconds at which something is sent until 64 × T1: after T1, 2 T1, 4 T1 and so on, but not more than `longest`.
fn doubling(longest: u64) -> Vec<u64> {
    let (mut schedule, mut at, mut interval) = (Vec::new(), 0, u64::from(T1));
    while Duration::from_millis(at) < SIXTY_FOUR_T1 {
        schedule.push(at);
        at += interval;
        interval = (interval * 2).min(longest);
    }
    schedule
}

/// Checks that one message has come again and again, never before its time and not more often than that. The last
/// two may be missing, if a busy machine has delayed the others.
fn assert_schedule(arrived: &[(Duration, Sip)], schedule: &[u64]) {
    let times: Vec<_> = arrived.iter().map(|(at, _)| *at).collect();
    let is_complete = (schedule.len() - 2..=schedule.len()).contains(&times.len());
    assert!(is_complete, "{times:?} for {schedule:?}");
    for ((at, message), earliest) in arrived.iter().zip(schedule) {
        assert_eq!(*message, arrived[0].1, "the same octets");
        assert!(*at + TICK >= Duration::from_millis(*earliest), "{times:?} for {schedule:?}");
    }
}

#[test]
fn an_invite_is_repeated_after_t1_2_t1_4_t1_and_given_up_after_64_t1() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house_with_t1(T1), Protocol::Udp, 1).await;
        let invite = invitation(&a, "bob");
        let begun = Instant::now();
        a.send(&invite).await;
        let end = async {
            let ended = final_response(&mut a).await;
            let at = begun.elapsed();
            a.send(&acknowledgement(&invite, &ended)).await;
            (ended.status(), at)
        };
        let (arrived, (status, at)) = join(arrivals(&mut callees[0], begun, END), end).await;
        // Timer A (RFC 3261 §17.1.1.2) has no longest interval.
        assert_schedule(&arrived, &doubling(u64::MAX));
        assert_eq!(status, 408);
        assert!(at + TICK >= SIXTY_FOUR_T1, "Timer B after {at:?}");
    });
}

#[test]
fn another_request_is_repeated_after_t1_2_t1_up_to_t2_and_given_up_after_64_t1() {
    run(LIMIT, async {
        let site = Site::open(open_house_with_t1(T1), &[Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.server(Protocol::Udp, "bob").await);
        let begun = Instant::now();
        a.send(&a.message(&uri("alice"), &uri("bob"), "hello?")).await;
        // Timers E and F (RFC 3261 §17.1.2.2).
        assert_schedule(&arrivals(&mut b, begun, END).await, &doubling(T2));
    });
}

#[test]
fn a_request_that_has_a_100_is_repeated_after_t2() {
    run(LIMIT, async {
        let settings = open_house_with_t1(T1).key("sip", "t2", "\"1s\"");
        let site = Site::open(settings, &[Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.server(Protocol::Udp, "bob").await);
        let begun = Instant::now();
        a.send(&a.message(&uri("alice"), &uri("bob"), "hello?")).await;
        let first = b.receive_request("MESSAGE").await;
        b.answer(&first, 100).await;
        let mut arrived = vec![(begun.elapsed(), first)];
        arrived.extend(arrivals(&mut b, begun, END).await);
        // What Timer E is set to when the 100 comes, runs out first; a slow 100 finds it set to 2 T1.
        assert_schedule(&arrived, &[0, 50, 150, 1150, 2150, 3150]);
    });
}

#[test]
fn nothing_is_repeated_over_streams() {
    run(LIMIT, async {
        let site = Site::open(open_house_with_t1(T1), &[Protocol::Tcp, Protocol::Tls]).await;
        for protocol in [Protocol::Tcp, Protocol::Tls] {
            let (mut a, mut b) = (site.connect(protocol).await, site.server(protocol, "bob").await);
            for request in [invitation(&a, "bob"), a.message(&uri("alice"), &uri("bob"), "hello?")] {
                a.send(&request).await;
                b.receive_request(request.method()).await;
            }
            b.receive_nothing(Duration::from_millis(T2)).await;
            b.close().await;
        }
    });
}

#[test]
fn an_invite_that_waits_gets_one_100_at_once() {
    run(LIMIT, async {
        // RFC 3261 §17.2.1: within 200 ms, however long T1 is.
        let site = Site::open(open_house_that_waits(), &[Protocol::Udp, Protocol::Tcp]).await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let (mut a, mut silent) = (site.connect(protocol).await, site.server(protocol, "bob").await);
            let begun = Instant::now();
            a.send(&invitation(&a, "bob")).await;
            let trying = a.receive_response(100).await;
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            assert_eq!(trying.need("CSeq"), "1 INVITE");
            silent.receive_request("INVITE").await;
            a.receive_nothing(SILENCE).await;
            silent.close().await;
        }
    });
}

#[test]
fn an_invite_that_rings_gets_no_100_any_more() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 1).await;
        a.send(&invitation(&a, "bob")).await;
        ring(&mut callees).await;
        // On a busy machine the 100 may have come before.
        a.receive_response(180).await;
        a.receive_nothing(Duration::from_millis(300)).await;
    });
}

#[test]
fn a_refusal_without_ack_is_repeated_up_to_t2_and_given_up_after_64_t1() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house_with_t1(T1), Protocol::Udp, 1).await;
        let b = &mut callees[0];
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let arrived = b.receive_request("INVITE").await;
        let begun = Instant::now();
        b.answer(&arrived, 486).await;
        next_request(b, "ACK", &arrived).await;
        let mut refused = arrivals(&mut a, begun, END).await;
        refused.retain(|(_, response)| response.status() != 100);
        // Timers G and H (RFC 3261 §17.2.1).
        assert_schedule(&refused, &doubling(T2));
        assert_eq!(refused[0].1.status(), 486);
        // The transaction has gone, and its INVITE is a new one.
        a.send(&invite).await;
        assert_ne!(b.receive_request("INVITE").await.values("Via")[0], arrived.values("Via")[0]);
    });
}

#[test]
fn a_refusal_is_not_repeated_over_a_stream() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house_with_t1(T1), Protocol::Tcp, 1).await;
        a.send(&invitation(&a, "bob")).await;
        let arrived = callees[0].receive_request("INVITE").await;
        callees[0].answer(&arrived, 486).await;
        a.receive_response(486).await;
        a.receive_nothing(Duration::from_millis(T2)).await;
    });
}

#[test]
fn a_repeated_invite_is_swallowed_for_64_t1_after_its_2xx() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house_with_t1(T1), Protocol::Udp, 1).await;
        let b = &mut callees[0];
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let arrived = b.receive_request("INVITE").await;
        let begun = Instant::now();
        b.answer(&arrived, 200).await;
        a.receive_response(200).await;
        // Timer L (RFC 6026 §7.1). The proxy has no 2xx to repeat: that is the callee's.
        let forwarded = loop {
            a.send(&invite).await;
            if let Some(again) = next_within(b, Duration::from_millis(20)).await {
                break again;
            }
            assert!(begun.elapsed() < END, "the transaction does not end");
        };
        assert!(begun.elapsed() + TICK >= SIXTY_FOUR_T1, "{:?}", begun.elapsed());
        assert_eq!(forwarded.method(), "INVITE");
        let answered = next_within(&mut a, Duration::from_millis(20)).await;
        assert!(answered.is_none_or(|response| response.status() == 100), "it is a new transaction");
    });
}

#[test]
fn a_2xx_of_another_branch_is_passed_on_much_later() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house_with_t1(T1), Protocol::Tcp, 2).await;
        a.send(&invitation(&a, "bob")).await;
        let invites = ring(&mut callees).await;
        callees[0].answer(&invites[0], 200).await;
        let first = final_response(&mut a).await;
        let cancel = callees[1].receive_request("CANCEL").await;
        callees[1].answer(&cancel, 200).await;
        a.receive_nothing(Duration::from_millis(2500)).await;
        callees[1].answer(&invites[1], 200).await;
        let second = final_response(&mut a).await;
        assert_eq!((first.status(), second.status()), (200, 200));
        assert_eq!(second.need("To"), callees[1].response(&invites[1], 200).need("To"));
    });
}

#[test]
fn further_2xx_of_a_branch_are_passed_on_for_64_t1() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house_with_t1(T1), Protocol::Udp, 1).await;
        let b = &mut callees[0];
        a.send(&invitation(&a, "bob")).await;
        let arrived = b.receive_request("INVITE").await;
        let begun = Instant::now();
        b.answer(&arrived, 200).await;
        a.receive_response(200).await;
        // Behind that branch is a proxy that has forked (Timer M, RFC 6026 §7.2 and §8.4).
        for number in 1.. {
            let tag = format!("other-{number}");
            let other = Sip::response(&arrived, 200, "OK", &tag).with("Contact", b.contact("other"));
            b.send(&other).await;
            match next_within(&mut a, Duration::from_secs(1)).await {
                Some(accepted) => assert_eq!(accepted.need("To"), other.need("To")),
                None => break,
            }
            assert!(begun.elapsed() < END, "the transaction does not end");
            b.receive_nothing(Duration::from_millis(50)).await;
        }
        assert!(begun.elapsed() >= SIXTY_FOUR_T1, "{:?}", begun.elapsed());
    });
}
