//! A connection whose stream is ready: both directions, from the first octet to the last.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use super::codec::Broken;
use super::deadlines::{Deadlines, Due, Timer};
use super::inbox::{Inbox, poll_discard};
use super::outbox::Outbox;
use super::stream::Stream;
use super::{ConnectionSettings, End};
use crate::actors::directory::Admission;
use crate::actors::messages::Outgoing;
use crate::actors::tls::Outdated;
use crate::actors::trace::Direction;
use crate::protocol::flow::Flow;
use crate::protocol::identity::PeerProof;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::{Message, Method, Name};

/// Reads in one turn; then other actors of the Arbiter have theirs.
const READS_PER_TURN: usize = 4;

/// How long a peer that has closed its side still gets its responses: the longest that a request can stay
/// unanswered, 64*T1 (RFC 3261 §17.1.2.2).
const HALF_CLOSED_GRACE: Duration = Duration::from_secs(32);

/// How long a peer has to take the last words of a connection that ends. Without the wait, octets of the peer that
/// nobody has read would make the system discard them.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// What there is once the stream is ready.
#[derive(Debug)]
pub(super) struct Open {
    stream: Stream,
    flow: Flow,
    proof: Option<Arc<PeerProof>>,
    inbox: Inbox,
    deadlines: Deadlines,
    timer: Timer,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Both directions.
    Duplex,
    /// The peer has closed its side; it gets the responses that it awaits.
    HalfClosed,
    /// Nothing is read any more; what is queued is written, then our side is closed.
    Farewell(End),
    /// Our side is closed; the peer's close is awaited.
    Closed(End),
}

impl Open {
    /// With both directions open.
    pub(super) fn new(
        stream: Stream,
        flow: Flow,
        proof: Option<Arc<PeerProof>>,
        settings: &ConnectionSettings,
    ) -> Self {
        let deadlines = Deadlines::new(
            Instant::now(),
            settings.message_timeout,
            settings.idle_timeout,
            settings.answer_timeout,
        );
        Self {
            stream,
            flow,
            proof,
            inbox: Inbox::new(settings.transport, settings.message_limits),
            timer: Timer::new(deadlines.next().0),
            deadlines,
            stage: Stage::Duplex,
        }
    }

    pub(super) const fn flow(&self) -> Flow {
        self.flow
    }

    /// Takes what of new settings concerns it already. Why it must end, where what its peer has proven counts no longer.
    pub(super) fn reconfigure(&mut self, settings: &ConnectionSettings) -> Option<End> {
        self.inbox.set_limits(settings.message_limits);
        let connection = self.stream.tls_state()?;
        let (tls, proof) = settings.tls.as_ref().zip(self.proof.as_ref())?;
        match tls.review(connection, proof)? {
            Outdated::Revoked => Some(End::Revoked),
            Outdated::Account => Some(End::AccountGone),
        }
    }

    /// Nothing is read any more: what is queued is written, and that is the end.
    pub(super) fn take_leave(&mut self, end: End) {
        if matches!(self.stage, Stage::Duplex | Stage::HalfClosed) {
            self.stage = Stage::Farewell(end);
            self.deadlines.close_at(Instant::now() + FAREWELL, end);
        }
    }

    /// `message` as it leaves.
    pub(super) fn send(&mut self, message: Outgoing) -> Outgoing {
        Outgoing { bytes: self.inbox.send(message.bytes), ..message }
    }

    /// Whether there is a point in sending `message`: a peer that has closed its side cannot answer a request.
    pub(super) fn takes(&self, message: &Outgoing) -> bool {
        match self.stage {
            Stage::Duplex => true,
            Stage::HalfClosed => message.branch.is_none(),
            Stage::Farewell(_) | Stage::Closed(_) => false,
        }
    }

    /// Goes as far as it can. An error ends the connection.
    pub(super) fn turn(
        &mut self,
        settings: &ConnectionSettings,
        admission: &Admission,
        outbox: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Result<(), End> {
        let now = Instant::now();
        match self.deadlines.due(now) {
            Some(Due::End(end)) => return Err(end),
            Some(Due::Retry) => {
                let has_room = self.inbox.offer_held(&settings.directory);
                self.deadlines.held(now, !has_room);
            }
            None => {}
        }
        self.read(settings, admission, outbox, now, cx)?;
        self.write(outbox, now, cx)?;
        self.say_farewell(outbox, now, cx)?;
        self.timer.arm(self.deadlines.next().0, cx);
        Ok(())
    }

    fn read(
        &mut self,
        settings: &ConnectionSettings,
        admission: &Admission,
        outbox: &mut Outbox,
        now: Instant,
        cx: &mut TaskContext<'_>,
    ) -> Result<(), End> {
        for _ in 0..READS_PER_TURN {
            if self.stage != Stage::Duplex || self.inbox.is_held() {
                return Ok(());
            }
            let Poll::Ready(read) = self.inbox.poll_read(&mut self.stream, cx) else {
                return Ok(());
            };
            match read {
                Ok(0) => {
                    self.half_close(admission, now);
                    return Ok(());
                }
                Ok(_) => self.take(settings, outbox, now),
                Err(error) => return Err(error.into()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Takes what was read.
    fn take(&mut self, settings: &ConnectionSettings, outbox: &mut Outbox, now: Instant) {
        self.deadlines.traffic(now);
        self.deadlines.heard();
        let outcome = self.inbox.deliver(self.flow, self.proof.as_ref(), &settings.directory);
        self.deadlines.inside_message(now, self.inbox.is_inside_message(), self.inbox.has_completed());
        self.deadlines.held(now, self.inbox.is_held());
        if let Some(answers) = self.inbox.take_answers() {
            // A full queue has no room for them: a peer that does not read needs no answer.
            let _ = outbox.push_own(answers);
        }
        if let Err(broken) = outcome {
            let end = self.refuse(broken, settings, outbox);
            self.stage = Stage::Farewell(end);
            self.deadlines.close_at(now + FAREWELL, end);
        }
    }

    /// Answers the message behind which nothing can be read, where it is a request that can be answered, and says
    /// the last words. A full queue has no room for either; then the peer, which does not read, is told by the end of
    /// the stream alone.
    fn refuse(&mut self, broken: Broken, settings: &ConnectionSettings, outbox: &mut Outbox) -> End {
        if let (End::Refused(fault), Some(message)) = (broken.end, broken.refused) {
            let trace = settings.directory.trace();
            trace.show(Direction::In, &self.flow, &[], message.bytes());
            if is_answerable(&message) {
                let (status, reason) = fault.response();
                let tag = settings.directory.tag_for(message.call_id());
                let reply =
                    Reply::with_reason(status, reason).write(&message, self.flow.remote, tag.as_bytes());
                trace.show(Direction::Out, &self.flow, &[], &reply);
                let _ = outbox.push_own(self.inbox.send(reply));
            }
        }
        if let Some(close) = broken.close {
            let _ = outbox.push_own(close);
        }
        broken.end
    }

    /// The peer has closed its side.
    fn half_close(&mut self, admission: &Admission, now: Instant) {
        admission.forget_peer();
        if self.inbox.owes_response() {
            self.stage = Stage::HalfClosed;
            self.deadlines.close_at(now + HALF_CLOSED_GRACE, End::PeerClosed);
        } else {
            self.stage = Stage::Farewell(End::PeerClosed);
            self.deadlines.close_at(now + FAREWELL, End::PeerClosed);
        }
    }

    fn write(&mut self, outbox: &mut Outbox, now: Instant, cx: &mut TaskContext<'_>) -> Result<(), End> {
        let mut progress = false;
        let written = outbox.poll_write(&mut self.stream, cx, &mut progress);
        if progress {
            self.deadlines.traffic(now);
            self.deadlines.asked(now, outbox.take_requests());
        }
        self.deadlines.stalled(now, written.is_pending(), progress);
        match written {
            Poll::Ready(Err(error)) => Err(End::Failed(error.kind())),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Closes our side once there is nothing more to say, then awaits the peer's.
    fn say_farewell(&mut self, outbox: &Outbox, now: Instant, cx: &mut TaskContext<'_>) -> Result<(), End> {
        if self.stage == Stage::HalfClosed && outbox.is_empty() && !self.inbox.owes_response() {
            self.stage = Stage::Farewell(End::PeerClosed);
            self.deadlines.close_at(now + FAREWELL, End::PeerClosed);
        }
        if let Stage::Farewell(end) = self.stage
            && outbox.is_empty()
        {
            match Pin::new(&mut self.stream).poll_shutdown(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(end),
                Poll::Ready(Ok(())) => self.stage = Stage::Closed(end),
            }
        }
        if let Stage::Closed(end) = self.stage {
            for _ in 0..READS_PER_TURN {
                match poll_discard(&mut self.stream, cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(0) | Err(_)) => return Err(end),
                    Poll::Ready(Ok(_)) => {}
                }
            }
            cx.waker().wake_by_ref();
        }
        Ok(())
    }
}

/// Whether `message` is a request that has what a response copies (RFC 3261 §8.2.6).
fn is_answerable(message: &Message) -> bool {
    let copied = [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq];
    message.method().is_some_and(|method| method != Method::Ack)
        && copied.into_iter().all(|name| message.row(name).is_some())
}
