//! The sections whose keys stand for themselves.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::accounts::read_secret_file;
use super::machine;
use crate::config::reader::{Entry, Section};
use crate::config::rules::{
    choice, domain, duration, file, flag, host_port, non_empty, option_tag, path, range, set, socket_address,
    unless_empty,
};
use crate::config::{
    Admin, Diagnostics, Dns, Durability, LOG_MODULES, Limits, LogFormat, LogLevel, Registrar, Service, Sip,
    Stun, Token,
};
use crate::protocol::digest::Algorithm;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a Unix socket's address has room for (unix(7)), without the octet that ends it.
const MAXIMUM_SOCKET_PATH: usize = 107;

/// `[service]`.
pub(super) fn service(mut section: Section<'_>) -> Service {
    let report = section.report();
    let service = Service {
        presence_domains: section.get("presence_domains", set(domain), Vec::new()),
        state_directory: section.get("state_directory", path, report.resolve("var/lib")),
        control_socket: section.get("control_socket", path, report.resolve("var/run/control.sock")),
        worker_threads: section.get("worker_threads", range(0..=256), 0),
        drain_timeout: section.get("drain_timeout", duration(Duration::ZERO..=HOUR), 32 * SECOND),
    };
    if section.is_sound() && service.presence_domains.is_empty() {
        section.warn("presence_domains", "is empty: only OPTIONS is answered");
    }
    let length = service.control_socket.as_os_str().as_bytes().len();
    if length > MAXIMUM_SOCKET_PATH {
        let text = format!("is a path of {length} octets, allowed: {MAXIMUM_SOCKET_PATH}");
        section.fault("control_socket", text);
    }
    service
}

/// `[stun]`.
pub(super) fn stun(mut section: Section<'_>) -> Stun {
    Stun {
        servers: section.get("servers", set(host_port), Vec::new()),
        interval: section.get("interval", duration(10 * SECOND..=DAY), 10 * MINUTE),
    }
}

/// `[dns]`.
pub(super) fn dns(mut section: Section<'_>) -> Dns {
    Dns {
        name_servers: section.get("name_servers", set(socket_address(Some(53))), Vec::new()),
        timeout: section.get("timeout", duration(10 * MILLISECOND..=MINUTE), 4 * SECOND),
    }
}

/// `[sip]`.
pub(super) fn sip(mut section: Section<'_>) -> Sip {
    let t1 = section.get("t1", duration(MILLISECOND..=10 * SECOND), 500 * MILLISECOND);
    let t2 = section.get("t2", duration(MILLISECOND..=MINUTE), 4 * SECOND);
    let t4 = section.get("t4", duration(MILLISECOND..=MINUTE), 5 * SECOND);
    let timer_c = section.get("timer_c", duration(MILLISECOND..=HOUR), 185 * SECOND);
    if section.is_sound() {
        check_timers(&section, t1, t2, timer_c);
    }
    Sip {
        t1,
        t2,
        t4,
        timer_c,
        udp_mtu: section.get("udp_mtu", range(500..=65535), 1300),
        follow_redirections: section.get("follow_redirections", flag, false),
        tolerated_proxy_require: section.get(
            "tolerated_proxy_require",
            set(option_tag),
            vec!["ms-benotify".to_owned(), "ms-piggyback-first-notify".to_owned()],
        ),
    }
}

fn check_timers(section: &Section<'_>, t1: Duration, t2: Duration, timer_c: Duration) {
    if t1 > t2 {
        section.fault_between(&["t2", "t1"], "t2 is shorter than t1, allowed: t1 or more");
    }
    if t1 >= 500 * MILLISECOND && timer_c <= 3 * MINUTE {
        section.fault("timer_c", "is too short, allowed: more than 3m (RFC 3261 16.6 step 11)");
    } else if timer_c < 360 * t1 {
        let least = humantime::format_duration(360 * t1);
        let text = format!("timer_c is too short for this t1, allowed: {least} or more");
        section.fault_between(&["timer_c", "t1"], text);
    }
}

/// `[registrar]`, but its accounts.
pub(super) fn registrar(section: &mut Section<'_>) -> Registrar {
    let [minimum_expires, default_expires, maximum_expires] =
        [("minimum_expires", MINUTE), ("default_expires", HOUR), ("maximum_expires", DAY)]
            .map(|(key, default)| section.get(key, duration(SECOND..=30 * DAY), default));
    if section.is_sound() && minimum_expires > default_expires {
        let text = "minimum_expires is longer than default_expires, allowed: minimum <= default <= maximum";
        section.fault_between(&["minimum_expires", "default_expires"], text);
    }
    if section.is_sound() && default_expires > maximum_expires {
        let text = "default_expires is longer than maximum_expires, allowed: minimum <= default <= maximum";
        section.fault_between(&["maximum_expires", "default_expires"], text);
    }
    Registrar {
        minimum_expires,
        default_expires,
        maximum_expires,
        maximum_contacts: section.get("maximum_contacts", range(1..=1000), 16),
        durability: section.get(
            "durability",
            choice(&[("process", Durability::Process), ("disk", Durability::Disk)]),
            Durability::Process,
        ),
        accept_path_without_support: section.get("accept_path_without_support", flag, false),
        digest_algorithms: section.get(
            "digest_algorithms",
            non_empty(set(algorithm)),
            vec![Algorithm::Sha512_256, Algorithm::Sha256, Algorithm::Md5],
        ),
        nonce_lifetime: section.get("nonce_lifetime", duration(SECOND..=DAY), 5 * MINUTE),
        accept_digest_without_qop: section.get("accept_digest_without_qop", flag, false),
        accept_digest_for_other_uri: section.get("accept_digest_for_other_uri", flag, false),
        failed_log_ons: section.get("failed_log_ons", range(0..=1_000_000), 10),
        ban_time: section.get("ban_time", duration(SECOND..=DAY), 5 * MINUTE),
    }
}

fn algorithm(entry: &Entry<'_>) -> Option<Algorithm> {
    let allowed = "\"SHA-512-256\" \"SHA-256\" \"MD5\"";
    let text = entry.text(allowed)?;
    Algorithm::parse(text.as_bytes()).or_else(|| entry.refuse(&format!("`{text}` is unknown"), allowed))
}

/// `[limits]`.
pub(super) fn limits(mut section: Section<'_>) -> Limits {
    let maximum_message_bytes = section.get("maximum_message_bytes", range(1024..=65535), 65535);
    let maximum_header_bytes = section.get("maximum_header_bytes", range(512..=65535), 16384);
    if section.is_sound() && maximum_header_bytes > maximum_message_bytes {
        let text = "maximum_header_bytes is above maximum_message_bytes, allowed: that or less";
        section.fault_between(&["maximum_header_bytes", "maximum_message_bytes"], text);
    }
    let connections = || range(1..=10_000_000);
    let short = || duration(10 * MILLISECOND..=10 * MINUTE);
    Limits {
        maximum_message_bytes,
        maximum_header_bytes,
        maximum_connections: section.get("maximum_connections", connections(), 50_000),
        maximum_connections_per_address: section.get("maximum_connections_per_address", connections(), 1000),
        maximum_transactions: section.get("maximum_transactions", range(1..=100_000_000), 500_000),
        handshake_timeout: section.get("handshake_timeout", short(), 5 * SECOND),
        message_timeout: section.get("message_timeout", short(), 10 * SECOND),
        idle_timeout: section.get("idle_timeout", duration(10 * MILLISECOND..=DAY), 10 * MINUTE),
        requests_per_second_per_address: section.get(
            "requests_per_second_per_address",
            range(0..=1_000_000),
            0,
        ),
    }
}

/// `[diagnostics]`.
pub(super) fn diagnostics(mut section: Section<'_>) -> Diagnostics {
    let (log_level, module_log_levels) = log_levels(&mut section);
    let report = section.report();
    Diagnostics {
        log_level,
        module_log_levels,
        log_file_directory: section.get(
            "log_file_directory",
            unless_empty(path),
            Some(report.resolve("var/log")),
        ),
        maximum_log_file_size_mb: section.get("maximum_log_file_size_mb", range(1..=100_000), 10),
        kept_log_files: section.get("kept_log_files", range(0..=1000), 5),
        delete_log_files_daily: section.get("delete_log_files_daily", flag, false),
        format: section.get(
            "format",
            choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            LogFormat::Text,
        ),
    }
}

/// `diagnostics.log_level`: one level, or a table of them.
fn log_levels(section: &mut Section<'_>) -> (LogLevel, BTreeMap<&'static str, LogLevel>) {
    if !section.holds_table("log_level") {
        return (section.get("log_level", level, LogLevel::Info), BTreeMap::new());
    }
    let mut table = section.section("log_level");
    let default = table.get("default", level, LogLevel::Info);
    let modules = LOG_MODULES.iter().filter_map(|module| Some((*module, table.optional(module, level)?)));
    (default, modules.collect())
}

fn level(entry: &Entry<'_>) -> Option<LogLevel> {
    choice(&[
        ("error", LogLevel::Error),
        ("warning", LogLevel::Warning),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ])(entry)
}

/// `[admin]`, where it listens.
pub(super) fn admin(mut section: Section<'_>) -> Option<Admin> {
    let listen = section.get("listen", unless_empty(socket_address(None)), None);
    let token = section.get("token_file", unless_empty(token_file), None);
    let listen = listen?;
    if !machine::has_address(listen.ip()) {
        section.fault("listen", machine::describe_missing(listen.ip()));
    }
    if !listen.ip().is_loopback() && token.is_none() && section.is_sound() {
        section.fault_between(
            &["token_file", "listen"],
            format!("token_file is empty, allowed: that on loopback alone, not on {listen}"),
        );
    }
    Some(Admin { listen, token })
}

fn token_file(entry: &Entry<'_>) -> Option<Token> {
    let path = file(entry)?;
    entry.accept(read_secret_file(&path), "a readable file with a token").map(Token)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::tests::{Directory, assert_only, config, faults};
    use crate::config::{LogFormat, LogLevel};

    #[test]
    fn timers_fit_each_other() {
        for (keys, part) in [
            ("t1 = \"2s\"\nt2 = \"1s\"\ntimer_c = \"1h\"", "3: sip.t2: t2 is shorter than t1"),
            ("t1 = \"5s\"\ntimer_c = \"1h\"", "2: sip.t1: t2 is shorter than t1"),
            ("timer_c = \"180s\"", "2: sip.timer_c: is too short, allowed: more than 3m"),
            ("t1 = \"1s\"", "2: sip.t1: timer_c is too short for this t1, allowed: 6m or more"),
            (
                "t1 = \"50ms\"\ntimer_c = \"17s\"",
                "3: sip.timer_c: timer_c is too short for this t1, allowed: 18s",
            ),
            ("t4 = \"0s\"", "2: sip.t4: `0s` is out of range, allowed: \"1ms\" to \"1m\""),
            (
                "tolerated_proxy_require = [\"a b\"]",
                "2: sip.tolerated_proxy_require[0]: `a b` is no option tag, allowed: a token as \"ms-benotify\"",
            ),
            ("tolerated_proxy_require = [\"a\", \"A\"]", "2: sip.tolerated_proxy_require[1]: is given twice"),
            ("udp_mtu = 1300.0", "2: sip.udp_mtu: is a number with a fraction, allowed: 500 to 65535"),
        ] {
            assert_only(&faults(&format!("[sip]\n{keys}")), &[part]);
        }
        assert_eq!(config("[sip]\nt1 = \"50ms\"\ntimer_c = \"18s\"").sip.timer_c.as_secs(), 18);
    }

    #[test]
    fn settings_out_of_range_or_order_are_refused() {
        for (text, part) in [
            (
                "[registrar]\nminimum_expires = \"2h\"",
                "2: registrar.minimum_expires: minimum_expires is longer",
            ),
            (
                "[registrar]\ndefault_expires = \"2days\"",
                "2: registrar.default_expires: default_expires is longer",
            ),
            (
                "[registrar]\ndigest_algorithms = [\"MD5\", \"md5\"]",
                "2: registrar.digest_algorithms[1]: is given twice",
            ),
            (
                "[registrar]\ndigest_algorithms = [\"SHA-1\"]",
                "2: registrar.digest_algorithms[0]: `SHA-1` is unknown",
            ),
            (
                "[limits]\nmaximum_message_bytes = 1023",
                "2: limits.maximum_message_bytes: 1023 is out of range",
            ),
            ("[limits]\nmaximum_connections = -1", "2: limits.maximum_connections: -1 is out of range"),
            (
                "[limits]\nmaximum_transactions = 9223372036854775808",
                "2: limits.maximum_transactions: 9223372036854775808",
            ),
            (
                "[limits]\nmaximum_message_bytes = 8192",
                "2: limits.maximum_message_bytes: maximum_header_bytes is above",
            ),
            (
                "[stun]\nservers = [\"stun.example\"]",
                "2: stun.servers[0]: `stun.example` is no host with a port",
            ),
            ("[stun]\nservers = [\"::1:3478\"]", "2: stun.servers[0]: `::1:3478` is no host with a port"),
            (
                "[dns]\nname_servers = [\"dns.example\"]",
                "2: dns.name_servers[0]: `dns.example` is no such address",
            ),
            (
                "[diagnostics]\nformat = \"xml\"",
                "2: diagnostics.format: `xml` is unknown, allowed: \"text\" \"json\"",
            ),
            ("[diagnostics]\nlog_level = 3", "2: diagnostics.log_level: is an integer, allowed: \"error\""),
            (
                "[admin]\nlisten = \"8061\"",
                "2: admin.listen: `8061` is no such address, allowed: \"ip:port\"",
            ),
            ("[admin]\nlisten = \"0.0.0.0:8061\"", "2: admin.listen: token_file is empty"),
            (
                "[admin]\nlisten = \"203.0.113.77:1\"\ntoken_file = \"x\"",
                "admin.token_file: /nowhere/x cannot be read",
            ),
        ] {
            let found = faults(text);
            assert!(found[0].contains(part) || found[found.len() - 1].contains(part), "{part}\n{found:#?}");
        }
        let long = format!("[service]\ncontrol_socket = \"/{}\"", "x".repeat(107));
        assert_only(&faults(&long), &["2: service.control_socket: is a path of 108 octets, allowed: 107"]);
    }

    #[test]
    fn settings_are_read() {
        let directory = Directory::new("settings");
        let token = directory.write("token", "t0ken\n");
        let config = config(&format!(
            "[service]\ncontrol_socket = \"run/socket\"\n[dns]\nname_servers = [\"127.0.0.1\", \"[::1]:5353\"]\n\
             [diagnostics]\nlog_level = {{ default = \"warning\", router = \"trace\" }}\nlog_file_directory = \"\"\n\
             format = \"json\"\n[admin]\nlisten = \"0.0.0.0:0\"\ntoken_file = \"{token}\""
        ));
        assert_eq!(config.service.control_socket, Path::new("/nowhere/run/socket"));
        let servers: Vec<_> = config.dns.name_servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.1:53", "[::1]:5353"]);
        assert_eq!(config.diagnostics.log_level, LogLevel::Warning);
        assert_eq!(config.diagnostics.module_log_levels["router"], LogLevel::Trace);
        assert_eq!(config.diagnostics.log_file_directory, None);
        assert_eq!(config.diagnostics.format, LogFormat::Json);
        let admin = config.admin.unwrap();
        assert_eq!(admin.token.as_ref().map(|token| token.0.as_str()), Some("t0ken"));
        assert!(!format!("{admin:?}").contains("t0ken"));
    }
}
