//! Other domains: the way out by look-ups and routes, and who may come in (product rules; RFC 3263, RFC 5922, RFC 3325).

use std::net::SocketAddr;
use std::sync::Arc;

use super::bench::{Bench, binding};
use super::network::Peer;
use super::text::{Dialog, answer, answer_with, request, value, values, with};
use crate::protocol::federation::{Federation, Route, RouteId};
use crate::protocol::flow::Transport;
use crate::protocol::identity::{PeerNames, PeerProof, Vouchers};
use crate::protocol::next_hop::{Query, Server, Unresolved};

const B: &str = "sip:bob@b.test";

/// Open federation, and a static route to each of `c.test` (trusted, TCP) and `m.test` (MTLS).
fn bench() -> (Bench, Peer) {
    let route = |id, domain: &str, transport, is_mutual, host: Option<&str>| {
        Arc::new(Route {
            id: RouteId(id),
            domain: Arc::from(domain),
            host: host.map(Arc::from),
            address: host.is_none().then(|| "127.0.0.9".parse().unwrap()),
            port: 5099,
            transport,
            is_mutual,
            is_trusted: true,
            bind_address: None,
        })
    };
    let mut bench = Bench::with(|settings| {
        settings.federation = Federation {
            is_open: true,
            blocked: vec!["bad.test".to_owned()],
            routes: vec![
                route(0, "c.test", Transport::Tcp, false, None),
                route(1, "m.test", Transport::Tls, true, Some("sip.m.test")),
            ],
            ..Federation::default()
        };
    });
    let ucs = Peer::tcp(5070);
    bench.log_on_all(&[ucs]);
    (bench, ucs)
}

fn server(host: &str, addresses: &[&str]) -> Server {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Server { transport: Transport::Tls, host: Arc::from(host), addresses }
}

/// A server outside, before there is a connection to it.
fn dialled(port: u16) -> Peer {
    let mut peer = Peer::outside(port);
    peer.0.connection = None;
    peer
}

fn proof(dns: &[&str]) -> Option<PeerProof> {
    let names =
        PeerNames { dns: dns.iter().map(|name| (*name).to_owned()).collect(), ..PeerNames::default() };
    Some(PeerProof { names, vouchers: Vouchers { is_common: true, ..Vouchers::default() }, account: None })
}

/// A request of somebody outside to alice.
fn from_outside(method: &str, peer: Peer, from: &str, call: &str) -> String {
    request(method, "sip:alice@a.test", peer, call)
        .replace("From: <sip:alice@a.test>", &format!("From: <{from}>"))
        .replace("To: <sip:bob@a.test>", "To: <sip:alice@a.test>")
}

#[test]
fn a_request_for_another_domain_goes_where_its_record_leads() {
    let (mut bench, ucs) = bench();
    bench.receive(ucs, &request("MESSAGE", B, ucs, "c"));
    assert_eq!(bench.question(), Some(&Query::Federation(Arc::from("b.test"))));
    bench.nothing_more();
    bench.resolve(Ok(vec![server("sip.b.test", &["127.0.0.9:5061"])]));
    let sent = bench.take_sent(dialled(5061)).remove(0);
    let expected = sent.beyond.as_ref().unwrap().expected.clone().unwrap();
    assert_eq!((&*expected.server_name, expected.domain.as_deref()), ("sip.b.test", Some("b.test")));
    assert!(
        sent.text().starts_with("MESSAGE sip:bob@b.test SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.8:5061;branch=")
    );
    bench.receive(Peer::outside(5061), &answer(&sent.text(), 200));
    bench.one(ucs, "200");
    assert_eq!(bench.health, [("127.0.0.9:5061".parse().unwrap(), true)]);
}

#[test]
fn the_next_server_is_tried_when_one_fails_or_is_overloaded() {
    let (mut bench, ucs) = bench();
    bench.cut_off(Transport::Tls, "127.0.0.9:5061".parse().unwrap());
    bench.receive(ucs, &request("MESSAGE", B, ucs, "c"));
    let servers = [5061, 5062, 5063, 5064].map(|port| server("sip.b.test", &[&format!("127.0.0.9:{port}")]));
    bench.resolve(Ok(servers.to_vec()));
    let overloaded = bench.one(dialled(5062), "MESSAGE");
    bench.receive(Peer::outside(5062), &answer(&overloaded, 503));
    // The third says nothing: the fourth has its turn before the sender gives up.
    bench.one(dialled(5063), "MESSAGE");
    bench.pass_millis(4_100);
    assert!(bench.take(dialled(5063)).is_empty(), "TLS repeats nothing");
    let last = bench.one(dialled(5064), "MESSAGE");
    bench.receive(Peer::outside(5064), &answer(&last, 404));
    assert_eq!(bench.kinds(ucs), ["100", "404"]);
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 9], port));
    assert_eq!(bench.health, [(at(5061), false), (at(5062), false), (at(5063), false), (at(5064), true)]);
}

#[test]
fn a_sips_uri_leaves_by_tls_alone() {
    let (mut bench, ucs) = bench();
    bench.receive(ucs, &request("MESSAGE", "sips:bob@c.test", ucs, "c"));
    assert!(bench.one(ucs, "480").starts_with("SIP/2.0 480 No Secure Way\r\n"));
    bench.nothing_more();
    for (call, domain) in [("m", "m.test"), ("b", "b.test")] {
        bench.receive(ucs, &request("MESSAGE", &format!("sips:bob@{domain}"), ucs, call));
        assert!(bench.question().is_some(), "{domain}");
        bench.resolve(Err(Unresolved::Timeout));
    }
}

#[test]
fn an_invite_does_not_wait_for_a_silent_server_while_there_are_others() {
    let (mut bench, ucs) = bench();
    bench.receive(ucs, &request("INVITE", B, ucs, "c"));
    bench.resolve(Ok(vec![server("x", &["127.0.0.9:5061"]), server("y", &["127.0.0.9:5062"])]));
    bench.one(dialled(5061), "INVITE");
    bench.pass_millis(8_100);
    bench.one(ucs, "100");
    let second = bench.one(dialled(5062), "INVITE");
    bench.receive(Peer::outside(5062), &answer(&second, 180));
    bench.one(ucs, "180");
    // One that has answered may take its time.
    bench.pass_millis(60_000);
    bench.receive(Peer::outside(5062), &answer(&second, 486));
    bench.one(dialled(5062), "ACK");
    let busy = bench.one(ucs, "486");
    bench.receive(
        ucs,
        &super::text::for_invite(&request("INVITE", B, ucs, "c"), "ACK", Some(value(&busy, "To"))),
    );
}

#[test]
fn what_the_name_servers_say_becomes_the_answer() {
    let table = [
        (Unresolved::NoSuchName, "404"),
        (Unresolved::NoRecord, "404"),
        (Unresolved::NoService, "404"),
        (Unresolved::NoAddress, "502"),
        (Unresolved::Ourselves, "482"),
        (Unresolved::Timeout, "504"),
        (Unresolved::ServerFailure, "502"),
    ];
    for (cause, status) in table {
        let (mut bench, ucs) = bench();
        bench.receive(ucs, &request("MESSAGE", B, ucs, "c"));
        bench.resolve(Err(cause));
        assert!(value(&bench.one(ucs, status), "Warning").starts_with("399 "), "{cause:?}");
    }
    // And if they say nothing at all, somebody must.
    let (mut bench, ucs) = bench();
    bench.receive(ucs, &request("MESSAGE", B, ucs, "c"));
    bench.pass_millis(4_600);
    assert_eq!(bench.kinds(ucs), ["100", "504"]);
    bench.resolve(Ok(vec![server("late", &["127.0.0.9:5061"])]));
    bench.nothing_more();
}

#[test]
fn nobody_reachable_is_504_and_policy_is_told() {
    let (mut bench, ucs) = bench();
    bench.cut_off(Transport::Tls, "127.0.0.9:5061".parse().unwrap());
    bench.receive(ucs, &request("MESSAGE", B, ucs, "c"));
    bench.resolve(Ok(vec![server("sip.b.test", &["127.0.0.9:5061"])]));
    bench.one(ucs, "504");
    bench.receive(ucs, &request("MESSAGE", "sip:x@bad.test", ucs, "d"));
    assert!(value(&bench.one(ucs, "403"), "Warning").contains("blocked"));
}

#[test]
fn a_static_route_needs_no_record() {
    let (mut bench, ucs) = bench();
    bench.receive(ucs, &request("MESSAGE", "sip:x@c.test", ucs, "c"));
    assert_eq!(bench.question(), None);
    // No interface outside speaks TCP, and one of the LAN does.
    let mut peer = Peer::at(Transport::Tcp, "127.0.0.9:5099".parse().unwrap());
    let sent = bench.one(peer, "MESSAGE");
    peer.0.connection = Some(crate::protocol::flow::ConnectionId(5099));
    bench.receive(peer, &answer(&sent, 200));
    bench.one(ucs, "200");
    bench.receive(ucs, &request("MESSAGE", "sip:x@m.test", ucs, "d"));
    let query = Query::Server {
        host: Arc::from("sip.m.test"),
        port: Some(5099),
        transport: Some(Transport::Tls),
        is_secure: false,
    };
    assert_eq!(bench.question(), Some(&query));
    bench.resolve(Err(Unresolved::NoSuchName));
    bench.one(ucs, "404");
}

#[test]
fn what_is_said_to_a_sips_uri_goes_by_tls_or_not_at_all() {
    let (mut bench, ucs) = bench();
    // By an unprotected route, and beside a Route to a UDP port of the LAN.
    let direct = "Route: <sip:127.0.0.1:6000;lr>";
    for (number, (uri, rows)) in
        [("sips:x@c.test", "X: y"), ("sips:bob@b.test", direct)].into_iter().enumerate()
    {
        bench.receive(ucs, &with(&request("INVITE", uri, ucs, &number.to_string()), rows));
        assert!(value(&bench.one(ucs, "480"), "Warning").contains("TLS"), "{uri}");
        bench.nothing_more();
    }
    bench.receive(ucs, &request("MESSAGE", "sips:x@m.test", ucs, "c"));
    bench.resolve(Ok(vec![server("sip.m.test", &["127.0.0.9:5061"])]));
    let sent = bench.one(dialled(5061), "MESSAGE");
    bench.receive(Peer::outside(5061), &answer(&sent, 200));
    bench.one(ucs, "200");
}

#[test]
fn a_certificate_proves_from_at_once_or_by_the_record_or_not() {
    // The names, From, the hosts of the record if that is asked for, what comes of it.
    type Row<'a> = (&'a [&'a str], &'a str, Option<&'a [&'a str]>, &'a str);
    let table: [Row<'_>; 8] = [
        (&["b.test"], "sip:bob@b.test", None, "passes"),
        (&["sip.b.test"], "sip:bob@B.test", Some(&["sip.b.test"]), "passes"),
        (&["sip.b.test"], "sip:bob@b.test", Some(&["other.b.test"]), "403"),
        (&["x.sip.b.test"], "sip:bob@b.test", None, "403"),
        (&["d.test"], "sip:bob@b.test", None, "403"),
        (&["bad.test"], "sip:bob@bad.test", None, "403"),
        (&["a.test"], "sip:carol@a.test", None, "403"),
        (&["sip.m.test"], "sip:carol@a.test", None, "passes"),
    ];
    for (names, from, hosts, outcome) in table {
        let (mut bench, ucs) = bench();
        let peer = Peer::outside(7000);
        bench.receive_proven(peer, proof(names), from_outside("MESSAGE", peer, from, "c").as_bytes());
        if let Some(hosts) = hosts {
            assert!(matches!(bench.question(), Some(Query::Names(_))), "{names:?}");
            bench.resolve(Ok(hosts.iter().map(|host| server(host, &[])).collect()));
        }
        assert_eq!(bench.question(), None, "{names:?}");
        if outcome == "passes" {
            let asked = bench.one(ucs, "MESSAGE");
            bench.receive(ucs, &answer(&asked, 200));
            bench.one(peer, "200");
        } else {
            bench.one(peer, outcome);
            let refused = bench.refused_peers();
            assert_eq!(refused.len(), 1, "{names:?}");
            assert_eq!(refused[0].1, names.join(","));
        }
    }
}

#[test]
fn credentials_of_another_realm_leave_it_to_the_certificate() {
    let credentials = |realm| {
        format!(
            "Proxy-Authorization: Digest username=\"bob\", realm=\"{realm}\", nonce=\"n\", uri=\"sip:alice@a.test\", \
             response=\"0123456789abcdef0123456789abcdef\""
        )
    };
    let (mut bench, ucs) = bench();
    let peer = Peer::outside(7000);
    let text = from_outside("MESSAGE", peer, B, "c");
    bench.receive_proven(peer, proof(&["b.test"]), with(&text, &credentials("b.test")).as_bytes());
    let asked = bench.one(ucs, "MESSAGE");
    bench.receive(ucs, &answer(&asked, 200));
    bench.one(peer, "200");
    let text = from_outside("MESSAGE", peer, B, "d");
    bench.receive_proven(peer, proof(&["b.test"]), with(&text, &credentials("a.test")).as_bytes());
    bench.one(peer, "407");
    bench.nothing_more();
}

#[test]
fn a_domain_is_looked_up_once_for_a_connection() {
    let (mut bench, ucs) = bench();
    let peer = Peer::outside(7000);
    for (call, asks) in [("1", true), ("2", false), ("3", true)] {
        let text = from_outside("MESSAGE", peer, B, call);
        bench.receive_proven(peer, proof(&["sip.b.test"]), text.as_bytes());
        assert_eq!(bench.question().is_some(), asks, "{call}");
        if asks {
            bench.resolve(Ok(vec![server("sip.b.test", &[])]));
        }
        let asked = bench.one(ucs, "MESSAGE");
        bench.receive(ucs, &answer(&asked, 200));
        bench.one(peer, "200");
        if call == "2" {
            bench.close(peer);
        }
    }
}

#[test]
fn who_shares_the_address_of_a_trusted_route_on_the_lan_is_what_it_says_by_from() {
    let (mut bench, ucs) = bench();
    let peer = Peer::at(Transport::Tcp, "127.0.0.9:40000".parse().unwrap());
    // Of the route's domain: it comes by the route. Of ours: it has to log on as a UC server does.
    for (from, is_route) in [("sip:x@c.test", true), ("sip:carol@a.test", false), ("sip:x@d.test", false)] {
        bench.receive(peer, &from_outside("MESSAGE", peer, from, from));
        if is_route {
            let asked = bench.one(ucs, "MESSAGE");
            bench.receive(ucs, &answer(&asked, 200));
            bench.one(peer, "200");
        } else {
            bench.one(peer, "407");
        }
    }
}

#[test]
fn nothing_is_relayed_from_outside_to_outside() {
    let (mut bench, _) = bench();
    let peer = Peer::outside(7000);
    for uri in ["sip:x@d.test", "sip:x@c.test", "sip:x@127.0.0.1:5070"] {
        let text = from_outside("MESSAGE", peer, B, "c").replacen("sip:alice@a.test", uri, 1);
        bench.receive_proven(peer, proof(&["b.test"]), text.as_bytes());
        bench.one(peer, "403");
        bench.nothing_more();
    }
}

#[test]
fn who_shows_no_certificate_has_to_log_on() {
    let (mut bench, _) = bench();
    let peer = Peer::outside(7000);
    bench.receive(peer, &from_outside("MESSAGE", peer, B, "c"));
    bench.one(peer, "407");
    // Nor does the To tag of a dialog help.
    let text =
        from_outside("INFO", peer, B, "d").replace("To: <sip:alice@a.test>", "To: <sip:alice@a.test>;tag=x");
    bench.receive(peer, &text);
    bench.one(peer, "407");
    bench.receive_proven(peer, proof(&["d.test"]), text.as_bytes());
    bench.one(peer, "403");
}

#[test]
fn identities_of_who_is_not_trusted_do_not_pass() {
    let (mut bench, ucs) = bench();
    let asserted = "P-Asserted-Identity: <sip:ceo@a.test>\r\nP-Preferred-Identity: <sip:x@b.test>\r\n\
                    ms-edge-proxy-message-trust: ms-source-type=AuthorizedServer";
    let rows = |text: &str| {
        ["P-Asserted-Identity", "P-Preferred-Identity", "ms-edge-proxy-message-trust"]
            .map(|name| values(text, name).len())
    };
    // From outside: of a stranger nothing, of a trusted route what it asserts.
    for (names, from, expected) in
        [("b.test", "sip:bob@b.test", [0, 0, 0]), ("sip.m.test", "sip:bob@m.test", [1, 0, 0])]
    {
        let peer = Peer::outside(7000);
        let text = with(&from_outside("MESSAGE", peer, from, names), asserted);
        bench.receive_proven(peer, proof(&[names]), text.as_bytes());
        let asked = bench.one(ucs, "MESSAGE");
        assert_eq!(rows(&asked), expected, "{names}");
        // What is private does not leave in the answer either, but to a trusted route.
        bench.receive(ucs, &answer_with(&asked, 200, "t", &format!("{asserted}\r\nPrivacy: id\r\n")));
        assert_eq!(rows(&bench.one(peer, "200")), expected, "{names}");
    }
    // To the outside: what is to be private stays here, unless the route is trusted.
    let table = [
        ("", B, [1, 0, 0]),
        ("\r\nPrivacy: none", B, [1, 0, 0]),
        ("\r\nPrivacy: header;id", B, [0, 0, 0]),
        ("\r\nPrivacy: id", "sip:x@m.test", [1, 0, 0]),
    ];
    for (n, (privacy, uri, expected)) in table.into_iter().enumerate() {
        let text = with(&request("MESSAGE", uri, ucs, &n.to_string()), &format!("{asserted}{privacy}"));
        bench.receive(ucs, &text);
        bench.resolve(Ok(vec![server("sip.m.test", &["127.0.0.9:5061"])]));
        let sent = bench.one(dialled(5061), "MESSAGE");
        assert_eq!(rows(&sent), expected, "{privacy}");
        let ok = answer_with(&sent, 200, "t", "P-Asserted-Identity: <sip:x@b.test>\r\n");
        bench.receive(Peer::outside(5061), &ok);
        let believed = usize::from(uri != B);
        assert_eq!(values(&bench.one(ucs, "200"), "P-Asserted-Identity").len(), believed);
    }
}

#[test]
fn a_dialog_with_the_outside_goes_on_by_its_connection_and_else_by_its_domain() {
    let (mut bench, ucs) = bench();
    bench.receive(
        ucs,
        &request("INVITE", B, ucs, "c").replace("To: <sip:bob@a.test>", "To: <sip:bob@b.test>"),
    );
    let servers =
        || Ok(vec![server("one.b.test", &["127.0.0.9:5061"]), server("sip.b.test", &["127.0.0.9:5062"])]);
    bench.cut_off(Transport::Tls, "127.0.0.9:5061".parse().unwrap());
    bench.resolve(servers());
    let invite = bench.one(dialled(5062), "INVITE");
    assert_eq!(values(&invite, "Record-Route").len(), 2);
    let contact = "Contact: <sip:bob@192.0.2.77:5061;transport=tls>\r\n";
    bench.receive(Peer::outside(5062), &answer_with(&invite, 200, "bob", contact));
    let ok = bench.one(ucs, "200");
    let caller = Dialog::of_caller(ucs, &ok);
    bench.receive(ucs, &caller.request("ACK", 1));
    bench.resolve(servers());
    bench.one(dialled(5062), "ACK");
    bench.receive(ucs, &caller.request("BYE", 2));
    assert_eq!(bench.question(), Some(&Query::Federation(Arc::from("b.test"))));
    bench.resolve(servers());
    // The server of the dialog comes first, though another is named first.
    let bye = bench.one(dialled(5062), "BYE");
    bench.receive(Peer::outside(5062), &answer(&bye, 200));
    bench.one(ucs, "200");
}

#[test]
fn a_call_from_outside_is_answered_over_its_connection_and_after_that_by_its_domain() {
    let (mut bench, ucs) = bench();
    let peer = Peer::outside(7000);
    bench.bind_target("alice", binding("alice", ucs));
    bench.receive_proven(peer, proof(&["b.test"]), from_outside("INVITE", peer, B, "c").as_bytes());
    let invite = bench.one(ucs, "INVITE");
    let contact = format!("Contact: <{}>\r\n", ucs.contact("alice"));
    bench.receive(ucs, &answer_with(&invite, 200, "alice", &contact));
    let ok = bench.one(peer, "200");
    let (caller, callee) = (Dialog::of_caller(peer, &ok), Dialog::of_callee(ucs, &invite, "alice"));
    bench.receive_proven(peer, proof(&["b.test"]), caller.request("ACK", 1).as_bytes());
    bench.one(ucs, "ACK");
    bench.receive(ucs, &callee.request("INFO", 1));
    let info = bench.one(peer, "INFO");
    bench.receive(peer, &answer(&info, 200));
    bench.one(ucs, "200");
    bench.close(peer);
    bench.cut_off(Transport::Tls, peer.0.remote);
    bench.receive(ucs, &callee.request("BYE", 2));
    assert_eq!(bench.question(), Some(&Query::Federation(Arc::from("b.test"))));
    bench.resolve(Ok(vec![server("sip.b.test", &["127.0.0.9:5061"])]));
    let bye = bench.one(dialled(5061), "BYE");
    bench.receive(Peer::outside(5061), &answer(&bye, 200));
    bench.one(ucs, "200");
}

#[test]
fn a_probe_is_an_options_whose_answer_says_how_the_route_does() {
    let table = [("200", true), ("404", true), ("503", false)];
    let access = Peer::at(Transport::Tcp, "127.0.0.9:5099".parse().unwrap());
    for (status, is_well) in table {
        let (mut bench, _) = bench();
        bench.probe(RouteId(0));
        let probe = bench.one(access, "OPTIONS");
        assert!(probe.starts_with("OPTIONS sip:c.test SIP/2.0\r\n"), "{probe}");
        assert_eq!(values(&probe, "Via").len(), 1);
        assert!(value(&probe, "From").starts_with("<sip:a.test>;tag="), "{probe}");
        assert!(values(&probe, "Record-Route").is_empty());
        assert_eq!(bench.proxy.unanswered(), 0, "nobody waits for it");
        bench.receive(access, &answer(&probe, status.parse().unwrap()));
        assert_eq!(bench.health, [(access.0.remote, is_well)], "{status}");
        bench.nothing_more();
        assert_eq!(bench.proxy.load().contexts, 0);
    }
}

#[test]
fn a_probe_that_nobody_answers_or_that_leads_nowhere_ends_by_itself() {
    let access: SocketAddr = "127.0.0.9:5099".parse().unwrap();
    let (mut silent, _) = bench();
    silent.probe(RouteId(0));
    silent.take(Peer::at(Transport::Tcp, access));
    silent.pass_millis(33_000);
    assert_eq!(silent.health, [(access, false)]);
    let (mut cut_off, _) = bench();
    cut_off.cut_off(Transport::Tcp, access);
    cut_off.probe(RouteId(0));
    assert_eq!(cut_off.health, [(access, false)]);
    // By name, and the name leads nowhere.
    let (mut unresolved, _) = bench();
    unresolved.probe(RouteId(1));
    assert!(matches!(unresolved.question(), Some(Query::Server { .. })));
    unresolved.resolve(Err(Unresolved::NoAddress));
    unresolved.nothing_more();
    assert_eq!(unresolved.proxy.load().contexts, 0);
    // No such route, and a process that is about to end.
    unresolved.probe(RouteId(7));
    unresolved.say_farewell(32);
    unresolved.probe(RouteId(0));
    unresolved.nothing_more();
}
