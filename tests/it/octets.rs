//! What the proxy need not change arrives as it was sent, octet for octet, be it odd or large.

use tokio::net::TcpListener;

use crate::common::agent::{Agent, unique};
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::sip::Sip;
use crate::support::{DOMAIN, LIMIT, Site, Wire, open_house, relay, uri};

/// A MESSAGE that is hard to leave alone, from `wire` to `user`.
fn difficult(wire: &Wire, user: &str) -> Vec<u8> {
    let (transport, local, number) = (wire.transport(), wire.local(), unique());
    let mut octets = format!(
        "MESSAGE sip:{user}@{DOMAIN};x=%41;Y=z SIP/2.0\r\nX-First:1\r\nv : SIP/2.0/{transport} {local}\r\n\
         \x20 ;branch=z9hG4bK-d{number};X=\"a,b\"\r\nVIA: SIP/2.0/TCP 192.0.2.7 ; branch=z9hG4bK77, SIP/2.0/UDP [2001:db8::9]:5070\r\n\
         mAx-FoRwArDs:   70\r\nf: \"A. Lice <x>\" <sip:alice@{DOMAIN};epid=1a>;tag=a{number};epid=\"q\"\r\n\
         t: sip:{user}@EXAMPLE.org\r\ni: {number}@Host\r\nCSEQ:\t1   MESSAGE\r\nX-Empty:\r\nx-twice: one\r\n\
         Subject: folded\r\n\t again\r\n  and again\r\nX-Twice: two,  three\r\nu: a, b\r\nK: x-y\r\nx-twice: \r\n\
         c:text/plain;charset=\"utf-8\"\r\nRequire: foo\r\nX-Octets: "
    )
    .into_bytes();
    octets.extend_from_slice(&[0xff, 0xfe, 0x80, b' ', 0xc3, 0xa4]);
    octets.extend_from_slice(b"\r\nX-Colons: a:b::c\r\n!%*_+`'~: token\r\nl:  14\r\nX-Last: x \r\n\r\n");
    octets.extend_from_slice(b"\r\n\r\n\x00\x01\xff\xfeSIP\r\n\x00");
    octets
}

/// What of `arrived` is not the proxy's: its own Via line and its Max-Breadth are gone, Max-Forwards is put back.
fn without_the_proxy(arrived: &[u8], proxy: &str) -> Vec<u8> {
    let end = arrived.windows(4).position(|four| four == b"\r\n\r\n").expect("a header section") + 2;
    let mut lines: Vec<&[u8]> = arrived[..end].split_inclusive(|octet| *octet == b'\n').collect();
    let is_ours = |line: &&[u8]| line.starts_with(b"Via: ") && contains(line, proxy.as_bytes());
    let own = lines.iter().position(is_ours).expect("the proxy's Via");
    let first_via = lines.iter().position(|line| line.to_ascii_lowercase().starts_with(b"v"));
    assert_eq!(Some(own), first_via, "the proxy's Via is the first");
    lines.remove(own);
    assert_eq!(lines.pop(), Some(&b"Max-Breadth: 60\r\n"[..]), "the proxy's row is the last");
    let text = [&lines.concat(), &arrived[end..]].concat();
    let place = text.windows(5).position(|five| five == b"   69").expect("Max-Forwards, counted down");
    [&text[..place], b"   70", &text[place + 5..]].concat()
}

fn contains(octets: &[u8], part: &[u8]) -> bool {
    octets.windows(part.len()).any(|window| window == part)
}

#[test]
fn what_the_proxy_need_not_change_arrives_octet_for_octet() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let site = Site::open(open_house(), &[protocol]).await;
            let (mut here, mut there) =
                (Wire::open(&site.proxy, protocol).await, Wire::open(&site.proxy, protocol).await);
            // By search, which leaves the Request-URI alone.
            there.log_on("somebody").await;
            here.log_on("alice").await;
            let sent = difficult(&here, "bob");
            here.send(&sent).await;
            let arrived = there.receive().await;
            let left = without_the_proxy(&arrived, &site.proxy.ip().to_string());
            assert_eq!(left.escape_ascii().to_string(), sent.escape_ascii().to_string());

            let response = difficult_response(&arrived);
            there.send(&response).await;
            let answered = here.receive().await;
            let end =
                |octets: &[u8]| octets.windows(7).position(|seven| seven == b"X-Late:").map(|at| at + 7);
            assert_eq!(
                answered[end(&answered).expect("it is there")..],
                response[end(&response).expect("it is there")..]
            );
            assert!(
                answered.starts_with(b"SIP/2.0 299 Sch\xc3\xb6n  ist's\r\nX-Early: 1\r\n"),
                "{}",
                answered.escape_ascii()
            );
        }
    });
}

/// The response to what `difficult` is, as odd as that.
fn difficult_response(arrived: &[u8]) -> Vec<u8> {
    let end = arrived.windows(4).position(|four| four == b"\r\n\r\n").expect("a header section") + 2;
    let mut response = b"SIP/2.0 299 Sch\xc3\xb6n  ist's\r\nX-Early: 1\r\n".to_vec();
    let mut is_copied = false;
    for line in arrived[..end].split_inclusive(|octet| *octet == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line
                .split(|octet| *octet == b':')
                .next()
                .unwrap_or_default()
                .trim_ascii()
                .to_ascii_lowercase();
            is_copied = [&b"v"[..], b"via", b"f", b"t", b"i", b"cseq"].contains(&&*name);
        }
        if is_copied {
            response.extend_from_slice(line);
        }
    }
    response.extend_from_slice(b"X-Late:\xff\xfe\r\n  folded\r\nL: 3\r\nX-End:\r\n\r\n\x00\r\n");
    response
}

#[test]
fn sixty_thousand_octets_pass_by_udp_and_by_tcp() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let body: Vec<u8> = (0..60_000u32).map(|number| (number * 31 % 251) as u8).collect();
        for from in [Protocol::Udp, Protocol::Tcp] {
            for to in [Protocol::Udp, Protocol::Tcp] {
                let bob = format!("bob-{}", unique());
                let (mut a, mut b) = (site.connect(from).await, site.server(to, &bob).await);
                let request =
                    a.message(&uri("alice"), &uri(&bob), "").body("application/octet-stream", &*body);
                let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
                assert!(arrived.body == body, "{from:?} to {to:?}: {} octets", arrived.body.len());
            }
        }
    });
}

#[test]
fn large_requests_leave_by_tcp_and_by_udp_where_nobody_listens() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let mut a = site.server(Protocol::Udp, "alice").await;
        let mut b = site.server(Protocol::Udp, "bob").await;
        let listener = TcpListener::bind(b.local()).await.expect("the port is free for TCP");
        let large = |a: &Agent, to: &str| a.message(&uri("alice"), &uri(to), &"x".repeat(1400));

        a.send(&large(&a, "bob")).await;
        let (stream, _) = listener.accept().await.expect("the proxy connects");
        let mut stream = Wire::over(stream);
        let arrived = Sip::parse(&stream.receive().await).expect("it is a message");
        assert!(arrived.need("Via").starts_with("SIP/2.0/TCP "), "RFC 3261 §18.1.1:\n{arrived}");
        assert_eq!(arrived.text().len(), 1400);
        stream.send(&b.response(&arrived, 200).to_bytes()).await;
        a.receive_response(200).await;

        let small = a.message(&uri("alice"), &uri("bob"), "small");
        let (arrived, _) = relay(&small, &mut a, &mut b, 200).await;
        assert!(arrived.need("Via").starts_with("SIP/2.0/UDP "), "{arrived}");

        let mut carol = site.server(Protocol::Udp, "carol").await;
        let (arrived, _) = relay(&large(&a, "carol"), &mut a, &mut carol, 200).await;
        assert!(arrived.need("Via").starts_with("SIP/2.0/UDP "), "nobody listens there:\n{arrived}");
    });
}

#[test]
fn a_length_is_added_where_a_stream_needs_one() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tls]).await;
        let (mut a, mut b) =
            (Wire::open(&site.proxy, Protocol::Udp).await, site.server(Protocol::Tls, "bob").await);
        let request = b.message(&uri("alice"), &uri("bob"), "five!");
        let request = request.set("Via", format!("SIP/2.0/UDP {};branch=z9hG4bK-l{}", a.local(), unique()));
        let text = String::from_utf8(request.to_bytes()).expect("it is text");
        a.send(text.replace("Content-Length: 5\r\n", "").as_bytes()).await;
        let arrived = b.receive_request("MESSAGE").await;
        assert_eq!((arrived.header("Content-Length"), arrived.text()), (Some("5"), "five!"));
        b.answer(&arrived, 200).await;
        assert!(a.receive().await.starts_with(b"SIP/2.0 200 "));
    });
}
