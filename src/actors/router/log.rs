//! What the core of a Router has to say, as lines of the log.

use std::time::Instant;

use bytes::Bytes;
use slog::{Drain as _, debug, info, warn};

use super::Router;
use crate::diagnostics::LogLimit;
use crate::protocol::federation::guard::{Figures, Notice};
use crate::protocol::flow::Flow;
use crate::protocol::message::{Carriage, Message, MessageLimits};
use crate::protocol::proxy::{Event, EventDetail};

/// What the proxy itself has written is as long as it is.
const OWN_LIMITS: MessageLimits = MessageLimits { message_bytes: usize::MAX, header_bytes: 65_535 };

/// What bounds the lines that strangers can cause.
#[derive(Debug, Default)]
pub(super) struct Limits {
    security: LogLimit,
    refused: LogLimit,
    answered: LogLimit,
}

impl Router {
    /// Lets the core tell as much as is logged at present; whether each message is.
    pub(super) fn follow_level(&mut self) -> bool {
        let is_told = self.log.is_info_enabled();
        self.core.set_detail(if is_told { EventDetail::Transactions } else { EventDetail::Faults });
        self.log.is_debug_enabled()
    }

    pub(super) fn tell_received(&self, flow: &Flow, message: &Message) {
        let words = Words::of(message);
        debug!(self.log, "message_received"; "call_id" => text(message.call_id()), "method" => words.method,
            "status" => message.status(), "branch" => words.branch, "aor" => words.to, "peer" => %flow,
            "bytes" => message.bytes().len());
    }

    pub(super) fn tell_sent(&self, hop: &Flow, bytes: &Bytes) {
        // Always one: the proxy has written it.
        let Ok(message) = Message::parse(bytes.clone(), Carriage::Datagram, OWN_LIMITS) else { return };
        let words = Words::of(&message);
        debug!(self.log, "message_sent"; "call_id" => text(message.call_id()), "method" => words.method,
            "status" => message.status(), "branch" => words.branch, "aor" => words.to, "peer" => %hop,
            "bytes" => bytes.len());
    }

    pub(super) fn tell(&self, event: &Event) {
        match event {
            Event::Answered { method, call_id, from, to, flow, is_known, status, branches } => {
                let passed = if *is_known { Some(0) } else { self.limits.answered.pass(Instant::now()) };
                if let Some(repeated) = passed {
                    info!(self.log, "answered"; "call_id" => text(call_id), "method" => text(method),
                        "status" => status, "aor" => text(to), "from" => text(from), "peer" => %flow,
                        "branches" => branches, "repeated" => repeated);
                }
            }
            Event::Refused { method, call_id, flow, status, reason } => {
                // A challenge is the way to a log-on.
                let is_remarkable = !matches!(status, 401 | 407) && self.log.is_info_enabled();
                match is_remarkable.then(|| self.limits.refused.pass(Instant::now())).flatten() {
                    Some(repeated) => {
                        info!(self.log, "refused"; "call_id" => text(call_id), "method" => text(method),
                            "status" => status, "peer" => %flow, "reason" => reason, "repeated" => repeated);
                    }
                    None => debug!(self.log, "refused"; "call_id" => text(call_id), "method" => text(method),
                        "status" => status, "peer" => %flow, "reason" => reason),
                }
            }
            Event::CredentialsRefused { call_id, flow, fault } => {
                if let Some(repeated) = self.limits.security.pass(Instant::now()) {
                    warn!(self.log, "log_on_refused"; "call_id" => text(call_id), "peer" => %flow,
                        "reason" => fault, "repeated" => repeated);
                }
            }
            Event::PeerRefused { call_id, flow, domain, names, reason } => {
                if let Some(repeated) = self.limits.security.pass(Instant::now()) {
                    warn!(self.log, "peer_refused"; "call_id" => text(call_id), "peer" => %flow, "domain" => domain,
                        "names" => names, "reason" => reason, "repeated" => repeated);
                }
            }
            Event::PeerQueueFull { domain } => {
                if let Some(repeated) = self.limits.security.pass(Instant::now()) {
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
        let Some(repeated) = self.limits.security.pass(Instant::now()) else { return };
        match excess {
            Some(reason) => warn!(self.log, "peer_watched"; "domain" => &**domain, "reason" => reason,
                "requests" => requests, "users" => users, "answers" => answers, "failures" => failures,
                "repeated" => repeated),
            None => info!(self.log, "peer_released"; "domain" => &**domain, "requests" => requests,
                "users" => users, "answers" => answers, "failures" => failures, "repeated" => repeated),
        }
    }
}

/// Words that stand in requests and in responses.
struct Words {
    method: String,
    branch: Option<String>,
    to: Option<String>,
}

impl Words {
    fn of(message: &Message) -> Self {
        let method = message.cseq().map_or_else(|| message.method_token(), |cseq| cseq.method);
        Self {
            method: text(method),
            branch: message.top_via().and_then(|via| via.branch).map(text),
            to: message.to().map(|to| text(to.uri)),
        }
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
