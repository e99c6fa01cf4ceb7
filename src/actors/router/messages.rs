//! What is said to Routers beside SIP.

use std::sync::Arc;

use actix::prelude::*;

use crate::actors::registrar::Questions;
use crate::protocol::federation::{AccessAddresses, RouteId};
use crate::protocol::interface::Interfaces;
use crate::protocol::proxy::settings::Settings;
use crate::protocol::proxy::{Counts, Load, Unfinished};

/// From now on these interfaces listen. To every Router, from the supervisor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct InterfacesChanged(pub Arc<Interfaces>);

/// From now on, these settings are in force. To every Router, from the supervisor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ApplySettings {
    /// For this Router alone, so that no other core counts references to them.
    pub settings: Arc<Settings>,
}

/// From now on, the access servers of static routes that are given by name have these addresses. To every Router, from
/// the FederationResolver.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct AccessServersMoved(pub AccessAddresses);

/// Ask the access server of this route whether it is there. To some Router, from the FederationResolver.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ProbeRoute(pub RouteId);

/// The Registrar has begun anew and knows of no log-ons: tell it. To every Router, from the Registrar.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RegistrarRestarted {
    /// The way to it; the directory may not know it yet.
    pub questions: Recipient<Questions>,
}

/// The process is about to end: let nothing begin, and say what is still to be done. To every Router, from the
/// supervisor, until nothing is.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Unfinished")]
pub struct Drain {
    /// When a successor may be there, in seconds.
    pub retry_after: u32,
}

/// Say what you have carried since your start, and what you hold. To every Router, for metrics.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Counted")]
pub struct Count;

/// The answer to [`Count`].
#[derive(Debug, MessageResponse)]
pub struct Counted {
    /// What was carried.
    pub counts: Counts,
    /// What is under way.
    pub load: Load,
}
