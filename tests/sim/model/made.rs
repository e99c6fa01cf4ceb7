//! Requests that the proxy makes itself: ACK to a refusal, and CANCEL.

use std::time::Duration;

use sip_proxy::protocol::flow::{Flow, Transport};

use super::{Cause, MARGIN, Model, Sent};
use crate::coverage::Count;
use crate::setup::TIMER_C;
use crate::text::{Header, Text, parameter};

impl Model {
    /// ACK to a refusal, or CANCEL: made of the INVITE that has the same branch (§9.1, §17.1.1.3).
    pub(super) fn sends_own(&mut self, now: Duration, hop: &Flow, text: &Text) {
        let branch = self.by_branch.get(text.branch(0).unwrap_or_default());
        let &at = branch.unwrap_or_else(|| panic!("for which INVITE is this?\n{text}"));
        let invite = &self.branches[at];
        assert_eq!(invite.text.method(), "INVITE", "nothing else has\n{text}");
        assert_eq!(invite.hop, *hop, "this goes elsewhere than its INVITE\n{text}");
        assert_eq!(text.uri(), invite.text.uri(), "another Request-URI than the INVITE's\n{text}");
        assert_eq!(text.get(Header::Via), invite.text.get(Header::Via), "another Via than the INVITE's");
        for header in [Header::From, Header::CallId] {
            assert_eq!(
                text.get(header),
                invite.text.get(header),
                "another {header:?} than the INVITE's\n{text}"
            );
        }
        assert!(
            text.values(Header::Route).eq(invite.text.values(Header::Route)),
            "other Routes than the INVITE's\n{text}"
        );
        let number = |text: &Text| text.value(Header::CSeq).split(' ').next().map(str::to_owned);
        assert_eq!(number(text), number(&invite.text), "another CSeq than the INVITE's\n{text}");
        match text.method() {
            "ACK" => self.acknowledges(text, at),
            "CANCEL" => self.cancels(now, text, at),
            other => panic!("{other} of the proxy's own"),
        }
    }

    fn acknowledges(&mut self, text: &Text, at: usize) {
        let branch = &self.branches[at];
        let Cause::Answer(answer) = self.turn.cause else {
            panic!("an ACK because of {:?}\n{text}", self.turn.cause);
        };
        let said = &self.said[answer];
        assert_eq!(said.branch, Some(at), "an ACK for another's response\n{text}");
        assert!(said.status() >= 300, "the proxy acknowledges a {}", said.status());
        assert_eq!(
            text.get(Header::To),
            said.text.get(Header::To),
            "an ACK without the To of the response\n{text}"
        );
        assert!(branch.end.is_some_and(|(status, ..)| status >= 300), "an ACK after a 2xx\n{text}");
        self.turn.sent.push(Sent::Ack(at));
        self.coverage.add(Count::Acknowledged);
    }

    fn cancels(&mut self, now: Duration, text: &Text, at: usize) {
        let (t1, t2, patience) = (self.timers.t1(), self.timers.t2(), self.patience());
        assert_eq!(
            text.get(Header::To),
            self.branches[at].text.get(Header::To),
            "a CANCEL has the To of its INVITE\n{text}"
        );
        assert!(parameter(text.value(Header::Via), "branch").is_some());
        let was_stalled = self.was_stalled(self.turn.incarnation, self.branches[at].cancel_sent);
        self.check_reason_to_cancel(now, at);
        let branch = &mut self.branches[at];
        assert!(branch.provisional.is_some(), "a CANCEL before any response (§9.1)\n{text}");
        branch.cancel_wanted.get_or_insert(now);
        match &branch.cancel {
            None => {
                assert!(branch.end.is_none_or(|(.., at)| at == now), "a CANCEL of what has ended\n{text}");
                branch.cancel = Some(text.bytes().clone());
                branch.cancel_interval = t1;
                self.coverage.add(Count::Cancels);
            }
            Some(first) => {
                assert_eq!(first, text.bytes(), "two CANCELs of one branch");
                assert_eq!(branch.hop.transport, Transport::Udp, "a CANCEL is repeated on a stream\n{text}");
                assert!(!branch.is_cancel_answered, "an answered CANCEL is repeated\n{text}");
                let gap = now - branch.cancel_sent;
                let is_due =
                    gap + MARGIN / 4 >= branch.cancel_interval && gap <= branch.cancel_interval + MARGIN / 4;
                assert!(is_due || was_stalled, "a CANCEL is repeated after {gap:?}\n{text}");
                assert!(gap <= patience, "a CANCEL is repeated without end\n{text}");
                branch.cancel_interval = (branch.cancel_interval * 2).min(t2);
            }
        }
        branch.cancel_sent = now;
        self.turn.sent.push(Sent::Cancel(at));
    }

    /// The client has cancelled, another has accepted or declined for all, or Timer C has fired.
    fn check_reason_to_cancel(&mut self, now: Duration, at: usize) {
        let branch = &self.branches[at];
        if branch.cancel.is_some() || branch.cancel_wanted.is_some() {
            return;
        }
        let life = self.requests[branch.request].life(branch.incarnation).expect("it has branches");
        let waited = now - branch.rung.unwrap_or(branch.begun);
        let is_late = waited + MARGIN >= TIMER_C;
        let is_decided = life.branches.iter().any(|&other| {
            let end = self.branches[other].end;
            other != at && end.is_some_and(|(status, ..)| !(300..600).contains(&status))
        });
        assert!(
            life.cancelled.is_some() || is_decided || is_late,
            "nothing is the reason of this CANCEL\n{}",
            branch.text
        );
        if is_late {
            self.coverage.add(Count::TimerC);
        }
    }
}
