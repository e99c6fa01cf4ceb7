//! The end by SIGTERM: what has begun may end, nothing begins, and it does not take for ever.

use std::time::{Duration, Instant};

use crate::common::proxy::Protocol;
use crate::common::run;
use crate::invite::invitation;
use crate::support::{Dialog, LIMIT, Site, final_response, open_house, relay, uri};

#[test]
fn a_call_that_rings_and_a_message_under_way_are_completed_and_nothing_begins() {
    run(LIMIT, async {
        let mut site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            site.proxy.logs(&["ready"]).await;
            let (mut a, mut b) = (site.connect(protocol).await, site.server(protocol, "bob").await);
            let mut other = site.connect(protocol).await;
            let invite = invitation(&a, "bob");
            a.send(&invite).await;
            let ringing = b.receive_request("INVITE").await;
            b.answer(&ringing, 180).await;
            a.receive_response(180).await;
            let message = other.message(&uri("carol"), &uri("bob"), "one moment");
            other.send(&message).await;
            let under_way = b.receive_request("MESSAGE").await;

            site.proxy.signal("TERM");
            site.proxy.logs(&["info", "draining", "left=2"]).await;
            for request in [invitation(&other, "bob"), other.message(&uri("carol"), &uri("bob"), "too late")]
            {
                other.send(&request).await;
                let refusal = final_response(&mut other).await;
                assert_eq!(refusal.status(), 503, "{refusal}");
                let seconds: u32 = refusal.need("Retry-After").parse().expect("a number of seconds");
                assert!((1..=33).contains(&seconds), "{refusal}");
                assert!(refusal.need("Warning").starts_with("399 "), "{refusal}");
            }

            b.answer(&under_way, 200).await;
            other.receive_response(200).await;
            b.answer(&ringing, 200).await;
            let accepted = a.receive_response(200).await;
            let mut dialog = Dialog::of_caller(&invite, &accepted);
            a.send(&dialog.acknowledgement(&a)).await;
            while b.receive().await.method() != "ACK" {
                // What the late answers had the proxy repeat.
            }
            let bye = dialog.request(&a, "BYE");
            relay(&bye, &mut a, &mut b, 200).await;
            assert_eq!(site.proxy.ends().await.code(), Some(0));
            site.proxy.restart().await;
        }
    });
}

#[test]
fn what_is_never_answered_is_waited_for_until_the_time_is_up() {
    run(LIMIT, async {
        let settings = open_house().key("service", "drain_timeout", "\"1500ms\"");
        let mut site = Site::open(settings, &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        a.send(&invitation(&a, "bob")).await;
        b.receive_request("INVITE").await;
        let begun = Instant::now();
        site.proxy.signal("TERM");
        assert_eq!(site.proxy.ends().await.code(), Some(0));
        assert!(begun.elapsed() >= Duration::from_millis(1500));
        let log = site.proxy.log();
        assert!(log.contains("stopping reason=SIGTERM") && log.contains("drain_incomplete left=1"), "{log}");
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    run(LIMIT, async {
        let settings = open_house().key("service", "drain_timeout", "\"1h\"");
        let mut site = Site::open(settings, &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        a.send(&invitation(&a, "bob")).await;
        b.receive_request("INVITE").await;
        site.proxy.signal("INT");
        site.proxy.logs(&["stopping", "reason=SIGINT", "seconds=3600"]).await;
        site.proxy.logs(&["draining", "left=1"]).await;
        assert_eq!(site.proxy.terminate().await.code(), Some(0));
    });
}
