//! What changes the running service.

use std::path::Path;

use hyper::Method;

use super::client::{Client, Failure};
use super::{Exit, say};
use crate::actors::control::report::LogLevel;

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

/// `log-level`.
pub(super) fn set_log_level(file: &Path, level: &LogLevel) -> Exit {
    let set = |client: &Client| -> Result<(), Failure> {
        let body = serde_json::to_string(level).map_err(std::io::Error::from)?;
        client.request(Method::PUT, "/log-level", body)?;
        let whose = level
            .module
            .as_ref()
            .map_or("the log level".to_owned(), |module| format!("the log level of {module}"));
        say(&format!("{whose} is {} until the next start or reload", level.level));
        Ok(())
    };
    match Client::new(file) {
        Ok(client) => set(&client).map_or_else(|failure| failure.tell(), |()| Exit::Done),
        Err(exit) => exit,
    }
}
