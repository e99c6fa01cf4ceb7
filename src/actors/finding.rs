//! What a look at the configuration's surroundings has found: for the command line and for reports.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It works, for some, or not much longer.
    Warning,
    /// It does not work.
    Failed,
}

impl Grade {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `dns`, `certificates` or `connectivity`.
    pub check: &'static str,
    /// What was looked at: a domain, a server, a file.
    pub subject: String,
    /// How bad it is.
    pub grade: Grade,
    /// What was found, in words.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The key that is to blame.
    pub key: Option<String>,
    /// Where that is given.
    pub place: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(subject: &str, text: impl Into<String>) -> Self {
        Self::new(Grade::Ok, subject, text.into(), None)
    }

    /// It works, for some, or not much longer.
    pub fn warning(subject: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Grade::Warning, subject, text.into(), Some(remedy.into()))
    }

    /// It does not work.
    pub fn failed(subject: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Grade::Failed, subject, text.into(), Some(remedy.into()))
    }

    fn new(grade: Grade, subject: &str, text: String, remedy: Option<String>) -> Self {
        Self { check: "", subject: subject.to_owned(), grade, text, remedy, key: None, place: None }
    }

    /// This key is to blame.
    #[must_use]
    pub fn at(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// Not worse than this.
    #[must_use]
    pub fn at_most(self, grade: Grade) -> Self {
        Self { grade: self.grade.min(grade), ..self }
    }
}
