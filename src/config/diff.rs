//! What is different between two configurations, key by key, for people.
//!
//! Each configuration becomes a list of rows, and rows of the same key are compared. Every struct is taken apart without
//! `..`: a field that is new and not here does not compile. Elements of lists go by their names, so that what has only
//! moved is no difference.

mod elements;
mod rows;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeSet;

use self::elements::Element;
use self::rows::{Rows, Section};
use self::value::Value;
use super::Config;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Key path: `sip.t1`, `static_routes.route[partner.example].port`, `lan.network_interface[tcp 127.0.0.1:5060]`.
    pub key: String,
    /// What has become of it.
    pub kind: ChangeKind,
    /// The value before, as the file writes it; `***` of secrets.
    pub old: Option<String>,
    /// The value now.
    pub new: Option<String>,
}

/// What has become of a key or of an element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It has another value.
    Changed,
    /// It is gone.
    Removed,
}

impl ChangeKind {
    /// The name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// What `new` changes in `old`, by key. Identifiers and places of elements are no difference.
pub fn differences(old: &Config, new: &Config) -> Vec<Change> {
    let (old, new) = (Rows::of(old), Rows::of(new));
    let mut changes = Vec::new();
    compare(&mut changes, "", &old.rows, &new.rows);
    let keys: BTreeSet<&String> = old.elements.keys().chain(new.elements.keys()).collect();
    for key in keys {
        match (old.elements.get(key), new.elements.get(key)) {
            (Some(old), Some(new)) => compare(&mut changes, key, &old.rows, &new.rows),
            (old, new) => {
                let said = |element: &Element| element.said.clone();
                changes.extend(change(key.clone(), old.map(said), new.map(said)));
            }
        }
    }
    changes.sort_by(|one, other| one.key.cmp(&other.key));
    changes
}

fn compare(changes: &mut Vec<Change>, path: &str, old: &Section, new: &Section) {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        if before == after {
            continue;
        }
        let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let shown = |value: &Value| value.shown.clone();
        changes.extend(change(key, before.map(shown), after.map(shown)));
    }
}

fn change(key: String, old: Option<String>, new: Option<String>) -> Option<Change> {
    let kind = match (&old, &new) {
        (None, Some(_)) => ChangeKind::Added,
        (Some(_), Some(_)) => ChangeKind::Changed,
        (Some(_), None) => ChangeKind::Removed,
        (None, None) => return None,
    };
    Some(Change { key, kind, old, new })
}
