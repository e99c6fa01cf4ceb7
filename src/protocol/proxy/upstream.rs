//! What goes back to who asked: the response context answers its server transaction, which repeats what it has sent.

use std::time::Instant;

use bytes::Bytes;

use crate::protocol::flow::Flow;
use crate::protocol::message::Method;
use crate::protocol::message::reply::Reply;
use crate::protocol::transaction::{Actions, ServerAction};

use super::answered::Response;
use super::incoming::{Incoming, part_of};
use super::keep_alive;
use super::response_context::BranchState;
use super::slots::Slot;
use super::table::ReplyPath;
use super::{Direction, DropReason, Event, EventDetail, Output, Proxy};

impl Proxy {
    /// Answers with a response of our own.
    pub(super) fn reply(&mut self, now: Instant, slot: Slot, reply: &Reply) {
        let Some(context) = self.contexts.get(slot) else { return };
        let key = context.server.and_then(|server| self.servers.get(server)).map(|server| server.key);
        let Some(key) = key else {
            self.contexts.discard(slot);
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
    pub(super) fn respond(
        &mut self,
        now: Instant,
        slot: Slot,
        status: u16,
        bytes: Bytes,
        reply: Option<&Reply>,
    ) {
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
        let Some(server) = self.servers.get(slot) else { return };
        let (key, host) = (server.key, server.reply_path.flow.remote.ip());
        self.by_key.remove(&key);
        self.servers.discard(slot);
        let response = match reply {
            None => Response::Whole(bytes),
            Some(reply) => {
                self.scratch.clear();
                reply.write_outline(&mut self.scratch);
                Response::Outline(&self.scratch)
            }
        };
        self.answered.insert(now, key, host, end, response);
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
        let Some(server) = self.servers.get(slot) else { return };
        let context = server.context;
        self.by_key.remove(&server.key);
        self.servers.discard(slot);
        if let Some(context) = context {
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
        for branch in &context.branches {
            if let Some(client) = self.clients.get_mut(branch.client) {
                client.owner = None;
            }
        }
        if let Some(server) = context.server.and_then(|server| self.servers.get_mut(server)) {
            server.context = None;
        }
        self.contexts.discard(slot);
    }
}
