//! Logs: structured records, written as lines to standard error.
//!
//! The way of a record: the filter ([`Levels`]) in the thread that logs, so that what is not wanted costs next to
//! nothing; a stamp with the time; a bounded queue, which drops and counts rather than waits, since logging must
//! never hold up SIP; one thread that writes lines of text or JSON. What `log` and `tracing` get from libraries
//! takes the same way.
//!
//! A line is: time in UTC (RFC 3339, milliseconds, zone `Z`), level, module, event, then `key=value`. Event names
//! are stable and `snake_case`; a message that is no such name, as libraries have them, is the field `text` of the
//! event `message`. Whatever peers put into values, a line stays one line and a value one value.
//!
//! The module is the value of the key `module` of the logger ([`Diagnostics::logger`]), else the code's own place.
//!
//! What outside input causes over and over is summed up by whoever logs it, with [`Repeats`].

mod bridge;
mod filter;
mod json;
mod levels;
mod line;
pub mod metrics;
mod module;
mod queue;
pub mod repeats;
mod text;
mod writer;

use std::io::Write;
use std::sync::Arc;

use slog::{Logger, o};
use slog_async::AsyncGuard;

pub use levels::Levels;
pub use repeats::Repeats;

use crate::config::Diagnostics as Settings;
use bridge::Bridge;
use filter::Filter;
use queue::{Drops, Queue};
use writer::Writer;

/// Lines that may wait for the thread that writes.
const QUEUE: usize = 16_384;

/// The running log. Dropping it writes what waits and ends the thread; later records are lost, so it belongs to the
/// end of `main`, before the process exits.
pub struct Diagnostics {
    logger: Logger,
    levels: Arc<Levels>,
    drops: Arc<Drops>,
    /// Goes before the thread that it leads to.
    bridge: Option<Bridge>,
    _guard: AsyncGuard,
}

impl Diagnostics {
    /// Begins to log to `sink`, usually standard error.
    pub fn start(settings: &Settings, sink: impl Write + Send + 'static) -> Self {
        Self::with_queue(settings, sink, QUEUE)
    }

    fn with_queue(settings: &Settings, sink: impl Write + Send + 'static, size: usize) -> Self {
        let levels = Arc::new(Levels::new(settings));
        let drops = Arc::new(Drops::default());
        let writer = Writer::new(sink, settings.format, Arc::clone(&drops));
        let (queue, guard) = Queue::start(writer, size, Arc::clone(&drops));
        let logger = Logger::root(Filter::new(Arc::clone(&levels), queue), o!());
        Self { logger, levels, drops, bridge: None, _guard: guard }
    }

    /// Lets what libraries log by `log` and `tracing` in here. Once per process: the error says that somebody has
    /// taken that place already.
    pub fn bridge_libraries(&mut self) -> Result<(), log::SetLoggerError> {
        self.bridge = Some(Bridge::install(self.logger.clone(), &self.levels)?);
        Ok(())
    }

    /// The logger of a module, by the name that `log_level` knows it under.
    pub fn logger(&self, module: &'static str) -> Logger {
        self.logger.new(o!(module::KEY => module))
    }

    /// What is logged; to be changed while it runs.
    pub const fn levels(&self) -> &Arc<Levels> {
        &self.levels
    }

    /// Records dropped since the start, because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.drops.total()
    }
}

#[cfg(test)]
mod tests;
