//! Connections that peers open, and what their certificates prove.

use super::*;
use crate::protocol::account::AccountId;

#[actix::test]
async fn tls_carries_messages_both_ways_without_a_client_certificate() {
    let parties = Parties::new();
    let mut world = World::new(1);
    let (peer, _connection) = accept(parties.settings(&world, Protocol::Tls, &["ucs.example"])).await;
    let mut peer = secure(peer, parties.client(None)).await.unwrap();
    let opened = world.routers[0].opened.next().await;
    assert_eq!(opened.flow.transport, Transport::Tls);
    let text: String = (0..100).map(|number| request(&number.to_string(), 0)).collect();
    peer.write_all(text.as_bytes()).await.unwrap();
    for number in 0..100 {
        let received = world.routers[0].message().await;
        assert_eq!(received.message.call_id(), number.to_string().as_bytes());
        assert_eq!(received.proof, None);
    }
    let answers: Vec<_> = (0..100).map(|number| response(&number.to_string())).collect();
    opened.connection.do_send(Transmit(answers.iter().map(|text| outgoing(text.clone(), None)).collect()));
    assert_eq!(read(&mut peer, answers.concat().len()).await, answers.concat());
    // Whoever has shown no certificate is found by its connection alone, not by its address.
    let remote = opened.flow.remote;
    let key = peer_at(Transport::Tls, remote);
    assert!(world.directory.connection_to(&key).is_none());
    peer.shutdown().await.unwrap();
    assert_eq!(rest(&mut peer).await, "");
    world.routers[0].closed.next().await;
}

#[actix::test]
async fn a_client_certificate_proves_the_account_that_it_names() {
    let parties = Parties::new();
    let table = [
        (&["dns:ucs.example"][..], Some(AccountId(1))),
        (&["uri:sip:UCS.example"], Some(AccountId(1))),
        (&["cn:ucs.example"], Some(AccountId(1))),
        (&["dns:stranger.example"], None),
    ];
    for (names, account) in table {
        let mut world = World::new(1);
        let (peer, _connection) =
            accept(parties.settings(&world, Protocol::Mtls, &["a.example", "ucs.example"])).await;
        let certificate = parties.authority.issue(names, &[rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
        let mut peer = secure(peer, parties.client(Some(&certificate))).await.unwrap();
        peer.write_all(request("1", 0).as_bytes()).await.unwrap();
        let proof = world.routers[0].message().await.proof.unwrap();
        assert_eq!(proof.account, account, "{names:?}");
    }
}

#[actix::test]
async fn mtls_without_a_good_certificate_opens_no_connection() {
    let parties = Parties::new();
    let code = parties.authority.issue(&["dns:ucs.example"], &[rcgen::ExtendedKeyUsagePurpose::CodeSigning]);
    let stranger = Authority::new().issue(&["dns:ucs.example"], &[]);
    for certificate in [None, Some(&code), Some(&stranger)] {
        let mut world = World::new(1);
        let (peer, _connection) = accept(parties.settings(&world, Protocol::Mtls, &["ucs.example"])).await;
        // With TLS 1.3 the client has finished before it learns.
        if let Ok(mut peer) = secure(peer, parties.client(certificate)).await {
            let _ = peer.write_all(request("1", 0).as_bytes()).await;
            assert_eq!(rest(&mut peer).await, "");
        }
        world.routers[0].opened.nothing().await;
        world.routers[0].no_message().await;
        world.routers[0].closed.nothing().await;
        assert_eq!(world.directory.connection_count(), 0);
    }
}

#[actix::test]
async fn a_handshake_that_takes_too_long_ends() {
    let parties = Parties::new();
    let world = World::new(1);
    let mut settings = parties.settings(&world, Protocol::Tls, &[]);
    settings.handshake_timeout = Duration::from_millis(100);
    let (mut peer, _connection) = accept(settings).await;
    peer.write_all(b"\x16\x03\x01").await.unwrap();
    assert_eq!(rest(&mut peer).await, "");
    assert_eq!(world.directory.connection_count(), 0);
}

#[actix::test]
async fn a_certificate_that_names_nothing_of_use_opens_a_connection_and_proves_nothing() {
    let parties = Parties::new();
    let certificate = parties.authority.issue(&["uri:https://b.example", "dns:*.b.example"], &[]);
    let mut world = World::new(1);
    let (peer, _connection) = accept(parties.settings(&world, Protocol::Mtls, &[])).await;
    let mut peer = secure(peer, parties.client(Some(&certificate))).await.unwrap();
    peer.write_all(request("1", 0).as_bytes()).await.unwrap();
    let proof = world.routers[0].message().await.proof.unwrap();
    assert!(!proof.may_prove("b.example") && !proof.may_prove("a.b.example"));
}
