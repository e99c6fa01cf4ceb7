//! What checks find, and how it is printed: rows as they come, or all in one object.

use serde::Serialize;

use crate::cli::say;
use crate::config::{Places, Remark};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    /// As it should be.
    Ok,
    /// It works, for some, or not much longer.
    Warning,
    /// It does not work.
    Failed,
}

impl Grade {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// `dns`, `certificates` or `connectivity`.
    pub(super) check: &'static str,
    /// What was looked at: a domain, a server, a file.
    pub(super) subject: String,
    pub(super) grade: Grade,
    pub(super) text: String,
    /// What to do about it.
    pub(super) remedy: Option<String>,
    /// The key that is to blame.
    pub(super) key: Option<String>,
    /// Where that is given.
    pub(super) place: Option<String>,
}

impl Finding {
    pub(super) fn ok(subject: &str, text: impl Into<String>) -> Self {
        Self::new(Grade::Ok, subject, text.into(), None)
    }

    pub(super) fn warning(subject: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Grade::Warning, subject, text.into(), Some(remedy.into()))
    }

    pub(super) fn failed(subject: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Grade::Failed, subject, text.into(), Some(remedy.into()))
    }

    fn new(grade: Grade, subject: &str, text: String, remedy: Option<String>) -> Self {
        Self { check: "", subject: subject.to_owned(), grade, text, remedy, key: None, place: None }
    }

    /// This key is to blame.
    #[must_use]
    pub(super) fn at(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// Not worse than this.
    #[must_use]
    pub(super) fn at_most(self, grade: Grade) -> Self {
        Self { grade: self.grade.min(grade), ..self }
    }

    fn rows(&self) -> String {
        let what = match (&self.place, &self.key) {
            (Some(place), Some(key)) => format!("{place}: {key}: {}", self.text),
            _ => self.text.clone(),
        };
        let row = format!("  {:<8} {:<24} {what}", self.grade.as_str(), self.subject);
        match &self.remedy {
            Some(remedy) => format!("{row}\n  {:<8} {:<24} remedy: {remedy}", "", ""),
            None => row,
        }
    }
}

/// All rows, which are printed as they come unless they are to be JSON.
#[derive(Debug)]
pub(super) struct Findings {
    as_json: bool,
    places: Places,
    check: &'static str,
    pub(super) list: Vec<Finding>,
}

impl Findings {
    pub(super) const fn new(as_json: bool, places: Places) -> Self {
        Self { as_json, places, check: "", list: Vec::new() }
    }

    /// What comes is of this check.
    pub(super) fn begin(&mut self, check: &'static str) {
        self.check = check;
        if !self.as_json {
            say(check);
        }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        let place = finding.key.as_deref().map(|key| {
            let Remark { place, .. } = self.places.remark(key, "");
            place.to_string()
        });
        let finding = Finding { check: self.check, place, ..finding };
        if !self.as_json {
            say(&finding.rows());
        }
        self.list.push(finding);
    }

    pub(super) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.add(finding));
    }

    pub(super) fn count(&self, grade: Grade) -> usize {
        self.list.iter().filter(|finding| finding.grade == grade).count()
    }
}
