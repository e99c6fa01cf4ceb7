//! The environment as a second tree of values: `SIP_PROXY__LAN__PORT=5070` is `lan.port`.

use config::{Map, Value, ValueKind};

use super::report::{Origin, Origins, key_path};

/// What every variable of the proxy begins with; sections and keys follow, joined by the same two
/// underscores.
const PREFIX: &str = "SIP_PROXY__";

/// The variable that sets the key at `path`.
pub(super) fn variable_name(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

/// A variable with the proxy's prefix.
struct Variable {
    segments: Vec<String>,
    name: String,
    value: String,
}

/// The tree of the environment. What it sets takes over the key's entry in `origins`.
///
/// Values stay strings: only the rule of a key knows what they are to be. Beside the tree, the faults:
/// variables that name no key, and those that set a part of what another sets, each with its text.
pub(super) fn layer(
    variables: impl Iterator<Item = (String, String)>,
    origins: &mut Origins,
) -> (Map<String, Value>, Vec<(String, String)>) {
    let mut variables: Vec<_> = variables.filter_map(|(name, value)| Variable::new(name, value)).collect();
    variables.sort_by(|a, b| a.segments.cmp(&b.segments));
    let (mut root, mut faults) = (Map::new(), Vec::new());
    // In this order a variable stands before those that set a part of it.
    let mut whole: Option<&Variable> = None;
    for variable in &variables {
        let clash = whole.filter(|w| variable.segments.starts_with(&w.segments));
        if let Some(fault) = variable.fault(clash) {
            faults.push((variable.name.clone(), fault));
            continue;
        }
        note_origin(origins, variable);
        insert(&mut root, &variable.segments, &variable.value);
        whole = Some(variable);
    }
    (root, faults)
}

impl Variable {
    fn new(name: String, value: String) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        let segments = rest.split("__").map(str::to_ascii_lowercase).collect();
        Some(Self { segments, name, value })
    }

    fn fault(&self, clash: Option<&Self>) -> Option<String> {
        let plain = |s: &String| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !self.segments.iter().all(plain) {
            return Some(format!("names no key, allowed: {PREFIX}SECTION__KEY"));
        }
        clash.map(|whole| format!("sets what {} sets as a whole, allowed: one of them", whole.name))
    }
}

fn note_origin(origins: &mut Origins, Variable { segments, name, .. }: &Variable) {
    let mut path = String::new();
    for segment in segments {
        path = key_path(&path, segment);
        origins.entry(path.clone()).or_insert_with(|| Origin::Variable(name.clone()));
    }
    // What the file says below this key is no longer there.
    origins.retain(|known, _| !known.strip_prefix(&path).is_some_and(|rest| rest.starts_with(['.', '['])));
    origins.insert(path, Origin::Variable(name.clone()));
}

fn insert(table: &mut Map<String, Value>, segments: &[String], value: &str) {
    let Some((first, rest)) = segments.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), Value::new(None, ValueKind::String(value.to_owned())));
        return;
    }
    let child = table.entry(first.clone()).or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
    if let ValueKind::Table(child) = &mut child.kind {
        insert(child, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn variables_nest_and_others_are_left_alone() {
        let mut origins = Origins::new();
        let set = [
            ("SIP_PROXY__SIP__T1", "50ms"),
            ("SIP_PROXY__SIP__T2", "1s"),
            ("SIP_PROXY_X", "1"),
            ("HOME", "/"),
        ];
        let (root, faults) = layer(variables(&set), &mut origins);
        assert!(faults.is_empty(), "{faults:?}");
        let sip = root["sip"].clone().into_table().unwrap();
        assert_eq!(sip["t1"].clone().into_string().unwrap(), "50ms");
        assert_eq!((root.len(), sip.len()), (1, 2));
        assert_eq!(origins["sip.t2"], Origin::Variable("SIP_PROXY__SIP__T2".into()));
    }

    #[test]
    fn a_list_from_the_environment_hides_the_lines_of_the_files_list() {
        let line = Origin::Line(3);
        let mut origins: Origins =
            ["lan", "lan.account", "lan.account[0]", "lan.account[0].users", "lan.accounts"]
                .map(|path| (path.to_owned(), line.clone()))
                .into();
        layer(variables(&[("SIP_PROXY__LAN__ACCOUNT", "[]")]), &mut origins);
        assert_eq!(origins.keys().collect::<Vec<_>>(), ["lan", "lan.account", "lan.accounts"]);
        assert_eq!(origins["lan"], line);
    }

    #[test]
    fn variables_without_a_key_or_with_a_clash_are_faults() {
        for (set, faulty) in [
            (&[("SIP_PROXY__", "1")][..], "SIP_PROXY__"),
            (&[("SIP_PROXY__LAN____PORT", "1")], "SIP_PROXY__LAN____PORT"),
            (&[("SIP_PROXY__LAN[0]", "1")], "SIP_PROXY__LAN[0]"),
            (&[("SIP_PROXY__LAN__PORT", "1"), ("SIP_PROXY__LAN", "1")], "SIP_PROXY__LAN__PORT"),
            (&[("SIP_PROXY__LAN__PORT", "1"), ("SIP_PROXY__lan__port", "1")], "SIP_PROXY__lan__port"),
        ] {
            let (_, faults) = layer(variables(set), &mut Origins::new());
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].0, faulty);
        }
    }
}
