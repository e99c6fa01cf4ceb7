//! `check`: what is wrong, all at once, without a running service.

use std::path::Path;

use serde::Serialize;

use super::{Exit, load, say};
use crate::config::Remark;

/// `check config`: one line per fault on standard output, or one object per fault with `--json`.
pub(super) fn config(file: &Path, as_json: bool) -> Exit {
    let (faults, warnings) = match load(file) {
        Ok((_, warnings)) => (Vec::new(), warnings),
        Err(faults) => (faults.0, Vec::new()),
    };
    let exit = if faults.is_empty() { Exit::Done } else { Exit::Configuration };
    say(&if as_json { to_json(&faults, &warnings) } else { to_text(file, &faults, &warnings) });
    exit
}

fn to_text(file: &Path, faults: &[Remark], warnings: &[Remark]) -> String {
    let mut lines: Vec<String> = faults.iter().map(Remark::to_string).collect();
    lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.push(match faults.len() {
        0 => format!("{}: the configuration is valid", file.display()),
        1 => "1 fault; nothing was started".to_owned(),
        count => format!("{count} faults; nothing was started"),
    });
    lines.join("\n")
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    faults: Vec<Row<'a>>,
    warnings: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    place: String,
    key: &'a str,
    text: &'a str,
}

fn to_json(faults: &[Remark], warnings: &[Remark]) -> String {
    serde_json::to_string(&Report { faults: rows(faults), warnings: rows(warnings) })
        .expect("strings and lists have a form in JSON")
}

fn rows(remarks: &[Remark]) -> Vec<Row<'_>> {
    remarks.iter().map(Row::from).collect()
}

impl<'a> From<&'a Remark> for Row<'a> {
    fn from(remark: &'a Remark) -> Self {
        Self { place: remark.place.to_string(), key: &remark.key, text: &remark.text }
    }
}
