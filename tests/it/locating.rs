//! Where requests for other domains go: what DNS is asked, in which order servers are tried, and what becomes of those
//! that fail (RFC 3263, RFC 2782, RFC 8305).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::common::agent::Agent;
use crate::common::dns::Mood;
use crate::common::port::Port;
use crate::common::proxy::Protocol;
use crate::common::scratch::{free_port, loopback};
use crate::common::sip::Sip;
use crate::common::{eventually, run};
use crate::organisations::{Abroad, answer_all, delivered, message_to, nobody_connects, static_route};
use crate::support::{
    LIMIT, SILENCE, Wire, cancellation, final_response, open_house, open_house_with_t1, relay, uri,
};

#[test]
fn numbers_are_not_looked_up_a_port_asks_for_addresses_alone_and_a_domain_for_its_record() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let (numeric, named) = (Port::tcp(loopback()).await, Port::tcp(loopback()).await);
        let discovered = abroad.published("b.test").await;
        abroad.names.add(&format!("gate.d.test 60 A {}", named.local().ip()));
        let (number, name) = (numeric.local(), named.local());
        let routes = static_route("c.test", &number.ip().to_string(), number.port(), "tcp")
            + &static_route("d.test", "gate.d.test", name.port(), "tcp");
        let home = abroad.home(open_house().text(&routes)).await;
        let mut uc = home.server().await;
        for (domain, port) in [("c.test", &numeric), ("d.test", &named), ("b.test", &discovered)] {
            let request = message_to(&uc, domain);
            delivered(&mut uc, &request, port).await;
        }
        let mut neighbour = Agent::udp(loopback(), home.proxy.at(Protocol::Udp)).await;
        let request = uc.message(&uri("alice"), &format!("sip:bob@{}", neighbour.local()), "hello");
        relay(&request, &mut uc, &mut neighbour, 200).await;
        let mut asked: Vec<_> =
            abroad.names.asked().into_iter().map(|asked| (asked.name, asked.kind)).collect();
        asked.sort();
        asked.dedup();
        let expected = [
            ("_sipfederationtls._tcp.b.test", "SRV"),
            ("gate.d.test", "A"),
            ("gate.d.test", "AAAA"),
            ("sip.b.test", "A"),
            ("sip.b.test", "AAAA"),
        ];
        assert_eq!(asked, expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
    });
}

/// How many new domains choose between servers: one certificate names them all.
const DOMAINS: usize = 250;

#[test]
fn servers_are_chosen_by_priority_and_then_at_random_by_weight() {
    run(LIMIT * 4, async {
        let abroad = Abroad::new().await;
        let domains: Vec<_> = (0..DOMAINS).map(|number| format!("d{number}.test")).collect();
        let names: Vec<_> = domains.iter().map(String::as_str).collect();
        // Name, priority, weight; one connection serves all domains, whose names the certificate has.
        let servers =
            [("heavy.test", 10, 30), ("light.test", 10, 10), ("none.test", 10, 0), ("last.test", 20, 60)];
        let mut counts = Vec::new();
        let mut records = String::new();
        for (host, priority, weight) in servers {
            let (port, count) = (abroad.server(&names).await, Arc::new(AtomicUsize::new(0)));
            records += &format!("{host} 600 A {}\n", port.local().ip());
            for domain in &domains {
                let at = port.local().port();
                records +=
                    &format!("_sipfederationtls._tcp.{domain} 600 SRV {priority} {weight} {at} {host}\n");
            }
            counts.push(Arc::clone(&count));
            tokio::spawn(answer_all(port, move |_| _ = count.fetch_add(1, Ordering::Relaxed)));
        }
        abroad.names.add(&records);
        let home = abroad.home(open_house()).await;
        let mut uc = home.server().await;
        for domain in &domains {
            let request = message_to(&uc, domain);
            assert_eq!(uc.exchange(&request).await.status(), 200, "{domain}");
        }
        let counts: Vec<_> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!(counts.iter().sum::<usize>(), DOMAINS, "{counts:?}");
        assert_eq!(counts[3], 0, "the lower priority is not needed");
        // A number from 0 to 40 chooses; 0 means the one without weight (RFC 2782, "Weight").
        let shares = [30.0, 10.0, 1.0].map(|share| share / 41.0 * DOMAINS as f64);
        let chi_square: f64 =
            counts.iter().zip(shares).map(|(count, share)| (*count as f64 - share).powi(2) / share).sum();
        // Two degrees of freedom: more is one chance in a million.
        assert!(chi_square < 27.6, "{counts:?} for {shares:?}: {chi_square}");
    });
}

/// A port where nobody listens.
fn nobody() -> SocketAddr {
    let ip = loopback();
    SocketAddr::new(ip, free_port(ip))
}

#[test]
fn the_next_server_is_tried_after_a_refusal_after_silence_and_after_503() {
    run(LIMIT * 2, async {
        let abroad = Abroad::new().await;
        let home = abroad.home(open_house_with_t1(200)).await;
        for method in ["MESSAGE", "INVITE"] {
            let domain = format!("{}.test", method.to_ascii_lowercase());
            let hosts: Vec<_> = (0..4).map(|number| format!("s{number}.{domain}")).collect();
            let [silent, overloaded, well] = [
                abroad.server(&[&hosts[1]]).await,
                abroad.server(&[&hosts[2]]).await,
                abroad.server(&[&hosts[3]]).await,
            ];
            let addresses = [nobody(), silent.local(), overloaded.local(), well.local()];
            for (priority, (host, address)) in (1..).zip(hosts.iter().zip(addresses)) {
                abroad.publish(&domain, priority, host, address);
            }
            let mut uc = home.server().await;
            let callee = format!("sip:bob@{domain}");
            let request = uc.request(method, &callee, &uri("alice"), &callee);
            uc.send(&request).await;
            let mut first = silent.accept().await;
            first.receive_request(method).await;
            let mut second = overloaded.accept().await;
            let asked = second.receive_request(method).await;
            second.answer(&asked, 503).await;
            if method == "INVITE" {
                second.receive_request("ACK").await;
            }
            let mut third = well.accept().await;
            let asked = third.receive_request(method).await;
            third.answer(&asked, 200).await;
            let answer = final_response(&mut uc).await;
            assert_eq!(answer.status(), 200, "{answer}");
            let record = format!("_sipfederationtls._tcp.{domain}");
            assert_eq!(abroad.names.count(&record, "SRV"), 1, "the order is kept");
        }
    });
}

#[test]
fn the_next_address_of_a_server_is_tried_where_one_refuses() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let port = abroad.published("b.test").await;
        let dead = loopback();
        abroad.names.replace(&format!("sip.b.test 60 A {dead}"));
        abroad.names.add(&format!("sip.b.test 60 A {}", port.local().ip()));
        let home = abroad.home(open_house()).await;
        let mut uc = home.server().await;
        let request = message_to(&uc, "b.test");
        delivered(&mut uc, &request, &port).await;
    });
}

#[test]
fn cancel_and_ack_go_where_their_invite_went_whatever_dns_says_since() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let (one, other) = (abroad.server(&["sip.b.test"]).await, abroad.server(&["other.b.test"]).await);
        abroad.names.add(&format!(
            "_sipfederationtls._tcp.b.test 0 SRV 10 1 {} sip.b.test\nsip.b.test 0 A {}\nother.b.test 0 A {}",
            one.local().port(),
            one.local().ip(),
            other.local().ip(),
        ));
        let home = abroad.home(open_house()).await;
        let mut uc = home.server().await;
        let invite = uc.request("INVITE", "sip:bob@b.test", &uri("alice"), "sip:bob@b.test");
        uc.send(&invite).await;
        let mut peer = one.accept().await;
        let arrived = peer.receive_request("INVITE").await;
        let moved = format!("_sipfederationtls._tcp.b.test 0 SRV 10 1 {} other.b.test", other.local().port());
        abroad.names.replace(&moved);
        peer.answer(&arrived, 180).await;
        uc.receive_response(180).await;
        uc.send(&cancellation(&invite)).await;
        let cancel = peer.receive_request("CANCEL").await;
        assert_eq!(cancel.need("Via"), arrived.all("Via")[0]);
        peer.answer(&cancel, 200).await;
        peer.answer(&arrived, 487).await;
        let ack = peer.receive_request("ACK").await;
        assert_eq!(ack.need("Via"), arrived.all("Via")[0]);
        nobody_connects(&other).await;
    });
}

#[test]
fn what_is_repeated_by_udp_goes_where_it_went_before_whatever_dns_says_since() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let (first, second) = (loopback(), loopback());
        let port = free_port(first);
        let bind = |ip: IpAddr| async move { UdpSocket::bind((ip, port)).await.expect("a free port") };
        let (one, other) = (bind(first).await, bind(second).await);
        abroad.names.add(&format!("gate.d.test 0 A {first}"));
        let route = static_route("d.test", "gate.d.test", port, "udp");
        let home = abroad.home(open_house_with_t1(100).text(&route)).await;
        let mut uc = home.server().await;
        let invite = uc.request("INVITE", "sip:bob@d.test", &uri("alice"), "sip:bob@d.test");
        uc.send(&invite).await;
        let mut datagram = vec![0; 65_535];
        let (length, proxy) = one.recv_from(&mut datagram).await.expect("a datagram");
        let arrived = datagram[..length].to_vec();
        abroad.names.replace(&format!("gate.d.test 0 A {second}"));
        let mut peer = Wire::Datagrams { socket: one, peer: proxy };
        for _ in 0..2 {
            assert_eq!(peer.receive().await, arrived, "the same again");
        }
        let request = Sip::parse(&arrived).expect("a request");
        peer.send(&Sip::response(&request, 486, "Busy Here", "t").to_bytes()).await;
        loop {
            let message = Sip::parse(&peer.receive().await).expect("a request");
            // It may have been repeated meanwhile.
            if message.method() == "ACK" {
                break;
            }
        }
        assert_eq!(final_response(&mut uc).await.status(), 486);
        assert!(other.try_recv_from(&mut datagram).is_err(), "nothing goes to the new address");
    });
}

#[test]
fn sips_reaches_other_domains_by_tls_alone() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let (plain, secure) = (Port::tcp(loopback()).await, abroad.published("b.test").await);
        abroad.names.add(
            "b.test 60 NAPTR 10 10 \"s\" \"SIP+D2U\" \"\" _sip._udp.b.test\n\
             b.test 60 NAPTR 20 10 \"s\" \"SIP+D2T\" \"\" _sip._tcp.b.test",
        );
        let at = plain.local();
        abroad.names.add(&format!("_sip._tcp.b.test 60 SRV 1 1 {} plain.b.test", at.port()));
        let route = static_route("d.test", &at.ip().to_string(), at.port(), "tcp");
        let home = abroad.home(open_house().text(&route)).await;
        let mut uc = home.server().await;
        let secret = |uc: &Agent, domain: &str| {
            let callee = format!("sips:bob@{domain}");
            uc.message("sips:alice@example.org", &callee, "a secret")
        };
        let request = secret(&uc, "b.test");
        let (arrived, _) = delivered(&mut uc, &request, &secure).await;
        assert_eq!(arrived.uri(), "sips:bob@b.test");
        assert!(arrived.need("Via").starts_with("SIP/2.0/TLS "), "{arrived}");
        // A static route in the clear is none for it.
        let request = secret(&uc, "d.test");
        let refused = uc.exchange(&request).await;
        assert_eq!(refused.start_line, "SIP/2.0 480 No Secure Way");
        nobody_connects(&plain).await;
        let request = message_to(&uc, "d.test");
        delivered(&mut uc, &request, &plain).await;
    });
}

#[test]
fn federation_asks_for_its_own_record_alone_and_honours_its_port() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let port = abroad.published("b.test").await;
        let others = [abroad.server(&["sip.b.test"]).await, abroad.server(&["sip.b.test"]).await];
        for (service, other) in ["_sip._tcp", "_sips._tcp"].iter().zip(&others) {
            let at = other.local();
            abroad.names.add(&format!(
                "{service}.b.test 60 SRV 1 1 {} o.b.test\no.b.test 60 A {}",
                at.port(),
                at.ip()
            ));
        }
        let home = abroad.home(open_house()).await;
        let mut uc = home.server().await;
        let request = message_to(&uc, "b.test");
        delivered(&mut uc, &request, &port).await;
        for other in &others {
            nobody_connects(other).await;
        }
        // Without that record a domain does not federate, whatever else it has.
        abroad.names.add("_sips._tcp.c.test 60 SRV 1 1 5061 sip.b.test");
        let request = message_to(&uc, "c.test");
        assert_eq!(uc.exchange(&request).await.start_line, "SIP/2.0 404 Domain Does Not Federate");
        let asked = abroad.names.asked();
        let services: Vec<_> =
            asked.iter().filter(|asked| asked.kind == "SRV").map(|asked| &*asked.name).collect();
        assert_eq!(services, ["_sipfederationtls._tcp.b.test", "_sipfederationtls._tcp.c.test"]);
    });
}

#[test]
fn a_domain_that_fails_disturbs_no_other_and_is_tried_again() {
    run(LIMIT * 2, async {
        let abroad = Abroad::new().await;
        let (b, c) = (abroad.published("b.test").await, abroad.published("c.test").await);
        abroad.names.set_negative_ttl(Some(1));
        let home = abroad.home(open_house_with_t1(100)).await;
        let mut uc = home.server().await;
        // Its server has gone, comes back, and is used again.
        let at = b.local();
        drop(b);
        let request = message_to(&uc, "b.test");
        let failed = uc.exchange(&request).await;
        assert_eq!(failed.start_line, "SIP/2.0 504 No Server Of The Domain Reachable");
        let request = message_to(&uc, "c.test");
        delivered(&mut uc, &request, &c).await;
        let back = Port::bind(at, abroad.tls(&["sip.b.test"])).await;
        let request = message_to(&uc, "b.test");
        delivered(&mut uc, &request, &back).await;
        // It is not in DNS, and is soon after.
        let request = message_to(&uc, "late.test");
        assert_eq!(uc.exchange(&request).await.status(), 404);
        let late = abroad.published("late.test").await;
        let begun = Instant::now();
        let mut peer = loop {
            let request = message_to(&uc, "late.test");
            uc.send(&request).await;
            tokio::select! {
                peer = late.accept() => break peer,
                refused = uc.receive_response(404) => drop(refused),
            }
            assert!(begun.elapsed() < LIMIT, "what DNS has not said once is not asked again");
            tokio::time::sleep(SILENCE).await;
        };
        peer.receive_request("MESSAGE").await;
    });
}

#[test]
fn a_name_server_that_is_slow_costs_its_own_domain_a_bounded_time() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let (slow, quick) = (abroad.published("slow.test").await, abroad.published("b.test").await);
        let record = "_sipfederationtls._tcp.slow.test";
        abroad.names.set_mood(record, Some(Mood::Late(Duration::from_secs(10))));
        let home = abroad.home(open_house().key("dns", "timeout", "\"2s\"")).await;
        let (mut waiting, mut uc) = (home.server().await, home.server().await);
        let request = message_to(&waiting, "slow.test");
        let begun = Instant::now();
        waiting.send(&request).await;
        eventually(LIMIT, "a question", || (abroad.names.count(record, "SRV") > 0).then_some(())).await;
        let request = message_to(&uc, "b.test");
        delivered(&mut uc, &request, &quick).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "others need not wait");
        let answer = final_response(&mut waiting).await;
        assert_eq!(answer.start_line, "SIP/2.0 504 Name Servers Did Not Answer");
        assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&begun.elapsed()));
        nobody_connects(&slow).await;
    });
}

#[test]
fn twenty_servers_in_an_answer_that_needs_tcp_are_all_tried() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let hosts: Vec<_> = (1..=20).map(|number| format!("s{number}.b.test")).collect();
        for (priority, host) in (1..).zip(&hosts[..19]) {
            abroad.publish("b.test", priority, host, nobody());
        }
        let last = abroad.server(&[&hosts[19]]).await;
        abroad.publish("b.test", 20, &hosts[19], last.local());
        let record = "_sipfederationtls._tcp.b.test";
        abroad.names.set_mood(record, Some(Mood::Truncates));
        let home = abroad.home(open_house()).await;
        let mut uc = home.server().await;
        let request = message_to(&uc, "b.test");
        delivered(&mut uc, &request, &last).await;
        let by_tcp = abroad.names.asked().iter().any(|asked| asked.name == record && asked.by_tcp);
        assert!(by_tcp, "the whole answer comes by TCP");
    });
}

#[test]
fn a_dead_ipv6_address_costs_a_quarter_of_a_second() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let port = abroad.published("b.test").await;
        let hole = black_hole(port.local().port());
        abroad.names.add("sip.b.test 60 AAAA ::1");
        let v6 = format!(
            "[{{ ip_address = \"::1\", port = {}, protocol = \"mtls\" }}]",
            free_port("::1".parse().expect("an address"))
        );
        let home = abroad.home(open_house().key("wan", "network_interface", &v6)).await;
        let mut uc = home.server().await;
        let request = message_to(&uc, "b.test");
        let begun = Instant::now();
        delivered(&mut uc, &request, &port).await;
        let taken = begun.elapsed();
        assert!((Duration::from_millis(250)..Duration::from_secs(5)).contains(&taken), "{taken:?}");
        drop(hole);
    });
}

/// A port of `::1` at which connections are neither taken nor refused: its queue is full.
fn black_hole(port: u16) -> Vec<Socket> {
    let socket = || Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
    let address = SocketAddr::new("::1".parse().expect("an address"), port).into();
    let listener = socket();
    listener.bind(&address).expect("a port that IPv4 has had for itself");
    listener.listen(0).expect("a bound socket listens");
    let waiting = (0..4).map(|_| {
        let socket = socket();
        socket.set_nonblocking(true).expect("a socket takes the option");
        let _ = socket.connect(&address);
        socket
    });
    waiting.chain([listener]).collect()
}

#[test]
fn a_response_whose_connection_has_ended_goes_to_the_host_that_via_names() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let home = abroad.home(open_house()).await;
        let answers = TcpListener::bind(SocketAddr::new(loopback(), 0)).await.expect("a port of loopback");
        let at = answers.local_addr().expect("it is bound");
        abroad.names.add(&format!(
            "_sip._tcp.name.b.test 60 SRV 1 1 {} p.b.test\np.b.test 60 A {}",
            at.port(),
            at.ip()
        ));
        let mut uc = home.server().await;
        // Nobody listens at the port of its own address.
        let mut asking = Agent::tcp(loopback(), home.proxy.at(Protocol::Udp)).await;
        let to = format!("sip:bob@{}", uc.local());
        let request = asking.message(&uri("alice"), &to, "hello");
        let via = format!("SIP/2.0/TCP name.b.test;branch=z9hG4bK-{}", at.port());
        asking.send(&request.set("Via", via)).await;
        let arrived = uc.receive_request("MESSAGE").await;
        asking.reset();
        home.proxy.logs(&["connection_ended"]).await;
        uc.answer(&arrived, 200).await;
        let (stream, _) = answers.accept().await.expect("a connection");
        let answer = Sip::parse(&Wire::over(stream).receive().await).expect("a response");
        assert_eq!(answer.status(), 200, "{answer}");
        assert_eq!(abroad.names.count("_sip._tcp.name.b.test", "SRV"), 1);
    });
}

#[test]
fn a_domain_whose_record_names_this_proxy_is_found_out_and_named() {
    run(LIMIT, async {
        let abroad = Abroad::new().await;
        let home = abroad.home(open_house()).await;
        abroad.publish("b.test", 10, "sip.b.test", home.border);
        let mut uc = home.server().await;
        let request = message_to(&uc, "b.test");
        assert_eq!(uc.exchange(&request).await.start_line, "SIP/2.0 482 Domain Leads Back Here");
        let line = home.proxy.logs(&["leads_to_ourselves", "b.test", &home.border.to_string()]).await;
        assert!(line.contains("remedy="), "{line}");
    });
}
