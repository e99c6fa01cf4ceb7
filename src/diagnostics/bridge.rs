//! What libraries log by `log` or `tracing` (rustls, actix, the resolver) goes where ours goes.

use std::io;
use std::sync::Arc;

use slog::{Logger, o};
use slog_scope::GlobalLoggerGuard;

use super::level::{Levels, ModuleFilter};
use super::queue::Queue;

/// The bridge; it stands as long as this is kept.
pub(super) struct Bridge {
    _guard: GlobalLoggerGuard,
}

impl Bridge {
    /// Sets the process's logger for libraries. Their module is their crate; they pass by the default level, but
    /// no further than debug: their traces hold what SIP carries.
    pub(super) fn new(queue: Arc<Queue>, levels: &Levels) -> io::Result<Self> {
        let filter = ModuleFilter::new(levels.of("libraries"), queue);
        let guard = slog_scope::set_global_logger(Logger::root(filter, o!()));
        slog_stdlog::init_with_level(log::Level::Debug).map_err(io::Error::other)?;
        Ok(Self { _guard: guard })
    }
}
