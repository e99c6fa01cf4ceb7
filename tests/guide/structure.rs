//! Both languages say the same, and no link leads nowhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::markdown::Chapter;
use crate::{Kind, LANGUAGES, chapters, repository};

#[test]
fn both_languages_have_the_same_chapters_headings_rows_and_blocks() {
    let [english, german] = LANGUAGES.map(chapters);
    let names = |chapters: &[Chapter]| chapters.iter().map(|c| c.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&english), names(&german));
    for (english, german) in english.iter().zip(&german) {
        let name = english.name();
        assert_eq!(english.headings(), german.headings(), "{name}: headings");
        assert!(
            english.blocks.iter().all(|block| block.kind != Kind::Other),
            "{name}: a block of no known kind"
        );
        // Each glossary has the words of its language.
        if name != "glossary.md" {
            let widths =
                |chapter: &Chapter| chapter.rows().iter().map(|row| row.cells.len()).collect::<Vec<_>>();
            assert_eq!(widths(english), widths(german), "{name}: rows of tables");
        }
        let blocks = |chapter: &Chapter| {
            let text = |kind: &Kind, text: &str| {
                if *kind == Kind::Picture { String::new() } else { text.to_owned() }
            };
            chapter.blocks.iter().map(|b| (b.kind.clone(), text(&b.kind, &b.text))).collect::<Vec<_>>()
        };
        assert_eq!(blocks(english), blocks(german), "{name}: blocks");
    }
}

#[test]
fn every_file_of_the_guide_is_a_chapter() {
    for language in LANGUAGES {
        let files = documents(&repository("docs/guide").join(language));
        let listed: BTreeSet<_> = chapters(language).into_iter().map(|chapter| chapter.path).collect();
        assert_eq!(files.into_iter().collect::<BTreeSet<_>>(), listed);
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut files = documents(&repository("docs"));
    files.extend(["README.md", "CHANGELOG.md"].map(repository));
    assert!(files.len() > 45, "{files:?}");
    for file in files {
        let chapter = Chapter::read(&file);
        for (line, target) in chapter.links() {
            if target.starts_with("http") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let to = if path.is_empty() { file.clone() } else { file.with_file_name(path) };
            assert!(to.exists(), "{}:{line}: {target}", file.display());
            if !anchor.is_empty() {
                let anchors = Chapter::read(&to).anchors();
                assert!(
                    anchors.iter().any(|a| a == anchor),
                    "{}:{line}: {target}: {anchors:?}",
                    file.display()
                );
            }
        }
    }
}

/// The Markdown files of a directory and below.
fn documents(directory: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => documents(&path),
            false => Vec::from_iter(Some(path).filter(|path| path.extension().is_some_and(|e| e == "md"))),
        })
        .collect()
}
