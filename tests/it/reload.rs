//! Reload: the configuration is read again while the proxy works, section by section, and nobody else is disturbed.

pub(crate) mod hanging;

use std::net::SocketAddr;
use std::time::Duration;

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

/// A row of a key, to be found and replaced.
fn interface(address: SocketAddr, protocol: &str) -> String {
    format!(
        "\n[[lan.network_interface]]\nip_address = \"{}\"\nport = {}\nprotocol = \"{protocol}\"\n",
        address.ip(),
        address.port()
    )
}

/// A static route by TCP whose requests are believed.
fn route(domain: &str, server: SocketAddr) -> String {
    format!(
        "\n[[static_routes.route]]\ndomain_name = \"{domain}\"\naccess_server = \"{}\"\nport = {}\n\
         transport_protocol = \"tcp\"\ntrusted = true\n",
        server.ip(),
        server.port()
    )
}

/// The status of the first answer to a MESSAGE for somebody at `domain`.
async fn status_of_message(agent: &mut Agent, to: &str) -> u16 {
    let message = agent.message(&uri("alice"), to, "hello");
    agent.exchange(&message).await.status()
}

#[test]
fn a_bad_file_changes_nothing_and_every_fault_is_told() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        site.proxy.replace("t1 = \"500ms\"", "t1 = \"soon\"");
        site.proxy
            .edit(|text| format!("{text}\n[limits]\nidle_timeout = 7\n[registrar]\nmaximum_contact = 1\n"));
        let line = site.proxy.reload().await;
        assert!(line.contains("reload_refused") && line.contains("faults=3"), "{line}");
        for (key, what) in [
            ("key=sip.t1", "soon"),
            ("key=limits.idle_timeout", "integer"),
            ("key=registrar.maximum_contact", "maximum_contacts"),
        ] {
            site.proxy.logs(&["configuration_faulty", key, what, "sip-proxy.toml:"]).await;
        }
        answers_options(&mut agent).await;
        // A file that is gone is as bad.
        site.proxy.edit(|_| "no TOML at all".to_owned());
        assert!(site.proxy.reload().await.contains("reload_refused"));
        answers_options(&mut agent).await;
        site.is_well(Protocol::Tcp).await;
    });
}

#[test]
fn what_only_a_restart_can_change_is_refused_by_name_and_nothing_is_changed() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        site.proxy.replace("presence_domains = [\"example.org\"]", "presence_domains = [\"other.test\"]");
        for (key, row) in [
            ("service.worker_threads", "worker_threads = 1"),
            ("service.state_directory", "state_directory = \"elsewhere\""),
            ("service.control_socket", "control_socket = \"elsewhere.sock\""),
        ] {
            let mut before = String::new();
            site.proxy.edit(|text| {
                before.clone_from(&text);
                let text = text.replace("worker_threads = 2\n", "");
                text.replace("[service]\n", &format!("[service]\n{row}\n"))
            });
            let line = site.proxy.reload().await;
            assert!(line.contains("reload_refused"), "{line}");
            site.proxy.logs(&["configuration_faulty", &format!("key={key}"), "needs a restart"]).await;
            site.proxy.edit(|_| before);
        }
        // The domain has not been changed on the way.
        let mut agent = site.connect(Protocol::Tcp).await;
        answers_options(&mut agent).await;
        assert!(site.proxy.reload().await.contains("changes=1"));
        let message = agent.message("sip:alice@other.test", "sip:bob@other.test", "hello");
        assert_eq!(agent.exchange(&message).await.status(), 480);
    });
}

#[test]
fn a_reload_of_what_is_in_force_changes_nothing() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
        let mut agent = site.server(Protocol::Tls, "bob").await;
        for _ in 0..3 {
            let line = site.proxy.reload().await;
            assert!(line.contains(" reloaded ") && line.contains("changes=0"), "{line}");
        }
        assert!(!site.proxy.log().contains("configuration_changed"));
        let mut caller = site.connect(Protocol::Udp).await;
        let message = caller.message(&uri("alice"), &uri("bob"), "hello");
        relay(&message, &mut caller, &mut agent, 200).await;
    });
}

#[test]
fn a_call_that_rings_while_everything_else_changes_is_answered() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Udp]).await;
        let mut callee = site.server(Protocol::Tcp, "bob").await;
        let mut caller = site.connect(Protocol::Udp).await;
        let invite = invitation(&caller, "bob");
        caller.send(&invite).await;
        let arrived = callee.receive_request("INVITE").await;
        callee.answer(&arrived, 180).await;
        caller.receive_response(180).await;
        let address = SocketAddr::new(site.proxy.ip(), free_port(site.proxy.ip()));
        site.proxy.replace("t1 = \"500ms\"", "t1 = \"300ms\"\ntimer_c = \"200s\"");
        site.proxy.edit(|text| {
            let more = interface(address, "tcp") + &route("partner.test", "127.0.0.9:9".parse().unwrap());
            format!("{text}{more}\n[[lan.account]]\nuser_name = \"new\"\npassword = \"p\"\n[limits]\nmaximum_connections = 99\n")
        });
        let line = site.proxy.reload().await;
        assert!(line.contains("changes=6"), "{line}");
        site.proxy.logs(&["configuration_changed", "key=sip.t1", "500ms", "300ms"]).await;
        site.proxy.logs(&["configuration_changed", "static_routes.route[partner.test]", "added"]).await;
        callee.answer(&arrived, 200).await;
        caller.receive_response(200).await;
    });
}

#[test]
fn presence_domains_are_added_and_go() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        assert_eq!(status_of_message(&mut agent, "sip:bob@second.test").await, 404);
        let domains = "presence_domains = [\"example.org\"]";
        site.proxy.replace(domains, "presence_domains = [\"example.org\", \"second.test\"]");
        site.proxy.reload().await;
        // The one server that there could be is who asks.
        assert_eq!(status_of_message(&mut agent, "sip:bob@second.test").await, 480);
        site.proxy.replace(", \"second.test\"", "");
        site.proxy.reload().await;
        assert_eq!(status_of_message(&mut agent, "sip:bob@second.test").await, 404);
    });
}

#[test]
fn an_account_that_went_takes_its_bindings_and_log_ons_with_it() {
    run(LIMIT, async {
        let settings =
            Settings::new(DOMAIN).account("first", "one").account("second", "two").account("third", "three");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let mut first = site.connect(Protocol::Tcp).await;
        let mut second = site.connect(Protocol::Tcp).await;
        let mut third = site.connect(Protocol::Tcp).await;
        first.register(DOMAIN, "alice", "first", "one").await;
        second.register(DOMAIN, "bob", "second", "two").await;
        third.register(DOMAIN, "carol", "third", "three").await;
        let to_bob = first.message(&uri("alice"), &uri("bob"), "hello");
        relay(&to_bob, &mut first, &mut second, 200).await;
        site.proxy.replace("\n[[lan.account]]\nuser_name = \"second\"\npassword = \"two\"\n", "");
        assert!(site.proxy.reload().await.contains("changes=1"));
        site.proxy.logs(&["logged_off", "account_removed"]).await;
        // Bob is searched for at the third, who has not been disturbed, and has kept its name.
        let again = first.message(&uri("alice"), &uri("bob"), "hello");
        relay(&again, &mut first, &mut third, 404).await;
        let to_carol = first.message(&uri("alice"), &uri("carol"), "hello");
        relay(&to_carol, &mut first, &mut third, 200).await;
        let refused = second.message(&uri("bob"), &uri("alice"), "hello");
        assert_eq!(second.exchange(&refused).await.status(), 407);
        // It comes back as a new one.
        site.proxy
            .edit(|text| format!("{text}\n[[lan.account]]\nuser_name = \"second\"\npassword = \"two\"\n"));
        site.proxy.reload().await;
        second.register(DOMAIN, "bob", "second", "two").await;
        let to_bob = first.message(&uri("alice"), &uri("bob"), "hello");
        relay(&to_bob, &mut first, &mut second, 200).await;
    });
}

#[test]
fn whose_password_is_changed_proves_the_new_one() {
    run(LIMIT, async {
        let site = Site::open(Settings::new(DOMAIN).account("uc", "old"), &[Protocol::Tcp]).await;
        let mut server = site.connect(Protocol::Tcp).await;
        server.register(DOMAIN, "alice", "uc", "old").await;
        site.proxy.replace("password = \"old\"", "password = \"new\"");
        let line = site.proxy.reload().await;
        assert!(line.contains("changes=1"), "{line}");
        let told = site.proxy.logs(&["configuration_changed", "lan.account[uc].password"]).await;
        assert!(told.contains("***") && !told.contains("\"new\""), "{told}");
        let message = server.message(&uri("alice"), &uri("bob"), "hello");
        assert_eq!(server.exchange(&message).await.status(), 407);
        server.register(DOMAIN, "alice", "uc", "new").await;
    });
}

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

/// Waits until the log says for the so many-th time that somebody listens there.
async fn listens(site: &Site, protocol: &str, at: SocketAddr, times: usize) {
    let parts = [" listening ", &format!("protocol={protocol}"), &format!("address={at} ")];
    let is_it = |line: &&str| parts.iter().all(|part| line.contains(part));
    while site.proxy.log().lines().filter(is_it).count() < times {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn limits_hold_for_messages_and_connections_afterwards() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Udp]).await;
        let mut known = site.server(Protocol::Tcp, "bob").await;
        let mut datagrams = site.connect(Protocol::Udp).await;
        let proxy = format!("sip:{DOMAIN}");
        let long = |agent: &Agent| {
            agent.request("OPTIONS", &proxy, &uri("alice"), &proxy).body("text/plain", "x".repeat(3000))
        };
        let message = long(&datagrams);
        assert_eq!(datagrams.exchange(&message).await.status(), 200);
        site.proxy.edit(|file| format!("{file}\n[limits]\nmaximum_message_bytes = 2048\nmaximum_header_bytes = 1024\nmaximum_connections_per_address = 1\n"));
        site.proxy.reload().await;
        let message = long(&datagrams);
        assert_eq!(datagrams.exchange(&message).await.status(), 513);
        // A connection that was open goes by it, too; and there may be no second one.
        answers_options(&mut known).await;
        let mut second = site.connect(Protocol::Tcp).await;
        assert!(second.is_closed_by_peer().await);
        let message = long(&known);
        known.send(&message).await;
        known.receive_response(513).await;
    });
}

#[test]
fn the_registrar_goes_by_its_new_bounds() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let register = |agent: &Agent| -> Sip {
            let register = agent.request("REGISTER", &format!("sip:{DOMAIN}"), &uri("bob"), &uri("bob"));
            register.set("Contact", agent.contact("bob")).set("Expires", "70")
        };
        let request = register(&agent);
        assert_eq!(agent.exchange(&request).await.status(), 200);
        site.proxy.edit(|text| format!("{text}\n[registrar]\nminimum_expires = \"2m\"\n"));
        site.proxy.reload().await;
        let request = register(&agent);
        let answer = agent.exchange(&request).await;
        assert_eq!((answer.status(), answer.need("Min-Expires")), (423, "120"), "{answer}");
    });
}

#[test]
fn log_levels_change_at_once() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        site.proxy
            .replace("log_level = \"debug\"", "log_level = { default = \"info\", connection = \"error\" }");
        site.proxy.reload().await;
        let lines = || site.proxy.log().lines().filter(|line| line.contains("connection_opened")).count();
        let before = lines();
        let mut agent = site.connect(Protocol::Tcp).await;
        answers_options(&mut agent).await;
        agent.close().await;
        assert_eq!(lines(), before);
        site.proxy.replace("connection = \"error\"", "connection = \"debug\"");
        site.proxy.reload().await;
        let mut agent = site.connect(Protocol::Tcp).await;
        answers_options(&mut agent).await;
        site.proxy.logs(&["connection_opened"]).await;
        assert!(lines() > before);
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

/// The certificate that the proxy shows now.
async fn shown(site: &Site) -> Vec<u8> {
    let config = site.authority.client_config(None);
    let stream = tokio::net::TcpStream::connect(site.proxy.at(Protocol::Tls)).await.expect("a connection");
    let name = rustls::pki_types::ServerName::from(site.proxy.ip());
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
}

#[test]
fn a_certificate_that_is_renewed_on_disk_is_shown_by_new_connections_and_old_ones_stay() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tls]).await;
        let mut old = site.server(Protocol::Tls, "bob").await;
        let first = shown(&site).await;
        let renewed = site.authority.server(&[&site.proxy.ip().to_string()]);
        // The configuration may be half edited meanwhile.
        site.proxy.edit(|text| format!("{text}\n[nonsense]\n"));
        let before = site.proxy.reloads();
        // Half a pair changes nothing, and is told once.
        site.proxy.directory().write("proxy.pem", &renewed.chain);
        let line = site.proxy.reloaded_after(before).await;
        assert!(line.contains("reload_refused"), "{line}");
        assert_eq!(shown(&site).await, first);
        site.proxy.directory().write("proxy.key", &renewed.private_key);
        let line = site.proxy.reloaded_after(before + 1).await;
        assert!(line.contains(" reloaded ") && line.contains("cause=files_changed"), "{line}");
        assert_ne!(shown(&site).await, first);
        answers_options(&mut old).await;
        site.proxy.logs(&["configuration_changed", "certificate.private_key", "***"]).await;
        assert_eq!(site.proxy.reloads(), before + 2);
    });
}

#[test]
fn connections_of_a_revoked_peer_end_and_others_stay() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Mtls]).await;
        let names = |name: &str| site.authority.client(name);
        let (good, bad) = (names("good.example.org"), names("bad.example.org"));
        let at = site.proxy.at(Protocol::Mtls);
        let mut kept = Agent::tls(site.proxy.ip(), at, site.authority.client_config(Some(&good))).await;
        let mut ended = Agent::tls(site.proxy.ip(), at, site.authority.client_config(Some(&bad))).await;
        answers_options(&mut kept).await;
        answers_options(&mut ended).await;
        site.proxy.directory().write("revoked.pem", site.authority.revocation_list(&[&bad]));
        site.proxy.replace("[certificate]\n", "[certificate]\nrevocation_lists = [\"revoked.pem\"]\n");
        site.proxy.reload().await;
        assert!(ended.is_closed_by_peer().await);
        answers_options(&mut kept).await;
    });
}
