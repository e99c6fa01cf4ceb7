//! What the location service has to say beyond its answers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::AddressOfRecord;
use crate::protocol::account::AccountId;
use crate::protocol::flow::Flow;

pub(super) type Events = VecDeque<LocationEvent>;

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocationEvent {
    /// A flow is logged on, or what follows from that has changed.
    LoggedOn {
        /// The flow.
        flow: Flow,
        /// As whom.
        account: AccountId,
        /// Whether what comes in on it is the account's without a new challenge: on a connection always, since
        /// nobody else can send on it; of datagrams, whose source can be forged, while a registration stands.
        passes: bool,
    },
    /// It no longer is.
    LoggedOff {
        /// The flow.
        flow: Flow,
        /// As whom it was logged on.
        account: AccountId,
        /// Why.
        reason: LogOffReason,
    },
    /// A host has answered too many challenges wrongly: nothing of it is let in that has not logged on.
    Banned {
        /// Its address; of IPv6 the first 64 bits.
        host: IpAddr,
        /// For how long.
        until: Instant,
    },
    /// A binding was added. Refreshing one is no event.
    BindingAdded {
        /// Whose.
        address_of_record: AddressOfRecord,
        /// The contact URI.
        contact: Bytes,
        /// The flow it was registered over.
        flow: Flow,
    },
    /// A binding is gone.
    BindingRemoved {
        /// Whose.
        address_of_record: AddressOfRecord,
        /// The contact URI.
        contact: Bytes,
        /// Why.
        reason: RemovalReason,
    },
}

/// Why a flow is no longer logged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOffReason {
    /// Its connection has closed.
    ConnectionClosed,
    /// The server has removed its binding, or a registrant its last one.
    Unregistered,
    /// The last proof is too old and the last registration has ended.
    Expired,
    /// It has proven another account; or the server that it stood for has come back over a connection of its own.
    Superseded,
    /// Too many datagram servers have logged on since.
    Displaced,
    /// The network says that nothing arrives over it any more.
    FlowEnded,
    /// It was to be connected to, and could not.
    Unreachable,
    /// What proves its account has changed, and it has to prove that again; or the account does not speak for its last
    /// user any more.
    AccountChanged,
    /// Its account is not configured any more.
    AccountRemoved,
}

impl LogOffReason {
    /// The name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionClosed => "connection_closed",
            Self::Unregistered => "unregistered",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Displaced => "displaced",
            Self::FlowEnded => "flow_ended",
            Self::Unreachable => "unreachable",
            Self::AccountChanged => "account_changed",
            Self::AccountRemoved => "account_removed",
        }
    }
}

/// Why a binding is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// By a REGISTER.
    Unregistered,
    /// Not refreshed in time.
    Expired,
    /// With the connection that it was registered over (RFC 5626 §7).
    ConnectionClosed,
    /// The network says that nothing arrives over the flow that was registered (RFC 5626 §7).
    FlowEnded,
    /// Its connection has not outlived a restart, and none could be had to its contact.
    Unreachable,
    /// Its connection has not outlived a restart, and the UC server has registered over another.
    Replaced,
    /// Its account does not speak for the user any more.
    AccountChanged,
    /// Its account is not configured any more.
    AccountRemoved,
}

impl RemovalReason {
    /// The name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unregistered => "unregistered",
            Self::Expired => "expired",
            Self::ConnectionClosed => "connection_closed",
            Self::FlowEnded => "flow_ended",
            Self::Unreachable => "unreachable",
            Self::Replaced => "replaced",
            Self::AccountChanged => "account_changed",
            Self::AccountRemoved => "account_removed",
        }
    }
}
