//! What the supervisor tells of the service: what is configured, what listens, what STUN has found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use actix::prelude::*;

use super::{Supervisor, interfaces};
use crate::actors::listener::{InterfaceState, ListenerKind};
use crate::actors::stun::NatDetermined;
use crate::config::{Config, Protocol};
use crate::protocol::federation::shaper::Shaper;
use crate::protocol::flow::InterfaceId;
use crate::protocol::interface::Interfaces;

/// How is the service? To the supervisor.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Description")]
pub struct Describe;

/// The answer to [`Describe`].
#[derive(Clone, Debug)]
pub struct Description {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// Since when, and since when the process runs.
    pub times: Times,
    /// The interfaces of `config.interfaces` that have reported.
    pub states: BTreeMap<InterfaceId, InterfaceState>,
    /// What listens, as the protocol knows it.
    pub interfaces: Arc<Interfaces>,
    /// What STUN has told last, and when.
    pub nat: Option<(NatDetermined, SystemTime)>,
    /// Whose turn it is towards discovered peers.
    pub shaper: Arc<Shaper>,
    /// Every interface has reported.
    pub is_ready: bool,
    /// The process ends.
    pub is_stopping: bool,
}

/// What the supervisor keeps for a [`Description`] alone.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) times: Times,
    pub(super) nat: Option<(NatDetermined, SystemTime)>,
}

impl Told {
    /// Everything begins now.
    pub(super) fn now() -> Self {
        let now = SystemTime::now();
        Self { times: Times { started: now, begun: Instant::now(), configured: now }, nat: None }
    }
}

/// Moments that a [`Description`] has.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The start of the process, by the wall clock.
    pub started: SystemTime,
    /// The same by the clock that nobody sets.
    pub begun: Instant,
    /// When the configuration in force was read.
    pub configured: SystemTime,
}

impl Handler<Describe> for Supervisor {
    type Result = MessageResult<Describe>;

    fn handle(&mut self, _: Describe, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Description {
            config: Arc::clone(&self.parts.config),
            times: self.told.times,
            states: states(&self.parts.config, &self.states),
            interfaces: Arc::clone(&self.interfaces),
            nat: self.told.nat.clone(),
            shaper: Arc::clone(&self.parts.settings.federation.shaper),
            is_ready: self.is_ready,
            is_stopping: self.stopping.is_asked_for(),
        })
    }
}

/// One state for each interface: where the Listener that has its port listens, and the reason of any that does not.
fn states(config: &Config, states: &interfaces::States) -> BTreeMap<InterfaceId, InterfaceState> {
    let mut known = BTreeMap::new();
    for ((id, kind), state) in states {
        // One that a reload has taken away may not have closed yet.
        let Some(interface) = config.interface(*id) else { continue };
        let is_datagram = interface.protocol == Protocol::Udp;
        let has_port = *kind == ListenerKind::Stream || *kind == ListenerKind::Datagram { core: 0 };
        let is_first = is_datagram == matches!(kind, ListenerKind::Datagram { .. }) && has_port;
        match state {
            InterfaceState::Listening { .. } if is_first => {
                known.entry(*id).or_insert_with(|| state.clone());
            }
            InterfaceState::Listening { .. } => {}
            InterfaceState::NotListening { reason } => {
                let reason = if is_datagram && *kind == ListenerKind::Stream {
                    format!("TCP beside it: {reason}")
                } else {
                    reason.clone()
                };
                known.insert(*id, InterfaceState::NotListening { reason });
            }
        }
    }
    known
}
