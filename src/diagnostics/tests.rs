//! The log as a whole: records in, lines out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use slog::{Drain as _, debug, error, info, trace, warn};

use super::*;
use crate::config::{LogFormat, LogLevel};

pub(super) fn settings(log_level: LogLevel, modules: &[(&'static str, LogLevel)]) -> Settings {
    Settings {
        log_level,
        module_log_levels: modules.iter().copied().collect(),
        log_file_directory: None,
        maximum_log_file_size_mb: 10,
        kept_log_files: 5,
        delete_log_files_daily: false,
        format: LogFormat::Text,
    }
}

fn json(log_level: LogLevel) -> Settings {
    Settings { format: LogFormat::Json, ..settings(log_level, &[]) }
}

/// How long something may take that is to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends each line to the test.
struct Probe(Sender<String>);

impl Write for Probe {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        // A test that has ended needs no lines.
        let _ = self.0.send(String::from_utf8(octets.to_vec()).unwrap());
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn start(settings: &Settings) -> (Diagnostics, Receiver<String>) {
    let (sender, receiver) = channel();
    (Diagnostics::start(settings, Probe(sender)), receiver)
}

/// All lines, once the log has ended.
fn finish((diagnostics, lines): (Diagnostics, Receiver<String>)) -> Vec<String> {
    drop(diagnostics);
    lines.iter().flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// A text line read back: its four head words and its fields.
fn parse(line: &str) -> (Vec<&str>, BTreeMap<String, String>) {
    let words: Vec<_> = line.splitn(5, ' ').collect();
    let mut fields = BTreeMap::new();
    let mut rest = words.get(4).copied().unwrap_or("");
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=').unwrap();
        let end = if value.starts_with('"') {
            let is_end = |at: &usize| value[..*at].bytes().rev().take_while(|&c| c == b'\\').count() % 2 == 0;
            value.match_indices('"').map(|(at, _)| at).skip(1).find(is_end).unwrap() + 1
        } else {
            value.find(' ').unwrap_or(value.len())
        };
        assert!(fields.insert(key.to_owned(), value[..end].to_owned()).is_none(), "{key} twice in {line}");
        rest = value[end..].strip_prefix(' ').unwrap_or(&value[end..]);
    }
    (words[..4].to_vec(), fields)
}

#[test]
fn a_line_has_time_level_module_event_and_fields_in_order() {
    let log = start(&settings(LogLevel::Info, &[]));
    let before = SystemTime::now() - Duration::from_millis(1);
    let logger = log.0.logger("router").new(o!("peer" => "10.0.0.1:5060", "port" => 1));
    warn!(logger, "request_refused"; "reason" => "too long", "status" => 413, "aor" => %"sip:a@b", "left" => None::<u8>);
    info!(log.0.root(None), "from_here"; "is" => true);
    error!(logger, "shadowed"; "peer" => "inner", "time" => 7, "event" => "e", "a b" => "");
    let lines = finish(log);
    let (head, fields) = parse(&lines[0]);
    assert_eq!(head[1..], ["warning", "router", "request_refused"]);
    let time = humantime::parse_rfc3339(head[0]).unwrap();
    assert!(head[0].len() == 24 && head[0].ends_with('Z'), "{}", head[0]);
    assert!(before <= time && time <= SystemTime::now());
    let tail = "reason=\"too long\" status=413 aor=sip:a@b left=none peer=10.0.0.1:5060 port=1";
    assert!(lines[0].ends_with(tail), "{}", lines[0]);
    assert_eq!(fields["reason"], "\"too long\"");
    assert_eq!(parse(&lines[1]).0[1..], ["info", "diagnostics", "from_here"]);
    assert!(
        lines[2].ends_with("error router shadowed peer=inner time_=7 event_=e a_b=\"\" port=1"),
        "{}",
        lines[2]
    );
}

#[test]
fn hostile_values_and_messages_cannot_forge_lines() {
    let log = start(&settings(LogLevel::Info, &[]));
    let hostile = "x\r\n2026-01-01T00:00:00.000Z info router forged \u{1b}[2J\" a=\"1";
    info!(log.0.logger("router"), "received"; "method" => hostile, "from" => hostile);
    info!(log.0.logger("router"), "{}", hostile);
    let lines = finish(log);
    assert_eq!(lines.len(), 2);
    let (head, fields) = parse(&lines[0]);
    assert_eq!(head[3], "received");
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["from", "method"]);
    assert!(lines[0].chars().all(|c| !c.is_control()));
    let (head, fields) = parse(&lines[1]);
    assert_eq!((head[3], fields.len()), ("message", 1));
    assert!(fields["text"].starts_with("\"x\\r\\n2026"));
}

#[test]
fn json_lines_are_objects() {
    let log = start(&json(LogLevel::Info));
    let logger = log.0.logger("tls");
    info!(logger, "handshake_failed"; "peer" => "a\"\r\n", "port" => 5061, "ok" => false, "left" => None::<u8>,
        "load" => 0.5, "odd" => f64::NAN);
    let lines = finish(log);
    let object: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(object["module"], "tls");
    assert_eq!(object["event"], "handshake_failed");
    assert_eq!(object["level"], "info");
    assert_eq!(object["peer"], "a\"\r\n");
    assert_eq!((&object["port"], &object["load"]), (&5061.into(), &0.5.into()));
    assert_eq!((&object["ok"], &object["left"]), (&false.into(), &serde_json::Value::Null));
    assert_eq!(object["odd"], "NaN");
    assert!(humantime::parse_rfc3339(object["time"].as_str().unwrap()).is_ok());
}

#[test]
fn levels_hold_by_module_and_change_while_it_runs() {
    let log = start(&settings(LogLevel::Info, &[("router", LogLevel::Debug)]));
    let (router, listener) = (log.0.logger("router"), log.0.logger("listener"));
    debug!(router, "one");
    trace!(router, "no");
    debug!(listener, "no");
    info!(listener, "two");
    debug!(router.new(o!("peer" => "a")), "three");
    log.0.levels().set(Some("listener"), LogLevel::Trace);
    trace!(listener, "four");
    log.0.levels().set(None, LogLevel::Error);
    warn!(log.0.logger("tls"), "no");
    debug!(router, "five");
    let events: Vec<_> = finish(log).iter().map(|line| parse(line).0[3].to_owned()).collect();
    assert_eq!(events, ["one", "two", "three", "four", "five"]);
}

/// A directory of a test's own, which goes with it.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sip-proxy-log-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn read(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The events of lines, each of which has the form.
fn events_of(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| parse(line).0[3].to_owned()).collect()
}

#[test]
fn each_line_goes_to_its_file_and_what_an_administrator_should_see_to_standard_error_too() {
    let scratch = Scratch::new();
    let directory = Some(scratch.path().to_owned());
    let log = start(&Settings { log_file_directory: directory, ..settings(LogLevel::Info, &[]) });
    info!(log.0.logger("router"), "answered"; "status" => 200);
    warn!(log.0.logger("router"), "log_on_refused"; "reason" => "wrong password");
    warn!(log.0.logger("security"), "tls_failed"; "reason" => "expired");
    info!(log.0.logger("listener"), "dropped"; "not_sip" => 3);
    info!(log.0.logger("supervisor"), "ready"; "interfaces" => 1);
    info!(log.0.logger("federation_resolver"), "unresolved"; "domain" => "a.test");
    assert_eq!(events_of(&finish(log)), ["log_on_refused", "tls_failed", "ready"]);
    assert_eq!(events_of(&scratch.read("sip.log")), ["answered", "dropped"]);
    assert_eq!(events_of(&scratch.read("security.log")), ["log_on_refused", "tls_failed"]);
    assert_eq!(events_of(&scratch.read("sip-proxy.log")), ["ready", "unresolved"]);
}

#[test]
fn a_reload_changes_all_of_it_and_loses_no_line() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    let at = |directory: &Path, format| Settings {
        log_file_directory: Some(directory.to_owned()),
        format,
        ..settings(LogLevel::Info, &[])
    };
    let log = start(&at(&one, LogFormat::Text));
    let logger = log.0.logger("router");
    let reloads = [
        at(&two, LogFormat::Text),
        at(&one, LogFormat::Json),
        Settings { maximum_log_file_size_mb: 1, kept_log_files: 1000, ..at(&one, LogFormat::Text) },
    ];
    let (mut said, lines) = (0, 2_000);
    for reload in reloads.iter().chain([&settings(LogLevel::Info, &[])]) {
        for _ in 0..lines {
            info!(logger, "answered"; "branches" => said);
            said += 1;
        }
        log.0.apply(reload);
    }
    debug!(logger, "refused");
    log.0.apply(&settings(LogLevel::Debug, &[]));
    debug!(logger, "refused"; "status" => 403);
    let dropped = log.0.dropped();
    let errors = finish(log);
    let mut found: Vec<_> =
        ["one/sip.log", "two/sip.log"].iter().flat_map(|name| scratch.read(name)).collect();
    found.extend(errors.iter().filter(|line| line.contains("answered")).cloned());
    assert_eq!((found.len() as u64 + dropped, dropped), (said, 0));
    assert_eq!(events_of(&errors).last().map(String::as_str), Some("refused"));
    assert!(errors.last().is_some_and(|line| line.ends_with("status=403")));
}

#[test]
fn a_log_that_cannot_be_written_says_so_where_it_can_and_says_what_is_missing() {
    let scratch = Scratch::new();
    let obstacle = scratch.path().join("log");
    std::fs::write(&obstacle, "").unwrap();
    let log =
        start(&Settings { log_file_directory: Some(obstacle.clone()), ..settings(LogLevel::Info, &[]) });
    let fault = log.0.fault().unwrap();
    assert!(fault.contains("log: "), "{fault}");
    let logger = log.0.logger("router");
    for status in 0..5 {
        info!(logger, "answered"; "status" => status);
    }
    let (failed, first) = (log.0.events().last(1), log.1.recv_timeout(PATIENCE).unwrap());
    assert_eq!((failed[0].level.as_str(), failed[0].event.as_str()), ("error", "log_failed"));
    assert!(first.contains(" error diagnostics log_failed file=sip-proxy.log reason="), "{first}");
    std::fs::remove_file(&obstacle).unwrap();
    let is_resumed = |line: &String| line.contains("log_resumed file=sip.log lost=5");
    while !is_resumed(&log.1.recv_timeout(PATIENCE).unwrap()) {}
    info!(logger, "answered"; "status" => 5);
    let events = Arc::clone(log.0.events());
    assert!(events_of(&finish(log)).iter().all(|event| event == "log_resumed"));
    let lines = scratch.read("log/sip.log");
    assert_eq!(events_of(&lines), ["log_resumed", "answered"]);
    assert_eq!(events.last(9).iter().filter(|event| event.event == "log_resumed").count(), 3);
}

#[test]
fn events_are_kept_though_the_level_keeps_them_out_of_the_log() {
    let log = start(&settings(LogLevel::Error, &[]));
    warn!(log.0.logger("tls"), "no_trusted_authorities"; "reason" => "none there");
    info!(log.0.logger("supervisor"), "ready"; "interfaces" => 2);
    info!(log.0.logger("router"), "answered");
    assert!(log.0.logger("supervisor").is_info_enabled() && !log.0.logger("router").is_info_enabled());
    let events = Arc::clone(log.0.events());
    assert_eq!(finish(log), [""; 0]);
    let events = events.last(10);
    let told = events.iter().map(|event| (event.level.as_str(), event.event.as_str(), event.text.as_str()));
    let wanted =
        [("warning", "no_trusted_authorities", "reason=\"none there\""), ("info", "ready", "interfaces=2")];
    assert_eq!(told.collect::<Vec<_>>(), wanted);
    assert!(humantime::parse_rfc3339(&events[0].time).is_ok());
}

/// A sink that takes no line until it is told to.
struct Stalled {
    gate: Receiver<()>,
    sink: Probe,
}

impl Write for Stalled {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        // Open for good once the test has let go of the other end.
        let _ = self.gate.recv();
        self.sink.write(octets)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_sink_makes_the_log_drop_and_count_and_never_wait() {
    let (sender, lines) = channel();
    let (open, gate) = channel();
    let stalled = Stalled { gate, sink: Probe(sender) };
    let diagnostics = Diagnostics::with_queue(&settings(LogLevel::Info, &[]), stalled, 16);
    let logger = diagnostics.logger("router");
    let start = Instant::now();
    for number in 0..1000 {
        info!(logger, "said"; "number" => number);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "nobody has opened the gate yet");
    let dropped = diagnostics.dropped();
    // One more than the queue holds may be in the writer's hands.
    assert!((1000 - 17..=1000 - 16).contains(&dropped), "{dropped}");
    let queue = diagnostics.queue();
    assert_eq!(queue.capacity, Some(16));
    // Until the writer has taken the first one, or that is in the queue still.
    assert!((15..=17).contains(&queue.length), "{queue:?}");
    drop(open);
    let lines = finish((diagnostics, lines));
    let told = lines.iter().filter(|line| parse(line).0[3] == "lines_dropped");
    let counts = told.map(|line| parse(line).1["count"].parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), dropped);
    assert_eq!(lines.iter().filter(|line| parse(line).0[3] == "said").count() as u64, 1000 - dropped);
}

#[test]
fn a_logger_that_outlives_the_log_is_silent() {
    let log = start(&settings(LogLevel::Info, &[]));
    let logger = log.0.logger("router");
    info!(logger, "before");
    assert_eq!(finish(log).len(), 1);
    info!(logger, "after");
}

/// The only test that bridges: a process can do so once.
#[test]
fn what_libraries_log_arrives_at_their_level_until_the_bridge_is_gone() {
    let mut log = start(&settings(LogLevel::Debug, &[]));
    log.0.bridge_libraries().unwrap();
    log::warn!(target: "rustls::conn", "alert {}", "from\r\npeer");
    log::debug!(target: "rustls::conn", "too much");
    tracing::warn!(target: "hickory", domain = "a.test", "slow");
    log.0.levels().set(Some("rustls"), LogLevel::Debug);
    log::debug!(target: "rustls::conn", "wanted");
    log::debug!(target: "actix_rt", "not wanted");
    assert!(log.0.bridge_libraries().is_err());
    // Other tests of this process may run code that logs by the bridge too.
    let ours = |line: &String| ["rustls", "hickory", "actix_rt"].contains(&parse(line).0[2]);
    let lines: Vec<_> = finish(log).into_iter().filter(ours).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].ends_with(r#"warning rustls message text="alert from\r\npeer""#), "{}", lines[0]);
    assert!(lines[1].contains("warning hickory message text=\"slow"), "{}", lines[1]);
    assert!(lines[2].ends_with("debug rustls message text=wanted"), "{}", lines[2]);
    log::error!(target: "rustls", "into the void");
}
