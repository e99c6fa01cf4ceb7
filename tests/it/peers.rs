//! Flows and connections with peers: where answers go, which connection serves whom, and when one is given up (RFC 3581,
//! RFC 5923, RFC 6223).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::agent::Agent;
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::{free_port, loopback};
use crate::common::sip::{Sip, host_port_of, parameter, uri_of};
use crate::organisations::{Abroad, delivered, message_to, nobody_connects};
use crate::support::{DOMAIN, Dialog, LIMIT, SILENCE, Site, open_house, open_house_with_t1, relay, uri};

#[test]
fn answers_come_from_the_address_that_was_asked_and_say_where_the_question_came_from() {
    run(LIMIT, async {
        let port = free_port([0, 0, 0, 0].into());
        let everywhere = format!(
            "\n[[lan.network_interface]]\nip_address = \"0.0.0.0\"\nport = {port}\nprotocol = \"udp\"\n"
        );
        let site = Site::open(open_house().text(&everywhere), &[Protocol::Tcp]).await;
        for home in [loopback(), loopback()] {
            let here = SocketAddr::new(home, port);
            let mut agent = Agent::udp(loopback(), here).await;
            let proxy = format!("sip:{DOMAIN}");
            let local = agent.local();
            // Also where sent-by has the very source.
            for sent_by in [local.to_string(), "10.1.2.3:5999".to_owned()] {
                let options = agent.request("OPTIONS", &proxy, &uri("alice"), &proxy);
                let via = options.need("Via").replace(&local.to_string(), &sent_by);
                let answer = agent.exchange(&options.set("Via", via)).await;
                let via = answer.need("Via");
                assert_eq!(answer.status(), 200, "{answer}");
                assert_eq!(parameter(via, "rport"), Some(&*local.port().to_string()), "{via}");
                assert_eq!(parameter(via, "received"), Some(&*local.ip().to_string()), "{via}");
                assert_eq!(agent.source(), here);
            }
        }
        drop(site);
    });
}

#[test]
fn requests_ask_for_answers_to_their_source_and_take_them_there() {
    run(LIMIT, async {
        let ip = loopback();
        let outside = SocketAddr::new(ip, free_port(ip));
        let interface =
            format!("[{{ ip_address = \"{ip}\", port = {}, protocol = \"udp\" }}]", outside.port());
        let settings = Settings::new(DOMAIN)
            .account("uc", "secret")
            .listen(Protocol::Udp)
            .key("wan", "network_interface", &interface)
            .key("wan.public_address", "enabled", "true")
            .key("wan.public_address", "ip_address", "\"203.0.113.9\"")
            .key("wan.public_address", "port", "5099")
            .text("\n[[registrar.account]]\nuser_name = \"phone\"\npassword = \"p\"\nusers = [\"bob@example.org\"]\n");
        let proxy = settings.start().await;
        let mut inside = Agent::udp(proxy.ip(), proxy.at(Protocol::Udp)).await;
        let mut beyond = Agent::udp(ip, outside).await;
        inside.register(DOMAIN, "alice", "uc", "secret").await;
        beyond.register(DOMAIN, "bob", "phone", "p").await;
        let request = inside.message(&uri("alice"), &uri("bob"), "hello");
        inside.send(&request).await;
        let arrived = beyond.receive_request("MESSAGE").await;
        let via = arrived.all("Via")[0];
        assert_eq!(parameter(via, "rport"), Some(""), "{via}");
        assert!(via.starts_with("SIP/2.0/UDP 203.0.113.9:5099;"), "{via}");
        assert_eq!(beyond.source(), outside, "which is not what sent-by says");
        let answer = beyond.response(&arrived, 200);
        beyond.send_to(&answer.to_bytes(), outside).await;
        inside.receive_response(200).await;
    });
}

#[test]
fn an_alias_without_a_certificate_is_none() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tls]).await;
        let ip = loopback();
        let identity = site.authority.server(&[&ip.to_string()]);
        let owner = Port::tls(ip, site.authority.server_config(&identity, false)).await;
        // Says that it is at the owner's place, and asks for what is to go there.
        let mut thief = site.connect_from(ip, Protocol::Tls).await;
        let proxy = format!("sip:{DOMAIN}");
        let options = thief.request("OPTIONS", &proxy, &uri("mallory"), &proxy);
        let via = format!("SIP/2.0/TLS {};branch=z9hG4bK-thief;alias", owner.local());
        assert_eq!(thief.exchange(&options.set("Via", via)).await.status(), 200);
        let mut uc = site.connect(Protocol::Tls).await;
        let callee = format!("sip:bob@{};transport=tls", owner.local());
        let request = uc.message(&uri("alice"), &callee, "hello");
        delivered(&mut uc, &request, &owner).await;
        thief.receive_nothing(SILENCE).await;
    });
}

#[test]
fn requests_the_other_way_use_the_connection_of_a_proven_peer_and_a_new_one_once_that_has_ended() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let port = abroad.published("b.test").await;
        let home = abroad.home(open_house()).await;
        let mut uc = home.server().await;
        uc.register(DOMAIN, "alice", "nobody", "nothing").await;
        let mut visitor = abroad.visitor(&home, &["sip.b.test"]).await;
        let request = visitor.message("sip:bob@b.test", &uri("alice"), "hello");
        let via = format!("{};alias", visitor.via());
        relay(&request.set("Via", via), &mut visitor, &mut uc, 200).await;
        for _ in 0..2 {
            let request = message_to(&uc, "b.test");
            relay(&request, &mut uc, &mut visitor, 200).await;
        }
        nobody_connects(&port).await;
        visitor.close().await;
        home.proxy.logs(&["connection_ended", "mtls"]).await;
        let request = message_to(&uc, "b.test");
        let (_, mut peer) = delivered(&mut uc, &request, &port).await;
        let request = message_to(&uc, "b.test");
        relay(&request, &mut uc, &mut peer, 200).await;
    });
}

#[test]
fn a_connection_serves_the_domains_that_its_certificate_has_and_no_other() {
    run(LIMIT * 2, async {
        let abroad = Abroad::new().await;
        let shared = abroad.server(&["b.test", "d.test"]).await;
        for domain in ["b.test", "c.test", "d.test"] {
            let record = format!(
                "_sipfederationtls._tcp.{domain} 60 SRV 1 1 {} sip.hoster.test",
                shared.local().port()
            );
            abroad.names.add(&record);
        }
        abroad.names.add(&format!("sip.hoster.test 60 A {}", shared.local().ip()));
        let home = abroad.home(open_house_with_t1(100)).await;
        let mut uc = home.server().await;
        let request = message_to(&uc, "b.test");
        let (_, mut peer) = delivered(&mut uc, &request, &shared).await;
        // Covered: the same connection.
        let request = message_to(&uc, "d.test");
        relay(&request, &mut uc, &mut peer, 200).await;
        nobody_connects(&shared).await;
        // Not covered: a new one, which is closed before it carries anything.
        let request = message_to(&uc, "c.test");
        uc.send(&request).await;
        let mut refused = shared.accept().await;
        assert_eq!(
            uc.receive_response(504).await.start_line,
            "SIP/2.0 504 No Server Of The Domain Reachable"
        );
        assert!(refused.is_closed_by_peer().await);
        peer.receive_nothing(SILENCE).await;
        home.proxy.logs(&["tls_failed", "expected=c.test", "direction=out"]).await;
    });
}

#[test]
fn requests_in_a_dialog_use_the_verified_connection_though_the_peer_has_recorded_its_address() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let port = abroad.published("b.test").await;
        let home = abroad.home(open_house()).await;
        let mut uc = home.server().await;
        let invite = uc.request("INVITE", "sip:bob@b.test", &uri("alice"), "sip:bob@b.test");
        uc.send(&invite).await;
        let mut peer = port.accept().await;
        let arrived = peer.receive_request("INVITE").await;
        let mut answer = peer.response(&arrived, 200).with("Contact", "<sip:bob@10.9.9.9>");
        answer.push_front("Record-Route", format!("<sip:{};transport=tls;lr>", port.local()));
        peer.send(&answer).await;
        let answer = uc.receive_response(200).await;
        let mut dialog = Dialog::of_caller(&invite, &answer);
        uc.send(&dialog.acknowledgement(&uc)).await;
        let ack = peer.receive_request("ACK").await;
        assert_eq!(host_port_of(uri_of(ack.values("Route")[0])), port.local().to_string());
        let bye = dialog.request(&uc, "BYE");
        relay(&bye, &mut uc, &mut peer, 200).await;
        nobody_connects(&port).await;
    });
}

#[test]
fn keep_alives_that_are_offered_are_accepted_and_keep_the_connection() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "idle_timeout", "\"4s\"");
        let site = Site::open(settings, &[Protocol::Tcp, Protocol::Udp]).await;
        let keep = |answer: &Sip| parameter(answer.all("Via")[0], "keep").map(str::to_owned);
        // A registration; datagrams have no connection that would end.
        for (protocol, expected) in [(Protocol::Tcp, "3"), (Protocol::Udp, "0")] {
            let mut agent = site.connect(protocol).await;
            let alice = uri("alice");
            let register = agent.request("REGISTER", &format!("sip:{DOMAIN}"), &alice, &alice);
            let via = format!("{};keep", agent.via());
            let answer = agent.exchange(&register.set("Via", via)).await;
            assert_eq!((answer.status(), keep(&answer).as_deref()), (200, Some(expected)), "{answer}");
        }
        // A dialog; what does not begin one, and what does not offer it, gets nothing.
        let mut callee = site.connect(Protocol::Udp).await;
        let mut caller = site.connect(Protocol::Tcp).await;
        let target = format!("sip:bob@{}", callee.local());
        for (method, offer, expected) in
            [("INVITE", ";keep", Some("3")), ("INVITE", "", None), ("MESSAGE", ";keep", Some(""))]
        {
            let request = caller.request(method, &target, &uri("alice"), &target);
            let via = format!("{}{offer}", caller.via());
            let (_, answer) = relay(&request.set("Via", via), &mut caller, &mut callee, 200).await;
            assert_eq!(keep(&answer).as_deref(), expected, "{method} {offer}:\n{answer}");
        }
        // At that interval they keep it open; without them it ends.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(6) {
            caller.send_bytes(b"\r\n\r\n").await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let request = caller.message(&uri("alice"), &target, "still here");
        relay(&request, &mut caller, &mut callee, 200).await;
        let silent = Instant::now();
        assert!(caller.is_closed_by_peer().await);
        assert!(silent.elapsed() > Duration::from_secs(3), "{:?}", silent.elapsed());
    });
}

#[test]
fn a_peer_that_leaves_three_requests_unanswered_loses_its_connection_and_is_connected_to_anew() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let port = abroad.published("b.test").await;
        let home = abroad.home(open_house_with_t1(50)).await;
        let mut uc = home.server().await;
        let request = message_to(&uc, "b.test");
        // From now on the peer is as dead as one whose cable has been pulled: TCP takes all, and nothing answers.
        let (_, mut peer) = delivered(&mut uc, &request, &port).await;
        for _ in 0..3 {
            let request = message_to(&uc, "b.test");
            uc.send(&request).await;
            peer.receive_request("MESSAGE").await;
        }
        nobody_connects(&port).await;
        assert!(peer.is_closed_by_peer().await);
        home.proxy.logs(&["connection_ended", "reason=unanswered"]).await;
        let request = message_to(&uc, "b.test");
        let again = async {
            let mut peer = port.accept().await;
            let arrived = peer.receive_request("MESSAGE").await;
            peer.answer(&arrived, 200).await;
            peer
        };
        let (answer, _peer) = tokio::join!(uc.exchange(&request), again);
        assert_eq!(answer.status(), 200, "{answer}");
    });
}
