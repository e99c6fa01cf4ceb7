//! TLS and mutual TLS: what connections prove, what they are found for, and what is logged of others.

use std::io;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::*;
use crate::actors::testing::Authority;
use crate::actors::tls::{TlsParts, TlsSettings};
use crate::config::{Certificate, Protocol};
use crate::protocol::account::{Account, AccountId, AccountKind, Accounts, Scope, Secret};
use crate::protocol::identity::Expected;

/// The server `server` of `domain`, at `remote`.
fn server_of(server: &str, domain: Option<&str>, remote: SocketAddr) -> Peer {
    let expected = Expected { server_name: server.into(), domain: domain.map(Into::into) };
    Peer { expected: Some(Arc::new(expected)), ..peer_at(Transport::Tls, remote) }
}

fn tls_of(certificate: &Certificate, tls: &crate::config::Tls) -> TlsSettings {
    let profile = Profile::Federation;
    TlsSettings::new(TlsParts { certificate: Some(certificate), tls, routes: &[], profile }, &log()).unwrap()
}

/// Who takes part in the tests of TLS.
pub(super) struct Parties {
    pub(super) authority: Authority,
    ours: Certificate,
}

impl Parties {
    pub(super) fn new() -> Self {
        let authority = Authority::new();
        let ours = authority.issue(&["dns:us.example", "ip:127.0.0.1"], &[]);
        Self { authority, ours }
    }

    pub(super) fn settings(
        &self,
        world: &World,
        protocol: Protocol,
        accounts: &[&str],
    ) -> ConnectionSettings {
        let account = |name: &&str| Account {
            user_name: (*name).to_owned(),
            secret: Secret::Certificate((*name).to_owned()),
            scope: Scope::everybody(),
            kind: AccountKind::UcServer,
        };
        let accounts = Arc::new(Accounts::new(accounts.iter().map(account).collect()));
        let tls = tls_of(&self.ours, &self.authority.trusted()).for_interface(protocol, Some(accounts));
        ConnectionSettings { transport: Transport::Tls, tls, ..world.connections() }
    }

    /// A client of the test's own, with or without a certificate.
    pub(super) fn client(&self, certificate: Option<&Certificate>) -> Arc<ClientConfig> {
        let trust = self.authority.trusted();
        let own = tls_of(&self.ours, &trust);
        match certificate {
            Some(certificate) => {
                let with = crate::config::Tls { client_certificate: Some(certificate.clone()), ..trust };
                let tls = tls_of(&self.ours, &with).for_interface(Protocol::Mtls, None).unwrap();
                Arc::clone(tls.client(None))
            }
            None => {
                let tls = own.for_interface(Protocol::Tls, None).unwrap();
                let mut bare = ClientConfig::clone(tls.client(None));
                bare.client_auth_cert_resolver = Arc::new(NoCertificate);
                Arc::new(bare)
            }
        }
    }
}

/// The resolver of a client that has no certificate.
#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

pub(super) async fn secure(
    peer: TcpStream,
    config: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    TlsConnector::from(config).connect(ServerName::try_from("us.example").unwrap(), peer).await
}

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

/// A server of the test's own that shows `names` and demands a certificate.
struct Server {
    listener: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl Server {
    async fn start(parties: &Parties, names: &[&str]) -> Self {
        let tls = tls_of(&parties.authority.issue(names, &[]), &parties.authority.trusted());
        let tls = tls.for_interface(Protocol::Mtls, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: tokio_rustls::TlsAcceptor::from(tls.server) }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    async fn accept(&self) -> tokio_rustls::server::TlsStream<TcpStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        self.acceptor.accept(stream).await.unwrap()
    }
}

/// Opens a connection to `peer`, with a request.
fn dial(world: &World, settings: ConnectionSettings, peer: &Peer) {
    let admission = world.directory.open_connection(peer.addresses[0].ip()).unwrap();
    let first = vec![outgoing(request("1", 1), Some(1))];
    Connection::dialled(&here(), Arc::new(settings), admission, (peer.clone(), None), first);
}

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

/// Lines of a log.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<String>>>);

impl slog::Drain for Lines {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, values: &slog::OwnedKVList) -> Result<(), slog::Never> {
        struct Fields(String);
        impl slog::Serializer for Fields {
            fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
                self.0 += &format!(" {key}={value}");
                Ok(())
            }
        }
        let mut fields = Fields(record.msg().to_string());
        // Of a record, the fields come last first.
        let _ = slog::KV::serialize(&record.kv(), record, &mut fields);
        let _ = slog::KV::serialize(values, record, &mut fields);
        self.0.lock().unwrap().push(fields.0);
        Ok(())
    }
}

impl Lines {
    /// Settings that log here.
    fn of(&self, settings: ConnectionSettings) -> ConnectionSettings {
        ConnectionSettings { security: Logger::root(self.clone(), slog::o!()), ..settings }
    }

    async fn next(&self) -> String {
        let line = async {
            loop {
                if let Some(line) = self.0.lock().unwrap().pop() {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, line).await.expect("a line")
    }
}

#[actix::test]
async fn each_refusal_is_one_line_that_says_who_why_and_what_to_do() {
    let parties = Parties::new();
    let issue = |serial, end| parties.authority.issue_numbered(&["dns:b.example"], &[], serial, end);
    let code = parties.authority.issue(&["dns:b.example"], &[rcgen::ExtendedKeyUsagePurpose::CodeSigning]);
    let stranger = Authority::named("Stranger").issue(&["dns:b.example"], &[]);
    let table = [
        (Some(issue(1, 2001)), "expired", "not_after=2001-01-01T00:00:00Z"),
        (Some(issue(7, 4096)), "revoked", "not_after=4096-01-01T00:00:00Z"),
        (Some(stranger), "unknown_issuer", "issuer=CN=Stranger"),
        (Some(code), "wrong_purpose", "names=b.example"),
        (None, "no_certificate", "names= "),
    ];
    for (certificate, reason, detail) in table {
        let (lines, world) = (Lines::default(), World::new(1));
        let trust = crate::config::Tls {
            revocation_lists: vec![parties.authority.revoke(7)],
            ..parties.authority.trusted()
        };
        let tls = tls_of(&parties.ours, &trust).for_interface(Protocol::Mtls, None);
        let settings = parties.settings(&world, Protocol::Mtls, &[]);
        let (peer, _connection) = accept(lines.of(ConnectionSettings { tls, ..settings })).await;
        let address = peer.local_addr().unwrap();
        let _ = secure(peer, parties.client(certificate.as_ref())).await;
        let line = lines.next().await;
        assert!(line.starts_with("tls_failed"), "{line}");
        let peer = format!("peer={address}");
        for part in [&*peer, "sni=us.example", "direction=in", "phase=handshake", detail, "remedy=the peer"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(line.contains(&format!("reason={reason} ")), "{line}");
    }
}

#[actix::test]
async fn a_server_that_is_somebody_else_or_refuses_us_is_one_line_too() {
    let parties = Parties::new();
    let world = World::new(1);
    let server = Server::start(&parties, &["dns:c.example"]).await;
    let lines = Lines::default();
    let peer = server_of("sip.b.example", Some("b.example"), server.address());
    dial(&world, lines.of(parties.settings(&world, Protocol::Mtls, &[])), &peer);
    drop(server.accept().await);
    let line = lines.next().await;
    for part in
        ["direction=out", "phase=identity", "reason=wrong_name", "sni=sip.b.example", "names=c.example"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(line.contains("expected=b.example"), "{line}");
    // We believe the server, and it does not believe us.
    let tls =
        tls_of(&parties.authority.issue(&["dns:c.example"], &[]), &Authority::named("Stranger").trusted());
    let server = Server {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        acceptor: tokio_rustls::TlsAcceptor::from(tls.for_interface(Protocol::Mtls, None).unwrap().server),
    };
    let peer = server_of("c.example", Some("c.example"), server.address());
    dial(&world, lines.of(parties.settings(&world, Protocol::Mtls, &[])), &peer);
    let (stream, _) = server.listener.accept().await.unwrap();
    assert!(server.acceptor.accept(stream).await.is_err());
    let line = lines.next().await;
    for part in ["tls_failed", "direction=out", "phase=open", "reason=own_certificate_refused", "UnknownCA"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[actix::test]
async fn a_thousand_half_handshakes_cost_nobody_anything_but_their_own_time() {
    let parties = Parties::new();
    let limits = crate::actors::directory::ConnectionLimits { total: 2_000, per_address: 2_000 };
    let mut world = World::with_limits(1, limits);
    let lines = Lines::default();
    let settings = |world: &World| ConnectionSettings {
        handshake_timeout: Duration::from_secs(5),
        ..lines.of(parties.settings(world, Protocol::Mtls, &[]))
    };
    let mut half = Vec::new();
    for number in 0..1_000 {
        let (mut peer, _) = accept(settings(&world)).await;
        if number % 2 == 0 {
            peer.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        }
        half.push(peer);
    }
    let certificate = parties.authority.issue(&["dns:b.example"], &[]);
    let (peer, _connection) = accept(settings(&world)).await;
    let mut peer = secure(peer, parties.client(Some(&certificate))).await.unwrap();
    peer.write_all(request("1", 0).as_bytes()).await.unwrap();
    assert_eq!(world.routers[0].message().await.message.call_id(), b"1");
    for peer in &mut half {
        assert_eq!(rest(peer).await, "");
    }
    assert_eq!(world.directory.connection_count(), 1);
}
