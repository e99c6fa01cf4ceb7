//! The times at which one connection has to act, and the one timer for all of them.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::End;

/// Between two attempts to hand messages to a Router that is full.
const HELD_RETRY: Duration = Duration::from_millis(5);

/// So many requests in a row for which not an octet comes back show that the peer is gone, though TCP does not know.
const UNANSWERED: u32 = 3;

/// The deadlines. Holds no clock.
#[derive(Debug)]
pub(super) struct Deadlines {
    message_timeout: Duration,
    idle_timeout: Duration,
    answer_timeout: Duration,
    last_traffic: Instant,
    message_since: Option<Instant>,
    stalled_since: Option<Instant>,
    retry_at: Option<Instant>,
    /// Requests since the peer was heard, and when the last of [`UNANSWERED`] left.
    unanswered: (u32, Option<Instant>),
    /// When the connection ends in any case, and why.
    closing: Option<(Instant, End)>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// To offer what is held again.
    Retry,
    /// The end.
    End(End),
}

impl Deadlines {
    pub(super) const fn new(
        now: Instant,
        message_timeout: Duration,
        idle_timeout: Duration,
        answer_timeout: Duration,
    ) -> Self {
        Self {
            message_timeout,
            idle_timeout,
            answer_timeout,
            last_traffic: now,
            message_since: None,
            stalled_since: None,
            retry_at: None,
            unanswered: (0, None),
            closing: None,
        }
    }

    /// Octets came or went.
    pub(super) fn traffic(&mut self, now: Instant) {
        self.last_traffic = now;
    }

    /// So many requests have left.
    pub(super) fn asked(&mut self, now: Instant, requests: u32) {
        let (count, since) = &mut self.unanswered;
        *count = count.saturating_add(requests);
        if *count >= UNANSWERED {
            since.get_or_insert(now);
        }
    }

    /// Something has come from the peer.
    pub(super) const fn heard(&mut self) {
        self.unanswered = (0, None);
    }

    /// Whether a message is on its way in; `is_new` where the one before has been completed meanwhile.
    pub(super) fn inside_message(&mut self, now: Instant, is_inside: bool, is_new: bool) {
        if !is_inside {
            self.message_since = None;
        } else if is_new || self.message_since.is_none() {
            self.message_since = Some(now);
        }
    }

    /// Whether octets wait that the peer does not read; `progress` where it has read some.
    pub(super) fn stalled(&mut self, now: Instant, is_stalled: bool, progress: bool) {
        if !is_stalled {
            self.stalled_since = None;
        } else if progress || self.stalled_since.is_none() {
            self.stalled_since = Some(now);
        }
    }

    /// Whether messages are held for a Router. While they are, the peer is not blamed for the time of its message.
    pub(super) fn held(&mut self, now: Instant, is_held: bool) {
        self.retry_at = is_held.then(|| now + HELD_RETRY);
        if is_held {
            // What it answers is not read meanwhile.
            self.heard();
        }
        if is_held && self.message_since.is_some() {
            self.message_since = Some(now);
        }
    }

    /// The connection ends at `at`, if not before.
    pub(super) fn close_at(&mut self, at: Instant, end: End) {
        self.closing = Some((at, end));
    }

    /// What is due next, and when.
    pub(super) fn next(&self) -> (Instant, Due) {
        let idle = (self.last_traffic + self.idle_timeout, Due::End(End::IdleTimeout));
        let others = [
            self.retry_at.map(|at| (at, Due::Retry)),
            self.message_since.map(|since| (since + self.message_timeout, Due::End(End::MessageTimeout))),
            self.stalled_since.map(|since| (since + self.message_timeout, Due::End(End::WriteTimeout))),
            self.unanswered.1.map(|since| (since + self.answer_timeout, Due::End(End::Unanswered))),
            self.closing.map(|(at, end)| (at, Due::End(end))),
        ];
        others.into_iter().flatten().fold(idle, |next, other| if other.0 < next.0 { other } else { next })
    }

    /// What is due now.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        let (at, due) = self.next();
        (at <= now).then_some(due)
    }
}

/// The timer. Traffic moves the idle deadline with every message; the timer stays where it is, and finds out when it
/// fires.
#[derive(Debug)]
pub(super) struct Timer(Pin<Box<Sleep>>);

impl Timer {
    pub(super) fn new(at: Instant) -> Self {
        Self(Box::pin(sleep_until(at)))
    }

    /// Makes the task of `cx` run again at `at`, or before that.
    pub(super) fn arm(&mut self, at: Instant, cx: &mut Context<'_>) {
        if at < self.0.deadline() || self.0.is_elapsed() {
            self.0.as_mut().reset(at);
        }
        while self.0.as_mut().poll(cx).is_ready() {
            if at <= Instant::now() {
                cx.waker().wake_by_ref();
                return;
            }
            self.0.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(600);
    const ANSWER: Duration = Duration::from_secs(32);
    const SECOND: Duration = Duration::from_secs(1);

    fn deadlines() -> (Instant, Deadlines) {
        let start = Instant::now();
        (start, Deadlines::new(start, MESSAGE, IDLE, ANSWER))
    }

    #[test]
    fn traffic_moves_the_idle_deadline_alone() {
        let (start, mut deadlines) = deadlines();
        assert_eq!(deadlines.next(), (start + IDLE, Due::End(End::IdleTimeout)));
        deadlines.inside_message(start, true, false);
        deadlines.traffic(start + SECOND);
        deadlines.inside_message(start + SECOND, true, false);
        assert_eq!(deadlines.next(), (start + MESSAGE, Due::End(End::MessageTimeout)));
        deadlines.inside_message(start + 2 * SECOND, true, true);
        assert_eq!(deadlines.next(), (start + 2 * SECOND + MESSAGE, Due::End(End::MessageTimeout)));
        deadlines.inside_message(start + 3 * SECOND, false, true);
        assert_eq!(deadlines.next(), (start + SECOND + IDLE, Due::End(End::IdleTimeout)));
    }

    #[test]
    fn a_peer_that_reads_has_its_time_anew() {
        let (start, mut deadlines) = deadlines();
        deadlines.stalled(start, true, false);
        deadlines.stalled(start + SECOND, true, false);
        assert_eq!(deadlines.next(), (start + MESSAGE, Due::End(End::WriteTimeout)));
        deadlines.stalled(start + 2 * SECOND, true, true);
        assert_eq!(deadlines.next(), (start + 2 * SECOND + MESSAGE, Due::End(End::WriteTimeout)));
        deadlines.stalled(start + 3 * SECOND, false, true);
        assert_eq!(deadlines.next().1, Due::End(End::IdleTimeout));
    }

    #[test]
    fn a_full_router_is_not_the_peers_fault() {
        let (start, mut deadlines) = deadlines();
        deadlines.inside_message(start, true, false);
        deadlines.held(start + MESSAGE, true);
        assert_eq!(deadlines.due(start + MESSAGE), None);
        assert_eq!(deadlines.due(start + MESSAGE + HELD_RETRY), Some(Due::Retry));
        deadlines.held(start + MESSAGE + HELD_RETRY, false);
        assert_eq!(deadlines.next(), (start + 2 * MESSAGE, Due::End(End::MessageTimeout)));
    }

    #[test]
    fn a_peer_that_leaves_three_requests_unanswered_is_gone() {
        let (start, mut deadlines) = deadlines();
        deadlines.asked(start, 2);
        assert_eq!(deadlines.next().1, Due::End(End::IdleTimeout));
        deadlines.asked(start + SECOND, 1);
        deadlines.asked(start + 2 * SECOND, 1);
        assert_eq!(deadlines.next(), (start + SECOND + ANSWER, Due::End(End::Unanswered)));
        deadlines.heard();
        deadlines.asked(start + 3 * SECOND, 2);
        assert_eq!(deadlines.next().1, Due::End(End::IdleTimeout));
        deadlines.asked(start + 4 * SECOND, 1);
        assert_eq!(deadlines.next().1, Due::End(End::Unanswered));
        deadlines.held(start + 4 * SECOND, true);
        deadlines.held(start + 4 * SECOND, false);
        assert_eq!(deadlines.next().1, Due::End(End::IdleTimeout));
    }

    #[test]
    fn a_connection_that_closes_has_an_end() {
        let (start, mut deadlines) = deadlines();
        deadlines.close_at(start + SECOND, End::PeerClosed);
        assert_eq!(deadlines.due(start), None);
        assert_eq!(deadlines.due(start + SECOND), Some(Due::End(End::PeerClosed)));
    }
}
