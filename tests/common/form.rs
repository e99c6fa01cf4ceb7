//! The form of a log line, as `docs/operations.md` has it: its tables of events and fields are read from there.

use std::collections::BTreeMap;
use std::sync::OnceLock;

const CONTRACT: &str = include_str!("../../docs/operations.md");

/// A line read back.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) level: String,
    pub(crate) module: String,
    pub(crate) event: String,
    /// The values without their quotes, else as they stand.
    pub(crate) fields: BTreeMap<String, String>,
}

/// The rows of the table that begins with `head`: their cells.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let rows = CONTRACT.split(head).nth(1).expect("the table is there").lines().skip(2);
    let rows = rows.take_while(|row| row.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect())
        .collect()
}

fn events() -> &'static BTreeMap<&'static str, (&'static str, &'static str)> {
    static EVENTS: OnceLock<BTreeMap<&str, (&str, &str)>> = OnceLock::new();
    EVENTS.get_or_init(|| {
        let rows = table("| event | level | file | means |");
        rows.into_iter().map(|row| (row[0], (row[1], row[2]))).collect()
    })
}

fn is_field(name: &str) -> bool {
    static FIELDS: OnceLock<Vec<&str>> = OnceLock::new();
    let fields = FIELDS
        .get_or_init(|| table("### All fields\n\n| field | holds |").iter().map(|row| row[0]).collect());
    fields.contains(&name)
}

/// The file that an event belongs to.
pub(crate) fn file_of(event: &str) -> &'static str {
    events()[event].1
}

/// Reads a line in either form, and fails where it has neither, or says what the contract does not know.
#[track_caller]
pub(crate) fn read(line: &str) -> Line {
    let (time, read) = if line.starts_with('{') { from_json(line) } else { from_text(line) };
    assert!(time.len() == 24 && time.ends_with('Z') && humantime::parse_rfc3339(&time).is_ok(), "{line}");
    let known = events().get(&*read.event);
    let (levels, _) = known.unwrap_or_else(|| panic!("{} is no event of the contract: {line}", read.event));
    assert!(levels.split(", ").any(|level| level == read.level), "{} is not its level: {line}", read.level);
    let is_module = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(!read.module.is_empty() && read.module.chars().all(is_module), "{line}");
    for key in read.fields.keys() {
        assert!(is_field(key), "{key} is no field of the contract: {line}");
    }
    read
}

#[track_caller]
fn from_text(line: &str) -> (String, Line) {
    let words: Vec<_> = line.splitn(5, ' ').collect();
    assert!(words.len() >= 4, "no line of the log: {line}");
    let (mut fields, mut rest) = (BTreeMap::new(), words.get(4).copied().unwrap_or(""));
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=').unwrap_or_else(|| panic!("no field: {rest} in {line}"));
        let end = if value.starts_with('"') { quoted(value) } else { value.find(' ').unwrap_or(value.len()) };
        let (value, behind) = value.split_at(end);
        assert!(
            fields.insert(key.to_owned(), value.trim_matches('"').to_owned()).is_none(),
            "{key} twice: {line}"
        );
        assert!(behind.is_empty() || behind.starts_with(' '), "{line}");
        rest = behind.trim_start_matches(' ');
    }
    let word = |place: usize| words[place].to_owned();
    (word(0), Line { level: word(1), module: word(2), event: word(3), fields })
}

/// The length of a value in quotes, with them.
#[track_caller]
fn quoted(value: &str) -> usize {
    let mut is_escaped = false;
    for (place, c) in value.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return place + 1,
            _ => {}
        }
    }
    panic!("no end of quotes: {value}");
}

#[track_caller]
fn from_json(line: &str) -> (String, Line) {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let head = |key: &str| object.get(key).map(text).unwrap_or_else(|| panic!("no {key}: {line}"));
    let is_head = |key: &str| matches!(key, "time" | "level" | "module" | "event");
    let fields = object.iter().filter(|(key, _)| !is_head(key));
    let fields = fields.map(|(key, value)| (key.clone(), text(value))).collect();
    (head("time"), Line { level: head("level"), module: head("module"), event: head("event"), fields })
}
