//! What UC servers say to each other arrives, once, and is answered: methods, transports, retransmissions.

use std::time::{Duration, Instant};

use crate::common::agent::unique;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::sip::parameter;
use crate::support::{
    ALL, DOMAIN, LIMIT, PROMPT, SILENCE, Site, drain, next_within, open_house, open_house_that_waits,
    open_house_with_t1, relay, uri,
};

#[test]
fn every_method_crosses_every_pair_of_transports() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &ALL).await;
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for (number, protocol) in ALL.into_iter().enumerate() {
            here.push(site.server(protocol, &format!("here-{number}")).await);
            there.push(site.server(protocol, &format!("there-{number}")).await);
        }
        for (from, a) in here.iter_mut().enumerate() {
            for (to, b) in there.iter_mut().enumerate() {
                let (alice, bob) = (uri(&format!("here-{from}")), uri(&format!("there-{to}")));
                for method in ["MESSAGE", "OPTIONS", "PUBLISH", "INFO", "FOO", "X-!%*_+`'~.9"] {
                    let request = a.request(method, &bob, &alice, &bob).with("Event", "presence");
                    let request = request.body("text/plain", format!("{method} {from} {to}"));
                    let (arrived, answered) = relay(&request, a, b, 200).await;
                    assert_eq!((arrived.text(), arrived.method()), (request.text(), method));
                    assert_eq!(arrived.need("Max-Forwards"), "69");
                    assert_eq!(answered.all("Via").len(), 1, "the proxy takes its Via away:\n{answered}");
                }
                let request = a.message(&alice, &bob, "no");
                relay(&request, a, b, 603).await;
            }
        }
    });
}

#[test]
fn via_tells_where_a_request_came_from() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        let mut a = site.connect(Protocol::Udp).await;
        let source = a.local();
        for (sent_by, rport) in [
            (format!("host.example.net:{};rport", source.port()), true),
            (format!("192.0.2.4:{};rport", source.port()), true),
            (format!("{source};rport"), true),
            (format!("host.example.net:{}", source.port()), false),
        ] {
            let via = format!("SIP/2.0/UDP {sent_by};branch=z9hG4bK-v{}", unique());
            let request = a.message(&uri("alice"), &uri("bob"), "where from?").set("Via", via);
            let (arrived, answered) = relay(&request, &mut a, &mut b, 200).await;
            for message in [&arrived, &answered] {
                let values = message.values("Via");
                let via = values.last().expect("a Via is left");
                assert_eq!(parameter(via, "received"), Some(&*source.ip().to_string()), "{via}");
                let expected = rport.then(|| source.port().to_string());
                assert_eq!(parameter(via, "rport"), expected.as_deref(), "{via}");
            }
            assert_eq!(a.source(), site.proxy.at(Protocol::Udp), "RFC 3581 §4: from where the request went");
        }
    });
}

#[test]
fn via_tells_on_streams_as_well_where_a_request_came_from() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Tls]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        for (protocol, transport) in [(Protocol::Tcp, "TCP"), (Protocol::Tls, "TLS")] {
            let mut a = site.connect(protocol).await;
            for sent_by in ["host.example.net", "1.2.3.4:5070", "[2001:db8::4]"] {
                let via = format!("SIP/2.0/{transport} {sent_by};branch=z9hG4bK-v{}", unique());
                let request = a.message(&uri("alice"), &uri("bob"), "where from?").set("Via", via);
                let (arrived, answered) = relay(&request, &mut a, &mut b, 200).await;
                for message in [&arrived, &answered] {
                    let values = message.values("Via");
                    let via = values.last().expect("a Via is left");
                    assert_eq!(parameter(via, "received"), Some(&*a.local().ip().to_string()), "{via}");
                }
            }
        }
    });
}

#[test]
fn a_missing_max_forwards_is_added_and_each_branch_has_its_own_name() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        let mut a = site.connect(Protocol::Tcp).await;
        let mut branches = Vec::new();
        for _ in 0..3 {
            let request = a.message(&uri("alice"), &uri("bob"), "hello").without("Max-Forwards");
            let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
            assert_eq!(arrived.need("Max-Forwards"), "70");
            let branch = parameter(arrived.need("Via"), "branch").expect("the proxy's branch").to_owned();
            assert!(branch.starts_with("z9hG4bK") && !branches.contains(&branch), "{branch}");
            branches.push(branch);
        }
    });
}

#[test]
fn a_repeated_request_is_answered_and_not_forwarded_again() {
    run(LIMIT, async {
        let site = Site::open(open_house_that_waits(), &[Protocol::Udp]).await;
        let mut b = site.server(Protocol::Udp, "bob").await;
        let mut a = site.connect(Protocol::Udp).await;
        let request = a.message(&uri("alice"), &uri("bob"), "hello");
        for _ in 0..3 {
            a.send(&request).await;
        }
        let arrived = b.receive_request("MESSAGE").await;
        b.receive_nothing(SILENCE).await;
        b.answer(&arrived, 200).await;
        a.receive_response(200).await;
        for _ in 0..3 {
            let again = a.exchange(&request).await;
            assert_eq!(again.status(), 200);
            assert_eq!(again.need("To"), b.response(&arrived, 200).need("To"), "the same answer");
        }
        b.receive_nothing(SILENCE).await;
    });
}

#[test]
fn a_request_is_repeated_by_udp_until_it_is_answered_and_never_by_tcp() {
    run(LIMIT, async {
        let site = Site::open(open_house_with_t1(50), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut datagrams = site.server(Protocol::Udp, "bob").await;
        let mut stream = site.server(Protocol::Tcp, "carol").await;
        let mut a = site.connect(Protocol::Tcp).await;
        a.send(&a.message(&uri("alice"), &uri("carol"), "once")).await;
        let once = stream.receive_request("MESSAGE").await;
        a.send(&a.message(&uri("alice"), &uri("bob"), "again and again")).await;
        let begun = Instant::now();
        let first = datagrams.receive_request("MESSAGE").await;
        // Timer E: T1, 2 T1, 4 T1 (RFC 3261 §17.1.2.2).
        for earliest in [40, 140, 340] {
            assert_eq!(datagrams.receive().await, first, "the same octets");
            assert!(begun.elapsed() >= Duration::from_millis(earliest), "{:?} is too early", begun.elapsed());
        }
        assert!(begun.elapsed() < PROMPT, "{:?} is too late", begun.elapsed());
        datagrams.answer(&first, 200).await;
        a.receive_response(200).await;
        drain(&mut datagrams, &first).await;
        datagrams.receive_nothing(Duration::from_millis(450)).await;
        stream.receive_nothing(Duration::from_millis(1)).await;
        stream.answer(&once, 200).await;
        a.receive_response(200).await;
    });
}

#[test]
fn nobody_is_told_that_a_message_has_timed_out() {
    run(LIMIT, async {
        // Timer F: 64 × 10 ms.
        let site = Site::open(open_house_with_t1(10), &[Protocol::Udp, Protocol::Tcp]).await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let bob = format!("bob-{protocol:?}");
            let mut silent = site.server(protocol, &bob).await;
            let mut a = site.connect(Protocol::Tcp).await;
            a.send(&a.message(&uri("alice"), &uri(&bob), "hello?")).await;
            let arrived = silent.receive_request("MESSAGE").await;
            // RFC 4320 §4.2: no 408; §4.1: a 100 in between is right.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(1000) {
                let quiet = next_within(&mut a, Duration::from_millis(100)).await;
                assert!(quiet.is_none_or(|response| response.status() == 100));
            }
            // And no response without a transaction (RFC 6026 §8).
            silent.answer(&arrived, 200).await;
            a.receive_nothing(SILENCE).await;
        }
    });
}

#[test]
fn a_dead_peer_is_an_error_at_once() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut dead = site.server(Protocol::Udp, "bob").await;
        dead.close().await;
        let mut a = site.connect(Protocol::Tcp).await;
        let begun = Instant::now();
        // ICMP says so (RFC 3261 §18.4); a 503 of ours would tell the sender to leave us alone (§16.7 step 6).
        let status = a.exchange(&a.message(&uri("alice"), &uri("bob"), "hello?")).await.status();
        assert!(matches!(status, 404 | 480 | 500), "{status}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    });
}

#[test]
fn who_waits_long_for_an_answer_gets_a_100_and_nobody_else_does() {
    run(LIMIT, async {
        // Timer E reaches T2 after 50, 100 and 200 ms (RFC 4320 §4.1).
        let site = Site::open(open_house_with_t1(50), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut a = site.connect(protocol).await;
            let begun = Instant::now();
            a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
            let arrived = b.receive_request("MESSAGE").await;
            assert_eq!(a.receive().await.status(), 100);
            let taken = begun.elapsed();
            if protocol == Protocol::Udp {
                assert!(taken >= Duration::from_millis(340), "by UDP not before: {taken:?}");
            }
            assert!(taken < Duration::from_secs(2), "{taken:?}");
            b.answer(&arrived, 200).await;
            a.receive_response(200).await;
        }
    });
}

#[test]
fn the_proxy_takes_no_message_in_the_place_of_its_receiver() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut a = site.connect(protocol).await;
            // Nothing is stored, so nothing is accepted (RFC 3428 §8).
            for to in [format!("sip:{DOMAIN}"), format!("sip:{}", site.proxy.at(protocol))] {
                let refused = a.exchange(&a.message(&uri("alice"), &to, "hello")).await;
                assert_eq!((refused.status(), refused.header("Contact")), (404, None), "{to}");
                assert!(refused.body.is_empty(), "{refused}");
            }
            let request = a.message(&uri("alice"), &uri("bob"), "hello");
            let (_, answered) = relay(&request, &mut a, &mut b, 202).await;
            assert_eq!((answered.header("Contact"), answered.body.len()), (None, 0), "{answered}");
        }
    });
}
