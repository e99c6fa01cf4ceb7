//! Hands out the layered values key by key.
//!
//! Each key is described once, where it is taken: name, [rule](super::rules), default. From this follow its
//! faults, with line and path, and the names of all keys; what nobody took is unknown.

use config::{Map, Value, ValueKind};

use super::file;
use super::report::{Report, element_path, key_path};

/// One table of the configuration. Dropping it reports the keys that nobody took.
pub(super) struct Section<'r> {
    report: &'r Report,
    path: String,
    entries: Map<String, Value>,
    sound: bool,
}

impl<'r> Section<'r> {
    /// The table that holds everything.
    pub(super) fn root(report: &'r Report, entries: Map<String, Value>) -> Self {
        Self { report, path: String::new(), entries, sound: true }
    }

    /// The report that faults of this section go to.
    pub(super) fn report(&self) -> &'r Report {
        self.report
    }

    /// The full path of this table.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The full path of a key in this table.
    pub(super) fn key(&self, key: &str) -> String {
        key_path(&self.path, key)
    }

    /// Whether all keys taken so far obeyed their rules: comparing them with each other makes sense.
    pub(super) fn is_sound(&self) -> bool {
        self.sound
    }

    /// Takes a key; `None` where it is absent, or reported as faulty.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        rule: impl Fn(&Entry<'r>) -> Option<T>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        let value = rule(&entry);
        self.sound &= value.is_some();
        value
    }

    /// Takes a key that has a default; the default also stands in for a value that is reported as faulty.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        rule: impl Fn(&Entry<'r>) -> Option<T>,
        default: T,
    ) -> T {
        self.optional(key, rule).unwrap_or(default)
    }

    /// Takes a key that must be there; `None` is reported.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        rule: impl Fn(&Entry<'r>) -> Option<T>,
    ) -> Option<T> {
        if !self.entries.contains_key(key) {
            self.fault(key, "is missing, it has no default");
            self.sound = false;
        }
        self.optional(key, rule)
    }

    /// Takes a table; an empty one where it is absent.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        let path = self.key(key);
        let entries = match self.entry(key) {
            Some(entry) => entry.into_table(&format!("a section, [{path}]")),
            None => Some(Map::new()),
        };
        self.sound &= entries.is_some();
        Self { report: self.report, path, entries: entries.unwrap_or_default(), sound: true }
    }

    /// Takes a list of tables; `None` where it is absent, or no list.
    pub(super) fn sections(&mut self, key: &'static str) -> Option<Vec<Self>> {
        let path = self.key(key);
        let allowed = format!("a list of tables, [[{path}]]");
        let items = self.entry(key)?.items(&allowed)?;
        let section = |item: Entry<'r>| {
            let path = item.path.clone();
            let entries = item.into_table(&allowed)?;
            Some(Self { report: self.report, path, entries, sound: true })
        };
        Some(items.into_iter().filter_map(section).collect())
    }

    /// Whether the key holds a table, where it may hold something else too.
    pub(super) fn holds_table(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| matches!(value.kind, ValueKind::Table(_)))
    }

    /// Reports a fault of one key.
    pub(super) fn fault(&self, key: &str, text: impl Into<String>) {
        self.report.fault(&self.key(key), text);
    }

    /// Reports what is doubtful about one key.
    pub(super) fn warn(&self, key: &str, text: impl Into<String>) {
        self.report.warn(&self.key(key), text);
    }

    /// The value; an error is reported as a fault of `key`.
    pub(super) fn accept<T>(&self, key: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|text| self.fault(key, text)).ok()
    }

    /// Reports a fault between keys, at the first of them that was given.
    pub(super) fn fault_between(&self, keys: &[&str], text: impl Into<String>) {
        let paths: Vec<String> = keys.iter().map(|key| self.key(key)).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        self.report.fault(self.report.given(&paths), text);
    }

    fn entry(&mut self, key: &'static str) -> Option<Entry<'r>> {
        let path = self.key(key);
        self.report.note_known(&path);
        let value = self.entries.remove(key)?;
        Some(Entry { report: self.report, path, value })
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        for key in self.entries.keys() {
            self.report.note_unknown(self.key(key));
        }
    }
}

/// One value, before its rule has seen it. Types are strict, except that the environment knows strings only.
pub(super) struct Entry<'r> {
    report: &'r Report,
    path: String,
    value: Value,
}

impl<'r> Entry<'r> {
    /// The string; faulty where it is something else.
    pub(super) fn text(&self, allowed: &str) -> Option<&str> {
        match &self.value.kind {
            ValueKind::String(text) => Some(text),
            _ => self.refuse_type(allowed),
        }
    }

    /// The integer; faulty where it is something else.
    pub(super) fn integer(&self, allowed: &str) -> Option<i128> {
        match &self.value.kind {
            ValueKind::I128(value) => Some(*value),
            ValueKind::String(text) if self.is_from_environment() => text
                .trim()
                .parse()
                .map_or_else(|_| self.refuse(&format!("`{text}` is no integer"), allowed), Some),
            _ => self.refuse_type(allowed),
        }
    }

    /// True or false; faulty where it is something else.
    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.value.kind {
            ValueKind::Boolean(value) => Some(*value),
            ValueKind::String(text) if self.is_from_environment() => match text.trim() {
                "true" => Some(true),
                "false" => Some(false),
                other => self.refuse(&format!("`{other}` is neither"), "true or false"),
            },
            _ => self.refuse_type("true or false"),
        }
    }

    /// Whether it is this very string.
    pub(super) fn is_text(&self, text: &str) -> bool {
        matches!(&self.value.kind, ValueKind::String(value) if value == text)
    }

    /// Whether it is a list; from the environment, any string may be one.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.value.kind, ValueKind::Array(_)) || self.is_from_environment()
    }

    /// The elements of a list; faulty where it is something else. In the environment a list is written with
    /// commas or as in TOML.
    pub(super) fn items(&self, allowed: &str) -> Option<Vec<Self>> {
        let values = match &self.value.kind {
            ValueKind::Array(values) => values.clone(),
            ValueKind::String(text) if self.is_from_environment() => match split_list(text) {
                Some(values) => values,
                None => return self.refuse("is no list, neither with commas nor as in TOML", allowed),
            },
            _ => return self.refuse_type(allowed),
        };
        let item =
            |(index, value)| Entry { report: self.report, path: element_path(&self.path, index), value };
        Some(values.into_iter().enumerate().map(item).collect())
    }

    /// The full path of the value.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The report that faults of this value go to.
    pub(super) fn report(&self) -> &'r Report {
        self.report
    }

    /// Reports the value: what it is, and what would be allowed.
    pub(super) fn refuse<T>(&self, what: &str, allowed: &str) -> Option<T> {
        self.report.fault(&self.path, format!("{what}, allowed: {allowed}"));
        None
    }

    /// The value; an error is reported with what would be allowed.
    pub(super) fn accept<T>(&self, result: Result<T, String>, allowed: &str) -> Option<T> {
        result.map_or_else(|what| self.refuse(&what, allowed), Some)
    }

    fn refuse_type<T>(&self, allowed: &str) -> Option<T> {
        self.refuse(&format!("is {}", describe(&self.value.kind)), allowed)
    }

    fn into_table(self, allowed: &str) -> Option<Map<String, Value>> {
        match self.value.kind {
            ValueKind::Table(entries) => Some(entries),
            _ => self.refuse_type(allowed),
        }
    }

    fn is_from_environment(&self) -> bool {
        self.report.is_from_environment(&self.path)
    }
}

fn split_list(text: &str) -> Option<Vec<Value>> {
    let text = text.trim();
    if text.starts_with('[') {
        return match file::parse_value(text)?.kind {
            ValueKind::Array(values) => Some(values),
            _ => None,
        };
    }
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Some(items.map(|item| Value::new(None, item)).collect())
}

fn describe(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "a date or time",
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "an integer",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "a string",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}
