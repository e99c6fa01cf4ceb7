//! SIP over WebSocket (RFC 7118): the handshake, one SIP message in each WebSocket message, sizes, slow peers.

use std::time::{Duration, Instant};

use crate::common::agent::unique;
use crate::common::proxy::Protocol;
use crate::common::sip::Sip;
use crate::common::web::{Message, Web, fragments};
use crate::common::{eventually, run};
use crate::streams::options;
use crate::support::{
    DOMAIN, LIMIT, PROMPT, SILENCE, Site, Wire, answers_options, final_response, open_house, uri,
};

/// The request of RFC 7118 §4.1.
const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: sip-ws.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://www.example.com\r\n\
    Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A WebSocket connection without a SIP agent at its end.
async fn web(site: &Site) -> Web {
    Web::open(site.proxy.ip(), site.proxy.at(Protocol::Ws), None).await
}

/// An OPTIONS of `web`'s, which may be answered on any flow.
fn question(web: &Web) -> String {
    format!(
        "OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/WS web{}.invalid;branch=z9hG4bK-q{}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <sip:{DOMAIN}>\r\nCall-ID: q\r\nCSeq: 1 OPTIONS\r\n\r\n",
        web.local.port(),
        unique()
    )
}

/// The next SIP message.
async fn sip(web: &mut Web) -> Sip {
    let message = web.receive().await;
    assert!(message.is_text() || message.is_binary(), "SIP wanted, this came: {message}");
    Sip::parse(&message.into_data()).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn the_handshake_of_the_rfc_and_frames_written_by_hand() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Ws]).await;
        let mut wire = Wire::tcp(site.proxy.at(Protocol::Ws)).await;
        wire.send(REQUEST.as_bytes()).await;
        let answer = wire.read_head().await;
        let (status, rows) = answer.split_once("\r\n").expect("a status line");
        assert_eq!(status, "HTTP/1.1 101 Switching Protocols");
        let value = |name: &str| {
            let mut rows = rows.split("\r\n").filter_map(|row| row.split_once(": "));
            rows.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        assert_eq!(value("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(value("Sec-WebSocket-Protocol"), Some("sip"));
        assert_eq!(value("Sec-WebSocket-Extensions"), None);

        // OPTIONS in one masked text frame, octet by octet.
        let text = question(&web(&site).await);
        let mask = [0xa1, 0x00, 0xff, 0x3c];
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(u16::try_from(text.len()).expect("a short message").to_be_bytes());
        frame.extend(mask);
        frame.extend(text.bytes().enumerate().map(|(at, octet)| octet ^ mask[at % 4]));
        for octet in frame {
            wire.send(&[octet]).await;
        }
        let head = wire.read_exact(4).await;
        assert_eq!((head[0], head[1]), (0x81, 126), "final, text, not masked: {head:?}");
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let answer = Sip::parse(&wire.read_exact(length).await).expect("SIP");
        assert_eq!((answer.status(), answer.need("Call-ID")), (200, "q"));
        // A close frame, and its answer.
        wire.send(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).await;
        assert_eq!(wire.read_until_closed(PROMPT).await, [0x88, 2, 0x03, 0xe9]);
    });
}

#[test]
fn what_asks_for_something_else_is_told_so_and_logged_within_the_limit() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "maximum_header_bytes", "2048");
        let site = Site::open(settings, &[Protocol::Ws, Protocol::Wss]).await;
        let table = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "426 ", "Sec-WebSocket-Version: 13"),
            (REQUEST.replace("Version: 13", "Version: 7"), "426 ", "Upgrade: websocket"),
            (REQUEST.replace("Protocol: sip", "Protocol: chat"), "400 ", "subprotocol sip is not offered"),
            (
                REQUEST.replace("Sec-WebSocket-Protocol: sip\r\n", ""),
                "400 ",
                "subprotocol sip is not offered",
            ),
            (REQUEST.replace("==", "!="), "400 ", "Sec-WebSocket-Key"),
            (REQUEST.replace("GET", "POST"), "405 ", "Allow: GET"),
            (REQUEST.replace("/chat", &"/chat".repeat(500)), "431 ", "too large"),
            (format!("OPTIONS sip:{DOMAIN} SIP/2.0\r\nCall-ID: 1\r\n\r\n"), "400 ", "not an HTTP request"),
            ("\u{16}\u{3}\u{1}\u{2}".to_owned(), "400 ", "not an HTTP request"),
        ];
        for (request, status, part) in &table {
            let mut wire = Wire::tcp(site.proxy.at(Protocol::Ws)).await;
            wire.send(request.as_bytes()).await;
            let answer = wire.read_until_closed(Duration::from_secs(8)).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
            assert!(answer.contains(part), "{request:?}: {answer}");
        }
        let lines = || site.proxy.log().lines().filter(|line| line.contains(" websocket_failed ")).count();
        eventually(PROMPT, "the refusals are logged", || (lines() == table.len()).then_some(())).await;
        for _ in 0..20 {
            let mut wire = Wire::tcp(site.proxy.at(Protocol::Ws)).await;
            wire.send(b"GET / HTTP/1.1\r\n\r\n").await;
            wire.read_until_closed(Duration::from_secs(4)).await;
        }
        // Ten lines in ten seconds, whatever comes; the next one says how many were left out.
        assert!(lines() <= 20, "{} lines", lines());
        site.is_well(Protocol::Ws).await;
        site.is_well(Protocol::Wss).await;
    });
}

#[test]
fn text_and_binary_are_taken_and_what_is_no_utf8_leaves_as_binary() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Ws, Protocol::Tcp]).await;
        let mut web = web(&site).await;
        for message in [Message::text(question(&web)), Message::binary(question(&web))] {
            web.send(message).await.expect("it is open");
            assert_eq!(sip(&mut web).await.status(), 200);
        }
        // A registration, so that bodies come this way.
        let port = web.local.port();
        let register = question(&web).replace("OPTIONS", "REGISTER").replace(
            "\r\n\r\n",
            &format!("\r\nContact: <sip:web@web{port}.invalid;transport=ws>\r\nExpires: 600\r\n\r\n"),
        );
        let register = register.replace(&format!("To: <sip:{DOMAIN}>"), &format!("To: <{}>", uri("web")));
        web.send(Message::text(register)).await.expect("it is open");
        assert_eq!(sip(&mut web).await.status(), 200);
        let mut a = site.connect(Protocol::Tcp).await;
        for body in ["gr\u{fc}\u{df} dich".as_bytes(), b"\x00\xff\xfe", b""] {
            let request = a.message(&uri("alice"), &uri("web"), "").body("application/octet-stream", body);
            a.send(&request).await;
            let message = web.receive().await;
            assert_eq!(message.is_text(), std::str::from_utf8(body).is_ok(), "{body:?}");
            let arrived = Sip::parse(&message.into_data()).expect("SIP");
            assert_eq!(arrived.body, body);
            let response = Sip::response(&arrived, 200, "OK", "web").without("Content-Length");
            // Without Content-Length, which the proxy adds for TCP.
            let text =
                String::from_utf8(response.to_bytes()).expect("text").replace("Content-Length: 0\r\n", "");
            web.send(Message::text(text)).await.expect("it is open");
            assert_eq!(a.receive_response(200).await.need("Content-Length"), "0");
        }
        // Text that is none ends the connection (RFC 6455 §8.1).
        let mut raw = Wire::tcp(site.proxy.at(Protocol::Ws)).await;
        raw.send(REQUEST.as_bytes()).await;
        raw.read_head().await;
        raw.send(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).await;
        assert_eq!(raw.read_until_closed(Duration::from_secs(4)).await, [0x88, 2, 0x03, 0xef]);
    });
}

#[test]
fn one_message_holds_one_sip_message() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Ws, Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        let mut a = site.connect(Protocol::Ws).await;
        let message = a.message(&uri("alice"), &uri("bob"), "one");
        let text = String::from_utf8(message.to_bytes()).expect("text");
        for (octets, reason) in [
            (text.clone() + &text, "Octets Behind Content-Length"),
            (text.clone() + "more", "Octets Behind Content-Length"),
            (text.replace("Content-Length: 3", "Content-Length: 4"), "Body Shorter Than Content-Length"),
            (text.replace("Content-Length: 3", "Content-Length: x"), "Malformed Content-Length"),
        ] {
            a.send_bytes(octets.as_bytes()).await;
            let refused = final_response(&mut a).await;
            assert_eq!(refused.start_line, format!("SIP/2.0 400 {reason}"));
        }
        b.receive_nothing(SILENCE).await;
        // The connection is as good as before: where the next message begins was never in doubt.
        let message = a.message(&uri("alice"), &uri("bob"), "one");
        let text = String::from_utf8(message.to_bytes()).expect("text").replace("Content-Length: 3\r\n", "");
        a.send_bytes(text.as_bytes()).await;
        let arrived = b.receive_request("MESSAGE").await;
        assert_eq!((arrived.text(), arrived.need("Content-Length")), ("one", "3"));
        b.answer(&arrived, 200).await;
        a.receive_response(200).await;
    });
}

#[test]
fn fragments_are_one_message() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Ws]).await;
        let mut web = web(&site).await;
        let text = question(&web);
        let parts: Vec<_> = text.split_inclusive('\n').collect();
        let mut frames: Vec<_> = fragments(&parts).collect();
        frames.insert(3, Message::Ping("between".into()));
        web.send_all(frames).await;
        assert_eq!(web.receive().await, Message::Pong("between".into()));
        assert_eq!(sip(&mut web).await.status(), 200);
        // A message inside another.
        web.send_all(fragments(&parts).take(2)).await;
        web.send(Message::text(question(&web))).await.expect("it is open");
        assert_eq!(web.close_code().await, Some(1002));
    });
}

#[test]
fn what_is_too_large_is_refused_and_closed_with_1009() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "maximum_message_bytes", "4096").key(
            "limits",
            "maximum_header_bytes",
            "1024",
        );
        let site = Site::open(settings, &[Protocol::Ws]).await;
        for is_fragmented in [false, true] {
            let mut web = web(&site).await;
            let large = question(&web) + &"x".repeat(5_000);
            if is_fragmented {
                web.send_all(fragments(&[&large[..2_000], &large[2_000..4_000], &large[4_000..]])).await;
            } else {
                web.send(Message::text(large)).await.expect("it is open");
            }
            let refused = sip(&mut web).await;
            assert_eq!((refused.status(), refused.need("Call-ID")), (513, "q"));
            assert_eq!(web.close_code().await, Some(1009));
        }
        // Nothing that could be answered.
        let mut garbage = web(&site).await;
        garbage.send(Message::binary(vec![0xff; 5_000])).await.expect("it is open");
        assert_eq!(garbage.close_code().await, Some(1009));
        // A length alone is believed, and not waited for.
        let mut raw = Wire::tcp(site.proxy.at(Protocol::Ws)).await;
        raw.send(REQUEST.as_bytes()).await;
        raw.read_head().await;
        raw.send(
            &[&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..], &[b'x'; 2_000]]
                .concat(),
        )
        .await;
        assert_eq!(raw.read_until_closed(Duration::from_secs(4)).await, [0x88, 2, 0x03, 0xf1]);
        // A header section past its limit leaves the connection alone.
        let mut a = site.connect(Protocol::Ws).await;
        let request = options(&a).with("X-Long", "x".repeat(2_000));
        assert_eq!(a.exchange(&request).await.status(), 513);
        answers_options(&mut a).await;
        site.is_well(Protocol::Ws).await;
    });
}

#[test]
fn silent_and_slow_clients_lose_the_connection_and_disturb_nobody() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "handshake_timeout", "\"3s\"").key(
            "limits",
            "message_timeout",
            "\"3s\"",
        );
        let site = Site::open(settings, &[Protocol::Ws, Protocol::Wss]).await;
        let begun = Instant::now();
        let mut slow = Vec::new();
        for number in 0..60 {
            let protocol = if number % 2 == 0 { Protocol::Ws } else { Protocol::Wss };
            let mut wire = Wire::tcp(site.proxy.at(protocol)).await;
            wire.send(if number % 3 == 0 { b"" } else { &REQUEST.as_bytes()[..40] }).await;
            slow.push(wire);
        }
        // Half a message: the first of two fragments, then pings, which give it no more time.
        let mut web = web(&site).await;
        let text = question(&web);
        web.send_all(fragments(&[&text[..20], &text[20..]]).take(1)).await;
        while web.send(Message::Ping("still here".into())).await.is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(20), "half a message is waited for");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(2500));
        for wire in &mut slow {
            wire.read_until_closed(Duration::from_secs(4)).await;
        }
        site.is_well(Protocol::Ws).await;
        site.is_well(Protocol::Wss).await;
    });
}

#[test]
fn pings_and_crlf_are_answered_and_keep_the_connection() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "idle_timeout", "\"3s\"");
        let site = Site::open(settings, &[Protocol::Ws]).await;
        let (mut idle, mut kept) = (web(&site).await, web(&site).await);
        let begun = Instant::now();
        let end = async {
            idle.end().await;
            assert!(begun.elapsed() >= Duration::from_millis(2500), "{:?}", begun.elapsed());
        };
        let keep = async {
            let mut number = 0;
            while begun.elapsed() < Duration::from_secs(8) {
                number += 1;
                if number % 2 == 0 {
                    kept.send(Message::Ping(vec![b'x'; 125].into())).await.expect("it is kept");
                    assert_eq!(kept.receive().await, Message::Pong(vec![b'x'; 125].into()));
                } else {
                    kept.send(Message::text("\r\n\r\n")).await.expect("it is kept");
                    assert_eq!(kept.receive().await, Message::text("\r\n"), "RFC 5626 §4.4.1");
                }
                // A single CRLF, a pong that nobody has asked for, nothing at all: taken and not answered.
                kept.send_all([Message::text("\r\n"), Message::Pong("".into()), Message::binary("")]).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            kept.send(Message::text(question(&kept))).await.expect("it is kept");
            assert_eq!(sip(&mut kept).await.status(), 200);
        };
        futures_util::future::join(end, keep).await;
    });
}

#[test]
fn what_is_no_sip_is_closed_with_1003_behind_what_was() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Ws]).await;
        for nonsense in ["hello", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "{\"json\": true}"] {
            let mut web = web(&site).await;
            web.send_all([
                Message::text(question(&web)),
                Message::text(nonsense),
                Message::text(question(&web)),
            ])
            .await;
            // The question's answer comes from a Router, and may find the connection closed.
            let code = match web.receive().await {
                Message::Close(close) => close.map(|close| u16::from(close.code)),
                _ => web.close_code().await,
            };
            assert_eq!(code, Some(1003));
        }
        site.is_well(Protocol::Ws).await;
    });
}

#[test]
fn many_messages_at_once_arrive_in_order() {
    run(LIMIT, async {
        const COUNT: usize = 500;
        let site = Site::open(open_house(), &[Protocol::Ws, Protocol::Wss]).await;
        let mut b = site.server(Protocol::Wss, "bob").await;
        let mut web = web(&site).await;
        let via = |number: usize| format!("SIP/2.0/WS web.invalid;branch=z9hG4bK-o{number}");
        let message = |number: usize| {
            let message =
                Sip::request("MESSAGE", &uri("bob")).with("Via", via(number)).with("Max-Forwards", "70");
            let message = message
                .with("From", format!("<{}>;tag=1", uri("alice")))
                .with("To", format!("<{}>", uri("bob")));
            let message = message.with("Call-ID", "order").with("CSeq", format!("{} MESSAGE", number + 1));
            Message::binary(message.body("text/plain", number.to_string()).to_bytes())
        };
        web.send_all((0..COUNT).map(message)).await;
        for number in 0..COUNT {
            let arrived = b.receive_request("MESSAGE").await;
            assert_eq!(arrived.text(), number.to_string());
            b.answer(&arrived, 200).await;
        }
        for _ in 0..COUNT {
            assert_eq!(sip(&mut web).await.status(), 200);
        }
    });
}
