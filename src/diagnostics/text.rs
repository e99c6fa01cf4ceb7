//! The text form: `TIME LEVEL MODULE EVENT key=value ..`.
//!
//! A value stands as it is where it consists of visible ASCII and letters; else, or if it is empty, in quotes, in
//! which `\"`, `\\`, `\n`, `\r`, `\t` and `\u{hex}` stand for what could break the line, end the value, or deceive
//! the reader's eye or terminal.

use std::fmt::Write as _;

use super::levels::level_name;
use super::line::{Line, Value};

/// Appends the line with its line break.
pub(super) fn write(line: &Line, out: &mut String) {
    line.write_time(out);
    for part in [level_name(line.level), &line.module, &line.event] {
        out.push(' ');
        out.push_str(part);
    }
    for field in &line.fields {
        out.push(' ');
        write_field(field, out);
    }
    out.push('\n');
}

/// Appends the fields alone: `key=value key=value`.
pub(super) fn write_fields(line: &Line, out: &mut String) {
    for (index, field) in line.fields.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        write_field(field, out);
    }
}

fn write_field((key, value): &(String, Value), out: &mut String) {
    out.push_str(key);
    out.push('=');
    match value {
        Value::Text(text) => write_text(text, out),
        Value::Number(number) => out.push_str(number),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::None => out.push_str("none"),
    }
}

fn write_text(text: &str, out: &mut String) {
    if !text.is_empty() && text.chars().all(|c| is_visible(c) && !matches!(c, '"' | '\\')) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' ' => out.push(' '),
            c if is_visible(c) => out.push(c),
            // Writing to a String cannot fail.
            c => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    out.push('"');
}

/// Whether it is seen as what it is: no blank, no control, nothing that turns the direction of writing.
pub(super) fn is_visible(c: char) -> bool {
    c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_values_stay_one_value() {
        let table = [
            ("alice", "alice"),
            ("sip:a@b;transport=tcp?x=%20", "sip:a@b;transport=tcp?x=%20"),
            ("Jörg", "Jörg"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("x\r\n2026-01-01T00:00:00.000Z error", "\"x\\r\\n2026-01-01T00:00:00.000Z error\""),
            ("\x1b[31mred\x07\t", "\"\\u{1b}[31mred\\u{7}\\t\""),
            ("\u{202e}gpj.exe\u{2028}\u{9b}\u{7f}", "\"\\u{202e}gpj.exe\\u{2028}\\u{9b}\\u{7f}\""),
        ];
        for (value, written) in table {
            let mut out = String::new();
            write_text(value, &mut out);
            assert_eq!(out, written);
        }
    }
}
