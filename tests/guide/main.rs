//! The administrator's guide, `docs/guide/en` and `docs/guide/de`, held against the program: its commands are run, its
//! table of settings and its list of messages are compared with what the program says, and the two languages with each
//! other.

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod markdown;
mod messages;
mod session;
mod settings;
mod sizing;
mod structure;

use std::path::{Path, PathBuf};

use markdown::{Chapter, Kind};

/// The guide's languages, by their directories.
const LANGUAGES: [&str; 2] = ["en", "de"];

/// A path of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The chapters of a language, in the order of its table of contents, which comes first.
fn chapters(language: &str) -> Vec<Chapter> {
    let directory = repository("docs/guide").join(language);
    let contents = Chapter::read(&directory.join("README.md"));
    let rows = contents.rows();
    let names: Vec<String> = rows
        .iter()
        .filter_map(|row| row.cells.first()?.split_once("](")?.1.split_once(')'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(names.len() >= 19, "{}: {names:?}", contents.path.display());
    let named = names.iter().map(|name| Chapter::read(&directory.join(name)));
    std::iter::once(Chapter::read(&contents.path)).chain(named).collect()
}

/// The chapter of this file name.
fn chapter(language: &str, name: &str) -> Chapter {
    chapters(language).into_iter().find(|chapter| chapter.name() == name).expect("a chapter that is listed")
}
