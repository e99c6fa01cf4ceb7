//! The table of conformance statements, `conformance.toml`, names each statement once and only tests that exist.
//!
//! Whether the statements hold is for `tests/run` to say, which has seen the tests run; `conformance.awk` counts.

// Clocks and sockets are disallowed to the protocol, which is not here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;

/// Sections and how many statements each has, numbered from 1.
const SECTIONS: [(&str, u32); 14] = [
    ("A", 16),
    ("B", 18),
    ("C", 11),
    ("D", 14),
    ("E", 6),
    ("F", 4),
    ("G", 10),
    ("H", 13),
    ("I", 14),
    ("J", 12),
    ("K", 10),
    ("L", 10),
    ("M", 4),
    ("N", 7),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    priority: u8,
    reference: String,
    says: String,
    tests: Vec<String>,
    note: Option<String>,
    missing: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text() -> String {
    read(&root().join("tests/conformance.toml"))
}

fn table() -> BTreeMap<String, Statement> {
    toml::from_str(&text()).unwrap_or_else(|error| panic!("conformance.toml: {error}"))
}

#[test]
fn each_statement_has_its_table_in_the_order_of_the_list() {
    let every =
        SECTIONS.iter().flat_map(|(section, count)| (1..=*count).map(move |n| format!("{section}{n}")));
    let expected: Vec<_> = every.collect();
    let text = text();
    let headings = text.lines().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'));
    assert_eq!(headings.collect::<Vec<_>>(), expected);
    assert_eq!(table().len(), expected.len(), "and nothing else stands in the file");
}

#[test]
fn each_statement_is_complete() {
    for (name, statement) in table() {
        assert!(matches!(statement.priority, 1 | 2), "{name}: priority {}", statement.priority);
        let (note, missing) = (statement.note.as_ref(), statement.missing.as_ref());
        let texts = [Some(&statement.reference), Some(&statement.says), note, missing];
        assert!(texts.into_iter().flatten().all(|text| !text.trim().is_empty()), "{name}: an empty text");
        assert!(!statement.tests.is_empty() || missing.is_some(), "{name}: no test");
        let mut tests = statement.tests.clone();
        tests.sort();
        tests.dedup();
        assert_eq!(tests.len(), statement.tests.len(), "{name}: a test twice");
    }
}

#[test]
fn each_test_exists() {
    for (name, statement) in table() {
        for test in &statement.tests {
            let (module, function) = test.rsplit_once("::").unwrap_or(("", test));
            let files = files_of(module);
            let file = files.iter().find(|file| file.is_file());
            let file = file.unwrap_or_else(|| panic!("{name}: {test}: none of {files:?} exists"));
            assert!(has_test(&read(file), function), "{name}: no test {function} in {}", file.display());
        }
    }
}

/// Where the source of a module may be: of a target, its main file.
fn files_of(module: &str) -> [PathBuf; 2] {
    let path = root().join("tests").join(module.replace("::", "/"));
    let directory = if module.contains("::") { "mod.rs" } else { "main.rs" };
    [path.with_extension("rs"), path.join(directory)]
}

/// Whether a function of this name stands below `#[test]`, other attributes between them apart.
fn has_test(source: &str, function: &str) -> bool {
    let mut is_test = false;
    source.lines().map(str::trim).any(|line| {
        let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        let found = is_test && name == Some(function);
        is_test = line == "#[test]" || (is_test && line.starts_with("#["));
        found
    })
}

/// What `conformance.awk` makes of a table and a log.
fn count(quick: bool, table: &str, log: &str) -> Output {
    let directory =
        std::env::temp_dir().join(format!("sip-proxy-conformance-{}-{quick}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory below the temporary one");
    for (name, content) in [("table", table), ("log", log)] {
        fs::write(directory.join(name), content).expect("the directory is there");
    }
    let output = Command::new("awk")
        .args(["-v", if quick { "quick=1" } else { "quick=0" }])
        .arg("-f")
        .arg(root().join("tests/conformance.awk"))
        .args([directory.join("table"), directory.join("log")])
        .output();
    fs::remove_dir_all(&directory).expect("it was there");
    output.expect("awk runs")
}

const TABLE: &str = "[A1]\ntests = [\"it::a::holds\"]\n[A2]\ntests = [\n    \"it::a::holds\",\n    \"it::a::fails\",\n]\n\
    [B1]\ntests = [\"it::a::holds\", \"torture::holds\"]\n[B2]\nsays = \"tests = x\"\ntests = [\"it::a::ignored\"]\n\
    [C1]\ntests = [\"interop::real::holds\"]\n# [C2]\n# tests = [\"it::no\"]\n";

const LOG: &str = "     Running unittests src/lib.rs (target/debug/deps/sip_proxy-1)\ntest a::fails ... ok\n\
    \x1b[1m\x1b[92m     Running\x1b[0m tests/it/main.rs (target/debug/deps/it-1)\ntest a::holds ... ok\n\
    test a::fails ... FAILED\ntest a::ignored ... ignored\n\
    \x20    Running tests/torture.rs (target/debug/deps/torture-1)\ntest holds ... ok\n";

#[test]
fn a_statement_holds_when_all_of_its_tests_have_passed() {
    let output = count(false, TABLE, LOG);
    let said = String::from_utf8(output.stdout).expect("awk says what the table has");
    let expected = [
        "conformance: A2 does not hold: it::a::fails has not passed",
        "conformance: B2 does not hold: it::a::ignored has not passed",
        "conformance: C1 does not hold: interop::real::holds has not passed",
        "conformance: 2 of 5 statements hold",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_is_missing_is_said_and_not_judged() {
    let table = format!(
        "{TABLE}[C2]\ntests = []\nmissing = \"not built\"\n[C3]\nmissing = \"half\"\ntests = [\"it::a::fails\"]\n"
    );
    let output = count(true, &table.replace("it::a::ignored", "it::a::holds"), &LOG.replace("FAILED", "ok"));
    let said = String::from_utf8(output.stdout).expect("awk says what the table has");
    let expected = [
        "conformance: C2 is left out: \"not built\"",
        "conformance: C3 is left out: \"half\"",
        "conformance: 4 of 4 statements hold, 2 left out",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_quick_run_judges_what_it_has_run() {
    let (table, log) = (TABLE.replace("it::a::ignored", "it::a::holds"), LOG.replace("FAILED", "ok"));
    let output = count(true, &table, &log);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "conformance: 4 of 4 statements hold\n");
    assert_eq!(output.status.code(), Some(0));
    let nothing = count(true, &table, "error: could not compile\n");
    assert_eq!(String::from_utf8_lossy(&nothing.stdout), "conformance: 0 of 0 statements hold\n");
    assert_eq!(nothing.status.code(), Some(1), "a run without any is no success");
}
