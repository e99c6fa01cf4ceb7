//! CANCEL (RFC 3261 §9, §16.10) and Timer C (§16.8).

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::identity::PeerProof;
use crate::protocol::message::Method;
use crate::protocol::message::reply::Reply;
use crate::protocol::transaction::{Actions, Branch, ClientAction, ClientNonInvite};

use super::forking::parse_own;
use super::forward::write_for_invite;
use super::incoming::Incoming;
use super::response_context::{BranchState, Pending};
use super::slots::Slot;
use super::table::CancelTransaction;
use super::targets::TargetKind;
use super::{DropReason, Proxy};

impl Proxy {
    /// A CANCEL that matches is answered at once, and ends what is pending; another is forwarded without state.
    pub(super) fn handle_cancel(
        &mut self,
        now: Instant,
        proof: Option<&Arc<PeerProof>>,
        mut incoming: Incoming,
    ) {
        let invite_key =
            incoming.request.top_via().map(|via| self.server_key(&incoming.request, &via, b"INVITE"));
        let found = invite_key.and_then(|key| self.by_key.get(&key));
        let matched = found.and_then(|slot| self.servers.get(slot)).filter(|server| {
            // Branches can be overheard: whoever cancels must be where the request came from.
            server.reply_path.flow.remote.ip() == incoming.flow.remote.ip()
        });
        let Some(context) = matched.map(|server| server.context) else {
            if self.is_cancel_of_other(now, &incoming) {
                // §9.2: it has no effect on requests that are not INVITE, but it is answered.
                return self.refuse(&incoming, &Reply::new(200));
            }
            let flow = incoming.flow;
            if self.forward_unanswered(now, proof, incoming).is_none() {
                self.dropped(&flow, DropReason::StrayCancel);
            }
            return;
        };
        // With the tag that a response of ours to the INVITE has (§9.2).
        incoming.key = invite_key.unwrap_or(incoming.key);
        self.refuse(&incoming, &Reply::new(200));
        if let Some(context) = context {
            self.cancel_context(now, context);
        }
    }

    /// Whether a CANCEL names a pending transaction of a method that cannot be cancelled.
    fn is_cancel_of_other(&self, now: Instant, incoming: &Incoming) -> bool {
        const OTHERS: [&[u8]; 11] = [
            b"MESSAGE",
            b"SUBSCRIBE",
            b"NOTIFY",
            b"OPTIONS",
            b"REGISTER",
            b"PUBLISH",
            b"BYE",
            b"REFER",
            b"INFO",
            b"UPDATE",
            b"PRACK",
        ];
        let Some(via) = incoming.request.top_via() else { return false };
        OTHERS.iter().any(|method| {
            let key = self.server_key(&incoming.request, &via, method);
            let host = incoming.flow.remote.ip();
            self.by_key.get(&key).is_some() || self.answered.get(now, &key, host).is_some()
        })
    }

    fn cancel_context(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let is_guess = matches!(context.pending, Pending::Refusal(_));
        if context.has_answered || context.is_cancelled || is_guess || context.method != Method::Invite {
            return;
        }
        context.is_cancelled = true;
        context.waiting.clear();
        context.patience = None;
        if context.has_pending_branch() {
            self.cancel_pending(now, slot);
        } else {
            self.reply(now, slot, &Reply::new(487));
        }
    }

    /// Ends all branches that are pending: at once where a provisional response has come, else with the first one
    /// (§9.1). Branches of other methods cannot be ended.
    pub(super) fn cancel_pending(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        if !context.is_invite() {
            return;
        }
        let end_of_waiting = now + context.timers.f();
        let mut to_cancel = Vec::new();
        for (at, branch) in (0u16..).zip(context.branches.iter_mut()) {
            if !branch.is_pending() || branch.is_cancelled {
                continue;
            }
            branch.is_cancelled = true;
            branch.deadline = Some(end_of_waiting);
            if branch.state == BranchState::Proceeding {
                to_cancel.push(at);
            }
        }
        for branch in to_cancel {
            self.send_cancel(now, slot, branch);
        }
        self.arm_context(slot);
    }

    pub(super) fn send_cancel(&mut self, now: Instant, slot: Slot, branch: u16) {
        let Some(context) = self.contexts.get(slot) else { return };
        let Some(record) = context.branches.get(usize::from(branch)) else { return };
        let client_slot = record.client;
        let Some(client) = self.clients.get_mut(client_slot).filter(|client| client.cancel.is_none()) else {
            return;
        };
        let Some(invite) = client.request.clone().and_then(parse_own) else { return };
        let request = write_for_invite(&invite, "CANCEL", None);
        let (machine, actions) =
            ClientNonInvite::start(now, &client.timers, client.hop.transport.is_reliable());
        client.cancel = Some(Box::new(CancelTransaction { machine, request }));
        self.perform_cancel(client_slot, &actions);
        self.arm_client(client_slot);
    }

    /// The CANCEL was answered: nothing follows from what it says (§9.1).
    pub(super) fn cancel_answered(&mut self, now: Instant, slot: Slot, status: u16) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let Some(cancel) = client.cancel.as_mut() else { return };
        let actions = cancel.machine.handle_response(now, &client.timers, status);
        self.perform_cancel(slot, &actions);
        self.arm_client(slot);
    }

    pub(super) fn perform_cancel(&mut self, slot: Slot, actions: &Actions<ClientAction>) {
        for action in actions {
            let Some(client) = self.clients.get_mut(slot) else { return };
            let Some(cancel) = &client.cancel else { return };
            match action {
                ClientAction::Transmit => {
                    let branch = Branch {
                        router: self.router,
                        slot: slot.index,
                        generation: slot.generation,
                        loop_hash: client.loop_hash,
                    };
                    let (hop, bytes) = (client.hop, cancel.request.clone());
                    let beyond = client.beyond.clone();
                    self.transmit_beyond(hop, beyond, bytes, Some(branch));
                }
                ClientAction::Terminated => client.cancel = None,
                ClientAction::PassUp
                | ClientAction::Acknowledge
                | ClientAction::TimedOut
                | ClientAction::TransportFailed
                | ClientAction::ForgetRequest => {}
            }
        }
    }

    /// Timer C has fired for a branch: it is cancelled if it has said anything, else it counts as timed out (§16.8).
    /// One that was cancelled before and still has not ended counts as ended (§9.1). Of other methods than INVITE the
    /// time of a silent way to a user agent is over, for there are others.
    pub(super) fn branch_deadlines(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let mut to_cancel = Vec::new();
        let mut failed = Vec::new();
        let end_of_waiting = now + context.timers.f();
        for (at, branch) in (0u16..).zip(context.branches.iter_mut()) {
            if !branch.is_pending() || branch.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            if branch.state == BranchState::Proceeding && !branch.is_cancelled {
                branch.is_cancelled = true;
                branch.deadline = Some(end_of_waiting);
                to_cancel.push(at);
            } else {
                branch.deadline = None;
                failed.push(at);
            }
        }
        for branch in to_cancel {
            self.send_cancel(now, slot, branch);
        }
        for branch in failed {
            self.end_branch(now, slot, branch, 408);
        }
    }

    /// The connection of a transaction has ended. An INVITE that rings waits on: its server may come back and answer
    /// over another connection (§18.2.2). A server that has not said that it has the user would keep everybody else's
    /// word waiting, and a user agent that has not rung may have other flows.
    pub(super) fn give_up(&mut self, now: Instant, client: Slot) {
        let Some((context, branch)) = self.clients.get(client).and_then(|client| client.owner) else {
            return;
        };
        let Some(state) = self.contexts.get(context) else { return };
        let record = &state.branches[usize::from(branch)];
        let is_others_turn =
            record.target.kind == TargetKind::Search || !record.target.alternatives.is_empty();
        if is_others_turn && record.is_pending() && !record.has_rung {
            self.end_branch(now, context, branch, 503);
        }
    }

    /// Ends a branch whose request nobody will answer any more, with its transaction.
    pub(super) fn end_branch(&mut self, now: Instant, slot: Slot, branch: u16, status: u16) {
        let Some(context) = self.contexts.get(slot) else { return };
        let client = context.branches[usize::from(branch)].client;
        if let Some(client) = self.clients.get_mut(client) {
            client.owner = None;
        }
        self.waiting.leave(&mut self.clients, client);
        self.clients.discard(client);
        self.branch_failed(now, slot, branch, status);
    }
}
