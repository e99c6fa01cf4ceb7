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

/// Every header that has a compact name (RFC 3261 §7.3.3, §20; RFC 4028, 6665, 8224), by that name, in any case,
/// folded and in lists.
fn compact(wire: &Wire, user: &str) -> Vec<u8> {
    let (transport, local, number) = (wire.transport(), wire.local(), unique());
    format!(
        "MESSAGE sip:{user}@{DOMAIN} SIP/2.0\r\nV: SIP/2.0/{transport}\r\n {local}\r\n\t;branch=z9hG4bK-k{number} ,\r\n \
         SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKk\r\nv:SIP/2.0/TCP p.example.net;branch=z9hG4bKl\r\nmax-forwards:   70\r\n\
         F\t:\r\n  sip:alice@{DOMAIN}\r\n  ;tag=k{number}\r\nT: \"B, ob\"\r\n <sip:{user}@{DOMAIN}>\r\ni:k{number}\r\n\
         cseq:\r\n 7\r\n MESSAGE\r\nm: <sip:alice@192.0.2.9>;q=0.5\r\n , \"<\" <sip:alice@[2001:db8::1]:5070>\r\n\
         M: <sip:alice@192.0.2.10;x=\"y\">\r\ns: one\r\n two\r\nk: x-one , x-two\r\nK: x-three\r\no: presence\r\n\
         E: identity\r\nu: presence, x\r\nU:y\r\nx: 1800;refresher=uac\r\nR: <sip:carl@{DOMAIN}>\r\n\
         C: text/plain\r\nL\t :\r\n 5\r\n\r\nhello"
    )
    .into_bytes()
}

/// A request with a method and headers that nobody has heard of.
fn unheard_of(wire: &Wire, method: &str, user: &str) -> Vec<u8> {
    let (transport, local, number) = (wire.transport(), wire.local(), unique());
    format!(
        "{method} sip:{user}@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK-u{number}\r\n\
         Max-Forwards:   70\r\nX-ms-y: a;b=\"c\", d\r\nFrom: <sip:alice@{DOMAIN}>;tag=1;epid=01010101\r\n\
         To: <sip:{user}@{DOMAIN}>\r\nCall-ID: u{number}\r\nCSeq: 1 {method}\r\nx-MS-y: e\r\n$~: ~$\r\n\
         Event: x;y\r\nms-body-info: none\r\nContent-Type: application/x-nobody-knows\r\nContent-Length: 3\r\n\r\n\0\r\n"
    )
    .replace("$~", "!%*_+`'~.-X")
    .into_bytes()
}

/// A MESSAGE with a body of more than 10 kB, many parts, and rows of one name that are out of any order.
fn voluminous(wire: &Wire, user: &str) -> Vec<u8> {
    let (transport, local, number) = (wire.transport(), wire.local(), unique());
    let mut body = b"preamble\r\n".to_vec();
    for part in 0..10u32 {
        body.extend(format!("--=_b\r\nContent-Type: application/x-part; n={part}\r\n\r\n").into_bytes());
        body.extend((0..1024u32).map(|at| (at * 7 + part) as u8));
        body.extend(b"\r\nMESSAGE sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n");
    }
    body.extend(b"--=_b--\r\n");
    let rows = [9, 1, 8, 2, 7, 3].map(|row| format!("X-Row: {row}\r\nAccept: a/{row}, b/{row}\r\n"));
    let head = format!(
        "MESSAGE sip:{user}@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK-m{number}\r\n\
         Max-Forwards:   70\r\nFrom: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <sip:{user}@{DOMAIN}>\r\n{}Call-ID: m{number}\r\n\
         CSeq: 1 MESSAGE\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"=_b\"\r\n\
         Content-Length: {}\r\n\r\n",
        rows.concat(),
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// The Via that the proxy has put before all others.
fn own_via<'a>(arrived: &'a [u8], proxy: &str) -> &'a [u8] {
    let mut lines = arrived.split_inclusive(|octet| *octet == b'\n');
    let first = lines.find(|line| line.to_ascii_lowercase().starts_with(b"v")).expect("a Via");
    assert!(first.starts_with(b"Via: ") && contains(first, proxy.as_bytes()), "{}", first.escape_ascii());
    first
}

/// What of `arrived` is not the proxy's: its own Via line and its Max-Breadth are gone, Max-Forwards is put back.
fn without_the_proxy(arrived: &[u8], proxy: &str) -> Vec<u8> {
    let text = replaced(arrived, own_via(arrived, proxy), b"");
    let text = replaced(&text, b"Max-Breadth: 60\r\n", b"");
    replaced(&text, b"   69\r\n", b"   70\r\n")
}

/// With the first `part` replaced.
fn replaced(octets: &[u8], part: &[u8], by: &[u8]) -> Vec<u8> {
    let place = octets.windows(part.len()).position(|window| window == part);
    let place = place.unwrap_or_else(|| panic!("no {} in it", part.escape_ascii()));
    [&octets[..place], by, &octets[place + part.len()..]].concat()
}

fn contains(octets: &[u8], part: &[u8]) -> bool {
    octets.windows(part.len()).any(|window| window == part)
}

/// Two UC servers that find each other's users by search, which leaves the Request-URI alone.
async fn two_wires(site: &Site, protocol: Protocol) -> (Wire, Wire) {
    let (mut here, mut there) =
        (Wire::open(&site.proxy, protocol).await, Wire::open(&site.proxy, protocol).await);
    there.log_on("somebody").await;
    here.log_on("alice").await;
    (here, there)
}

/// `sent` arrives as it is, but for what is the proxy's.
async fn arrives(site: &Site, here: &mut Wire, there: &mut Wire, sent: &[u8]) -> Vec<u8> {
    here.send(sent).await;
    let arrived = there.receive().await;
    let left = without_the_proxy(&arrived, &site.proxy.ip().to_string());
    assert_eq!(left.escape_ascii().to_string(), sent.escape_ascii().to_string());
    arrived
}

#[test]
fn what_the_proxy_need_not_change_arrives_octet_for_octet() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let site = Site::open(open_house(), &[protocol]).await;
            let (mut here, mut there) = two_wires(&site, protocol).await;
            for status in ["299 Sch\u{f6}n  ist's", "486 ", "603 :-("] {
                let sent = difficult(&here, "bob");
                let arrived = arrives(&site, &mut here, &mut there, &sent).await;
                let response = difficult_response(&arrived, status);
                there.send(&response).await;
                let left = replaced(&response, own_via(&arrived, &site.proxy.ip().to_string()), b"");
                let answered = here.receive().await;
                assert_eq!(answered.escape_ascii().to_string(), left.escape_ascii().to_string());
            }
        }
    });
}

#[test]
fn compact_names_folding_and_lists_stay_as_they_are() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let site = Site::open(open_house(), &[protocol]).await;
            let (mut here, mut there) = two_wires(&site, protocol).await;
            let sent = compact(&here, "bob");
            let arrived = arrives(&site, &mut here, &mut there, &sent).await;
            there.send(&difficult_response(&arrived, "200 OK")).await;
            assert!(here.receive().await.starts_with(b"SIP/2.0 200 OK\r\n"));
        }
    });
}

#[test]
fn methods_and_headers_that_nobody_knows_stay_as_they_are() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let site = Site::open(open_house(), &[protocol]).await;
            let (mut here, mut there) = two_wires(&site, protocol).await;
            for method in ["FOO", "SERVICE", "foo-!%*_+`'~.9", "BENOTIFY"] {
                let sent = unheard_of(&here, method, "bob");
                let arrived = arrives(&site, &mut here, &mut there, &sent).await;
                // BENOTIFY is never answered (MS-SIP 3.5).
                if method != "BENOTIFY" {
                    there.send(&difficult_response(&arrived, "200 OK")).await;
                    assert!(here.receive().await.starts_with(b"SIP/2.0 200 OK\r\n"));
                }
            }
        }
    });
}

#[test]
fn ten_kilobytes_of_many_parts_stay_as_they_are() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let site = Site::open(open_house(), &[protocol]).await;
            let (mut here, mut there) = two_wires(&site, protocol).await;
            let sent = voluminous(&here, "bob");
            assert!(sent.len() > 10_240);
            let arrived = arrives(&site, &mut here, &mut there, &sent).await;
            there.send(&difficult_response(&arrived, "200 OK")).await;
            assert!(here.receive().await.starts_with(b"SIP/2.0 200 OK\r\n"));
        }
    });
}

/// The response to what `arrived`, odd in many ways.
fn difficult_response(arrived: &[u8], status: &str) -> Vec<u8> {
    let end = arrived.windows(4).position(|four| four == b"\r\n\r\n").expect("a header section") + 2;
    let mut response = format!("SIP/2.0 {status}\r\nX-Early: 1\r\n").into_bytes();
    let mut name = Vec::new();
    for line in arrived[..end].split_inclusive(|octet| *octet == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            if is_to(&name) {
                response.extend_from_slice(b"  ;tag=\"To%2 \"\r\n");
            }
            let written = line.split(|octet| *octet == b':').next().unwrap_or_default();
            name = written.trim_ascii().to_ascii_lowercase();
        }
        if is_to(&name) || [&b"v"[..], b"via", b"f", b"from", b"i", b"call-id", b"cseq"].contains(&&*name) {
            response.extend_from_slice(line);
        }
    }
    response.extend_from_slice(b"X-Late:\xff\xfe\r\n  folded\r\nX-Late: ,\r\nL: 3\r\nX-End:\r\n\r\n\x00\r\n");
    response
}

fn is_to(name: &[u8]) -> bool {
    matches!(name, b"t" | b"to")
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
fn the_largest_datagram_is_taken() {
    run(LIMIT, async {
        // 65,535 octets without the headers of IPv4 and UDP.
        const LARGEST: usize = 65_507;
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.server(Protocol::Tcp, "bob").await);
        let notify = a.request("NOTIFY", &uri("bob"), &uri("alice"), &uri("bob")).with("Event", "presence");
        let notify = notify.with("Subscription-State", "active");
        let of_body = |length| notify.clone().body("application/pidf+xml", vec![b'x'; length]);
        let length = 60_000 + LARGEST - of_body(60_000).to_bytes().len();
        let notify = of_body(length);
        assert_eq!(notify.to_bytes().len(), LARGEST);
        let (arrived, _) = relay(&notify, &mut a, &mut b, 200).await;
        assert_eq!(arrived.body.len(), length);
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
