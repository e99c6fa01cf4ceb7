//! Requests that nobody answers and no transaction remembers: ACK to a 2xx (RFC 3261 §13.2.2.4, §16.11), BENOTIFY,
//! and a CANCEL whose INVITE is not here (§16.10).

use std::sync::Arc;
use std::time::Instant;

use super::forward::Forwarding;
use super::incoming::{Incoming, Whose};
use super::response_context::Passage;
use super::route::{Routing, Way};
use super::slots::Slot;
use super::table::ServerMachine;
use super::validate::{MaxForwards, check_max_breadth, check_max_forwards, check_syntax};
use super::{DropReason, Output, Proxy};
use crate::protocol::admission::{self, Admitted};
use crate::protocol::identity::PeerProof;
use crate::protocol::location::{Ask, ContextId, Question};
use crate::protocol::message::{Message, Method};
use crate::protocol::transaction::{Branch, ServerAction};

impl Proxy {
    /// An ACK belongs to the INVITE transaction that it ends, or it is one to a 2xx, which is forwarded and
    /// forgotten (§16.10 last paragraph, §17.1.1.3).
    pub(super) fn handle_ack(&mut self, now: Instant, proof: Option<&Arc<PeerProof>>, incoming: Incoming) {
        if let Some(slot) = self.by_key.get(&incoming.key) {
            let Some(server) = self.servers.get_mut(slot) else { return };
            let actions = match &mut server.machine {
                ServerMachine::Invite(machine) => machine.handle_ack(now, &server.timers),
                ServerMachine::NonInvite(_) => return,
            };
            let is_for_2xx = actions.contains(&ServerAction::PassUp);
            self.perform_server(now, slot, actions);
            if !is_for_2xx {
                return;
            }
        }
        // Of a refusal that left no transaction behind, the To tag is the one that we made.
        let own_tag = self.to_tag(incoming.key);
        let is_for_refusal = incoming.request.to().and_then(|to| to.tag()) == Some(&own_tag[..]);
        let flow = incoming.flow;
        if !is_for_refusal && self.forward_unanswered(now, proof, incoming).is_none() {
            self.dropped(&flow, DropReason::StrayAck);
        }
    }

    /// Forwards a request that nobody answers and no transaction remembers. `None` if it may not or cannot pass.
    pub(super) fn forward_unanswered(
        &mut self,
        now: Instant,
        proof: Option<&Arc<PeerProof>>,
        mut incoming: Incoming,
    ) -> Option<()> {
        check_syntax(&incoming.request).ok()?;
        let MaxForwards::Forward(max_forwards) = check_max_forwards(&incoming.request).ok()? else {
            return None;
        };
        let max_breadth = check_max_breadth(&incoming.request).ok()?;
        let settings = self.settings.clone();
        let routing = self.route(&mut incoming);
        let request = &incoming.request;
        let whose = self.whose_unanswered(now, proof, &incoming, &routing)?;
        let loop_hash = self.loop_hash(request);
        if self.is_loop(request, loop_hash) {
            return None;
        }
        let passage = Passage { max_forwards, max_breadth, loop_hash };
        let (pending, ask) = self.way_on(request, &incoming.flow, &routing.way).ok()?;
        let is_question = !matches!(ask, Ask::Nothing);
        if is_question && self.contexts.len() >= settings.maximum_transactions {
            return None;
        }
        let flow = incoming.flow;
        let context = self.insert_context(incoming, None, whose, &routing, passage);
        let state = self.contexts.get_mut(context)?;
        state.pending = pending;
        if !is_question {
            self.go_on(now, context);
            return Some(());
        }
        state.patience = Some(now + settings.timers.f() / 4);
        self.arm_context(context);
        self.outputs.push_back(Output::Ask(Question {
            context: ContextId { slot: context.index, generation: context.generation },
            flow,
            log_on: None,
            nonce_use: None,
            ask,
        }));
        Some(())
    }

    /// Whose a request is that nobody answers; `None` if it may not pass. Nobody can be challenged here. Who has proven
    /// nothing may go on in a dialog that we have recorded, if it comes from an end of it; the credentials that an ACK
    /// repeats (§22.1) were for another method.
    fn whose_unanswered(
        &mut self,
        now: Instant,
        proof: Option<&Arc<PeerProof>>,
        incoming: &Incoming,
        routing: &Routing,
    ) -> Option<Whose> {
        let request = &incoming.request;
        let is_from_end = routing.is_from_end && matches!(routing.way, Way::Token(_));
        if let Some(stranger) = self.stranger(now, proof, &incoming.flow, request).ok()? {
            if request.method() == Some(Method::Benotify) && stranger.is_guarded() {
                self.guard_request(now, &stranger.domain, request).ok()?;
            }
            self.check_inward(&routing.way).ok()?;
            // There is no time to look its domain up: within a dialog that was done before.
            let passes = !stranger.is_claim || is_from_end;
            return passes.then_some(Whose { account: None, is_trusted: stranger.is_trusted });
        }
        let sender = self.sender(&incoming.flow, proof);
        match admission::identify(request, &sender, &self.settings, &self.nonces, self.millis(now)) {
            Ok(Admitted { account, .. }) => {
                self.check_right(request, &incoming.flow, account, &routing.way).ok()?;
                Some(Whose { account: Some(account), is_trusted: self.is_uc_server(account) })
            }
            Err(_) if is_from_end => Some(Whose::NOBODY),
            Err(_) => None,
        }
    }

    /// Forwards what nobody answers to the first target, and forgets it.
    pub(super) fn forward_and_forget(&mut self, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let Some(target) = context.waiting.pop_front().and_then(|group| group.into_iter().next()) else {
            let source = context.source;
            self.contexts.discard(slot);
            return self.dropped(&source, DropReason::Unanswerable);
        };
        let Some(context) = self.contexts.get(slot) else { return };
        // The same request must get the same branch when it comes again (§16.11).
        let branch = Branch {
            router: self.router,
            slot: u32::MAX,
            generation: self.stateless_generation(&context.request),
            loop_hash: context.passage.loop_hash,
        };
        let forwarding = Forwarding {
            request: &context.request,
            source: &context.source,
            account: context.account,
            own_routes: context.own_routes,
            max_forwards: context.passage.max_forwards,
            is_recorded: false,
            realm: &self.settings.realm,
            nonces: &self.nonces,
            interfaces: &self.interfaces,
            token_key: &self.token_key,
            is_trusted: context.is_trusted,
            keep_alive: self.settings.keep_alive_of(&context.source),
        };
        // A CANCEL forks nowhere (RFC 5393 §5.4.1).
        let max_breadth = (context.method != Method::Cancel).then_some(context.passage.max_breadth);
        let leg = (&target, branch, max_breadth);
        let (hop, bytes) = forwarding.write_by_size(leg, self.settings.udp_mtu, &mut self.scratch);
        self.contexts.discard(slot);
        self.transmit_beyond(hop, target.beyond, bytes, None);
    }

    fn stateless_generation(&self, request: &Message) -> u32 {
        let key = request.top_via().map(|via| self.server_key(request, &via, request.method_token()));
        key.map_or(0, |key| key.0 as u32)
    }
}
