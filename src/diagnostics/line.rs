//! A record taken apart: what the forms of a line are written from.

use std::fmt::{self, Write as _};

use slog::{KV, Key, OwnedKVList, Record, Serializer};

use super::levels::level_of;
use super::module::{self, Origin};
use crate::config::LogLevel;

/// The key under which the filter has left the time, in milliseconds since 1970.
pub(super) const TIME_KEY: &str = "time";

/// The key by which the filter says that the record is for [`super::Events`] alone: its level keeps it out of the log.
pub(super) const UNWRITTEN_KEY: &str = "unwritten";

/// The longest value of a field: octets. The rest of a longer one is left out.
const LONGEST_VALUE: usize = 2_000;

/// Stands at the end of a value that was cut.
const CUT: &str = "...";

/// Keys of the line itself; a field of that name gets an underscore.
const RESERVED: [&str; 4] = [TIME_KEY, "level", module::KEY, "event"];

/// The event of libraries' messages and of all others that are no event name; the field that holds their text.
const MESSAGE: (&str, &str) = ("message", "text");

/// One line to be.
#[derive(Debug)]
pub(super) struct Line {
    /// Milliseconds since 1970.
    pub(super) time: u64,
    pub(super) level: LogLevel,
    /// Whether it goes where the log goes.
    pub(super) is_written: bool,
    pub(super) module: String,
    pub(super) event: String,
    /// Those of the record in its order, then those of its logger, the outer ones first. No key twice.
    pub(super) fields: Vec<(String, Value)>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Anything; peers may have chosen it.
    Text(String),
    /// As JSON writes it.
    Number(String),
    Bool(bool),
    None,
}

impl Line {
    /// Reads a record and the values of its logger.
    pub(super) fn read(record: &Record<'_>, values: &OwnedKVList) -> Self {
        let mut own = Collector::default();
        let mut context = Collector { is_stamped: true, ..Collector::default() };
        // Neither fails: a collector takes everything, and a value that cannot say itself is left out.
        let _ = record.kv().serialize(record, &mut own);
        let _ = values.serialize(record, &mut context);
        let module = own.module.or(context.module);
        let module = module.unwrap_or_else(|| Origin::of(record.module(), record.tag()).name().to_owned());
        let mut line = Self {
            time: context.time.unwrap_or(0),
            level: level_of(record.level()),
            is_written: !context.is_unwritten,
            module,
            event: record.msg().to_string(),
            fields: Vec::new(),
        };
        // slog lists what was added last first.
        let mut context = context.fields;
        own.fields.reverse();
        context.retain(|(key, _)| !own.fields.iter().any(|(inner, _)| inner == key));
        context.reverse();
        line.fields = own.fields;
        line.fields.append(&mut context);
        if !record.tag().is_empty() || !is_event_name(&line.event) {
            line.make_text();
        }
        line
    }

    /// Turns what is no event name, and so may need quotes or be a peer's, into a field.
    fn make_text(&mut self) {
        let text = shortened(std::mem::replace(&mut self.event, MESSAGE.0.to_owned()));
        self.fields.insert(0, (MESSAGE.1.to_owned(), Value::Text(text)));
    }

    /// RFC 3339 in UTC, with milliseconds.
    pub(super) fn write_time(&self, out: &mut String) {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(self.time.min(LAST_TIME));
        // Writing to a String cannot fail.
        let _ = write!(out, "{}", humantime::format_rfc3339_millis(time));
    }
}

/// The end of the year 9999, which RFC 3339 cannot go beyond.
const LAST_TIME: u64 = 253_402_300_799_999;

/// Takes what slog lists.
#[derive(Default)]
struct Collector {
    /// Whether the first time, and what comes with it, is the filter's.
    is_stamped: bool,
    is_unwritten: bool,
    time: Option<u64>,
    module: Option<String>,
    fields: Vec<(String, Value)>,
}

impl Collector {
    fn take(&mut self, key: &Key, value: Value) -> slog::Result {
        let key = key.as_str();
        match (key, &value) {
            (TIME_KEY, Value::Number(millis)) if self.is_stamped && self.time.is_none() => {
                self.time = millis.parse().ok();
                return Ok(());
            }
            (UNWRITTEN_KEY, Value::Bool(true)) if self.is_stamped && self.time.is_none() => {
                self.is_unwritten = true;
                return Ok(());
            }
            (module::KEY, Value::Text(name)) if self.module.is_none() => {
                self.module = Some(tame(name));
                return Ok(());
            }
            _ => {}
        }
        let mut key = tame(key);
        if RESERVED.contains(&key.as_str()) {
            key.push('_');
        }
        if !self.fields.iter().any(|(known, _)| *known == key) {
            self.fields.push((key, value));
        }
        Ok(())
    }

    fn number(&mut self, key: &Key, value: impl fmt::Display) -> slog::Result {
        self.take(key, Value::Number(value.to_string()))
    }

    fn float(&mut self, key: &Key, value: f64) -> slog::Result {
        let text = value.to_string();
        self.take(key, if value.is_finite() { Value::Number(text) } else { Value::Text(text) })
    }
}

/// What a peer has written may be as long as a message.
pub(super) fn shortened(mut text: String) -> String {
    if text.len() > LONGEST_VALUE {
        let end = text.floor_char_boundary(LONGEST_VALUE);
        text.truncate(end);
        text.push_str(CUT);
    }
    text
}

fn is_event_name(message: &str) -> bool {
    let is_name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    !message.is_empty() && message.bytes().all(is_name)
}

/// As a name that needs no quotes.
fn tame(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let tame: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    if tame.is_empty() { "_".to_owned() } else { tame }
}

impl Serializer for Collector {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.take(&key, Value::Text(shortened(value.to_string())))
    }

    fn emit_str(&mut self, key: Key, value: &str) -> slog::Result {
        self.take(&key, Value::Text(shortened(value.to_owned())))
    }

    fn emit_bool(&mut self, key: Key, value: bool) -> slog::Result {
        self.take(&key, Value::Bool(value))
    }

    fn emit_unit(&mut self, key: Key) -> slog::Result {
        self.take(&key, Value::None)
    }

    fn emit_none(&mut self, key: Key) -> slog::Result {
        self.take(&key, Value::None)
    }

    fn emit_u8(&mut self, key: Key, value: u8) -> slog::Result {
        self.number(&key, value)
    }

    fn emit_i8(&mut self, key: Key, value: i8) -> slog::Result {
        self.number(&key, value)
    }

    fn emit_u16(&mut self, key: Key, value: u16) -> slog::Result {
        self.number(&key, value)
    }

    fn emit_i16(&mut self, key: Key, value: i16) -> slog::Result {
        self.number(&key, value)
    }

    fn emit_u32(&mut self, key: Key, value: u32) -> slog::Result {
        self.number(&key, value)
    }

    fn emit_i32(&mut self, key: Key, value: i32) -> slog::Result {
        self.number(&key, value)
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        self.number(&key, value)
    }

    fn emit_i64(&mut self, key: Key, value: i64) -> slog::Result {
        self.number(&key, value)
    }

    fn emit_usize(&mut self, key: Key, value: usize) -> slog::Result {
        self.number(&key, value)
    }

    fn emit_isize(&mut self, key: Key, value: isize) -> slog::Result {
        self.number(&key, value)
    }

    fn emit_f32(&mut self, key: Key, value: f32) -> slog::Result {
        self.float(&key, f64::from(value))
    }

    fn emit_f64(&mut self, key: Key, value: f64) -> slog::Result {
        self.float(&key, value)
    }
}
