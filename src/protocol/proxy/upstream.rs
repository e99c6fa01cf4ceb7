//! Answering: responses as they come in (RFC 3261 §16.7), and what goes back to who asked.

use std::time::Instant;

use bytes::Bytes;

use crate::protocol::flow::Flow;
use crate::protocol::interface::Side;
use crate::protocol::message::edit::Edit;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::{Message, Method, Name};
use crate::protocol::next_hop::health::Outcome;
use crate::protocol::transaction::{Actions, Branch, ServerAction};

use super::answered::Response;
use super::forking::{parse_own, user_of};
use super::forward::remove_identities;
use super::incoming::{Incoming, part_of};
use super::keep_alive;
use super::response_context::BranchState;
use super::slots::Slot;
use super::table::{ClientMachine, ReplyPath};
use super::targets::TargetKind;
use super::{Direction, DropReason, Event, EventDetail, Output, Proxy};

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

    /// Answers with a response of our own.
    pub(super) fn reply(&mut self, now: Instant, slot: Slot, reply: &Reply) {
        let Some(context) = self.contexts.get(slot) else { return };
        let key = context.server.and_then(|server| self.servers.get(server)).map(|server| server.key);
        let Some(key) = key else {
            self.contexts.remove(slot);
            return;
        };
        let silence = self.settings.keep_alive_timeout;
        let reply = keep_alive::promised(reply, &context.request, &context.source, silence);
        let is_granted = (200..300).contains(&reply.status);
        let keep_alive = self.keep_alive(context.method, is_granted, &context.source);
        let (source, tag) = (context.source.remote, self.to_tag(key));
        let bytes = reply.write_keeping_alive(&context.request, source, &tag, keep_alive);
        self.respond(now, slot, reply.status, bytes, Some(&reply));
    }

    /// Of a registration, keep-alives keep the flow (RFC 6223 §4.4).
    fn keep_alive(&self, method: Method, is_granted: bool, source: &Flow) -> Option<u64> {
        (is_granted && method == Method::Register).then(|| self.settings.keep_alive_of(source))
    }

    /// Hands a response to the server transaction; `reply` is what has become it, if it is one of our own.
    fn respond(&mut self, now: Instant, slot: Slot, status: u16, bytes: Bytes, reply: Option<&Reply>) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let is_first_final = status >= 200 && !context.has_answered;
        if is_first_final {
            context.has_answered = true;
            context.patience = None;
            context.waiting.clear();
            if !context.is_probe {
                self.counts.answered(Direction::In, context.method, status);
                self.counts.response_time(context.method, now.saturating_duration_since(context.begun));
            }
            if self.detail >= EventDetail::Transactions && !context.is_probe {
                let request = &context.request;
                self.outputs.push_back(Output::Event(Event::Answered {
                    method: part_of(request, request.method_token()),
                    call_id: part_of(request, request.call_id()),
                    from: request.from().map_or_else(Bytes::new, |from| part_of(request, from.uri)),
                    to: request.to().map_or_else(Bytes::new, |to| part_of(request, to.uri)),
                    flow: context.source,
                    is_known: context.account.is_some() || context.peer.is_some() || context.is_trusted,
                    status,
                    branches: context.branches.len(),
                }));
            }
        }
        let server_slot = context.server;
        if let Some(peer) = context.peer.take_if(|_| is_first_final) {
            self.guard_answer(now, &peer, status);
        }
        let Some(server) = server_slot.and_then(|server| self.servers.get_mut(server)) else {
            return self.release_context(slot);
        };
        let actions = server.machine.handle_response(now, &server.timers, status);
        if let Some(server_slot) = server_slot {
            self.send_response(now, server_slot, bytes, reply, actions);
        }
        if is_first_final {
            self.release_context(slot);
        }
    }

    fn send_response(
        &mut self,
        now: Instant,
        slot: Slot,
        bytes: Bytes,
        reply: Option<&Reply>,
        actions: Actions<ServerAction>,
    ) {
        let Some(server) = self.servers.get_mut(slot) else { return };
        let ReplyPath { flow, alternate } = server.reply_path.clone();
        // What becomes of the response is the first thing that the machine says.
        match actions.first() {
            Some(ServerAction::Transmit) => {
                match server.machine.repeats_until() {
                    Some(end) => self.keep_answer(now, slot, end, &bytes, reply),
                    None => server.last_response = Some(bytes.clone()),
                }
                self.transmit(flow, alternate, bytes, None);
            }
            Some(ServerAction::TransmitOnce) => {
                server.last_response = None;
                self.transmit(flow, alternate, bytes, None);
            }
            Some(ServerAction::Refused(_)) => self.dropped(&flow, DropReason::ResponseRefused),
            _ => {}
        }
        self.perform_server(now, slot, actions);
    }

    /// All that is left of a transaction is to repeat its response: of one of our own, what it does not have from its
    /// request is kept.
    fn keep_answer(&mut self, now: Instant, slot: Slot, end: Instant, bytes: &Bytes, reply: Option<&Reply>) {
        let Some(server) = self.servers.remove(slot) else { return };
        self.by_key.remove(&server.key);
        let host = server.reply_path.flow.remote.ip();
        let response = match reply {
            None => Response::Whole(bytes),
            Some(reply) => {
                self.scratch.clear();
                reply.write_outline(&mut self.scratch);
                Response::Outline(&self.scratch)
            }
        };
        self.answered.insert(now, server.key, host, end, response);
    }

    /// Answers a request that has been answered before with the same response. Whether it is one.
    pub(super) fn repeat_answer(&mut self, now: Instant, incoming: &Incoming) -> bool {
        let Incoming { request, flow, key, reply_path, .. } = incoming;
        let Some(found) = self.answered.get(now, key, flow.remote.ip()) else { return false };
        let bytes = match found {
            // Branches can be overheard: the answer is for whoever has asked.
            None => return true,
            Some(Response::Whole(octets)) => Bytes::copy_from_slice(octets),
            Some(Response::Outline(outline)) => {
                let is_granted = outline.starts_with(b"SIP/2.0 2");
                let keep_alive = self.keep_alive(incoming.method, is_granted, flow);
                Reply::complete(outline, request, flow.remote, &self.to_tag(*key), keep_alive)
            }
        };
        self.transmit(reply_path.flow, reply_path.alternate.clone(), bytes, None);
        true
    }

    /// Does what a server machine wants, but for sending what it was just given.
    pub(super) fn perform_server(&mut self, now: Instant, slot: Slot, actions: Actions<ServerAction>) {
        for action in actions {
            let Some(server) = self.servers.get_mut(slot) else { return };
            let path = server.reply_path.clone();
            match action {
                ServerAction::Retransmit => {
                    if let Some(bytes) = server.last_response.clone() {
                        self.transmit(path.flow, path.alternate.clone(), bytes, None);
                    }
                }
                ServerAction::Trying => self.send_trying(slot),
                ServerAction::ForgetResponse => server.last_response = None,
                ServerAction::TimedOut => {
                    if let Some(context) = server.context.take() {
                        self.abandon(now, context);
                    }
                }
                ServerAction::Terminated => self.server_ended(now, slot),
                ServerAction::Transmit
                | ServerAction::TransmitOnce
                | ServerAction::PassUp
                | ServerAction::Refused(_)
                | ServerAction::TransportFailed => {}
            }
        }
        self.arm_server(slot);
    }

    fn send_trying(&mut self, slot: Slot) {
        let Some(server) = self.servers.get_mut(slot) else { return };
        let Some(context) = server.context.and_then(|context| self.contexts.get(context)) else { return };
        let bytes = Reply::new(100).write(&context.request, context.source.remote, b"");
        server.last_response = Some(bytes.clone());
        let path = server.reply_path.clone();
        self.transmit(path.flow, path.alternate.clone(), bytes, None);
    }

    pub(super) fn server_timeout(&mut self, now: Instant, slot: Slot) {
        let Some(server) = self.servers.get_mut(slot) else { return };
        let actions = server.machine.handle_timeout(now, &server.timers);
        self.perform_server(now, slot, actions);
    }

    fn server_ended(&mut self, now: Instant, slot: Slot) {
        let Some(server) = self.servers.remove(slot) else { return };
        self.by_key.remove(&server.key);
        if let Some(context) = server.context {
            self.abandon(now, context);
        }
    }

    /// Who asked has stopped waiting: what is still open is ended.
    fn abandon(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        if !context.has_answered {
            let silent = context.branches.iter().filter(|branch| branch.is_failed_flow());
            self.outputs.extend(silent.map(|branch| Output::FlowFailed(branch.target.hop)));
        }
        context.has_answered = true;
        context.server = None;
        context.patience = None;
        context.waiting.clear();
        self.cancel_pending(now, slot);
        self.release_context(slot);
    }

    /// Removes a context that has answered and has no more use for responses: of INVITE, further 2xx are passed on
    /// as long as a branch may bring them (RFC 6026 §8.4).
    pub(super) fn release_context(&mut self, slot: Slot) {
        let Some(context) = self.contexts.get(slot) else { return };
        if !context.has_answered {
            return;
        }
        let clients = &self.clients;
        let is_used = context.is_invite()
            && context.branches.iter().any(|branch| {
                let may_bring_more = !matches!(branch.state, BranchState::Ended(300..));
                may_bring_more && clients.get(branch.client).is_some()
            });
        if is_used {
            return self.arm_context(slot);
        }
        let Some(context) = self.contexts.remove(slot) else { return };
        for branch in &context.branches {
            if let Some(client) = self.clients.get_mut(branch.client) {
                client.owner = None;
            }
        }
        if let Some(server) = context.server.and_then(|server| self.servers.get_mut(server)) {
            server.context = None;
        }
    }
}
