//! CANCEL and Timer C, where they are not plain (RFC 3261 §9, §16.8, §16.10).

use std::time::{Duration, Instant};

use crate::common::agent::acknowledgement;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::sip::{Sip, parameter};
use crate::invite::{fork, invitation, is_cancelled};
use crate::support::{
    LIMIT, SILENCE, Site, cancellation, final_response, next_within, open_house, open_house_that_waits,
    open_house_with_t1, uri,
};

#[test]
fn a_cancel_waits_for_the_first_provisional_response_while_its_invite_is_repeated() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house_with_t1(50), Protocol::Udp, 1).await;
        let b = &mut callees[0];
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let arrived = b.receive_request("INVITE").await;
        assert_eq!(a.exchange(&cancellation(&invite)).await.status(), 200);
        // RFC 3261 §9.1.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            let again = next_within(b, Duration::from_millis(100)).await;
            assert!(again.is_none_or(|again| again == arrived), "nothing but the INVITE");
        }
        b.answer(&arrived, 100).await;
        is_cancelled(b, &arrived).await;
        assert_eq!(final_response(&mut a).await.need("CSeq"), "1 INVITE");
    });
}

#[test]
fn a_branch_that_ends_or_says_nothing_gets_no_cancel() {
    run(LIMIT, async {
        // Timer B: 64 × 50 ms.
        let (_site, mut a, mut callees) = fork(open_house_with_t1(50), Protocol::Tcp, 2).await;
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let mut invites = Vec::new();
        for callee in &mut callees {
            invites.push(callee.receive_request("INVITE").await);
        }
        assert_eq!(a.exchange(&cancellation(&invite)).await.status(), 200);
        callees[0].answer(&invites[0], 486).await;
        callees[0].receive_request("ACK").await;
        let ended = final_response(&mut a).await;
        assert!(matches!(ended.status(), 486 | 487), "{ended}");
        a.send(&acknowledgement(&invite, &ended)).await;
        for callee in &mut callees {
            callee.receive_nothing(SILENCE).await;
        }
    });
}

#[test]
fn a_cancel_of_what_the_proxy_does_not_know_goes_on_as_it_is() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.server(Protocol::Udp, "bob").await);
        let next = format!("<sip:{};lr>", b.local());
        let by_route = invitation(&a, "carol").with("Route", &next).without("Content-Type");
        let cancel =
            cancellation(&by_route).with("Route", &next).with("Reason", "SIP;cause=200 ; text=\"x\"");
        let mut branches = Vec::new();
        // The same one again has the same branch (RFC 3261 §16.11).
        for _ in 0..2 {
            a.send(&cancel).await;
            let mut arrived = b.receive_request("CANCEL").await;
            let via = arrived.pop_front("Via").expect("the proxy's Via");
            branches.push(parameter(&via, "branch").expect("a branch").to_owned());
            assert_eq!(arrived.need("Max-Forwards"), "69");
            let source = arrived.pop_front("Via").expect("the client's Via");
            assert!(source.starts_with(cancel.need("Via").trim_end_matches(";rport")), "{source}");
            let ours = ["Via", "Max-Forwards", "Content-Length"];
            let rest = |message: &Sip| ours.iter().fold(message.clone(), |rest, name| rest.without(name));
            assert_eq!(rest(&arrived), rest(&cancel));
        }
        assert_eq!(branches[0], branches[1]);
        // Nobody but the next hop answers it.
        a.receive_nothing(SILENCE).await;
        // The user's binding is a way, too.
        a.send(&cancellation(&invitation(&a, "bob"))).await;
        let arrived = b.receive_request("CANCEL").await;
        assert_eq!(format!("<{}>", arrived.uri()), b.contact("bob"));
    });
}

#[test]
fn a_cancel_has_no_effect_on_anything_but_an_invite() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 1).await;
        let b = &mut callees[0];
        // RFC 3261 §9.1, §9.2; RFC 6665 §4.6.
        for method in ["SUBSCRIBE", "NOTIFY", "MESSAGE", "PUBLISH", "REFER", "OPTIONS"] {
            let request =
                a.request(method, &uri("bob"), &uri("alice"), &uri("bob")).with("Event", "presence");
            a.send(&request).await;
            let arrived = b.receive_request(method).await;
            a.send(&cancellation(&request)).await;
            b.receive_nothing(SILENCE).await;
            b.answer(&arrived, 200).await;
            let answered = loop {
                let response = a.receive().await;
                if response.method() == method {
                    break response;
                }
                assert_eq!((response.method(), response.status()), ("CANCEL", 200), "{method}");
            };
            assert_eq!(answered.status(), 200);
        }
    });
}

#[test]
fn nothing_but_an_invite_is_cancelled_when_another_branch_has_answered() {
    run(LIMIT, async {
        // By UDP the request is at hand all the time.
        let (_site, mut a, mut callees) = fork(open_house_that_waits(), Protocol::Udp, 2).await;
        for (method, status) in [("MESSAGE", 200), ("SUBSCRIBE", 200), ("OPTIONS", 200), ("MESSAGE", 603)] {
            let request =
                a.request(method, &uri("bob"), &uri("alice"), &uri("bob")).with("Event", "presence");
            a.send(&request).await;
            let mut arrived = Vec::new();
            for callee in &mut callees {
                arrived.push(callee.receive_request(method).await);
            }
            callees[1].answer(&arrived[1], 100).await;
            callees[0].answer(&arrived[0], status).await;
            callees[1].receive_nothing(SILENCE).await;
            callees[1].answer(&arrived[1], 480).await;
            a.receive_response(status).await;
            a.receive_nothing(SILENCE).await;
        }
    });
}

#[test]
fn timer_c_begins_anew_with_each_provisional_response_but_100() {
    run(LIMIT, async {
        const TIMER_C: Duration = Duration::from_millis(5400);
        let settings = open_house_with_t1(15).key("sip", "timer_c", "\"5400ms\"");
        let (_site, mut a, mut callees) = fork(settings, Protocol::Tcp, 1).await;
        let b = &mut callees[0];
        a.send(&invitation(&a, "bob")).await;
        let arrived = b.receive_request("INVITE").await;
        let mut begun = Instant::now();
        for status in [180, 199, 183, 180] {
            begun = Instant::now();
            b.answer(&arrived, status).await;
            a.receive_response(status).await;
            b.receive_nothing(Duration::from_secs(2)).await;
        }
        // RFC 3261 §16.7 step 2: 101 to 199.
        b.answer(&arrived, 100).await;
        let answered = Instant::now();
        is_cancelled(b, &arrived).await;
        assert!(begun.elapsed() >= TIMER_C, "{:?} after the last ringing", begun.elapsed());
        assert!(answered.elapsed() < TIMER_C, "{:?} after the 100", answered.elapsed());
        assert!(matches!(final_response(&mut a).await.status(), 408 | 487));
    });
}
