//! Other domains: the way out by look-ups and routes, and who may come in (product rules; RFC 3263, RFC 5922, RFC 3325).

mod dialogs;
mod identities;
mod inward;
mod outward;
mod probes;

use std::sync::Arc;

use super::bench::Bench;
use super::network::Peer;
use super::text::request;
use crate::protocol::federation::{Federation, Route, RouteId};
use crate::protocol::flow::Transport;
use crate::protocol::identity::{PeerNames, PeerProof, Vouchers};
use crate::protocol::next_hop::Server;

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
