//! Servers that are dialled, and whether they are who was meant.

use super::*;

/// A server and its domain.
type Meant<'a> = Option<(&'a str, Option<&'a str>)>;

/// Whether a dial to a server that shows `names` goes well where it is to be `server` of `domain`, or to have its
/// address.
async fn is_believed(parties: &Parties, names: &[&str], meant: Meant<'_>) -> bool {
    let mut world = World::new(1);
    let server = Server::start(parties, names).await;
    let remote = server.address();
    let peer = match meant {
        Some((server, domain)) => server_of(server, domain, remote),
        None => peer_at(Transport::Tls, remote),
    };
    dial(&world, parties.settings(&world, Protocol::Mtls, &[]), &peer);
    assert!(world.directory.connection_to(&peer).is_some(), "others share it while it is being opened");
    let mut stream = server.accept().await;
    let connection = stream.get_ref().1;
    assert_eq!(connection.server_name(), meant.map(|(server, _)| server));
    assert_eq!(connection.peer_certificates().unwrap()[0], parties.ours.chain[0]);
    let mut octets = vec![0; request("1", 1).len()];
    if timeout(PATIENCE, stream.read_exact(&mut octets)).await.expect("an outcome").is_err() {
        // It is closed before a single octet of SIP goes out.
        assert!(octets.iter().all(|octet| *octet == 0));
        assert_eq!(world.routers[0].failed.next().await.branch, branch(1));
        return false;
    }
    assert_eq!(octets, request("1", 1).as_bytes());
    world.routers[0].opened.next().await;
    assert!(world.directory.connection_to(&peer).is_some());
    true
}

#[actix::test]
async fn a_dialled_server_must_be_who_was_meant() {
    let parties = Parties::new();
    let table: [(&[&str], Meant<'_>, bool); 15] = [
        (&["ip:127.0.0.1"], None, true),
        (&["dns:them.example", "ip:127.0.0.1"], None, true),
        (&["dns:them.example"], None, false),
        (&["ip:127.0.0.2"], None, false),
        (&["dns:Them.example"], Some(("them.example", None)), true),
        (&["cn:them.example"], Some(("them.example", None)), true),
        (&["dns:*.example"], Some(("them.example", None)), false),
        (&["ip:127.0.0.1"], Some(("them.example", None)), false),
        (&["dns:b.example"], Some(("sip.b.example", Some("b.example"))), true),
        (&["uri:sip:b.example"], Some(("sip.host.example", Some("b.example"))), true),
        (&["dns:sip.b.example"], Some(("sip.b.example", Some("b.example"))), true),
        (&["dns:sip.host.example"], Some(("sip.host.example", Some("b.example"))), false),
        (&["dns:c.example"], Some(("sip.b.example", Some("b.example"))), false),
        (&["dns:*.b.example"], Some(("sip.b.example", Some("b.example"))), false),
        (&["cn:b.example"], Some(("b.example", Some("b.example"))), true),
    ];
    for (names, meant, expected) in table {
        assert_eq!(is_believed(&parties, names, meant).await, expected, "{names:?} {meant:?}");
    }
}
