//! The end of the process, in order: nothing begins any more, what has begun may end, what is to be kept is written.
//!
//! | asked by | waits for what has begun |
//! |---|---|
//! | `drain` | as long as it takes |
//! | SIGTERM, SIGINT, `stop`; also after `drain` | for `service.drain_timeout` |
//! | the same once more | not at all |
//!
//! What begins in a dialog meanwhile is served, and waited for a moment ([`LAST_WORDS`]) once all else has ended: a
//! deployment with many dialogs would never end otherwise. Actors that fail are rebuilt until the very end.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use futures_util::future::{Either, select};
use slog::{info, warn};

use super::{Supervisor, end};
use crate::actors::directory::RouterAddress;
use crate::actors::journal::Finish;
use crate::actors::router::Drain;
use crate::protocol::proxy::Unfinished;

/// Between two looks at what is left.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long requests are waited for that have begun in dialogs since.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Between two lines about what is left.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// How long it may take to write what is to be kept.
const FINISH_TIME: Duration = Duration::from_secs(5);

/// What the service manager allows for beyond what is known to be needed.
const MARGIN: Duration = Duration::from_secs(10);

/// End the process. From the control socket.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop {
    /// Wait for what has begun, however long that takes.
    pub drain: bool,
}

/// A signal has come that asks for the end.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
struct Signalled(&'static str);

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Running,
    /// Nothing begins; what has begun is waited for.
    Draining,
    /// The same, until then.
    Limited(Instant),
    /// Nothing is waited for any more.
    Ending,
}

impl Stage {
    /// What follows when somebody asks for the end: with `drain` without a hurry, else by `limit` at the latest.
    const fn asked(self, drain: bool, limit: Instant) -> Self {
        match (self, drain) {
            (Self::Running, true) => Self::Draining,
            (Self::Running | Self::Draining, false) => Self::Limited(limit),
            (Self::Limited(_), false) => Self::Ending,
            (Self::Draining | Self::Limited(_) | Self::Ending, true) | (Self::Ending, false) => self,
        }
    }
}

/// The end, as the supervisor remembers it.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    stage: Stage,
    /// When what is left was told last, and what that was.
    told: Option<Instant>,
    left: usize,
    /// Since when only what began later is waited for.
    last_words: Option<Instant>,
}

impl Stopping {
    /// Nothing begins any more.
    pub(super) fn is_asked_for(&self) -> bool {
        self.stage != Stage::Running
    }

    /// The actors end with the process; none is rebuilt.
    pub(super) fn is_ending(&self) -> bool {
        self.stage == Stage::Ending
    }

    /// Nothing is waited for.
    pub(super) const fn at_once(&mut self) {
        self.stage = Stage::Ending;
    }

    /// How long it may still take, as far as that is known.
    fn longest(&self, now: Instant) -> Duration {
        let limit = match self.stage {
            Stage::Limited(limit) => limit.saturating_duration_since(now),
            Stage::Running | Stage::Draining | Stage::Ending => Duration::ZERO,
        };
        limit + FINISH_TIME + MARGIN
    }

    /// Whether all is over that is waited for.
    fn is_over(&mut self, left: Unfinished, now: Instant) -> bool {
        self.left = left.begun + left.since;
        if left.begun > 0 {
            return false;
        }
        let since = *self.last_words.get_or_insert(now);
        left.since == 0 || now.saturating_duration_since(since) >= LAST_WORDS
    }

    /// Whether it is time to tell what is left.
    fn is_to_be_told(&mut self, now: Instant) -> bool {
        let is_due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_INTERVAL);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }
}

impl Supervisor {
    /// From now on, SIGTERM and SIGINT ask for the end.
    pub(super) fn heed_signals(&self, ctx: &mut Context<Self>) {
        use tokio::signal::unix::{SignalKind, signal};
        let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        // Without handlers the signals end the process as they always did.
        let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else { return };
        let supervisor = ctx.address();
        let heed = async move {
            loop {
                let signal = match select(pin!(terminate.recv()), pin!(interrupt.recv())).await {
                    Either::Left(_) => "SIGTERM",
                    Either::Right(_) => "SIGINT",
                };
                supervisor.do_send(Signalled(signal));
            }
        };
        ctx.spawn(heed.into_actor(self));
    }

    fn ask_for_the_end(&mut self, drain: bool, reason: &'static str, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let patience = self.parts.config.service.drain_timeout;
        let before = self.stopping.stage;
        self.stopping.stage = before.asked(drain, now + patience);
        if self.stopping.stage == before {
            return;
        }
        match self.stopping.stage {
            Stage::Running => {}
            Stage::Draining => {
                info!(self.log, "stopping"; "reason" => reason, "seconds" => "as many as it takes");
            }
            Stage::Limited(_) => {
                info!(self.log, "stopping"; "reason" => reason, "seconds" => patience.as_secs());
                ctx.run_later(patience, Self::out_of_patience);
            }
            Stage::Ending => {
                warn!(self.log, "stopping"; "reason" => reason, "seconds" => 0, "left" => self.stopping.left);
                self.finish(ctx);
            }
        }
        self.stopping.told = None;
        if before == Stage::Running {
            self.look_what_is_left(ctx);
        }
    }

    /// Asks the Routers, again and again. One that is stuck does not answer; the deadline comes nevertheless.
    fn look_what_is_left(&self, ctx: &mut Context<Self>) {
        let retry_after = match self.stopping.stage {
            Stage::Limited(limit) => limit.saturating_duration_since(Instant::now()),
            Stage::Running | Stage::Draining | Stage::Ending => self.parts.config.service.drain_timeout,
        };
        let retry_after = u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let routers: Vec<_> = self.routers().collect();
        let left = async move { unfinished(&routers, retry_after).await }.into_actor(self);
        ctx.spawn(left.map(|left, supervisor, ctx| supervisor.judge(left, ctx)));
    }

    fn judge(&mut self, left: Unfinished, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.stopping.is_ending() {
            return;
        }
        if self.stopping.is_over(left, now) {
            self.stopping.at_once();
            // What was answered last is on its way out.
            ctx.run_later(LOOK_INTERVAL, |supervisor, ctx| supervisor.finish(ctx));
            return;
        }
        if self.stopping.is_to_be_told(now) {
            let left = self.stopping.left;
            info!(self.log, "draining"; "left" => left);
            let line = format!("stopping: {} left to answer", super::notify::count(left, "request"));
            self.manager.stopping(line, self.stopping.longest(now));
        }
        ctx.run_later(LOOK_INTERVAL, |supervisor, ctx| supervisor.look_what_is_left(ctx));
    }

    fn out_of_patience(&mut self, ctx: &mut Context<Self>) {
        if !self.stopping.is_ending() {
            warn!(self.log, "drain_incomplete"; "left" => self.stopping.left,
                "remedy" => "clients repeat it; a longer service.drain_timeout would wait for it");
            self.stopping.at_once();
            self.finish(ctx);
        }
    }

    /// Has written what is to be kept, and ends the process.
    fn finish(&mut self, ctx: &mut Context<Self>) {
        self.manager.stopping("stopping".to_owned(), self.stopping.longest(Instant::now()));
        let directory = Arc::clone(&self.parts.directory);
        let ended = async move {
            let registrar = directory.registrar().as_deref().map(|registrar| registrar.finish.clone());
            if let Some(registrar) = registrar {
                // A disk that takes longer may have its reasons, but is not waited for.
                let _ = actix::clock::timeout(FINISH_TIME, registrar.send(Finish)).await;
            }
            end(&directory, 0);
        };
        ctx.spawn(ended.into_actor(self));
    }
}

/// What the Routers have still to do. One that is gone has nothing.
async fn unfinished(routers: &[Arc<RouterAddress>], retry_after: u32) -> Unfinished {
    let mut sum = Unfinished::default();
    for router in routers {
        sum += router.drain.send(Drain { retry_after }).await.unwrap_or_default();
    }
    sum
}

impl Handler<Stop> for Supervisor {
    type Result = ();

    fn handle(&mut self, Stop { drain }: Stop, ctx: &mut Context<Self>) {
        self.ask_for_the_end(drain, if drain { "drain" } else { "stop" }, ctx);
    }
}

impl Handler<Signalled> for Supervisor {
    type Result = ();

    fn handle(&mut self, Signalled(signal): Signalled, ctx: &mut Context<Self>) {
        self.ask_for_the_end(false, signal, ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_request_for_the_end_is_more_urgent_than_the_one_before() {
        let now = Instant::now();
        let (limit, later) = (Stage::Limited(now), now + SECOND);
        let table = [
            (Stage::Running, true, Stage::Draining),
            (Stage::Running, false, Stage::Limited(later)),
            (Stage::Draining, true, Stage::Draining),
            (Stage::Draining, false, Stage::Limited(later)),
            (limit, true, limit),
            (limit, false, Stage::Ending),
            (Stage::Ending, true, Stage::Ending),
            (Stage::Ending, false, Stage::Ending),
        ];
        for (before, drain, after) in table {
            assert_eq!(before.asked(drain, later), after, "{before:?} {drain}");
        }
    }

    #[test]
    fn what_began_before_is_waited_for_and_what_came_since_for_a_moment() {
        let start = Instant::now();
        let left = |begun, since| Unfinished { begun, since };
        // At so many tenths of a second: what is left, and whether that is the end.
        let table: [&[(u32, Unfinished, bool)]; 4] = [
            &[(0, left(0, 0), true)],
            &[(0, left(2, 0), false), (600, left(1, 9), false), (601, left(0, 0), true)],
            &[(0, left(0, 3), false), (19, left(0, 5), false), (20, left(0, 5), true)],
            &[
                (0, left(1, 3), false),
                (50, left(0, 1), false),
                (69, left(0, 1), false),
                (70, left(0, 1), true),
            ],
        ];
        for rows in table {
            let mut stopping = Stopping::default();
            for (tenths, left, is_over) in rows {
                assert_eq!(
                    stopping.is_over(*left, start + SECOND / 10 * *tenths),
                    *is_over,
                    "{rows:?} {tenths}"
                );
            }
        }
    }

    #[test]
    fn what_is_left_is_told_every_five_seconds_and_the_service_manager_waits_long_enough() {
        let start = Instant::now();
        let mut stopping = Stopping::default();
        let told: Vec<_> =
            (0..12).filter(|second| stopping.is_to_be_told(start + SECOND * *second)).collect();
        assert_eq!(told, [0, 5, 10]);
        stopping.stage = Stage::Draining;
        assert!(stopping.longest(start) > 2 * TELL_INTERVAL);
        stopping.stage = Stage::Limited(start + 32 * SECOND);
        assert!(stopping.longest(start + 2 * SECOND) > 30 * SECOND + FINISH_TIME);
        assert!(stopping.is_asked_for() && !stopping.is_ending());
    }
}
