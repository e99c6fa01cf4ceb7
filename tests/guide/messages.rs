//! The chapter about `check` has each message that the program's source has, and no other.

use std::path::{Path, PathBuf};

use crate::markdown::code_spans;
use crate::{LANGUAGES, chapter, repository};

/// Where the messages of `check` and `lookup` are written.
const SOURCES: &[&str] = &[
    "src/config",
    "src/config/check",
    "src/cli/check",
    "src/cli/visit.rs",
    "src/actors/service_record.rs",
    "src/actors/trial.rs",
    "src/actors/tls/failure.rs",
    "src/protocol/account.rs",
    "src/protocol/next_hop.rs",
];

/// What is there and says nothing that `check` prints: the differences of a reload.
const OTHER_SOURCES: [&str; 2] = ["tests.rs", "diff.rs"];

/// Texts of these files that `check` does not print, or that are no messages of their own.
const NO_MESSAGES: &[&str] = &[
    // Debug forms.
    "File(…, … certificates)",
    // Of `lookup` alone.
    "open federation",
    "static route to … … (…)",
    // Names of what was looked at, which the chapter has in words.
    "client pair",
];

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for source in SOURCES {
        let path = repository(source);
        if path.is_file() {
            files.push(path);
            continue;
        }
        let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let is_other = |path: &PathBuf| OTHER_SOURCES.iter().any(|other| path.ends_with(other));
        files.extend(paths.filter(|path| path.is_file() && !is_other(path)));
    }
    files
}

/// The string literals of a source file, but for tests, comments, attributes and `expect`; `…` for what is filled in.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or(source);
    let lines = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//") && !line.trim_start().starts_with("#["));
    let source = lines.collect::<Vec<_>>().join("\n");
    let (mut literals, mut rest) = (Vec::new(), source.as_str());
    while let Some(at) = rest.find(['"', '\'']) {
        let before = &rest[..at];
        let after = &rest[at + 1..];
        if rest.as_bytes()[at] == b'\'' {
            // A character; else a lifetime.
            let mut characters = after.char_indices();
            let escaped = after.starts_with('\\');
            let end = characters.nth(if escaped { 2 } else { 1 }).filter(|(_, c)| *c == '\'');
            rest = end.map_or(after, |(end, _)| &after[end + 1..]);
            continue;
        }
        let end = closing_quote(after);
        if !before.trim_end().ends_with("expect(") {
            literals.push(readable(&after[..end]));
        }
        rest = &after[end + 1..];
    }
    literals
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    let found = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    found.expect("a literal ends")
}

/// A literal as it is printed.
fn readable(literal: &str) -> String {
    let (mut text, mut characters, mut depth) = (String::new(), literal.chars().peekable(), 0);
    while let Some(c) = characters.next() {
        match c {
            '\\' if characters.peek() == Some(&'\n') => {
                while characters.next_if(|c| c.is_whitespace()).is_some() {}
            }
            '\\' => text.extend(characters.next()),
            '{' => {
                depth += 1;
                text.push('…');
            }
            '}' => depth -= 1,
            _ if depth == 0 => text.push(c),
            _ => {}
        }
    }
    text
}

/// The parts of a text between what is filled in, as far as they have words.
fn parts(text: &str) -> Vec<&str> {
    let has_word = |part: &&str| part.split(|c: char| !c.is_alphabetic()).any(|word| word.len() > 1);
    text.split('…')
        .map(|part| part.trim_matches([' ', '`', '"', ',', ':', ';', '.', '(', ')', '[', ']']))
        .filter(has_word)
        .collect()
}

/// Whether it is a sentence, or part of one, and no name of a key or a word of the configuration.
fn is_message(text: &str) -> bool {
    text.trim().contains(' ') && !parts(text).is_empty() && !NO_MESSAGES.contains(&text)
}

fn all_literals() -> Vec<(PathBuf, String)> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let of_file = |path: PathBuf| {
        literals(&read(&path)).into_iter().map(move |text| (path.clone(), text)).collect::<Vec<_>>()
    };
    sources().into_iter().flat_map(of_file).collect()
}

#[test]
fn every_message_of_check_is_explained_and_nothing_else_is() {
    let literals = all_literals();
    assert!(literals.iter().filter(|(_, text)| is_message(text)).count() > 200, "{}", literals.len());
    for language in LANGUAGES {
        let chapter = chapter(language, "check-messages.md");
        let rows = chapter.rows();
        let shown: Vec<String> = rows.iter().map(|row| code_spans(&row.cells[0]).join("…")).collect();
        // A name may also stand in the second column.
        let explained: Vec<String> = rows.iter().map(|row| row.cells.join(" ")).collect();
        let is_missing = |text: &str| {
            let parts = parts(text);
            !explained.iter().any(|row| parts.iter().all(|part| row.contains(part)))
        };
        let missing: Vec<_> =
            literals.iter().filter(|(_, text)| is_message(text) && is_missing(text)).collect();
        assert!(missing.is_empty(), "not in {}: {missing:#?}", chapter.path.display());
        let known = |piece: &str| literals.iter().any(|(_, text)| text.contains(piece));
        let is_said = |part: &str| {
            let plain = part.strip_prefix("is ").unwrap_or(part);
            let halves = |(at, _)| known(&part[..at]) && known(part[at..].trim_start());
            known(part) || known(plain) || part.match_indices(' ').any(halves)
        };
        let shown: Vec<_> = shown.iter().map(|row| row.replace(", allowed: ", "…")).collect();
        let unsaid: Vec<_> = shown.iter().flat_map(|row| parts(row)).filter(|part| !is_said(part)).collect();
        assert!(unsaid.is_empty(), "said by nobody, but in {}: {unsaid:#?}", chapter.path.display());
    }
}

#[test]
fn literals_are_read_as_they_are_printed() {
    let source = "let a = ['\"', 'x']; fn f<'a>() {}\n// \"no\"\n#[doc = \"no\"]\nf(\"a {b:?} \\\"c\\\" \\\n    d\").expect(\"no\")";
    assert_eq!(literals(source), ["a … \"c\" d"]);
    assert_eq!(parts("`…` is …, allowed: x"), ["is", "allowed: x"]);
}
