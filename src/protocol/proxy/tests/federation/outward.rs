//! The way out: by the record of the domain, or by a static route (RFC 3263).

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::network::Peer;
use super::super::text::{answer, for_invite, request, value, with};
use super::{B, bench, dialled, server};
use crate::protocol::flow::Transport;
use crate::protocol::next_hop::{Query, Unresolved};

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
    bench.receive(ucs, &for_invite(&request("INVITE", B, ucs, "c"), "ACK", Some(value(&busy, "To"))));
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
