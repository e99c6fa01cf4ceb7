//! Handshakes that fail, and what is logged of them.

use super::*;

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
