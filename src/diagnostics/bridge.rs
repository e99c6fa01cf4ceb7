//! What libraries log: `log` by way of slog-stdlog and slog-scope, and `tracing`, whose feature `log` sends events
//! there while no subscriber is set.

use std::sync::Arc;

use slog::{Discard, Logger, o};

use super::levels::Levels;

/// The bridge while it stands. Dropping it lets libraries log into the void.
pub(super) struct Bridge(());

impl Bridge {
    pub(super) fn install(logger: Logger, levels: &Arc<Levels>) -> Result<Self, log::SetLoggerError> {
        slog_stdlog::init()?;
        set_logger(logger);
        levels.bridge();
        Ok(Self(()))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        log::set_max_level(log::LevelFilter::Off);
        set_logger(Logger::root(Discard, o!()));
    }
}

/// The guard of slog-scope would leave a logger behind that panics when used.
fn set_logger(logger: Logger) {
    slog_scope::set_global_logger(logger).cancel_reset();
}
