//! The log files as a whole: where they are, what of them is kept, and what happens when one cannot be written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::log_file::LogFile;
use super::vocabulary::Log;
use crate::config::Diagnostics as Settings;

/// Octets.
const MEGABYTE: u64 = 1_000_000;

const DAY: u64 = 24 * 60 * 60;

/// The three logs in their directory.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    logs: [LogFile; 3],
    /// Octets.
    largest: u64,
    /// Older files of each.
    kept: usize,
    is_deleted_daily: bool,
    /// The day in UTC: since 1970.
    day: u64,
}

/// What the log has to say of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A log cannot be written any more.
    Failed {
        log: Log,
        reason: String,
    },
    /// So many files were deleted because a day has ended.
    Deleted(u64),
    NotDeleted(String),
}

/// What time it is, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) time: SystemTime,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }

    /// Since 1970.
    pub(super) fn millis(self) -> u64 {
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn day(self) -> u64 {
        self.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY
    }
}

impl Files {
    /// Opens the logs in `directory`; those that cannot be opened are tried again.
    pub(super) fn open(now: Now, directory: &Path, settings: &Settings, notices: &mut Vec<Notice>) -> Self {
        let logs = Log::ALL.map(|log| LogFile::new(directory.join(log.file_name())));
        let (largest, kept) = (settings.maximum_log_file_size_mb * MEGABYTE, settings.kept_log_files);
        let (directory, day) = (directory.to_owned(), now.day());
        let mut files = Self { directory, logs, largest, kept, is_deleted_daily: false, day };
        for log in Log::ALL {
            let is_open = files.logs[log as usize].open(now.instant);
            files.tell_failure(log, is_open, notices);
        }
        files.apply(now, settings, notices);
        files
    }

    /// Puts the rules in force that need no other files.
    pub(super) fn apply(&mut self, now: Now, settings: &Settings, notices: &mut Vec<Notice>) {
        self.largest = settings.maximum_log_file_size_mb * MEGABYTE;
        self.kept = settings.kept_log_files;
        let begins = settings.delete_log_files_daily && !self.is_deleted_daily;
        self.is_deleted_daily = settings.delete_log_files_daily;
        if begins {
            let midnight = UNIX_EPOCH + Duration::from_secs(self.day * DAY);
            self.delete(now, Some(midnight), notices);
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Why some log cannot be written.
    pub(super) fn fault(&self) -> Option<&str> {
        self.logs.iter().find_map(LogFile::fault)
    }

    /// Writes a line; false if it is lost, and counted.
    pub(super) fn write(&mut self, now: Now, log: Log, line: &[u8], notices: &mut Vec<Notice>) -> bool {
        self.turn_day(now, notices);
        let file = &mut self.logs[log as usize];
        let had_failed = file.fault().is_some();
        let is_written = file.write(now.instant, line, self.largest, self.kept);
        if !is_written {
            file.lose();
        }
        self.tell_failure(log, is_written || had_failed, notices);
        is_written
    }

    /// What is due without any line: a day's end, and a look at what others have done to the files.
    pub(super) fn check(&mut self, now: Now, notices: &mut Vec<Notice>) {
        self.turn_day(now, notices);
        for log in Log::ALL {
            let file = &mut self.logs[log as usize];
            let had_failed = file.fault().is_some();
            file.check(now.instant);
            let is_well = file.fault().is_none();
            self.tell_failure(log, is_well || had_failed, notices);
        }
    }

    /// Opens a log that has failed again, if it is time to: then the number of its lost lines, for a line that says so.
    pub(super) fn reopen(&mut self, now: Now, log: Log) -> Option<u64> {
        let file = &mut self.logs[log as usize];
        (file.is_due(now.instant) && file.open(now.instant)).then(|| file.lost())
    }

    /// Writes the line that ends a failure; it shows whether it has ended.
    pub(super) fn resume(&mut self, now: Now, log: Log, line: &[u8]) -> bool {
        let file = &mut self.logs[log as usize];
        let is_written = file.write(now.instant, line, self.largest, self.kept);
        if is_written {
            file.resume();
        }
        is_written
    }

    /// One failure of the directory is told once, not of each log.
    fn tell_failure(&self, log: Log, is_well: bool, notices: &mut Vec<Notice>) {
        let Some(reason) = self.logs[log as usize].fault().filter(|_| !is_well) else { return };
        let is_told = |other: &Log| *other != log && self.logs[*other as usize].fault() == Some(reason);
        if !Log::ALL.iter().any(is_told) {
            notices.push(Notice::Failed { log, reason: reason.to_owned() });
        }
    }

    fn turn_day(&mut self, now: Now, notices: &mut Vec<Notice>) {
        let day = now.day();
        if day > self.day {
            self.day = day;
            if self.is_deleted_daily {
                self.delete(now, None, notices);
            }
        }
    }

    /// Deletes all files, or those that nobody has written to since `midnight`.
    fn delete(&mut self, now: Now, midnight: Option<SystemTime>, notices: &mut Vec<Notice>) {
        let mut deleted = 0;
        for log in Log::ALL {
            let file = &mut self.logs[log as usize];
            let had_failed = file.fault().is_some();
            let is_old = |time: SystemTime| midnight.is_none_or(|midnight| time < midnight);
            match file.delete(now.instant, |found| found.modified().is_ok_and(is_old)) {
                Ok(count) => deleted += count,
                // A directory that cannot be read has been told of.
                Err(_) if had_failed => {}
                Err(error) => notices.push(Notice::NotDeleted(error.to_string())),
            }
            let is_well = file.fault().is_none();
            self.tell_failure(log, is_well || had_failed, notices);
        }
        if deleted > 0 {
            notices.push(Notice::Deleted(deleted));
        }
    }
}

#[cfg(test)]
mod tests;
