//! What the proxy has told since the last call, kind by kind.

use super::Bench;
use crate::protocol::proxy::{DropReason, Event};

impl Bench {
    /// Which discovered peers were not sent a request because of too many since the last call.
    pub(in crate::protocol::proxy::tests) fn full_queues(&mut self) -> Vec<String> {
        let events = std::mem::take(&mut self.events);
        let full = events.into_iter().filter_map(|event| match event {
            Event::PeerQueueFull { domain } => Some(domain),
            _ => None,
        });
        full.collect()
    }

    /// Who is watched or released since the last call, and why.
    pub(in crate::protocol::proxy::tests) fn watched(&mut self) -> Vec<(String, Option<&'static str>)> {
        let events = std::mem::take(&mut self.events);
        let notices = events.into_iter().filter_map(|event| match event {
            Event::PeerWatched(notice) => Some((notice.domain.to_string(), notice.excess)),
            _ => None,
        });
        notices.collect()
    }

    /// Why peers from the outside were refused since the last call.
    pub(in crate::protocol::proxy::tests) fn refused_peers(&mut self) -> Vec<(String, String, &'static str)> {
        let events = std::mem::take(&mut self.events);
        let refused = events.into_iter().filter_map(|event| match event {
            Event::PeerRefused { domain, names, reason, .. } => Some((domain, names, reason)),
            Event::Refused { .. }
            | Event::CredentialsRefused { .. }
            | Event::PeerQueueFull { .. }
            | Event::PeerWatched(_)
            | Event::Dropped { .. }
            | Event::Answered { .. } => None,
        });
        refused.collect()
    }

    /// Why messages were dropped since the last call.
    pub(in crate::protocol::proxy::tests) fn drops(&mut self) -> Vec<DropReason> {
        let events = std::mem::take(&mut self.events);
        let drops = events.into_iter().filter_map(|event| match event {
            Event::Dropped { reason, .. } => Some(reason),
            Event::Refused { .. }
            | Event::CredentialsRefused { .. }
            | Event::PeerRefused { .. }
            | Event::PeerQueueFull { .. }
            | Event::PeerWatched(_)
            | Event::Answered { .. } => None,
        });
        drops.collect()
    }

    /// What was wrong with credentials since the last call.
    pub(in crate::protocol::proxy::tests) fn faults(&mut self) -> Vec<&'static str> {
        let events = std::mem::take(&mut self.events);
        let faults = events.into_iter().filter_map(|event| match event {
            Event::CredentialsRefused { fault, .. } => Some(fault),
            Event::Refused { .. }
            | Event::PeerRefused { .. }
            | Event::PeerQueueFull { .. }
            | Event::PeerWatched(_)
            | Event::Dropped { .. }
            | Event::Answered { .. } => None,
        });
        faults.collect()
    }
}
