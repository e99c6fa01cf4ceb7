//! The first station of a record, in the thread that logs.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use slog::{Drain, KV, Key, Level, Never, OwnedKV, OwnedKVList, Record, Serializer};

use super::events;
use super::levels::{Levels, level_of};
use super::limit::LogLimit;
use super::line::{TIME_KEY, UNWRITTEN_KEY};
use super::module::Origin;
use super::queue::Queue;
use crate::config::LogLevel;

/// Lines in ten seconds that libraries may say of what peers do, all of them together.
const LIBRARY_LINES: u32 = 20;

/// Lets pass what is wanted, stamped with the time at which it was said: it may wait before it is written.
pub(super) struct Filter {
    source: Source,
    levels: Arc<Levels>,
    queue: Arc<Queue>,
}

/// Whose records pass here.
enum Source {
    /// Those of a part of the program.
    Own {
        module: &'static str,
        /// Whether all of its records of level info are events.
        is_told: bool,
    },
    /// Those of libraries, which name themselves.
    Libraries(LogLimit),
}

impl Filter {
    /// Of the records of `module`, or of libraries.
    pub(super) fn new(module: Option<&'static str>, levels: Arc<Levels>, queue: Arc<Queue>) -> Self {
        let own = |module| Source::Own { module, is_told: events::is_event(LogLevel::Info, module, "") };
        let source = module.map_or_else(|| Source::Libraries(LogLimit::new(LIBRARY_LINES)), own);
        Self { source, levels, queue }
    }

    /// Whether it goes where the log goes, and whether it goes anywhere.
    fn destiny(&self, record: &Record<'_>, level: LogLevel) -> (bool, bool) {
        let may_be_written = self.levels.is_wanted(level);
        match self.source {
            Source::Own { module, .. } => {
                let is_written = may_be_written && self.levels.is_wanted_by(module, level);
                let event = || record.msg().as_str().unwrap_or_default();
                (is_written, is_written || events::is_event(level, module, event()))
            }
            Source::Libraries(_) => {
                let origin = Origin::of(record.module(), record.tag());
                let is_written = may_be_written && self.levels.is_wanted_at(origin, level);
                (is_written, is_written || events::is_event(level, "", ""))
            }
        }
    }

    /// How many were left out before this one; `None` of one that is.
    fn pass(&self, level: LogLevel) -> Option<u64> {
        match &self.source {
            // What is asked for by name comes in full.
            Source::Libraries(limit) if level <= LogLevel::Info => limit.pass(Instant::now()),
            Source::Libraries(_) | Source::Own { .. } => Some(0),
        }
    }
}

impl Drain for Filter {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let level = level_of(record.level());
        let (is_written, is_wanted) = self.destiny(record, level);
        if is_wanted && let Some(repeated) = self.pass(level) {
            let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let stamp = Stamp { millis: u64::try_from(millis).unwrap_or(u64::MAX), is_written, repeated };
            self.queue.log(record, &OwnedKV((stamp, values.clone())).into());
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        let level = level_of(level);
        match self.source {
            Source::Own { is_told: true, .. } if level <= LogLevel::Info => true,
            Source::Own { module, .. } => {
                level <= LogLevel::Warning
                    || self.levels.is_wanted(level) && self.levels.is_wanted_by(module, level)
            }
            Source::Libraries(_) => level <= LogLevel::Warning || self.levels.is_wanted(level),
        }
    }
}

/// What the filter has found out.
struct Stamp {
    /// Since 1970.
    millis: u64,
    is_written: bool,
    repeated: u64,
}

impl KV for Stamp {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        if !self.is_written {
            serializer.emit_bool(Key::from(UNWRITTEN_KEY), true)?;
        }
        serializer.emit_u64(Key::from(TIME_KEY), self.millis)?;
        if self.repeated > 0 {
            serializer.emit_u64(Key::from("repeated"), self.repeated)?;
        }
        Ok(())
    }
}
