//! What the Routers hear, noted before they do.

use std::time::Duration;

use bytes::Bytes;
use sip_proxy::protocol::flow::Flow;
use sip_proxy::protocol::location::{Answer, Verdict};
use sip_proxy::protocol::proxy::Proxy;
use sip_proxy::protocol::transaction;

use super::records::{Life, Origin};
use super::registry::goals;
use super::{Cause, Model, waits_on};
use crate::text::Text;

impl Model {
    /// A SIP message is about to be handled.
    pub(crate) fn router_receives(&mut self, now: Duration, core: &Proxy, flow: &Flow, bytes: &Bytes) {
        let text = Text::read(bytes);
        self.turn.cause = match text.status() {
            Some(status) => self.receives_answer(now, &text, status),
            None => self.receives_request(now, core, flow, &text),
        };
    }

    fn receives_request(&mut self, now: Duration, core: &Proxy, flow: &Flow, text: &Text) -> Cause {
        let incarnation = self.turn.incarnation;
        self.turn.source = Some(*flow);
        let number = text.request_number(0).unwrap_or_else(|| panic!("whose is this?\n{text}"));
        let method = text.method();
        let request = &mut self.requests[number];
        if method != request.method {
            if method == "CANCEL" {
                let life = request.life(incarnation);
                // Who has overheard the branch cancels nothing.
                if life.is_none_or(|life| life.source.remote.ip() == flow.remote.ip()) {
                    self.owe_for_cancel(now, number);
                }
                return Cause::Cancel(number);
            }
            if let Some(life) = request.life_mut(incarnation).filter(|life| life.answer.is_some()) {
                self.turn.is_first_ack = life.acknowledged.is_none();
                life.acknowledged.get_or_insert(now);
            }
            return Cause::Ack(number);
        }
        let load = core.load();
        // Of what a banned host has sent, nothing is remembered.
        request.lives.retain(|life| life.incarnation != incarnation || !life.is_banned);
        if request.life(incarnation).is_none() {
            request.lives.push(Life::new(incarnation, *flow, now));
        }
        self.owe_for_repetition(now, number);
        self.owe_in_dialog(number, flow);
        self.received += 1;
        self.note_guess(now, number, flow.remote.ip());
        let life = self.requests[number].life_mut(incarnation).expect("it was just made");
        life.deliveries += 1;
        life.order = self.received;
        life.was_known = core.standings().any(|(known, _)| known == *flow);
        life.held = load.servers.max(load.clients).max(load.contexts);
        if method == "ACK" { Cause::Ack(number) } else { Cause::Request(number) }
    }

    fn receives_answer(&mut self, now: Duration, text: &Text, status: u16) -> Cause {
        let number = text.answer_number().unwrap_or_else(|| panic!("whose is this?\n{text}"));
        let branch = text.branch(0).and_then(|branch| self.by_branch.get(branch)).copied();
        let branch = branch.filter(|&at| self.branches[at].incarnation == self.turn.incarnation);
        let Some(branch) = branch.filter(|_| self.said[number].origin != Origin::Forged) else {
            return Cause::Answer(number);
        };
        if text.method() == "CANCEL" {
            self.branches[branch].is_cancel_answered |= status >= 200;
            return Cause::Answer(number);
        }
        self.said[number].deliveries += 1;
        self.said[number].branch = Some(branch);
        self.owe_for_answer(now, branch, number, status);
        Cause::Answer(number)
    }

    /// The Registrar's answer is about to be handled.
    pub(crate) fn verdict_arrives(&mut self, answer: &Answer) {
        let incarnation = self.turn.incarnation;
        let Some(asker) = self.router(incarnation).contexts.remove(&answer.context) else { return };
        self.turn.cause = Cause::Verdict(asker.request);
        self.turn.source = Some(asker.source);
        if let Verdict::Located(located) = &answer.verdict {
            self.turn.goals = goals(located, &self.requests[asker.request].method);
        }
        if !asker.is_follow_up {
            self.owe_for_verdict(asker.request, &answer.verdict);
        }
    }

    /// The failure of what was sent on a branch is about to be handled.
    pub(crate) fn transmit_failed(&mut self, now: Duration, branch: &transaction::Branch) {
        self.turn.cause = Cause::Failure;
        let written = branch.to_octets();
        let written = std::str::from_utf8(&written).expect("a branch is text");
        let Some(&at) = self.by_branch.get(written) else { return };
        if self.branches[at].is_untold() {
            self.branches[at].failed = None;
        }
        self.branch_fails(now, at);
    }

    /// The end of a connection is about to be handled.
    pub(crate) fn connection_closed(&mut self, now: Duration, flow: &Flow) {
        self.turn.cause = Cause::Failure;
        self.turn.closed = Some(*flow);
        for at in 0..self.branches.len() {
            let branch = &self.branches[at];
            if waits_on(&branch.hop, flow) && branch.incarnation == self.turn.incarnation {
                self.branch_fails(now, at);
                self.search_fails(now, at);
            }
        }
    }

    /// The end of a log-on is about to be handled.
    pub(crate) fn logged_off(&mut self, now: Duration, flow: &Flow) {
        self.turn.cause = Cause::Failure;
        for at in 0..self.branches.len() {
            let branch = &self.branches[at];
            if branch.incarnation == self.turn.incarnation && branch.hop == *flow {
                self.search_fails(now, at);
            }
        }
    }
}
