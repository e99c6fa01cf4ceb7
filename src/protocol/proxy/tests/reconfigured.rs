//! Other settings while requests are under way.

use std::time::Duration;

use super::bench::Bench;
use super::network::Peer;
use super::text::{answer, kind, request};
use crate::protocol::transaction::Timers;

/// When requests to `peer` have been sent since the last look, in hundreds of milliseconds.
fn sent_at(bench: &mut Bench, peer: Peer) -> Vec<u128> {
    let sent = bench.take_sent(peer);
    sent.iter()
        .filter(|sent| !kind(&sent.text()).starts_with('2'))
        .map(|sent| sent.at.as_millis() / 100)
        .collect()
}

#[test]
fn what_has_begun_keeps_its_timers_and_what_comes_has_the_new_ones() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    bench.receive(a, &request("MESSAGE", "sip:bob@a.test", a, "first"));
    bench.reconfigure(|settings| {
        let second = Duration::from_secs(1);
        settings.timers = Timers::new(second, 8 * second, 10 * second);
    });
    bench.pass_millis(3600);
    assert_eq!(sent_at(&mut bench, b), [0, 5, 15, 35]);
    bench.receive(a, &request("MESSAGE", "sip:bob@a.test", a, "second"));
    let begun = 36;
    bench.pass_millis(3500);
    let sent: Vec<_> = sent_at(&mut bench, b).into_iter().map(|at| at - begun).collect();
    // Between them, the first goes on by itself: at 7.5 s.
    assert_eq!(sent, [0, 10, 30]);
}

#[test]
fn an_invite_waits_as_long_as_it_was_to_wait_when_it_began() {
    let (a, b) = (Peer::tcp(5070), Peer::tcp(5072));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    bench.bind("bob", b, 1000);
    bench.receive(a, &request("INVITE", "sip:bob@a.test", a, "c"));
    let invite = bench.one(b, "INVITE");
    bench.take(a);
    bench.reconfigure(|settings| settings.timer_c = Duration::from_secs(1000));
    bench.receive(b, &answer(&invite, 180));
    bench.pass(Duration::from_secs(184));
    bench.nothing_sent_to(b);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.kinds(b), ["CANCEL"]);
}

#[test]
fn a_domain_is_served_from_now_on_and_an_account_speaks_no_more() {
    let (a, b) = (Peer::tcp(5070), Peer::tcp(5072));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    bench.receive(a, &request("MESSAGE", "sip:bob@new.test", a, "c"));
    assert_eq!(bench.kinds(a), ["404"]);
    bench.reconfigure(|settings| settings.presence_domains.push("new.test".to_owned()));
    bench.receive(a, &request("MESSAGE", "sip:bob@new.test", a, "d"));
    bench.one(b, "MESSAGE");
    bench.reconfigure(|settings| settings.maximum_transactions = 1);
    bench.receive(a, &request("MESSAGE", "sip:bob@a.test", a, "e"));
    assert_eq!(bench.kinds(a), ["503"]);
}
