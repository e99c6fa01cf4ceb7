//! Streams: framing (RFC 3261 §18.3), keep-alives (RFC 5626 §4.4.1), sizes, slow peers.

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::common::agent::Agent;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::scratch::loopback;
use crate::common::sip::Sip;
use crate::support::{DOMAIN, LIMIT, Site, Wire, answers_options, open_house, relay, uri};

pub(crate) fn options(agent: &Agent) -> Sip {
    let proxy = format!("sip:{DOMAIN}");
    agent.request("OPTIONS", &proxy, &uri("alice"), &proxy)
}

#[test]
fn messages_are_cut_wherever_the_segments_end() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Tls]).await;
        for protocol in [Protocol::Tcp, Protocol::Tls] {
            let mut a = site.connect(protocol).await;
            let requests: Vec<_> =
                (0..3).map(|_| options(&a).body("text/plain", "a\r\n\r\nOPTIONS ")).collect();
            let octets: Vec<_> = requests.iter().flat_map(Sip::to_bytes).collect();
            for piece in [octets.len(), 1, 100] {
                for part in octets.chunks(piece) {
                    a.send_bytes(part).await;
                }
                let mut answered = Vec::new();
                for _ in &requests {
                    answered.push(a.receive_response(200).await.need("Call-ID").to_owned());
                }
                answered.sort();
                let mut expected: Vec<_> = requests.iter().map(|request| request.need("Call-ID")).collect();
                expected.sort_unstable();
                assert_eq!(answered, expected, "pieces of {piece}");
            }
        }
    });
}

#[test]
fn what_one_write_asks_is_answered_in_its_order() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut a = site.connect(Protocol::Tcp).await;
        for _ in 0..20 {
            let requests: Vec<_> = (0..3).map(|_| options(&a)).collect();
            a.send_bytes(&requests.iter().flat_map(Sip::to_bytes).collect::<Vec<_>>()).await;
            for request in &requests {
                let answered = a.receive_response(200).await;
                assert_eq!(answered.need("Call-ID"), request.need("Call-ID"));
            }
        }
    });
}

#[test]
fn pipelined_messages_arrive_in_order() {
    run(LIMIT, async {
        const COUNT: usize = 500;
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        let first = a.message(&uri("alice"), &uri("bob"), "0");
        let messages = (0..COUNT).map(|number| {
            // One conversation: its order is what counts.
            let cseq = format!("{} MESSAGE", number + 1);
            a.message(&uri("alice"), &uri("bob"), &number.to_string())
                .set("Call-ID", first.need("Call-ID"))
                .set("CSeq", cseq)
        });
        let octets: Vec<_> = messages.flat_map(|message| message.to_bytes()).collect();
        a.send_bytes(&octets).await;
        for number in 0..COUNT {
            let arrived = b.receive_request("MESSAGE").await;
            assert_eq!(arrived.text(), number.to_string());
            b.answer(&arrived, 200).await;
        }
        for _ in 0..COUNT {
            a.receive_response(200).await;
        }
    });
}

#[test]
fn ten_thousand_messages_of_one_connection_arrive_in_order() {
    const COUNT: usize = 10_000;
    const PART: usize = 250;
    run(Duration::from_secs(120), async {
        let site = Site::open(open_house(), &[Protocol::Tls]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tls).await, site.server(Protocol::Tls, "bob").await);
        // Each with a Call-ID of its own, as clients send them. The next part leaves before the answers to this one.
        let send = async {
            for first in (0..COUNT).step_by(PART) {
                let numbers = first..first + PART;
                let message = |number: usize| a.message(&uri("alice"), &uri("bob"), &number.to_string());
                let part: Vec<_> = numbers.flat_map(|number| message(number).to_bytes()).collect();
                a.send_bytes(&part).await;
                for _ in 0..if first == 0 { 0 } else { PART } {
                    a.receive_response(200).await;
                }
            }
            for _ in 0..PART {
                a.receive_response(200).await;
            }
        };
        let receive = async {
            for number in 0..COUNT {
                let arrived = b.receive_request("MESSAGE").await;
                assert_eq!(arrived.text(), number.to_string());
                b.answer(&arrived, 200).await;
            }
        };
        futures_util::future::join(send, receive).await;
    });
}

#[test]
fn keep_alives_are_answered() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
        for protocol in [Protocol::Tcp, Protocol::Tls] {
            let mut a = site.connect(protocol).await;
            a.send_bytes(b"\r\n\r\n").await;
            answers_options(&mut a).await;
            assert_eq!(a.pongs, 1, "a single CRLF for the double one");
            // Glued to the next request, and line breaks that are no ping (RFC 3261 §7.5).
            let request = options(&a);
            a.send_bytes(&[b"\r\n\r\n".as_slice(), &request.to_bytes()].concat()).await;
            a.receive_response(200).await;
            assert_eq!(a.pongs, 2);
            a.send_bytes(&[b"\r\n".as_slice(), &options(&a).to_bytes()].concat()).await;
            a.receive_response(200).await;
            assert_eq!(a.pongs, 2);
        }
        let mut datagrams = site.connect(Protocol::Udp).await;
        for keep_alive in [&b"\r\n\r\n"[..], b"\r\n", b"\0\0\0\0", b""] {
            datagrams.send_bytes(keep_alive).await;
        }
        answers_options(&mut datagrams).await;
    });
}

#[test]
fn half_a_message_is_not_waited_for() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "message_timeout", "\"2s\"");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let peer = site.proxy.at(Protocol::Tcp);
        let half_a_body = format!("MESSAGE sip:bob@{DOMAIN} SIP/2.0\r\nContent-Length: 9\r\n\r\nhalf");
        let mut slow = Vec::new();
        for number in 0..60 {
            let mut wire = Wire::tcp(peer).await;
            let begin: &[u8] = if number % 2 == 0 { b"MESSAGE sip:bob@exa" } else { half_a_body.as_bytes() };
            wire.send(begin).await;
            slow.push(wire);
        }
        site.is_well(Protocol::Tcp).await;
        for wire in &mut slow {
            wire.read_until_closed(Duration::from_secs(8)).await;
        }

        // One octet now and then does not help: the whole message has one time.
        let mut drip = Wire::tcp(peer).await;
        let begun = Instant::now();
        let mut is_open = true;
        while is_open && begun.elapsed() < Duration::from_secs(3) {
            is_open = drip.try_send(b"x").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!is_open, "a message that never ends keeps its connection");
        site.is_well(Protocol::Tcp).await;
    });
}

#[test]
fn a_thousand_slow_connections_disturb_nobody() {
    run(LIMIT, async {
        const SLOW: usize = 1000;
        allow_descriptors(2 * SLOW as u64);
        let settings = open_house().key("limits", "message_timeout", "\"3s\"");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        let (from, peer) = (loopback(), site.proxy.at(Protocol::Tcp));
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            slow.push(Wire::tcp_from(from, peer).await);
        }
        let begun = Instant::now();
        // An octet a second on each of them.
        let drip = async {
            for octet in b"MESSA" {
                for wire in &mut slow {
                    wire.try_send(&[*octet]).await;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let exchanges = async {
            let mut count = 0;
            while begun.elapsed() < Duration::from_secs(5) {
                let sent = Instant::now();
                relay(&a.message(&uri("alice"), &uri("bob"), "hello"), &mut a, &mut b, 200).await;
                assert!(sent.elapsed() < Duration::from_secs(3), "an exchange takes {:?}", sent.elapsed());
                count += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(count >= 20, "{count} exchanges within 5 s");
        };
        futures_util::future::join(drip, exchanges).await;
        // None of them has got its message together in time.
        for wire in &mut slow {
            wire.read_until_closed(Duration::from_secs(5)).await;
        }
        site.is_well(Protocol::Tcp).await;
    });
}

/// Raises the limit of open files of this process, which systems set low, to what a test needs.
fn allow_descriptors(count: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit can be read");
    assert!(hard >= count, "the test needs {count} open files, and the system allows {hard}");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(count), hard).expect("up to the hard limit is allowed");
}

#[test]
fn a_handshake_has_its_time() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "handshake_timeout", "\"2s\"");
        let site = Site::open(settings, &[Protocol::Tls]).await;
        for begin in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"OPTIONS sip:example.org SIP/2.0\r\n\r\n"] {
            let mut wire = Wire::tcp(site.proxy.at(Protocol::Tls)).await;
            wire.send(begin).await;
            wire.read_until_closed(Duration::from_secs(8)).await;
        }
        site.is_well(Protocol::Tls).await;
    });
}

#[test]
fn idle_connections_end_and_keep_alives_keep_them() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "idle_timeout", "\"2s\"");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let peer = site.proxy.at(Protocol::Tcp);
        let (mut idle, mut kept) = (Wire::tcp(peer).await, site.connect(Protocol::Tcp).await);
        let begun = Instant::now();
        let keep = async {
            while begun.elapsed() < Duration::from_secs(5) {
                kept.send_bytes(b"\r\n\r\n").await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answers_options(&mut kept).await;
        };
        let end = async {
            idle.read_until_closed(Duration::from_secs(8)).await;
            assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}", begun.elapsed());
        };
        futures_util::future::join(keep, end).await;
    });
}

#[test]
fn what_is_too_large_is_refused_and_the_connection_ends() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "maximum_message_bytes", "4096").key(
            "limits",
            "maximum_header_bytes",
            "1024",
        );
        let site = Site::open(settings, &[Protocol::Udp, Protocol::Tcp]).await;
        let peer = site.proxy.at(Protocol::Tcp);
        let large = |via: String, row: &str, length: usize| {
            format!(
                "MESSAGE sip:bob@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{via};branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
                 From: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <sip:bob@{DOMAIN}>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n\
                 {row}Content-Length: {length}\r\n\r\n"
            )
        };
        let mut wire = Wire::tcp(peer).await;
        wire.send(large(format!("TCP {}", wire.local()), "", 5000).as_bytes()).await;
        let end = wire.read_until_closed(Duration::from_secs(2)).await;
        assert!(end.starts_with(b"SIP/2.0 513 "), "{}", end.escape_ascii());

        let mut wire = Wire::tcp(peer).await;
        let row = format!("X-Long: {}\r\n", "x".repeat(2000));
        wire.send(large(format!("TCP {}", wire.local()), &row, 0).as_bytes()).await;
        let end = wire.read_until_closed(Duration::from_secs(2)).await;
        assert!(end.is_empty() || end.starts_with(b"SIP/2.0 513 "), "{}", end.escape_ascii());

        // A header section without end has no one to answer to.
        let mut wire = Wire::tcp(peer).await;
        wire.send(&b"X".repeat(3000)).await;
        wire.read_until_closed(Duration::from_secs(2)).await;

        let mut datagrams = site.connect(Protocol::Udp).await;
        let request = datagrams.message(&uri("alice"), &uri("bob"), &"x".repeat(5000));
        assert_eq!(datagrams.exchange(&request).await.status(), 513);
        site.is_well(Protocol::Tcp).await;
    });
}

#[test]
fn a_stream_cannot_go_on_behind_a_length_that_is_not_known() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        for (row, reason) in [
            ("", "Content-Length"),
            ("Content-Length: 1x\r\n", "Content-Length"),
            ("Content-Length: -1\r\n", "Content-Length"),
            ("Content-Length: 3\r\nl: 4\r\n", "Content-Length"),
            ("Content-Length: 99999999999999999999\r\n", ""),
        ] {
            let mut wire = Wire::tcp(site.proxy.at(Protocol::Tcp)).await;
            let text = format!(
                "OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/TCP {};branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
                 From: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <sip:{DOMAIN}>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n{row}\r\n",
                wire.local()
            );
            wire.send(text.as_bytes()).await;
            let end = wire.read_until_closed(Duration::from_secs(2)).await;
            let end = String::from_utf8_lossy(&end);
            let line = end.lines().next().unwrap_or_default();
            assert!(line.starts_with("SIP/2.0 400 ") || line.starts_with("SIP/2.0 513 "), "{row:?}: {end}");
            assert!(line.contains(reason), "{row:?}: {line}");
        }
        let mut wire = Wire::tcp(site.proxy.at(Protocol::Tcp)).await;
        wire.send(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n").await;
        wire.read_until_closed(Duration::from_secs(2)).await;
    });
}
