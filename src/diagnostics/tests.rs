//! The log as a whole: records in, lines out.

use std::collections::BTreeMap;
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
