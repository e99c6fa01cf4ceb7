//! Static routes, and who is asked where they lead.

use std::net::SocketAddr;
use std::time::Duration;

use super::{interface, listens, route, status_of_message};
use crate::common::agent::Agent;
use crate::common::dns::NameServer;
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::{free_port, loopback};
use crate::common::sip::Sip;
use crate::common::stun_server::{Filter, Mapping, OUTSIDE, Speech, StunServer};
use crate::invite::invitation;
use crate::support::{DOMAIN, LIMIT, Site, answers_options, open_house, relay, uri};

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
