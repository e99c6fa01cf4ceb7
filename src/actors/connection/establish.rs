//! From a socket to a stream that carries SIP: connect, TLS handshake, who the peer is, WebSocket handshake.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use slog::info;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::ConnectionSettings;
use super::stream::Stream;
use super::upgrade::{linger, upgrade};
use crate::actors::directory::Peer;
use crate::actors::tls::{CertificateSummary, StreamTls, peer_names, watched};
use crate::protocol::flow::Transport;
use crate::protocol::identity::{PeerProof, Profile, Vouchers};
use crate::protocol::websocket::handshake::Refusal;

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
    /// What the peer has proven by its certificate.
    pub(super) proof: Option<Arc<PeerProof>>,
    /// What requests may find the connection by.
    pub(super) peer: Option<Peer>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Connect,
    Handshake,
    Identity,
    Upgrade,
}

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum Cause {
    Timeout,
    Failed(io::Error),
    /// The certificate is good, but not that of the host that was dialled.
    OtherHost,
    /// It asks for something else than SIP over WebSocket, and has been told so.
    Refused(Refusal, Stream),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Failed(error) => error.fmt(f),
            Self::OtherHost => f.write_str("certificate names another host"),
            Self::Refused(refusal, _) => refusal.fmt(f),
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Gets the stream ready within `handshake_timeout`; logs why not.
pub(super) async fn establish(
    settings: Arc<ConnectionSettings>,
    origin: Origin,
    remote: SocketAddr,
) -> Option<Established> {
    let is_incoming = matches!(origin, Origin::Accepted(_));
    let attempt =
        Attempt { settings: &settings, phase: Cell::new(Phase::Connect), certificate: Cell::new(None) };
    let outcome = match timeout(settings.handshake_timeout, attempt.run(origin, remote)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Cause::Timeout),
    };
    match outcome {
        Ok(established) => Some(established),
        Err(cause) => {
            attempt.log(&cause, is_incoming, remote);
            if let Cause::Refused(_, stream) = cause {
                linger(stream).await;
            }
            None
        }
    }
}

/// One attempt, and how far it has come.
struct Attempt<'a> {
    settings: &'a ConnectionSettings,
    phase: Cell<Phase>,
    /// The peer's certificate, where there is something to say of it.
    certificate: Cell<Option<CertificateSummary>>,
}

impl Attempt<'_> {
    async fn run(&self, origin: Origin, remote: SocketAddr) -> Result<Established, Cause> {
        match origin {
            Origin::Accepted(stream) => self.accept(TcpStream::from_std(stream)?, remote).await,
            Origin::Dialled(peer) => self.dial(peer).await,
        }
    }

    async fn accept(&self, stream: TcpStream, remote: SocketAddr) -> Result<Established, Cause> {
        let established = self.accept_stream(stream, remote).await?;
        if !self.settings.transport.is_web_socket() {
            return Ok(established);
        }
        self.phase.set(Phase::Upgrade);
        let stream = upgrade(established.stream, self.settings.message_limits.header_bytes).await?;
        Ok(Established { stream, ..established })
    }

    async fn accept_stream(&self, stream: TcpStream, remote: SocketAddr) -> Result<Established, Cause> {
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let peer = || self.peer_at(remote);
        let Some(tls) = &self.settings.tls else {
            return Ok(Established { stream: self.plain(stream)?, local, proof: None, peer: peer() });
        };
        self.phase.set(Phase::Handshake);
        let (accepted, seen) = watched(TlsAcceptor::from(Arc::clone(&tls.server)).accept(stream)).await;
        self.certificate.set(seen);
        let stream = accepted?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let proof = certificate.map(|certificate| Arc::new(prove(tls, certificate)));
        // A peer that has proved nothing could have chosen the address and port at which another is expected.
        let peer = certificate.and_then(|_| peer());
        Ok(Established { local, proof, peer, stream: Stream::Secure(Box::new(stream.into())) })
    }

    async fn dial(&self, peer: Peer) -> Result<Established, Cause> {
        let stream = self.connect(peer.remote).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let Some(tls) = &self.settings.tls else {
            return Ok(Established { stream: self.plain(stream)?, local, proof: None, peer: Some(peer) });
        };
        self.phase.set(Phase::Handshake);
        let name = server_name(&peer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (connected, seen) =
            watched(TlsConnector::from(Arc::clone(&tls.client)).connect(name, stream)).await;
        self.certificate.set(seen);
        let stream = connected?;
        self.phase.set(Phase::Identity);
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let proof = certificate.map(|certificate| prove(tls, certificate)).unwrap_or_default();
        let is_named = match &peer.expected {
            Some(expected) => proof.is_expected(expected, Profile::Federation),
            None => proof.names.has_address(peer.remote.ip()),
        };
        if !is_named {
            self.certificate.set(certificate.and_then(CertificateSummary::read));
            return Err(Cause::OtherHost);
        }
        Ok(Established {
            local,
            proof: Some(Arc::new(proof)),
            peer: Some(peer),
            stream: Stream::Secure(Box::new(stream.into())),
        })
    }

    async fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        let local = self.settings.bind_address.ip();
        if !local.is_unspecified() {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        socket.connect(remote).await
    }

    /// `stream` as it is, where that is what the interface speaks: never in place of TLS.
    fn plain(&self, stream: TcpStream) -> io::Result<Stream> {
        match self.settings.transport {
            Transport::Tcp | Transport::Ws => Ok(Stream::Plain(stream)),
            Transport::Tls | Transport::Wss | Transport::Udp => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What requests to `remote` find the connection by, where they could dial it as well.
    fn peer_at(&self, remote: SocketAddr) -> Option<Peer> {
        let ConnectionSettings { interface, transport, .. } = *self.settings;
        transport.is_dialled().then_some(Peer { interface, transport, remote, expected: None })
    }

    /// One line, as long as there are not too many of them.
    fn log(&self, cause: &Cause, is_incoming: bool, remote: SocketAddr) {
        let Some(left_out) = self.settings.failures.pass(std::time::Instant::now()) else {
            return;
        };
        let log = &self.settings.log;
        let direction = if is_incoming { "in" } else { "out" };
        let phase = match self.phase.get() {
            Phase::Connect => {
                info!(log, "connect_failed"; "peer" => %remote, "direction" => direction, "reason" => %cause,
                    "repeated" => left_out);
                return;
            }
            Phase::Upgrade => {
                info!(log, "websocket_failed"; "peer" => %remote, "reason" => %cause, "repeated" => left_out);
                return;
            }
            Phase::Handshake => "handshake",
            Phase::Identity => "identity",
        };
        let seen = self.certificate.take().unwrap_or_default();
        info!(log, "tls_failed"; "peer" => %remote, "direction" => direction, "phase" => phase, "reason" => %cause,
            "subject" => seen.subject, "names" => seen.names, "issuer" => seen.issuer,
            "not_after" => seen.not_after, "repeated" => left_out);
    }
}

fn prove(tls: &StreamTls, certificate: &CertificateDer<'_>) -> PeerProof {
    let names = peer_names(certificate).unwrap_or_default();
    let account = tls.accounts.as_deref().and_then(|accounts| names.account(accounts));
    PeerProof { account, names, vouchers: Vouchers { is_common: true, ..Vouchers::default() } }
}

/// The name for SNI, which rustls sends only for host names.
fn server_name(peer: &Peer) -> Option<ServerName<'static>> {
    match &peer.expected {
        Some(expected) => ServerName::try_from(expected.server_name.to_string()).ok(),
        None => Some(ServerName::from(peer.remote.ip())),
    }
}
