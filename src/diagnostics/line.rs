//! The form of a line: RFC 3339 time in UTC with milliseconds, level, module, event name, then `key=value` fields.
//!
//! What comes from outside cannot forge a line or a field: values with spaces, quotes, control characters or
//! nothing in them are quoted, and what is in the quotes is escaped as in a string literal of JSON.

use std::cell::RefCell;
use std::fmt::{self, Arguments, Write as _};
use std::io;
use std::sync::Mutex;
use std::time::SystemTime;

use slog::{Drain, KV as _, Key, Level, Never, OwnedKVList, Record, Serializer};

use crate::config::LogFormat;

/// Writes a line per record.
pub(super) struct Lines<W> {
    out: Mutex<W>,
    format: LogFormat,
}

impl<W: io::Write> Lines<W> {
    pub(super) const fn new(out: W, format: LogFormat) -> Self {
        Self { out: Mutex::new(out), format }
    }
}

impl<W: io::Write + Send> Drain for Lines<W> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            write_line(line, self.format, SystemTime::now(), record, values);
            let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // There is nowhere left to tell that standard error is gone.
            let _ = out.write_all(line.as_bytes());
        });
        Ok(())
    }
}

/// The fields of one record. `module` is not a field but a column.
#[derive(Default)]
struct Fields {
    module: Option<String>,
    list: Vec<(Key, Value)>,
}

enum Value {
    Number(String),
    Text(String),
}

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &Arguments<'_>) -> slog::Result {
        let text = value.to_string();
        if key == "module" {
            // The nearest logger's counts: it comes first.
            self.module.get_or_insert(text);
        } else {
            self.list.push((key, Value::Text(text)));
        }
        Ok(())
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        self.list.push((key, Value::Number(value.to_string())));
        Ok(())
    }

    fn emit_i64(&mut self, key: Key, value: i64) -> slog::Result {
        self.list.push((key, Value::Number(value.to_string())));
        Ok(())
    }

    fn emit_usize(&mut self, key: Key, value: usize) -> slog::Result {
        self.emit_u64(key, value as u64)
    }

    fn emit_u32(&mut self, key: Key, value: u32) -> slog::Result {
        self.emit_u64(key, u64::from(value))
    }

    fn emit_u16(&mut self, key: Key, value: u16) -> slog::Result {
        self.emit_u64(key, u64::from(value))
    }

    fn emit_i32(&mut self, key: Key, value: i32) -> slog::Result {
        self.emit_i64(key, i64::from(value))
    }

    fn emit_bool(&mut self, key: Key, value: bool) -> slog::Result {
        self.list.push((key, Value::Number(value.to_string())));
        Ok(())
    }
}

fn write_line(line: &mut String, format: LogFormat, now: SystemTime, record: &Record<'_>, values: &OwnedKVList) {
    let mut fields = Fields::default();
    // Neither fails: the serializer takes everything. slog hands out the latest field first.
    let _ = record.kv().serialize(record, &mut fields);
    let _ = values.serialize(record, &mut fields);
    fields.list.reverse();
    let is_library = fields.module.is_none();
    let module = fields.module.unwrap_or_else(|| record.module().split("::").next().unwrap_or_default().to_owned());
    let message = record.msg().to_string();
    // A library's message is prose: the event is that it logged.
    let event = if is_library { "library" } else { &message };
    let text = is_library.then_some(&message);
    let time = humantime::format_rfc3339_millis(now);
    let level = level_name(record.level());
    let written = match format {
        LogFormat::Text => write_text(line, &time, level, &module, event, text, &fields.list),
        LogFormat::Json => write_json(line, &time, level, &module, event, text, &fields.list),
    };
    written.expect("a String takes all that is written");
    line.push('\n');
}

fn write_text(
    line: &mut String,
    time: &impl fmt::Display,
    level: &str,
    module: &str,
    event: &str,
    text: Option<&String>,
    fields: &[(Key, Value)],
) -> fmt::Result {
    write!(line, "{time} {level} {module} {event}")?;
    if let Some(text) = text {
        line.push_str(" text=");
        write_quoted(line, text)?;
    }
    for (key, value) in fields {
        write!(line, " {key}=")?;
        match value {
            Value::Number(number) => line.push_str(number),
            Value::Text(text) if is_plain(text) => line.push_str(text),
            Value::Text(text) => write_quoted(line, text)?,
        }
    }
    Ok(())
}

fn write_json(
    line: &mut String,
    time: &impl fmt::Display,
    level: &str,
    module: &str,
    event: &str,
    text: Option<&String>,
    fields: &[(Key, Value)],
) -> fmt::Result {
    write!(line, "{{\"time\":\"{time}\",\"level\":\"{level}\",\"module\":")?;
    write_quoted(line, module)?;
    line.push_str(",\"event\":");
    write_quoted(line, event)?;
    if let Some(text) = text {
        line.push_str(",\"text\":");
        write_quoted(line, text)?;
    }
    for (key, value) in fields {
        line.push(',');
        write_quoted(line, key.as_ref())?;
        line.push(':');
        match value {
            Value::Number(number) => line.push_str(number),
            Value::Text(text) => write_quoted(line, text)?,
        }
    }
    line.push('}');
    Ok(())
}

const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Critical | Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !is_escaped(c) && c != '=')
}

/// Control characters, and those that turn the writing direction or end a line in some readers.
fn is_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '"' | '\\' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn write_quoted(line: &mut String, text: &str) -> fmt::Result {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if is_escaped(c) => write!(line, "\\u{:04x}", u32::from(c))?,
            c => line.push(c),
        }
    }
    line.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use slog::{Logger, error, info, o, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, write: impl FnOnce(&Logger)) -> String {
        let buffer = Buffer::default();
        let log = Logger::root(Lines::new(buffer.clone(), format).fuse(), o!("module" => "router"));
        write(&log);
        drop(log);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_has_time_level_module_event_and_fields_in_order() {
        let line = logged(LogFormat::Text, |log| {
            info!(log, "answered"; "call_id" => "a@b", "status" => 200, "reason" => "two words", "empty" => "");
        });
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok() && time.len() == "2026-01-01T00:00:00.000Z".len());
        assert_eq!(rest, "info router answered call_id=a@b status=200 reason=\"two words\" empty=\"\"\n");
        assert!(logged(LogFormat::Text, |log| error!(log, "x")).contains(" error router x\n"));
    }

    #[test]
    fn hostile_values_stay_in_their_field() {
        let hostile = "x\r\n2026-01-01T00:00:00.000Z error router forged\u{1b}[31m\" peer=\\ \u{202e}";
        let line = logged(LogFormat::Text, |log| warn!(log, "refused"; "call_id" => hostile, "last" => "yes"));
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains('\u{1b}') && !line.contains('\u{202e}'));
        assert!(line.contains(r#"call_id="x\r\n2026"#) && line.ends_with("\\u202e\" last=yes\n"), "{line}");
        let json = logged(LogFormat::Json, |log| warn!(log, "refused"; "call_id" => hostile, "status" => 403));
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["call_id"], hostile);
        assert_eq!((&parsed["status"], &parsed["level"], &parsed["event"]), (&403.into(), &"warning".into(), &"refused".into()));
        assert_eq!(parsed["module"], "router");
    }

    #[test]
    fn a_childs_fields_follow_those_of_the_record() {
        let line = logged(LogFormat::Text, |log| info!(log.new(o!("interface" => "lan")), "listening"; "port" => 5060));
        assert!(line.ends_with("listening interface=lan port=5060\n"), "{line}");
    }
}
