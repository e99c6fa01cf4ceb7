//! What the Registrar is told and asked, and what it tells.

use std::net::IpAddr;
use std::time::Instant;

use actix::prelude::*;
use ipnet::IpNet;

use crate::config::Durability;
use crate::protocol::account::AccountId;
use crate::protocol::flow::Flow;
use crate::protocol::interface::Interfaces;
use crate::protocol::location::{AddressOfRecord, Answer, LocationSettings, Question};

/// What Routers ask, in batches. The answers go to the Router that asked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Questions {
    /// The index of the Router that asks.
    pub router: usize,
    /// Its questions, answered in this order.
    pub questions: Vec<Question>,
}

/// The answers to [`Questions`], in their order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Answers(pub Vec<Answer>);

/// What a flow has proven, to every Router: requests on it pass as this account's; with `None` no longer.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct FlowStanding {
    /// The flow.
    pub flow: Flow,
    /// As whom it is logged on.
    pub account: Option<AccountId>,
    /// It has logged off: it will not answer what it was asked either.
    pub is_gone: bool,
}

/// A host has guessed passwords: to every Router, which drops what it sends on flows that have not logged on.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Banned {
    /// The host; of IPv6 the first 64 bits.
    pub host: IpAddr,
    /// For how long.
    pub until: Instant,
}

/// A connection has proven an account by its certificate: that is the log-on. From Connections.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LogOn {
    /// The connection's flow.
    pub flow: Flow,
    /// The account.
    pub account: AccountId,
}

/// A UC server has answered for a user: it is asked first next time.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Learned {
    /// The user.
    pub user: AddressOfRecord,
    /// The server's flow.
    pub flow: Flow,
}

/// Nothing comes back from this flow: it is not asked until it is heard from. Or no connection can be had by it: it
/// is forgotten.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct FlowFailed(pub Flow);

/// The network says that nothing arrives over this flow any more: what was registered as that flow is void.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct FlowEnded(pub Flow);

/// A Router has begun anew and knows nothing of what it was told before: tell it. To the Registrar and the
/// FederationResolver, from the supervisor.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct RouterRestarted {
    /// Its index.
    pub router: usize,
}

/// From now on, these settings are in force. From the supervisor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ApplyLocation {
    /// Of the core.
    pub settings: LocationSettings,
    /// The interfaces of the configuration.
    pub interfaces: Interfaces,
    /// `registrar.durability`.
    pub durability: Durability,
    /// `lan.allowed_networks`.
    pub lan_networks: Vec<IpNet>,
}

/// The Registrar has begun: what was kept is restored, and the Routers have been told who is logged on. To the
/// supervisor.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct RegistrarBegun;

/// Tell everything that is to be kept, to the segment of this number. From the Journal, whenever it begins one.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct TellAll {
    /// Which.
    pub segment: u64,
}
