//! Interfaces come, go and move, and what they are known as changes.

use std::net::SocketAddr;
use std::time::Duration;

use super::{interface, listens, status_of_message};
use crate::common::agent::Agent;
use crate::common::certificates::Authority;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::{free_port, loopback};
use crate::support::{DOMAIN, LIMIT, Site, answers_options, open_house, relay, uri};

#[test]
fn interfaces_come_and_go_and_the_others_are_not_disturbed() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Udp]).await;
        let mut stays = site.server(Protocol::Tcp, "bob").await;
        let mut datagrams = site.connect(Protocol::Udp).await;
        let at = |protocol| (SocketAddr::new(site.proxy.ip(), free_port(site.proxy.ip())), protocol);
        for (address, protocol) in [at("tcp"), at("udp"), at("ws")] {
            let rows = interface(address, protocol);
            site.proxy.edit(|text| text + &rows);
            site.proxy.reload().await;
            site.proxy.logs(&[" listening ", &format!("address={address}")]).await;
            let mut agent = match protocol {
                "tcp" => Agent::tcp(site.proxy.ip(), address).await,
                "udp" => Agent::udp(site.proxy.ip(), address).await,
                _ => Agent::web(site.proxy.ip(), address, None).await,
            };
            let message = agent.message(&uri("alice"), &uri("bob"), "hello");
            relay(&message, &mut agent, &mut stays, 200).await;
            site.proxy.replace(&rows, "");
            site.proxy.reload().await;
            if protocol != "udp" {
                while tokio::net::TcpStream::connect(address).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            let message = datagrams.message(&uri("alice"), &uri("bob"), "hello");
            relay(&message, &mut datagrams, &mut stays, 200).await;
        }
    });
}

#[test]
fn interfaces_change_places() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut stays = site.server(Protocol::Tcp, "bob").await;
        let [first, second] = [0, 1].map(|_| SocketAddr::new(site.proxy.ip(), free_port(site.proxy.ip())));
        let before = interface(first, "udp") + &interface(second, "ws");
        let after = interface(second, "udp") + &interface(first, "ws");
        site.proxy.edit(|text| text + &before);
        site.proxy.reload().await;
        for (old, new, datagrams, web) in [(&before, &after, second, first), (&after, &before, first, second)]
        {
            site.proxy.replace(old, new);
            site.proxy.reload().await;
            // Each binds as soon as the other has let go. Datagrams that nobody takes the port of go on.
            listens(&site, "udp", datagrams, 1).await;
            listens(&site, "ws", web, if web == first { 1 } else { 2 }).await;
            let mut agent = Agent::web(site.proxy.ip(), web, None).await;
            let message = agent.message(&uri("alice"), &uri("bob"), "hello");
            relay(&message, &mut agent, &mut stays, 200).await;
            let mut agent = Agent::udp(site.proxy.ip(), datagrams).await;
            let message = agent.message(&uri("alice"), &uri("bob"), "hello");
            relay(&message, &mut agent, &mut stays, 200).await;
        }
        assert!(!site.proxy.log().contains("not_listening"));
    });
}

#[test]
fn an_interface_whose_port_is_taken_says_so_and_the_rest_of_the_reload_holds() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let taken = std::net::TcpListener::bind(SocketAddr::new(site.proxy.ip(), 0)).expect("a port");
        let address = taken.local_addr().expect("a bound socket has an address");
        let domains = "presence_domains = [\"example.org\"]";
        site.proxy.replace(domains, "presence_domains = [\"example.org\", \"second.test\"]");
        site.proxy.edit(|text| text + &interface(address, "tcp"));
        site.proxy.reload().await;
        site.proxy.logs(&["not_listening", &address.to_string(), "in use"]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        assert_eq!(status_of_message(&mut agent, "sip:bob@second.test").await, 480);
        drop(taken);
        listens(&site, "tcp", address, 1).await;
        let mut agent = Agent::tcp(site.proxy.ip(), address).await;
        answers_options(&mut agent).await;
    });
}

/// Waits until nobody listens there.
async fn is_deaf(address: SocketAddr) {
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the proxy answers there, by TCP or UDP.
async fn is_heard(address: SocketAddr, protocol: &str) {
    let mut agent = match protocol {
        "tcp" => Agent::tcp(loopback(), address).await,
        _ => Agent::udp(loopback(), address).await,
    };
    answers_options(&mut agent).await;
}

#[test]
fn interfaces_of_either_list_are_switched_and_moved() {
    run(2 * LIMIT, async {
        for section in ["wan", "lan"] {
            are_switched_and_moved(section).await;
        }
    });
}

/// One of the interfaces of this section, while another goes on.
async fn are_switched_and_moved(section: &str) {
    let site = Site::open(open_house().listen_outside(Protocol::Tcp), &[Protocol::Tcp]).await;
    let stays = site.proxy.outside_at(Protocol::Tcp);
    let mut kept = Agent::tcp(loopback(), stays).await;
    let places = [0; 3].map(|_| {
        let ip = loopback();
        SocketAddr::new(ip, free_port(ip))
    });
    let mut last = None;
    // enabled, ip_address, port, protocol
    for (place, protocol, enabled) in [
        (places[0], "tcp", true),
        (places[0], "tcp", false),
        (places[0], "tcp", true),
        (SocketAddr::new(places[0].ip(), places[1].port()), "tcp", true),
        (SocketAddr::new(places[2].ip(), places[1].port()), "tcp", true),
        (SocketAddr::new(places[2].ip(), places[1].port()), "udp", true),
    ] {
        let row = |at: SocketAddr, protocol: &str, enabled: bool| {
            let (ip, port) = (at.ip(), at.port());
            format!(
                "{{ enabled = {enabled}, ip_address = \"{ip}\", port = {port}, protocol = \"{protocol}\" }}"
            )
        };
        let mut rows = vec![row(place, protocol, enabled)];
        if section == "wan" {
            rows.push(row(stays, "tcp", true));
        }
        let rows = format!("[{}]", rows.join(", "));
        site.proxy.change(&[(section, "network_interface", &rows)]).await;
        if enabled {
            listens(&site, protocol, place, 1).await;
            is_heard(place, protocol).await;
        } else {
            is_deaf(place).await;
        }
        if let Some(last) = last.replace(place).filter(|last| *last != place) {
            is_deaf(last).await;
        }
        answers_options(&mut kept).await;
    }
}

#[test]
fn the_interface_of_the_lan_section_is_moved_and_switched_off_with_its_account() {
    run(LIMIT, async {
        let settings = Settings::new(DOMAIN).usual_timers().account("uc", "own").account("other", "secret");
        // The first interface and the first account stand in the section; nobody else is disturbed.
        let site = Site::open(settings, &[Protocol::Udp, Protocol::Tcp]).await;
        let mut other = site.connect(Protocol::Tcp).await;
        other.register(DOMAIN, "bob", "other", "secret").await;
        let (ip, elsewhere) = (site.proxy.ip(), loopback());
        let port = free_port(ip);
        site.proxy.change(&[("lan", "port", &port.to_string())]).await;
        listens(&site, "udp", SocketAddr::new(ip, port), 1).await;
        is_heard(SocketAddr::new(ip, port), "udp").await;
        let quoted = format!("\"{elsewhere}\"");
        site.proxy.change(&[("lan", "bind_to_ip_address", &quoted)]).await;
        listens(&site, "udp", SocketAddr::new(elsewhere, port), 1).await;
        is_heard(SocketAddr::new(elsewhere, port), "udp").await;
        site.proxy.change(&[("lan", "transport_protocol", "\"tcp\"")]).await;
        listens(&site, "tcp", SocketAddr::new(elsewhere, port), 1).await;
        let mut own = site.connect(Protocol::Tcp).await;
        own.register(DOMAIN, "alice", "uc", "own").await;
        let message = |agent: &Agent| agent.message(&uri("alice"), &uri("bob"), "hello");
        relay(&message(&own), &mut own, &mut other, 200).await;
        site.proxy.change(&[("lan", "enabled", "false")]).await;
        is_deaf(SocketAddr::new(elsewhere, port)).await;
        assert_eq!(own.exchange(&message(&own)).await.status(), 407, "it has no account any more");
        let nobody = other.message(&uri("bob"), &uri("alice"), "hello");
        assert_eq!(other.exchange(&nobody).await.status(), 480, "alice's server is gone, and bob's is here");
    });
}

#[test]
fn what_the_proxy_is_known_as_outside_changes_for_what_leaves_afterwards() {
    run(LIMIT, async {
        let registrant = "\n[[registrar.account]]\nuser_name = \"phone\"\npassword = \"p\"\nusers = [\"bob@example.org\"]\n";
        let settings = open_house().listen_outside(Protocol::Udp).text(registrant);
        let site = Site::start(settings.listen(Protocol::Udp), Authority::new("nobody's")).await;
        let outside = site.proxy.outside_at(Protocol::Udp);
        let mut inside = site.server(Protocol::Udp, "alice").await;
        let mut beyond = Agent::udp(outside.ip(), outside).await;
        beyond.register(DOMAIN, "bob", "phone", "p").await;
        let section = "wan.public_address";
        let (ip, port) = (outside.ip(), outside.port());
        for (key, value, sent_by) in [
            ("ip_address", "\"198.51.100.9\"", format!("{ip}:{port}")),
            ("enabled", "true", "198.51.100.9:5061".to_owned()),
            ("port", "5099", "198.51.100.9:5099".to_owned()),
            ("ip_address", "\"198.51.100.7\"", "198.51.100.7:5099".to_owned()),
            ("host_name", "\"sip.outside.test\"", "sip.outside.test:5099".to_owned()),
            ("enabled", "false", format!("{ip}:{port}")),
        ] {
            site.proxy.set(section, key, value);
            assert!(site.proxy.reload().await.contains(" reloaded "));
            let request = inside.message(&uri("alice"), &uri("bob"), "hello");
            let (arrived, _) = relay(&request, &mut inside, &mut beyond, 200).await;
            let via = arrived.all("Via")[0];
            assert_eq!(via.split([' ', ';']).nth(1), Some(&*sent_by), "{key} = {value}: {via}");
        }
    });
}
