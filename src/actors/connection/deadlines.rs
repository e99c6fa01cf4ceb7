//! The times at which one connection has to act, behind one timer.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::End;

/// Between two attempts to hand messages to a Router that is full.
const HELD_RETRY: Duration = Duration::from_millis(5);

/// The deadlines, and the timer that is due at the earliest of them or before.
///
/// Traffic moves the idle deadline with every message; the timer is left where it is and finds out when it fires.
#[derive(Debug)]
pub(super) struct Deadlines {
    message_timeout: Duration,
    idle_timeout: Duration,
    last_traffic: Instant,
    message_since: Option<Instant>,
    stalled_since: Option<Instant>,
    retry_at: Option<Instant>,
    /// What the connection ends at in any case, and why.
    closing: Option<(Instant, End)>,
    timer: Pin<Box<Sleep>>,
}

impl Deadlines {
    pub(super) fn new(now: Instant, message_timeout: Duration, idle_timeout: Duration) -> Self {
        Self {
            message_timeout,
            idle_timeout,
            last_traffic: now,
            message_since: None,
            stalled_since: None,
            retry_at: None,
            closing: None,
            timer: Box::pin(sleep_until(now + idle_timeout)),
        }
    }

    /// Octets came or went.
    pub(super) fn traffic(&mut self, now: Instant) {
        self.last_traffic = now;
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

    /// Whether messages are held for a Router. While they are, the peer cannot be blamed for its message's time.
    pub(super) fn held(&mut self, now: Instant, is_held: bool) {
        self.retry_at = is_held.then(|| now + HELD_RETRY);
        if is_held && self.message_since.is_some() {
            self.message_since = Some(now);
        }
    }

    /// Whether it is time to offer what is held.
    pub(super) fn is_retry_due(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| at <= now)
    }

    /// The connection ends at `at`, if not before.
    pub(super) fn close_at(&mut self, at: Instant, end: End) {
        self.closing = Some((at, end));
    }

    /// Ready when something is due: with the reason to end, or with `None` for a retry.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        loop {
            let (next, end) = self.next();
            // An early timer finds out below; a late one is moved, and so is one that has fired.
            if next < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(next);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if next <= Instant::now() {
                return Poll::Ready(end);
            }
        }
    }

    fn next(&self) -> (Instant, Option<End>) {
        let candidates = [
            Some((self.last_traffic + self.idle_timeout, Some(End::IdleTimeout))),
            self.message_since.map(|since| (since + self.message_timeout, Some(End::MessageTimeout))),
            self.stalled_since.map(|since| (since + self.message_timeout, Some(End::WriteTimeout))),
            self.retry_at.map(|at| (at, None)),
            self.closing.map(|(at, end)| (at, Some(end))),
        ];
        let earliest = candidates.into_iter().flatten().min_by_key(|(at, _)| *at);
        earliest.unwrap_or((self.last_traffic + self.idle_timeout, Some(End::IdleTimeout)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(600);

    fn after(deadlines: &mut Deadlines) -> impl Future<Output = Option<End>> {
        std::future::poll_fn(|cx| deadlines.poll(cx))
    }

    #[actix::test]
    async fn the_earliest_deadline_wins() {
        tokio::time::pause();
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, MESSAGE, IDLE);
        deadlines.traffic(start + IDLE / 2);
        assert_eq!(after(&mut deadlines).await, Some(End::IdleTimeout));
        assert_eq!(start.elapsed(), IDLE + IDLE / 2);

        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, MESSAGE, IDLE);
        deadlines.inside_message(start, true, false);
        deadlines.inside_message(start + MESSAGE / 2, true, false);
        assert_eq!(after(&mut deadlines).await, Some(End::MessageTimeout));
        assert_eq!(start.elapsed(), MESSAGE);

        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, MESSAGE, IDLE);
        deadlines.inside_message(start, true, false);
        deadlines.inside_message(start + MESSAGE / 2, true, true);
        deadlines.stalled(start, true, false);
        assert_eq!(after(&mut deadlines).await, Some(End::WriteTimeout));
        deadlines.stalled(start, false, false);
        assert_eq!(after(&mut deadlines).await, Some(End::MessageTimeout));
        assert_eq!(start.elapsed(), MESSAGE + MESSAGE / 2);
    }

    #[actix::test]
    async fn a_full_router_is_not_the_peers_fault() {
        tokio::time::pause();
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, MESSAGE, IDLE);
        deadlines.inside_message(start, true, false);
        while start.elapsed() < 2 * MESSAGE {
            deadlines.held(Instant::now(), true);
            assert_eq!(after(&mut deadlines).await, None);
            assert!(deadlines.is_retry_due(Instant::now()));
        }
        let released = Instant::now();
        deadlines.held(released, false);
        assert_eq!(after(&mut deadlines).await, Some(End::MessageTimeout));
        assert!(released.elapsed() <= MESSAGE && released.elapsed() > MESSAGE - 2 * HELD_RETRY);
    }
}
