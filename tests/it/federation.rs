//! Between our users and those of other domains: dialogs both ways, static routes, what policy says, and that nothing
//! passes unprotected or from outside to outside.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::abroad::{Border, Foreign, OWN_NAME, message_in, named, route};
use crate::common::agent::Agent;
use crate::common::certificates::Authority;
use crate::common::port::Port;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::scratch::loopback;
use crate::common::sip::{Sip, host_port_of, parameter, uri_of};
use crate::support::{DOMAIN, Dialog, LIMIT, PROMPT, SILENCE, Site, relay, uri};

const BOB: &str = "sip:bob@b.test";

/// The two values of ours: that of the WAN has the name that the certificate has, that of the LAN the address.
fn assert_recorded(request: &Sip, outside_first: bool, border: &Border) {
    let values = request.values("Record-Route");
    assert_eq!(values.len(), 2, "{request}");
    let (wan, lan) = if outside_first { (values[0], values[1]) } else { (values[1], values[0]) };
    let proxy = &border.site.proxy;
    let expected = format!("{OWN_NAME}:{}", proxy.outside_at(Protocol::Mtls).port());
    assert_eq!(host_port_of(uri_of(wan)), expected, "{request}");
    assert!(host_port_of(uri_of(lan)).starts_with(&format!("{}:", proxy.ip())), "{request}");
    for value in values {
        assert_eq!(parameter(uri_of(value), "lr"), Some(""), "{request}");
    }
}

#[test]
fn dialogs_go_both_ways_whoever_has_begun_them_and_by_whichever_transport() {
    run(LIMIT, async {
        let border = Border::open().await;
        let foreign = border.usual("b.test").await;
        let mut dialled: Option<Agent> = None;
        for (number, protocol) in [Protocol::Udp, Protocol::Tcp, Protocol::Tls].into_iter().enumerate() {
            let user = format!("alice-{number}");
            let mut alice = border.site.server(protocol, &user).await;
            // Out: the connection is opened once and used again.
            let invite = alice.request("INVITE", BOB, &uri(&user), BOB);
            alice.send(&invite).await;
            let mut bob = match dialled.take() {
                Some(bob) => bob,
                None => foreign.port.accept().await,
            };
            let arrived = bob.receive_request("INVITE").await;
            assert_recorded(&arrived, true, &border);
            let accepted = bob.response(&arrived, 200).with("Contact", bob.contact("bob"));
            bob.send(&accepted).await;
            let mut caller = Dialog::of_caller(&invite, &alice.receive_response(200).await);
            let mut callee = Dialog::of_callee(&arrived, &accepted);
            alice.send(&caller.acknowledgement(&alice)).await;
            bob.receive_request("ACK").await;
            relay(&caller.request(&alice, "INFO"), &mut alice, &mut bob, 200).await;
            relay(&callee.request(&bob, "INFO"), &mut bob, &mut alice, 200).await;
            // By another connection of the same peer, as its certificate says.
            let mut other = border.enter(Some(&foreign.identity)).await;
            relay(&callee.request(&other, "BYE"), &mut other, &mut alice, 200).await;
            other.close().await;
            // In: over the connection that we have opened, as nobody forbids.
            let invite = bob.request("INVITE", &uri(&user), BOB, &uri(&user));
            bob.send(&invite).await;
            let arrived = alice.receive_request("INVITE").await;
            assert_recorded(&arrived, false, &border);
            let accepted = alice.response(&arrived, 200).with("Contact", alice.contact(&user));
            alice.send(&accepted).await;
            let mut caller = Dialog::of_caller(&invite, &bob.receive_response(200).await);
            let mut callee = Dialog::of_callee(&arrived, &accepted);
            bob.send(&caller.acknowledgement(&bob)).await;
            alice.receive_request("ACK").await;
            relay(&callee.request(&alice, "INFO"), &mut alice, &mut bob, 200).await;
            relay(&caller.request(&bob, "BYE"), &mut bob, &mut alice, 200).await;
            dialled = Some(bob);
        }
    });
}

#[test]
fn subscriptions_go_both_ways() {
    run(LIMIT, async {
        let border = Border::open().await;
        let foreign = border.usual("b.test").await;
        let mut alice = border.server("alice").await;
        let subscribe = alice.request("SUBSCRIBE", BOB, &uri("alice"), BOB).with("Event", "presence");
        alice.send(&subscribe).await;
        let mut bob = foreign.port.accept().await;
        let arrived = bob.receive_request("SUBSCRIBE").await;
        assert_recorded(&arrived, true, &border);
        // The first NOTIFY comes before the answer.
        let accepted = bob.response(&arrived, 200).with("Contact", bob.contact("bob"));
        let mut notifier = Dialog::of_callee(&arrived, &accepted);
        let notify = notifier.request(&bob, "NOTIFY").with("Event", "presence");
        let (notified, _) = relay(&notify, &mut bob, &mut alice, 200).await;
        assert_recorded(&notified, false, &border);
        bob.send(&accepted).await;
        let mut subscriber = Dialog::of_caller(&subscribe, &alice.receive_response(200).await);
        let refresh = subscriber.request(&alice, "SUBSCRIBE").with("Event", "presence");
        relay(&refresh, &mut alice, &mut bob, 200).await;
        // And the other way round, by a connection that the peer has opened.
        let mut carol = border.enter(Some(&foreign.identity)).await;
        let subscribe = carol.request("SUBSCRIBE", &uri("alice"), "sip:carol@b.test", &uri("alice"));
        let (arrived, answer) = relay(&subscribe, &mut carol, &mut alice, 200).await;
        let accepted = alice.response(&arrived, 200);
        let mut notifier = Dialog::of_callee(&arrived, &accepted);
        let notify = notifier.request(&alice, "NOTIFY").with("Event", "presence");
        relay(&notify, &mut alice, &mut carol, 200).await;
        let mut subscriber = Dialog::of_caller(&subscribe, &answer);
        relay(&subscriber.request(&carol, "SUBSCRIBE"), &mut carol, &mut alice, 200).await;
    });
}

/// Sends a MESSAGE to bob of a domain and tells the status.
pub(crate) async fn status_out(alice: &mut Agent, domain: &str) -> u16 {
    let request = alice.message(&uri("alice"), &format!("sip:bob@{domain}"), "to abroad");
    alice.exchange(&request).await.status()
}

#[test]
fn policy_holds_in_both_directions() {
    run(LIMIT, async {
        let border =
            Border::with(|settings, _| settings.key("federation", "blocked_domains", "[\"bad.test\"]")).await;
        let mut alice = border.server("alice").await;
        let (bad, good) = (border.usual("bad.test").await, border.usual("good.test").await);
        assert_eq!(status_out(&mut alice, "bad.test").await, 403);
        assert_eq!(status_out(&mut alice, "unknown.test").await, 404);
        refused_in(&border, &bad, "sip:bob@bad.test").await;
        passes_both_ways(&border, &good, "good.test", &mut alice).await;
        assert!(!bad.port.is_approached(SILENCE).await, "a blocked domain is connected with");

        let border = Border::with(|settings, _| {
            settings.key("federation", "policy", "\"closed\"").key(
                "federation",
                "allowed_domains",
                "[\"good.test\"]",
            )
        })
        .await;
        let mut alice = border.server("alice").await;
        let (other, good) = (border.usual("other.test").await, border.usual("good.test").await);
        assert_eq!(status_out(&mut alice, "other.test").await, 403);
        refused_in(&border, &other, "sip:bob@other.test").await;
        passes_both_ways(&border, &good, "good.test", &mut alice).await;
        assert!(!other.port.is_approached(SILENCE).await, "a domain that is not allowed is connected with");

        let border = Border::with(|settings, _| settings.key("open_federation", "enabled", "false")).await;
        let mut alice = border.server("alice").await;
        let good = border.usual("good.test").await;
        assert_eq!(status_out(&mut alice, "good.test").await, 404);
        refused_in(&border, &good, "sip:bob@good.test").await;
        assert_eq!(border.names.asked(), [], "nobody is looked up");
    });
}

pub(crate) async fn refused_in(border: &Border, foreign: &Foreign, from: &str) {
    let mut peer = border.enter(Some(&foreign.identity)).await;
    let refused = peer.exchange(&message_in(&peer, from, "alice")).await;
    assert_eq!(refused.status(), 403, "{refused}");
}

pub(crate) async fn passes_both_ways(border: &Border, foreign: &Foreign, domain: &str, alice: &mut Agent) {
    let bob = format!("sip:bob@{domain}");
    let mut peer = border.enter(Some(&foreign.identity)).await;
    let request = message_in(&peer, &bob, "alice");
    relay(&request, &mut peer, alice, 200).await;
    peer.close().await;
    goes_out(alice, domain, &foreign.port).await;
}

/// A MESSAGE to bob of a domain arrives at `port`, by a new connection, and is answered.
async fn goes_out(alice: &mut Agent, domain: &str, port: &Port) {
    let request = alice.message(&uri("alice"), &format!("sip:bob@{domain}"), "to abroad");
    alice.send(&request).await;
    let mut peer = port.accept().await;
    let arrived = peer.receive_request("MESSAGE").await;
    peer.answer(&arrived, 200).await;
    alice.receive_response(200).await;
}

#[test]
fn nothing_goes_from_outside_to_outside() {
    run(LIMIT, async {
        let border = Border::open().await;
        let mut alice = border.server("alice").await;
        let (b, c) = (border.usual("b.test").await, border.usual("c.test").await);
        let mut bob = border.enter(Some(&b.identity)).await;
        let c_address = c.port.local();
        let direct = format!("<sip:{c_address};transport=tls;lr>");
        let own = format!("<sip:{OWN_NAME}:{};lr>", border.site.proxy.outside_at(Protocol::Mtls).port());
        for (target, routes) in [
            ("sip:carol@c.test".to_owned(), vec![]),
            ("sips:carol@c.test".to_owned(), vec![]),
            ("sip:carol@c.test".to_owned(), vec![&own]),
            (uri("alice"), vec![&direct]),
            (uri("alice"), vec![&own, &direct]),
            (format!("sip:carol@{c_address};transport=tls"), vec![]),
            (format!("sip:alice@{DOMAIN};maddr={}", c_address.ip()), vec![]),
        ] {
            for method in ["MESSAGE", "INVITE", "SUBSCRIBE", "FOO"] {
                let request = bob.request(method, &target, BOB, &target);
                let request = routes.iter().fold(request, |request, route| request.with("Route", *route));
                let refused = bob.exchange(&request).await;
                assert_eq!(refused.status(), 403, "{method} {target} {routes:?}:\n{refused}");
            }
        }
        assert!(!c.port.is_approached(SILENCE).await, "it has gone out");
        alice.receive_nothing(SILENCE).await;
    });
}

#[test]
fn a_domain_that_is_looked_up_is_reached_by_tls_or_not_at_all() {
    run(LIMIT, async {
        let border = Border::open().await;
        let mut alice = border.server("alice").await;
        let host = loopback();
        // TLS is closed; the ports beside it, and those that plain SIP has, are open.
        let tls = Port::tcp(host).await.local();
        let mut open = Vec::new();
        for port in [5060, 5061] {
            open.push(Port::tcp_at((host, port).into()).await);
        }
        let datagrams =
            UdpSocket::bind((host, 5060)).await.expect("a free port of an address of the test's own");
        let same = UdpSocket::bind(tls).await.expect("a free port of an address of the test's own");
        border.publish("b.test", "sip.b.test", tls);
        border.names.add(&format!(
            "_sip._tcp.b.test 60 SRV 0 0 5060 sip.b.test\n_sip._udp.b.test 60 SRV 0 0 5060 sip.b.test\n\
             _sips._tcp.b.test 60 SRV 0 0 5061 sip.b.test\nb.test 60 A {host}"
        ));
        for target in [
            "sip:bob@b.test",
            "sip:bob@b.test;transport=tcp",
            "sip:bob@b.test:5060",
            "sip:bob@b.test;transport=udp",
        ] {
            let request = alice.message(&uri("alice"), target, "to abroad");
            let failed = alice.exchange(&request).await;
            assert!((500..600).contains(&failed.status()), "{target}:\n{failed}");
        }
        for port in &open {
            assert!(!port.is_approached(SILENCE).await, "a connection with {}", port.local());
        }
        let mut octets = [0; 1];
        for socket in [datagrams, same] {
            assert!(timeout(SILENCE, socket.recv(&mut octets)).await.is_err(), "a datagram");
        }
        // And what is said to a port where nobody speaks TLS is TLS.
        let deaf = tokio::net::TcpListener::bind((host, 0)).await.expect("a TCP port of loopback");
        border.publish("c.test", "sip.c.test", deaf.local_addr().expect("it is bound"));
        alice.send(&alice.message(&uri("alice"), "sip:carol@c.test", "to abroad")).await;
        let (mut stream, _) = deaf.accept().await.expect("accepting on loopback does not fail");
        timeout(PROMPT * 5, stream.read_exact(&mut octets)).await.expect("in time").expect("a hello comes");
        assert_eq!(octets, [0x16], "a record of a handshake (RFC 8446 §5.1)");
    });
}

/// Scheme and transport parameter.
fn kind(recorded: &str) -> (&str, Option<&str>) {
    let uri = uri_of(recorded);
    (uri.split(':').next().unwrap_or_default(), parameter(uri, "transport"))
}

/// Nothing is said to these for want of TLS.
async fn stays_here(alice: &mut Agent, targets: [&str; 2]) {
    for target in targets {
        let refused = alice.exchange(&alice.request("SUBSCRIBE", target, &uri("alice"), target)).await;
        assert_eq!(refused.status(), 480, "{refused}");
    }
}

#[test]
fn a_sips_uri_is_recorded_as_such_where_there_is_tls_and_does_not_leave_without() {
    run(LIMIT, async {
        let (plain, datagrams) = (Port::tcp(loopback()).await, UdpSocket::bind((loopback(), 0)).await);
        let datagrams = datagrams.expect("a UDP port of loopback");
        let border = Border::with(|settings, _| {
            let (tcp, udp) = (plain.local(), datagrams.local_addr().expect("it is bound"));
            settings.text(&route("tcp.test", "tcp", &tcp.ip().to_string(), tcp.port(), "")).text(&route(
                "udp.test",
                "udp",
                &udp.ip().to_string(),
                udp.port(),
                "",
            ))
        })
        .await;
        let foreign = border.usual("b.test").await;
        let (tls, tcp) = (("sips", None), ("sip", Some("tcp")));
        let compatible = ("sip", Some("tls"));
        let mut dialled: Option<Agent> = None;
        // From the LAN by each transport, to a domain by TLS: what the two sides are shown, the outer one first.
        for (protocol, scheme, expected) in [
            (Protocol::Tls, "sips", [tls, tls]),
            (Protocol::Tcp, "sips", [tls, tcp]),
            (Protocol::Udp, "sips", [tls, ("sip", None)]),
            (Protocol::Tls, "sip", [compatible, compatible]),
            (Protocol::Tcp, "sip", [compatible, tcp]),
        ] {
            let mut alice = border.site.server(protocol, &format!("alice-{protocol:?}-{scheme}")).await;
            if scheme == "sips" {
                stays_here(&mut alice, ["sips:bob@tcp.test", "sips:bob@udp.test"]).await;
            }
            let target = format!("{scheme}:bob@b.test");
            let subscribe = alice.request("SUBSCRIBE", &target, &uri("alice"), &target);
            alice.send(&subscribe).await;
            let mut bob = match dialled.take() {
                Some(bob) => bob,
                None => foreign.port.accept().await,
            };
            let arrived = bob.receive_request("SUBSCRIBE").await;
            let recorded = arrived.values("Record-Route");
            assert_eq!(recorded.iter().map(|value| kind(value)).collect::<Vec<_>>(), expected, "{arrived}");
            let accepted = bob.response(&arrived, 200).with("Contact", bob.contact("bob"));
            bob.send(&accepted).await;
            let mut caller = Dialog::of_caller(&subscribe, &alice.receive_response(200).await);
            let mut callee = Dialog::of_callee(&arrived, &accepted);
            relay(&callee.request(&bob, "NOTIFY"), &mut bob, &mut alice, 200).await;
            relay(&caller.request(&alice, "SUBSCRIBE"), &mut alice, &mut bob, 200).await;
            dialled = Some(bob);
        }
        // In from abroad, to a user that has registered by TCP: within our domain our policy holds.
        let mut alice = border.server("alice").await;
        let mut bob = border.enter(Some(&foreign.identity)).await;
        let target = format!("sips:alice@{DOMAIN}");
        let subscribe = bob.request("SUBSCRIBE", &target, BOB, &target);
        let (arrived, _) = relay(&subscribe, &mut bob, &mut alice, 200).await;
        let recorded = arrived.values("Record-Route");
        assert_eq!(recorded.iter().map(|value| kind(value)).collect::<Vec<_>>(), [tcp, tls], "{arrived}");
        let mut octets = [0; 1];
        assert!(timeout(SILENCE, datagrams.recv(&mut octets)).await.is_err(), "a datagram");
        assert!(!plain.is_approached(SILENCE).await, "a connection");
    });
}

#[test]
fn static_routes_lead_out_and_trusted_ones_in() {
    run(LIMIT, async {
        let (tcp, by_name) = (Port::tcp(loopback()).await, Port::tcp(loopback()).await);
        let mut udp = Agent::udp(loopback(), ([127, 0, 0, 1], 9).into()).await;
        let untrusted = Port::tcp(loopback()).await;
        let border = Border::with(|settings, _| {
            let trusted = "trusted = true\n";
            let server = |port: &Port| (port.local().ip().to_string(), port.local().port());
            let (udp, tcp, untrusted) =
                ((udp.local().ip().to_string(), udp.local().port()), server(&tcp), server(&untrusted));
            settings
                .listen_outside(Protocol::Udp)
                .listen_outside(Protocol::Tcp)
                .text(&route("tcp.test", "tcp", &tcp.0, tcp.1, trusted))
                .text(&route("named.test", "tcp", "sip.named.test", by_name.local().port(), trusted))
                .text(&route("udp.test", "udp", &udp.0, udp.1, trusted))
                .text(&route("untrusted.test", "tcp", &untrusted.0, untrusted.1, ""))
                .text("\n[[registrar.account]]\nuser_name = \"partner\"\npassword = \"pw\"\nusers = [\"*@untrusted.test\"]\n")
        })
        .await;
        border.names.add(&format!("sip.named.test 60 A {}", by_name.local().ip()));
        let mut alice = border.server("alice").await;
        for (port, domain) in [(&tcp, "tcp.test"), (&by_name, "named.test"), (&untrusted, "untrusted.test")] {
            goes_out(&mut alice, domain, port).await;
        }
        let request = alice.message(&uri("alice"), "sip:bob@udp.test", "to abroad");
        alice.send(&request).await;
        let arrived = udp.receive_request("MESSAGE").await;
        let (answer, source) = (udp.response(&arrived, 200), udp.source());
        udp.send_to(&answer.to_bytes(), source).await;
        alice.receive_response(200).await;
        assert_eq!(source, border.site.proxy.outside_at(Protocol::Udp), "by the interface of the WAN");

        // In: by the address, and for the domain of the route or our own alone.
        let outside = border.site.proxy.outside_at(Protocol::Tcp);
        let mut peer = Agent::tcp(tcp.local().ip(), outside).await;
        for from in ["sip:bob@tcp.test", &uri("carol")] {
            let request = message_in(&peer, from, "alice");
            relay(&request, &mut peer, &mut alice, 200).await;
        }
        let spoofed = message_in(&peer, BOB, "alice");
        assert_eq!(peer.exchange(&spoofed).await.status(), 403);
        let onward = peer.message("sip:bob@tcp.test", "sip:bob@udp.test", "onward");
        assert_eq!(peer.exchange(&onward).await.status(), 403);
        let outside_udp = border.site.proxy.outside_at(Protocol::Udp);
        let request = message_in(&udp, "sip:bob@udp.test", "alice");
        udp.send_to(&request.to_bytes(), outside_udp).await;
        let arrived = alice.receive_request("MESSAGE").await;
        alice.answer(&arrived, 200).await;
        udp.receive_response(200).await;
        // Who is not trusted has to log on, and so has whoever comes by another transport or from another address.
        let elsewhere = loopback();
        for (from, source) in [
            ("sip:bob@untrusted.test", untrusted.local().ip()),
            ("sip:bob@udp.test", udp.local().ip()),
            ("sip:bob@tcp.test", elsewhere),
        ] {
            let mut peer = Agent::tcp(source, outside).await;
            let request = message_in(&peer, from, "alice");
            assert_eq!(peer.exchange(&request).await.status(), 407, "{from}");
        }
        alice.receive_nothing(SILENCE).await;
    });
}

#[test]
fn a_route_over_mutual_tls_is_trusted_by_its_own_authority_for_its_domain_alone() {
    run(LIMIT, async {
        let private = Authority::new("Authority Of The Route");
        let identity = private.issue(&named(&["r.test", "b.test"]));
        let port = Port::tls(loopback(), private.server_config(&identity, false)).await;
        let border = Border::with(|settings, _| {
            let (server, rows) = (port.local(), "trusted_cas = \"route.pem\"\n");
            settings.file("route.pem", &private.pem()).text(&route(
                "r.test",
                "mtls",
                &server.ip().to_string(),
                server.port(),
                rows,
            ))
        })
        .await;
        let mut alice = border.server("alice").await;
        let mut peer = border.enter(Some(&identity)).await;
        for from in ["sip:bob@r.test", &uri("carol")] {
            let request = message_in(&peer, from, "alice");
            relay(&request, &mut peer, &mut alice, 200).await;
        }
        let spoofed = message_in(&peer, BOB, "alice");
        assert_eq!(peer.exchange(&spoofed).await.status(), 403, "another authority has to vouch for that");
        // And whom everybody's authority vouches for is not the route's.
        let other = border.site.authority.issue(&named(&["r.test"]));
        let mut peer = border.enter(Some(&other)).await;
        let spoofed = message_in(&peer, "sip:bob@r.test", "alice");
        assert_eq!(peer.exchange(&spoofed).await.status(), 403);
        alice.receive_nothing(SILENCE).await;
    });
}

#[test]
fn benotify_is_never_answered() {
    run(LIMIT, async {
        let border = Border::open().await;
        let foreign = border.usual("b.test").await;
        let dead = Port::tcp(loopback()).await.local();
        border.publish("dead.test", "sip.dead.test", dead);
        let mut alice = border.server("alice").await;
        // Nobody there, no domain, no user, no hops left, no syntax, an extension that we do not have.
        for (target, name, value) in [
            ("sip:bob@dead.test".to_owned(), "Subject", "x"),
            ("sip:bob@none.test".to_owned(), "Subject", "x"),
            (uri("nobody"), "Subject", "x"),
            ("sip:bob@b.test".to_owned(), "Max-Forwards", "0"),
            ("sip:bob@b.test".to_owned(), "CSeq", "x BENOTIFY"),
            ("sip:bob@b.test".to_owned(), "Proxy-Require", "nothing-we-have"),
        ] {
            let request = alice.request("BENOTIFY", &target, &uri("alice"), &target).set(name, value);
            alice.send(&request).await;
        }
        let request = alice.request("BENOTIFY", BOB, &uri("alice"), BOB).with("Event", "presence");
        alice.send(&request).await;
        let mut bob = foreign.port.accept().await;
        let arrived = bob.receive_request("BENOTIFY").await;
        assert_eq!(arrived.need("Call-ID"), request.need("Call-ID"), "the first that may pass:\n{arrived}");
        // Nor is an answer passed on that somebody gives all the same.
        bob.answer(&arrived, 200).await;
        // In from abroad: as silent, whether it passes or not.
        let entering = |from: &str, user: &str| bob.request("BENOTIFY", &uri(user), from, &uri(user));
        let (good, spoofed) = (entering(BOB, "alice"), entering("sip:x@c.test", "alice"));
        bob.send(&spoofed).await;
        bob.send(&good).await;
        let arrived = alice.receive_request("BENOTIFY").await;
        assert_eq!(arrived.need("From"), good.need("From"));
        bob.receive_nothing(SILENCE).await;
        // Beyond what a transaction that has nobody to ask would take: 64 × T1 is 32 s, its 100 comes after 3.5 s.
        alice.receive_nothing(Duration::from_secs(5)).await;
    });
}

#[test]
fn parameters_that_nobody_knows_pass_and_do_not_hide_the_user() {
    run(LIMIT, async {
        let border = Border::open().await;
        let foreign = border.usual("b.test").await;
        let mut alice = border.server("alice").await;
        let own = ";opaque=user:epid:xx-Y_z;gruu;ms-opaque=d24f65";
        let (from, to) = (";tag=f1;epid=0123abc;ms-opaque=1", ";epid=98fe;x-y=\"z, a\"");
        let mut bob = border.enter(Some(&foreign.identity)).await;
        let target = format!("{}{own}", uri("alice"));
        let request = bob
            .message(BOB, &target, "hello")
            .set("From", format!("\"Bob\" <{BOB}{own}>{from}"))
            .set("To", format!("<{target}>{to}"));
        let (arrived, answered) = relay(&request, &mut bob, &mut alice, 200).await;
        assert_eq!(host_port_of(arrived.uri()), alice.local().to_string(), "the binding:\n{arrived}");
        for name in ["From", "To"] {
            assert_eq!(arrived.need(name), request.need(name));
        }
        assert!(answered.need("To").starts_with(request.need("To")), "{answered}");
        bob.close().await;

        let target = format!("{BOB}{own}");
        let request = alice
            .message(&uri("alice"), &target, "hello")
            .set("From", format!("<{}{own}>{from}", uri("alice")))
            .set("To", format!("<{target}>{to}"));
        alice.send(&request).await;
        let mut bob = foreign.port.accept().await;
        let arrived = bob.receive_request("MESSAGE").await;
        assert_eq!(arrived.uri(), target);
        for name in ["From", "To"] {
            assert_eq!(arrived.need(name), request.need(name));
        }
        // A search leaves the Request-URI as it is, too.
        let (mut here, mut there) = two_servers(&border.site).await;
        let target = format!("{}{own}", uri("nobody-has-registered"));
        let request = here.message(&uri("alice"), &target, "hello");
        here.send(&request).await;
        let arrived = there.receive_request("MESSAGE").await;
        assert_eq!(arrived.uri(), target);
    });
}

async fn two_servers(site: &Site) -> (Agent, Agent) {
    (site.server(Protocol::Tcp, "here").await, site.server(Protocol::Tcp, "there").await)
}
