//! Connections: how many, used for what, and what their end means (RFC 3261 §18; RFC 5626 §7).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::common::port::Port;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::loopback;
use crate::common::sip::user_of;
use crate::support::{
    DOMAIN, LIMIT, PROMPT, Site, Wire, answers_options, final_response, open_house, relay, uri,
};

#[test]
fn connections_are_limited_for_each_address_and_together() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "maximum_connections", "6").key(
            "limits",
            "maximum_connections_per_address",
            "3",
        );
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let addresses = [site.proxy.ip(), loopback(), loopback()];
        let mut kept = Vec::new();
        for address in &addresses[..2] {
            for _ in 0..3 {
                let mut agent = site.connect_from(*address, Protocol::Tcp).await;
                answers_options(&mut agent).await;
                kept.push(agent);
            }
            assert!(site.connect_from(*address, Protocol::Tcp).await.is_closed_by_peer().await, "the fourth");
        }
        assert!(
            site.connect_from(addresses[2], Protocol::Tcp).await.is_closed_by_peer().await,
            "the seventh"
        );
        for agent in &mut kept {
            answers_options(agent).await;
        }
        // A place that has become free is free for anybody.
        kept[0].close().await;
        let begun = Instant::now();
        while !is_answered(site.proxy.at(Protocol::Tcp)).await {
            assert!(begun.elapsed() < Duration::from_secs(2), "a place does not become free");
        }
    });
}

/// Whether a new connection from `proxy`'s own address is more than closed at once.
async fn is_answered(proxy: SocketAddr) -> bool {
    let mut wire = Wire::tcp(proxy).await;
    let text = format!(
        "OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/TCP {};branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <sip:{DOMAIN}>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n",
        wire.local()
    );
    wire.try_send(text.as_bytes()).await && wire.reads_anything().await
}

#[test]
fn a_peer_that_does_not_read_disturbs_nobody() {
    run(LIMIT, async {
        for protocol in [Protocol::Tcp, Protocol::Ws] {
            disturbs_nobody(protocol).await;
        }
    });
}

/// One that is connected by `protocol`, and does not read.
async fn disturbs_nobody(protocol: Protocol) {
    // Scopes, so that nobody is searched for the deaf one when its connection has ended.
    let account = |user: &str| {
        format!("user_name = \"uc-{user}\"\npassword = \"secret\"\nusers = [\"{user}@{DOMAIN}\"]\n")
    };
    let settings = ["alice", "bob", "deaf"].map(account);
    let settings =
        settings.iter().fold(Settings::new(DOMAIN).usual_timers(), |all, rows| all.account_rows(rows));
    let site = Site::open(settings, &[Protocol::Tcp, Protocol::Ws]).await;
    let mut agents = Vec::new();
    for user in ["alice", "alice", "bob", "deaf"] {
        let mut agent = site.connect(if user == "deaf" { protocol } else { Protocol::Tcp }).await;
        agent.register(DOMAIN, user, &format!("uc-{user}"), "secret").await;
        agents.push(agent);
    }
    let [loud, alice, bob, _deaf] = &mut agents[..] else { unreachable!("four have registered") };
    // Far more than sockets and queues hold: 30 MB.
    for number in 1..=500 {
        loud.send(&loud.message(&uri("alice"), &uri("deaf"), &"x".repeat(60_000))).await;
        if number % 50 == 0 {
            let begun = Instant::now();
            let request = alice.message(&uri("alice"), &uri("bob"), "do you hear me?");
            relay(&request, alice, bob, 200).await;
            assert!(begun.elapsed() < PROMPT, "{:?} after {number} messages", begun.elapsed());
        }
    }
    // The sender is told, and its own connection is as good as before.
    assert!(matches!(final_response(loud).await.status(), 404 | 480 | 500));
    answers_options(loud).await;
}

#[test]
fn a_connection_is_used_in_both_directions() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Tls]).await;
        for protocol in [Protocol::Tcp, Protocol::Tls] {
            let bob = format!("bob-{protocol:?}");
            // Nobody listens at its contact: requests reach it over the connection that it has made.
            let mut b = site.server(protocol, &bob).await;
            let (mut a, mut twin) = (site.connect(protocol).await, site.connect(protocol).await);
            for _ in 0..2 {
                let (one, other) =
                    (a.message(&uri("alice"), &uri(&bob), "1"), twin.message(&uri("alice"), &uri(&bob), "2"));
                a.send(&one).await;
                let first = b.receive_request("MESSAGE").await;
                twin.send(&other).await;
                let second = b.receive_request("MESSAGE").await;
                for arrived in [&second, &first] {
                    b.answer(arrived, 200).await;
                }
                // Each response comes back on the connection of its request (RFC 3261 §18.2.2).
                assert_eq!(a.receive_response(200).await.need("Call-ID"), one.need("Call-ID"));
                assert_eq!(twin.receive_response(200).await.need("Call-ID"), other.need("Call-ID"));
            }
        }
    });
}

#[test]
fn a_response_finds_its_way_when_the_connection_has_gone() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        let (mut a, port) = (site.connect(Protocol::Tcp).await, Port::tcp(site.proxy.ip()).await);
        let via = format!("SIP/2.0/TCP {};branch=z9hG4bKgone", port.local());
        let request = a.message(&uri("alice"), &uri("bob"), "I have to go").set("Via", via);
        a.send(&request).await;
        let arrived = b.receive_request("MESSAGE").await;
        a.reset();
        // Until the proxy has seen the end of the connection.
        site.is_well(Protocol::Tcp).await;
        b.answer(&arrived, 200).await;
        let mut back = port.accept().await;
        assert_eq!(back.receive_response(200).await.need("Call-ID"), request.need("Call-ID"));
    });
}

#[test]
fn a_binding_ends_with_its_connection() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Tls]).await;
        for protocol in [Protocol::Tcp, Protocol::Tls] {
            for crashes in [false, true] {
                let bob = format!("bob-{protocol:?}-{crashes}");
                let mut b = site.server(protocol, &bob).await;
                let mut a = site.connect(Protocol::Tcp).await;
                relay(&a.message(&uri("alice"), &uri(&bob), "hello"), &mut a, &mut b, 200).await;
                if crashes {
                    b.reset();
                } else {
                    b.close().await;
                }
                let begun = Instant::now();
                // RFC 5626 §7: not after Timer F.
                a.send(&a.message(&uri("alice"), &uri(&bob), "are you there?")).await;
                let status = final_response(&mut a).await.status();
                assert!(matches!(status, 404 | 430 | 480), "{status}");
                assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
            }
        }
    });
}

#[test]
fn a_request_in_flight_fails_with_its_connection() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
        b.receive_request("MESSAGE").await;
        let begun = Instant::now();
        b.reset();
        let status = final_response(&mut a).await.status();
        assert!(matches!(status, 404 | 480 | 500), "RFC 3261 §16.9 and §16.7 step 6: {status}");
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    });
}

#[test]
fn the_next_contact_at_the_same_address_is_asked_over_a_new_connection() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut a, port) = (site.connect(Protocol::Tcp).await, Port::tcp(site.proxy.ip()).await);
        let mut phone = site.connect(Protocol::Udp).await;
        let contact = |user: &str, q: &str| format!("<sip:{user}@{};transport=tcp>;q={q}", port.local());
        let contacts = format!("{}, {}", contact("one", "0.9"), contact("two", "0.5"));
        let register = phone.request("REGISTER", &format!("sip:{DOMAIN}"), &uri("bob"), &uri("bob"));
        assert_eq!(phone.exchange(&register.set("Contact", contacts)).await.status(), 200);

        a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
        let mut first = port.accept().await;
        assert_eq!(user_of(first.receive_request("MESSAGE").await.uri()), "one");
        first.close().await;
        let mut second = port.accept().await;
        let arrived = second.receive_request("MESSAGE").await;
        assert_eq!(user_of(arrived.uri()), "two");
        second.answer(&arrived, 200).await;
        a.receive_response(200).await;
    });
}

#[test]
fn a_peer_that_refuses_connections_is_an_error_at_once() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let closed =
            TcpListener::bind(SocketAddr::new(site.proxy.ip(), 0)).await.expect("a TCP port of loopback");
        let address = closed.local_addr().expect("a bound socket has an address");
        drop(closed);
        let mut a = site.connect(Protocol::Tcp).await;
        let begun = Instant::now();
        let request = a.message(&uri("alice"), &format!("sip:bob@{address};transport=tcp"), "hello");
        let status = a.exchange(&request).await.status();
        assert!(matches!(status, 404 | 480 | 500), "{status}");
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    });
}

#[test]
fn a_request_in_flight_fails_with_a_connection_that_the_proxy_has_opened() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut a, port) = (site.connect(Protocol::Tcp).await, Port::tcp(site.proxy.ip()).await);
        // The connection's first request, and one that finds it open.
        for is_open in [false, true] {
            let request =
                a.message(&uri("alice"), &format!("sip:bob@{};transport=tcp", port.local()), "hello");
            a.send(&request).await;
            let mut b = port.accept().await;
            let arrived = b.receive_request("MESSAGE").await;
            if is_open {
                b.answer(&arrived, 200).await;
                a.receive_response(200).await;
                a.send(&request.set("Call-ID", "in-flight").set("Via", a.via())).await;
                b.receive_request("MESSAGE").await;
            }
            let begun = Instant::now();
            b.reset();
            let status = final_response(&mut a).await.status();
            assert!(matches!(status, 404 | 480 | 500), "{status}");
            assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
        }
    });
}
