//! The source is held to the words of the log, and the documentation to both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

const MACROS: [(&str, LogLevel); 6] = [
    ("crit!(", Error),
    ("error!(", Error),
    ("warn!(", Warning),
    ("info!(", Info),
    ("debug!(", Debug),
    ("trace!(", LogLevel::Trace),
];

/// One record as the source has it.
#[derive(Debug)]
struct Said {
    place: String,
    level: LogLevel,
    event: String,
    /// Keys that are literals.
    keys: Vec<String>,
    /// Whether other keys may join.
    is_open: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !matches!(name, "tests" | "testing") {
                files(&path, found);
            }
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The code of a file, without its comments and its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Cuts at the separators that are outside of strings and brackets; ends with the bracket that was open before.
fn arguments(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut is_quoted, mut is_escaped) = (Vec::new(), 0, 0, false, false);
    for (place, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth > 0 => depth -= 1,
            ')' => {
                parts.push(text[start..place].trim());
                return parts.into_iter().filter(|part| !part.is_empty()).collect();
            }
            ',' | ';' if depth == 0 => {
                parts.push(text[start..place].trim());
                start = place + 1;
            }
            _ => {}
        }
    }
    panic!("no end: {text:.80}")
}

fn literal(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains('"')).then(|| inner.to_owned())
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')
}

fn records(path: &Path) -> Vec<Said> {
    let (code, mut found) = (code(path), Vec::new());
    for (name, level) in MACROS {
        for (start, _) in code.match_indices(name) {
            if code[..start].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                continue;
            }
            let line = code[..start].lines().count();
            let place = format!("{}, about line {line} of its code", path.display());
            let parts = arguments(&code[start + name.len()..]);
            let event =
                parts.get(1).copied().and_then(literal).unwrap_or_else(|| panic!("{place}: no event name"));
            let key = |part: &&str| part.split_once("=>").and_then(|(key, _)| literal(key.trim()));
            let keys: Vec<_> = parts[2..].iter().filter_map(key).collect();
            let is_open = keys.len() < parts.len() - 2;
            found.push(Said { place, level, event, keys, is_open });
        }
    }
    found
}

/// What `diagnostics` says of itself without a macro.
fn own_lines(path: &Path) -> Vec<Said> {
    const LEVELS: [(&str, LogLevel); 3] =
        [("LogLevel::Error", Error), ("LogLevel::Warning", Warning), ("LogLevel::Info", Info)];
    let (code, mut found) = (code(path), Vec::new());
    for (start, call) in code.match_indices("own_line(") {
        if code[..start].ends_with("fn ") {
            continue;
        }
        let parts = arguments(&code[start + call.len()..]);
        let level = LEVELS.iter().find(|(word, _)| *word == parts[1]).expect("a level").1;
        let key = |part: &str| {
            part.trim_start().strip_prefix('"').map(|key| key.split('"').next().unwrap().to_owned())
        };
        let keys = parts[3].split('(').filter_map(key).filter(|key| is_name(key)).collect();
        let (place, event) = (path.display().to_string(), literal(parts[2]).expect("a name"));
        found.push(Said { place, level, event, keys, is_open: false });
    }
    found
}

fn all() -> Vec<Said> {
    let mut paths = Vec::new();
    files(&root().join("src"), &mut paths);
    paths.iter().flat_map(|path| records(path).into_iter().chain(own_lines(path))).collect()
}

#[test]
fn every_record_of_the_source_has_a_known_event_and_known_fields() {
    let all = all();
    assert!(all.len() > 60, "the scan finds {} records", all.len());
    for said in &all {
        let Said { place, level, event, keys, is_open } = said;
        let kind = EVENTS.iter().find(|kind| kind.name == event);
        let kind = kind.unwrap_or_else(|| panic!("{place}: {event} is not in EVENTS"));
        assert!(kind.levels.contains(level), "{place}: {event} at {level:?}");
        assert!(!is_open || event == "dropped", "{place}: {event} has fields that are no literals");
        for key in keys {
            assert!(
                FIELDS.iter().any(|field| field.name == key),
                "{place}: {key} of {event} is not in FIELDS"
            );
        }
        let unique: BTreeSet<_> = keys.iter().collect();
        assert_eq!(unique.len(), keys.len(), "{place}: {event} has a field twice");
    }
}

#[test]
fn no_event_and_no_field_is_known_that_nobody_uses() {
    let all = all();
    let mut levels: BTreeMap<&str, Vec<LogLevel>> = BTreeMap::new();
    for said in &all {
        levels.entry(&said.event).or_default().push(said.level);
    }
    for kind in EVENTS.iter().filter(|kind| kind.name != "message") {
        for level in kind.levels {
            assert!(
                levels.get(kind.name).is_some_and(|said| said.contains(level)),
                "{} at {level:?}",
                kind.name
            );
        }
    }
    // Of loggers; of libraries; and the reasons of `dropped`, which its own test holds to the table.
    let mut used: BTreeSet<&str> = ["interface", "protocol", "text"].into();
    used.extend(all.iter().flat_map(|said| said.keys.iter().map(String::as_str)));
    for field in FIELDS.iter().filter(|field| !field.meaning.starts_with("of `dropped`")) {
        assert!(used.contains(field.name), "nobody says {}", field.name);
    }
}

#[test]
fn names_are_sorted_snake_case_and_explained() {
    assert!(EVENTS.is_sorted_by(|one, other| one.name < other.name), "EVENTS is searched by halves");
    assert!(FIELDS.is_sorted_by(|one, other| one.name < other.name));
    assert!(
        EVENTS.iter().all(|kind| is_name(kind.name) && !kind.meaning.is_empty() && !kind.levels.is_empty())
    );
    assert!(FIELDS.iter().all(|field| is_name(field.name) && !field.meaning.is_empty()));
    assert_eq!(Log::of("answered"), Log::Sip);
    assert_eq!(Log::of("tls_failed"), Log::Security);
    assert_eq!(Log::of("ready"), Log::Service);
    assert_eq!(Log::of("something_of_a_library"), Log::Service);
}

#[test]
fn the_documentation_has_the_same_tables() {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut events = "| event | level | file | means |\n|---|---|---|---|\n".to_owned();
    for Kind { name, levels, log, meaning } in EVENTS {
        let levels: Vec<_> = levels.iter().map(|level| super::super::levels::level_name(*level)).collect();
        let (levels, file) = (levels.join(", "), log.file_name());
        events.push_str(&format!("| `{name}` | {levels} | `{file}` | {meaning} |\n"));
    }
    let mut fields = "| field | holds |\n|---|---|\n".to_owned();
    for Field { name, meaning } in FIELDS {
        fields.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    for table in [events, fields] {
        assert!(text.contains(&table), "docs/operations.md should have:\n{table}");
    }
}
