//! Discovered peers that do too much are let in once a second.

use std::sync::Arc;
use std::time::Duration;

use super::bench::Bench;
use super::network::Peer;
use super::text::{answer, request};
use crate::protocol::federation::Federation;
use crate::protocol::federation::guard::{Guard, GuardLimits};
use crate::protocol::identity::{PeerNames, PeerProof, Vouchers};
use crate::protocol::next_hop::Server;

/// Open federation, `good.test` an allowed domain; 30 requests, 10 users, and half of the answers in a minute.
fn bench() -> (Bench, Peer) {
    let window = Duration::from_secs(60);
    let mut bench = Bench::with(|settings| {
        settings.federation = Federation {
            is_open: true,
            allowed: vec!["good.test".to_owned()],
            guard: Arc::new(Guard::new(GuardLimits { window, requests: 30, users: 10, failures: 50 })),
            ..Federation::default()
        };
    });
    let ucs = Peer::tcp(5070);
    bench.log_on_all(&[ucs]);
    (bench, ucs)
}

/// Somebody of `domain`, with a certificate for `name`, asks for `user`; the status that comes back. `found` is what the
/// UC server says of the user.
fn ask(
    bench: &mut Bench,
    ucs: Peer,
    (domain, name): (&str, &str),
    user: &str,
    (call, found): (usize, u16),
) -> String {
    let peer = Peer::outside(7000);
    let names = PeerNames { dns: vec![name.to_owned()], ..PeerNames::default() };
    let vouchers = Vouchers { is_common: true, ..Vouchers::default() };
    let proof = PeerProof { names, vouchers, account: None };
    let text = request("MESSAGE", &format!("sip:{user}@a.test"), peer, &format!("{domain}-{call}"))
        .replace("From: <sip:alice@a.test>", &format!("From: <sip:bob@{domain}>"));
    bench.receive_proven(peer, Some(proof), text.as_bytes());
    if bench.question().is_some() {
        let host = Arc::from(name);
        bench.resolve(Ok(vec![Server {
            transport: ucs.0.transport,
            host,
            addresses: [].into_iter().collect(),
        }]));
    }
    for asked in bench.take(ucs) {
        bench.receive(ucs, &answer(&asked, found));
    }
    let mut kinds = bench.kinds(peer);
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    kinds.remove(0)
}

const B: (&str, &str) = ("b.test", "b.test");

#[test]
fn who_sends_too_much_is_watched_and_released_when_it_behaves() {
    let (mut bench, ucs) = bench();
    let statuses: Vec<_> = (0..40).map(|call| ask(&mut bench, ucs, B, "alice", (call, 200))).collect();
    assert!(statuses[..31].iter().all(|status| status == "200"), "{statuses:?}");
    assert!(statuses[31..].iter().all(|status| status == "503"), "{statuses:?}");
    assert_eq!(bench.watched(), [("b.test".to_owned(), Some("too many requests"))]);
    // Others are not touched.
    assert_eq!(ask(&mut bench, ucs, ("c.test", "c.test"), "alice", (0, 200)), "200");
    bench.pass_millis(1_000);
    assert_eq!(ask(&mut bench, ucs, B, "alice", (50, 200)), "200");
    assert_eq!(ask(&mut bench, ucs, B, "alice", (51, 200)), "503");
    bench.pass_millis(120_000);
    let statuses: Vec<_> = (60..70).map(|call| ask(&mut bench, ucs, B, "alice", (call, 200))).collect();
    assert!(statuses.iter().all(|status| status == "200"), "{statuses:?}");
    assert_eq!(bench.watched(), [("b.test".to_owned(), None)]);
}

#[test]
fn who_asks_for_too_many_users_or_is_refused_too_often_is_watched() {
    let (mut bench, ucs) = bench();
    for call in 0..11 {
        assert_eq!(ask(&mut bench, ucs, B, &format!("user{call}"), (call, 200)), "200");
    }
    assert_eq!(bench.watched(), [("b.test".to_owned(), Some("too many users asked for"))]);
    let (mut bench, ucs) = self::bench();
    for call in 0..20 {
        assert_eq!(ask(&mut bench, ucs, B, "nobody", (call, 404)), "404");
    }
    assert_eq!(bench.watched(), [("b.test".to_owned(), Some("too many failures"))]);
}

#[test]
fn a_domain_that_a_record_has_proven_is_counted_as_well_and_one_that_is_only_claimed_is_not() {
    let (mut bench, ucs) = bench();
    let by_record = ("b.test", "sip.b.test");
    let statuses: Vec<_> =
        (0..40).map(|call| ask(&mut bench, ucs, by_record, "alice", (call, 200))).collect();
    assert_eq!(statuses.iter().filter(|status| *status == "200").count(), 31);
    // A certificate of somebody else.
    let (mut bench, ucs) = self::bench();
    for call in 0..40 {
        assert_eq!(ask(&mut bench, ucs, ("b.test", "d.test"), "alice", (call, 200)), "403");
    }
    assert_eq!(ask(&mut bench, ucs, B, "alice", (50, 200)), "200");
    assert_eq!(bench.watched(), []);
}

#[test]
fn allowed_domains_are_exempt() {
    let (mut bench, ucs) = bench();
    for call in 0..100 {
        let user = format!("user{call}");
        assert_eq!(ask(&mut bench, ucs, ("good.test", "good.test"), &user, (call, 404)), "404");
    }
    assert_eq!(bench.watched(), []);
}
