//! What changes the running service.

use std::io;
use std::path::Path;

use hyper::Method;

use super::client::{Client, Failure};
use super::table::{Kind, Screen, Table, harmless};
use super::{Exit, say};
use crate::actors::control::report::{Change, Fault, LogLevel, Reloaded};

/// `[MODULE=]LEVEL`; which of them there are, the service says.
pub(super) fn level(text: &str) -> Result<LogLevel, String> {
    let (module, level) = match text.split_once('=') {
        Some(("", _)) => return Err("no module, allowed: MODULE=LEVEL or LEVEL".to_owned()),
        Some((module, level)) => (Some(module.to_owned()), level),
        None => (None, text),
    };
    match crate::config::LogLevel::parse(level) {
        Some(known) => Ok(LogLevel { module, level: known.as_str().to_owned() }),
        None => {
            let allowed = crate::config::LogLevel::ALL.map(crate::config::LogLevel::as_str).join(", ");
            Err(format!("`{level}` is no level, allowed: {allowed}"))
        }
    }
}

/// `reload`. Exits with 78 where the file has faults, which are told.
pub(super) fn reload(file: &Path, as_json: bool) -> Exit {
    let reload = |client: &Client| -> Result<Exit, Failure> {
        let reply = client.request(Method::POST, "/reload", String::new())?;
        let reloaded: Reloaded = serde_json::from_str(&reply.text).map_err(io::Error::from)?;
        say(&if as_json { reply.text } else { describe(&reloaded, Screen::new()).join("\n") });
        Ok(if reloaded.faults.is_empty() { Exit::Done } else { Exit::Configuration })
    };
    match Client::new(file) {
        Ok(client) => reload(&client).unwrap_or_else(|failure| failure.tell()),
        Err(exit) => exit,
    }
}

fn describe(reloaded: &Reloaded, screen: Screen) -> Vec<String> {
    let remark = |Fault { place, key, text }: &Fault| {
        let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
        harmless(&format!("{place}: {key}{text}"))
    };
    let warnings = reloaded.warnings.iter().map(|warning| format!("warning: {}", remark(warning)));
    let faults = reloaded.faults.iter().map(remark);
    let mut lines: Vec<String> = faults.chain(warnings).collect();
    match (reloaded.faults.len(), reloaded.changes.len()) {
        (0, 0) => lines.push("nothing has changed".to_owned()),
        (0, _) => lines.extend(changes(reloaded, screen)),
        (1, _) => lines.push("1 fault; nothing has been changed".to_owned()),
        (count, _) => lines.push(format!("{count} faults; nothing has been changed")),
    }
    lines
}

fn changes(reloaded: &Reloaded, screen: Screen) -> Vec<String> {
    let columns = [("key", Kind::Name), ("change", Kind::Name), ("before", Kind::Text), ("now", Kind::Text)];
    let mut table = Table::new(&columns);
    for Change { key, kind, old, new } in &reloaded.changes {
        let value = |value: &Option<String>| value.clone().unwrap_or_default();
        table.row(&[key.clone(), kind.clone(), value(old), value(new)]);
    }
    table.render(screen, "")
}

/// `drain` and `stop`: exits with 0 once the service has ended, which takes as long as the service lets it.
pub(super) fn end(file: &Path, drain: bool) -> Exit {
    let path = if drain { "/drain" } else { "/stop" };
    let end = |client: &Client| -> Result<Exit, Failure> {
        client.request(Method::POST, path, String::new())?;
        client.wait_for_end()?;
        say("the service has ended");
        Ok(Exit::Done)
    };
    match Client::new(file) {
        Ok(client) => end(&client).unwrap_or_else(|failure| failure.tell()),
        Err(exit) => exit,
    }
}

/// `log-level`.
pub(super) fn set_log_level(file: &Path, level: &LogLevel) -> Exit {
    let set = |client: &Client| -> Result<(), Failure> {
        let body = serde_json::to_string(level).map_err(std::io::Error::from)?;
        client.request(Method::PUT, "/log-level", body)?;
        let whose = level
            .module
            .as_ref()
            .map_or("the log level".to_owned(), |module| format!("the log level of {module}"));
        let until = "until the next start, or a reload that changes [diagnostics]";
        say(&format!("{whose} is {} {until}", level.level));
        Ok(())
    };
    match Client::new(file) {
        Ok(client) => set(&client).map_or_else(|failure| failure.tell(), |()| Exit::Done),
        Err(exit) => exit,
    }
}
