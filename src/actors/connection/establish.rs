//! From a socket to a stream that carries SIP: connect, TLS handshake, who the peer is, WebSocket handshake.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::Acceptor;
use rustls::{CommonState, ProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use super::ConnectionSettings;
use super::connect::connect;
use super::failure::{Cause, Phase, Report};
use super::pace::paced;
use super::stream::Stream;
use super::upgrade::{linger, upgrade};
use crate::actors::directory::{Peer, Reuse};
use crate::actors::tls::{CertificateSummary, StreamTls, watched};
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::identity::{Expected, PeerProof};

/// Where a connection comes from.
#[derive(Debug)]
pub(super) enum Origin {
    /// The peer opened it. Not blocking.
    Accepted(std::net::TcpStream),
    /// We open it.
    Dialled(Peer),
}

/// A stream that is ready.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) stream: Stream,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// What the peer has proven by its certificate.
    pub(super) proof: Option<Arc<PeerProof>>,
    /// Which requests find the connection.
    pub(super) reuse: Reuse,
}

/// Gets the stream ready within `handshake_timeout`; logs why not.
pub(super) async fn establish(
    settings: Arc<ConnectionSettings>,
    origin: Origin,
    remote: SocketAddr,
) -> Option<Established> {
    let is_incoming = matches!(origin, Origin::Accepted(_));
    let attempt = Attempt::new(&settings, remote);
    let outcome = match timeout(settings.handshake_timeout, attempt.run(origin)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Cause::Timeout),
    };
    if settings.tls.is_some() && attempt.phase.get() != Phase::Connect {
        let result =
            outcome.as_ref().map_or_else(|cause| cause.failure(attempt.phase.get()).name(), |_| "ok");
        settings.directory.metrics().tls_handshake(is_incoming, result);
    }
    match outcome {
        Ok(established) => Some(established),
        Err(cause) => {
            attempt.report(is_incoming).log(&cause, &settings);
            if let Cause::Refused(_, stream) = cause {
                linger(stream).await;
            }
            None
        }
    }
}

/// One attempt, and how far it has come.
pub(super) struct Attempt<'a> {
    settings: &'a ConnectionSettings,
    remote: Cell<SocketAddr>,
    phase: Cell<Phase>,
    sni: RefCell<Option<String>>,
    expected: RefCell<Option<Arc<Expected>>>,
    certificate: RefCell<Option<CertificateSummary>>,
    version: Cell<Option<ProtocolVersion>>,
}

impl<'a> Attempt<'a> {
    pub(super) const fn new(settings: &'a ConnectionSettings, remote: SocketAddr) -> Self {
        Self {
            settings,
            remote: Cell::new(remote),
            phase: Cell::new(Phase::Connect),
            sni: RefCell::new(None),
            expected: RefCell::new(None),
            certificate: RefCell::new(None),
            version: Cell::new(None),
        }
    }

    pub(super) async fn run(&self, origin: Origin) -> Result<Established, Cause> {
        match origin {
            Origin::Accepted(stream) => self.accept(TcpStream::from_std(stream)?).await,
            Origin::Dialled(peer) => self.dial(peer).await,
        }
    }

    async fn accept(&self, stream: TcpStream) -> Result<Established, Cause> {
        let established = self.accept_stream(stream).await?;
        if !self.settings.transport.is_web_socket() {
            return Ok(established);
        }
        self.phase.set(Phase::Upgrade);
        let stream = upgrade(established.stream, self.settings.message_limits.header_bytes).await?;
        Ok(Established { stream, ..established })
    }

    async fn accept_stream(&self, stream: TcpStream) -> Result<Established, Cause> {
        let ConnectionSettings { interface, transport, side, .. } = *self.settings;
        stream.set_nodelay(true)?;
        let (local, remote) = (stream.local_addr()?, self.remote.get());
        let flow = Flow { interface, transport, local, remote, connection: None };
        let Some(tls) = &self.settings.tls else {
            let reuse = Reuse::accepted(&flow);
            return Ok(Established { stream: self.plain(stream)?, local, remote, proof: None, reuse });
        };
        self.phase.set(Phase::Handshake);
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        self.sni.replace(hello.client_hello().server_name().map(str::to_owned));
        let (accepted, seen) = paced(watched(hello.into_stream(Arc::clone(&tls.server)))).await;
        self.certificate.replace(seen);
        let stream = accepted?;
        let connection: &CommonState = stream.get_ref().1;
        let proof = tls.accepted(connection).inspect_err(|_| self.describe(connection))?.map(Arc::new);
        let reuse = Reuse::proven(side, &flow, proof.as_ref());
        Ok(Established { local, remote, proof, reuse, stream: Stream::Secure(Box::new(stream.into())) })
    }

    async fn dial(&self, peer: Peer) -> Result<Established, Cause> {
        self.expected.replace(peer.expected.clone());
        let stream = connect(self.settings, &peer.addresses).await?;
        stream.set_nodelay(true)?;
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        self.remote.set(remote);
        let Some(tls) = &self.settings.tls else {
            let reuse = Reuse::dialled(&peer, remote, None);
            return Ok(Established { stream: self.plain(stream)?, local, remote, proof: None, reuse });
        };
        self.phase.set(Phase::Handshake);
        let expected = peer.expected.as_deref();
        let server =
            server_name(expected, remote).ok_or(io::ErrorKind::InvalidInput).map_err(io::Error::from)?;
        self.sni.replace(expected.map(|expected| expected.server_name.to_string()));
        let connector = TlsConnector::from(Arc::clone(tls.client(expected)));
        let (connected, seen) = paced(watched(connector.connect(server.clone(), stream))).await;
        self.certificate.replace(seen);
        let stream = connected?;
        self.phase.set(Phase::Identity);
        let connection: &CommonState = stream.get_ref().1;
        let proof = identify(tls, connection, expected, remote).inspect_err(|_| {
            self.describe(connection);
            tls.forget_sessions(&server, expected);
        })?;
        let reuse = Reuse::dialled(&peer, remote, Some(&proof));
        let stream = Stream::Secure(Box::new(stream.into()));
        Ok(Established { stream, local, remote, proof: Some(proof), reuse })
    }

    /// `stream` as it is, where that is what the interface speaks: never in place of TLS.
    fn plain(&self, stream: TcpStream) -> io::Result<Stream> {
        match self.settings.transport {
            Transport::Tcp | Transport::Ws => Ok(Stream::Plain(stream)),
            Transport::Tls | Transport::Wss | Transport::Udp => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Keeps what there is to say of the peer's end of TLS.
    pub(super) fn describe(&self, connection: &CommonState) {
        self.version.set(connection.protocol_version());
        let certificate: Option<&CertificateDer<'_>> = connection.peer_certificates().and_then(<[_]>::first);
        self.certificate.replace(certificate.and_then(CertificateSummary::read));
    }

    pub(super) fn report(&self, is_incoming: bool) -> Report {
        let name =
            |expected: Arc<Expected>| expected.domain.as_deref().unwrap_or(&expected.server_name).to_owned();
        Report {
            is_incoming,
            peer: self.remote.get(),
            phase: self.phase.get(),
            sni: self.sni.take(),
            expected: self.expected.take().map(name),
            certificate: self.certificate.take(),
            version: self.version.get(),
        }
    }
}

/// What the server has proven, if it is who was meant.
fn identify(
    tls: &StreamTls,
    connection: &CommonState,
    expected: Option<&Expected>,
    remote: SocketAddr,
) -> Result<Arc<PeerProof>, Cause> {
    let proof = tls.dialled(connection, expected)?;
    let is_meant = match expected {
        Some(expected) => proof.is_expected(expected, tls.profile),
        None => proof.names.has_address(remote.ip()),
    };
    if is_meant { Ok(Arc::new(proof)) } else { Err(Cause::WrongName) }
}

/// The name for SNI, which rustls sends only for host names.
fn server_name(expected: Option<&Expected>, remote: SocketAddr) -> Option<ServerName<'static>> {
    match expected {
        Some(expected) => ServerName::try_from(expected.server_name.to_string()).ok(),
        None => Some(ServerName::from(remote.ip())),
    }
}
