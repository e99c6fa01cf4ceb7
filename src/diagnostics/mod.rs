//! Logs: structured records, written as lines to files and standard error.
//!
//! The way of a record: the filter ([`Levels`], [`Events`]) in the thread that logs, so that what is not wanted costs
//! next to nothing; a stamp with the time; a bounded queue, which drops and counts rather than waits, since logging must
//! never hold up SIP; one thread that writes lines of text or JSON. What `log` and `tracing` get from libraries
//! takes the same way.
//!
//! A line is: time in UTC (RFC 3339, milliseconds, zone `Z`), level, module, event, then `key=value`. Event names
//! are stable and `snake_case`; a message that is no such name, as libraries have them, is the field `text` of the
//! event `message`. Whatever peers put into values, a line stays one line and a value one value.
//!
//! The module is that of the logger ([`Diagnostics::logger`]); of a library, its crate.
//!
//! What outside input causes over and over is summed up by whoever logs it, with [`Repeats`].

mod bridge;
mod events;
mod files;
mod filter;
mod json;
mod keeper;
mod levels;
mod limit;
mod line;
mod log_file;
pub mod metrics;
mod module;
mod output;
mod queue;
pub mod queues;
pub mod repeats;
mod shared;
mod text;
pub mod vocabulary;
mod writer;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use slog::{Logger, o};
use slog_async::AsyncGuard;

pub use events::{Event, Events, Follower, News};
pub use levels::Levels;
pub use limit::LogLimit;
pub use repeats::Repeats;

use crate::config::Diagnostics as Settings;
use bridge::Bridge;
use files::Now;
use filter::Filter;
use keeper::Keeper;
use output::Output;
use queue::Queue;
use shared::Shared;
use writer::Writer;

/// Lines that may wait for the thread that writes.
const QUEUE: usize = 16_384;

/// The running log. [`Self::finish`] belongs to the end of the process: it writes what waits.
pub struct Diagnostics {
    levels: Arc<Levels>,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    /// Goes before the thread that it leads to.
    bridge: Option<Bridge>,
    guard: Mutex<Option<AsyncGuard>>,
    /// Comes to its end after that thread.
    _keeper: Keeper,
}

impl Diagnostics {
    /// Begins to log: to files, and to `sink`, usually standard error, what [`Events`] has; without a directory for the
    /// files, everything to `sink`.
    pub fn start(settings: &Settings, sink: impl Write + Send + 'static) -> Self {
        Self::with_queue(settings, sink, QUEUE)
    }

    fn with_queue(settings: &Settings, sink: impl Write + Send + 'static, size: usize) -> Self {
        let levels = Arc::new(Levels::new(settings));
        let shared = Arc::new(Shared::new(settings));
        let output = Arc::new(Mutex::new(Output::new(Now::read(), sink, Arc::clone(&shared))));
        let (queue, guard) = Queue::start(
            Writer { output: Arc::clone(&output), shared: Arc::clone(&shared) },
            size,
            Arc::clone(&shared),
        );
        let (queue, keeper) = (Arc::new(queue), Keeper::start(output));
        Self { levels, shared, queue, bridge: None, guard: Mutex::new(Some(guard)), _keeper: keeper }
    }

    /// Puts `[diagnostics]` of a reload in force, all of it: levels at once, the rest with the next line or within a
    /// second. No line is lost; those that wait are written as the new settings have it.
    pub fn apply(&self, settings: &Settings) {
        self.levels.apply(settings);
        self.shared.settings.store(Arc::new(settings.clone()));
    }

    /// Lets what libraries log by `log` and `tracing` in here. Once per process: the error says that somebody has
    /// taken that place already.
    pub fn bridge_libraries(&mut self) -> Result<(), log::SetLoggerError> {
        self.bridge = Some(Bridge::install(self.root(None), &self.levels)?);
        Ok(())
    }

    /// The logger of a module, by the name that `log_level` knows it under.
    pub fn logger(&self, module: &'static str) -> Logger {
        self.root(Some(module)).new(o!(module::KEY => module))
    }

    fn root(&self, module: Option<&'static str>) -> Logger {
        Logger::root(Filter::new(module, Arc::clone(&self.levels), Arc::clone(&self.queue)), o!())
    }

    /// What is logged; to be changed while it runs.
    pub const fn levels(&self) -> &Arc<Levels> {
        &self.levels
    }

    /// Records dropped since the start, because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.shared.drops.total()
    }

    /// The lines that wait for the thread that writes.
    pub fn queue(&self) -> queues::Queue {
        self.queue.told()
    }

    /// Why log files cannot be written, while that is so.
    pub fn fault(&self) -> Option<String> {
        self.shared.fault()
    }

    /// Writes what waits, and ends the thread; later records are lost. Others may still hold the log.
    pub fn finish(&self) {
        drop(self.guard.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// What an administrator should know of.
    pub fn events(&self) -> &Arc<Events> {
        &self.shared.events
    }
}

/// Followers of the events learn that there will be no more.
impl Drop for Diagnostics {
    fn drop(&mut self) {
        self.shared.events.end();
    }
}

#[cfg(test)]
mod tests;
