//! A connection for trial: made as all others are, and told about. For the command line.

use rustls::{CommonState, ProtocolVersion};
use tokio::time::timeout;

use super::ConnectionSettings;
use super::establish::{Attempt, Established, Origin};
use super::failure::{Cause, Phase as Reached, Report};
use super::stream::Stream;
use crate::actors::directory::Peer;
use crate::actors::tls::{CertificateSummary, TlsFailure};

/// Where it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// TCP.
    Connect,
    /// TLS, with the look at the certificate.
    Handshake,
    /// Whose certificate it is.
    Identity,
}

/// What has become of it.
#[derive(Debug)]
pub(crate) struct Trial {
    /// The name in the ClientHello.
    pub(crate) sni: Option<String>,
    /// Of TLS.
    pub(crate) version: Option<ProtocolVersion>,
    /// The peer's.
    pub(crate) certificate: Option<CertificateSummary>,
    /// The stream; else where it has ended, why, and what the library says.
    pub(crate) outcome: Result<Stream, (Phase, TlsFailure, String)>,
}

/// Opens a connection to `peer`, and logs nothing.
pub(crate) async fn try_out(settings: &ConnectionSettings, peer: Peer) -> Trial {
    let attempt = Attempt::new(settings, peer.addresses[0]);
    let made = timeout(settings.handshake_timeout, attempt.run(Origin::Dialled(peer))).await;
    let made = made.unwrap_or(Err(Cause::Timeout));
    if let Ok(Established { stream: Stream::Secure(stream), .. }) = &made {
        let connection: &CommonState = stream.get_ref().1;
        attempt.describe(connection);
    }
    let Report { phase, sni, certificate, version, .. } = attempt.report(false);
    let outcome = match made {
        Ok(established) => Ok(established.stream),
        Err(cause) => {
            let reached = match phase {
                Reached::Connect => Phase::Connect,
                Reached::Identity => Phase::Identity,
                Reached::Handshake | Reached::Upgrade | Reached::Open => Phase::Handshake,
            };
            Err((reached, cause.failure(phase), cause.to_string()))
        }
    };
    Trial { sni, version, certificate, outcome }
}
