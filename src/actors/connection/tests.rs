mod tls;
mod web_socket;

use std::time::Instant as Clock;

use smallvec::smallvec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::actors::testing::{
    PATIENCE, QUIET, Router, World, accept, branch, here, log, outgoing, request, response,
};
use crate::protocol::identity::Profile;

/// Whoever is at `remote`.
fn peer_at(transport: Transport, remote: SocketAddr) -> Peer {
    Peer {
        side: Side::Wan,
        interface: InterfaceId(0),
        transport,
        addresses: smallvec![remote],
        expected: None,
        profile: Profile::Federation,
    }
}

async fn read(peer: &mut (impl tokio::io::AsyncRead + Unpin), length: usize) -> String {
    let mut octets = vec![0; length];
    timeout(PATIENCE, peer.read_exact(&mut octets)).await.expect("so many octets").unwrap();
    String::from_utf8(octets).unwrap()
}

/// What comes until the end.
async fn rest(peer: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut octets = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, peer.read_to_end(&mut octets)).await.expect("an end");
    String::from_utf8(octets).unwrap()
}

#[actix::test]
async fn messages_come_in_order_however_they_are_cut() {
    let mut world = World::new(2);
    let (mut peer, _connection) = accept(world.connections()).await;
    let opened = world.routers[0].opened.next().await;
    assert_eq!(world.routers[1].opened.next().await.flow, opened.flow);
    let stream: String = (0..3).map(|number| request(&format!("same-{number}"), number)).collect();
    for octet in stream.as_bytes() {
        peer.write_all(&[*octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let pipelined: String = (3..200).map(|number| request(&format!("same-{number}"), number)).collect();
    peer.write_all(pipelined.as_bytes()).await.unwrap();
    for number in 0..200 {
        let call_id = format!("same-{number}");
        let router = world.directory.core_of(opened.flow.connection.unwrap());
        let received = world.routers[router].message().await;
        assert_eq!(received.message.bytes(), request(&call_id, number).as_bytes());
        assert_eq!((received.flow, received.proof), (opened.flow, None));
    }
}

#[actix::test]
async fn pings_are_answered_also_before_a_request() {
    let mut world = World::new(1);
    let (mut peer, _connection) = accept(world.connections()).await;
    peer.write_all(b"\r\n\r\n").await.unwrap();
    assert_eq!(read(&mut peer, 2).await, "\r\n");
    peer.write_all(format!("\r\n\r\n\r\n\r\n{}", request("1", 0)).as_bytes()).await.unwrap();
    assert_eq!(read(&mut peer, 4).await, "\r\n\r\n");
    assert_eq!(world.routers[0].message().await.message.call_id(), b"1");
}

#[actix::test]
async fn what_routers_send_leaves_in_order() {
    let mut world = World::new(1);
    let (mut peer, _connection) = accept(world.connections()).await;
    let opened = world.routers[0].opened.next().await;
    let texts: Vec<_> = (0..100).map(|number| request(&number.to_string(), number)).collect();
    for pair in texts.chunks(2) {
        opened.connection.do_send(Transmit(pair.iter().map(|text| outgoing(text.clone(), None)).collect()));
    }
    assert_eq!(read(&mut peer, texts.concat().len()).await, texts.concat());
}

#[actix::test]
async fn a_message_without_an_end_is_answered_and_the_connection_ends() {
    let table = [
        (
            request("1", 0).replace("Content-Length: 2\r\n", ""),
            "SIP/2.0 400 Missing Content-Length On Stream\r\n",
        ),
        (request("1", 0).replace("Length: 2", "Length: x"), "SIP/2.0 400 Malformed Content-Length\r\n"),
        (request("1", 0).replace("Length: 2", "Length: 65536"), "SIP/2.0 513 Message Too Large\r\n"),
        (request("1", 0).replace("CSeq", &format!("X: {}\r\nCSeq", "y".repeat(20_000))), ""),
        (response("1").replace("Content-Length: 0\r\n", ""), ""),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), ""),
        ("\u{16}\u{3}\u{1}".to_owned(), ""),
    ];
    for (text, expected) in table {
        let mut world = World::new(1);
        let (mut peer, _connection) = accept(world.connections()).await;
        let opened = world.routers[0].opened.next().await;
        // What stands before it is delivered, what follows is not.
        let stream = format!("{}{text}{}", request("before", 9), request("after", 9));
        peer.write_all(stream.as_bytes()).await.unwrap();
        let answer = rest(&mut peer).await;
        assert!(answer.starts_with(expected), "{text:?}: {answer:?}");
        assert_eq!(answer.is_empty(), expected.is_empty(), "{text:?}: {answer:?}");
        if !answer.is_empty() {
            assert!(answer.contains("received=127.0.0.1") || answer.contains("Via: SIP/2.0/UDP 127.0.0.1;"));
            assert!(
                answer.contains("Call-ID: 1\r\n") && answer.contains("To: <sip:bob@example.org>;tag="),
                "{answer}"
            );
        }
        drop(peer);
        assert_eq!(world.routers[0].message().await.message.call_id(), b"before");
        world.routers[0].no_message().await;
        assert_eq!(world.routers[0].closed.next().await.flow, opened.flow);
    }
}

#[actix::test]
async fn a_message_that_takes_too_long_ends_the_connection_and_pings_do_not_save_idle_ones() {
    let mut world = World::new(1);
    let mut settings = world.connections();
    settings.message_timeout = Duration::from_millis(100);
    settings.idle_timeout = Duration::from_millis(400);
    let started = Clock::now();
    let (mut peer, _connection) = accept(settings).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.write_all(b"\r\n\r\n").await.unwrap();
        read(&mut peer, 2).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(500), "pings are traffic");
    let started = Clock::now();
    for octet in request("1", 0).as_bytes() {
        if peer.write_all(&[*octet]).await.is_err() || started.elapsed() > Duration::from_secs(5) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    world.routers[0].closed.next().await;
    world.routers[0].no_message().await;

    let mut settings = world.connections();
    settings.idle_timeout = Duration::from_millis(100);
    let (mut peer, _connection) = accept(settings).await;
    assert_eq!(rest(&mut peer).await, "");
    world.routers[0].closed.next().await;
}

#[actix::test]
async fn a_peer_that_does_not_read_is_cut_and_others_are_not_disturbed() {
    let mut world = World::new(1);
    let (_deaf, _one) = accept(world.connections()).await;
    let deaf = world.routers[0].opened.next().await;
    let (mut reader, _two) = accept(world.connections()).await;
    let other = world.routers[0].opened.next().await;
    let large = request("1", 0).replace("hi", "").replace("Length: 2", "Length: 60000") + &"x".repeat(60_000);
    let mut sent = 0;
    let closed = loop {
        // The mailbox is bounded too: a refusal is what the Router counts as a failure.
        let text = outgoing(large.clone(), Some(sent));
        let _ = deaf.connection.try_send(Transmit(vec![text]));
        other.connection.do_send(Transmit(vec![outgoing(response("live"), None)]));
        assert_eq!(read(&mut reader, response("live").len()).await, response("live"));
        sent += 1;
        assert!(sent < 2_000, "the queue has an end");
        if world.routers[0].failed.waiting() > 0 {
            break world.routers[0].closed.next().await;
        }
    };
    assert_eq!(closed.flow, deaf.flow);
    assert_eq!(world.registrar.next().await.flow, deaf.flow);
    // The message that found no room has failed, then all that was queued, in its order.
    assert_eq!(world.routers[0].failed.next().await.branch, branch(sent - 1));
    for back in (2..=16).rev() {
        let mut failed = world.routers[0].failed.next().await.branch;
        while failed.slot < sent - back {
            failed = world.routers[0].failed.next().await.branch;
        }
        assert_eq!(failed, branch(sent - back));
    }

    let mut settings = world.connections();
    settings.message_timeout = Duration::from_millis(200);
    let (_deaf, _three) = accept(settings).await;
    let deaf = world.routers[0].opened.next().await;
    // A little at a time, until the system takes no more; the queue is not full then.
    for _ in 0..1_000 {
        if world.routers[0].closed.waiting() > 0 {
            break;
        }
        deaf.connection.do_send(Transmit(vec![outgoing(large.clone(), None)]));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.routers[0].closed.next().await.flow, deaf.flow);
}

#[actix::test]
async fn a_full_router_stops_the_reading_and_loses_nothing() {
    let mut world = World::new(1);
    let (mut peer, _connection) = accept(world.connections()).await;
    world.routers[0].opened.next().await;
    let away = world.directory.router(0).as_deref().cloned();
    world.directory.publish_router(0, None);
    let count = 50_000;
    let writer = actix::spawn(async move {
        for number in 0..count {
            peer.write_all(request(&number.to_string(), 0).as_bytes()).await.unwrap();
        }
        peer
    });
    tokio::time::sleep(QUIET).await;
    assert!(!writer.is_finished(), "the peer is held up");
    world.directory.publish_router(0, away);
    for number in 0..count {
        assert_eq!(world.routers[0].message().await.message.call_id(), number.to_string().as_bytes());
    }
    writer.await.unwrap();
}

#[actix::test]
async fn a_peer_that_has_closed_its_side_gets_the_answers_that_it_awaits() {
    let mut world = World::new(1);
    let (mut peer, connection) = accept(world.connections()).await;
    let opened = world.routers[0].opened.next().await;
    peer.write_all(request("1", 0).as_bytes()).await.unwrap();
    peer.shutdown().await.unwrap();
    world.routers[0].message().await;
    world.routers[0].closed.nothing().await;
    // It cannot answer any more.
    opened.connection.do_send(Transmit(vec![outgoing(request("2", 2), Some(2))]));
    assert_eq!(world.routers[0].failed.next().await.branch, branch(2));
    let remote = opened.flow.remote;
    let key = peer_at(Transport::Tcp, remote);
    assert!(world.directory.connection_to(&key).is_none());
    assert!(world.directory.connection(opened.flow.connection.unwrap()).is_some());
    let trying = response("1").replace("200 OK", "100 Trying");
    for text in [&trying, &response("1")] {
        opened.connection.do_send(Transmit(vec![outgoing(text.clone(), None)]));
    }
    assert_eq!(rest(&mut peer).await, trying + &response("1"));
    assert_eq!(world.routers[0].closed.next().await.flow, opened.flow);
    assert!(!connection.connected());
}

#[actix::test]
async fn the_end_is_told_once_to_all() {
    let mut world = World::new(2);
    let (peer, _connection) = accept(world.connections()).await;
    let opened = world.routers[0].opened.next().await;
    drop(peer);
    for router in &mut world.routers {
        assert_eq!(router.closed.next().await.flow, opened.flow);
    }
    assert_eq!(world.registrar.next().await.flow, opened.flow);
    for router in &mut world.routers {
        router.closed.nothing().await;
    }
    world.registrar.nothing().await;
    assert_eq!(world.directory.connection_count(), 0);
}

/// Makes the actor panic.
#[derive(ActorMessage)]
#[rtype(result = "()")]
struct Panic;

impl Handler<Panic> for Connection {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("as the test wants it");
    }
}

#[actix::test]
async fn a_panic_is_told_like_any_end() {
    let mut world = World::new(1);
    let (_peer, connection) = accept(world.connections()).await;
    let opened = world.routers[0].opened.next().await;
    connection.do_send(Transmit(vec![outgoing(request("1", 1), Some(1))]));
    connection.do_send(Panic);
    assert_eq!(world.routers[0].closed.next().await.flow, opened.flow);
    assert_eq!(world.routers[0].failed.next().await.branch, branch(1));
    assert_eq!(world.registrar.next().await.flow, opened.flow);
    assert_eq!(world.directory.connection_count(), 0);
}

#[actix::test]
async fn a_router_that_comes_back_learns_of_connections() {
    let mut world = World::new(2);
    let (_peer, _connection) = accept(world.connections()).await;
    let opened = world.routers[0].opened.next().await;
    world.routers[1].opened.next().await;
    let (address, mut again) = Router::start();
    world.directory.publish_router(0, Some(address));
    world.directory.announce_connections(0);
    assert_eq!(again.opened.next().await.flow, opened.flow);
    world.routers[1].opened.nothing().await;
}
