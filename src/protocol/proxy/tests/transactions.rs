//! One request, one target: what is forwarded, what is repeated, what is swallowed (§16.6, §16.7, §17).

use super::bench::{Bench, Sent};
use super::network::{Peer, UCS};
use super::text::{answer, answer_with, branch, for_invite, kind, request, value, values, with, without};
use crate::protocol::proxy::DropReason;

/// A bench with two UC servers, of which `a` sends to bob, who lives on `b`.
fn bench(a: Peer, b: Peer) -> Bench {
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    bench
}

/// When each was sent, to ten milliseconds: timers fire at the first tick after their time.
fn millis(sent: &[Sent]) -> Vec<u128> {
    sent.iter().map(|sent| sent.at.as_millis() / 10 * 10).collect()
}

#[test]
fn a_message_changes_only_where_the_rfc_says_so() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = bench(a, b);
    let head = "MESSAGE sip:%62ob@A.test;x=Y SIP/2.0\r\n";
    let odd = "f:  \"A, B\" <sip:alice@a.test>;tag=1\r\nTO: sip:bob@a.test\r\nX-Odd:\tone\r\n\ttwo\r\ni:c\r\nCSEQ: 7   MESSAGE\r\nAllow: , \r\n";
    let body = b"\r\n\0\xff\r\n\r\nbody";
    let received = [
        head.as_bytes(),
        b"v: SIP/2.0/UDP host.example;rport;branch=z9hG4bK1;x=\"y\" , SIP/2.0/TCP far\r\n",
        b"Max-forwards : 70\r\n",
        odd.as_bytes(),
        b"l: 10\r\n",
        body,
    ]
    .concat();
    bench.receive_with(a, None, &received);
    bench.nothing_sent_to(a);
    let sent = bench.take_sent(b).remove(0);
    let text = sent.text();
    let ours = branch(&text);
    assert_eq!((ours.len(), &ours[..7]), (42, "z9hG4bK"));
    let expected = [head.as_bytes(), format!("Via: SIP/2.0/UDP 127.0.0.1:5060;rport;branch={ours}\r\n").as_bytes(),
        b"v: SIP/2.0/UDP host.example;rport=5070;branch=z9hG4bK1;x=\"y\";received=127.0.0.1 , SIP/2.0/TCP far\r\n",
        b"Max-forwards : 69\r\n", odd.as_bytes(), b"l: 10\r\n", b"Max-Breadth: 60\r\n", body].concat();
    assert_eq!(sent.bytes, expected);

    let first = format!("SIP/2.0 200 Sure\r\nv: SIP/2.0/UDP 127.0.0.1:5060;branch={ours} ,\r\n ");
    let rest = "SIP/2.0/UDP host.example;rport=5070;branch=z9hG4bK1\r\nX: y\r\nf: x\r\nt: y;tag=2\r\ni:c\r\nCSeq: 7 MESSAGE\r\nl: 2\r\n\r\n\0";
    let received = [first.as_bytes(), rest.as_bytes(), b"\xff"].concat();
    bench.receive_with(b, None, &received);
    let sent = bench.take_sent(a).remove(0);
    assert_eq!(sent.bytes, [b"SIP/2.0 200 Sure\r\nv: ", rest.as_bytes(), b"\xff"].concat());
    bench.nothing_more();
}

#[test]
fn max_forwards_and_content_length_are_added_where_they_are_missing() {
    let (a, b) = (Peer::udp(5070), Peer::tcp(5072));
    let mut bench = bench(a, b);
    let message = without(&request("MESSAGE", "sip:bob@a.test", a, "c"), "Max-Forwards");
    bench.receive(a, &format!("{}four", without(&message, "Content-Length")));
    let forwarded = bench.one(b, "MESSAGE");
    assert_eq!((value(&forwarded, "Max-Forwards"), value(&forwarded, "Content-Length")), ("70", "4"));
}

#[test]
fn a_repeated_request_is_answered_again_and_not_forwarded_again() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = bench(a, b);
    let message = request("MESSAGE", "sip:bob@a.test", a, "c");
    bench.receive(a, &message);
    bench.receive(a, &message);
    let forwarded = bench.one(b, "MESSAGE");
    bench.nothing_more();
    bench.receive(b, &answer(&forwarded, 200));
    let first = bench.one(a, "200");
    for _ in 0..2 {
        bench.pass_millis(10_000);
        bench.receive(a, &message);
        assert_eq!(bench.one(a, "200"), first);
    }
    bench.nothing_more();
    // After Timer J it is a new one.
    bench.pass_millis(13_000);
    bench.receive(a, &message);
    bench.one(b, "MESSAGE");
}

#[test]
fn a_request_with_the_same_branch_from_another_sent_by_is_another() {
    let (a, b, c) = (Peer::udp(5070), Peer::udp(5072), Peer::udp(5074));
    let mut bench = bench(a, b);
    bench.log_on(c, UCS);
    bench.bind("bob", b, 1000);
    bench.receive(a, &request("MESSAGE", "sip:bob@a.test", a, "c"));
    bench.receive(c, &request("MESSAGE", "sip:bob@a.test", c, "c"));
    assert_eq!(bench.kinds(b), ["MESSAGE", "MESSAGE"]);
}

#[test]
fn responses_that_are_not_for_us_are_dropped() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = bench(a, b);
    bench.receive(a, &request("MESSAGE", "sip:bob@a.test", a, "c"));
    let forwarded = bench.one(b, "MESSAGE");
    let good = answer(&forwarded, 200);
    let ours = branch(&forwarded);
    let (slot, hash) = (&ours[9..25], &ours[26..]);
    let theirs = value(&request("MESSAGE", "", a, "c"), "Via").to_owned();
    let table = [
        ("Via: SIP/2.0/UDP 127.0.0.1:5060", "Via: SIP/2.0/UDP 127.0.0.3:5060", DropReason::ForeignResponse),
        ("Via: SIP/2.0/UDP 127.0.0.1:5060", "Via: SIP/2.0/UDP 127.0.0.1:5070", DropReason::ForeignResponse),
        (ours, "z9hG4bKsomething", DropReason::ForeignResponse),
        (&ours[7..9], "05", DropReason::ForeignResponse),
        (slot, "0000000000000000", DropReason::StrayResponse),
        (hash, "0000000000000000", DropReason::StrayResponse),
        ("CSeq: 1 MESSAGE", "CSeq: 1 INVITE", DropReason::MalformedResponse),
        ("CSeq: 1 MESSAGE", "CSeq: x", DropReason::MalformedResponse),
        ("Content-Length: 0", "Content-Length: 9", DropReason::MalformedResponse),
        ("Via: ", "X: ", DropReason::MalformedResponse),
        // With no Via but ours it would be an answer to a request of ours (§16.7 step 3).
        (&format!("Via: {theirs}\r\n"), "", DropReason::MalformedResponse),
    ];
    for (from, to, reason) in table {
        let bad = if to == "X: " { good.replace(from, to) } else { good.replacen(from, to, 1) };
        assert_ne!(bad, good, "{from}");
        bench.receive(b, &bad);
        assert_eq!(bench.drops(), [reason], "{to}");
        bench.nothing_more();
    }
    bench.receive(b, &good);
    bench.one(a, "200");
}

#[test]
fn a_repeated_final_response_is_swallowed_and_nothing_is_kept_for_that() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = bench(a, b);
    bench.receive(a, &request("MESSAGE", "sip:bob@a.test", a, "c"));
    let forwarded = bench.one(b, "MESSAGE");
    bench.receive(b, &answer(&forwarded, 200));
    bench.one(a, "200");
    let load = bench.proxy.load();
    assert_eq!((load.servers, load.clients, load.contexts), (1, 0, 0));
    for status in [200, 100, 404] {
        bench.receive(b, &answer(&forwarded, status));
        assert_eq!(bench.drops(), [DropReason::StrayResponse]);
        bench.nothing_more();
    }
}

#[test]
fn a_request_other_than_invite_gets_its_100_late_and_never_a_408() {
    for a in [Peer::udp(5070), Peer::tcp(5070)] {
        let b = Peer::udp(5072);
        let mut bench = bench(a, b);
        bench.receive(a, &request("MESSAGE", "sip:bob@a.test", a, "c"));
        bench.pass_millis(3_495);
        bench.nothing_sent_to(a);
        bench.pass_millis(10);
        let trying = bench.one(a, "100");
        assert!(!value(&trying, "To").contains("tag="));
        bench.receive(a, &request("MESSAGE", "sip:bob@a.test", a, "c"));
        assert_eq!(bench.one(a, "100"), trying);
        bench.pass_millis(100_000);
        bench.nothing_sent_to(a);
        let forwarded = bench.take_sent(b);
        let at = [0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500];
        assert_eq!(millis(&forwarded), at);
        assert!(forwarded.iter().all(|sent| sent.bytes == forwarded[0].bytes));
        // The client has given up; what comes now is for nobody.
        bench.receive(b, &answer(&forwarded[0].text(), 200));
        bench.nothing_more();
    }
}

#[test]
fn no_provisional_response_to_a_request_other_than_invite_is_forwarded() {
    let (a, b) = (Peer::tcp(5070), Peer::udp(5072));
    let mut bench = bench(a, b);
    bench.receive(a, &request("MESSAGE", "sip:bob@a.test", a, "c"));
    let forwarded = bench.one(b, "MESSAGE");
    bench.receive(b, &answer(&forwarded, 183));
    bench.receive(b, &answer(&forwarded, 100));
    bench.nothing_more();
    bench.receive(b, &answer(&forwarded, 202));
    bench.one(a, "202");
}

#[test]
fn an_invite_that_nobody_answers_gets_a_100_and_a_408() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = bench(a, b);
    let invite = request("INVITE", "sip:bob@a.test", a, "c");
    bench.receive(a, &invite);
    bench.pass_millis(145);
    bench.nothing_sent_to(a);
    bench.pass_millis(10);
    bench.one(a, "100");
    bench.pass_millis(31_750);
    bench.nothing_sent_to(a);
    assert_eq!(millis(&bench.take_sent(b)), [0, 500, 1500, 3500, 7500, 15500, 31500]);
    bench.pass_millis(200);
    let timeout = bench.one(a, "408");
    bench.receive(a, &for_invite(&invite, "ACK", Some(value(&timeout, "To"))));
    bench.pass_millis(60_000);
    bench.nothing_more();
}

#[test]
fn a_refused_invite_is_acknowledged_on_both_sides_of_the_proxy() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = bench(a, b);
    let invite = with(&request("INVITE", "sip:bob@127.0.0.1:5072", a, "c"), "Route: <sip:127.0.0.1:5072;lr>");
    bench.receive(a, &invite);
    let forwarded = bench.one(b, "INVITE");
    bench.receive(b, &answer(&forwarded, 180));
    bench.one(a, "180");
    for tag in ["one", "two"] {
        bench.receive(b, &answer_with(&forwarded, 486, tag, ""));
        let ack = bench.one(b, "ACK");
        let to = format!("<sip:bob@a.test>;tag={tag}");
        let expected = for_invite(&forwarded, "ACK", Some(&to));
        assert_eq!(ack, expected);
    }
    // Repeated until it is acknowledged (Timer G), then no more.
    bench.pass_millis(1_600);
    let refusals = bench.take_sent(a);
    assert_eq!(millis(&refusals), [0, 500, 1500]);
    assert!(value(&refusals[0].text(), "To").ends_with(";tag=one"));
    bench.receive(a, &for_invite(&invite, "ACK", Some(value(&refusals[0].text(), "To"))));
    bench.receive(a, &for_invite(&invite, "ACK", Some(value(&refusals[0].text(), "To"))));
    bench.pass_millis(60_000);
    bench.nothing_more();
}

#[test]
fn an_accepted_invite_is_swallowed_and_every_200_passes() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = bench(a, b);
    let invite = request("INVITE", "sip:bob@a.test", a, "c");
    bench.receive(a, &invite);
    let forwarded = bench.one(b, "INVITE");
    bench.receive(b, &answer(&forwarded, 100));
    bench.nothing_more();
    bench.receive(a, &invite);
    bench.nothing_more();
    bench.receive(b, &answer(&forwarded, 183));
    bench.one(a, "183");
    bench.receive(a, &invite);
    bench.one(a, "183");
    for _ in 0..3 {
        bench.receive(b, &answer(&forwarded, 200));
        bench.one(a, "200");
        bench.pass_millis(1_000);
        bench.receive(a, &invite);
    }
    bench.receive(b, &answer(&forwarded, 486));
    bench.receive(b, &answer(&forwarded, 180));
    bench.nothing_more();
    bench.pass_millis(33_000);
    bench.receive(b, &answer(&forwarded, 200));
    assert_eq!(bench.drops(), [DropReason::StrayResponse]);
}

#[test]
fn a_response_goes_back_where_the_request_came_from() {
    let b = Peer::udp(5072);
    let table = [
        // rport: to the source port (RFC 3581 §4).
        (Peer::udp(5070), "SIP/2.0/UDP 127.0.0.1:9;rport", 5070, None),
        // Without it to the port of sent-by (§18.2.2).
        (Peer::udp(5070), "SIP/2.0/UDP 127.0.0.1:5080", 5080, None),
        (Peer::udp(5070), "SIP/2.0/UDP host.example", 5060, None),
        (Peer::tcp(5070), "SIP/2.0/TCP 127.0.0.1:5080", 5070, Some(("127.0.0.1:5080", None))),
        (Peer::tcp(5070), "SIP/2.0/TCP Host.example", 5070, Some(("127.0.0.1:5060", Some("host.example")))),
        // An address is none that a connection is opened to, whatever Via says.
        (Peer::tls(5070), "SIP/2.0/TLS 192.0.2.1", 5070, Some(("127.0.0.1:5061", None))),
    ];
    for (a, via, port, alternate) in table {
        let mut bench = bench(a, b);
        let message = request("MESSAGE", "sip:bob@a.test", a, "c").replacen(&a.via(), via, 1);
        bench.receive(a, &message);
        let forwarded = bench.one(b, "MESSAGE");
        bench.receive(b, &answer(&forwarded, 200));
        let mut to = a;
        to.0.remote.set_port(port);
        let sent = bench.take_sent(to).remove(0);
        assert_eq!((kind(&sent.text()), sent.hop), ("200", to.0), "{via}");
        let found = sent.alternate.as_ref().map(|alternate| {
            (alternate.address.to_string(), alternate.sent_by.as_ref().map(|sent_by| &*sent_by.host))
        });
        assert_eq!(found, alternate.map(|(address, name)| (address.to_owned(), name)), "{via}");
        assert_eq!(values(&sent.text(), "Via").len(), 1);
    }
}
