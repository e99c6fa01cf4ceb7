//! The table of settings: every key with its default and what it may hold, as the program has them.

use std::collections::BTreeMap;
use std::process::Command;

use crate::common::scratch::Directory;
use crate::{LANGUAGES, chapter, repository};

/// Keys whose value in the sample is an example and no default; and the default that the table has, if any.
const EXAMPLES: &[(&str, Option<&str>)] = &[
    ("service.presence_domains", Some("[]")),
    ("wan.network_interface.enabled", Some("true")),
    ("lan.account.user_name", None),
    ("lan.account.password", None),
    ("lan.account.users", Some("[\"*\"]")),
    ("registrar.account.user_name", None),
    ("registrar.account.password", None),
    ("registrar.account.users", Some("[\"*\"]")),
    ("static_routes.route.domain_name", None),
    ("static_routes.route.access_server", None),
];

/// Keys without a default that every account may have.
const PROOFS: [&str; 5] = ["password_file", "ha1_sha512_256", "ha1_sha256", "ha1_md5", "certificate"];

/// Each key of the sample, which a unit test holds to the program, with its section's heading and its value.
fn sample() -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(repository("etc/sip-proxy.toml")).expect("the sample");
    let (mut heading, mut keys) = (String::new(), Vec::new());
    for line in text.lines() {
        let example = line.strip_prefix("# ").unwrap_or(line);
        let example = example.strip_prefix("# ").unwrap_or(example);
        if example.starts_with('[') && example.ends_with(']') {
            heading = example.to_owned();
        }
        let Some((key, value)) = example.split_once(" = ") else { continue };
        let is_key = key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if is_key {
            let value = value.split("  ").next().unwrap_or(value).trim();
            keys.push((heading.clone(), key.to_owned(), value.to_owned()));
        }
    }
    keys
}

fn path_of(heading: &str, key: &str) -> String {
    format!("{}.{key}", heading.trim_matches(['[', ']']))
}

/// What the program says that each key may hold: of a date, which no key takes.
fn allowed() -> BTreeMap<String, String> {
    let directory = Directory::new("guide-settings");
    let (mut text, mut last) = (String::new(), String::new());
    for (heading, key, _) in sample() {
        if heading != last {
            text += &format!("{heading}\n");
            last = heading;
        }
        text += &format!("{key} = 1979-05-27\n");
    }
    let file = directory.write("dates.toml", text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sip-proxy"));
    let output = command.arg("--json").arg("--config").arg(file).args(["check", "config"]).output();
    let output = output.expect("Cargo has built the binary");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let faults = report["faults"].as_array().expect("a list").iter();
    faults
        .filter_map(|fault| {
            let allowed = fault["text"].as_str()?.strip_prefix("is a date or time, allowed: ")?;
            Some((fault["key"].as_str()?.replace("[0]", ""), allowed.to_owned()))
        })
        .collect()
}

#[test]
fn the_settings_have_every_key_with_its_default_and_its_range() {
    let (sample, allowed) = (sample(), allowed());
    assert!(sample.len() > 100 && allowed.len() == sample.len(), "{} {}", sample.len(), allowed.len());
    for language in LANGUAGES {
        let chapter = chapter(language, "settings.md");
        let rows = chapter.rows();
        let rows: Vec<_> = rows.iter().filter(|row| row.cells.len() == 5).collect();
        let described: Vec<_> = rows.iter().map(|row| row.cells[0].trim_matches('`').to_owned()).collect();
        let keys: Vec<_> = sample.iter().map(|(heading, key, _)| path_of(heading, key)).collect();
        let missing: Vec<_> = keys.iter().filter(|key| !described.contains(key)).collect();
        let unknown: Vec<_> = described.iter().filter(|key| !keys.contains(key)).collect();
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "{language}: missing {missing:?}, unknown {unknown:?}"
        );
        for row in rows {
            let place = format!("{}:{}", chapter.path.display(), row.line);
            let key = row.cells[0].trim_matches('`');
            let (_, name, value) = sample
                .iter()
                .find(|(heading, name, _)| path_of(heading, name) == key)
                .expect("a key of both");
            let default = EXAMPLES.iter().find(|(example, _)| *example == key).map(|(_, default)| *default);
            match default.unwrap_or(Some(value.as_str()).filter(|_| !PROOFS.contains(&name.as_str()))) {
                Some(default) => {
                    assert!(row.cells[2].contains(&format!("`{default}`")), "{place}: {default}");
                }
                None => assert!(!row.cells[2].contains('`'), "{place}: there is no default"),
            }
            for word in words(&allowed[key]) {
                assert!(has_word(&row.cells[3], &word), "{place}: {word} of {}", allowed[key]);
            }
        }
    }
}

/// What of an allowed text every language has to say: numbers, and words in quotes, but for those of examples.
fn words(allowed: &str) -> Vec<String> {
    let rule = allowed.split(" as \"").next().unwrap_or(allowed);
    let quoted = rule.split('"').skip(1).step_by(2).map(|word| format!("\"{word}\""));
    let plain = rule.split('"').step_by(2).flat_map(str::split_whitespace);
    let numbers = plain.filter(|word| word.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned);
    quoted.chain(numbers).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| c.is_whitespace() || "`,".contains(c)).any(|part| part == word)
}

#[test]
fn the_keys_that_a_reload_refuses_are_those_that_the_sample_marks() {
    let text = std::fs::read_to_string(repository("etc/sip-proxy.toml")).expect("the sample");
    let lines: Vec<&str> = text.lines().collect();
    let marked = lines.windows(2).filter(|pair| pair[0].starts_with('#') && pair[0].ends_with("Restart."));
    let marked: Vec<&str> = marked.filter_map(|pair| pair[1].split(" = ").next()).collect();
    let second = lines.windows(2).filter(|pair| pair[0].ends_with("one per core. Restart.")).count();
    assert!(marked.len() >= 3 && second == 1, "{marked:?}");
    for language in LANGUAGES {
        let chapter = chapter(language, "settings.md");
        let restart = ["refused: restart", "abgelehnt: Neustart"];
        let refused: Vec<_> = chapter
            .rows()
            .iter()
            .filter(|row| row.cells.last().is_some_and(|cell| restart.contains(&cell.as_str())))
            .map(|row| row.cells[0].trim_matches('`').rsplit('.').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(refused, marked, "{language}");
    }
}
