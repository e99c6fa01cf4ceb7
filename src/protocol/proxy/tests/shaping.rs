//! Discovered peers are sent so many requests in a second; the others wait, and none is lost before its sender gives up.

use std::sync::Arc;
use std::time::Duration;

use super::bench::Bench;
use super::network::Peer;
use super::text::{answer, for_invite, request, value};
use crate::protocol::federation::Federation;
use crate::protocol::federation::shaper::Shaper;
use crate::protocol::flow::Transport;
use crate::protocol::next_hop::Server;

const B: &str = "sip:bob@b.test";

/// Open federation at 20 requests per second, `good.test` an allowed domain.
fn bench() -> (Bench, Peer) {
    let mut bench = Bench::with(|settings| {
        settings.federation = Federation {
            is_open: true,
            allowed: vec!["good.test".to_owned()],
            shaper: Arc::new(Shaper::new(20)),
            ..Federation::default()
        };
    });
    let ucs = Peer::tcp(5070);
    bench.log_on_all(&[ucs]);
    (bench, ucs)
}

fn peer() -> Peer {
    let mut peer = Peer::outside(5061);
    peer.0.connection = None;
    peer
}

/// Resolves whatever is asked, and gives what has left for the peer since the last call.
fn departed(bench: &mut Bench) -> Vec<String> {
    let address = "127.0.0.9:5061".parse().unwrap();
    let server = Server {
        transport: Transport::Tls,
        host: Arc::from("sip.b.test"),
        addresses: [address].into_iter().collect(),
    };
    while bench.question().is_some() {
        bench.resolve(Ok(vec![server.clone()]));
    }
    bench.take(peer())
}

#[test]
fn five_hundred_at_once_leave_in_order_and_all_are_answered() {
    let (mut bench, ucs) = bench();
    for call in 0..500 {
        bench.receive(ucs, &request("SUBSCRIBE", B, ucs, &call.to_string()));
    }
    let mut left = 0;
    let mut answered = 0;
    for _ in 0..500 {
        let sent = departed(&mut bench);
        assert!(sent.len() <= if left == 0 { 5 } else { 2 }, "{} within 50 ms", sent.len());
        for text in sent {
            assert_eq!(value(&text, "Call-ID"), left.to_string(), "in order");
            left += 1;
            bench.receive(Peer::outside(5061), &answer(&text, 200));
        }
        answered += bench.kinds(ucs).iter().filter(|kind| *kind == "200").count();
        bench.pass_millis(50);
    }
    assert_eq!((left, answered), (500, 500));
}

#[test]
fn allowed_domains_do_not_wait() {
    let (mut bench, ucs) = bench();
    for call in 0..100 {
        bench.receive(ucs, &request("MESSAGE", "sip:x@good.test", ucs, &call.to_string()));
    }
    let sent = departed(&mut bench);
    assert_eq!(sent.len(), 100);
    sent.iter().for_each(|text| bench.receive(Peer::outside(5061), &answer(text, 200)));
    assert_eq!(bench.take(ucs).len(), 100);
}

#[test]
fn what_cannot_leave_in_time_is_refused_at_once() {
    let (mut bench, ucs) = bench();
    for call in 0..600 {
        bench.receive(ucs, &request("MESSAGE", B, ucs, &call.to_string()));
    }
    let refused = bench.take(ucs);
    assert_eq!(refused.len(), 600 - 565);
    assert!(refused.iter().all(|text| text.starts_with("SIP/2.0 503 ")));
    assert!(value(&refused[0], "Warning").starts_with("399 "));
    assert_eq!(bench.full_queues(), vec!["b.test"; 35]);
    for _ in 0..600 {
        departed(&mut bench).iter().for_each(|text| bench.receive(Peer::outside(5061), &answer(text, 200)));
        bench.pass_millis(50);
    }
    let answers = bench.kinds(ucs);
    assert_eq!(answers.iter().filter(|kind| *kind == "200").count(), 565);
}

#[test]
fn an_invite_that_is_cancelled_while_it_waits_never_leaves() {
    let (mut bench, ucs) = bench();
    for call in 0..5 {
        bench.receive(ucs, &request("MESSAGE", B, ucs, &call.to_string()));
    }
    let sent = departed(&mut bench);
    sent.iter().for_each(|text| bench.receive(Peer::outside(5061), &answer(text, 200)));
    bench.take(ucs);
    let invite = request("INVITE", B, ucs, "call");
    bench.receive(ucs, &invite);
    assert!(departed(&mut bench).is_empty());
    bench.receive(ucs, &for_invite(&invite, "CANCEL", None));
    let answers = bench.take(ucs);
    assert!(answers.last().unwrap().starts_with("SIP/2.0 487 "), "{answers:?}");
    bench.receive(ucs, &for_invite(&invite, "ACK", Some(value(answers.last().unwrap(), "To"))));
    bench.pass(Duration::from_secs(1));
    assert!(departed(&mut bench).is_empty());
}
