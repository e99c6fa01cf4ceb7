//! Responses as they come in (RFC 3261 §16.7): which of them goes upstream, and which waits for a better one.

use std::time::Instant;

use crate::protocol::flow::Flow;
use crate::protocol::interface::Side;
use crate::protocol::message::edit::Edit;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::{Message, Name};
use crate::protocol::next_hop::health::Outcome;
use crate::protocol::transaction::Branch;

use super::forking::{parse_own, user_of};
use super::forward::remove_identities;
use super::response_context::BranchState;
use super::slots::Slot;
use super::table::ClientMachine;
use super::targets::TargetKind;
use super::{Direction, DropReason, Output, Proxy};

impl Proxy {
    /// Finds the client transaction of a response (§17.1.3, §18.1.2).
    pub(super) fn handle_response(&mut self, now: Instant, flow: &Flow, response: &Message) {
        let Some(status) = response.status().filter(|_| response.fault().is_none()) else {
            return self.dropped(flow, DropReason::MalformedResponse);
        };
        let Some(via) = response.top_via() else {
            return self.dropped(flow, DropReason::MalformedResponse);
        };
        let branch = via.branch.and_then(Branch::parse).filter(|branch| branch.router == self.router);
        let Some(branch) = branch.filter(|_| self.interfaces.is_ours(&via.host, via.port)) else {
            return self.dropped(flow, DropReason::ForeignResponse);
        };
        let Some(cseq) = response.cseq() else {
            return self.dropped(flow, DropReason::MalformedResponse);
        };
        let slot = Slot { index: branch.slot, generation: branch.generation };
        // The whole branch must be ours: slots can be guessed, the hash cannot.
        let client = self.clients.get_mut(slot).filter(|client| client.loop_hash == branch.loop_hash);
        let Some(client) = client else {
            return self.dropped(flow, DropReason::StrayResponse);
        };
        if cseq.method == b"CANCEL" {
            return self.cancel_answered(now, slot, status);
        }
        let is_invite = matches!(client.machine, ClientMachine::Invite(_));
        // With no Via but ours it answers a request of our own (§16.7 step 3): a probe, for CANCEL has been dealt with.
        let is_probe =
            client.owner.and_then(|(owner, _)| self.contexts.get(owner)).is_some_and(|it| it.is_probe);
        let is_for_us = response.values(Name::Via).nth(1).is_none();
        if is_invite != (cseq.method == b"INVITE") || is_for_us != is_probe {
            return self.dropped(flow, DropReason::MalformedResponse);
        }
        let actions = client.machine.handle_response(now, &client.timers, status);
        if status >= 200 {
            self.waiting.leave(&mut self.clients, slot);
        }
        self.perform_client(now, slot, actions, Some(response));
        if status >= 200 && !is_invite {
            // What Timer K waits for, repetitions of the final response, is swallowed without a transaction, too.
            return self.client_ended(slot);
        }
        self.arm_client(slot);
    }

    /// A response has reached the context (§16.7 steps 3 to 10).
    pub(super) fn branch_answered(&mut self, now: Instant, slot: Slot, branch: u16, response: &Message) {
        let Some(status) = response.status() else { return };
        let censored = self.censored(slot, branch, response);
        let response = censored.as_ref().unwrap_or(response);
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let is_invite = context.is_invite();
        let Some(record) = context.branches.get_mut(usize::from(branch)) else { return };
        let (hop, kind) = (record.target.hop, record.target.kind);
        if status < 200 {
            if record.is_pending() {
                let is_first = record.state == BranchState::Silent;
                record.state = BranchState::Proceeding;
                record.has_rung |= status > 100;
                let wants_cancel = record.is_cancelled;
                // A 100 says only that the next hop is there (§16.8: Timer C is reset by 101 to 199).
                let is_there = status > 100 || (is_first && kind == TargetKind::Beyond);
                if is_there && is_invite && !wants_cancel {
                    record.deadline = Some(now + context.timer_c);
                } else if !is_invite {
                    record.deadline = None;
                }
                let is_wanted = status > 100 && is_invite && !context.has_answered;
                if wants_cancel && is_first {
                    self.send_cancel(now, slot, branch);
                }
                if is_wanted {
                    self.pass_upstream(now, slot, status, response);
                }
            }
            return;
        }
        let is_first_final = record.is_pending();
        if is_first_final {
            self.counts.answered(Direction::Out, context.method, status);
            let outcome = if status == 503 { Outcome::Failed } else { Outcome::Answered };
            self.note_health(now, kind, hop, outcome);
        }
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let Some(record) = context.branches.get_mut(usize::from(branch)) else { return };
        record.state = BranchState::Ended(status);
        if (200..300).contains(&status) {
            self.branch_succeeded(now, slot, branch, status, response);
        } else if is_first_final {
            let (successor, breadth) = (record.successor(status, true), record.breadth);
            if let Some(target) = successor.filter(|_| context.is_open()) {
                return self.start_branch(now, slot, target, breadth);
            }
            // Which flows there are is for us to know, not for clients (RFC 5626 §11.5).
            let is_of_flow = status == 430 && matches!(kind, TargetKind::Binding | TargetKind::Flow);
            self.branch_refused(now, slot, status, (!is_of_flow).then_some(response));
        }
    }

    /// A response without what the client may not see, or not believe (RFC 3325 §5, §7); `None` where there is nothing
    /// of that in it.
    fn censored(&mut self, slot: Slot, branch: u16, response: &Message) -> Option<Message> {
        let context = self.contexts.get(slot)?;
        let target = &context.branches.get(usize::from(branch))?.target;
        let is_outside = |flow: &Flow| self.interfaces.side(flow.interface) == Side::Wan;
        let crosses = is_outside(&target.hop) || is_outside(&context.source);
        let (is_trusted, trusts) = (target.is_trusted, context.is_trusted);
        let marks = [Name::PAssertedIdentity, Name::PPreferredIdentity, Name::MsEdgeProxyMessageTrust];
        let is_among_us = is_trusted && trusts && !crosses;
        if is_among_us || marks.into_iter().all(|name| response.row(name).is_none()) {
            return None;
        }
        let mut edit = Edit::new(response, &mut self.scratch);
        remove_identities(&mut edit, response, is_trusted, trusts, crosses);
        parse_own(edit.write())
    }

    /// A final response other than 2xx is kept until all branches have ended (§16.7 steps 4 to 6).
    /// `None` where the response is not for the client.
    fn branch_refused(&mut self, now: Instant, slot: Slot, status: u16, response: Option<&Message>) {
        let left = match (status, response) {
            (300..=399, Some(response)) => self.follow_redirection(slot, response).map(Some),
            _ => Some(response.cloned()),
        };
        let Some(context) = self.contexts.get_mut(slot) else { return };
        if let Some(response) = left {
            context.note_final(status, response);
        }
        if status >= 600 {
            context.is_declined = true;
            context.waiting.clear();
            self.cancel_pending(now, slot);
        }
        self.after_final(now, slot);
    }

    /// A 2xx: to INVITE each of them goes upstream at once, to others the first (§16.7 step 5).
    fn branch_succeeded(&mut self, now: Instant, slot: Slot, branch: u16, status: u16, response: &Message) {
        let Some(context) = self.contexts.get(slot) else { return };
        let is_invite = context.is_invite();
        if !is_invite && context.has_answered {
            return;
        }
        let target = &context.branches[usize::from(branch)].target;
        if target.kind == TargetKind::Search
            && !context.has_answered
            && let Some(user) =
                user_of(target.request_uri.as_deref().unwrap_or(context.request.request_uri()))
        {
            self.outputs.push_back(Output::Learned { user, flow: target.hop });
        }
        self.pass_upstream(now, slot, status, response);
        self.cancel_pending(now, slot);
        self.release_context(slot);
    }

    /// Sends a response of downstream's on: without our Via, else as it came (§16.7 steps 3, 9).
    fn pass_upstream(&mut self, now: Instant, slot: Slot, status: u16, response: &Message) {
        let Some(context) = self.contexts.get(slot) else { return };
        let mut edit = Edit::new(response, &mut self.scratch);
        edit.remove_first_values(Name::Via, 1);
        context.promise_keep_alive(&mut edit, response, self.settings.keep_alive_timeout);
        if context.source.transport.is_reliable() {
            edit.measure_body();
        }
        let bytes = edit.write();
        self.respond(now, slot, status, bytes, None);
    }

    /// All branches have ended and nobody is left: the best response goes upstream (§16.7 step 6).
    pub(super) fn conclude(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get(slot) else { return };
        if context.has_answered {
            return self.release_context(slot);
        }
        let Some(best) = &context.best else {
            let reply = if context.is_cancelled { Reply::new(487) } else { Reply::new(480) };
            return self.reply(now, slot, &reply);
        };
        match (&best.response, best.status) {
            // What one server cannot do says nothing about us (§16.7 step 6).
            (Some(_), 503) => self.reply(now, slot, &Reply::new(500)),
            (Some(response), status) => {
                let bytes = context.write_best(response, self.settings.keep_alive_timeout, &mut self.scratch);
                self.respond(now, slot, status, bytes, None);
            }
            (None, _) if context.is_cancelled => self.reply(now, slot, &Reply::new(487)),
            // Some of a search do not have the user, and of the silent ones it is not known.
            (None, 408) if context.is_search() && context.has_word => {
                self.reply(now, slot, &Reply::with_reason(480, "Not All UC Servers Have Answered"));
            }
            (None, 430) => self.reply(now, slot, &Reply::with_reason(480, "Flow Failed")),
            (None, 503 | 408) if context.is_outward() => {
                self.reply(now, slot, &Reply::with_reason(504, "No Server Of The Domain Reachable"));
            }
            (None, status @ (408 | 440)) => self.reply(now, slot, &Reply::new(status)),
            (None, 503) => self.reply(now, slot, &Reply::with_reason(480, "No UC Server Reachable")),
            (None, _) => self.reply(now, slot, &Reply::with_reason(480, "Not All UC Servers Have Answered")),
        }
    }
}
