//! The Registrar and the Journal: what is kept of bindings, and what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::fut::{ActorFutureExt as _, WrapFuture as _};
use actix::prelude::*;
use slog::{info, warn};
use tokio::time::{sleep, timeout};

use super::outbox::Departure;
use super::{FlowStanding, Registrar, RegistrarBegun, TellAll};
use crate::actors::journal::{Entry, Finish, Keep, Kept, Load, ToldAll};
use crate::actors::router::RegistrarRestarted;
use crate::config::Durability;
use crate::protocol::location::{LocationEvent, Moment, Restored, Surroundings, Walk};

/// How long a Registrar that begins waits for what is kept. A store that takes longer has failed; its registrations
/// are given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two attempts to reach a Journal that is being restarted.
const RETRY: Duration = Duration::from_millis(50);

/// Addresses-of-record that are restored before others have a turn.
const RESTORED_AT_ONCE: usize = 1_000;

/// Addresses-of-record that are told at a time when all are, and the time between: questions come first.
const TOLD_AT_ONCE: usize = 500;
const TELLING_INTERVAL: Duration = Duration::from_millis(2);

/// Telling everything, under way.
pub(super) struct Telling {
    segment: u64,
    rest: Option<Walk>,
}

/// Restoring, under way.
struct Restoring {
    kept: std::vec::IntoIter<Entry>,
    restored: Restored,
    damaged: usize,
    begun: Instant,
}

/// Keeping.
impl Registrar {
    /// Whether changes find room in the Journal. While that is being restarted, nothing does: it is told everything
    /// afterwards, but an answer would come too early.
    pub(super) fn has_room(&self) -> bool {
        self.directory.journal().as_deref().is_some_and(|journal| journal.backlog.has_room())
    }

    /// Sees to it that what has changed is kept: soon where answers wait for it.
    pub(super) fn keep(&mut self, ctx: &mut Context<Self>) {
        if self.core.changes() == 0 {
            return;
        }
        let now = Instant::now();
        let by = match self.outbox.changed(now, self.durability) {
            Departure::Now => return self.hand_over(ctx),
            Departure::By(by) => by,
        };
        if self.departure.is_none_or(|(armed, _)| armed > by) {
            let later = ctx.run_later(by - now, |registrar, ctx| {
                registrar.departure = None;
                registrar.hand_over(ctx);
            });
            if let Some((_, earlier)) = self.departure.replace((by, later)) {
                ctx.cancel_future(earlier);
            }
        }
    }

    /// Writes what has changed, or hands it over to the Journal; the answers that depend on it leave then.
    fn hand_over(&mut self, ctx: &mut Context<Self>) {
        if self.core.changes() == 0 {
            return;
        }
        let at = moment();
        let answers = self.outbox.take(at.now);
        if let Some((_, handle)) = self.departure.take() {
            ctx.cancel_future(handle);
        }
        let changes = self.core.take_changes(at);
        let journal = self.directory.journal();
        let Some(journal) = journal.as_deref() else { return };
        let durability = self.durability;
        if durability == Durability::Process && !answers.is_empty() && journal.write(&changes) {
            for (router, answers) in answers.into_iter().enumerate() {
                self.answer(router, answers);
            }
            return;
        }
        journal.backlog.add(changes.size());
        journal.keep.do_send(Keep { changes, answers, durability });
    }

    /// Tells some more of everything, if the Journal has room for it.
    fn tell_more(&mut self, ctx: &mut Context<Self>) {
        let Some(Telling { segment, rest }) = self.telling.take() else { return };
        let rest = match rest {
            Some(walk) if self.has_room() => self.core.repeat(walk, TOLD_AT_ONCE),
            rest => rest,
        };
        self.hand_over(ctx);
        if rest.is_some() {
            self.telling = Some(Telling { segment, rest });
            ctx.run_later(TELLING_INTERVAL, Self::tell_more);
        } else if let Some(journal) = self.directory.journal().as_deref() {
            journal.told_all.do_send(ToldAll { segment });
        }
    }
}

/// Coming back.
impl Registrar {
    /// Has the Routers begin anew with this Registrar. What they answer waits in the mailbox until everything is
    /// restored; what is restored reaches them after this.
    pub(super) fn introduce(&self, ctx: &Context<Self>) {
        for router in 0..self.directory.router_count() {
            if let Some(address) = self.directory.router(router).as_deref() {
                let questions = ctx.address().recipient();
                address.registrar_restarted.do_send(RegistrarRestarted { questions });
            }
        }
    }

    /// Reads what is kept, before anything else is done.
    pub(super) fn load(&self, ctx: &mut Context<Self>) {
        let (directory, registrar) = (Arc::clone(&self.directory), ctx.address().recipient());
        let asked = async move {
            loop {
                let journal = directory.journal().as_deref().map(|journal| journal.load.clone());
                if let Some(journal) = journal
                    && let Ok(kept) = journal.send(Load { registrar: registrar.clone() }).await
                {
                    return kept;
                }
                sleep(RETRY).await;
            }
        };
        let begun = Instant::now();
        ctx.wait(timeout(PATIENCE, asked).into_actor(self).map(move |kept, registrar, ctx| {
            let Ok(Kept { entries, damaged }) = kept else {
                warn!(registrar.log, "registrations_lost"; "reason" => "the store did not answer in time");
                registrar.begun.do_send(RegistrarBegun);
                return;
            };
            let kept = entries.into_iter();
            registrar.restore(Restoring { kept, restored: Restored::default(), damaged, begun }, ctx);
        }));
    }

    /// Restores some of what was kept, then lets others have a turn; its own mailbox waits.
    fn restore(&mut self, mut restoring: Restoring, ctx: &mut Context<Self>) {
        let (at, directory) = (moment(), Arc::clone(&self.directory));
        let around = Surroundings {
            interfaces: &self.interfaces,
            is_open: &|connection| directory.connection(connection).is_some(),
        };
        for (name, value) in restoring.kept.by_ref().take(RESTORED_AT_ONCE) {
            self.core.restore(at, &name, &value, &around, &mut restoring.restored);
        }
        // Who is logged on again is told to the Routers, and in sum to the log.
        while let Some(event) = self.core.poll_event() {
            if let LocationEvent::LoggedOn { flow, account, passes } = event {
                self.broadcast(FlowStanding { flow, account: passes.then_some(account), is_gone: false });
            }
        }
        if restoring.kept.len() > 0 {
            let pause = tokio::task::yield_now().into_actor(self);
            ctx.wait(pause.map(|(), registrar, ctx| registrar.restore(restoring, ctx)));
            return;
        }
        self.tell_restored(&restoring);
        self.begun.do_send(RegistrarBegun);
        self.settle(ctx);
    }

    fn tell_restored(&self, restoring: &Restoring) {
        let Restored { bindings, expired, dropped, unreadable } = restoring.restored;
        let damaged = restoring.damaged + unreadable;
        if damaged > 0 {
            warn!(self.log, "registrations_damaged"; "places" => damaged,
                "remedy" => "the others are there; look after the disk of service.state_directory");
        }
        if bindings + expired + dropped > 0 {
            info!(self.log, "registrations_restored"; "bindings" => bindings, "expired" => expired,
                "dropped" => dropped, "milliseconds" => restoring.begun.elapsed().as_millis() as u64);
        }
    }
}

impl Handler<TellAll> for Registrar {
    type Result = ();

    fn handle(&mut self, TellAll { segment }: TellAll, ctx: &mut Context<Self>) {
        let is_telling = self.telling.is_some();
        self.telling = Some(Telling { segment, rest: self.core.walk() });
        if !is_telling {
            self.tell_more(ctx);
        }
    }
}

impl Handler<Finish> for Registrar {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Finish, ctx: &mut Context<Self>) -> ResponseFuture<()> {
        self.hand_over(ctx);
        let journal = self.directory.journal().as_deref().map(|journal| journal.finish.clone());
        Box::pin(async move {
            if let Some(journal) = journal {
                // One that has ended has nothing to write.
                let _ = journal.send(Finish).await;
            }
        })
    }
}

/// Now, by both clocks.
fn moment() -> Moment {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment { now: Instant::now(), unix_millis: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX) }
}
