//! Microsoft's peers: what they send that no RFC has (MS-SIP, MS-SIPCOMP, MS-CONMGMT).

use std::time::{Duration, Instant};

use crate::common::agent::Agent;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::support::{ALL, DOMAIN, LIMIT, SILENCE, Site, open_house, relay, uri};

const BOTH: &str = "ms-benotify, ms-piggyback-first-notify";

#[test]
fn a_subscription_that_requires_benotify_passes_on_every_transport() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &ALL).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        for protocol in ALL {
            let mut a = site.connect(protocol).await;
            let subscribe = a.request("SUBSCRIBE", &uri("bob"), &uri("alice"), &uri("bob"));
            let subscribe = subscribe.with("Event", "presence").with("Proxy-Require", BOTH);
            let (arrived, _) = relay(&subscribe, &mut a, &mut b, 200).await;
            assert_eq!(arrived.need("Proxy-Require"), BOTH, "{protocol:?}");
        }
    });
}

#[test]
fn which_extensions_are_tolerated_is_configured() {
    run(LIMIT, async {
        let settings = open_house().key("sip", "tolerated_proxy_require", "[\"X-Ours\"]");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        let mut a = site.connect(Protocol::Tcp).await;
        let message = |a: &Agent| a.message(&uri("alice"), &uri("bob"), "hello");
        relay(&message(&a).with("Proxy-Require", "x-ours"), &mut a, &mut b, 200).await;
        let refused = a.exchange(&message(&a).with("Proxy-Require", "x-ours, ms-benotify")).await;
        assert_eq!((refused.status(), refused.need("Unsupported")), (420, "ms-benotify"));
    });
}

#[test]
fn compression_is_refused_and_the_connection_goes_on_without() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Tls] {
            let mut a = site.connect(protocol).await;
            for target in [format!("sip:{}", site.proxy.at(protocol)), uri("bob")] {
                let offer = a.request("NEGOTIATE", &target, &uri("alice"), &uri("bob"));
                let refused = a.exchange(&offer.with("Compression", "LZ77-64K")).await;
                assert_eq!(refused.status(), 405, "{protocol:?}");
                assert!(refused.values("Allow").contains(&"MESSAGE"), "{refused}");
            }
            b.receive_nothing(SILENCE).await;
            relay(&a.message(&uri("alice"), &uri("bob"), "plain"), &mut a, &mut b, 200).await;
        }
    });
}

#[test]
fn who_asks_for_keep_alive_is_told_how_long_it_may_be_silent() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "idle_timeout", "\"100s\"");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        let mut a = site.connect(Protocol::Tcp).await;
        let asks = |request: crate::common::sip::Sip| request.with("ms-keep-alive", "UAC;hop-hop=yes");
        let promise = "UAS;tcp=no;hop-hop=yes;end-end=no;timeout=90";
        // What we answer ourselves.
        let domain = format!("sip:{DOMAIN}");
        let register = a.request("REGISTER", &domain, &uri("alice"), &uri("alice"));
        let registered = a.exchange(&asks(register.with("Contact", a.contact("alice")))).await;
        assert_eq!((registered.status(), registered.all("ms-keep-alive")), (200, vec![promise]));
        // What somebody behind us answers.
        let message = asks(a.message(&uri("alice"), &uri("bob"), "hello"));
        a.send(&message).await;
        let arrived = b.receive_request("MESSAGE").await;
        assert!(arrived.all("ms-keep-alive").is_empty(), "the question was for the first hop: {arrived}");
        b.send(&b.response(&arrived, 200).with("ms-keep-alive", "UAS;hop-hop=yes;timeout=1")).await;
        assert_eq!(a.receive_response(200).await.all("ms-keep-alive"), [promise]);
    });
}

#[test]
fn a_connection_lives_for_what_was_promised_and_ends_after_that() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "idle_timeout", "\"3s\"");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let domain = format!("sip:{DOMAIN}");
        let options = a.request("OPTIONS", &domain, &uri("alice"), &domain);
        let told = a.exchange(&options.with("ms-keep-alive", "UAC;hop-hop=yes")).await;
        assert!(told.need("ms-keep-alive").ends_with(";timeout=2"), "{told}");
        // Any traffic counts: with that, it lives longer than the silence that it may have.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(4) {
            a.receive_nothing(Duration::from_secs(1)).await;
            a.send_bytes(b"\r\n\r\n").await;
        }
        let silent = Instant::now();
        assert!(a.is_closed_by_peer().await);
        assert!(silent.elapsed() >= Duration::from_secs(2), "{:?}", silent.elapsed());
    });
}
