//! Responses that leave a Router.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sip_proxy::protocol::flow::{Flow, Transport};

use super::compare::{check_own, check_returned};
use super::records::{Final, Life, Origin};
use super::{Cause, MARGIN, Model, Sent};
use crate::coverage::Count;
use crate::text::{Header, Text, parameter};

impl Model {
    pub(super) fn returns(
        &mut self,
        now: Duration,
        hop: &Flow,
        alternate: Option<SocketAddr>,
        text: &Text,
        status: u16,
    ) {
        let number = text.request_number(0).unwrap_or_else(|| panic!("to whom is this?\n{text}"));
        let incarnation = self.turn.incarnation;
        if text.method() == "CANCEL" {
            return self.answers_cancel(number, text, status);
        }
        let request = &self.requests[number];
        assert_eq!(request.method, text.method(), "a response to another method\n{text}");
        assert!(!request.is_unanswered(), "this is never answered\n{text}");
        let Some(life) = request.life(incarnation) else { panic!("nobody has asked that\n{text}") };
        check_destination(&request.text, &life.source, hop, alternate, text);
        let is_invite = request.is_invite();
        let answer = text.answer_number();
        if answer.is_none() && matches!(status, 401 | 407) {
            self.note_challenge(now, hop.remote.ip(), text);
        }
        match status {
            100 => self.returns_trying(now, number, text),
            101..=199 => self.returns_ringing(number, text, status),
            _ if self.is_repetition(number) => self.repeats_final(now, number, text),
            200..=299 if is_invite => self.returns_accepted(now, number, text),
            _ => self.returns_final(now, number, text, status),
        }
        self.turn.sent.push(Sent::Response { request: number, status, answer });
    }

    fn life(&mut self, number: usize) -> &mut Life {
        self.requests[number].life_mut(self.turn.incarnation).expect("it was looked for before")
    }

    /// At once, whatever becomes of the INVITE (§9.2, §16.10).
    fn answers_cancel(&mut self, number: usize, text: &Text, status: u16) {
        assert_eq!(self.turn.cause, Cause::Cancel(number), "to a CANCEL that has not just come\n{text}");
        assert_eq!((status, text.answer_number()), (200, None), "to a CANCEL\n{text}");
        let source = self.turn.source.expect("the CANCEL has just come");
        let request = &self.requests[number];
        let life = request.life(self.turn.incarnation);
        let is_theirs = life.is_none_or(|life| life.source.remote.ip() == source.remote.ip());
        assert!(is_theirs, "it comes from elsewhere than its INVITE\n{text}");
        let is_own = request.as_sent("CANCEL").any(|cancel| check_own(cancel, source.remote, text).is_ok());
        assert!(is_own, "another CANCEL's response\n{text}");
        self.turn.sent.push(Sent::CancelAnswered(number));
    }

    fn returns_trying(&mut self, now: Duration, number: usize, text: &Text) {
        assert!(text.answer_number().is_none(), "somebody's 100 is passed on\n{text}");
        let late = self.timers.late_trying();
        let request = &self.requests[number];
        let life = request.life(self.turn.incarnation).expect("it was looked for before");
        assert!(!life.has_answered(), "100 after the final response\n{text}");
        if life.provisional.as_ref() == Some(text.bytes()) && self.turn.cause == Cause::Request(number) {
            return;
        }
        if let Err(fault) = check_own(&request.text, life.source.remote, text) {
            panic!("{fault}\n{text}");
        }
        let is_early = now + MARGIN < life.begun + late;
        assert!(request.is_invite() || !is_early, "100 too early (RFC 4320 §4.1)\n{text}");
        assert_eq!(self.turn.cause, Cause::Timer, "100 by no timer\n{text}");
        self.life(number).provisional = Some(text.bytes().clone());
        self.coverage.add(Count::Trying);
    }

    fn returns_ringing(&mut self, number: usize, text: &Text, status: u16) {
        let request = &self.requests[number];
        assert_eq!(request.method, "INVITE", "a {status} to it (RFC 4320 §4.1)\n{text}");
        let life = request.life(self.turn.incarnation).expect("it was looked for before");
        assert!(!life.has_answered(), "a {status} after the final response\n{text}");
        if life.provisional.as_ref() == Some(text.bytes()) && self.turn.cause == Cause::Request(number) {
            return;
        }
        self.check_passed_on(number, text, &[]);
        self.life(number).provisional = Some(text.bytes().clone());
        self.coverage.add(Count::Ringing);
    }

    /// Whether it is the response to the request, from one who was asked, that has just come.
    pub(super) fn check_passed_on(&self, number: usize, text: &Text, others: &[&Text]) {
        let answer = text.answer_number().unwrap_or_else(|| panic!("of whose making is this?\n{text}"));
        assert_eq!(self.turn.cause, Cause::Answer(answer), "it is not passed on at once\n{text}");
        self.check_source(number, answer, text, others);
    }

    pub(super) fn check_source(&self, number: usize, answer: usize, text: &Text, others: &[&Text]) {
        let said = &self.said[answer];
        let life = self.requests[number].life(self.turn.incarnation).expect("it was looked for before");
        let is_of_life = said.branch.is_some_and(|branch| life.branches.contains(&branch));
        assert!(is_of_life && said.origin != Origin::Forged, "from somebody who was not asked\n{text}");
        let is_reliable = life.source.transport.is_reliable();
        if let Err(fault) = check_returned(&said.text, text, is_reliable, others) {
            panic!("{fault}\n{text}\nwas said as\n{}", said.text);
        }
    }

    fn is_repetition(&self, number: usize) -> bool {
        self.requests[number].life(self.turn.incarnation).is_some_and(|life| life.answer.is_some())
    }

    /// The same octets, by datagram: because the request has come again, or because nobody has acknowledged.
    fn repeats_final(&mut self, now: Duration, number: usize, text: &Text) {
        let t2 = self.timers.t2();
        let (cause, incarnation) = (self.turn.cause, self.turn.incarnation);
        let is_invite = self.requests[number].is_invite();
        let since = self.life(number).answer.as_ref().map_or(now, |answer| answer.repeated);
        let was_stalled = self.was_stalled(incarnation, since);
        let life = self.life(number);
        let answer = life.answer.as_mut().expect("it was answered");
        assert_eq!(answer.bytes, text.bytes(), "a second final response");
        assert_eq!(life.source.transport, Transport::Udp, "a final response is repeated on a stream\n{text}");
        let is_acknowledged = life.acknowledged.is_some_and(|at| at < now);
        assert!(!is_invite || !is_acknowledged, "repeated after the ACK\n{text}");
        if cause == Cause::Timer {
            assert!(is_invite, "only a refusal of INVITE is repeated by a timer\n{text}");
            let gap = now - answer.repeated;
            let is_due = gap + MARGIN / 4 >= answer.interval && gap <= answer.interval + MARGIN / 4;
            assert!(is_due || was_stalled, "repeated after {gap:?} instead of {:?}\n{text}", answer.interval);
            answer.repeated = now;
            answer.interval = (answer.interval * 2).min(t2);
            self.coverage.add(Count::FinalsRepeated);
        } else {
            assert_eq!(cause, Cause::Request(number), "repeated without a reason\n{text}");
        }
    }

    /// Each 2xx to INVITE goes up, as often as it comes (§16.7 step 5).
    fn returns_accepted(&mut self, now: Duration, number: usize, text: &Text) {
        self.check_passed_on(number, text, &[]);
        let answer = text.answer_number().expect("it is somebody's");
        let deliveries = self.said[answer].deliveries;
        let (branch, is_first) = (self.said[answer].branch, self.life(number).accepted.is_empty());
        let others = self.life(number).accepted.keys().any(|other| *other != answer);
        let life = self.life(number);
        assert!(life.answer.is_none(), "a 2xx after a refusal\n{text}");
        let count = life.accepted.entry(answer).or_default();
        *count += 1;
        assert!(*count <= deliveries, "a 2xx goes up more often than it came\n{text}");
        life.accepted_at.get_or_insert(now);
        if is_first {
            self.coverage.add(Count::CallsAccepted);
        } else if others && branch.is_some() {
            self.coverage.add(Count::FurtherAccepted);
        }
        if self.life(number).cancelled.is_some() {
            self.coverage.add(Count::AcceptedThoughCancelled);
        }
    }

    /// The one final response.
    fn returns_final(&mut self, now: Duration, number: usize, text: &Text, status: u16) {
        let cause = self.turn.cause;
        let life = self.life(number);
        let is_refusal = cause == Cause::Request(number) && life.branches.is_empty() && life.asked.is_none();
        if is_refusal {
            return self.refuses(now, number, text, status);
        }
        assert!(life.accepted_at.is_none(), "a refusal after a 2xx\n{text}");
        match text.answer_number() {
            Some(answer) => self.check_chosen(now, number, answer, text, status),
            None => self.check_made(now, number, text, status),
        }
        let interval = self.timers.t1();
        let bytes: Bytes = text.bytes().clone();
        self.life(number).answer = Some(Final { bytes, at: now, repeated: now, interval });
    }

    /// Refused without a transaction: each copy of the request gets its own refusal, all of them with the same tag.
    fn refuses(&mut self, now: Duration, number: usize, text: &Text, status: u16) {
        self.check_reason(now, number, text, status);
        let life = self.life(number);
        life.refusals += 1;
        life.refused = Some(status);
        assert!(life.refusals <= life.deliveries, "refused more often than it came\n{text}");
        self.check_tag(number, text);
        if status == 503 {
            self.coverage.add(if self.is_draining { Count::ShutOut } else { Count::Overloaded });
        }
        self.coverage.add(Count::Refused);
    }

    /// Own responses to one request have one tag (§8.2.6.2).
    pub(super) fn check_tag(&mut self, number: usize, text: &Text) {
        let request = &self.requests[number];
        let life = request.life(self.turn.incarnation).expect("it was looked for before");
        if let Err(fault) = check_own(&request.text, life.source.remote, text) {
            panic!("{fault}\n{text}");
        }
        let tag = parameter(text.value(Header::To), "tag").map(str::to_owned);
        let life = self.life(number);
        let first = life.own_tag.get_or_insert_with(|| tag.clone().unwrap_or_default());
        assert_eq!(Some(&*first), tag.as_ref(), "two tags of our own");
    }
}

/// To where the request came from (§18.2.2, RFC 3581 §4).
fn check_destination(request: &Text, source: &Flow, hop: &Flow, alternate: Option<SocketAddr>, text: &Text) {
    let via = request.value(Header::Via);
    let sent_by = via.split([' ', ';']).nth(1).and_then(|sent_by| sent_by.parse::<SocketAddr>().ok());
    let port = sent_by.map_or(source.transport.default_port(), |sent_by| sent_by.port());
    let by_sent_by = SocketAddr::new(source.remote.ip(), port);
    if source.transport == Transport::Udp {
        let remote = if parameter(via, "rport").is_some() { source.remote } else { by_sent_by };
        assert_eq!((hop, alternate), (&Flow { remote, ..*source }, None), "the way back\n{text}");
    } else {
        assert_eq!((hop, alternate), (source, Some(by_sent_by)), "the way back\n{text}");
    }
}
