//! Asking: branches, one group of targets after the other (RFC 3261 §16.6), and what becomes of each.

use std::time::Instant;

use crate::protocol::account::AccountId;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::location::{AddressOfRecord, Answer, Verdict};
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::Uri;
use crate::protocol::message::{Carriage, Message, MessageLimits, Name};
use crate::protocol::record_route::{Hop, Token};
use crate::protocol::transaction::{Actions, Branch, ClientAction};

use super::forward::{Forwarding, write_for_invite};
use super::response_context::{BranchRecord, BranchState, Pending};
use super::table::{ClientMachine, ClientTransaction, Slot};
use super::targets::{Group, Target, TargetKind, TargetSet, target_set};
use super::{FlowKey, Output, Proxy};

/// The limits of messages that we have written ourselves.
const OWN_LIMITS: MessageLimits = MessageLimits { message_bytes: usize::MAX, header_bytes: usize::MAX };

impl Proxy {
    /// The Registrar has answered the question of a context; nothing if that has ended.
    pub(super) fn resume(&mut self, now: Instant, answer: Answer) {
        let slot = Slot { index: answer.context.slot, generation: answer.context.generation };
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let method = context.method;
        context.patience = None;
        match (answer.verdict, &context.pending) {
            (Verdict::Replayed, _) => {
                let reply = self.challenge(now, method, true);
                self.reply(now, slot, &reply);
            }
            (Verdict::Registered(reply), Pending::Registration) => self.reply(now, slot, &reply),
            (Verdict::Located(located), Pending::Location) => {
                context.waiting = target_set(located, method, &self.interfaces);
                context.pending = Pending::Nothing;
                if context.waiting.is_empty() {
                    return self.reply(now, slot, &Reply::with_reason(480, "No UC Server To Ask"));
                }
                self.go_on(now, slot);
            }
            (Verdict::Admitted, Pending::Spending(_)) => self.go_on(now, slot),
            _ => self.reply(now, slot, &Reply::new(500)),
        }
    }

    /// Asks the next group, if nobody is being asked; answers, if nobody is left.
    pub(super) fn go_on(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        if let Pending::Spending(target) = std::mem::replace(&mut context.pending, Pending::Nothing) {
            context.waiting = TargetSet::from([Group::from_iter([target])]);
        }
        if context.server.is_none() && !context.has_answered {
            return self.forward_and_forget(slot);
        }
        let next = if context.is_open() { context.waiting.pop_front() } else { None };
        match next {
            Some(group) => {
                for target in group {
                    self.start_branch(now, slot, target, true);
                }
                self.set_patience(now, slot);
            }
            None if !context.has_pending_branch() => self.conclude(now, slot),
            None => self.arm_context(slot),
        }
    }

    /// How long the branches just begun may be silent before somebody else is asked as well.
    fn set_patience(&mut self, now: Instant, slot: Slot) {
        let timers = self.settings.timers;
        let Some(context) = self.contexts.get_mut(slot) else { return };
        if context.is_search() {
            let left = context.waiting.len();
            context.patience = Some(if left == 0 {
                now + timers.f() / 2
            } else {
                // All must have had their turn, and the last of them its time, before the client gives up (Timer F).
                let turns = u32::try_from(context.branches.len() + left).unwrap_or(u32::MAX);
                now + (timers.t1() * 4).min(timers.f() * 3 / 8 / turns)
            });
            context.is_impatient = false;
        }
        self.arm_context(slot);
    }

    /// Sends the request to `target`, by a stream if it is large and `may_change_transport`.
    fn start_branch(&mut self, now: Instant, slot: Slot, target: Target, may_change_transport: bool) {
        let timers = self.settings.timers;
        let index = self.clients.next_index();
        let generation = self.random.next() as u32;
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let branch = Branch { router: self.router, slot: index, generation, loop_hash: context.loop_hash };
        let forwarding = Forwarding {
            request: &context.request,
            source: &context.source,
            account: context.account,
            own_routes: context.own_routes,
            max_forwards: context.max_forwards,
            is_recorded: context.is_recorded,
            realm: &self.settings.realm,
            interfaces: &self.interfaces,
            token_key: &self.token_key,
        };
        let mut hop = target.hop;
        let mut bytes = forwarding.write(&target, &hop, branch, &mut self.scratch);
        let is_changed =
            may_change_transport && hop.transport == Transport::Udp && bytes.len() > self.settings.udp_mtu;
        if is_changed {
            hop.transport = Transport::Tcp;
            bytes = forwarding.write(&target, &hop, branch, &mut self.scratch);
        }
        let is_invite = context.is_invite();
        let (machine, actions) = ClientMachine::start(is_invite, now, &timers, hop.transport.is_reliable());
        let at = u16::try_from(context.branches.len()).expect("targets are far fewer than 65,536");
        context.branches.push(BranchRecord {
            client: Slot { index, generation },
            target,
            state: BranchState::Silent,
            has_rung: false,
            is_cancelled: false,
            deadline: is_invite.then(|| now + self.settings.timer_c),
            may_fall_back: is_changed,
        });
        let client = self.clients.insert(ClientTransaction::new(
            generation,
            machine,
            hop,
            bytes,
            (slot, at),
            branch.loop_hash,
        ));
        self.waiting.join(&mut self.clients, client);
        self.perform_client(now, client, actions, None);
        self.arm_client(client);
        self.arm_context(slot);
    }

    /// Where a token of ours leads now: its flow while that is open; if its connection has ended, the one that the same
    /// UC server has opened since. Servers may share an account, so that is only known where the account has one
    /// connection from the same address.
    pub(super) fn token_target(&self, token: &Token, source: &Flow) -> Option<Target> {
        let hop = token.next_hop(source)?;
        let account = match token {
            Token::Toward { account, .. } => *account,
            Token::Between { .. } => None,
        };
        let mut flow = self.flow_of(&hop)?;
        if hop.connection.is_some() && !self.standing.contains_key(&FlowKey::from(&flow)) {
            let is_same = |(other, flow): &&(AccountId, Flow)| {
                Some(*other) == account
                    && flow.connection.is_some()
                    && flow.remote.ip() == hop.remote.ip()
                    && flow != source
            };
            let mut others = self.standing.values().filter(is_same);
            if let (Some((_, only)), None) = (others.next(), others.next()) {
                flow = *only;
            }
        }
        Some(Target { account, ..Target::direct(flow) })
    }

    fn flow_of(&self, hop: &Hop) -> Option<Flow> {
        let flow = self.interfaces.flow_from(hop.interface, hop.transport, hop.remote)?;
        Some(Flow { connection: hop.connection, ..flow })
    }

    /// Does what a client machine wants. `response` is what it was fed with.
    pub(super) fn perform_client(
        &mut self,
        now: Instant,
        slot: Slot,
        actions: Actions<ClientAction>,
        response: Option<&Message>,
    ) {
        for action in actions {
            let Some(client) = self.clients.get_mut(slot) else { return };
            let owner = client.owner;
            match action {
                ClientAction::Transmit => {
                    let branch = Branch {
                        router: self.router,
                        slot: slot.index,
                        generation: slot.generation,
                        loop_hash: client.loop_hash,
                    };
                    if let Some(bytes) = client.request.clone() {
                        let hop = client.hop;
                        self.transmit(hop, None, bytes, Some(branch));
                    }
                }
                ClientAction::PassUp => {
                    if let (Some((context, branch)), Some(response)) = (owner, response) {
                        self.branch_answered(now, context, branch, response);
                    }
                }
                ClientAction::Acknowledge => self.acknowledge(slot, response),
                ClientAction::TimedOut => {
                    if let Some((context, branch)) = owner {
                        self.branch_failed(now, context, branch, 408);
                    }
                }
                ClientAction::TransportFailed => {
                    if let Some((context, branch)) = owner {
                        self.note_unreachable(context, branch);
                        self.branch_failed(now, context, branch, 503);
                    }
                }
                ClientAction::ForgetRequest => client.request = None,
                ClientAction::Terminated => self.client_ended(slot),
            }
        }
    }

    /// A flow that was to be dialled has led nowhere: there is no use in keeping it.
    fn note_unreachable(&mut self, context: Slot, branch: u16) {
        let Some(context) = self.contexts.get(context) else { return };
        if let Some(record) =
            context.branches.get(usize::from(branch)).filter(|record| record.is_dialled_flow())
        {
            self.outputs.push_back(Output::FlowFailed(record.target.hop));
        }
    }

    fn client_ended(&mut self, slot: Slot) {
        self.waiting.leave(&mut self.clients, slot);
        let Some(client) = self.clients.get_mut(slot) else { return };
        let owner = client.owner.take();
        // With it goes the CANCEL that it may have: there is nothing left to cancel.
        self.clients.remove(slot);
        if let Some((context, _)) = owner {
            self.release_context(context);
        }
    }

    /// The ACK to a refusal goes where the INVITE went (§17.1.1.3).
    fn acknowledge(&mut self, slot: Slot, response: Option<&Message>) {
        let Some(client) = self.clients.get(slot) else { return };
        let invite = client.request.clone().and_then(parse_own);
        let (Some(invite), Some(response)) = (invite, response) else { return };
        let hop = client.hop;
        let bytes = write_for_invite(&invite, "ACK", response.row(Name::To));
        self.transmit(hop, None, bytes, None);
    }

    pub(super) fn client_timeout(&mut self, now: Instant, slot: Slot) {
        let timers = self.settings.timers;
        let Some(client) = self.clients.get_mut(slot) else { return };
        let cancel = client.cancel.as_mut().map(|cancel| cancel.machine.handle_timeout(now, &timers));
        let actions = client.machine.handle_timeout(now, &timers);
        if let Some(actions) = cancel {
            self.perform_cancel(slot, &actions);
        }
        self.perform_client(now, slot, actions, None);
        self.arm_client(slot);
    }

    pub(super) fn client_transport_failed(&mut self, now: Instant, slot: Slot) {
        let timers = self.settings.timers;
        let Some(client) = self.clients.get_mut(slot) else { return };
        let actions = client.machine.handle_transport_failure(now, &timers);
        self.perform_client(now, slot, actions, None);
        self.arm_client(slot);
    }

    /// A branch has ended without a response: nobody answered (408) or it could not be reached (503; §16.9).
    pub(super) fn branch_failed(&mut self, now: Instant, slot: Slot, branch: u16, status: u16) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let Some(record) = context.branches.get_mut(usize::from(branch)) else { return };
        if !record.is_pending() {
            return;
        }
        let is_failed_flow = record.is_failed_flow();
        record.state = BranchState::Ended(status);
        let target = record.target.clone();
        if record.may_fall_back && status == 503 && context.is_open() {
            return self.start_branch(now, slot, target, false);
        }
        if is_failed_flow {
            self.outputs.push_back(Output::FlowFailed(target.hop));
        }
        // Of a server that cannot be reached it is not known whether it has the user.
        let is_unknown = target.kind == TargetKind::Search && status == 503;
        context.note_final(if is_unknown { 480 } else { status }, None);
        self.after_final(now, slot);
    }

    /// Somebody has to be asked, told, or waited for.
    pub(super) fn after_final(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get(slot) else { return };
        if !context.has_pending_branch() {
            self.go_on(now, slot);
        } else if context.is_impatient {
            self.patience_ended(now, slot);
        } else {
            self.arm_context(slot);
        }
    }

    /// Patience has ended, or Timer C has fired.
    pub(super) fn context_timeout(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let is_impatient = context.patience.is_some_and(|at| at <= now);
        if is_impatient {
            context.patience = None;
            if !matches!(context.pending, Pending::Nothing) {
                return self.reply(now, slot, &Reply::with_reason(500, "Registrar Did Not Answer"));
            }
            self.patience_ended(now, slot);
        }
        self.branch_deadlines(now, slot);
        self.arm_context(slot);
    }

    fn patience_ended(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        // With the final response of one that is at work, patience with the others is over, too.
        context.is_impatient = true;
        if context.has_answered || !context.all_pending_are_silent() {
            return;
        }
        if !context.waiting.is_empty() {
            return self.go_on(now, slot);
        }
        // Of a search, the silent ones will not know either. With nobody's word at all there is nothing to say.
        if context.best.is_some() && !context.is_invite() {
            let silent: Vec<u16> =
                (0..).zip(&context.branches).filter(|(_, b)| b.is_pending()).map(|(at, _)| at).collect();
            for branch in silent {
                self.branch_failed(now, slot, branch, 480);
            }
        }
    }

    /// The user that a search looks for.
    pub(super) fn searched_user(request: &Message) -> Option<AddressOfRecord> {
        Uri::parse(request.request_uri()).ok().map(|uri| AddressOfRecord::from_uri(&uri))
    }
}

/// Reads a message that we have written.
pub(super) fn parse_own(bytes: bytes::Bytes) -> Option<Message> {
    Message::parse(bytes, Carriage::Datagram, OWN_LIMITS).ok()
}
