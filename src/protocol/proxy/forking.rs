//! Asking: branches, one group of targets after the other (RFC 3261 §16.6), and what becomes of each.

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::flow::Transport;
use crate::protocol::location::AddressOfRecord;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::Uri;
use crate::protocol::message::{Carriage, Message, MessageLimits, Name};
use crate::protocol::next_hop::health::Outcome;
use crate::protocol::transaction::{Actions, Branch, ClientAction};

use super::forward::{Forwarding, write_for_invite};
use super::response_context::{BranchRecord, BranchState, Pending};
use super::slots::Slot;
use super::table::{ClientMachine, ClientTransaction};
use super::targets::{Target, TargetKind};
use super::{Direction, Output, Proxy};

/// The limits of messages that we have written ourselves.
const OWN_LIMITS: MessageLimits = MessageLimits { message_bytes: usize::MAX, header_bytes: usize::MAX };

impl Proxy {
    /// Asks the next group, if nobody is being asked; answers, if nobody is left.
    pub(super) fn go_on(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let pending = std::mem::replace(&mut context.pending, Pending::Nothing);
        if matches!(pending, Pending::Spending(_) | Pending::Departure(_)) {
            return self.await_turn(now, slot, pending);
        }
        if context.server.is_none() && !context.has_answered && !context.is_probe {
            return self.forward_and_forget(slot);
        }
        let next = context.next_targets();
        if !next.is_empty() {
            for (target, breadth) in next {
                self.start_branch(now, slot, target, breadth);
            }
            self.set_patience(now, slot);
        } else if context.has_pending_branch() {
            self.arm_context(slot);
        } else if !self.follow_next(now, slot) {
            self.conclude(now, slot);
        }
    }

    /// How long the branches just begun may be silent before somebody else is asked as well, or before the others' word
    /// goes back without theirs. An INVITE waits for those that it was sent to, unless that is a search.
    fn set_patience(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let timers = context.timers;
        let (is_search, left) = (context.is_search(), context.waiting.len());
        let turns = context.branches.len() + left;
        if is_search || (!context.is_invite() && turns > 1) {
            // All must have had their turn, and the last of them its time, before the client gives up (Timer F).
            let share = timers.f() * 3 / 8 / u32::try_from(turns).unwrap_or(u32::MAX);
            let last_call = *context.last_call.get_or_insert(now + timers.f() * 7 / 8);
            context.patience = Some(match left {
                0 => (now + timers.f() / 2).min(last_call.max(now + timers.t1() * 4)),
                _ if is_search => now + share.min(timers.t1() * 4),
                _ => now + share,
            });
            context.is_impatient = false;
        }
        self.arm_context(slot);
    }

    /// Sends the request to `target`, by a stream if it is large and that is a way there.
    pub(super) fn start_branch(&mut self, now: Instant, slot: Slot, target: Target, breadth: u32) {
        let index = self.clients.next_index();
        let generation = self.random.next() as u32;
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let (timers, timer_c) = (context.timers, context.timer_c);
        let loop_hash = context.passage.loop_hash;
        let branch = Branch { router: self.router, slot: index, generation, loop_hash };
        let forwarding = Forwarding {
            request: &context.request,
            source: &context.source,
            account: context.account,
            own_routes: context.own_routes,
            max_forwards: context.passage.max_forwards,
            is_recorded: context.is_recorded,
            realm: &self.settings.realm,
            nonces: &self.nonces,
            interfaces: &self.interfaces,
            token_key: &self.token_key,
            is_trusted: context.is_trusted,
            keep_alive: self.settings.keep_alive_of(&context.source),
        };
        let leg = (&target, branch, Some(breadth));
        let (hop, bytes) = forwarding.write_by_size(leg, self.settings.udp_mtu, &mut self.scratch);
        let may_fall_back = hop.transport != target.hop.transport;
        let is_invite = context.is_invite();
        let (machine, actions) = ClientMachine::start(is_invite, now, &timers, hop.transport.is_reliable());
        let at = u16::try_from(context.branches.len()).expect("targets are far fewer than 65,536");
        // All ways to one user agent must have had their turn before patience with it ends.
        let share = (!target.alternatives.is_empty()).then(|| timers.f() / 2 / target.ways);
        // An INVITE to another domain that not even a 100 comes for makes room for the domain's next server as well.
        let wait = match is_invite {
            true if target.kind == TargetKind::Beyond => share.or(Some(timer_c)),
            true => Some(timer_c),
            false => share,
        };
        let beyond = target.beyond.clone();
        context.branches.push(BranchRecord {
            client: Slot { index, generation },
            target,
            state: BranchState::Silent,
            has_rung: false,
            is_cancelled: false,
            deadline: wait.map(|wait| now + wait),
            breadth,
            may_fall_back,
        });
        let client = self.clients.insert(ClientTransaction::new(
            generation,
            (machine, timers),
            hop,
            bytes,
            (slot, at),
            branch.loop_hash,
            beyond,
        ));
        self.waiting.join(&mut self.clients, client);
        self.perform_client(now, client, actions, None);
        self.arm_client(client);
        self.arm_context(slot);
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
                        let (hop, beyond) = (client.hop, client.beyond.clone());
                        self.transmit_beyond(hop, beyond, bytes, Some(branch));
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

    pub(super) fn client_ended(&mut self, slot: Slot) {
        self.waiting.leave(&mut self.clients, slot);
        let Some(client) = self.clients.get_mut(slot) else { return };
        let owner = client.owner.take();
        // With it goes the CANCEL that it may have: there is nothing left to cancel.
        self.clients.discard(slot);
        if let Some((context, _)) = owner {
            self.release_context(context);
        }
    }

    /// The ACK to a refusal goes where the INVITE went (§17.1.1.3).
    fn acknowledge(&mut self, slot: Slot, response: Option<&Message>) {
        let Some(client) = self.clients.get(slot) else { return };
        let invite = client.request.clone().and_then(parse_own);
        let (Some(invite), Some(response)) = (invite, response) else { return };
        let (hop, beyond) = (client.hop, client.beyond.clone());
        let bytes = write_for_invite(&invite, "ACK", response.row(Name::To));
        self.transmit_beyond(hop, beyond, bytes, None);
    }

    pub(super) fn client_timeout(&mut self, now: Instant, slot: Slot) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let timers = client.timers;
        let cancel = client.cancel.as_mut().map(|cancel| cancel.machine.handle_timeout(now, &timers));
        let actions = client.machine.handle_timeout(now, &timers);
        if let Some(actions) = cancel {
            self.perform_cancel(slot, &actions);
        }
        self.perform_client(now, slot, actions, None);
        self.arm_client(slot);
    }

    pub(super) fn client_transport_failed(&mut self, now: Instant, slot: Slot) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let actions = client.machine.handle_transport_failure(now, &client.timers);
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
        self.counts.answered(Direction::Out, context.method, status);
        let is_failed_flow = record.is_failed_flow();
        record.state = BranchState::Ended(status);
        let (hop, kind, breadth) = (record.target.hop, record.target.kind, record.breadth);
        let successor = record.successor(status, false);
        let fallback = record.target.fallback.take();
        let is_open = context.is_open();
        self.note_health(now, kind, hop, if status == 503 { Outcome::Refused } else { Outcome::Failed });
        if let Some(target) = successor.filter(|_| is_open) {
            return self.start_branch(now, slot, target, breadth);
        }
        if let Some(departure) = fallback.filter(|_| is_open && status == 503) {
            return self.depart(now, slot, Arc::unwrap_or_clone(departure));
        }
        if is_failed_flow {
            self.outputs.push_back(Output::FlowFailed(hop));
        }
        // Of a server that cannot be reached it is not known whether it has the user.
        let is_unknown = kind == TargetKind::Search && status == 503;
        if let Some(context) = self.contexts.get_mut(slot) {
            context.note_final(if is_unknown { 480 } else { status }, None);
        }
        self.after_final(now, slot);
    }

    /// The network says that a request has not arrived: a flow of datagrams that is bound as such is over
    /// (RFC 5626 §7). The end of a connection tells itself.
    pub(super) fn note_ended_flow(&mut self, client: Slot) {
        let Some(client) = self.clients.get(client) else { return };
        let Some((context, branch)) = client.owner else { return };
        let record = self.contexts.get(context).and_then(|context| context.branches.get(usize::from(branch)));
        if record.is_some_and(|record| record.target.kind == TargetKind::Flow)
            && client.hop.transport == Transport::Udp
        {
            self.outputs.push_back(Output::FlowEnded(client.hop));
        }
    }

    /// Somebody has to be asked, told, or waited for.
    pub(super) fn after_final(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get(slot) else { return };
        if !context.has_pending_branch() || context.is_group_cut {
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
            match std::mem::replace(&mut context.pending, Pending::Nothing) {
                Pending::Nothing => self.patience_ended(now, slot),
                Pending::Refusal(reply) => return self.reply(now, slot, &reply),
                Pending::Redirection(_) => return self.go_on(now, slot),
                Pending::Turn(pending) => return self.set_out(now, slot, *pending),
                Pending::Resolution(_) | Pending::Identity(_) => {
                    return self.reply(now, slot, &Reply::with_reason(504, "Name Servers Did Not Answer"));
                }
                Pending::Location(_)
                | Pending::Spending(_)
                | Pending::Departure(_)
                | Pending::Registration => {
                    return self.reply(now, slot, &Reply::with_reason(500, "Registrar Did Not Answer"));
                }
            }
        }
        self.branch_deadlines(now, slot);
        self.arm_context(slot);
    }

    fn patience_ended(&mut self, now: Instant, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        // With the final response of one that is at work, patience with the others is over, too.
        context.is_impatient = true;
        if context.has_answered {
            return;
        }
        let is_last_call = !context.is_invite() && context.last_call.is_some_and(|at| at <= now);
        let has_room = context.free_breadth() > 0;
        let is_worth_waiting = !context.all_pending_are_silent()
            || !(has_room || context.waiting.is_empty() || context.is_search());
        if is_worth_waiting && !is_last_call {
            context.patience = context.last_call.filter(|_| !context.is_invite());
            return self.arm_context(slot);
        }
        if !context.waiting.is_empty() {
            if has_room {
                return self.go_on(now, slot);
            }
            // An INVITE waits for its turn; for others it would come too late.
            if context.is_invite() {
                return;
            }
            context.waiting.clear();
            context.note_final(440, None);
        }
        // With nobody's word at all there is nothing to say.
        if context.has_refusal() && !context.is_invite() {
            self.do_without_pending(slot);
            self.go_on(now, slot);
        }
    }

    /// Ends the branches that have not answered, without a word of theirs: what they say later still counts, as long as
    /// nobody has been answered. Of a search, the silent ones will not know the user either (480).
    fn do_without_pending(&mut self, slot: Slot) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let mut is_search = false;
        for branch in context.branches.iter_mut().filter(|branch| branch.is_pending()) {
            if branch.is_failed_flow() {
                self.outputs.push_back(Output::FlowFailed(branch.target.hop));
            }
            is_search |= branch.target.kind == TargetKind::Search;
            branch.state = BranchState::Ended(480);
        }
        if is_search {
            context.note_final(480, None);
        }
    }
}

/// The user that a URI names.
pub(super) fn user_of(uri: &[u8]) -> Option<AddressOfRecord> {
    Uri::parse(uri).ok().map(|uri| AddressOfRecord::from_uri(&uri))
}

/// Reads a message that we have written.
pub(super) fn parse_own(bytes: bytes::Bytes) -> Option<Message> {
    Message::parse(bytes, Carriage::Datagram, OWN_LIMITS).ok()
}
