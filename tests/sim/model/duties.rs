//! What a Router owes: in the turn in which it hears something, and by the end.

use std::time::Duration;

use bytes::Bytes;
use sip_proxy::protocol::flow::{Flow, Transport};
use sip_proxy::protocol::location::{Penalty, Verdict};
use sip_proxy::protocol::proxy::{DropReason, Proxy};

use super::records::{Branch, Ends, Kind, Life};
use super::{Cause, MARGIN, Model, Sent};
use crate::coverage::Count;
use crate::setup::{self, TIMER_C};

/// Something that must leave in the turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// A peer's response goes up.
    PassOn { request: usize, answer: usize },
    /// The last response goes up again.
    Repeat { request: usize, bytes: Bytes },
    /// The CANCEL is answered.
    AnswerCancel(usize),
    /// A branch is cancelled.
    Cancel(usize),
    /// A refusal is acknowledged.
    Acknowledge(usize),
    /// What was too long for a datagram goes by one.
    FallBack(usize),
    /// All branches have ended: somebody else is asked, or the request is answered.
    GoOn(usize),
    /// All of the first group are asked.
    AskFirst { request: usize, count: usize },
    /// A request that nobody answers goes on to the first place.
    Forward(usize),
}

/// Whether a branch still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Liveness {
    Live,
    /// Its end is so near that it may have come.
    Perhaps,
    Dead,
}

impl Model {
    /// Until when a branch without a final response waits.
    fn end_of(&self, branch: &Branch) -> Duration {
        let patience = self.patience();
        let first = branch.begun + patience;
        if !branch.is_invite() {
            return first;
        }
        match (branch.provisional, branch.cancel_wanted) {
            (None, Some(wanted)) => first.min(wanted + patience),
            (None, None) => first,
            (Some(_), Some(wanted)) => wanted + patience,
            (Some(_), None) => branch.rung.unwrap_or(branch.begun) + TIMER_C + patience,
        }
    }

    fn liveness(&self, branch: &Branch, now: Duration) -> Liveness {
        if branch.is_over() {
            return Liveness::Dead;
        }
        let end = self.end_of(branch);
        if now + MARGIN < end {
            Liveness::Live
        } else if now > end + MARGIN && !self.was_stalled(branch.incarnation, end - MARGIN) {
            Liveness::Dead
        } else {
            Liveness::Perhaps
        }
    }

    /// Whether nothing more is to come of a branch, as far as that can be told.
    pub(super) fn is_dead(&self, branch: &Branch, now: Duration) -> bool {
        self.liveness(branch, now) != Liveness::Live
    }

    /// A request could not be sent, or its connection has ended: an INVITE that rings waits on (§18.2.2).
    pub(super) fn branch_fails(&mut self, now: Duration, at: usize) {
        let is_late = self.is_dead(&self.branches[at], now);
        let branch = &mut self.branches[at];
        // Where the ACK could not be sent, the transaction has ended (§17.1.1.2).
        branch.is_vague |= branch.end.is_some();
        if branch.is_over() || (branch.is_invite() && branch.provisional.is_some()) {
            return;
        }
        branch.failed = Some(now);
        let (request, hop) = (branch.request, branch.hop);
        self.coverage.add(Count::BranchesFailed);
        // Only its length has made it go by a stream.
        let is_enlarged =
            hop.transport == Transport::Tcp && setup::transport(hop.interface) == Transport::Udp;
        if is_enlarged && !is_late && self.is_open(request) {
            self.turn.duties.push(Duty::FallBack(request));
        }
        self.owe_to_go_on(now, request);
    }

    /// Whether somebody else may still be asked.
    fn is_open(&self, number: usize) -> bool {
        let Some(life) = self.requests[number].life(self.turn.incarnation) else { return false };
        let is_declined = |&at: &usize| self.branches[at].end.is_some_and(|(status, ..)| status >= 600);
        !life.has_answered() && life.cancelled.is_none() && !life.branches.iter().any(is_declined)
    }

    /// A UC server has logged off, or its connection has ended, while it was asked whether it has the user.
    pub(super) fn search_fails(&mut self, now: Duration, at: usize) {
        let branch = &mut self.branches[at];
        let life = self.requests[branch.request].life(branch.incarnation);
        // Of what was answered nobody asks any more.
        let is_settled = life.is_none_or(Life::has_answered);
        if branch.is_over() || branch.kind != Kind::Search || branch.rung.is_some() || is_settled {
            return;
        }
        branch.failed = Some(now);
        let request = branch.request;
        self.owe_to_go_on(now, request);
    }

    /// When every branch has ended, the Router goes on at once.
    fn owe_to_go_on(&mut self, now: Duration, number: usize) {
        let incarnation = self.turn.incarnation;
        let request = &self.requests[number];
        let Some(life) = request.life(incarnation).filter(|life| !life.has_answered()) else { return };
        let is_late = !request.is_invite() && now + MARGIN >= life.begun + self.patience();
        let mut branches = life.branches.iter().map(|&at| &self.branches[at]);
        let is_open = branches.any(|branch| !branch.is_over() || branch.is_untold());
        if !is_late && !is_open && !life.is_vague {
            self.turn.duties.push(Duty::GoOn(number));
        }
    }

    /// A request has come again: it gets the last response again (§17.2.1, §17.2.2).
    pub(super) fn owe_for_repetition(&mut self, now: Duration, number: usize) {
        let request = &self.requests[number];
        let Some(life) = request.life(self.turn.incarnation).filter(|life| life.deliveries > 0) else {
            return;
        };
        self.coverage.add(Count::RepeatedByPeers);
        let life_bytes = match (&life.answer, life.accepted_at) {
            (Some(_), _) if request.is_invite() && life.acknowledged.is_some() => None,
            (Some(answer), _) => Some(&answer.bytes),
            (None, Some(_)) => None,
            (None, None) => {
                let is_over = !request.is_invite() && now + MARGIN >= life.begun + self.patience();
                life.provisional.as_ref().filter(|_| !is_over && !self.is_silenced(number))
            }
        };
        if let Some(bytes) = life_bytes.filter(|_| life.source.transport == Transport::Udp) {
            self.turn.duties.push(Duty::Repeat { request: number, bytes: bytes.clone() });
        }
    }

    /// An end of a dialog has sent an ACK, which cannot be challenged: it goes on, if its flow is the one that was
    /// recorded.
    pub(super) fn owe_in_dialog(&mut self, number: usize, source: &Flow) {
        let request = &self.requests[number];
        let Some(Ends { near: Some(near), far: Some(far), .. }) = request.ends else { return };
        if request.method == "ACK" && near == *source && self.is_live(&far) {
            self.turn.duties.push(Duty::Forward(number));
        }
    }

    /// A CANCEL has come for an INVITE that is being worked on.
    pub(super) fn owe_for_cancel(&mut self, now: Duration, number: usize) {
        let incarnation = self.turn.incarnation;
        let request = &mut self.requests[number];
        let is_invite = request.is_invite();
        let Some(life) = request.life_mut(incarnation).filter(|_| is_invite) else { return };
        let is_refused = life.refusals > 0 && life.branches.is_empty() && life.asked.is_none();
        if life.has_answered() || is_refused || life.deliveries == 0 {
            return;
        }
        self.turn.duties.push(Duty::AnswerCancel(number));
        if life.cancelled.is_some() {
            return;
        }
        life.cancelled = Some(now);
        self.turn.is_first_cancel = true;
        let branches = life.branches.clone();
        if branches.iter().all(|&at| self.branches[at].is_over()) {
            self.turn.duties.push(Duty::GoOn(number));
        }
        self.owe_cancels(now, &branches);
    }

    fn owe_cancels(&mut self, now: Duration, branches: &[usize]) {
        for &at in branches {
            let is_live = self.liveness(&self.branches[at], now) == Liveness::Live;
            let branch = &mut self.branches[at];
            if branch.is_over() || branch.cancel_wanted.is_some() {
                continue;
            }
            branch.cancel_wanted = Some(now);
            if branch.provisional.is_some() && is_live {
                self.turn.duties.push(Duty::Cancel(at));
            }
        }
    }

    /// A response has come to a branch, which has not heard of it yet.
    pub(super) fn owe_for_answer(&mut self, now: Duration, at: usize, answer: usize, status: u16) {
        let branch = &self.branches[at];
        let number = branch.request;
        let (liveness, patience) = (self.liveness(branch, now), self.patience());
        let Some(life) = self.requests[number].life_mut(branch.incarnation) else { return };
        match liveness {
            Liveness::Live => {}
            Liveness::Perhaps => {
                life.is_vague = true;
                self.branches[at].is_vague = true;
                self.branches[at].hears(now, status, answer);
                return;
            }
            Liveness::Dead => return self.owe_to_the_dead(now, at, answer, status),
        }
        let is_invite = branch.is_invite();
        // Who asked may have given up.
        let is_late = !is_invite && now + MARGIN >= life.begun + patience;
        let (has_answered, is_vague) = (life.has_answered(), life.is_vague || is_late);
        let is_first = branch.provisional.is_none();
        let others: Vec<_> = life.branches.iter().copied().filter(|&other| other != at).collect();
        let wants_cancel = branch.cancel_wanted.is_some();
        self.branches[at].hears(now, status, answer);
        match status {
            100..=199 => {
                if status > 100 && is_invite && !has_answered {
                    self.turn.duties.push(Duty::PassOn { request: number, answer });
                }
                if is_invite && is_first && wants_cancel {
                    self.turn.duties.push(Duty::Cancel(at));
                }
            }
            200..=299 => {
                if is_invite || !(has_answered || is_vague) {
                    self.turn.duties.push(Duty::PassOn { request: number, answer });
                }
                if is_invite {
                    self.owe_cancels(now, &others);
                }
            }
            _ => {
                if is_invite {
                    self.turn.duties.push(Duty::Acknowledge(at));
                }
                if status >= 600 && is_invite {
                    self.owe_cancels(now, &others);
                }
                self.owe_to_go_on(now, number);
            }
        }
    }

    /// A further 2xx goes up as well, a repeated refusal is acknowledged again; all else falls on deaf ears.
    fn owe_to_the_dead(&mut self, now: Duration, at: usize, answer: usize, status: u16) {
        let branch = &self.branches[at];
        let Some((first, _, ended)) = branch.end.filter(|_| branch.is_invite() && !branch.is_vague) else {
            return;
        };
        let is_in_time = |since: Duration| now + MARGIN < since + self.patience();
        let life = self.requests[branch.request].life(branch.incarnation).expect("it has branches");
        let duty = match (first, status) {
            (200..=299, 200..=299) => {
                let waits = life.accepted_at.is_some_and(is_in_time) && is_in_time(ended);
                waits.then_some(Duty::PassOn { request: branch.request, answer })
            }
            (300.., 300..) => {
                let waits = branch.hop.transport == Transport::Udp && is_in_time(ended);
                waits.then_some(Duty::Acknowledge(at))
            }
            _ => None,
        };
        self.turn.duties.extend(duty);
    }

    /// The Registrar has answered.
    pub(super) fn owe_for_verdict(&mut self, number: usize, verdict: &Verdict) {
        let incarnation = self.turn.incarnation;
        let request = &mut self.requests[number];
        let is_unanswered = request.is_unanswered();
        let breadth = request.max_breadth() as usize;
        let Some(life) = request.life_mut(incarnation) else { return };
        match verdict {
            Verdict::Located(located) => {
                let goals = self.turn.goals.clone();
                let count = goals.first().map_or(0, Vec::len).min(breadth);
                let is_open = !life.has_answered() && life.cancelled.is_none() && life.goals.is_none();
                life.is_search = located.targets.is_empty();
                life.goals.get_or_insert(goals);
                match (is_open && count > 0, is_unanswered) {
                    (true, true) => self.turn.duties.push(Duty::Forward(number)),
                    (true, false) => self.turn.duties.push(Duty::AskFirst { request: number, count }),
                    (false, _) => {}
                }
            }
            Verdict::Registered(reply) => life.registered = Some(reply.clone()),
            Verdict::Punished(Penalty::Ban) => life.is_banned = true,
            Verdict::Punished(Penalty::Wait(_))
            | Verdict::Admitted
            | Verdict::Replayed
            | Verdict::Unreachable(_) => {}
        }
    }

    /// All that this turn owes has left.
    pub(crate) fn end_turn(&mut self, core: &Proxy) {
        let is_unheard = |reason: &DropReason| matches!(reason, DropReason::SourceRate | DropReason::Banned);
        if self.turn.dropped.iter().any(is_unheard) {
            return self.take_back();
        }
        for duty in std::mem::take(&mut self.turn.duties) {
            assert!(self.is_done(&duty), "owed and not done: {}", self.describe(&duty));
        }
        let held = core.load().servers;
        assert!(held <= self.maximum_transactions, "{held} server transactions");
    }

    /// What a stranger sends too often, or a banned host sends, is not even looked at.
    fn take_back(&mut self) {
        assert!(self.turn.sent.is_empty(), "dropped and handled");
        self.coverage.add(match self.turn.dropped.contains(&DropReason::Banned) {
            true => Count::DroppedForBan,
            false => Count::DroppedForRate,
        });
        let (incarnation, cause) = (self.turn.incarnation, self.turn.cause);
        let (is_first_cancel, is_first_ack) = (self.turn.is_first_cancel, self.turn.is_first_ack);
        let (Cause::Request(number) | Cause::Ack(number) | Cause::Cancel(number)) = cause else { return };
        let request = &mut self.requests[number];
        let Some(life) = request.life_mut(incarnation) else { return };
        match cause {
            Cause::Cancel(_) if is_first_cancel => life.cancelled = None,
            Cause::Ack(_) if is_first_ack => life.acknowledged = None,
            Cause::Request(_) => life.deliveries -= 1,
            _ => {}
        }
        if life.deliveries == 0 {
            request.lives.retain(|life| life.deliveries > 0);
        }
    }

    fn is_done(&self, duty: &Duty) -> bool {
        let sent = &self.turn.sent;
        let has = |wanted: Sent| sent.contains(&wanted);
        match duty {
            Duty::PassOn { request, answer } => {
                let status = self.said[*answer].status();
                has(Sent::Response { request: *request, status, answer: Some(*answer) })
            }
            Duty::Repeat { request, .. } => sent
                .iter()
                .any(|sent| matches!(sent, Sent::Response { request: other, .. } if other == request)),
            Duty::AnswerCancel(number) => has(Sent::CancelAnswered(*number)),
            Duty::Cancel(at) => has(Sent::Cancel(*at)),
            Duty::Acknowledge(at) => has(Sent::Ack(*at)),
            Duty::FallBack(number) => has(Sent::Branch { request: *number }),
            Duty::GoOn(number) => {
                let is_final = |sent: &Sent| matches!(sent, Sent::Response { request, status: 200.., .. } if request == number);
                has(Sent::Branch { request: *number })
                    || sent.iter().any(is_final)
                    || self.is_silenced(*number)
            }
            Duty::AskFirst { request, count } => {
                sent.iter().filter(|sent| **sent == Sent::Branch { request: *request }).count() >= *count
            }
            Duty::Forward(number) => has(Sent::Unanswered(*number)),
        }
    }

    /// Whether the best that there is for a request is a 408, which only INVITE gets (RFC 4320 §4.2).
    fn is_silenced(&self, number: usize) -> bool {
        let request = &self.requests[number];
        let Some(life) = request.life(self.turn.incarnation) else { return true };
        let is_said = |&at: &usize| self.branches[at].end.is_some_and(|(status, ..)| status == 408);
        !request.is_invite() && life.branches.iter().any(is_said)
    }

    fn describe(&self, duty: &Duty) -> String {
        let branch = |at: &usize| self.branches[*at].text.to_string();
        let request = |number: &usize| self.requests[*number].text.to_string();
        match duty {
            Duty::PassOn { answer, .. } => format!("this goes up at once\n{}", self.said[*answer].text),
            Duty::Repeat { request: number, bytes } => {
                format!("{}is answered again with\n{}", request(number), String::from_utf8_lossy(bytes))
            }
            Duty::AnswerCancel(number) => format!("the CANCEL is answered of\n{}", request(number)),
            Duty::Cancel(at) => format!("this is cancelled\n{}", branch(at)),
            Duty::Acknowledge(at) => format!("the refusal is acknowledged of\n{}", branch(at)),
            Duty::FallBack(number) => format!("this goes by datagram\n{}", request(number)),
            Duty::GoOn(number) => format!("somebody else is asked, or this is answered\n{}", request(number)),
            Duty::AskFirst { request: number, count } => format!("{count} are asked\n{}", request(number)),
            Duty::Forward(number) => format!("this goes on\n{}", request(number)),
        }
    }
}
