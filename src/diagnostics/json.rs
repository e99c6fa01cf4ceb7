//! The JSON form: one object per line, the keys of the line itself first.

use std::fmt::Write as _;

use super::levels::level_name;
use super::line::{Line, Value};
use super::text::is_visible;

/// Appends the object with its line break.
pub(super) fn write(line: &Line, out: &mut String) {
    out.push_str("{\"time\":\"");
    line.write_time(out);
    out.push('"');
    for (key, value) in [("level", level_name(line.level)), ("module", &line.module), ("event", &line.event)]
    {
        write_key(key, out);
        write_string(value, out);
    }
    for (key, value) in &line.fields {
        write_key(key, out);
        match value {
            Value::Text(text) => write_string(text, out),
            Value::Number(number) => out.push_str(number),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::None => out.push_str("null"),
        }
    }
    out.push_str("}\n");
}

fn write_key(key: &str, out: &mut String) {
    out.push(',');
    write_string(key, out);
    out.push(':');
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c == ' ' || is_visible(c) => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_read_back_by_a_json_parser() {
        for text in ["", "a b", "\"\\/\r\n\t\u{0}\u{1b}", "Jörg \u{202e}\u{2028}\u{1f600}", "{\"time\":1}"] {
            let mut out = String::new();
            write_string(text, &mut out);
            assert!(out.chars().all(|c| c == ' ' || is_visible(c)), "{out}");
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
