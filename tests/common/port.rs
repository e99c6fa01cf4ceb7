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

    /// A TLS port that was known before.
    pub(crate) async fn bind(at: SocketAddr, config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind(at).await.unwrap_or_else(|error| panic!("{at}: {error}"));
        Self { listener, tls: Some(config) }
    }

    pub(crate) async fn tls(local: IpAddr, config: Arc<ServerConfig>) -> Self {
        Self { tls: Some(config), ..Self::tcp(local).await }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }

    /// The next connection, its handshake done.
    pub(crate) async fn accept(&self) -> Agent {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        let (stream, peer) = accepted
            .unwrap_or_else(|_| panic!("nobody connects to {} within {PATIENCE:?}", self.local()))
            .expect("accepting on loopback does not fail");
        let local = stream.local_addr().expect("a connected socket has an address");
        match &self.tls {
            None => Agent::new(Link::stream(stream), "TCP", local, peer),
            Some(config) => {
                let stream = TlsAcceptor::from(Arc::clone(config)).accept(stream).await;
                let stream = stream.unwrap_or_else(|error| panic!("TLS from {peer}: {error}"));
                Agent::new(Link::stream(TlsStream::Server(stream)), "TLS", local, peer)
            }
        }
    }
}
