//! What the proxy has to tell whoever keeps the log.

use bytes::Bytes;

use crate::protocol::federation::guard::Notice;
use crate::protocol::flow::Flow;

/// What is worth a line in a log. Nothing in here is needed for the proxy's work.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request was refused before it was forwarded.
    Refused {
        /// The method, as written.
        method: Bytes,
        /// Call-ID.
        call_id: Bytes,
        /// Where it came from.
        flow: Flow,
        /// The status code.
        status: u16,
        /// The reason phrase, or what was wrong with the credentials.
        reason: &'static str,
    },
    /// Credentials were there and wrong: a log-on that failed.
    CredentialsRefused {
        /// Call-ID.
        call_id: Bytes,
        /// Where it came from.
        flow: Flow,
        /// What was wrong.
        fault: &'static str,
    },
    /// Somebody from the outside is not who it says, or may not send that.
    PeerRefused {
        /// Call-ID.
        call_id: Bytes,
        /// Where it came from.
        flow: Flow,
        /// The domain of From.
        domain: String,
        /// The names of the certificate.
        names: String,
        /// What was wrong.
        reason: &'static str,
    },
    /// More requests for a discovered peer than can leave before their senders give up: this one was refused.
    PeerQueueFull {
        /// The domain of the peer.
        domain: String,
    },
    /// A discovered peer is watched from now on, or not any more.
    PeerWatched(Notice),
    /// A request was answered.
    Answered {
        /// The method, as written.
        method: Bytes,
        /// Call-ID.
        call_id: Bytes,
        /// The URI of From; empty where there is none.
        from: Bytes,
        /// The URI of To; empty where there is none.
        to: Bytes,
        /// Where it came from.
        flow: Flow,
        /// Whether the sender has proven who it is: strangers may be summed up.
        is_known: bool,
        /// The status code.
        status: u16,
        /// How many were asked.
        branches: usize,
    },
    /// A message was dropped without an answer.
    Dropped {
        /// Where it came from.
        flow: Flow,
        /// Why.
        reason: DropReason,
    },
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// A request whose top Via does not say where to answer.
    NoVia,
    /// A response whose top Via is not ours (RFC 3261 §18.1.2).
    ForeignResponse,
    /// A request past the limit for addresses that have proven nothing.
    SourceRate,
    /// A request of a host that is banned, on a flow that has not logged on.
    Banned,
    /// A response without a client transaction (RFC 6026 §8).
    StrayResponse,
    /// A response that is malformed.
    MalformedResponse,
    /// An ACK that belongs to nothing, or whose sender may not send.
    StrayAck,
    /// A CANCEL that belongs to nothing.
    StrayCancel,
    /// A response of ours that the server transaction did not let out.
    ResponseRefused,
    /// A request that is never answered could not be forwarded.
    Unanswerable,
}

impl DropReason {
    /// All, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::NoVia,
        Self::ForeignResponse,
        Self::SourceRate,
        Self::Banned,
        Self::StrayResponse,
        Self::MalformedResponse,
        Self::StrayAck,
        Self::StrayCancel,
        Self::ResponseRefused,
        Self::Unanswerable,
    ];

    /// The name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoVia => "no_via",
            Self::ForeignResponse => "foreign_response",
            Self::SourceRate => "source_rate",
            Self::Banned => "banned",
            Self::StrayResponse => "stray_response",
            Self::MalformedResponse => "malformed_response",
            Self::StrayAck => "stray_ack",
            Self::StrayCancel => "stray_cancel",
            Self::ResponseRefused => "response_refused",
            Self::Unanswerable => "unanswerable",
        }
    }
}

/// How much of what happens becomes an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventDetail {
    /// Nothing: no cost.
    Nothing,
    /// Refusals and drops.
    Faults,
    /// Every request that was answered, too.
    Transactions,
}
