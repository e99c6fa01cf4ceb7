//! Waiting for the disk: here, where answers wait for it, and in another thread where none do.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::warn;
use tokio::sync::oneshot;

use super::Journal;
use super::store::Store;

/// So long after the first of what was answered the disk is asked to take it all: what comes before that, and while the
/// disk takes it, is lost where the machine loses its power.
const SYNC_INTERVAL: Duration = Duration::from_millis(200);

/// Stack of the thread that waits for the disk, which does nothing else.
const STACK_BYTES: usize = 64 << 10;

/// A commit that takes longer is worth a line in the log.
const SLOW: Duration = Duration::from_secs(1);

impl Journal {
    /// Waits until the disk has all that was written, then answers whoever waits for that.
    pub(super) fn sync(&mut self, ctx: &mut Context<Self>) {
        let Some(store) = &self.store else { return };
        if let Some(timer) = self.sync.take() {
            ctx.cancel_future(timer);
        }
        let begun = Instant::now();
        match store.sync() {
            Err(fault) => return self.fail(&fault, ctx),
            Ok(true) => self.tell_time(begun),
            Ok(false) => {}
        }
        self.release();
        self.begin_if_grown(ctx);
    }

    /// Has what is written brought to the disk after a while.
    pub(super) fn sync_later(&mut self, ctx: &mut Context<Self>) {
        if self.sync.is_none() {
            self.sync = Some(ctx.run_later(SYNC_INTERVAL, |journal, ctx| {
                journal.sync = None;
                journal.sync_aside(ctx);
            }));
        }
    }

    /// Another thread waits until the disk has what is written; what comes meanwhile is written here.
    fn sync_aside(&mut self, ctx: &mut Context<Self>) {
        if self.is_syncing {
            return self.sync_later(ctx);
        }
        let Some(store) = &self.store else { return };
        let unsynced = match store.unsynced() {
            Err(fault) => return self.fail(&fault, ctx),
            Ok(None) => return,
            Ok(Some(unsynced)) => unsynced,
        };
        let (segment, begun) = (store.number(), Instant::now());
        let unsynced = Arc::new(unsynced);
        let (done, synced) = oneshot::channel();
        let waits = {
            let unsynced = Arc::clone(&unsynced);
            move || drop(done.send(unsynced.sync()))
        };
        if thread::Builder::new().name("disk".to_owned()).stack_size(STACK_BYTES).spawn(waits).is_err() {
            // There is no room for a thread.
            let synced = unsynced.sync();
            return self.has_synced(segment, begun, synced, ctx);
        }
        self.is_syncing = true;
        ctx.spawn(synced.into_actor(self).map(move |synced, journal, ctx| {
            journal.is_syncing = false;
            journal.has_synced(segment, begun, synced.map_err(io::Error::other).flatten(), ctx);
        }));
    }

    /// The disk has taken what was written to this segment, or has not.
    fn has_synced(&mut self, segment: u64, begun: Instant, synced: io::Result<()>, ctx: &mut Context<Self>) {
        match synced {
            Ok(()) => {
                self.tell_time(begun);
                self.begin_if_grown(ctx);
            }
            Err(fault) if self.store.as_ref().is_some_and(|store| store.number() == segment) => {
                self.fail(&fault, ctx);
            }
            // Everything is being told to another, or will be.
            Err(_) => {}
        }
    }

    /// The disk was waited for from `begun` on.
    fn tell_time(&mut self, begun: Instant) {
        let taken = begun.elapsed();
        self.directory.metrics().journal_commit(taken);
        if taken > SLOW
            && let Some(repeated) = self.slow.pass(begun)
        {
            warn!(self.log, "disk_slow"; "milliseconds" => taken.as_millis() as u64, "repeated" => repeated);
        }
    }

    fn begin_if_grown(&mut self, ctx: &mut Context<Self>) {
        if self.store.as_ref().is_some_and(Store::has_grown) {
            self.begin(ctx);
        }
    }
}
