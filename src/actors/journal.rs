//! The Journal: keeps what the [`Location`] holds of bindings, so that they outlive the process.
//!
//! What a 200 promises is `registrar.durability`:
//!
//! - `process`: as a rule the Registrar writes what has changed itself, by the [`Pen`], and answers. What is written
//!   outlives the process. The Journal has it brought to the disk a while later (`disk.rs`).
//! - `disk`: the Journal takes what has changed together with the answers that depend on it, writes all that has come
//!   meanwhile, waits once until the disk has it (group commit), and only then sends the answers on.
//!
//! It has a thread of its own: a slow disk holds up the answers to REGISTERs, and nothing else. That goes for the Pen
//! too, which does not write while anybody waits for the disk; what has changed takes the other way then.
//!
//! What the store does not take goes on in memory: answers then wait for nothing. The store is tried again, and once
//! it works the Registrar tells it the whole state, as it does whenever a new segment begins.
//!
//! # Restart
//! What is lost: answers that wait, whose contexts answer 500 when their patience ends, and changes that nobody has
//! been told of yet. Who notices: the supervisor. The new Journal begins a segment, and the Registrar tells it
//! everything. From when the supervisor knows until it is there, REGISTERs that would change something are refused with
//! 503.
//!
//! [`Location`]: crate::protocol::location::Location

mod disk;
mod messages;
mod pen;
mod segment;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use slog::{Logger, debug, error, info, warn};

pub use self::messages::{Backlog, Entry, Finish, HasWritten, Keep, Kept, Load, MAXIMUM_WAITING, ToldAll};
pub use self::pen::{Pen, Written};
use self::store::{Create, OpenError, Store, create_file};
use super::directory::Directory;
use super::registrar::{Answers, TellAll};
use crate::config::Durability;
use crate::diagnostics::LogLimit;
use crate::protocol::location::Answer;

/// Where below `service.state_directory` the store is.
const SUBDIRECTORY: &str = "registrations";

/// Between a failure of the store and the next attempt; doubled up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The mailbox holds what the Registrar sends; what bounds that is [`MAXIMUM_WAITING`].
const MAILBOX: usize = 1 << 20;

/// Write. From the Journal to itself: this comes to its turn when the mailbox is empty, and so all that has come
/// meanwhile is written at once.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
struct Commit;

/// How things stand with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// Nothing was asked for yet.
    Idle,
    /// Changes are kept; everything else is being told.
    Filling,
    /// All is kept.
    Keeping,
    /// Nothing is, until the next attempt.
    Failing,
    /// Another process has the directory. That does not change while this one lives: the other's state is not ours
    /// to take over.
    Shut,
}

impl Condition {
    /// Whether changes are kept.
    const fn is_open(self) -> bool {
        matches!(self, Self::Filling | Self::Keeping)
    }
}

/// Keeps changes on the disk.
pub struct Journal {
    path: PathBuf,
    create: Create,
    pen: Pen,
    store: Option<Store>,
    condition: Condition,
    /// Whether there has been a time at which all was kept, with a predecessor or without.
    has_kept: bool,
    /// While not all is kept because of an error: how long to wait after the next one.
    back_off: Option<Duration>,
    retry: Option<SpawnHandle>,
    /// What is appended and not written yet.
    pending: usize,
    /// Some of it is to be on the disk before its answers leave.
    is_awaited: bool,
    /// The answers that wait for it, by Router.
    waiting: Vec<Vec<Answer>>,
    /// [`Commit`] is under way.
    is_due: bool,
    /// What was written is to be brought to the disk when this timer fires.
    sync: Option<SpawnHandle>,
    /// Another thread waits for the disk.
    is_syncing: bool,
    backlog: Backlog,
    registrar: Option<Recipient<TellAll>>,
    directory: Arc<Directory>,
    log: Logger,
    slow: LogLimit,
}

/// What a [`Journal`] is given.
pub struct JournalSettings {
    /// `service.state_directory`.
    pub state_directory: PathBuf,
    /// There has been one before, and the Registrar may know what it has not written.
    pub is_successor: bool,
    /// What the Registrar counts in.
    pub backlog: Backlog,
    /// What the Registrar writes by.
    pub pen: Pen,
    /// Where Routers and Registrar are.
    pub directory: Arc<Directory>,
    /// Its logger.
    pub log: Logger,
}

impl Journal {
    /// A Journal that opens its store when it starts.
    pub fn new(settings: JournalSettings) -> Self {
        Self::over(settings, create_file)
    }

    fn over(settings: JournalSettings, create: Create) -> Self {
        let JournalSettings { state_directory, is_successor, backlog, pen, directory, log } = settings;
        Self {
            path: state_directory.join(SUBDIRECTORY),
            create,
            pen,
            store: None,
            condition: Condition::Idle,
            has_kept: is_successor,
            back_off: None,
            retry: None,
            pending: 0,
            is_awaited: false,
            waiting: Vec::new(),
            is_due: false,
            sync: None,
            is_syncing: false,
            backlog,
            registrar: None,
            directory,
            log,
            slow: LogLimit::default(),
        }
    }

    /// Has a store, if one can be had.
    fn open(&mut self, ctx: &mut Context<Self>) -> bool {
        if self.store.is_some() {
            return true;
        }
        match Store::open(&self.path, self.create, self.pen.clone()) {
            Ok(store) => self.store = Some(store),
            Err(fault @ OpenError::InUse(_)) => {
                warn!(self.log, "registrations_not_kept"; "reason" => %fault,
                    "remedy" => "give each process a service.state_directory of its own, and restart this one");
                self.condition = Condition::Shut;
                self.pen.close();
            }
            Err(fault @ OpenError::Io(..)) => self.fail(&fault, ctx),
        }
        self.store.is_some()
    }

    /// Begins a segment and has everything told to it.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        if self.condition == Condition::Shut || !self.open(ctx) {
            return;
        }
        let Some(store) = &mut self.store else { return };
        match store.begin() {
            Ok(segment) => {
                self.condition = Condition::Filling;
                if let Some(retry) = self.retry.take() {
                    ctx.cancel_future(retry);
                }
                let registrar = self.directory.registrar();
                let registrar = self.registrar.as_ref().or(registrar.as_ref().map(|known| &known.tell_all));
                // Without one, the next will ask what is kept.
                if let Some(registrar) = registrar {
                    registrar.do_send(TellAll { segment });
                }
            }
            Err(fault) => self.fail(&fault, ctx),
        }
    }

    /// The store has failed: SIP goes on without it, and it is tried again later. One line says so, until all is kept
    /// again.
    fn fail(&mut self, fault: &dyn std::fmt::Display, ctx: &mut Context<Self>) {
        const REMEDY: &str = "make service.state_directory writable, with room on its disk; registrations do not \
                              outlive a restart until then";
        if self.back_off.is_none() && self.has_kept {
            error!(self.log, "registrations_not_kept"; "reason" => %fault, "remedy" => REMEDY);
        } else if self.back_off.is_none() {
            warn!(self.log, "registrations_not_kept"; "reason" => %fault, "remedy" => REMEDY);
        }
        let wait = self.back_off.unwrap_or(BACK_OFF.0);
        self.back_off = Some((wait * 2).min(BACK_OFF.1));
        self.condition = Condition::Failing;
        match &mut self.store {
            Some(store) => store.give_up(),
            None => self.pen.close(),
        }
        self.release();
        let retry = ctx.run_later(wait, |journal, ctx| {
            journal.retry = None;
            journal.begin(ctx);
        });
        if let Some(earlier) = self.retry.replace(retry) {
            ctx.cancel_future(earlier);
        }
    }

    /// Lets go what has waited.
    fn release(&mut self) {
        self.is_awaited = false;
        for (router, answers) in self.waiting.iter_mut().enumerate() {
            if !answers.is_empty() {
                pass_on(&self.directory, router, std::mem::take(answers));
            }
        }
        // Last: without a backlog the Registrar goes ahead by itself.
        self.backlog.remove(std::mem::take(&mut self.pending));
    }

    /// Writes what was appended, and answers: once the disk has it, if `is_awaited`.
    fn write(&mut self, is_awaited: bool, ctx: &mut Context<Self>) {
        let Some(store) = &mut self.store else { return };
        if let Err(fault) = store.write() {
            return self.fail(&fault, ctx);
        }
        if is_awaited {
            return self.sync(ctx);
        }
        self.release();
        self.sync_later(ctx);
    }
}

fn pass_on(directory: &Directory, router: usize, answers: Vec<Answer>) {
    if let Some(address) = directory.router(router).as_deref() {
        address.answers.do_send(Answers(answers));
    }
}

impl Actor for Journal {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        if self.has_kept {
            self.begin(ctx);
        } else {
            self.open(ctx);
        }
    }
}

impl Handler<Keep> for Journal {
    type Result = ();

    fn handle(&mut self, Keep { changes, answers, durability }: Keep, ctx: &mut Context<Self>) {
        self.pending += changes.size();
        self.is_awaited |= durability == Durability::Disk;
        self.waiting.resize_with(self.waiting.len().max(answers.len()), Vec::new);
        for (waiting, answers) in self.waiting.iter_mut().zip(answers) {
            waiting.extend(answers);
        }
        let Some(store) = self.store.as_mut().filter(|_| self.condition.is_open()) else {
            return self.release();
        };
        store.append(&changes);
        if !std::mem::replace(&mut self.is_due, true) {
            ctx.notify(Commit);
        }
    }
}

impl Handler<Commit> for Journal {
    type Result = ();

    fn handle(&mut self, _: Commit, ctx: &mut Context<Self>) {
        self.is_due = false;
        self.write(self.is_awaited, ctx);
    }
}

impl Handler<HasWritten> for Journal {
    type Result = ();

    fn handle(&mut self, _: HasWritten, ctx: &mut Context<Self>) {
        self.sync_later(ctx);
    }
}

impl Handler<Load> for Journal {
    type Result = MessageResult<Load>;

    fn handle(&mut self, Load { registrar }: Load, ctx: &mut Context<Self>) -> Self::Result {
        self.registrar = Some(registrar);
        self.write(self.is_awaited, ctx);
        let kept = self.store.as_ref().map(Store::load).unwrap_or_default();
        self.begin(ctx);
        MessageResult(kept)
    }
}

impl Handler<ToldAll> for Journal {
    type Result = ();

    fn handle(&mut self, ToldAll { segment }: ToldAll, ctx: &mut Context<Self>) {
        let Some(store) = &mut self.store else { return };
        if self.condition != Condition::Filling || store.number() != segment {
            return;
        }
        if let Err(fault) = store.complete() {
            return self.fail(&fault, ctx);
        }
        self.condition = Condition::Keeping;
        self.has_kept = true;
        self.release();
        if self.back_off.take().is_some() {
            info!(self.log, "registrations_kept"; "segment" => segment);
        } else {
            debug!(self.log, "registrations_kept"; "segment" => segment);
        }
    }
}

impl Handler<Finish> for Journal {
    type Result = ();

    fn handle(&mut self, _: Finish, ctx: &mut Context<Self>) {
        self.write(true, ctx);
    }
}
