//! Why connections end, and what the log says of it.

use std::io;

use rustls::AlertDescription;

use crate::actors::tls::alert_of;
use crate::protocol::message::Fault;
use crate::protocol::websocket::framing::Violation;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer closed it.
    PeerClosed,
    /// No traffic for `limits.idle_timeout`.
    IdleTimeout,
    /// A message took longer than `limits.message_timeout`.
    MessageTimeout,
    /// The peer did not read for `limits.message_timeout`.
    WriteTimeout,
    /// Nothing came back for several requests in a row: the peer is gone, and TCP does not know yet.
    Unanswered,
    /// The peer read too slowly for what there was to send.
    QueueFull,
    /// What came was no SIP.
    NotSip,
    /// What came was no WebSocket.
    WebSocket(Violation),
    /// A message whose end cannot be found was refused.
    Refused(Fault),
    /// The peer has ended TLS, and said why.
    Alert(AlertDescription),
    /// The certificate that its peer has shown has been revoked.
    Revoked,
    /// The account that its peer has proven by a certificate is gone, or another's.
    AccountGone,
    /// Its interface is not configured any more.
    InterfaceGone,
    /// The static route that it was opened for is gone, or leads elsewhere.
    RouteGone,
    /// The system's word.
    Failed(io::ErrorKind),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        alert_of(&error).map_or_else(|| Self::Failed(error.kind()), Self::Alert)
    }
}

impl End {
    pub(super) const fn log_name(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::IdleTimeout => "idle_timeout",
            Self::MessageTimeout => "message_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::Unanswered => "unanswered",
            Self::QueueFull => "queue_full",
            Self::NotSip => "not_sip",
            Self::WebSocket(_) => "websocket_violation",
            Self::Refused(_) => "refused",
            Self::Alert(_) => "alert",
            Self::Revoked => "certificate_revoked",
            Self::AccountGone => "account_gone",
            Self::InterfaceGone => "interface_gone",
            Self::RouteGone => "route_gone",
            Self::Failed(_) => "failed",
        }
    }

    /// What the log says beside it.
    pub(super) fn detail(self) -> Option<String> {
        match self {
            Self::Refused(fault) => Some(fault.response().1.to_owned()),
            Self::WebSocket(violation) => Some(violation.to_string()),
            Self::Failed(kind) => Some(kind.to_string()),
            Self::Alert(alert) => Some(format!("{alert:?}")),
            Self::PeerClosed
            | Self::IdleTimeout
            | Self::MessageTimeout
            | Self::WriteTimeout
            | Self::Unanswered
            | Self::QueueFull
            | Self::Revoked
            | Self::AccountGone
            | Self::InterfaceGone
            | Self::RouteGone
            | Self::NotSip => None,
        }
    }
}
