//! Which requests an open connection serves besides those that it was opened for.

use super::*;

#[actix::test]
async fn a_connection_that_a_peer_has_opened_serves_requests_to_the_domain_that_it_has_proven() {
    let parties = Parties::new();
    let certificate = parties.authority.issue(&["dns:sip.b.example", "dns:c.example"], &[]);
    let other = "192.0.2.1:5061".parse().unwrap();
    for (protocol, shown, is_found) in
        [(Protocol::Mtls, Some(&certificate), true), (Protocol::Tls, Some(&certificate), false)]
    {
        let mut world = World::new(1);
        let (peer, connection) = accept(parties.settings(&world, protocol, &[])).await;
        let mut peer = secure(peer, parties.client(shown)).await.unwrap();
        let opened = world.routers[0].opened.next().await;
        let remote = opened.flow.remote;
        for (wanted, is_proven) in [
            (server_of("sip.b.example", Some("b.example"), other), true),
            (server_of("sip.c.example", Some("c.example"), other), true),
            (server_of("sip.d.example", Some("d.example"), other), false),
            (server_of("sip2.b.example", Some("b.example"), remote), false),
            (peer_at(Transport::Tls, remote), false),
        ] {
            let found = world.directory.connection_to(&wanted);
            assert_eq!(found, (is_found && is_proven).then(|| connection.clone()), "{wanted:?}");
        }
        peer.write_all(request("1", 0).as_bytes()).await.unwrap();
        let proof = world.routers[0].message().await.proof;
        assert_eq!(proof.is_some_and(|proof| proof.may_prove("b.example")), is_found);
        // Once it has closed its side, nobody is to wait for an answer from it.
        peer.shutdown().await.unwrap();
        let forgotten = async {
            while world.directory.connection_to(&server_of("x", Some("c.example"), other)).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, forgotten).await.expect("that new requests are kept off");
    }
}

#[actix::test]
async fn requests_to_a_domain_share_its_connection_and_others_have_their_own() {
    let parties = Parties::new();
    let world = World::new(1);
    let server = Server::start(&parties, &["dns:sip.b.example", "dns:c.example"]).await;
    let remote = server.address();
    dial(
        &world,
        parties.settings(&world, Protocol::Mtls, &[]),
        &server_of("sip.b.example", Some("b.example"), remote),
    );
    let mut stream = server.accept().await;
    read(&mut stream, request("1", 1).len()).await;
    for (wanted, expected) in [
        (server_of("sip.b.example", Some("b.example"), remote), true),
        (server_of("b.example", Some("b.example"), remote), true),
        (server_of("sip.b.example", Some("c.example"), remote), true),
        (server_of("sip.b.example", Some("d.example"), remote), false),
        (server_of("sip.c.example", Some("c.example"), remote), false),
        (peer_at(Transport::Tls, remote), false),
    ] {
        assert_eq!(world.directory.connection_to(&wanted).is_some(), expected, "{wanted:?}");
    }
}
