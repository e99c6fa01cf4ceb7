//! TLS and mutual TLS: what connections prove, what they are found for, and what is logged of others.

mod accepted;
mod dialled;
mod logged;
mod shared;

use std::io;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::*;
use crate::actors::testing::Authority;
use crate::actors::tls::{TlsParts, TlsSettings};
use crate::config::{Certificate, Protocol};
use crate::protocol::account::{Account, AccountKind, Accounts, Scope, Secret};
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
