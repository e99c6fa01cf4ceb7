//! The file as it is written: TOML into a tree of values, with the line of every key.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::report::{Origin, Origins, element_path, key_path};

/// The tree of a file, and where each of its keys stands.
pub(super) struct Document {
    /// The root table.
    pub(super) entries: Map<String, Value>,
    /// The line of every key and of every element of a list.
    pub(super) origins: Origins,
}

/// What makes a text no TOML, with the line.
pub(super) type SyntaxFault = (usize, String);

/// Parses the text of a file.
///
/// # Errors
///
/// All syntax faults at once. The tree of a broken text is not used: what parses of it may mean something
/// else.
pub(super) fn parse(text: &str) -> Result<Document, Vec<SyntaxFault>> {
    let lines = Lines::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let fault = |e: &toml::de::Error| (lines.at(e.span().map_or(0, |s| s.start)), e.message().to_owned());
        return Err(errors.iter().map(fault).collect());
    }
    let mut origins = BTreeMap::new();
    let entries = table(root.get_ref(), "", &lines, &mut origins);
    Ok(Document { entries, origins })
}

/// Parses one value in TOML syntax, as a variable of the environment may hold it.
pub(super) fn parse_value(text: &str) -> Option<Value> {
    let value = DeValue::parse(text).ok()?;
    Some(Value::new(None, kind(value.get_ref(), "", &Lines::new(""), &mut BTreeMap::new())))
}

fn table(entries: &DeTable<'_>, path: &str, lines: &Lines, origins: &mut Origins) -> Map<String, Value> {
    let mut converted = Map::new();
    for (name, value) in entries {
        let segment = segment(name.get_ref());
        let path = key_path(path, &segment);
        origins.insert(path.clone(), Origin::Line(lines.at(name.span().start)));
        converted.insert(segment, Value::new(None, kind(value.get_ref(), &path, lines, origins)));
    }
    converted
}

/// A key as it stands in a path. Unusual ones keep their quotes, so that none passes for a path itself.
fn segment(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if bare { name.to_owned() } else { format!("{name:?}") }
}

fn kind(value: &DeValue<'_>, path: &str, lines: &Lines, origins: &mut Origins) -> ValueKind {
    match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Boolean(value) => ValueKind::Boolean(*value),
        // What does not fit is outside of every range, which is what the reader then says.
        DeValue::Integer(digits) => {
            ValueKind::I128(i128::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i128::MAX))
        }
        DeValue::Float(digits) => ValueKind::Float(digits.as_str().parse().unwrap_or(f64::NAN)),
        // No key takes dates, and the tree has no kind for them.
        DeValue::Datetime(_) => ValueKind::Nil,
        DeValue::Array(items) => ValueKind::Array(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    let path = element_path(path, index);
                    origins.insert(path.clone(), Origin::Line(lines.at(item.span().start)));
                    Value::new(None, kind(item.get_ref(), &path, lines, origins))
                })
                .collect(),
        ),
        DeValue::Table(entries) => ValueKind::Table(table(entries, path, lines, origins)),
    }
}

/// Turns offsets into line numbers.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|newline| *newline < offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_key_and_element_has_its_line() {
        let text = "[lan]\nport = 1\n\n[[lan.account]]\nuser_name = \"a\"\n[[lan.account]]\nusers = [\n\"b\",\n\"c\"]\n";
        let document = parse(text).unwrap();
        for (path, line) in [
            ("lan", 1),
            ("lan.port", 2),
            ("lan.account", 4),
            ("lan.account[0]", 4),
            ("lan.account[0].user_name", 5),
            ("lan.account[1]", 6),
            ("lan.account[1].users[1]", 9),
        ] {
            assert_eq!(document.origins.get(path), Some(&Origin::Line(line)), "{path}");
        }
    }

    #[test]
    fn all_syntax_faults_come_at_once_with_their_lines() {
        let faults = parse("[lan]\nport = \n[sip]\nt1 = \"1s\"\nt1 = \"2s\"\nt2 == 3\n").err().unwrap();
        let lines: Vec<_> = faults.iter().map(|f| f.0).collect();
        assert!([2, 5, 6].iter().all(|line| lines.contains(line)), "{faults:?}");
    }

    #[test]
    fn deep_nesting_is_a_syntax_fault_and_no_overflow() {
        let deep = format!("a = {}", "[".repeat(100_000));
        assert!(parse(&deep).is_err());
    }

    proptest! {

        #[test]
        fn no_text_panics(text in "[a-c0-9=\\[\\]{}\"'.,#\n\\\\ -]{0,60}|\\PC{0,40}") {
            let lines = text.lines().count().max(1) + 1;
            match parse(&text) {
                Ok(document) => {
                    for origin in document.origins.values() {
                        prop_assert!(matches!(origin, Origin::Line(line) if (1..=lines).contains(line)));
                    }
                }
                Err(faults) => prop_assert!(faults.iter().all(|(line, _)| (1..=lines).contains(line))),
            }
        }
    }
}
