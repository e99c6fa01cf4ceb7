use super::*;
use crate::config::tests::{Directory, config};

/// Each difference in a line.
fn told(old: &str, new: &str) -> Vec<String> {
    let line = |change: Change| {
        let [old, new] = [change.old, change.new].map(|value| value.unwrap_or_else(|| "-".to_owned()));
        format!("{} {}: {old} -> {new}", change.key, change.kind.as_str())
    };
    differences(&config(old), &config(new)).into_iter().map(line).collect()
}

#[test]
fn equal_configurations_differ_in_nothing() {
    let sample = include_str!("../../../etc/sip-proxy.toml");
    assert!(told(sample, sample).is_empty());
    // Two alike, and the same in another order.
    let port = "[[lan.network_interface]]\nport = 0\nprotocol = \"tcp\"\n";
    assert!(told(&[port, port].concat(), &[port, port].concat()).is_empty());
    assert_eq!(told(port, &[port, port].concat()).len(), 1);
    let account = |name: &str| format!("[[lan.account]]\nuser_name = \"{name}\"\npassword = \"p\"\n");
    assert!(told(&[account("a"), account("b")].concat(), &[account("b"), account("a")].concat()).is_empty());
}

#[test]
fn every_section_tells_what_is_different_as_the_file_writes_it() {
    let table = [
        (
            "[service]\npresence_domains = [\"a.test\"]",
            "service.presence_domains changed: [] -> [\"a.test\"]",
        ),
        ("[sip]\nt1 = \"50ms\"", "sip.t1 changed: \"500ms\" -> \"50ms\""),
        ("[sip]\nfollow_redirections = true", "sip.follow_redirections changed: false -> true"),
        ("[registrar]\nmaximum_contacts = 3", "registrar.maximum_contacts changed: 16 -> 3"),
        ("[registrar]\ndefault_expires = \"2h\"", "registrar.default_expires changed: \"1h\" -> \"2h\""),
        (
            "[registrar]\ndigest_algorithms = [\"MD5\"]",
            "registrar.digest_algorithms changed: [\"SHA-512-256\", \"SHA-256\", \"MD5\"] -> [\"MD5\"]",
        ),
        ("[limits]\nidle_timeout = \"1m\"", "limits.idle_timeout changed: \"10m\" -> \"1m\""),
        ("[dns]\nname_servers = [\"192.0.2.1\"]", "dns.name_servers changed: [] -> [\"192.0.2.1:53\"]"),
        ("[stun]\ninterval = \"1m\"", "stun.interval changed: \"10m\" -> \"1m\""),
        ("[federation]\npolicy = \"closed\"", "federation.policy changed: \"open\" -> \"closed\""),
        ("[federation_guard]\nusers = 3", "federation_guard.users changed: 1000 -> 3"),
        (
            "[open_federation]\nmessages_per_second = 3",
            "open_federation.messages_per_second changed: 20 -> 3",
        ),
        (
            "[static_routes]\nprobe_interval = \"0s\"",
            "static_routes.probe_interval changed: \"30s\" -> \"0s\"",
        ),
        (
            "[diagnostics]\nlog_level = { router = \"debug\" }",
            "diagnostics.log_level.router added: - -> \"debug\"",
        ),
        (
            "[certificate]\nminimum_tls_version = \"1.3\"",
            "certificate.minimum_tls_version changed: \"1.2\" -> \"1.3\"",
        ),
        ("[admin]\nlisten = \"127.0.0.1:0\"", "admin.listen added: - -> \"127.0.0.1:0\""),
    ];
    for (new, expected) in table {
        assert_eq!(told("", new), [expected]);
    }
    assert_eq!(told("[wan.public_address]\nenabled = true\nip_address = \"192.0.2.1\"", "").len(), 3);
}

#[test]
fn elements_go_by_their_names_and_come_and_go_as_a_whole() {
    let route = |server: &str| {
        format!("[[static_routes.route]]\ndomain_name = \"b.test\"\naccess_server = \"{server}\"\n")
    };
    assert_eq!(
        told("", &route("sip.b.test")),
        ["static_routes.route[b.test] added: - -> mtls sip.b.test port 5061"]
    );
    assert_eq!(
        told(&route("192.0.2.1"), &route("sip.b.test")),
        ["static_routes.route[b.test].access_server changed: \"192.0.2.1\" -> \"sip.b.test\""]
    );
    assert_eq!(
        told("[lan]\nport = 5070", "[lan]\nport = 5071"),
        [
            "lan[tcp 127.0.0.1:5070] removed: tcp 127.0.0.1:5070 (LAN) -> -",
            "lan[tcp 127.0.0.1:5071] added: - -> tcp 127.0.0.1:5071 (LAN)"
        ]
    );
    assert_eq!(
        told("", "[[lan.account]]\nuser_name = \"a\"\npassword = \"p\""),
        ["lan.account[a] added: - -> UC server, proven by password"]
    );
}

#[test]
fn no_secret_is_shown_and_each_is_compared() {
    let directory = Directory::new("diff");
    let (one, two) = (directory.write("one", "hunter2"), directory.write("two", "swordfish"));
    let account = |row: &str| format!("[[lan.account]]\nuser_name = \"a\"\n{row}\n");
    let file = |path: &str| account(&format!("password_file = {path:?}"));
    let hash = |digit: &str| account(&format!("ha1_md5 = \"{}\"", digit.repeat(32)));
    let token = |path: &str| format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = {path:?}\n");
    let table = [
        (account("password = \"hunter2\""), account("password = \"swordfish\""), "lan.account[a].password"),
        (file(&one), file(&two), "lan.account[a].password"),
        (hash("1"), hash("2"), "lan.account[a].ha1_md5"),
        (token(&one), token(&two), "admin.token_file"),
    ];
    for (old, new, key) in table {
        assert_eq!(told(&old, &new), [format!("{key} changed: *** -> ***")]);
        assert!(told(&old, &old).is_empty());
    }
    // From the one kind to the other.
    assert_eq!(
        told(&account("password = \"hunter2\""), &account("certificate = \"a.test\"")),
        ["lan.account[a].certificate added: - -> \"a.test\"", "lan.account[a].password removed: *** -> -"]
    );
}

#[test]
fn certificates_are_compared_by_their_content_and_the_key_is_hidden() {
    let directory = Directory::new("diff-certificates");
    let pair = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["sip.a.test".to_owned()]).unwrap();
        let chain = directory.write(&format!("{name}.pem"), certificate.self_signed(&key).unwrap().pem());
        let key = directory.write(&format!("{name}.key"), key.serialize_pem());
        format!("[certificate]\nchain = {chain:?}\nprivate_key = {key:?}\ntrusted_cas = {chain:?}\n")
    };
    let (one, two) = (pair("one"), pair("two"));
    let told = told(&one, &two);
    let keys: Vec<_> = told.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(keys, ["certificate.chain", "certificate.private_key", "certificate.trusted_cas"]);
    assert!(told[1].ends_with("*** -> ***"));
}
