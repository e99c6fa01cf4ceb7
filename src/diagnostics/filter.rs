//! The first station of a record, in the thread that logs.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use slog::{Drain, Key, Level, Never, OwnedKV, OwnedKVList, Record, Serializer, SingleKV};

use super::levels::{Levels, level_of};
use super::line::TIME_KEY;
use super::module::{self, Origin};
use super::queue::Queue;
use crate::config::LogLevel;

/// Lets pass what is wanted, stamped with the time at which it was said: it may wait before it is written.
pub(super) struct Filter {
    levels: Arc<Levels>,
    queue: Queue,
}

impl Filter {
    pub(super) const fn new(levels: Arc<Levels>, queue: Queue) -> Self {
        Self { levels, queue }
    }

    fn is_wanted_by_module(&self, record: &Record<'_>, values: &OwnedKVList, level: LogLevel) -> bool {
        // A library's record passes the logger of the bridge, which names no module.
        let mut named = Named { levels: &self.levels, level, is_wanted: None };
        // It stops at the name that it finds: that is no failure.
        let _ = slog::KV::serialize(values, record, &mut named);
        named
            .is_wanted
            .unwrap_or_else(|| self.levels.is_wanted_at(Origin::of(record.module(), record.tag()), level))
    }
}

impl Drain for Filter {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let level = level_of(record.level());
        if self.levels.is_wanted(level) && self.is_wanted_by_module(record, values, level) {
            let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let stamp = SingleKV(TIME_KEY.into(), u64::try_from(millis).unwrap_or(u64::MAX));
            self.queue.log(record, &OwnedKV((stamp, values.clone())).into());
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.levels.is_wanted(level_of(level))
    }
}

/// Looks for the innermost logger's module.
struct Named<'a> {
    levels: &'a Levels,
    level: LogLevel,
    is_wanted: Option<bool>,
}

impl Serializer for Named<'_> {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        if key.as_str() == module::KEY {
            return self.emit_str(key, &value.to_string());
        }
        Ok(())
    }

    fn emit_str(&mut self, key: Key, value: &str) -> slog::Result {
        if key.as_str() == module::KEY {
            self.is_wanted = Some(self.levels.is_wanted_by(value, self.level));
            return Err(slog::Error::Other);
        }
        Ok(())
    }
}
