//! Which records pass: a level for each module, changed while everything runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slog::{Drain, Level, Never, OwnedKVList, Record};

use super::queue::Queue;
use crate::config::{LOG_MODULES, LogLevel};

/// The levels of all modules.
#[derive(Debug)]
pub struct Levels {
    default: Arc<AtomicUsize>,
    modules: BTreeMap<&'static str, Arc<AtomicUsize>>,
}

impl Levels {
    /// `default` for all modules but those named.
    pub fn new(default: LogLevel, modules: &BTreeMap<&'static str, LogLevel>) -> Self {
        let cell = |level| Arc::new(AtomicUsize::new(threshold(level)));
        let of = |module: &&'static str| (*module, cell(modules.get(module).copied().unwrap_or(default)));
        Self { default: cell(default), modules: LOG_MODULES.iter().map(of).collect() }
    }

    /// The level of `module`; of one without a level of its own, such as a library's, the default.
    pub(super) fn of(&self, module: &str) -> Arc<AtomicUsize> {
        Arc::clone(self.modules.get(module).unwrap_or(&self.default))
    }

    /// Changes the level of one module, or of all with `None`. False: there is no such module.
    pub fn set(&self, module: Option<&str>, level: LogLevel) -> bool {
        let one = module.map(|module| self.modules.get(module));
        match one {
            Some(None) => false,
            Some(Some(cell)) => {
                cell.store(threshold(level), Ordering::Relaxed);
                true
            }
            None => {
                let all = self.modules.values().chain([&self.default]);
                all.for_each(|cell| cell.store(threshold(level), Ordering::Relaxed));
                true
            }
        }
    }
}

fn threshold(level: LogLevel) -> usize {
    let level = match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warning => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    };
    level.as_usize()
}

/// In front of the queue, so that what does not pass costs next to nothing.
pub(super) struct ModuleFilter {
    threshold: Arc<AtomicUsize>,
    queue: Arc<Queue>,
}

impl ModuleFilter {
    pub(super) const fn new(threshold: Arc<AtomicUsize>, queue: Arc<Queue>) -> Self {
        Self { threshold, queue }
    }
}

impl Drain for ModuleFilter {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if self.is_enabled(record.level()) {
            self.queue.log(record, values)?;
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        level.as_usize() <= self.threshold.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_changed_for_one_module_or_for_all() {
        let levels = Levels::new(LogLevel::Info, &BTreeMap::from([("router", LogLevel::Debug)]));
        let level_of = |module| levels.of(module).load(Ordering::Relaxed);
        assert_eq!(level_of("router"), Level::Debug.as_usize());
        assert_eq!(level_of("registrar"), Level::Info.as_usize());
        assert_eq!(level_of("rustls"), Level::Info.as_usize());
        assert!(levels.set(Some("registrar"), LogLevel::Trace));
        assert_eq!(level_of("registrar"), Level::Trace.as_usize());
        assert!(!levels.set(Some("nobody"), LogLevel::Trace));
        assert!(levels.set(None, LogLevel::Error));
        assert!(LOG_MODULES.iter().chain(&["rustls"]).all(|module| level_of(module) == Level::Error.as_usize()));
    }
}
