//! Transactions: what belongs to which, and what it leads to (RFC 3261 §16.9, §17).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::common::agent::{Agent, acknowledgement};
use crate::common::port::Port;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::sip::Sip;
use crate::invite::{fork, invitation, is_cancelled};
use crate::support::{
    DOMAIN, Dialog, LIMIT, SILENCE, Site, cancellation, next_within, open_house, open_house_that_waits,
    relay, uri,
};

/// An INVITE of alice's by way of the proxy and of `next`, and of a hop that is not asked.
fn routed(a: &Agent, site: &Site, protocol: Protocol, next: &str) -> Sip {
    let own = format!("<sip:{};lr>", site.proxy.at(protocol));
    let far = "\"far, away\" <sip:far.example.net;lr>;x=\"a,b\"";
    invitation(a, "bob").with("Route", format!("{own}, {next}")).with("Route", far)
}

/// Checks the ACK to `invite`, as it has come (RFC 3261 §17.1.1.3).
fn assert_acknowledges(ack: &Sip, invite: &Sip, refusal: &Sip) {
    assert_eq!(ack.uri(), invite.uri());
    assert_eq!(ack.all("Via"), [invite.values("Via")[0]], "the branch of the INVITE, alone");
    assert_eq!(ack.values("Route"), invite.values("Route"));
    assert_eq!(invite.values("Route").len(), 2, "the test wants a route:\n{invite}");
    for name in ["From", "Call-ID"] {
        assert_eq!(ack.need(name), invite.need(name));
    }
    assert_eq!((ack.need("To"), ack.need("CSeq")), (refusal.need("To"), "1 ACK"));
    assert!(ack.body.is_empty(), "{ack}");
}

#[test]
fn a_refusal_is_acknowledged_within_the_transaction_of_its_invite_each_time() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Udp).await);
        a.send(&routed(&a, &site, Protocol::Udp, &format!("<sip:{};lr>", b.local()))).await;
        let invite = b.receive_request("INVITE").await;
        let source = b.source();
        let refusal = b.response(&invite, 404);
        // The first ACK is lost.
        for _ in 0..3 {
            b.send(&refusal).await;
            assert_acknowledges(&b.receive_request("ACK").await, &invite, &refusal);
            assert_eq!(b.source(), source, "from where the INVITE came");
        }
        a.receive_response(404).await;

        // Over the connection that the INVITE has opened.
        let port = Port::tcp(site.proxy.ip()).await;
        a.send(&routed(&a, &site, Protocol::Udp, &format!("<sip:{};transport=tcp;lr>", port.local()))).await;
        let mut b = port.accept().await;
        let invite = b.receive_request("INVITE").await;
        let refusal = b.response(&invite, 486);
        b.send(&refusal).await;
        assert_acknowledges(&b.receive_request("ACK").await, &invite, &refusal);
    });
}

#[test]
fn a_repeated_invite_gets_the_last_response_and_goes_no_further() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house(), Protocol::Udp, 1).await;
        let b = &mut callees[0];
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let arrived = b.receive_request("INVITE").await;
        let mut last = arrived.clone();
        for status in [180, 183, 486] {
            b.answer(&arrived, status).await;
            last = a.receive_response(status).await;
            for _ in 0..5 {
                a.send(&invite).await;
                assert_eq!(a.receive().await, last, "the same octets");
            }
        }
        b.receive_request("ACK").await;
        b.receive_nothing(SILENCE).await;
        // Once that is acknowledged there is nothing to say to it (§17.2.1, Confirmed).
        a.send(&acknowledgement(&invite, &last)).await;
        while next_within(&mut a, SILENCE).await.is_some() {}
        a.send(&invite).await;
        a.receive_nothing(SILENCE).await;
        b.receive_nothing(SILENCE).await;
    });
}

#[test]
fn requests_with_one_branch_are_told_apart_by_method_and_sent_by() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house_that_waits(), Protocol::Udp, 1).await;
        let b = &mut callees[0];
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let arrived = b.receive_request("INVITE").await;
        for method in ["MESSAGE", "BYE", "INFO", "FOO"] {
            let start_line = invite.start_line.replace("INVITE", method);
            let other = Sip { start_line, ..invite.clone() }.set("CSeq", format!("1 {method}"));
            relay(&other, &mut a, b, 200).await;
        }
        // RFC 3261 §17.2.3: another sent-by is another client, by its host or its port; the Call-ID has no part in it.
        let (host, port) = (a.local().ip().to_string(), a.local().port());
        for sent_by in [format!("host.example.net:{port}"), format!("192.0.2.7:{port}"), host] {
            let via = invite.need("Via").replace(&a.local().to_string(), &sent_by);
            assert_ne!(via, invite.need("Via"));
            let other = invite.clone().set("Via", via);
            a.send(&other).await;
            let forwarded = b.receive_request("INVITE").await;
            assert!(forwarded.values("Via")[1].contains(&format!(" {sent_by};")), "{forwarded}");
            b.answer(&forwarded, 404).await;
            b.receive_request("ACK").await;
            let refused = a.receive_response(404).await;
            a.send(&acknowledgement(&other, &refused)).await;
        }
        b.answer(&arrived, 180).await;
        a.receive_response(180).await;
        // CANCEL is a transaction of its own, and its branch says which INVITE it means.
        let cancel = cancellation(&invite);
        let answered = a.exchange(&cancel).await;
        assert_eq!((answered.status(), answered.need("CSeq")), (200, "1 CANCEL"));
        is_cancelled(b, &arrived).await;
        let ended = a.receive_response(487).await;
        assert_eq!(ended.need("CSeq"), "1 INVITE");
        // And ACK is a part of the INVITE's.
        a.send(&acknowledgement(&invite, &ended)).await;
        b.receive_nothing(SILENCE).await;
        a.receive_nothing(Duration::from_secs(1)).await;
    });
}

#[test]
fn merged_requests_are_not_the_proxys_business() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let mut b = site.server(Protocol::Udp, "bob").await;
        let (mut a, mut twin) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Udp).await);
        for method in ["MESSAGE", "SUBSCRIBE", "INVITE"] {
            // One request that two ways have led here: Call-ID, CSeq and From tag are the same, the branch is not.
            let one = a.request(method, &uri("bob"), &uri("alice"), &uri("bob")).with("Event", "presence");
            let other = one.clone().set("Via", twin.via());
            a.send(&one).await;
            let first = b.receive_request(method).await;
            twin.send(&other).await;
            let second = b.receive_request(method).await;
            assert_ne!(first.values("Via")[0], second.values("Via")[0]);
            assert_eq!(second.need("Call-ID"), first.need("Call-ID"));
            // RFC 3261 §8.2.2.2 is for user agents.
            b.answer(&first, 486).await;
            b.answer(&second, 482).await;
            a.receive_response(486).await;
            twin.receive_response(482).await;
            if method == "INVITE" {
                b.receive_request("ACK").await;
                b.receive_request("ACK").await;
            }
        }
    });
}

#[test]
fn a_branch_that_cannot_be_reached_makes_room_for_the_next() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let ip = site.proxy.ip();
        let mut deaf = site.connect(Protocol::Udp).await;
        let by_udp = deaf.local();
        deaf.close().await;
        let by_tcp = closed_port(ip).await;
        let mut b = site.connect(Protocol::Udp).await;
        let bob = uri("bob");
        let register = b.request("REGISTER", &format!("sip:{DOMAIN}"), &bob, &bob);
        let contacts = format!(
            "<sip:bob@{by_udp}>;q=0.9, <sip:bob@{by_tcp};transport=tcp>;q=0.7, <sip:bob@{}>;q=0.5",
            b.local()
        );
        assert_eq!(b.exchange(&register.set("Contact", contacts)).await.status(), 200);
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut a = site.connect(protocol).await;
            let begun = Instant::now();
            relay(&a.message(&uri("alice"), &bob, "hello"), &mut a, &mut b, 200).await;
            let invite = invitation(&a, "bob");
            let (_, accepted) = relay(&invite, &mut a, &mut b, 200).await;
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "ICMP and RST say it at once: {:?}",
                begun.elapsed()
            );
            a.send(&Dialog::of_caller(&invite, &accepted).acknowledgement(&a)).await;
            b.receive_request("ACK").await;
        }
    });
}

/// A TCP port on which nobody listens.
async fn closed_port(ip: std::net::IpAddr) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::new(ip, 0)).await.expect("a TCP port of loopback");
    listener.local_addr().expect("a bound socket has an address")
}
