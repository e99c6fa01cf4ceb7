//! Requests for a discovered peer leave when it is their turn, in dialogs and outside of them: the peer is sent so many in
//! a second ([`shaper`](crate::protocol::federation::shaper)).

use std::time::Instant;

use crate::protocol::federation::Outward;
use crate::protocol::federation::shaper::Turn;
use crate::protocol::message::Method;
use crate::protocol::message::reply::Reply;

use super::response_context::Pending;
use super::slots::Slot;
use super::{Event, EventDetail, Output, Proxy};

impl Proxy {
    /// Sends a request on its way, now or when it is its turn; refuses one whose turn would come when its sender has given
    /// up (Timer F). What ends something has no turn of its own: ACK and CANCEL.
    pub(super) fn await_turn(&mut self, now: Instant, slot: Slot, pending: Pending) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let federation = &self.settings.federation;
        let is_shaped = !matches!(context.method, Method::Ack | Method::Cancel);
        let peer = peer_of(&pending).filter(|domain| is_shaped && !federation.is_allowed(domain));
        let longest_wait = self.settings.timers.f() * 7 / 8;
        let turn = peer.map_or(Turn::Now, |domain| federation.shaper.take_turn(now, domain, longest_wait));
        match turn {
            Turn::Now => self.set_out(now, slot, pending),
            Turn::At(at) => {
                context.pending = Pending::Turn(Box::new(pending));
                context.patience = Some(at);
                self.arm_context(slot);
            }
            Turn::Never => {
                let domain = peer.unwrap_or_default().to_owned();
                self.refuse_turn(now, slot, domain);
            }
        }
    }

    fn refuse_turn(&mut self, now: Instant, slot: Slot, domain: String) {
        if self.detail >= EventDetail::Faults {
            self.outputs.push_back(Output::Event(Event::PeerQueueFull { domain }));
        }
        let warning = "399 sip-proxy \"too many requests wait for this domain\"".to_owned();
        self.reply(
            now,
            slot,
            &Reply::with_reason(503, "Too Many Requests For Domain").row("Warning", warning),
        );
    }

    /// It is the turn of a request.
    pub(super) fn set_out(&mut self, now: Instant, slot: Slot, pending: Pending) {
        match pending {
            Pending::Departure(departure) => self.depart(now, slot, departure),
            Pending::Spending(targets) => {
                if let Some(context) = self.contexts.get_mut(slot) {
                    context.waiting = targets;
                }
                self.go_on(now, slot);
            }
            _ => {}
        }
    }
}

/// The discovered peer that a request leaves for.
fn peer_of(pending: &Pending) -> Option<&str> {
    let departure = match pending {
        Pending::Departure(departure) => departure,
        Pending::Spending(targets) => targets.front()?.first()?.fallback.as_deref()?,
        _ => return None,
    };
    match &departure.outward {
        Outward::Discovered(domain) => Some(domain),
        Outward::Route(_) => None,
    }
}
