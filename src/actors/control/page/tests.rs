//! What can be told of the page without a browser; `tests/browser` has the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::actors::control::report::State;
use crate::config::{LOG_MODULES, LogLevel};
use crate::protocol::stun::nat::NatType;

fn text(path: &str) -> &'static str {
    let asset = find(path).unwrap_or_else(|| panic!("the page has no {path}"));
    std::str::from_utf8(asset.content).unwrap()
}

/// Key, then language, then text.
fn texts() -> BTreeMap<String, BTreeMap<String, String>> {
    let file = text("/page/texts.js");
    let (_, table) = file.split_once("export default ").expect("the file exports its table");
    serde_json::from_str(table.trim_end().trim_end_matches(';')).expect("the table is JSON")
}

fn scripts_and_page() -> Vec<&'static str> {
    let paths = FILES.iter().map(|(path, _, _)| *path);
    let is_code = |path: &&str| path.ends_with(".js") && !path.ends_with("texts.js") || *path == "/";
    paths.filter(is_code).map(text).collect()
}

/// The words in quotation marks that stand between `start` and the bracket that closes it.
fn quoted_in_calls(code: &str, start: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (place, _) in code.match_indices(start) {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if code[..place].ends_with(is_word) {
            continue;
        }
        let mut depth = 1;
        let inner = &code[place + start.len()..];
        let end = inner.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let inner = &inner[..end.expect("brackets are closed")];
        found.extend(inner.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    found
}

fn attributes(page: &str, name: &str) -> BTreeSet<String> {
    let start = format!("{name}=\"");
    page.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_file_beside_this_one_is_served() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/actors/control/page");
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let names: BTreeSet<String> = names.map(|name| name.into_string().unwrap()).collect();
    let files = names.into_iter().filter(|name| !name.ends_with(".rs"));
    let paths = files.map(|name| if name == "index.html" { "/".to_owned() } else { format!("/page/{name}") });
    let served: BTreeSet<String> = FILES.iter().map(|(path, _, _)| (*path).to_owned()).collect();
    assert_eq!(paths.collect::<BTreeSet<_>>(), served);
    assert!(find("/page/").is_none() && find("/page/mod.rs").is_none() && find("").is_none());
}

#[test]
fn each_content_has_an_etag_of_its_own() {
    let etags: BTreeSet<&str> = ASSETS.iter().map(|asset| asset.etag.as_str()).collect();
    assert_eq!(etags.len(), FILES.len());
    assert!(etags.iter().all(|etag| etag.len() == 34 && etag.starts_with('"') && etag.ends_with('"')));
    assert_ne!(etag(b"a"), etag(b"b"));
    assert_eq!(etag(b"a"), etag(b"a"));
}

#[test]
fn both_languages_have_every_text_with_the_same_places_in_it() {
    let places = |text: &str| -> BTreeSet<String> {
        text.split('{').skip(1).map(|rest| rest.split('}').next().unwrap_or_default().to_owned()).collect()
    };
    for (key, text) in texts() {
        let languages: Vec<&str> = text.keys().map(String::as_str).collect();
        assert_eq!(languages, ["de", "en"], "{key}");
        assert!(text.values().all(|text| !text.trim().is_empty()), "{key} is empty");
        assert_eq!(places(&text["de"]), places(&text["en"]), "{key}");
    }
}

#[test]
fn every_text_that_is_asked_for_is_there() {
    let texts = texts();
    for code in scripts_and_page() {
        let mut keys = quoted_in_calls(code, "t(");
        keys.extend(attributes(code, "data-text"));
        keys.extend(attributes(code, "data-label"));
        // Not the values compared with on the way.
        for key in keys.iter().filter(|key| !key.contains(['#', '=', ' ', '"']) && !key.is_empty()) {
            assert!(texts.contains_key(key), "{key} has no text");
        }
        for key in quoted_in_calls(code, "count(") {
            for form in ["one", "other"] {
                assert!(texts.contains_key(&format!("{key}.{form}")), "{key}.{form} has no text");
            }
        }
    }
}

#[test]
fn every_text_is_asked_for() {
    let code = scripts_and_page().join("\n");
    let is_quoted = |key: &str| code.contains(&format!("\"{key}\""));
    let groups: BTreeSet<String> = code
        .split("word(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
        // By way of `standing`.
        .chain(["interface".to_owned(), "health".to_owned()])
        .collect();
    for key in texts().into_keys() {
        let number = key.strip_suffix(".one").or_else(|| key.strip_suffix(".other"));
        let group = key.rsplit_once('.').map(|(group, _)| group.to_owned());
        let is_used = is_quoted(number.unwrap_or(&key)) || group.is_some_and(|group| groups.contains(&group));
        assert!(is_used, "{key} is asked for nowhere");
    }
}

#[test]
fn the_page_has_a_word_for_each_state_level_and_type_of_nat() {
    let texts = texts();
    for state in [State::Starting, State::Ready, State::Impaired, State::Draining] {
        let state = serde_json::to_value(state).unwrap();
        for group in ["state", "state.means"] {
            assert!(texts.contains_key(&format!("{group}.{}", state.as_str().unwrap())), "{state}");
        }
    }
    let types = [
        NatType::OpenInternet,
        NatType::SymmetricUdpFirewall,
        NatType::FullCone,
        NatType::RestrictedCone,
        NatType::RestrictedPortCone,
        NatType::Symmetric,
        NatType::UdpBlocked,
        NatType::Unknown,
    ];
    for nat in types {
        assert!(texts.contains_key(&format!("nat.means.{nat}")), "{nat}");
    }
}

#[test]
fn the_page_offers_the_modules_and_levels_of_the_configuration() {
    let actions = text("/page/actions.js");
    let list = |name: &str| -> Vec<String> {
        let (_, rest) = actions.split_once(&format!("const {name} = [")).expect("the list is there");
        let list = rest.split(']').next().unwrap_or_default();
        list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    };
    assert_eq!(list("MODULES"), LOG_MODULES);
    assert_eq!(list("LEVELS"), LogLevel::ALL.map(LogLevel::as_str));
}

#[test]
fn nothing_becomes_markup_nor_stands_in_the_page_as_script_or_style() {
    for (path, _, _) in FILES {
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "Function(",
            "setTimeout(\"",
            " style=",
            " onclick=",
            " onerror=",
            "javascript:",
            "srcdoc",
            "<style",
        ] {
            assert!(!text(path).contains(forbidden), "{path} has {forbidden}");
        }
    }
    let page = text("/");
    assert_eq!(page.matches("<script").count(), 1);
    assert!(page.contains("<script type=\"module\" src=\"page/main.js\"></script>"));
}

#[test]
fn nothing_comes_from_elsewhere() {
    for (path, _, _) in FILES {
        // The name of SVG, which nobody fetches.
        let file = text(path).replace("http://www.w3.org/2000/svg", "");
        assert!(!file.contains("http:") && !file.contains("https:") && !file.contains("//cdn"), "{path}");
        assert!(!file.contains("@import") && !file.contains("url("), "{path}");
    }
}

#[test]
fn the_page_is_small() {
    let size: usize = FILES.iter().map(|(_, _, content)| content.len()).sum();
    assert!(size < 120_000, "{size} octets");
}
