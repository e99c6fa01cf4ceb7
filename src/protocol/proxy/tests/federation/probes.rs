//! Probes of static routes.

use std::net::SocketAddr;

use super::super::network::Peer;
use super::super::text::{answer, value, values};
use super::bench;
use crate::protocol::federation::RouteId;
use crate::protocol::flow::Transport;
use crate::protocol::next_hop::{Query, Unresolved};

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
