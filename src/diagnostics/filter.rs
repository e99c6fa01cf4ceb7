//! The first station of a record, in the thread that logs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use slog::{Drain, Key, Level, Never, OwnedKV, OwnedKVList, Record, Serializer};

use super::events;
use super::levels::{Levels, level_of};
use super::line::{TIME_KEY, UNWRITTEN_KEY};
use super::module::Origin;
use super::queue::Queue;
use crate::config::LogLevel;

/// Lets pass what is wanted of one module, stamped with the time at which it was said: it may wait before it is written.
pub(super) struct Filter {
    /// `None` of libraries, whose records name their own.
    module: Option<&'static str>,
    levels: Arc<Levels>,
    queue: Arc<Queue>,
}

impl Filter {
    pub(super) const fn new(module: Option<&'static str>, levels: Arc<Levels>, queue: Arc<Queue>) -> Self {
        Self { module, levels, queue }
    }

    fn is_written(&self, record: &Record<'_>, level: LogLevel) -> bool {
        self.levels.is_wanted(level)
            && match self.module {
                Some(module) => self.levels.is_wanted_by(module, level),
                None => self.levels.is_wanted_at(Origin::of(record.module(), record.tag()), level),
            }
    }

    /// Whether it is one of the events that the administrator sees, whatever the levels are.
    fn is_event(&self, record: &Record<'_>, level: LogLevel) -> bool {
        events::is_event(level, self.module.unwrap_or_default(), record.msg().as_str().unwrap_or_default())
    }
}

impl Drain for Filter {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let level = level_of(record.level());
        let is_written = self.is_written(record, level);
        if is_written || self.is_event(record, level) {
            let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let stamp = Stamp { millis: u64::try_from(millis).unwrap_or(u64::MAX), is_written };
            self.queue.log(record, &OwnedKV((stamp, values.clone())).into());
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        let level = level_of(level);
        let is_written = |module| self.levels.is_wanted_by(module, level);
        self.levels.is_wanted(level) && self.module.is_none_or(is_written)
            || self.module.is_none_or(|module| events::has_events(level, module))
    }
}

/// What the filter has found out.
struct Stamp {
    /// Since 1970.
    millis: u64,
    is_written: bool,
}

impl slog::KV for Stamp {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        if !self.is_written {
            serializer.emit_bool(Key::from(UNWRITTEN_KEY), true)?;
        }
        serializer.emit_u64(Key::from(TIME_KEY), self.millis)
    }
}
