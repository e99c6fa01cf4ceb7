//! Logs: what administrators read (`docs/operations.md`, "Log files").
//!
//! A record passes the level of its module first, which costs an atomic load, then waits in a bounded queue for the
//! thread that writes: logging never blocks SIP. What the queue has no room for is counted, and the next line that
//! fits says how many there were.

mod bridge;
mod level;
mod line;
mod queue;

use std::io;
use std::sync::Arc;

use slog::{Logger, o};
use slog_async::AsyncGuard;

pub use level::Levels;
use level::ModuleFilter;
use line::Lines;
use queue::Queue;

use crate::config::Diagnostics;

/// The logs of the process. Cheap to clone; what is in the queue is written when the last clone goes.
#[derive(Clone)]
pub struct Logs {
    queue: Arc<Queue>,
    levels: Arc<Levels>,
    _writer: Arc<AsyncGuard>,
    _libraries: Arc<bridge::Bridge>,
}

impl Logs {
    /// The logger of a module.
    pub fn logger(&self, module: &'static str) -> Logger {
        let filter = ModuleFilter::new(self.levels.of(module), Arc::clone(&self.queue));
        Logger::root(filter, o!("module" => module))
    }

    /// The levels, which can be changed while everything runs.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }
}

/// Starts the thread that writes, to standard error, and takes over what libraries log.
///
/// # Errors
/// Where another logger has been set for the libraries: once per process.
pub fn start(diagnostics: &Diagnostics) -> io::Result<Logs> {
    let levels = Arc::new(Levels::new(diagnostics.log_level, &diagnostics.module_log_levels));
    let (queue, writer) = Queue::new(Lines::new(io::stderr(), diagnostics.format));
    let queue = Arc::new(queue);
    let libraries = bridge::Bridge::new(Arc::clone(&queue), &levels)?;
    Ok(Logs { queue, levels, _writer: Arc::new(writer), _libraries: Arc::new(libraries) })
}
