//! Static routes, and who is asked where they lead: name servers and STUN servers.

use std::net::SocketAddr;
use std::time::Duration;

use super::{interface, route, route_by, status_of_message};
use crate::abroad::{message_in, named};
use crate::common::agent::Agent;
use crate::common::certificates::Authority;
use crate::common::dns::{Mood, NameServer};
use crate::common::port::Port;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::scratch::{free_port, loopback};
use crate::common::stun_server::{Filter, Mapping, OUTSIDE, Speech, StunServer};
use crate::support::{LIMIT, SILENCE, Site, open_house, relay, uri};

#[test]
fn routes_come_go_and_are_pointed_elsewhere() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let to = "sip:bob@partner.test";
        assert_eq!(status_of_message(&mut agent, to).await, 404);
        let (first, second) = (Port::tcp(loopback()).await, Port::tcp(loopback()).await);
        let (one, two) = (route("partner.test", first.local()), route("partner.test", second.local()));
        site.proxy.edit(|text| text + &one);
        site.proxy.reload().await;
        let message = agent.message(&uri("alice"), to, "hello");
        agent.send(&message).await;
        let mut partner = first.accept().await;
        let arrived = partner.receive_request("MESSAGE").await;
        // It is pointed elsewhere before the answer comes, which goes back all the same.
        site.proxy.replace(&one, &two);
        site.proxy.reload().await;
        partner.answer(&arrived, 200).await;
        agent.receive_response(200).await;
        let message = agent.message(&uri("alice"), to, "hello");
        agent.send(&message).await;
        let mut other = second.accept().await;
        let arrived = other.receive_request("MESSAGE").await;
        other.answer(&arrived, 200).await;
        agent.receive_response(200).await;
        site.proxy.replace(&two, "");
        site.proxy.reload().await;
        assert_eq!(status_of_message(&mut agent, to).await, 404);
    });
}

#[test]
fn other_name_servers_are_asked_afterwards() {
    run(LIMIT, async {
        let [first, second] = [loopback(), loopback()];
        let one = NameServer::start(loopback(), &format!("sip.partner.test 300 A {first}")).await;
        let two = NameServer::start(loopback(), &format!("sip.partner.test 300 A {second}")).await;
        let settings = open_house().key("dns", "name_servers", &format!("[\"{}\"]", one.address()));
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let by_name = |name: &str| {
            format!(
                "\n[[static_routes.route]]\ndomain_name = \"{name}\"\naccess_server = \"sip.partner.test\"\n\
                 transport_protocol = \"tcp\"\ntrusted = true\n"
            )
        };
        site.proxy.edit(|text| text + &by_name("one.test"));
        site.proxy.reload().await;
        site.proxy.logs(&["access_server_moved", "route=one.test", &first.to_string()]).await;
        // A route that comes with them is looked up at them.
        site.proxy.replace(&one.address().to_string(), &two.address().to_string());
        site.proxy.edit(|text| text + &by_name("two.test"));
        site.proxy.reload().await;
        site.proxy.logs(&["access_server_moved", "route=two.test", &second.to_string()]).await;
    });
}

#[test]
fn stun_servers_are_asked_as_soon_as_they_are_named() {
    run(LIMIT, async {
        let server = StunServer::start(Speech::Rfc5780, Mapping::One, Filter::Anybody).await;
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        site.proxy.edit(|text| format!("{text}\n[stun]\nservers = [\"{}\"]\n", server.address()));
        site.proxy.reload().await;
        site.proxy.logs(&["nat_determined", &format!("public_address={OUTSIDE}")]).await;
    });
}

#[test]
fn routes_lead_out_and_in_while_static_routes_are_switched_on() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let port = Port::tcp(loopback()).await;
        site.proxy.edit(|text| text + &route("partner.test", port.local()));
        assert!(site.proxy.reload().await.contains("changes=1"));
        let mut agent = site.connect(Protocol::Tcp).await;
        let message = |agent: &Agent| agent.message(&uri("alice"), "sip:bob@partner.test", "hello");
        for enabled in [true, false, true] {
            if site.proxy.reloads() > 1 || !enabled {
                site.proxy.change(&[("static_routes", "enabled", &enabled.to_string())]).await;
            }
            if !enabled {
                assert_eq!(agent.exchange(&message(&agent)).await.status(), 404);
                continue;
            }
            agent.send(&message(&agent)).await;
            let mut partner = port.accept().await;
            let arrived = partner.receive_request("MESSAGE").await;
            partner.answer(&arrived, 200).await;
            agent.receive_response(200).await;
            partner.close().await;
        }
    });
}

/// A MESSAGE for bob of partner.test arrives at the port by a new connection, and is answered.
async fn arrives_at(port: &Port, agent: &mut Agent) -> Agent {
    agent.send(&agent.message(&uri("alice"), "sip:bob@partner.test", "hello")).await;
    let mut partner = port.accept().await;
    let arrived = partner.receive_request("MESSAGE").await;
    partner.answer(&arrived, 200).await;
    agent.receive_response(200).await;
    partner
}

#[test]
fn a_route_is_switched_off_and_leads_by_another_port_protocol_and_address_of_ours() {
    // enabled, port, transport_protocol, bind_to_ip_address, domain_name
    run(LIMIT, async {
        let own = loopback();
        let more = interface(SocketAddr::new(own, free_port(own)), "tcp");
        let site = Site::open(open_house().text(&more), &[Protocol::Tcp, Protocol::Udp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let ip = loopback();
        let (first, second) = (Port::tcp(ip).await, Port::tcp(ip).await);
        let mut before = route_by("tcp", "partner.test", first.local(), "");
        site.proxy.edit(|text| text + &before);
        assert!(site.proxy.reload().await.contains("changes=1"));
        arrives_at(&first, &mut agent).await;
        let mut change = async |rows: String| {
            site.proxy.replace(&before, &rows);
            before = rows;
            let line = site.proxy.reload().await;
            assert!(line.contains(" reloaded ") && !line.contains("changes=0"), "{before}: {line}");
        };
        change(route_by("tcp", "partner.test", first.local(), "enabled = false\n")).await;
        assert_eq!(status_of_message(&mut agent, "sip:bob@partner.test").await, 404);
        change(route_by("tcp", "partner.test", second.local(), "enabled = true\n")).await;
        arrives_at(&second, &mut agent).await;
        let bound = format!("bind_to_ip_address = \"{own}\"\n");
        change(route_by("tcp", "partner.test", second.local(), &bound)).await;
        assert_eq!(arrives_at(&second, &mut agent).await.source().ip(), own);
        let mut datagrams = Agent::udp(loopback(), site.proxy.at(Protocol::Udp)).await;
        change(route_by("udp", "partner.test", datagrams.local(), "")).await;
        let message = agent.message(&uri("alice"), "sip:bob@partner.test", "hello");
        relay(&message, &mut agent, &mut datagrams, 200).await;
        change(route_by("udp", "other.test", datagrams.local(), "")).await;
        assert_eq!(status_of_message(&mut agent, "sip:bob@partner.test").await, 404);
        let message = agent.message(&uri("alice"), "sip:bob@other.test", "hello");
        relay(&message, &mut agent, &mut datagrams, 200).await;
    });
}

#[test]
fn who_comes_by_a_route_is_believed_while_it_is_trusted() {
    run(LIMIT, async {
        let site = Site::open(open_house().listen_outside(Protocol::Tcp), &[Protocol::Tcp]).await;
        let mut alice = site.server(Protocol::Tcp, "alice").await;
        let port = Port::tcp(loopback()).await;
        let rows =
            |trusted: bool| route_by("tcp", "partner.test", port.local(), &format!("trusted = {trusted}\n"));
        site.proxy.edit(|text| text + &rows(false));
        assert!(site.proxy.reload().await.contains("changes=1"));
        let mut partner = Agent::tcp(port.local().ip(), site.proxy.outside_at(Protocol::Tcp)).await;
        for (trusted, next) in [(false, true), (true, false), (false, true)] {
            let message = message_in(&partner, "sip:bob@partner.test", "alice");
            if trusted {
                relay(&message, &mut partner, &mut alice, 200).await;
            } else {
                assert!([403, 407].contains(&partner.exchange(&message).await.status()));
            }
            site.proxy.replace(&rows(trusted), &rows(next));
            assert!(site.proxy.reload().await.contains("changes=1"));
        }
    });
}

#[test]
fn a_route_has_authorities_of_its_own_from_now_on_and_not_any_more() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Mtls]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let private = Authority::new("Authority Of The Route");
        site.proxy.directory().write("route.pem", private.pem());
        let identity = private.issue(&named(&["partner.test"]));
        let port = Port::tls(loopback(), private.server_config(&identity, false)).await;
        let common = route_by("mtls", "partner.test", port.local(), "");
        let own = route_by("mtls", "partner.test", port.local(), "trusted_cas = \"route.pem\"\n");
        site.proxy.edit(|text| text + &common);
        assert!(site.proxy.reload().await.contains("changes=1"));
        let refused = async |agent: &mut Agent| {
            let request = agent.message(&uri("alice"), "sip:bob@partner.test", "hello");
            let (answer, ()) = tokio::join!(agent.exchange(&request), port.accept_refused());
            assert!(answer.status() >= 500, "{answer}");
        };
        refused(&mut agent).await;
        site.proxy.replace(&common, &own);
        assert!(site.proxy.reload().await.contains("changes=1"));
        let _kept = arrives_at(&port, &mut agent).await;
        // What was opened for the route serves nobody any more.
        site.proxy.replace(&own, &common);
        assert!(site.proxy.reload().await.contains("changes=1"));
        refused(&mut agent).await;
    });
}

#[test]
fn routes_are_probed_as_often_as_the_file_has_it_now() {
    run(LIMIT, async {
        let port = Port::tcp(loopback()).await;
        let settings = open_house().key("static_routes", "probe_interval", "\"0s\"");
        let site = Site::open(settings.text(&route("partner.test", port.local())), &[Protocol::Tcp]).await;
        assert!(!port.is_approached(4 * SILENCE).await, "nobody is to be probed");
        site.proxy.change(&[("static_routes", "probe_interval", "\"1s\"")]).await;
        let mut partner = port.accept().await;
        for _ in 0..2 {
            let probe = partner.receive_request("OPTIONS").await;
            partner.answer(&probe, 200).await;
        }
        site.proxy.change(&[("static_routes", "probe_interval", "\"0s\"")]).await;
        // One may be on its way.
        while let Some(probe) = crate::support::next_within(&mut partner, Duration::from_secs(2)).await {
            partner.answer(&probe, 200).await;
        }
    });
}

#[test]
fn look_ups_have_the_time_that_the_file_gives_them_now() {
    run(LIMIT, async {
        let names = NameServer::start(loopback(), "").await;
        names.set_mood("*", Some(Mood::Silent));
        let settings = open_house()
            .key("dns", "name_servers", &format!("[\"{}\"]", names.address()))
            .key("dns", "timeout", "\"1m\"")
            .key("open_federation", "enabled", "true")
            .key("open_federation", "bind_to_ip_address", &format!("\"{}\"", loopback()));
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        site.proxy.change(&[("dns", "timeout", "\"200ms\"")]).await;
        // An agent waits for five seconds.
        assert!(status_of_message(&mut agent, "sip:bob@silent.test").await >= 404);
    });
}

#[test]
fn stun_servers_are_asked_as_often_as_the_file_has_it_now() {
    run(2 * LIMIT, async {
        let server = StunServer::start(Speech::Rfc5780, Mapping::One, Filter::Anybody).await;
        let settings = open_house().key("stun", "servers", &format!("[\"{}\"]", server.address()));
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        site.proxy.logs(&["nat_determined", &format!("public_address={OUTSIDE}")]).await;
        site.proxy.change(&[("stun", "interval", "\"10s\"")]).await;
        // The reload itself has it asked at once, the interval once more.
        server.move_to([198, 51, 100, 7].into());
        let is_noticed = || site.proxy.log().contains("new=198.51.100.7");
        while !is_noticed() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        server.move_to([198, 51, 100, 8].into());
        while !site.proxy.log().contains("new=198.51.100.8") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}
