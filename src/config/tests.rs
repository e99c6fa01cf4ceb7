//! The configuration as a whole: defaults, layers, faults, samples; and what the tests below share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::report::{Report, without_indices};
use super::*;
use crate::protocol::account::{AccountKind, Secret};
use crate::protocol::digest::Algorithm;

/// Where the texts of the tests stand, as far as their faults and relative paths go.
const FILE: &str = "/nowhere/proxy.toml";

fn pairs(environment: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let owned: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    owned.into_iter()
}

pub(super) fn load_with(text: &str, environment: &[(&str, &str)]) -> Result<(Config, Vec<Warning>), Faults> {
    load::load_text(Path::new(FILE), text, pairs(environment)).map(|(config, warnings, _)| (config, warnings))
}

/// The configuration of a text without faults.
pub(crate) fn config(text: &str) -> Config {
    load_with(text, &[]).unwrap_or_else(|faults| panic!("{faults}")).0
}

/// The faults of a text, without the file's name: `LINE: key: text`.
pub(super) fn faults(text: &str) -> Vec<String> {
    let faults = load_with(text, &[]).expect_err(text).0;
    faults.iter().map(|f| f.to_string().replacen(&format!("{FILE}:"), "", 1)).collect()
}

/// The warnings of a text without faults, likewise.
pub(super) fn warnings(text: &str) -> Vec<String> {
    let (_, warnings) = load_with(text, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    warnings.iter().map(|w| w.to_string().replacen(&format!("{FILE}:"), "", 1)).collect()
}

/// Expects one remark that holds all of the parts.
#[track_caller]
pub(super) fn assert_only(remarks: &[String], parts: &[&str]) {
    assert_eq!(remarks.len(), 1, "{remarks:#?}");
    assert_any(remarks, parts);
}

/// Expects a remark that holds all of the parts.
#[track_caller]
pub(super) fn assert_any(remarks: &[String], parts: &[&str]) {
    let found = remarks.iter().any(|remark| parts.iter().all(|part| remark.contains(part)));
    assert!(found, "{parts:?} in {remarks:#?}");
}

/// A directory for the files of one test; removed with it.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sip-proxy-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file and returns its path.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn an_empty_file_is_a_configuration() {
    let config = config("");
    let interfaces: Vec<_> = config
        .interfaces
        .iter()
        .map(|i| format!("{} {} {}", i.key, i.protocol, i.socket_address()))
        .collect();
    assert_eq!(interfaces, ["lan tcp 127.0.0.1:5060", "wan.network_interface[0] mtls 0.0.0.0:5061"]);
    assert_eq!(config.service.state_directory, Path::new("/nowhere/var/lib"));
    assert_eq!(config.accounts.list()[0].secret, Secret::Address);
    assert_eq!(config.accounts.list()[0].kind, AccountKind::UcServer);
    assert_eq!(config.sip.timer_c, Duration::from_secs(185));
    assert_eq!(
        config.registrar.digest_algorithms,
        [Algorithm::Sha512_256, Algorithm::Sha256, Algorithm::Md5]
    );
    assert_eq!((config.certificate, config.admin, config.wan_public_address), (None, None, None));
    let warnings = warnings("");
    assert_any(&warnings, &["service.presence_domains", "only OPTIONS"]);
    assert_any(&warnings, &["lan.password", "`ucserver`"]);
    assert_any(&warnings, &["wan.network_interface[0]", "will not listen"]);
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
}

#[test]
fn a_missing_file_is_a_fault_that_names_it() {
    let path = Path::new("/nowhere/at-all.toml");
    let faults = load(path, pairs(&[])).unwrap_err();
    assert_eq!(faults.0[0].place, Place::File(path.to_owned()));
    assert!(faults.to_string().starts_with("/nowhere/at-all.toml: cannot be read: "), "{faults}");
}

#[test]
fn the_environment_lies_over_the_file_and_the_file_over_the_defaults() {
    let text =
        "[sip]\nt1 = \"100ms\"\nt2 = \"2s\"\n[lan]\nport = 5070\nallowed_networks = [\"10.0.0.0/8\"]\n";
    let environment = [
        ("SIP_PROXY__SIP__T1", "50ms"),
        ("SIP_PROXY__SIP__UDP_MTU", "1400"),
        ("SIP_PROXY__LAN__PASSWORD", "12345"),
        ("SIP_PROXY__LAN__TRANSPORT_PROTOCOL", "udp, tcp"),
        ("SIP_PROXY__LAN__ALLOWED_NETWORKS", r#"["127.0.0.0/8", "10.1.0.0/16"]"#),
        ("SIP_PROXY__LAN__ACCOUNT", r#"[{ user_name = "a", password = "b", users = ["*@example.org"] }]"#),
        ("SIP_PROXY__SERVICE__PRESENCE_DOMAINS", "example.org,Example.NET"),
        ("SIP_PROXY__DIAGNOSTICS__DELETE_LOG_FILES_DAILY", "true"),
        ("SIP_PROXY__DIAGNOSTICS__LOG_LEVEL__ROUTER", "debug"),
    ];
    let (config, _) = load_with(text, &environment).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.sip.t1, Duration::from_millis(50));
    assert_eq!(config.sip.t2, Duration::from_secs(2));
    assert_eq!(config.sip.t4, Duration::from_secs(5));
    assert_eq!(config.sip.udp_mtu, 1400);
    assert_eq!(config.accounts.list()[0].secret, Secret::Password("12345".into()));
    assert_eq!(config.accounts.list()[1].user_name, "a");
    let lan: Vec<_> =
        config.interfaces.iter().filter(|i| i.side == Side::Lan).map(|i| (i.protocol, i.port)).collect();
    assert_eq!(lan, [(Protocol::Udp, 5070), (Protocol::Tcp, 5070)]);
    assert_eq!(config.lan_allowed_networks.len(), 2);
    assert_eq!(config.service.presence_domains, ["example.org", "example.net"]);
    assert!(config.diagnostics.delete_log_files_daily);
    assert_eq!(config.diagnostics.module_log_levels["router"], LogLevel::Debug);
}

#[test]
fn a_faulty_variable_is_named_instead_of_a_line() {
    let environment = [
        ("SIP_PROXY__LAN__PROT", "5070"),
        ("SIP_PROXY__LAN__PORT", "many"),
        ("SIP_PROXY__SIP__T1", "20s"),
        ("SIP_PROXY__STUN", "x"),
        ("SIP_PROXY__", "x"),
        ("SIP_PROXY__LAN__ACCOUNT", r#"[{ user_name = "a", password = "b", pasword = "c" }]"#),
    ];
    let faults = load_with("[lan]\nport = 5060\n", &environment).unwrap_err().0;
    let texts: Vec<_> = faults.iter().map(Fault::to_string).collect();
    assert_eq!(
        texts,
        [
            "SIP_PROXY__: names no key, allowed: SIP_PROXY__SECTION__KEY",
            "SIP_PROXY__LAN__ACCOUNT: lan.account[0].pasword: unknown key, did you mean `lan.account[0].password`?",
            "SIP_PROXY__LAN__PORT: lan.port: `many` is no integer, allowed: 0 to 65535",
            "SIP_PROXY__LAN__PROT: lan.prot: unknown key, did you mean SIP_PROXY__LAN__PORT?",
            "SIP_PROXY__SIP__T1: sip.t1: `20s` is out of range, allowed: \"1ms\" to \"10s\"",
            "SIP_PROXY__STUN: stun: is a string, allowed: a section, [stun]",
        ]
    );
}

const FAULTY: &str = r#"
[service]
presence_domains = ["example.org", "EXAMPLE.org"]
worker_threads = "four"
[certificate]
chain = "missing.pem"
private_key = "missing.pem"
[lan]
port = 70000
bind_to_ip_address = "203.0.113.77"
transport_protocol = ["udp", "sctp"]
allowed_networks = ["10.0.0.1/8"]
passwort = "x"
[[lan.account]]
password = "x"
ha1_sha256 = "x"
[[static_routes.route]]
domain_name = "a.example"
access_server = "sip.a.example"
[[static_routes.route]]
domain_name = "b.example"
access_server = "sip.b.example"
port = 0
[sip]
t1 = "fast"
[registrar]
maximum_expires = "10m"
digest_algorithms = []
[limits]
maximum_header_bytes = 2048
maximum_message_bytes = 1024
[diagnostics]
log_level = { default = "loud", ruter = "debug" }
kept_log_files = 1979-05-27
[admn]
"#;

const FAULTS_OF_FAULTY: &[&str] = &[
    "3: service.presence_domains[1]: is given twice, allowed: once",
    "4: service.worker_threads: is a string, allowed: 0 to 256",
    "6: certificate.chain: /nowhere/missing.pem cannot be read",
    "7: certificate.private_key: /nowhere/missing.pem cannot be read",
    "9: lan.port: 70000 is out of range, allowed: 0 to 65535",
    "10: lan.bind_to_ip_address: this machine has no 203.0.113.77, allowed: ",
    "11: lan.transport_protocol[1]: `sctp` is unknown, allowed: \"udp\" \"tcp\" \"tls\" \"mtls\"",
    "12: lan.allowed_networks[0]: `10.0.0.1/8` has bits beyond its prefix, allowed: \"10.0.0.0/8\"",
    "13: lan.passwort: unknown key, did you mean `lan.password`?",
    "14: lan.account[0].user_name: is missing",
    "16: lan.account[0].ha1_sha256: is no such hash, allowed: 64 hexadecimal digits",
    "23: static_routes.route[1].port: 0 is out of range, allowed: 1 to 65535",
    "25: sip.t1: `fast` is no duration",
    "27: registrar.maximum_expires: default_expires is longer than maximum_expires",
    "28: registrar.digest_algorithms: is empty, allowed: at least one element",
    "30: limits.maximum_header_bytes: maximum_header_bytes is above maximum_message_bytes",
    "33: diagnostics.log_level.default: `loud` is unknown, allowed: \"error\" \"warning\"",
    "33: diagnostics.log_level.ruter: unknown key, did you mean `diagnostics.log_level.router`?",
    "34: diagnostics.kept_log_files: is a date or time, allowed: 0 to 1000",
    "35: admn: unknown key, did you mean `admin`?",
];

#[test]
fn all_faults_of_a_file_come_at_once_with_line_and_path() {
    let found = faults(FAULTY);
    for (found, expected) in found.iter().zip(FAULTS_OF_FAULTY) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!(found.len(), FAULTS_OF_FAULTY.len(), "{found:#?}");
}

#[test]
fn a_file_that_is_no_toml_has_its_syntax_faults_alone() {
    let found = faults("[lan]\nport = \nprot = 1\nenabled = yes\n");
    assert!(found.iter().all(|f| f.contains("is no TOML")), "{found:#?}");
    assert_any(&found, &["2: is no TOML"]);
    assert_any(&found, &["4: is no TOML"]);
}

#[test]
fn a_key_that_looks_like_a_path_is_unknown() {
    assert_only(&faults("\"lan.port\" = 5070\n"), &["1: \"lan.port\": unknown key"]);
    assert_only(&faults("[lan]\n\"account[0]\" = 1\n"), &["2: lan.\"account[0]\": unknown key"]);
}

#[test]
fn no_secret_shows_in_debug_output_or_faults() {
    let text = "[lan]\npassword = \"s3cret\"\n[[lan.account]]\nuser_name = \"a\"\nha1_md5 = \"0123456789abcdef0123456789abcdef\"";
    let shown = format!("{:?}", config(text));
    assert!(!shown.contains("s3cret") && !shown.contains("0123456789abcdef"), "{shown}");
    for text in [
        "[lan]\npassword = \"s3cret\"\ncertificate = \"a\"",
        "[lan]\nha1_md5 = \"s3cret\"",
        "[lan]\npassword = [\"s3cret\"]",
    ] {
        let shown = faults(text).concat();
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

/// `etc/`, with the texts of the samples.
fn samples() -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    paths.sort();
    assert!(paths.len() >= 2, "{paths:?}");
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn sample() -> (PathBuf, String) {
    samples().into_iter().find(|(path, _)| path.ends_with("sip-proxy.toml")).unwrap()
}

/// The sample with its commented examples made keys.
fn uncommented(text: &str) -> String {
    let is_key = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        line.starts_with("[[")
            || line.contains(" = ")
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let line = |line: &'_ str| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line).to_owned();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_runs_and_shows_the_defaults() {
    let (path, text) = sample();
    let (shown, warnings, _) =
        load::load_text(&path, &text, pairs(&[])).unwrap_or_else(|faults| panic!("{faults}"));
    let (mut built_in, ..) = load::load_text(&path, "", pairs(&[])).unwrap();
    assert_eq!(warnings.len(), 1, "only the empty password: {warnings:#?}");
    assert_eq!(shown.service.presence_domains, ["example.org"]);
    built_in.service.presence_domains = vec!["example.org".to_owned()];
    // It is numbered where it is on.
    let wan = Interface { id: InterfaceId(0), ..built_in.interfaces.pop().unwrap() };
    assert_eq!((wan.side, wan.protocol), (Side::Wan, Protocol::Mtls));
    built_in.switched_off.interfaces.insert(0, wan);
    assert_eq!(shown, built_in);
}

#[test]
fn the_samples_examples_of_lists_show_the_defaults() {
    let text = uncommented(&sample().1);
    let route = text.split("[[static_routes.route]]").nth(1).unwrap().split("\n[").next().unwrap();
    let full = config(&format!("[[static_routes.route]]{route}"));
    let short = config(
        "[[static_routes.route]]\ndomain_name = \"partner.example\"\naccess_server = \"sip.partner.example\"",
    );
    assert_eq!(full.static_routes, short.static_routes);
    assert_eq!(full.static_routes.len(), 1);
    let interface = text.split("[[lan.network_interface]]").nth(1).unwrap().split("\n[").next().unwrap();
    let interface = config(&format!(
        "[wan]\nnetwork_interface = []\n[[lan.network_interface]]{}",
        interface.split("\n#").next().unwrap()
    ));
    assert_eq!(
        interface.interfaces,
        config("[wan]\nnetwork_interface = []\n[[lan.network_interface]]").interfaces
    );
    assert_eq!(interface.interfaces.len(), 2);
}

#[test]
fn the_sample_shows_every_key_and_no_other() {
    let document = file::parse(&uncommented(&sample().1)).unwrap();
    let shown: BTreeSet<_> = document.origins.keys().map(|path| without_indices(path)).collect();
    let report = Report::new(FILE.into(), document.origins);
    check::check(&report, document.entries);
    let known = report.known();
    let elements = known.difference(&shown).collect::<Vec<_>>();
    assert!(elements.is_empty(), "not shown: {elements:?}");
    let unknown = shown.difference(&known).collect::<Vec<_>>();
    assert!(unknown.is_empty(), "not known: {unknown:?}");
}

/// Each table of a text as the line after its header and its key path, with indices for lists.
fn tables(text: &str) -> Vec<(usize, String)> {
    let mut lists: Vec<String> = Vec::new();
    let mut tables = vec![(0, String::new())];
    for (index, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('[')) {
        let name = line.trim_matches(['[', ']']).to_owned();
        if line.starts_with("[[") {
            let element = lists.iter().filter(|list| **list == name).count();
            tables.push((index + 1, format!("{name}[{element}].")));
            lists.push(name);
        } else {
            tables.push((index + 1, format!("{name}.")));
        }
    }
    tables
}

#[test]
fn an_unknown_key_at_any_level_of_a_sample_is_refused_with_the_nearest_name() {
    for (path, text) in samples() {
        let text = uncommented(&text);
        let before = load::load_text(&path, &text, pairs(&[])).err().map_or(0, |faults| faults.0.len());
        let tables = tables(&text);
        assert!(tables.len() > 15, "{tables:?}");
        for (line, table) in tables {
            let report = Report::new(path.clone(), std::collections::BTreeMap::new());
            check::check(&report, file::parse(&text).unwrap().entries);
            let plain = without_indices(&table);
            let known = report.known().into_iter().find(|key| {
                key.strip_prefix(&plain).is_some_and(|name| name.len() > 3 && !name.contains('.'))
            });
            let known =
                known.map(|key| format!("{table}{}", &key[plain.len()..])).expect("keys in every table");
            let misspelt = format!("{known}x");
            let mut lines: Vec<&str> = text.lines().collect();
            let addition = format!("{} = 1", misspelt.rsplit('.').next().unwrap());
            lines.insert(line, &addition);
            let faults = load::load_text(&path, &lines.join("\n"), pairs(&[])).unwrap_err();
            let expected =
                format!("{}:{}: {misspelt}: unknown key, did you mean `{known}`?", path.display(), line + 1);
            assert!(faults.to_string().contains(&expected), "{expected}\n{faults}");
            assert_eq!(faults.0.len(), before + 1, "{faults}");
        }
    }
}

#[test]
fn the_deployment_lacks_nothing_but_what_this_machine_lacks() {
    let (path, text) = samples().into_iter().find(|(path, _)| !path.ends_with("sip-proxy.toml")).unwrap();
    let faults = load::load_text(&path, &text, pairs(&[])).unwrap_err();
    for fault in &faults.0 {
        let lacking = fault.text.contains("cannot be read") || fault.text.starts_with("this machine has no");
        assert!(lacking, "{fault}");
    }
    for key in ["certificate.chain", "lan.password_file", "static_routes.route[0].trusted_cas"] {
        assert!(faults.0.iter().any(|fault| fault.key == key), "{key}\n{faults}");
    }
}
