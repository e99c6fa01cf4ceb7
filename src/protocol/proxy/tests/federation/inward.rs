//! Who may come in: what a certificate proves (RFC 5922), and who has to log on.

use super::super::network::Peer;
use super::super::text::{answer, with};
use super::{B, bench, from_outside, proof, server};
use crate::protocol::flow::Transport;
use crate::protocol::next_hop::Query;

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
