//! What Routers and the FederationResolver say to each other.

use std::net::SocketAddr;

use actix::Message;

use crate::protocol::flow::Transport;
use crate::protocol::location::ContextId;
use crate::protocol::next_hop::{Query, Resolution};

/// What Routers ask, in batches. The answers go to the Router that asked.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Resolve {
    /// The index of the Router that asks.
    pub router: usize,
    /// What waits for each answer, and what is asked.
    pub queries: Vec<(ContextId, Query)>,
}

/// The answer to one of [`Resolve`].
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Resolved {
    /// What has waited for it.
    pub context: ContextId,
    /// The answer.
    pub resolution: Resolution,
}

/// How a server of another domain does. From Routers.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ServerHealth {
    /// What was spoken to it.
    pub transport: Transport,
    /// Where it is.
    pub remote: SocketAddr,
    /// Whether it has answered, and not that it is overloaded.
    pub is_well: bool,
}
