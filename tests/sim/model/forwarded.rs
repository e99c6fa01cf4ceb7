//! Requests that leave a Router.

use std::net::SocketAddr;
use std::time::Duration;

use sip_proxy::protocol::flow::{Flow, Transport};

use super::compare::check_forwarded;
use super::records::{Branch, Ends, Kind, Place};
use super::{Cause, MARGIN, Model, Sent, waits_on};
use crate::coverage::Count;
use crate::setup::UDP_MTU;
use crate::text::{Header, Text, host_of};

/// Our Via over a stream is a little shorter than the one by which a request was found to be too long.
const SLACK: usize = 16;

impl Model {
    pub(super) fn forwards(&mut self, now: Duration, hop: &Flow, text: Text) {
        let length = text.get(Header::ContentLength).map_or(Ok(text.body().len()), str::parse);
        assert_eq!(length, Ok(text.body().len()), "a message of another length than it says\n{text}");
        if text.values(Header::Via).nth(1).is_none() {
            return self.sends_own(now, hop, &text);
        }
        let number = text.request_number(1).unwrap_or_else(|| panic!("nobody has sent this request\n{text}"));
        let is_unanswered = matches!(text.method(), "ACK" | "BENOTIFY" | "CANCEL");
        if is_unanswered {
            return self.forwards_unanswered(now, hop, &text, number);
        }
        match self.by_branch.get(text.branch(0).unwrap_or_default()) {
            Some(&branch) => self.repeats(now, hop, &text, branch),
            None => self.begins_branch(now, hop, text, number),
        }
    }

    /// The same octets to the same place, by datagrams only, and when Timer A or E says so (§17.1.1.2, §17.1.2.2).
    fn repeats(&mut self, now: Duration, hop: &Flow, text: &Text, branch: usize) {
        let (t1, t2) = (self.timers.t1(), self.timers.t2());
        let was_stalled = self.was_stalled(self.turn.incarnation, self.branches[branch].sent);
        let branch = &mut self.branches[branch];
        assert_eq!(branch.text.bytes(), text.bytes(), "one branch has two requests");
        assert_eq!(branch.hop, *hop, "a request is repeated to somebody else\n{text}");
        assert_eq!(hop.transport, Transport::Udp, "a request is repeated on a stream\n{text}");
        assert_eq!(self.turn.cause, Cause::Timer, "a request is repeated by no timer\n{text}");
        assert!(!branch.is_over(), "a request is repeated that is over\n{text}");
        assert!(
            !branch.is_invite() || branch.provisional.is_none(),
            "an INVITE is repeated that rings\n{text}"
        );
        let gap = now - branch.sent;
        let is_due = |interval: Duration| gap + MARGIN / 4 >= interval && gap <= interval + MARGIN / 4;
        let is_slow = !branch.is_invite() && branch.provisional.is_some();
        assert!(
            is_due(branch.interval) || (is_slow && is_due(t2)) || was_stalled,
            "repeated after {gap:?} instead of {:?}\n{text}",
            branch.interval
        );
        branch.sent = now;
        let next = (branch.interval * 2).max(t1);
        branch.interval = if branch.is_invite() { next } else { next.min(t2) };
        self.coverage.add(Count::Repeated);
    }

    fn begins_branch(&mut self, now: Duration, hop: &Flow, text: Text, number: usize) {
        let incarnation = self.turn.incarnation;
        let request = &self.requests[number];
        let Some(life) = request.life(incarnation) else {
            panic!("this Router has not got the request that it forwards\n{text}");
        };
        assert!(self.is_because_of(number), "forwarded because of {:?}\n{text}", self.turn.cause);
        assert!(!life.has_answered(), "forwarded after it was answered\n{text}");
        self.check_proven(request, life);
        assert!(life.cancelled.is_none(), "forwarded after it was cancelled\n{text}");
        let is_declined = |at: &usize| self.branches[*at].end.is_some_and(|(status, ..)| status >= 600);
        assert!(!life.branches.iter().any(is_declined), "forwarded after a 6xx\n{text}");
        let kind = self.judge_goal(now, number, hop, &text);
        let goal = kind.1.and_then(|(group, at)| life.goals.as_ref()?.get(group)?.get(at));
        let path = goal.map_or(&[][..], |goal| &goal.path);
        let compared = check_forwarded(&request.text, &life.source, &text, hop, path);
        if let Err(fault) = compared.and_then(|()| self.check_credentials(&request.text, &text)) {
            panic!("{fault}\n{text}\ncame as\n{}", request.text);
        }
        let is_successor =
            kind.1.is_some() && life.branches.iter().any(|&at| self.branches[at].goal == kind.1);
        if !path.is_empty() {
            self.coverage.add(Count::ByPath);
        }
        self.check_size(number, hop, &text);
        self.check_breadth(now, number, &text);
        let life = self.requests[number].life_mut(incarnation).expect("it was there");
        life.branches.push(self.branches.len());
        let count = life.branches.len();
        let key = text.branch(0).expect("it was compared").to_owned();
        self.by_branch.insert(key, self.branches.len());
        let mut branch = Branch::new(number, incarnation, kind, *hop, text, now, self.timers.t1());
        branch.is_successor = is_successor;
        branch.failed = self.turn.closed.filter(|closed| waits_on(hop, closed)).map(|_| now);
        self.branches.push(branch);
        self.turn.sent.push(Sent::Branch { request: number });
        if kind.0 == Kind::Direct {
            self.check_order(number, hop, &self.branches[self.branches.len() - 1].text.clone());
        }
        self.coverage.add(match kind.0 {
            Kind::Binding => Count::ToBindings,
            Kind::Search => Count::ToServers,
            Kind::Direct => Count::Direct,
        });
        if count == 2 {
            self.coverage.add(Count::Forks);
        }
        if self.requests[number].ends.is_some_and(|ends| ends.process < self.process) {
            self.coverage.add(Count::Outlived);
        }
        if kind.1.is_some_and(|(group, _)| group > 0) {
            self.coverage.add(Count::LaterGroups);
        }
    }

    /// Whether this turn is for that request.
    fn is_because_of(&self, number: usize) -> bool {
        match self.turn.cause {
            Cause::Request(other) | Cause::Verdict(other) => other == number,
            Cause::Answer(answer) => {
                self.said[answer].branch.is_some_and(|branch| self.branches[branch].request == number)
            }
            Cause::Failure | Cause::Timer => true,
            Cause::Ack(_) | Cause::Cancel(_) | Cause::Other => false,
        }
    }

    /// What is too long for a datagram goes by a stream (§18.1.1), or by datagram after that has failed. To whom a NAT
    /// is before, there is no stream (docs/routing.md).
    fn check_size(&mut self, number: usize, hop: &Flow, text: &Text) {
        let address = host_of(text.uri()).parse::<SocketAddr>();
        let is_behind_nat = address.is_ok_and(|address| address.ip() != hop.remote.ip());
        if hop.transport != Transport::Udp || text.bytes().len() <= UDP_MTU || is_behind_nat {
            return;
        }
        let life = self.requests[number].life(self.turn.incarnation).expect("it was there");
        let has_failed = life.branches.iter().map(|&at| &self.branches[at]).any(|branch| {
            branch.hop.remote == hop.remote
                && branch.hop.transport == Transport::Tcp
                && branch.failed.is_some()
        });
        assert!(has_failed, "{} octets in a datagram\n{text}", text.bytes().len());
        self.coverage.add(Count::FallenBack);
    }

    /// The shares of the branches that are at work are no more than what the request brought (RFC 5393 §5.3.3).
    fn check_breadth(&self, now: Duration, number: usize, text: &Text) {
        let request = &self.requests[number];
        let share = |text: &Text| text.value(Header::MaxBreadth).parse::<u32>().expect("a number");
        let life = request.life(self.turn.incarnation).expect("it was there");
        let pending = life.branches.iter().map(|&at| &self.branches[at]).filter(|b| !self.is_dead(b, now));
        let others: u32 = pending.map(|branch| share(&branch.text)).sum();
        assert!(share(text) > 0 && share(text) + others <= request.max_breadth(), "too broad\n{text}");
    }

    /// Whether somebody is asked who should be, and when he should be.
    fn judge_goal(&self, now: Duration, number: usize, hop: &Flow, text: &Text) -> (Kind, Option<Place>) {
        let request = &self.requests[number];
        let life = request.life(self.turn.incarnation).expect("it was there");
        let Some(goals) = &life.goals else {
            self.judge_direct(number, hop, text);
            return (Kind::Direct, None);
        };
        let new_uri = (text.uri() != request.text.uri()).then(|| text.uri());
        let is_large = text.bytes().len() + SLACK > UDP_MTU;
        let is_there = |to: &Flow| {
            let by_stream = Flow { transport: Transport::Tcp, ..*to };
            to == hop || (is_large && to.transport == Transport::Udp && *hop == by_stream)
        };
        let mut places = goals
            .iter()
            .enumerate()
            .flat_map(|(group, goals)| goals.iter().enumerate().map(move |(at, goal)| ((group, at), goal)));
        let found = places.find(|(_, goal)| goal.uri.as_deref() == new_uri && is_there(&goal.hop));
        let Some((place, _)) = found else { panic!("nobody has said that this is to go to {hop}\n{text}") };
        let of_life: Vec<_> = life.branches.iter().map(|&at| &self.branches[at]).collect();
        let is_repeated = of_life.iter().any(|branch| {
            let has_failed = branch.hop.transport != hop.transport && branch.failed.is_some();
            branch.goal == Some(place) && !has_failed
        });
        assert!(!is_repeated, "{hop} is asked twice\n{text}");
        let is_asked = |place: (usize, usize)| of_life.iter().any(|branch| branch.goal == Some(place));
        let unasked = (0..place.0).find(|&group| !(0..goals[group].len()).all(|at| is_asked((group, at))));
        assert!(unasked.is_none(), "{hop} is asked before a better one\n{text}");
        let is_search = new_uri.is_none();
        // Who is asked in the place of one that has failed has its turn.
        let is_turn = is_asked(place) || self.is_impatient(request, life, now);
        let mut better = of_life.iter().filter(|b| b.goal.is_some_and(|(group, _)| group < place.0));
        assert!(
            is_turn || better.all(|branch| self.is_dead(branch, now)),
            "{hop} is asked while a better one is\n{text}"
        );
        (if is_search { Kind::Search } else { Kind::Binding }, Some(place))
    }

    /// In a dialog, to its other end; else to the address that it names.
    fn judge_direct(&self, number: usize, hop: &Flow, text: &Text) {
        match self.requests[number].ends {
            Some(ends) => self.judge_far_end(&ends, hop, text),
            None => assert_eq!(host_of(text.uri()), hop.remote.to_string(), "another address\n{text}"),
        }
    }

    /// Over the flow that was recorded, while that is there; else over another of the same peer's.
    fn judge_far_end(&self, ends: &Ends, hop: &Flow, text: &Text) {
        let Ends { other, far, .. } = *ends;
        assert_eq!(self.owner_of(hop), Some(other), "{hop} is not at the other end of the dialog\n{text}");
        let Some(far) = far.filter(|far| self.is_live(far)) else { return };
        let by_stream = far.transport == Transport::Udp && *hop == Flow { transport: Transport::Tcp, ..far };
        assert!(*hop == far || by_stream, "{hop} instead of {far}, which is there\n{text}");
    }

    /// What comes in on one connection and goes out on one other keeps its order, unless the Registrar was asked.
    fn check_order(&mut self, number: usize, hop: &Flow, text: &Text) {
        let life = self.requests[number].life(self.turn.incarnation).expect("it was there");
        let (Some(from), Some(to)) = (life.source.connection, hop.connection) else { return };
        if life.asked.is_some() || life.deliveries > 1 {
            return;
        }
        let order = life.order;
        let latest = self.passed.insert((from, to), order);
        assert!(latest.is_none_or(|latest| latest <= order), "a later request has overtaken this\n{text}");
        self.coverage.add(Count::InOrder);
    }

    /// ACK to a 2xx, BENOTIFY, CANCEL of what is not known: forwarded without a transaction. The same again goes the
    /// same way on the same branch (§16.11).
    fn forwards_unanswered(&mut self, now: Duration, hop: &Flow, text: &Text, number: usize) {
        let request = &self.requests[number];
        let candidates: Vec<_> = request.as_sent(text.method()).collect();
        let life = request.life(self.turn.incarnation);
        let is_its_own = request.method == text.method();
        let source = if is_its_own { life.map(|life| life.source) } else { self.turn.source };
        let source = source.expect("a Router forwards what it has got");
        let goal = self.turn.goals.first().and_then(|group| group.first());
        let path = goal.map_or(&[][..], |goal| &goal.path);
        let check = |original: &&Text| {
            check_forwarded(original, &source, text, hop, path)?;
            self.check_credentials(original, text)
        };
        let faults: Vec<_> = candidates.iter().map(check).collect();
        assert!(faults.iter().any(Result::is_ok), "{faults:?}\n{text}");
        if !is_its_own {
            // An ACK or CANCEL finds its INVITE where that is, if it comes from where that came from.
            let is_gone = life.is_none_or(|life| {
                self.may_be_gone(life, now) || life.source.remote.ip() != source.remote.ip()
            });
            assert!(is_gone, "forwarded, although its INVITE is here\n{text}");
        } else if let Some(ends) = request.ends {
            self.judge_far_end(&ends, hop, text);
            self.check_order(number, hop, text);
        }
        // Where it goes may have changed meanwhile, if the Registrar was asked.
        let key = format!("{} {} {hop}", text.start(), text.branch(0).expect("it was compared"));
        let first = self.unanswered.entry(key).or_insert_with(|| text.bytes().clone());
        assert_eq!(first, text.bytes(), "one branch has two requests");
        self.turn.sent.push(Sent::Unanswered(number));
        self.coverage.add(Count::Unanswered);
    }
}
