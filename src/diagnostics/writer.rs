//! The last station of a record, in the thread of the log.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use slog::{Drain, Never, OwnedKVList, Record};

use super::events::Events;
use super::line::{Line, Value};
use super::queue::Drops;
use super::{json, text};
use crate::config::{LogFormat, LogLevel};

/// Writes each record as one line, in one call of the sink.
pub(super) struct Writer<W> {
    /// Locked by the one thread that there is.
    sink: Mutex<Sink<W>>,
    write_line: fn(&Line, &mut String),
    drops: Arc<Drops>,
    events: Arc<Events>,
}

struct Sink<W> {
    sink: W,
    buffer: String,
}

impl<W: Write> Writer<W> {
    pub(super) const fn new(sink: W, format: LogFormat, drops: Arc<Drops>, events: Arc<Events>) -> Self {
        let write_line = match format {
            LogFormat::Text => text::write,
            LogFormat::Json => json::write,
        };
        Self { sink: Mutex::new(Sink { sink, buffer: String::new() }), write_line, drops, events }
    }
}

impl<W: Write> Drain for Writer<W> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let Sink { sink, buffer } = &mut *sink;
        buffer.clear();
        let line = Line::read(record, values);
        self.events.note(&line);
        if line.is_written {
            (self.write_line)(&line, buffer);
        }
        // Drops happen while the queue is full, so there is always a line after them that can tell.
        let dropped = self.drops.take_unsaid();
        if dropped > 0 {
            let told = told(dropped, line.time);
            self.events.note(&told);
            (self.write_line)(&told, buffer);
        }
        // There is nobody left to tell that the log cannot be written.
        let _ = sink.write_all(buffer.as_bytes()).and_then(|()| sink.flush());
        Ok(())
    }
}

fn told(dropped: u64, time: u64) -> Line {
    Line {
        time,
        level: LogLevel::Warning,
        is_written: true,
        module: "diagnostics".to_owned(),
        event: "lines_dropped".to_owned(),
        fields: vec![("count".to_owned(), Value::Number(dropped.to_string()))],
    }
}
