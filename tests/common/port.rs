//! Ports on which a test waits for the proxy's connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::agent::{Agent, PATIENCE};
use super::link::Link;

/// A TCP or TLS port on which a test waits for the proxy's connections.
pub(crate) struct Port {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

impl Port {
    pub(crate) async fn tcp(local: IpAddr) -> Self {
        let listener = TcpListener::bind(SocketAddr::new(local, 0)).await.expect("a TCP port of loopback");
        Self { listener, tls: None }
    }

    /// A TCP port of this number.
    pub(crate) async fn tcp_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port of an address of the test's own");
        Self { listener, tls: None }
    }

    /// A TLS port that was known before.
    pub(crate) async fn bind(at: SocketAddr, config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind(at).await.unwrap_or_else(|error| panic!("{at}: {error}"));
        Self { listener, tls: Some(config) }
    }

    pub(crate) async fn tls(local: IpAddr, config: Arc<ServerConfig>) -> Self {
        Self { tls: Some(config), ..Self::tcp(local).await }
    }

    /// As [`Port::tls`], with this number.
    pub(crate) async fn tls_at(address: SocketAddr, config: Arc<ServerConfig>) -> Self {
        Self { tls: Some(config), ..Self::tcp_at(address).await }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }

    /// The next connection, its handshake done.
    pub(crate) async fn accept(&self) -> Agent {
        self.accept_with_name().await.0
    }

    /// As [`Port::accept`], with the name that the client's hello has (SNI).
    pub(crate) async fn accept_with_name(&self) -> (Agent, Option<String>) {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        let (stream, peer) = accepted
            .unwrap_or_else(|_| panic!("nobody connects to {} within {PATIENCE:?}", self.local()))
            .expect("accepting on loopback does not fail");
        let local = stream.local_addr().expect("a connected socket has an address");
        match &self.tls {
            None => (Agent::new(Link::stream(stream), "TCP", local, peer), None),
            Some(config) => {
                let stream = TlsAcceptor::from(Arc::clone(config)).accept(stream).await;
                let stream = stream.unwrap_or_else(|error| panic!("TLS from {peer}: {error}"));
                let name = stream.get_ref().1.server_name().map(str::to_owned);
                (Agent::new(Link::stream(TlsStream::Server(stream)), "TLS", local, peer), name)
            }
        }
    }

    /// Takes the next connection, whose client refuses the certificate of this port, and waits for its end.
    pub(crate) async fn accept_refused(&self) {
        let (stream, peer) = timeout(PATIENCE, self.listener.accept())
            .await
            .unwrap_or_else(|_| panic!("nobody connects to {} within {PATIENCE:?}", self.local()))
            .expect("accepting on loopback does not fail");
        let local = stream.local_addr().expect("a connected socket has an address");
        let config = self.tls.as_ref().expect("a port with TLS");
        // Who refuses a certificate says so by an alert, during the handshake or, with TLS 1.3, after ours.
        if let Ok(stream) = TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
            let mut agent = Agent::new(Link::stream(TlsStream::Server(stream)), "TLS", local, peer);
            assert!(agent.ends_without_a_word().await, "octets for a peer whose certificate is refused");
        }
    }

    /// Whether somebody connects within `limit`.
    pub(crate) async fn is_approached(&self, limit: std::time::Duration) -> bool {
        timeout(limit, self.listener.accept()).await.is_ok()
    }
}
