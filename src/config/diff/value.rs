//! A value of a configuration: how the file writes it, and what else it must be equal in.

use std::fmt::Display;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::config::TrustedCas;

/// What stands for a value that nobody may see.
const HIDDEN: &str = "***";

/// A value: how it is shown, and what else it must be equal in.
#[derive(PartialEq, Eq)]
pub(super) struct Value {
    pub(super) shown: String,
    content: Option<[u8; 32]>,
}

impl<T: Display> From<T> for Value {
    fn from(value: T) -> Self {
        Self { shown: value.to_string(), content: None }
    }
}

impl Value {
    /// One that stands for octets which are not shown.
    pub(super) fn of(shown: String, octets: &[impl AsRef<[u8]>]) -> Self {
        let mut hash = Sha256::new();
        for part in octets {
            hash.update((part.as_ref().len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self { shown, content: Some(hash.finalize().into()) }
    }

    pub(super) fn secret(octets: &[u8]) -> Self {
        Self::of(HIDDEN.to_owned(), &[octets])
    }
}

pub(super) fn authorities(trusted: &TrustedCas) -> Value {
    match trusted {
        TrustedCas::System => quoted("system").into(),
        TrustedCas::File { path, certificates } => Value::of(quoted(path.display()), certificates),
    }
}

pub(super) fn quoted(value: impl Display) -> String {
    format!("{:?}", value.to_string())
}

pub(super) fn time(duration: Duration) -> String {
    quoted(humantime::format_duration(duration))
}

pub(super) fn list(values: impl IntoIterator<Item = impl Display>) -> String {
    let values: Vec<_> = values.into_iter().map(quoted).collect();
    format!("[{}]", values.join(", "))
}
