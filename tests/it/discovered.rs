//! Peers found by DNS: how much they are sent, and how much is taken from them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::common::agent::Agent;
use crate::common::certificates::Authority;
use crate::common::dns::{Mood, NameServer};
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Proxy};
use crate::common::run;
use crate::common::scratch::{free_port, loopback};
use crate::support::{DOMAIN, LIMIT, final_response, open_house, relay, uri};

/// A proxy with open federation, and those who vouch for it and its peers.
pub(crate) struct Border {
    pub(crate) proxy: Proxy,
    pub(crate) authority: Authority,
    pub(crate) names: NameServer,
    /// Where peers come in.
    pub(crate) outside: SocketAddr,
}

impl Border {
    pub(crate) async fn open(keys: &[(&str, &str, &str)]) -> Self {
        let (authority, outside) = (Authority::new("tests"), loopback());
        let outside = SocketAddr::new(outside, free_port(outside));
        let names = NameServer::start(loopback(), "").await;
        let settings = open_house()
            .listen(Protocol::Tcp)
            .certificate(&authority.server(&[&outside.ip().to_string()]), &authority)
            .key("dns", "name_servers", &format!("[\"{}\"]", names.address()))
            .key("open_federation", "enabled", "true")
            .key("open_federation", "bind_to_ip_address", &format!("\"{}\"", outside.ip()))
            .key("open_federation", "port", &outside.port().to_string());
        let settings =
            keys.iter().fold(settings, |settings, (section, key, value)| settings.key(section, key, value));
        let proxy = settings.start().await;
        Self { proxy, authority, names, outside }
    }

    pub(crate) async fn uc_server(&self, user: &str) -> Agent {
        let mut server = Agent::tcp(self.proxy.ip(), self.proxy.at(Protocol::Tcp)).await;
        server.register(DOMAIN, user, "nobody", "nothing").await;
        server
    }

    /// Where a peer listens whose domain DNS tells.
    pub(crate) async fn peer(&self, domain: &str, local: IpAddr) -> Port {
        let host = format!("sip.{domain}");
        let port =
            Port::tls(local, self.authority.server_config(&self.authority.server(&[&host]), false)).await;
        let at = port.local();
        self.names.add(&format!(
            "_sipfederationtls._tcp.{domain} 60 SRV 0 0 {} {host}\n{host} 60 A {}",
            at.port(),
            at.ip()
        ));
        port
    }
}

#[test]
fn a_burst_toward_a_discovered_peer_arrives_slowly_in_order_and_whole() {
    const COUNT: usize = 60;
    run(LIMIT, async {
        let border = Border::open(&[]).await;
        let mut alice = border.uc_server("alice").await;
        let port = border.peer("b.test", loopback()).await;
        for number in 0..COUNT {
            alice.send(&alice.message(&uri("alice"), "sip:bob@b.test", &number.to_string())).await;
        }
        let mut peer = port.accept().await;
        let begun = Instant::now();
        for number in 0..COUNT {
            let message = peer.receive_request("MESSAGE").await;
            assert_eq!(message.text(), number.to_string());
            peer.answer(&message, 200).await;
        }
        // Five at once, then 20 a second; what had waited while the connection was made came with the first.
        assert!(begun.elapsed() > Duration::from_millis(1_500), "{:?}", begun.elapsed());
        for _ in 0..COUNT {
            assert_eq!(final_response(&mut alice).await.status(), 200);
        }
    });
}

/// How much the metrics say waits in a queue.
async fn queue_length(proxy: &Proxy, queue: &str) -> usize {
    let metrics = proxy.asked("GET", "/metrics", "").await.body;
    let start = format!("sip_proxy_queue_length{{queue=\"{queue}\"}} ");
    let length = metrics.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok());
    length.unwrap_or_else(|| panic!("no {start} in {metrics}"))
}

#[test]
fn the_metrics_tell_what_waits_for_its_turn_and_what_waits_for_name_servers() {
    run(LIMIT, async {
        let keys = [("open_federation", "messages_per_second", "1"), ("dns", "timeout", "\"60s\"")];
        let border = Border::open(&keys).await;
        let mut alice = border.uc_server("alice").await;
        let _port = border.peer("b.test", loopback()).await;
        border.names.set_mood("_sipfederationtls._tcp.c.test", Some(Mood::Silent));
        for queue in ["peer_requests", "look_up_requests", "look_up_questions", "router_batches"] {
            assert_eq!(queue_length(&border.proxy, queue).await, 0, "{queue}");
        }
        // As many as there is time for: the last one but the burst waits for 23 s.
        for _ in 0..28 {
            alice.send(&alice.message(&uri("alice"), "sip:bob@b.test", "x")).await;
        }
        for user in ["bob", "carol"] {
            alice.send(&alice.message(&uri("alice"), &format!("sip:{user}@c.test"), "x")).await;
        }
        while !(1..=23).contains(&queue_length(&border.proxy, "peer_requests").await) {}
        while queue_length(&border.proxy, "look_up_requests").await != 2 {}
        assert_eq!(queue_length(&border.proxy, "look_up_questions").await, 1);
        assert!(queue_length(&border.proxy, "look_ups").await >= 1);
    });
}

#[test]
fn allowed_domains_are_sent_everything_at_once() {
    run(LIMIT, async {
        let keys = [
            ("federation", "allowed_domains", "[\"b.test\"]"),
            ("open_federation", "messages_per_second", "1"),
        ];
        let border = Border::open(&keys).await;
        let mut alice = border.uc_server("alice").await;
        let port = border.peer("b.test", loopback()).await;
        for _ in 0..40 {
            alice.send(&alice.message(&uri("alice"), "sip:bob@b.test", "hello")).await;
        }
        let mut peer = port.accept().await;
        let begun = Instant::now();
        for _ in 0..40 {
            let message = peer.receive_request("MESSAGE").await;
            peer.answer(&message, 200).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "at one a second it were 35 s");
    });
}

#[test]
fn more_than_can_leave_in_time_is_refused_and_told() {
    run(LIMIT, async {
        let border = Border::open(&[("open_federation", "messages_per_second", "1")]).await;
        let mut alice = border.uc_server("alice").await;
        let _port = border.peer("b.test", loopback()).await;
        for _ in 0..40 {
            alice.send(&alice.message(&uri("alice"), "sip:bob@b.test", "hello")).await;
        }
        let refused = final_response(&mut alice).await;
        assert_eq!(refused.status(), 503, "{refused}");
        assert!(refused.need("Warning").starts_with("399 "), "{refused}");
        border.proxy.logs(&["peer_queue_full", "b.test"]).await;
    });
}

#[test]
fn a_discovered_peer_that_sends_too_much_is_watched() {
    run(LIMIT, async {
        let border = Border::open(&[("federation_guard", "requests", "10")]).await;
        let mut bob = border.uc_server("bob").await;
        let config = border.authority.client_config(Some(&border.authority.client("b.test")));
        let mut peer = Agent::tls(loopback(), border.outside, config).await;
        for _ in 0..11 {
            let message = peer.message("sip:pat@b.test", &uri("bob"), "hello");
            relay(&message, &mut peer, &mut bob, 200).await;
        }
        let log = border.proxy.logs(&["peer_watched", "b.test"]).await;
        assert!(log.contains("too many requests") && log.contains("requests=11"), "{log}");
        let refused = peer.exchange(&peer.message("sip:pat@b.test", &uri("bob"), "hello")).await;
        assert_eq!(refused.status(), 503, "{refused}");
        // Once a second it is let in.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        relay(&peer.message("sip:pat@b.test", &uri("bob"), "hello"), &mut peer, &mut bob, 200).await;
    });
}
