//! What is logged, by module; changeable while the process runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arc_swap::ArcSwap;

use super::module::Origin;
use crate::config::{Diagnostics as Settings, LogLevel};

/// What libraries may say unless their own level says otherwise, however much is wanted of the program itself.
const LIBRARY_MAXIMUM: LogLevel = LogLevel::Info;

/// The levels in force. Asking costs one atomic load for what nobody wants, and a look at the module for the rest.
#[derive(Debug)]
pub struct Levels {
    table: ArcSwap<Table>,
    /// The highest of the table.
    highest: AtomicU8,
    /// Whether `log` has to know of changes.
    is_bridged: AtomicBool,
}

#[derive(Clone, Debug)]
struct Table {
    default: LogLevel,
    modules: BTreeMap<String, LogLevel>,
}

impl Table {
    fn highest(&self) -> LogLevel {
        self.modules.values().copied().fold(self.default, LogLevel::max)
    }

    fn of_named(&self, module: &str) -> LogLevel {
        self.modules.get(module).copied().unwrap_or(self.default)
    }

    fn of(&self, origin: Origin<'_>) -> LogLevel {
        match origin {
            Origin::Own(module) => self.of_named(module),
            Origin::Library(library) => {
                self.modules.get(library).copied().unwrap_or(self.default.min(LIBRARY_MAXIMUM))
            }
        }
    }
}

impl Levels {
    /// Those of the configuration.
    pub fn new(settings: &Settings) -> Self {
        let table = Table::from(settings);
        let highest = AtomicU8::new(table.highest() as u8);
        Self { table: ArcSwap::from_pointee(table), highest, is_bridged: AtomicBool::new(false) }
    }

    /// The level of modules without one of their own, and those that have one.
    pub fn current(&self) -> (LogLevel, BTreeMap<String, LogLevel>) {
        let table = self.table.load();
        (table.default, table.modules.clone())
    }

    /// Puts those of the configuration in force again, all of them.
    pub fn apply(&self, settings: &Settings) {
        self.table.store(Table::from(settings).into());
        self.announce();
    }

    /// Changes the level of `module`, or of all that have none of their own. A library is a module by the name of
    /// its crate.
    pub fn set(&self, module: Option<&str>, level: LogLevel) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            match module {
                Some(module) => {
                    table.modules.insert(module.to_owned(), level);
                }
                None => table.default = level,
            }
            table
        });
        self.announce();
    }

    /// Whether any module wants records of this level.
    pub(super) fn is_wanted(&self, level: LogLevel) -> bool {
        level as u8 <= self.highest.load(Ordering::Relaxed)
    }

    /// Whether the module that a logger names wants them.
    pub(super) fn is_wanted_by(&self, module: &str, level: LogLevel) -> bool {
        level <= self.table.load().of_named(module)
    }

    /// Whether the part of the program, or library, at `origin` wants them.
    pub(super) fn is_wanted_at(&self, origin: Origin<'_>, level: LogLevel) -> bool {
        level <= self.table.load().of(origin)
    }

    /// From now on `log` is told what is wanted of libraries, so that it does not even make the rest.
    pub(super) fn bridge(&self) {
        self.is_bridged.store(true, Ordering::Release);
        self.announce();
    }

    fn announce(&self) {
        let table = self.table.load();
        self.highest.store(table.highest() as u8, Ordering::Relaxed);
        if self.is_bridged.load(Ordering::Acquire) {
            // Warnings are events, whatever is written.
            let level = table.default.clamp(LogLevel::Warning, LIBRARY_MAXIMUM);
            let level = table.modules.values().copied().fold(level, LogLevel::max);
            log::set_max_level(log_filter(level));
        }
    }
}

impl From<&Settings> for Table {
    fn from(settings: &Settings) -> Self {
        let modules = &settings.module_log_levels;
        let modules = modules.iter().map(|(module, level)| ((*module).to_owned(), *level)).collect();
        Self { default: settings.log_level, modules }
    }
}

/// Our level of a record.
pub(super) const fn level_of(level: slog::Level) -> LogLevel {
    match level {
        slog::Level::Critical | slog::Level::Error => LogLevel::Error,
        slog::Level::Warning => LogLevel::Warning,
        slog::Level::Info => LogLevel::Info,
        slog::Level::Debug => LogLevel::Debug,
        slog::Level::Trace => LogLevel::Trace,
    }
}

/// The word for it in a line, as in the configuration.
pub(super) const fn level_name(level: LogLevel) -> &'static str {
    level.as_str()
}

const fn log_filter(level: LogLevel) -> log::LevelFilter {
    match level {
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warning => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
        LogLevel::Trace => log::LevelFilter::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    #[test]
    fn a_level_includes_those_before_it_and_a_module_may_have_its_own() {
        let levels =
            Levels::new(&settings(LogLevel::Info, &[("router", LogLevel::Debug), ("tls", LogLevel::Error)]));
        let table = [
            (Origin::Own("listener"), LogLevel::Info),
            (Origin::Own("router"), LogLevel::Debug),
            (Origin::Own("tls"), LogLevel::Error),
            (Origin::Library("rustls"), LogLevel::Info),
        ];
        for (origin, highest) in table {
            for level in
                [LogLevel::Error, LogLevel::Warning, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
            {
                assert_eq!(levels.is_wanted_at(origin, level), level <= highest, "{origin:?} {level:?}");
            }
        }
        assert!(levels.is_wanted(LogLevel::Debug) && !levels.is_wanted(LogLevel::Trace));
    }

    #[test]
    fn libraries_say_more_than_info_only_if_asked_by_name() {
        let levels = Levels::new(&settings(LogLevel::Trace, &[]));
        assert!(levels.is_wanted_at(Origin::Own("router"), LogLevel::Trace));
        assert!(!levels.is_wanted_at(Origin::Library("rustls"), LogLevel::Debug));
        levels.set(Some("rustls"), LogLevel::Debug);
        assert!(levels.is_wanted_at(Origin::Library("rustls"), LogLevel::Debug));
        levels.set(None, LogLevel::Error);
        assert!(!levels.is_wanted_at(Origin::Library("actix_rt"), LogLevel::Warning));
        assert!(levels.is_wanted(LogLevel::Debug) && !levels.is_wanted(LogLevel::Trace));
        levels.apply(&settings(LogLevel::Warning, &[]));
        assert!(!levels.is_wanted(LogLevel::Info));
        assert!(!levels.is_wanted_at(Origin::Library("rustls"), LogLevel::Info));
    }
}
