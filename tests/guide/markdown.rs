//! As much of Markdown as the documents use: headings, fenced blocks, tables, code spans, links.

use std::path::{Path, PathBuf};

/// A document.
#[derive(Debug)]
pub(crate) struct Chapter {
    pub(crate) path: PathBuf,
    pub(crate) blocks: Vec<Block>,
    /// The lines outside of blocks, with their numbers.
    prose: Vec<(usize, String)>,
}

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    /// Of the opening fence.
    pub(crate) line: usize,
}

/// What a block is for: the words after its opening fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `sh`: commands that end, with this status.
    Commands(i32),
    /// `sh stays`: a command that goes on, in a terminal of its own.
    Stays,
    /// `text` after commands: what they print.
    Output,
    /// `text earlier`: what the command that stays has printed meanwhile.
    Earlier,
    /// `text` elsewhere: a drawing, a file of somebody else.
    Picture,
    /// `console`: commands that want root, the internet, or another machine.
    Console,
    /// `toml`: a part of a configuration.
    Toml,
    /// Anything else; not in the guide.
    Other,
}

/// A row of a table, without its heading.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) line: usize,
    pub(crate) cells: Vec<String>,
}

impl Chapter {
    pub(crate) fn read(path: &Path) -> Self {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (mut blocks, mut prose) = (Vec::<Block>::new(), Vec::new());
        let mut open: Option<Block> = None;
        // The block that ends right before this line, blank ones aside.
        let mut near: Option<Kind> = None;
        for (index, line) in text.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(words)) => {
                    let kind = Kind::parse(words, near.as_ref());
                    open = Some(Block { kind, text: String::new(), line: index + 1 });
                }
                (Some(_), Some("")) => {
                    let block = open.take().expect("it is open");
                    near = Some(block.kind.clone());
                    blocks.push(block);
                }
                (Some(block), _) => block.text.extend([line, "\n"]),
                (None, None) => {
                    near = near.filter(|_| line.is_empty());
                    prose.push((index + 1, line.to_owned()));
                }
            }
        }
        assert!(open.is_none(), "{}: a block does not end", path.display());
        Self { path: path.to_owned(), blocks, prose }
    }

    pub(crate) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).expect("a file with a name")
    }

    /// How deep each heading is.
    pub(crate) fn headings(&self) -> Vec<usize> {
        let depth = |line: &str| line.len() - line.trim_start_matches('#').len();
        self.prose.iter().map(|(_, line)| depth(line)).filter(|depth| *depth > 0).collect()
    }

    /// What links to headings name: lower case, hyphens for blanks, no punctuation.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.prose.iter().filter(|(_, line)| line.starts_with('#'));
        let slug = |line: &str| {
            let words = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            words.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
        };
        headings.map(|(_, line)| slug(line)).collect()
    }

    /// Where links lead to, with their lines.
    pub(crate) fn links(&self) -> Vec<(usize, String)> {
        let of_line = |(line, text): &(usize, String)| {
            let parts: Vec<_> = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).collect();
            parts.into_iter().map(|(target, _)| (*line, target.to_owned())).collect::<Vec<_>>()
        };
        self.prose.iter().flat_map(of_line).collect()
    }

    /// The rows of all tables, but for headings.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let is_row = |line: &str| line.starts_with('|') && line.ends_with('|');
        let is_rule = |line: &str| line.starts_with("|--");
        let next = self.prose.iter().skip(1).map(|(_, line)| line.as_str()).chain([""]);
        let rows = self.prose.iter().zip(next);
        rows.filter(|((_, line), next)| is_row(line) && !is_rule(line) && !is_rule(next))
            .map(|((number, line), _)| Row { line: *number, cells: cells(line) })
            .collect()
    }
}

/// The cells of a row; a bar in a code span divides nothing.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut cell, mut in_code) = (Vec::new(), String::new(), false);
    for c in line.trim_matches('|').chars() {
        in_code ^= c == '`';
        if c == '|' && !in_code {
            cells.push(std::mem::take(&mut cell).trim().to_owned());
        } else {
            cell.push(c);
        }
    }
    cells.push(cell.trim().to_owned());
    cells
}

/// The code spans of a text.
pub(crate) fn code_spans(text: &str) -> Vec<String> {
    let (mut spans, mut rest) = (Vec::new(), text);
    while let Some(start) = rest.find('`') {
        let fence = rest[start..].len() - rest[start..].trim_start_matches('`').len();
        let (inside, mark) = (&rest[start + fence..], "`".repeat(fence));
        let end = inside.find(&mark).unwrap_or_else(|| panic!("a code span does not end: {text}"));
        let span = &inside[..end];
        spans.push(if fence > 1 { span.trim().to_owned() } else { span.to_owned() });
        rest = &inside[end + fence..];
    }
    spans
}

impl Kind {
    /// `before`: the block that ends right before this one.
    fn parse(words: &str, before: Option<&Self>) -> Self {
        let is_after_commands = matches!(before, Some(Self::Commands(_) | Self::Stays));
        match words {
            "sh" => Self::Commands(0),
            "sh stays" => Self::Stays,
            "text" if is_after_commands => Self::Output,
            "text" => Self::Picture,
            "text earlier" => Self::Earlier,
            "console" => Self::Console,
            "toml" => Self::Toml,
            _ => words
                .strip_prefix("sh status=")
                .and_then(|s| s.parse().ok())
                .map_or(Self::Other, Self::Commands),
        }
    }
}
