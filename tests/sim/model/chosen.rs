//! Final responses: whether it is the right one, and the right time for it.

use std::time::Duration;

use sip_proxy::protocol::message::reply::Reply;

use super::Model;
use super::records::{Odd, Place};
use crate::coverage::Count;
use crate::text::Text;

/// The share of its transactions, in percent, that a Router fills with new work.
const SHARE_OF_NEW_WORK: usize = 90;

impl Model {
    /// A peer's response that goes up: the best of all, once nobody is left (§16.7 steps 5, 6).
    pub(super) fn check_chosen(
        &mut self,
        now: Duration,
        number: usize,
        answer: usize,
        text: &Text,
        status: u16,
    ) {
        let is_invite = self.requests[number].is_invite();
        assert_ne!(status, 503, "somebody's 503 says nothing about us (§16.7 step 6)\n{text}");
        assert!(is_invite || status != 408, "408 to it (RFC 4320 §4.2)\n{text}");
        if status < 300 {
            self.coverage.add(Count::Accepted);
            return self.check_passed_on(number, text, &[]);
        }
        let challenges: Vec<_> = match status {
            401 | 407 => {
                self.ends_of(number).filter(|(s, n)| matches!(s, 401 | 407) && *n != answer).collect()
            }
            _ => Vec::new(),
        };
        let others: Vec<_> = challenges.iter().map(|&(_, number)| &self.said[number].text).collect();
        self.check_source(number, answer, text, &others);
        if !others.is_empty() {
            self.coverage.add(Count::ChallengesGathered);
        }
        self.check_best(number, status, text);
        self.check_complete(now, number, text);
        self.coverage.add(Count::RefusalsPassedOn);
    }

    /// Status and number of the final responses that have come of a request.
    fn ends_of(&self, number: usize) -> impl Iterator<Item = (u16, usize)> {
        let life = self.requests[number].life(self.turn.incarnation).expect("it was looked for before");
        let ends = life.branches.iter().filter_map(|&at| self.branches[at].end);
        ends.map(|(status, number, _)| (status, number))
    }

    /// None of those that have come is better.
    fn check_best(&self, number: usize, chosen: u16, text: &Text) {
        let life = self.requests[number].life(self.turn.incarnation).expect("it was looked for before");
        let is_search = life.is_search;
        if life.is_vague {
            return;
        }
        let better =
            self.ends_of(number).find(|&(other, _)| rank(other, is_search) < rank(chosen, is_search));
        assert!(better.is_none(), "{better:?} is better\n{text}");
    }

    /// Nobody is waited for, and nobody is left to ask.
    fn check_complete(&self, now: Duration, number: usize, text: &Text) {
        let request = &self.requests[number];
        let life = request.life(self.turn.incarnation).expect("it was looked for before");
        let goals = life.goals.as_deref().unwrap_or_default();
        let branches: Vec<_> = life.branches.iter().map(|&at| &self.branches[at]).collect();
        let is_declined = branches.iter().any(|b| b.end.is_some_and(|(status, ..)| status >= 600));
        let places =
            goals.iter().enumerate().flat_map(|(group, goals)| (0..goals.len()).map(move |at| (group, at)));
        let is_asked = |place: &Place| branches.iter().any(|branch| branch.goal == Some(*place));
        let left = places.filter(|place| !is_asked(place)).count();
        // Without room for all, others wait in vain for the silent ones.
        let is_impatient = !request.is_invite() && self.is_impatient(request, life, now);
        let is_cramped = is_impatient && request.is_cramped();
        let is_ended = is_declined || is_cramped || life.cancelled.is_some();
        assert!(left == 0 || is_ended, "{left} were not asked\n{text}");
        let pending = branches.iter().find(|branch| !self.is_dead(branch, now) && !is_impatient);
        assert!(
            pending.is_none(),
            "answered while another is pending: {}\n{text}",
            pending.expect("one").text
        );
    }

    /// A final response of the proxy's own, after it has asked somebody or the Registrar.
    pub(super) fn check_made(&mut self, now: Duration, number: usize, text: &Text, status: u16) {
        let request = &self.requests[number];
        let is_invite = request.is_invite();
        let life = request.life(self.turn.incarnation).expect("it was looked for before");
        let has_branches = !life.branches.is_empty();
        let best = self.ends_of(number).map(|(status, _)| rank(status, life.is_search)).min();
        let has_503 = self.ends_of(number).any(|(status, _)| status == 503);
        match status {
            487 => assert!(life.cancelled.is_some(), "487 to what was not cancelled\n{text}"),
            500 if has_503 => {
                self.check_best(number, 503, text);
                self.coverage.add(Count::UnavailableHidden);
            }
            408 => {
                assert!(is_invite, "408 to it (RFC 4320 §4.2)\n{text}");
                assert!(
                    best.is_none_or(|best| best >= rank(408, false)),
                    "there is a better response\n{text}"
                );
                self.coverage.add(Count::TimedOut);
            }
            440 => {
                assert!(request.is_cramped() && has_branches && !is_invite, "there is room\n{text}");
                self.coverage.add(Count::Cramped);
            }
            480 if has_branches => {
                let is_better = best.is_some_and(|best| best < rank(480, true));
                assert!(!is_better, "there is a better response than 480\n{text}");
                self.coverage.add(Count::Unreachable);
            }
            500 => {
                self.check_reason(now, number, text, status);
                self.coverage.add(Count::Unregistered);
            }
            _ => self.check_reason(now, number, text, status),
        }
        self.check_tag(number, text);
        if has_branches {
            self.check_complete(now, number, text);
        }
    }

    /// What a response of the proxy's own can come from, where nobody was asked.
    pub(super) fn check_reason(&self, now: Duration, number: usize, text: &Text, status: u16) {
        let request = &self.requests[number];
        let life = request.life(self.turn.incarnation).expect("it was looked for before");
        let is_new = !request.text.is_in_dialog();
        let share = if is_new { SHARE_OF_NEW_WORK } else { 100 };
        let is_full = life.held >= self.maximum_transactions * share / 100;
        let is_lost = life.asked.is_some_and(|asked| self.may_be_lost(asked));
        let deserves = match request.odd {
            Odd::Deserves(list) => list.contains(&status),
            Odd::ForProxy(answer) => status == answer,
            Odd::Loops => matches!(status, 403 | 404 | 482 | 483),
            Odd::Nothing => false,
        };
        let is_good = match (&life.registered, status) {
            (Some(reply), _) => {
                self.check_proven(request, life);
                status == reply.status && has_rows(text, reply)
            }
            _ if deserves => true,
            (None, 401 | 407) => {
                self.may_be_challenged(now, request, life) && (status == 401) == request.is_register()
            }
            (None, 503) => is_full || (self.is_draining && is_new),
            (None, 500) => is_lost,
            (None, 480) => life.goals.as_ref().is_some_and(Vec::is_empty),
            (None, _) => false,
        };
        assert!(is_good, "nothing is the reason of this response to\n{}\nwhich is\n{text}", request.text);
    }
}

/// Whether the rows are there that the Registrar wants there.
fn has_rows(text: &Text, reply: &Reply) -> bool {
    reply.rows.iter().all(|(name, value)| text.rows().any(|(_, line)| line == format!("{name}: {value}\r\n")))
}

/// The order of choice (docs/routing.md): 6xx, then the lowest class; within 4xx what tells the client how to do
/// better; a search prefers any word about the user to "not here".
pub(super) fn rank(status: u16, is_search: bool) -> (u16, u16) {
    match status {
        600..=699 => (0, 0),
        401 | 407 => (4, 0),
        415 | 420 | 484 => (4, 1),
        480 if is_search => (4, 3),
        404 | 482 if is_search => (4, 4),
        400..=499 => (4, 2),
        _ => (status / 100, 0),
    }
}
