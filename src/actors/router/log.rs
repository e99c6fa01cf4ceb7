//! What the core of a Router has to say, as lines of the log.

use std::time::Instant;

use slog::{debug, info, warn};

use super::Router;
use crate::protocol::federation::guard::{Figures, Notice};
use crate::protocol::proxy::Event;

impl Router {
    pub(super) fn tell(&self, event: &Event) {
        match event {
            Event::Answered { method, call_id, flow, status, branches } => {
                info!(self.log, "answered"; "call_id" => text(call_id), "method" => text(method),
                    "status" => status, "peer" => %flow, "branches" => branches);
            }
            Event::Refused { method, call_id, flow, status, reason } => {
                debug!(self.log, "refused"; "call_id" => text(call_id), "method" => text(method),
                    "status" => status, "peer" => %flow, "reason" => reason);
            }
            Event::CredentialsRefused { call_id, flow, fault } => {
                if let Some(repeated) = self.limit.pass(Instant::now()) {
                    warn!(self.log, "log_on_refused"; "call_id" => text(call_id), "peer" => %flow,
                        "reason" => fault, "repeated" => repeated);
                }
            }
            Event::PeerRefused { call_id, flow, domain, names, reason } => {
                if let Some(repeated) = self.limit.pass(Instant::now()) {
                    warn!(self.log, "peer_refused"; "call_id" => text(call_id), "peer" => %flow, "domain" => domain,
                        "names" => names, "reason" => reason, "repeated" => repeated);
                }
            }
            Event::PeerQueueFull { domain } => {
                if let Some(repeated) = self.limit.pass(Instant::now()) {
                    warn!(self.log, "peer_queue_full"; "domain" => domain, "repeated" => repeated,
                        "remedy" => "allow the domain (federation.allowed_domains) or raise open_federation.messages_per_second");
                }
            }
            Event::PeerWatched(notice) => self.tell_watched(notice),
            Event::Dropped { flow, reason } => {
                debug!(self.log, "dropped"; "peer" => %flow, "reason" => reason.name());
            }
        }
    }

    fn tell_watched(&self, Notice { domain, excess, figures }: &Notice) {
        let Figures { requests, users, answers, failures } = figures;
        let Some(repeated) = self.limit.pass(Instant::now()) else { return };
        match excess {
            Some(reason) => warn!(self.log, "peer_watched"; "domain" => &**domain, "reason" => reason,
                "requests" => requests, "users" => users, "answers" => answers, "failures" => failures,
                "repeated" => repeated),
            None => info!(self.log, "peer_released"; "domain" => &**domain, "requests" => requests,
                "users" => users, "answers" => answers, "failures" => failures, "repeated" => repeated),
        }
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
