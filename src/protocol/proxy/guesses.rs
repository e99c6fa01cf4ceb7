//! Wrong answers to challenges: the next challenge waits, and a host that goes on is banned (product rule).
//!
//! The Registrar counts, for all Routers; here its word is carried out.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use crate::protocol::flow::host_of;
use crate::protocol::location::{Ask, ContextId, Penalty, Question};
use crate::protocol::message::reply::Reply;

use super::incoming::{Incoming, Whose};
use super::response_context::{Passage, Pending};
use super::route::{Routing, Way};
use super::slots::Slot;
use super::{Output, Proxy, is_unanswered};

/// Hosts of each kind that are remembered: as many as the Registrar remembers. Beyond, those whose time ends first are
/// forgotten.
const MAXIMUM_HOSTS: usize = 16_384;

/// Hosts that have answered challenges wrongly.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// Nothing is let in of these.
    banned: Hosts,
    /// These wait for the answer to a guess: until then, no other is verified, so that many at a time gain nothing.
    suspects: Hosts,
}

impl Guesses {
    pub(super) fn ban(&mut self, now: Instant, host: IpAddr, until: Instant) {
        self.banned.set(now, host, until);
    }

    pub(super) fn is_banned(&self, now: Instant, address: IpAddr) -> bool {
        self.banned.contain(now, address)
    }

    pub(super) fn is_suspect(&self, now: Instant, address: IpAddr) -> bool {
        self.suspects.contain(now, address)
    }
}

/// Hosts for some time.
#[derive(Debug, Default)]
struct Hosts {
    until: HashMap<IpAddr, Instant>,
    order: BTreeSet<(Instant, IpAddr)>,
}

impl Hosts {
    fn set(&mut self, now: Instant, host: IpAddr, until: Instant) {
        while self.order.first().is_some_and(|(until, _)| *until <= now) || self.order.len() > MAXIMUM_HOSTS {
            if let Some((_, ended)) = self.order.pop_first() {
                self.until.remove(&ended);
            }
        }
        if let Some(before) = self.until.insert(host, until) {
            self.order.remove(&(before, host));
        }
        self.order.insert((until, host));
    }

    fn contain(&self, now: Instant, address: IpAddr) -> bool {
        !self.until.is_empty() && self.until.get(&host_of(address)).is_some_and(|until| *until > now)
    }
}

impl Proxy {
    /// Keeps a challenge back until the Registrar has said what the wrong answer to the one before costs.
    pub(super) fn refuse_guess(&mut self, now: Instant, incoming: Incoming, reply: Reply) {
        if !self.settings.counts_guesses || self.check_load(&incoming.request).is_err() {
            return self.refuse(&incoming, &reply);
        }
        let patience = now + self.settings.timers.f() / 4;
        let flow = incoming.flow;
        self.guesses.suspects.set(now, host_of(flow.remote.ip()), patience);
        let context = if is_unanswered(incoming.method) {
            ContextId { slot: u32::MAX, generation: 0 }
        } else {
            let server = self.insert_server(now, &incoming);
            let (routing, passage) = (Routing::to(Way::Ourselves), Passage::default());
            let slot = self.insert_context(incoming, Some(server), Whose::NOBODY, &routing, passage);
            if let Some(context) = self.contexts.get_mut(slot) {
                context.pending = Pending::Refusal(Box::new(reply));
                context.patience = Some(patience);
            }
            self.arm_context(slot);
            ContextId { slot: slot.index, generation: slot.generation }
        };
        let question = Question { context, flow, log_on: None, nonce_use: None, ask: Ask::Punish };
        self.outputs.push_back(Output::Ask(question));
    }

    /// The Registrar has said what it costs.
    pub(super) fn punished(&mut self, now: Instant, slot: Slot, penalty: Penalty) {
        match penalty {
            Penalty::Wait(wait) => {
                if let Some(context) = self.contexts.get_mut(slot) {
                    context.patience = Some(now + wait);
                    let host = host_of(context.source.remote.ip());
                    self.guesses.suspects.set(now, host, now + wait);
                }
                self.context_timeout(now, slot);
            }
            Penalty::Ban => self.forget(slot),
        }
    }

    /// Ends a context and its server transaction without a word.
    fn forget(&mut self, slot: Slot) {
        let Some(context) = self.contexts.get(slot) else { return };
        if let Some(server) = context.server
            && let Some(transaction) = self.servers.get(server)
        {
            self.by_key.remove(&transaction.key);
            self.servers.discard(server);
        }
        self.contexts.discard(slot);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn hosts_are_remembered_for_their_time_and_so_many_of_them() {
        let (mut hosts, now) = (Hosts::default(), Instant::now());
        let host = |number: u32| IpAddr::from(number.to_be_bytes());
        let after = |seconds| now + Duration::from_secs(seconds);
        hosts.set(now, host(1), after(10));
        assert!(hosts.contain(after(9), host(1)) && !hosts.contain(after(10), host(1)));
        hosts.set(now, host(1), after(20));
        assert!(hosts.contain(after(19), host(1)) && hosts.order.len() == 1);
        for number in 0..MAXIMUM_HOSTS as u32 + 10 {
            hosts.set(now, host(number + 2), after(100));
        }
        assert!(hosts.order.len() <= MAXIMUM_HOSTS + 1 && hosts.order.len() == hosts.until.len());
        assert!(!hosts.contain(now, host(1)), "the one whose time ends first");
        hosts.set(after(100), host(1), after(200));
        assert_eq!((hosts.order.len(), hosts.until.len()), (1, 1));
    }
}
