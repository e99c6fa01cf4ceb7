//! WebSocket connections (RFC 7118), with the library's own client at the other end.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message as WebMessage};

use super::tls::{Parties, secure};
use super::*;
use crate::config::Protocol;
use crate::protocol::message::Fault;

const HEAD: &str = "GET / HTTP/1.1\r\nHost: us.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

fn settings(world: &World) -> ConnectionSettings {
    ConnectionSettings { transport: Transport::Ws, ..world.connections() }
}

/// The client's handshake.
async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Result<WebSocketStream<S>, Error> {
    let mut request = "ws://us.example/".into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
    tokio_tungstenite::client_async(request, stream).await.map(|(socket, _)| socket)
}

async fn open(settings: ConnectionSettings) -> (WebSocketStream<TcpStream>, Addr<Connection>) {
    let (peer, connection) = accept(settings).await;
    (upgrade(peer).await.unwrap(), connection)
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(peer: &mut WebSocketStream<S>) -> WebMessage {
    timeout(PATIENCE, peer.next()).await.expect("a message").expect("no end").unwrap()
}

/// The code that the connection is closed with.
async fn close_code(peer: &mut WebSocketStream<TcpStream>) -> Option<CloseCode> {
    match next(peer).await {
        WebMessage::Close(close) => close.map(|close| close.code),
        other => panic!("a close wanted, this came: {other}"),
    }
}

/// One frame of a fragmented text message.
fn fragment(text: &str, is_first: bool, is_final: bool) -> WebMessage {
    let kind = if is_first { Data::Text } else { Data::Continue };
    WebMessage::Frame(Frame::message(text.to_owned(), OpCode::Data(kind), is_final))
}

#[actix::test]
async fn one_sip_message_is_one_web_socket_message_both_ways() {
    let mut world = World::new(1);
    let (mut peer, _connection) = open(settings(&world)).await;
    let opened = world.routers[0].opened.next().await;
    assert_eq!(opened.flow.transport, Transport::Ws);
    for number in 0..100 {
        let text = request(&number.to_string(), 0);
        let is_text = number % 2 == 0;
        peer.feed(if is_text { WebMessage::text(text) } else { WebMessage::binary(text) }).await.unwrap();
    }
    peer.flush().await.unwrap();
    for number in 0..100 {
        let received = world.routers[0].message().await;
        assert_eq!(received.message.bytes(), request(&number.to_string(), 0).as_bytes());
        assert_eq!((received.flow, received.proof, received.message.fault()), (opened.flow, None, None));
    }
    let answers: Vec<_> = (0..100).map(|number| outgoing(response(&number.to_string()), None)).collect();
    opened.connection.do_send(Transmit(answers));
    for number in 0..100 {
        assert_eq!(next(&mut peer).await, WebMessage::text(response(&number.to_string())));
    }
    let binary = [response("x").as_bytes(), b"\xff"].concat();
    opened.connection.do_send(Transmit(vec![Outgoing { bytes: binary.clone().into(), branch: None }]));
    assert_eq!(next(&mut peer).await, WebMessage::binary(binary));
    // It is found by its connection alone: nobody may take it for a connection to its address.
    let remote = opened.flow.remote;
    let key = peer_at(Transport::Ws, remote);
    assert!(world.directory.connection_to(&key).is_none());
    assert!(world.directory.connection(opened.flow.connection.unwrap()).is_some());
}

#[actix::test]
async fn content_length_may_be_absent_and_must_not_be_wrong() {
    let mut world = World::new(1);
    let (mut peer, _connection) = open(settings(&world)).await;
    let table = [
        (request("1", 0).replace("Content-Length: 2\r\n", ""), None),
        (request("1", 0).replace("Length: 2", "Length: 9"), Some(Fault::BodyTooShort)),
        (request("1", 0) + &request("2", 0), Some(Fault::BodyTooLong)),
    ];
    for (text, fault) in table {
        peer.send(WebMessage::text(text)).await.unwrap();
        let message = world.routers[0].message().await.message;
        assert_eq!((message.fault(), message.call_id(), message.body()), (fault, &b"1"[..], &b"hi"[..]));
    }
    world.routers[0].no_message().await;
}

#[actix::test]
async fn keep_alives_of_both_kinds_are_answered_and_are_traffic() {
    let mut world = World::new(1);
    let mut settings = settings(&world);
    settings.idle_timeout = Duration::from_secs(1);
    let (mut peer, _connection) = open(settings).await;
    for number in 0..6 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if number % 2 == 0 {
            peer.send(WebMessage::Ping("x".into())).await.unwrap();
            assert_eq!(next(&mut peer).await, WebMessage::Pong("x".into()));
        } else {
            peer.send(WebMessage::text("\r\n\r\n")).await.unwrap();
            assert_eq!(next(&mut peer).await, WebMessage::text("\r\n"));
        }
    }
    world.routers[0].closed.nothing().await;
    world.routers[0].closed.next().await;
}

#[actix::test]
async fn pings_between_fragments_do_not_give_a_message_more_time() {
    let mut world = World::new(1);
    let mut settings = settings(&world);
    settings.message_timeout = Duration::from_millis(300);
    let (mut peer, _connection) = open(settings).await;
    let started = Clock::now();
    peer.send(fragment(&request("1", 0), true, false)).await.unwrap();
    while peer.send(WebMessage::Ping("x".into())).await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(300));
    world.routers[0].closed.next().await;
    world.routers[0].no_message().await;
}

#[actix::test]
async fn what_is_too_large_is_answered_and_closed_with_1009() {
    for is_fragmented in [false, true] {
        let mut world = World::new(1);
        let (mut peer, _connection) = open(settings(&world)).await;
        let large = request("1", 0) + &"x".repeat(65_535);
        if is_fragmented {
            peer.send(fragment(&large[..40_000], true, false)).await.unwrap();
            peer.send(fragment(&large[40_000..], false, true)).await.unwrap();
        } else {
            peer.send(WebMessage::text(large)).await.unwrap();
        }
        let answer = next(&mut peer).await.into_text().unwrap();
        assert!(answer.starts_with("SIP/2.0 513 Message Too Large\r\n") && answer.contains("Call-ID: 1\r\n"));
        assert_eq!(close_code(&mut peer).await, Some(CloseCode::Size));
        world.routers[0].closed.next().await;
        world.routers[0].no_message().await;
    }
}

#[actix::test]
async fn what_is_no_sip_ends_the_connection_behind_what_was() {
    let mut world = World::new(1);
    let (mut peer, _connection) = open(settings(&world)).await;
    for text in [request("1", 0), "hello".to_owned(), request("2", 0)] {
        peer.feed(WebMessage::text(text)).await.unwrap();
    }
    peer.flush().await.unwrap();
    assert_eq!(close_code(&mut peer).await, Some(CloseCode::Unsupported));
    assert_eq!(world.routers[0].message().await.message.call_id(), b"1");
    world.routers[0].no_message().await;
    world.routers[0].closed.next().await;
}

#[actix::test]
async fn a_close_is_answered_and_the_end_told() {
    let mut world = World::new(1);
    let (mut peer, _connection) = open(settings(&world)).await;
    let opened = world.routers[0].opened.next().await;
    peer.close(None).await.unwrap();
    assert!(matches!(next(&mut peer).await, WebMessage::Close(None)));
    assert!(timeout(PATIENCE, peer.next()).await.expect("an end").is_none());
    assert_eq!(world.routers[0].closed.next().await.flow, opened.flow);
    assert_eq!(world.directory.connection_count(), 0);
}

#[actix::test]
async fn what_is_no_handshake_opens_no_connection() {
    let table = [
        (format!("{HEAD}\r\n"), "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\nHost: us.example\r\n\r\n".to_owned(), "HTTP/1.1 426 "),
        (format!("{HEAD}X: {}", "y".repeat(20_000)), "HTTP/1.1 431 "),
        (request("1", 0), "HTTP/1.1 400 "),
    ];
    for (text, expected) in table {
        let mut world = World::new(1);
        let (mut peer, _connection) = accept(settings(&world)).await;
        peer.write_all(text.as_bytes()).await.unwrap();
        let answer = rest(&mut peer).await;
        assert!(answer.starts_with(expected), "{text:?}: {answer:?}");
        drop(peer);
        world.routers[0].opened.nothing().await;
        world.routers[0].closed.nothing().await;
    }
}

#[actix::test]
async fn a_handshake_that_is_not_ended_has_its_time() {
    let world = World::new(1);
    for begin in ["", HEAD] {
        let mut settings = settings(&world);
        settings.handshake_timeout = Duration::from_millis(100);
        let (mut peer, _connection) = accept(settings).await;
        peer.write_all(begin.as_bytes()).await.unwrap();
        assert_eq!(rest(&mut peer).await, "");
        assert_eq!(world.directory.connection_count(), 0);
    }
}

#[actix::test]
async fn under_tls_it_is_the_same() {
    let parties = Parties::new();
    let mut world = World::new(1);
    let settings = parties.settings(&world, Protocol::Wss, &["ucs.example"]);
    let (peer, _connection) = accept(ConnectionSettings { transport: Transport::Wss, ..settings }).await;
    // A client certificate proves no account here.
    let certificate = parties.authority.issue(&["dns:ucs.example"], &[]);
    let peer = secure(peer, parties.client(Some(&certificate))).await.unwrap();
    let mut peer = upgrade(peer).await.unwrap();
    let opened = world.routers[0].opened.next().await;
    assert_eq!(opened.flow.transport, Transport::Wss);
    peer.send(WebMessage::text(request("1", 0))).await.unwrap();
    let received = world.routers[0].message().await;
    assert_eq!((received.message.call_id(), received.proof), (&b"1"[..], None));
    opened.connection.do_send(Transmit(vec![outgoing(response("1"), None)]));
    assert_eq!(next(&mut peer).await, WebMessage::text(response("1")));
}
