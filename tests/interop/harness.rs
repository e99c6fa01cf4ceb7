//! The tests' own SIP library, held against the texts of the RFCs: what it gets wrong, every other test would.

use std::time::Duration;

use futures_util::future::join;

use crate::common::agent::Agent;
use crate::common::certificates::Authority;
use crate::common::digest::{Challenge, Credentials, proves};
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::loopback;
use crate::common::sip::{Frame, Sip, host_port_of, parameter, take_frame, uri_of, user_of};

/// RFC 7616 §3.9.1, with the algorithm and the response left open.
const MUFASA: &str = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
     nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
     cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth";

#[test]
fn digests_are_those_of_the_rfc() {
    for (algorithm, response) in [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let value = format!("{MUFASA}, algorithm={algorithm}, response=\"{response}\"");
        assert!(proves(&value, "GET", "Circle of Life"), "{algorithm}");
        assert!(!proves(&value, "GET", "Circle of life"), "{algorithm}");
        assert!(!proves(&value, "PUT", "Circle of Life"), "{algorithm}");
    }
}

#[test]
fn an_answer_proves_the_password_to_the_other_end() {
    let challenged =
        Sip { start_line: "SIP/2.0 407 Prove It".to_owned(), headers: Vec::new(), body: Vec::new() };
    for algorithm in ["MD5", "SHA-256", "SHA-512-256"] {
        let value =
            format!("Digest realm=\"a, b\", nonce=\"n\", qop=\"auth,auth-int\", algorithm={algorithm}");
        let challenge = Challenge::first(&challenged.clone().with("Proxy-Authenticate", value));
        assert_eq!((challenge.realm.as_str(), challenge.qop.as_deref()), ("a, b", Some("auth,auth-int")));
        let credentials = Credentials { user: "alice", password: "secret" };
        let answer = challenge.answer("MESSAGE", "sip:bob@example.org", credentials, 1);
        assert!(proves(&answer, "MESSAGE", "secret"), "{answer}");
        assert!(!proves(&answer, "MESSAGE", "Secret"), "{answer}");
    }
}

#[test]
fn compact_folded_and_listed_headers_are_read() {
    let octets = b"INVITE sip:bob@b.test SIP/2.0\r\n\
        v: SIP/2.0/UDP a.test;branch=z9hG4bK1 ,\r\n  SIP/2.0/TCP b.test\r\n\
        VIA: SIP/2.0/TLS c.test\r\nm: \"a, <b>\" <sip:x@y:5070;lr>;q=0.5;x=\"<;>\" ;expires=7\r\nl: 2\r\n\r\nhi";
    let message = Sip::parse(octets).expect("it is well-formed");
    let hosts: Vec<_> = message.values("Via").into_iter().filter_map(|via| via.split(' ').nth(1)).collect();
    assert_eq!(hosts, ["a.test;branch=z9hG4bK1", "b.test", "c.test"]);
    let contact = message.need("Contact");
    assert_eq!((uri_of(contact), parameter(contact, "expires")), ("sip:x@y:5070;lr", Some("7")));
    assert_eq!((user_of(uri_of(contact)), host_port_of(uri_of(contact))), ("x", "y:5070"));
    assert_eq!((message.method(), message.text()), ("INVITE", "hi"));
}

#[test]
fn values_leave_from_the_front_of_a_list() {
    let mut message =
        Sip::request("ACK", "sip:x").with("Route", "<sip:a,b>, <sip:c>").with("route", "<sip:d>");
    let routes: Vec<_> = std::iter::from_fn(|| message.pop_front("Route")).collect();
    assert_eq!(routes, ["<sip:a,b>", "<sip:c>", "<sip:d>"]);
    assert_eq!(message.headers, []);
}

#[test]
fn a_wrong_content_length_is_a_fault() {
    let message = Sip::request("OPTIONS", "sip:x").body("text/plain", "four");
    assert_eq!(Sip::parse(&message.to_bytes()).expect("it is well-formed").text(), "four");
    assert!(Sip::parse(&message.with("Content-Length", "5").to_bytes()).is_err());
}

#[test]
fn a_stream_is_cut_wherever_it_arrives_in_pieces() {
    let message = Sip::request("MESSAGE", "sip:x").body("text/plain", "a\r\n\r\nb").to_bytes();
    let stream = [b"\r\n\r\n".as_slice(), &message, b"\r\n", &message].concat();
    let frames = [Frame::Ping, Frame::Message(message.clone()), Frame::Pong, Frame::Message(message.clone())];
    // A CRLF at the end of what has arrived may be half of a double one, so pieces end inside messages.
    for piece in [stream.len(), 7, 11, 40] {
        let (mut buffer, mut cut) = (Vec::new(), Vec::new());
        for octets in stream.chunks(piece) {
            buffer.extend_from_slice(octets);
            cut.extend(std::iter::from_fn(|| take_frame(&mut buffer)));
        }
        assert_eq!(cut, frames, "in pieces of {piece} octets");
    }
}

#[test]
fn agents_speak_mutual_tls() {
    run(Duration::from_secs(10), async {
        let (authority, ip) = (Authority::new("harness"), loopback());
        let (server, client) = (authority.server(&[&ip.to_string()]), authority.client("uc.example.org"));
        let port = Port::tls(ip, authority.server_config(&server, true)).await;
        let settings = authority.client_config(Some(&client));
        let (mut here, mut there) = join(Agent::tls(ip, port.local(), settings), port.accept()).await;
        let request = here.message("sip:alice@a.test", "sip:bob@a.test", "hello");
        here.send(&request).await;
        let received = there.receive_request("MESSAGE").await;
        assert_eq!(received.text(), "hello");
        there.answer(&received, 200).await;
        assert_eq!(here.receive().await.need("CSeq"), request.need("CSeq"));
        there.reset();
        assert!(here.is_closed_by_peer().await);
    });
}

#[test]
fn a_message_passes_from_agent_to_agent_through_the_proxy() {
    run(Duration::from_secs(30), async {
        let authority = Authority::new("harness");
        let settings =
            Settings::new("a.test").account("one", "first").account("two", "second").tls(&authority);
        let settings = settings.listen(Protocol::Udp).listen(Protocol::Tcp).listen(Protocol::Tls);
        let mut proxy = settings.start().await;
        let mut one = Agent::udp(loopback(), proxy.at(Protocol::Udp)).await;
        let config = authority.client_config(None);
        let mut two = Agent::tls(loopback(), proxy.at(Protocol::Tls), config).await;
        one.log_on("a.test", "one", "first").await;
        two.log_on("a.test", "two", "second").await;
        let request = one.message("sip:alice@a.test", "sip:bob@a.test", "hello");
        one.send(&request).await;
        let received = two.receive_request("MESSAGE").await;
        assert_eq!((received.text(), received.values("Via").len()), ("hello", 2));
        two.answer(&received, 200).await;
        assert_eq!(one.receive_response(200).await.values("Via").len(), 1);
        assert!(proxy.terminate().await.success());
    });
}
