//! Where lines go: standard error, the log files, the events.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::{Files, Notice, Now};
use super::line::{Line, Value};
use super::shared::Shared;
use super::vocabulary::Log;
use super::{events, json, text};
use crate::config::{Diagnostics as Settings, LogFormat, LogLevel};

/// At most one line about dropped ones in this time: while the queue is full there could be one after every other line.
const DROPS_INTERVAL: Duration = Duration::from_secs(10);

/// Writes each line in one call, so that what is written is there when the process ends, however it does.
pub(super) struct Output<W> {
    sink: W,
    files: Option<Files>,
    /// Those that `files` has.
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    buffer: String,
    drops_told: Option<Instant>,
}

impl<W: Write> Output<W> {
    /// Opens the log files, if there are to be any, and says what is wrong with them.
    pub(super) fn new(now: Now, sink: W, shared: Arc<Shared>) -> Self {
        let settings = shared.settings.load_full();
        let mut output =
            Self { sink, files: None, settings, shared, buffer: String::new(), drops_told: None };
        output.open(now);
        output
    }

    /// Writes a line to where it belongs. Without files everything goes to standard error, else the events alone.
    pub(super) fn take(&mut self, now: Now, line: &Line) {
        self.follow_settings(now);
        let mut notices = Vec::new();
        self.write(now, line, Log::of(&line.event), &mut notices);
        self.tell(now, notices);
    }

    /// What is due without any line. To be called every second or so.
    pub(super) fn tick(&mut self, now: Now) {
        self.follow_settings(now);
        let mut notices = Vec::new();
        if let Some(files) = &mut self.files {
            files.check(now, &mut notices);
        }
        self.tell(now, notices);
        self.resume(now);
        if self.drops_told.is_none_or(|told| now.instant.saturating_duration_since(told) >= DROPS_INTERVAL) {
            self.tell_drops(now);
        }
    }

    /// Says what is left to say.
    pub(super) fn finish(&mut self, now: Now) {
        self.tell_drops(now);
    }

    fn write(&mut self, now: Now, line: &Line, log: Log, notices: &mut Vec<Notice>) {
        self.shared.events.note(line);
        if !line.is_written {
            return;
        }
        self.render(line);
        if let Some(files) = &mut self.files {
            files.write(now, log, self.buffer.as_bytes(), notices);
        }
        if self.files.is_none() || events::is_event(line.level, &line.module, &line.event) {
            self.write_to_sink();
        }
    }

    fn render(&mut self, line: &Line) {
        self.buffer.clear();
        match self.settings.format {
            LogFormat::Text => text::write(line, &mut self.buffer),
            LogFormat::Json => json::write(line, &mut self.buffer),
        }
    }

    fn write_to_sink(&mut self) {
        // There is nobody left to tell that standard error cannot be written.
        let _ = self.sink.write_all(self.buffer.as_bytes()).and_then(|()| self.sink.flush());
    }

    /// What the log has to say of itself. It ends: each log fails once.
    fn tell(&mut self, now: Now, mut notices: Vec<Notice>) {
        while !notices.is_empty() {
            for notice in std::mem::take(&mut notices) {
                self.write(now, &line_of(now, notice), Log::Service, &mut notices);
            }
            self.publish_fault();
        }
    }

    /// Tries what has failed. That it works is known once the line that says so is written.
    fn resume(&mut self, now: Now) {
        for log in Log::ALL {
            let Some(files) = &mut self.files else { return };
            let Some(lost) = files.reopen(now, log) else { continue };
            let line = own_line(
                now,
                LogLevel::Warning,
                "log_resumed",
                vec![
                    ("file", Value::Text(log.file_name().to_owned())),
                    ("lost", Value::Number(lost.to_string())),
                ],
            );
            self.render(&line);
            if self.files.as_mut().is_some_and(|files| files.resume(now, log, self.buffer.as_bytes())) {
                self.shared.events.note(&line);
                self.write_to_sink();
                self.publish_fault();
            }
        }
    }

    fn tell_drops(&mut self, now: Now) {
        let count = self.shared.drops.take_unsaid();
        if count > 0 {
            self.drops_told = Some(now.instant);
            let fields = vec![("count", Value::Number(count.to_string()))];
            let mut notices = Vec::new();
            self.write(
                now,
                &own_line(now, LogLevel::Warning, "lines_dropped", fields),
                Log::Service,
                &mut notices,
            );
            self.tell(now, notices);
        }
    }

    /// Puts what a reload has brought in force.
    fn follow_settings(&mut self, now: Now) {
        let settings = self.shared.settings.load();
        if Arc::ptr_eq(&settings, &self.settings) {
            return;
        }
        self.settings = Arc::clone(&settings);
        self.open(now);
    }

    /// Opens the files of another directory, or puts other rules in force for those that are open.
    fn open(&mut self, now: Now) {
        let mut notices = Vec::new();
        let settings = Arc::clone(&self.settings);
        match (&settings.log_file_directory, &mut self.files) {
            (None, files) => *files = None,
            (Some(directory), Some(files)) if files.directory() == directory => {
                files.apply(now, &settings, &mut notices);
            }
            (Some(directory), files) => *files = Some(Files::open(now, directory, &settings, &mut notices)),
        }
        self.tell(now, notices);
        self.publish_fault();
    }

    fn publish_fault(&self) {
        let fault = self.files.as_ref().and_then(|files| files.fault().map(str::to_owned));
        self.shared.set_fault(fault);
    }
}

fn line_of(now: Now, notice: Notice) -> Line {
    let text = |text: &str| Value::Text(text.to_owned());
    match notice {
        Notice::Failed { log, reason } => own_line(
            now,
            LogLevel::Error,
            "log_failed",
            vec![
                ("file", text(log.file_name())),
                ("reason", Value::Text(reason)),
                (
                    "remedy",
                    text(
                        "make room, or make diagnostics.log_file_directory writable; it is tried again by itself",
                    ),
                ),
            ],
        ),
        Notice::Deleted(count) => own_line(
            now,
            LogLevel::Info,
            "log_files_deleted",
            vec![
                ("count", Value::Number(count.to_string())),
                ("reason", text("diagnostics.delete_log_files_daily")),
            ],
        ),
        Notice::NotDeleted(reason) => {
            own_line(now, LogLevel::Warning, "log_files_not_deleted", vec![("reason", Value::Text(reason))])
        }
    }
}

/// A line of the log about itself.
fn own_line(now: Now, level: LogLevel, event: &str, fields: Vec<(&str, Value)>) -> Line {
    Line {
        time: now.millis(),
        level,
        is_written: true,
        module: "diagnostics".to_owned(),
        event: event.to_owned(),
        fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}
