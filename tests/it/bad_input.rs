//! Malformed: refused with a reason where a response can be routed, dropped where not, and
//! the next good request is answered as ever.

use std::time::Duration;

use crate::common::agent::{Agent, unique};
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::support::{DOMAIN, LIMIT, SILENCE, Site, Wire, open_house, relay, uri};

/// A well-formed MESSAGE, as text to be spoilt.
fn good(wire: &Wire) -> String {
    let (transport, local, number) = (wire.transport(), wire.local(), unique());
    format!(
        "MESSAGE sip:bob@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK-b{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <sip:bob@{DOMAIN}>\r\nCall-ID: b{number}\r\n\
         CSeq: 1 MESSAGE\r\nContent-Length: 2\r\n\r\nhi"
    )
}

/// What to replace by what, the status, and a part of the reason phrase.
type Spoilt = (&'static str, &'static str, u16, &'static str);

const FAULTS: [Spoilt; 31] = [
    ("MESSAGE sip:", "MESSAGE  sip:", 400, "Request-Line"),
    (" SIP/2.0\r\nVia", "  SIP/2.0\r\nVia", 400, "Request-Line"),
    (" SIP/2.0\r\nVia", " x SIP/2.0\r\nVia", 400, "Request-Line"),
    (" SIP/2.0\r\nVia", " SIP/3.0\r\nVia", 505, ""),
    ("sip:bob@example.org SIP", "foo:bar SIP", 416, ""),
    ("sip:bob@example.org SIP", "bob SIP", 400, "Request-URI"),
    ("sip:bob@example.org SIP", "sip:bob@ SIP", 400, "Request-URI"),
    ("sip:bob@example.org SIP", "sip:bob@exa[mple.org SIP", 400, "Request-URI"),
    ("sip:bob@example.org SIP", "sip:bob@example.org:99999 SIP", 400, "Request-URI"),
    ("sip:bob@example.org SIP", "<sip:bob@example.org> SIP", 400, "Request-URI"),
    ("From: <sip:alice@example.org>;tag=1\r\n", "", 400, "From"),
    ("From: <sip:alice@example.org>;tag=1", "From: \"Alice <sip:alice@example.org>;tag=1", 400, "From"),
    ("From: <sip:alice@example.org>;tag=1", "From: <sip:alice@example.org;tag=1", 400, "From"),
    ("To: <sip:bob@example.org>\r\n", "", 400, "To"),
    ("To: <sip:bob@example.org>", "To: <sip:bob@example.org", 400, "To"),
    (
        "To: <sip:bob@example.org>\r\n",
        "To: <sip:bob@example.org>\r\nt: <sip:carl@example.org>\r\n",
        400,
        "To",
    ),
    ("Call-ID: b", "X-Call-ID: b", 400, "Call-ID"),
    ("CSeq: 1 MESSAGE\r\n", "", 400, "CSeq"),
    ("CSeq: 1 MESSAGE", "CSeq: one MESSAGE", 400, "CSeq"),
    ("CSeq: 1 MESSAGE", "CSeq: 4294967296 MESSAGE", 400, "CSeq"),
    ("CSeq: 1 MESSAGE", "CSeq: 1 INVITE", 400, "CSeq"),
    ("CSeq: 1 MESSAGE", "CSeq: 1", 400, "CSeq"),
    ("Max-Forwards: 70", "Max-Forwards: 256", 400, "Max-Forwards"),
    ("Max-Forwards: 70", "Max-Forwards: many", 400, "Max-Forwards"),
    ("Max-Forwards: 70", "Max-Forwards: 0", 483, ""),
    ("Max-Forwards: 70\r\n", "Max-Forwards: 70\r\nProxy-Require: foo\r\n", 420, ""),
    ("Max-Forwards: 70\r\n", "Max-Forwards: 70\r\nVia: nonsense\r\n", 400, "Via"),
    ("Max-Forwards: 70\r\n", "Max-Forwards: 70\r\nRoute: <sip:[>\r\n", 400, "Route"),
    ("Max-Forwards: 70\r\n", "Max-Forwards: 70\r\nno colon here\r\n", 400, "Header"),
    ("Max-Forwards: 70\r\n", "Max-Forwards: 70\r\nX: a\rb\r\n", 400, ""),
    ("To: <sip:bob@example.org>\r\n", "To: <sip:bob@example.org>\r\nCSeq: 1 MESSAGE\r\n", 400, "CSeq"),
];

#[test]
fn a_fault_is_named_and_nothing_is_forwarded() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let site = Site::open(open_house(), &[protocol]).await;
            let mut b = site.server(protocol, "bob").await;
            for (from, to, status, reason) in FAULTS {
                let mut wire = Wire::open(&site.proxy, protocol).await;
                let text = good(&wire);
                assert!(text.contains(from), "{from:?} is not in the message");
                wire.send(text.replacen(from, to, 1).as_bytes()).await;
                let answer = wire.receive().await;
                let answer = String::from_utf8_lossy(&answer);
                let line = answer.lines().next().unwrap_or_default();
                assert!(line.starts_with(&format!("SIP/2.0 {status} ")), "{protocol:?} {to:?}: {line}");
                assert!(line.to_lowercase().contains(&reason.to_lowercase()), "{protocol:?} {to:?}: {line}");
                if status == 420 {
                    assert!(answer.contains("Unsupported: foo\r\n"), "{answer}");
                }
            }
            b.receive_nothing(SILENCE).await;
            site.is_well(protocol).await;
        }
    });
}

#[test]
fn a_body_that_is_cut_short_is_a_fault_of_datagrams_and_octets_behind_it_are_not() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let mut b = site.server(Protocol::Udp, "bob").await;
        let mut wire = Wire::open(&site.proxy, Protocol::Udp).await;
        wire.send(good(&wire).replace("Content-Length: 2", "Content-Length: 3").as_bytes()).await;
        assert!(wire.receive().await.starts_with(b"SIP/2.0 400 "));
        b.receive_nothing(SILENCE).await;
        // RFC 3261 §18.3.
        wire.send(format!("{} and more", good(&wire)).as_bytes()).await;
        let arrived = b.receive_request("MESSAGE").await;
        assert_eq!(arrived.text(), "hi");
        // Of a response that is cut short nothing is left.
        let text = b.response(&arrived, 200).with("Content-Length", "7");
        b.send(&text).await;
        assert!(tokio::time::timeout(SILENCE, wire.receive()).await.is_err());
        b.answer(&arrived, 200).await;
        assert!(wire.receive().await.starts_with(b"SIP/2.0 200 "));
    });
}

#[test]
fn what_cannot_be_answered_is_dropped() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let mut b = site.server(Protocol::Udp, "bob").await;
        let mut wire = Wire::open(&site.proxy, Protocol::Udp).await;
        let text = good(&wire);
        let via = text.lines().find(|line| line.starts_with("Via")).expect("it has one").to_owned();
        let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        let rows = "X: y\r\n".repeat(2000);
        let response = text.replacen(&format!("MESSAGE sip:bob@{DOMAIN} SIP/2.0"), "SIP/2.0 200 OK", 1);
        for octets in [
            text.replace(&format!("{via}\r\n"), "").into_bytes(),
            text.replace(&via, "Via: nonsense").into_bytes(),
            text.replace(&via, "Via:").into_bytes(),
            b"MESSAGE".to_vec(),
            b"MESSAGE sip:bob@example.org SIP/2.0\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(),
            b"\r\n\r\n\r\n\r\n".to_vec(),
            vec![0; 1400],
            vec![0xff; 65_000],
            (0..=255).cycle().take(40_000).collect(),
            b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
            b"SIP/2.0 999999999999 OK\r\nVia: x\r\n\r\n".to_vec(),
            // Sent-by is not ours (RFC 3261 §18.1.2).
            response.clone().into_bytes(),
            response
                .replace("OK\r\nVia: SIP/2.0/UDP ", "OK\r\nVia: SIP/2.0/UDP 192.0.2.1, SIP/2.0/UDP ")
                .into_bytes(),
            [b"ACK".as_slice(), &text.as_bytes()[7..]].concat(),
        ] {
            wire.send(&octets).await;
        }
        let stray = tokio::time::timeout(SILENCE, wire.receive()).await;
        assert!(stray.is_err(), "{}", stray.unwrap_or_default().escape_ascii());
        b.receive_nothing(Duration::from_millis(1)).await;
        // These may be answered in their own way, and must not do harm.
        wire.send(&stun).await;
        wire.send(text.replacen("CSeq", &format!("{rows}CSeq"), 1).as_bytes()).await;
        wire.send(text.replacen("To: ", &format!("To: {}", "<".repeat(15_000)), 1).as_bytes()).await;
        wire.send(
            text.replacen("Max-", &format!("Via: {}\r\nMax-", "SIP/2.0/UDP x,".repeat(1000)), 1).as_bytes(),
        )
        .await;
        site.is_well(Protocol::Udp).await;
    });
}

#[test]
fn garbage_of_every_kind_does_no_harm() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let _bob = site.server(Protocol::Udp, "bob").await;
        let mut datagrams = Wire::open(&site.proxy, Protocol::Udp).await;
        // The same each time: a linear congruence by Knuth.
        let mut state = 0x5eed_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap_or_default() % below
        };
        for round in 0..2000 {
            let mut octets = good(&datagrams).into_bytes();
            for _ in 0..=next(4) {
                let at = next(octets.len());
                match next(4) {
                    0 => octets[at] = u8::try_from(next(256)).unwrap_or_default(),
                    1 => drop(octets.drain(at..(at + next(40)).min(octets.len()))),
                    2 => octets.truncate(at + 1),
                    _ => {
                        let piece = octets[at..(at + next(200)).min(octets.len())].to_vec();
                        octets.splice(at..at, piece);
                    }
                }
                if octets.is_empty() {
                    octets.push(0);
                }
            }
            datagrams.send(&octets).await;
            if round % 100 == 0 {
                let mut stream = Wire::open(&site.proxy, Protocol::Tcp).await;
                stream.try_send(&octets).await;
            }
        }
        // What is left of it must not reach the servers of the check.
        while tokio::time::timeout(SILENCE, datagrams.receive()).await.is_ok() {}
        site.is_well(Protocol::Udp).await;
        site.is_well(Protocol::Tcp).await;
    });
}

#[test]
fn max_forwards_0_still_asks_whether_the_proxy_is_there() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let mut a = site.connect(Protocol::Udp).await;
        let proxy = format!("sip:{}", site.proxy.at(Protocol::Udp));
        for (uri_asked, status) in [(&*proxy, 200), (&*uri("bob"), 483)] {
            let request = a.request("OPTIONS", uri_asked, &uri("alice"), uri_asked).set("Max-Forwards", "0");
            assert_eq!(a.exchange(&request).await.status(), status, "{uri_asked}");
        }
    });
}

#[test]
fn an_answer_is_hardly_longer_than_its_request() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let mut wire = Wire::open(&site.proxy, Protocol::Udp).await;
        // Anybody can write the address of a victim as the source of a datagram.
        for repeated in [",", "\r\nv:", ";rport"] {
            for (asked, status) in [("OPTIONS", "200"), ("MESSAGE", "404"), ("OPTIONS", "420")] {
                let (vias, number) = (repeated.repeat(9_000 / repeated.len()), unique());
                let require = if status == "420" { "Proxy-Require: a\r\n" } else { "" };
                let text = format!(
                    "{asked} sip:{} SIP/2.0\r\nv:SIP/2.0/UDP victim;rport;branch=z9hG4bK{number}{vias}\r\n{require}\
                     Max-Forwards: 70\r\nf:<sip:a@b>;tag=1\r\nt:<sip:c@d>\r\ni:{number}\r\nCSeq: 1 {asked}\r\n\r\n",
                    if asked == "OPTIONS" { DOMAIN } else { "nobody@elsewhere.test" },
                );
                wire.send(text.as_bytes()).await;
                let answer = wire.receive().await;
                let line = answer[..answer.len().min(60)].escape_ascii();
                assert!(answer.starts_with(b"SIP/2.0 "), "{line}");
                assert!(answer.len() < text.len() + 500, "{} for {}: {line}", answer.len(), text.len());
            }
        }
    });
}

#[test]
fn require_is_not_the_proxys_business() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        let request = a.message(&uri("alice"), &uri("bob"), "hello").with("Require", "foo, bar");
        let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
        assert_eq!(arrived.need("Require"), "foo, bar");
        // Several rows and values of Proxy-Require, all of them listed (RFC 3261 §20.29).
        let request = a.message(&uri("alice"), &uri("bob"), "hello");
        let request = request.with("Proxy-Require", "foo, bar").with("Proxy-Require", "baz");
        let refused = a.exchange(&request).await;
        assert_eq!((refused.status(), refused.values("Unsupported")), (420, vec!["foo", "bar", "baz"]));
    });
}

#[test]
fn torture_messages_are_refused_or_passed_and_never_mistaken() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let mut b: Agent = site.server(Protocol::Udp, "bob").await;
        let mut wire = Wire::open(&site.proxy, Protocol::Udp).await;
        // RFC 4475, as far as a proxy has to care: what is odd and right passes.
        for (from, to) in [
            (
                "From: <sip:alice@example.org>;tag=1",
                "From: \"<\\\"\\\\>, sip:x;y\" <sip:alice@example.org;x=%00>;tag=1",
            ),
            ("From: <sip:alice@example.org>;tag=1", "From: sip:alice@example.org ;tag=1"),
            ("To: <sip:bob@example.org>", "TO :\r\n sip:bob@example.org ;   tag    = 1918181833n"),
            ("Call-ID: b", "Call-ID: w!%*_+`'~()<>:\\\"/[]?{}@x"),
            ("CSeq: 1 MESSAGE", "cseq: 0009\r\n  MESSAGE"),
            ("Max-Forwards: 70", "MaX-fOrWaRdS: 0068"),
            ("sip:bob@example.org SIP", "sip:%62%6fb@EXAMPLE.ORG;unknown=%C3%A4;lr SIP"),
            ("sip:bob@example.org SIP", "SIP:bob:secret@example.org SIP"),
            // A client of RFC 2543 makes no branch, or one that names nothing.
            (";branch=z9hG4bK-b", ";branch=b"),
            (";branch=z9hG4bK-b", ";x="),
            ("Max-", "Via: SIP/2.0/\r\n UDP\r\n 192.0.2.2;branch=390skdjuw\r\nMax-"),
            ("Max-", "Via: SIP / 2.0 / UNKNOWN 192.0.2.2;branch=z9hG4bK\r\nMax-"),
            ("Max-", "Date: Fri, 01 Jan 2010 16:00:00 EST\r\nWarning: 1812 overture \"In Progress\"\r\nMax-"),
            ("Max-", "Contact: <<<nonsense\r\nAccept: \"\r\nExpires: 99999999999999\r\nMax-"),
        ] {
            let text = good(&wire);
            assert!(text.contains(from), "{from:?} is not in the message");
            wire.send(text.replacen(from, to, 1).as_bytes()).await;
            let arrived = tokio::time::timeout(Duration::from_secs(2), b.receive()).await;
            let arrived = arrived.unwrap_or_else(|_| panic!("{to:?} does not pass"));
            assert_eq!(arrived.text(), "hi", "{to:?}");
            b.answer(&arrived, 200).await;
            let answer = wire.receive().await;
            assert!(answer.starts_with(b"SIP/2.0 200 "), "{to:?}: {}", answer.escape_ascii());
        }
    });
}
