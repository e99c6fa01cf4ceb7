//! What a check has found so far, and where each key was given.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::environment::variable_name;
use super::{Fault, Place, Remark, Warning};

/// Where a key was given. A key without an origin is at its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of the file.
    Line(usize),
    /// A variable of the environment.
    Variable(String),
}

/// Origins by key path.
pub(super) type Origins = BTreeMap<String, Origin>;

/// `path.key`.
pub(super) fn key_path(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// `path[index]`.
pub(super) fn element_path(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Where keys were given, after the check: for faults that only the network tells.
#[derive(Clone, Debug)]
pub struct Places {
    file: PathBuf,
    origins: Origins,
    files: BTreeSet<PathBuf>,
}

impl Places {
    /// The files whose content is a part of the configuration: certificates, keys, authorities, passwords.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// A remark on `key`, at its place. `text` says what is wrong and what is allowed.
    pub fn remark(&self, key: &str, text: impl Into<String>) -> Remark {
        let place = match self.origin(key) {
            Some(Origin::Line(line)) => Place::Line { file: self.file.clone(), line: *line },
            Some(Origin::Variable(name)) => Place::Variable(name.clone()),
            None => Place::File(self.file.clone()),
        };
        Remark { place, key: key.to_owned(), text: text.into() }
    }

    /// The origin of a key or, where it was not given, of what it would stand in.
    fn origin(&self, path: &str) -> Option<&Origin> {
        let mut path = path;
        loop {
            if let Some(origin) = self.origins.get(path) {
                return Some(origin);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// Collects faults, warnings and names of keys while sections are read; shared by all of them.
#[derive(Debug)]
pub(super) struct Report {
    places: Places,
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Warning>>,
    /// Paths of all keys that somebody asked for, without indices.
    known: RefCell<BTreeSet<String>>,
    /// Paths of the keys that nobody asked for.
    unknown: RefCell<Vec<String>>,
    /// Files that were read.
    files: RefCell<BTreeSet<PathBuf>>,
}

impl Report {
    pub(super) fn new(file: PathBuf, origins: Origins) -> Self {
        Self {
            places: Places { file, origins, files: BTreeSet::new() },
            files: RefCell::default(),
            faults: RefCell::default(),
            warnings: RefCell::default(),
            known: RefCell::default(),
            unknown: RefCell::default(),
        }
    }

    /// Notes that the configuration cannot be used. `text` says what is wrong and what is allowed.
    pub(super) fn fault(&self, key: &str, text: impl Into<String>) {
        self.faults.borrow_mut().push(self.places.remark(key, text));
    }

    /// Notes what is doubtful.
    pub(super) fn warn(&self, key: &str, text: impl Into<String>) {
        self.warnings.borrow_mut().push(self.places.remark(key, text));
    }

    /// Notes a fault of a variable that names no key.
    pub(super) fn fault_of_variable(&self, name: String, text: String) {
        self.faults.borrow_mut().push(Remark { place: Place::Variable(name), key: String::new(), text });
    }

    /// Notes that there is a key at `path`.
    pub(super) fn note_known(&self, path: &str) {
        self.known.borrow_mut().insert(without_indices(path));
    }

    /// Notes that the content of a file is a part of the configuration.
    pub(super) fn note_file(&self, path: &Path) {
        self.files.borrow_mut().insert(path.to_owned());
    }

    /// Notes that nobody asked for the key at `path`.
    pub(super) fn note_unknown(&self, path: String) {
        self.unknown.borrow_mut().push(path);
    }

    /// Whether the value at `path` comes from the environment, where everything is a string.
    pub(super) fn is_from_environment(&self, path: &str) -> bool {
        matches!(self.places.origin(path), Some(Origin::Variable(_)))
    }

    /// The first of `paths` that the file or the environment gives, else the first.
    pub(super) fn given<'p>(&self, paths: &[&'p str]) -> &'p str {
        paths.iter().find(|path| self.places.origins.contains_key(**path)).unwrap_or(&paths[0])
    }

    /// The file that it is about.
    pub(super) fn file(&self) -> &Path {
        &self.places.file
    }

    /// A path of the configuration, absolute: relative ones are relative to the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        let joined = self.places.file.parent().unwrap_or(Path::new("")).join(path);
        std::path::absolute(&joined).unwrap_or(joined)
    }

    /// Ends the check: what was found, in order, and where the keys are.
    pub(super) fn finish(self) -> (Vec<Fault>, Vec<Warning>, Places) {
        for path in self.unknown.take() {
            self.fault(&path, self.describe_unknown(&path));
        }
        let (mut faults, mut warnings) = (self.faults.into_inner(), self.warnings.into_inner());
        faults.sort();
        warnings.sort();
        let places = Places { files: self.files.into_inner(), ..self.places };
        (faults, warnings, places)
    }

    /// Paths of all keys that were asked for, without indices.
    #[cfg(test)]
    pub(super) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }

    /// Looks for the key that was meant: a similar name in this section, the same name in another one.
    fn describe_unknown(&self, path: &str) -> String {
        let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
        let known = self.known.borrow();
        let plain_section = without_indices(section);
        let siblings: Vec<&str> = known.iter().filter_map(|key| child_of(key, &plain_section)).collect();
        let nearest = siblings
            .iter()
            .map(|sibling| (strsim::damerau_levenshtein(name, sibling), key_path(section, sibling)))
            .min()
            .filter(|(distance, _)| *distance <= (name.len() / 3).max(1))
            .map(|(_, key)| key);
        let elsewhere = || known.iter().find(|key| key.rsplit('.').next() == Some(name)).cloned();
        match nearest.or_else(elsewhere) {
            Some(key) if self.is_from_environment(path) && !key.contains('[') => {
                format!("unknown key, did you mean {}?", variable_name(&key))
            }
            Some(key) => format!("unknown key, did you mean `{key}`?"),
            None => format!("unknown key, allowed: {}", siblings.join(", ")),
        }
    }
}

/// The name of `key` in `section`, where it stands directly in it.
fn child_of<'k>(key: &'k str, section: &str) -> Option<&'k str> {
    let name = if section.is_empty() { key } else { key.strip_prefix(section)?.strip_prefix('.')? };
    (!name.contains('.')).then_some(name)
}

/// A path without its `[index]`es: that of the description.
pub(super) fn without_indices(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|c| {
            inside |= *c == '[';
            let keep = !inside;
            inside &= *c != ']';
            keep
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(unknown: &str, origin: Origin) -> String {
        let report = Report::new("a.toml".into(), Origins::from([(unknown.to_owned(), origin)]));
        for key in ["lan", "lan.port", "lan.account", "lan.account.users", "sip", "sip.t1"] {
            report.note_known(key);
        }
        report.note_unknown(unknown.to_owned());
        report.finish().0[0].to_string()
    }

    #[test]
    fn an_unknown_key_is_reported_with_the_one_that_was_meant() {
        for (unknown, text) in [
            ("lan.prot", "unknown key, did you mean `lan.port`?"),
            ("lan.account[1].user", "unknown key, did you mean `lan.account[1].users`?"),
            ("lam", "unknown key, did you mean `lan`?"),
            ("lan.t1", "unknown key, did you mean `sip.t1`?"),
            ("lan.colour", "unknown key, allowed: account, port"),
        ] {
            assert_eq!(report(unknown, Origin::Line(7)), format!("a.toml:7: {unknown}: {text}"));
        }
    }

    #[test]
    fn an_unknown_variable_is_reported_with_the_variable_that_was_meant() {
        let text = report("lan.prot", Origin::Variable("SIP_PROXY__LAN__PROT".into()));
        assert_eq!(text, "SIP_PROXY__LAN__PROT: lan.prot: unknown key, did you mean SIP_PROXY__LAN__PORT?");
    }

    #[test]
    fn a_key_that_was_not_given_is_reported_where_it_would_stand() {
        let origins = Origins::from([("lan".to_owned(), Origin::Line(4))]);
        let report = Report::new("a.toml".into(), origins);
        report.fault("lan.account[0].users", "is missing");
        report.fault("sip.t1", "is missing");
        let texts: Vec<_> = report.finish().0.iter().map(Fault::to_string).collect();
        assert_eq!(texts, ["a.toml: sip.t1: is missing", "a.toml:4: lan.account[0].users: is missing"]);
    }
}
