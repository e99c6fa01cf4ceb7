//! What checks find, and how it is printed: rows as they come, or all in one object.

pub(super) use crate::actors::finding::{Finding, Grade};
use crate::cli::say;
use crate::config::{Places, Remark};

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
            say(&rows(&finding));
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

fn rows(finding: &Finding) -> String {
    let what = match (&finding.place, &finding.key) {
        (Some(place), Some(key)) => format!("{place}: {key}: {}", finding.text),
        _ => finding.text.clone(),
    };
    let row = format!("  {:<8} {:<24} {what}", finding.grade.as_str(), finding.subject);
    match &finding.remedy {
        Some(remedy) => format!("{row}\n  {:<8} {:<24} remedy: {remedy}", "", ""),
        None => row,
    }
}
