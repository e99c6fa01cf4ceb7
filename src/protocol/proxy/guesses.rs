//! Wrong answers to challenges: the next challenge waits, and a host that goes on is banned (product rule).
//!
//! The Registrar counts, for all Routers; here its word is carried out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::protocol::flow::host_of;
use crate::protocol::location::{Ask, ContextId, Penalty, Question};
use crate::protocol::message::reply::Reply;

use super::incoming::Incoming;
use super::response_context::{Passage, Pending};
use super::route::{Routing, Way};
use super::table::Slot;
use super::{Output, Proxy, is_unanswered};

/// The hosts that are banned.
#[derive(Debug, Default)]
pub(super) struct Bans(HashMap<IpAddr, Instant>);

impl Bans {
    /// As many as the Registrar remembers.
    pub(super) fn add(&mut self, now: Instant, host: IpAddr, until: Instant) {
        self.0.retain(|_, until| *until > now);
        self.0.insert(host, until);
    }

    pub(super) fn is_banned(&self, now: Instant, address: IpAddr) -> bool {
        !self.0.is_empty() && self.0.get(&host_of(address)).is_some_and(|until| *until > now)
    }
}

impl Proxy {
    /// Keeps a challenge back until the Registrar has said what the wrong answer to the one before costs.
    pub(super) fn refuse_guess(&mut self, now: Instant, incoming: &Incoming, reply: Reply) {
        if !self.settings.counts_guesses || self.check_load(&incoming.request).is_err() {
            return self.refuse(incoming, &reply);
        }
        let context = if is_unanswered(incoming.method) {
            ContextId { slot: u32::MAX, generation: 0 }
        } else {
            let server = self.insert_server(now, incoming);
            let (routing, passage) = (Routing::to(Way::Ourselves), Passage::default());
            let slot = self.insert_context(incoming, Some(server), None, &routing, passage);
            if let Some(context) = self.contexts.get_mut(slot) {
                context.pending = Pending::Refusal(Box::new(reply));
                context.patience = Some(now + self.settings.timers.f() / 4);
            }
            self.arm_context(slot);
            ContextId { slot: slot.index, generation: slot.generation }
        };
        let flow = incoming.flow;
        let question = Question { context, flow, log_on: None, nonce_use: None, ask: Ask::Punish };
        self.outputs.push_back(Output::Ask(question));
    }

    /// The Registrar has said what it costs.
    pub(super) fn punished(&mut self, now: Instant, slot: Slot, penalty: Penalty) {
        match penalty {
            Penalty::Wait(wait) => {
                if let Some(context) = self.contexts.get_mut(slot) {
                    context.patience = Some(now + wait);
                }
                self.context_timeout(now, slot);
            }
            Penalty::Ban => self.forget(slot),
        }
    }

    /// Ends a context and its server transaction without a word.
    fn forget(&mut self, slot: Slot) {
        let Some(context) = self.contexts.remove(slot) else { return };
        if let Some(server) = context.server.and_then(|server| self.servers.remove(server)) {
            self.by_key.remove(&server.key);
        }
    }
}
