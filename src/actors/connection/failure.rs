//! What is logged of a connection that was not made: one line with all that is needed to find out why.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use rustls::ProtocolVersion;
use slog::{Logger, error, info, warn};

use super::ConnectionSettings;
use super::stream::Stream;
use crate::actors::tls::{CertificateSummary, TlsFailure};
use crate::diagnostics::LogLimit;
use crate::protocol::websocket::handshake::Refusal;

/// Bounds the lines, for each direction by itself: strangers who knock do not hide that a peer cannot be reached.
#[derive(Debug, Default)]
pub struct Failures {
    incoming: LogLimit,
    outgoing: LogLimit,
    panics: LogLimit,
}

impl Failures {
    /// A peer may know how to bring a connection to it.
    pub(super) fn tell_panic(&self, log: &Logger, peer: SocketAddr) {
        if let Some(left_out) = self.panics.pass(Instant::now()) {
            error!(log, "connection_panicked"; "peer" => %peer, "repeated" => left_out);
        }
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connect,
    Handshake,
    Identity,
    Upgrade,
    /// The connection was open for us; with TLS 1.3 a client learns only then what the server thinks of it.
    Open,
}

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum Cause {
    Timeout,
    Failed(io::Error),
    /// The certificate is good, but not that of the peer that was meant.
    WrongName,
    /// It asks for something else than SIP over WebSocket, and has been told so.
    Refused(Refusal, Stream),
}

impl Cause {
    pub(super) fn failure(&self, phase: Phase) -> TlsFailure {
        match self {
            Self::Timeout => TlsFailure::Timeout,
            Self::WrongName => TlsFailure::WrongName,
            Self::Failed(_) if phase == Phase::Connect => TlsFailure::Unreachable,
            Self::Failed(error) => TlsFailure::of(error),
            Self::Refused(..) => TlsFailure::Other,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Failed(error) => error.fmt(f),
            Self::WrongName => f.write_str("the certificate names somebody else"),
            Self::Refused(refusal, _) => refusal.fmt(f),
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<rustls::Error> for Cause {
    fn from(error: rustls::Error) -> Self {
        Self::Failed(io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// What is known of the connection.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) is_incoming: bool,
    pub(super) peer: SocketAddr,
    pub(super) phase: Phase,
    /// The name in the ClientHello.
    pub(super) sni: Option<String>,
    /// The name or domain that the peer was to prove.
    pub(super) expected: Option<String>,
    /// The peer's certificate, where there is something to say of it.
    pub(super) certificate: Option<CertificateSummary>,
    /// The version of TLS, where it came to that.
    pub(super) version: Option<ProtocolVersion>,
}

impl Report {
    /// Writes the line, as long as there are not too many of them.
    pub(super) fn log(self, cause: &Cause, settings: &ConnectionSettings) {
        let limits = &settings.failures;
        let limit = if self.is_incoming { &limits.incoming } else { &limits.outgoing };
        let Some(left_out) = limit.pass(Instant::now()) else { return };
        let failure = cause.failure(self.phase);
        match self.phase {
            Phase::Connect => {
                warn!(settings.log, "connect_failed"; "peer" => %self.peer, "reason" => failure.name(),
                    "detail" => %cause, "remedy" => failure.remedy(), "repeated" => left_out);
            }
            Phase::Upgrade => {
                info!(settings.log, "websocket_failed"; "peer" => %self.peer, "reason" => %cause,
                    "repeated" => left_out);
            }
            Phase::Handshake | Phase::Identity | Phase::Open => {
                self.log_tls(failure, cause, left_out, settings);
            }
        }
    }

    fn log_tls(self, failure: TlsFailure, cause: &Cause, left_out: u64, settings: &ConnectionSettings) {
        let phase = match self.phase {
            Phase::Identity => "identity",
            Phase::Open => "open",
            Phase::Connect | Phase::Handshake | Phase::Upgrade => "handshake",
        };
        let direction = if self.is_incoming { "in" } else { "out" };
        let seen = self.certificate.unwrap_or_default();
        warn!(settings.security, "tls_failed"; "peer" => %self.peer, "sni" => self.sni, "direction" => direction,
            "phase" => phase, "reason" => failure.name(), "detail" => %cause, "expected" => self.expected,
            "subject" => seen.subject, "names" => seen.names, "issuer" => seen.issuer,
            "not_after" => seen.not_after, "remedy" => failure.remedy(), "repeated" => left_out);
    }
}
