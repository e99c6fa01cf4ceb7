//! `stun`: the public address and the type of the NAT, without a running service.

use std::path::Path;

use serde::Serialize;

use super::table::row;
use super::{Exit, block_on, load, say};
use crate::actors::stun::{Finding, Question, ask};
use crate::config::HostPort;

/// For the look-up of a server's name, where there is no configuration to say.
const LOOK_UP_TIME: std::time::Duration = std::time::Duration::from_secs(4);

/// Where `server` is given, a configuration `file` that `may_be_absent` only has the address to ask from.
pub(super) fn stun(file: &Path, may_be_absent: bool, server: Option<HostPort>, as_json: bool) -> Exit {
    let mut question = if server.is_some() && may_be_absent && !file.exists() {
        Question { servers: Vec::new(), local: Vec::new(), look_up_time: LOOK_UP_TIME }
    } else {
        match load(file) {
            Ok((config, _)) => Question::new(&config),
            Err(faults) => {
                eprintln!("{faults}");
                return Exit::Configuration;
            }
        }
    };
    if let Some(server) = server {
        question.servers = vec![server];
    }
    if question.servers.is_empty() {
        eprintln!(
            "no STUN server to ask: set stun.servers in {}, or give --server HOST:PORT",
            file.display()
        );
        return Exit::No;
    }
    let finding = match block_on(ask(&question)) {
        Ok(finding) => finding,
        Err(fault) => {
            eprintln!("no event queue: {fault}");
            return Exit::Internal;
        }
    };
    let report = Report::new(&finding);
    say(&if as_json { report.to_json() } else { report.to_text() });
    if finding.verdict.public.is_some() { Exit::Done } else { Exit::No }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    server: Option<String>,
    public_address: Option<String>,
    port: Option<u16>,
    nat_type: String,
    /// Why there is no address, or no type.
    reason: Option<String>,
    /// Servers that were asked before.
    failures: Vec<Failure>,
}

#[derive(Serialize)]
struct Failure {
    server: String,
    reason: String,
}

impl Report {
    fn new(finding: &Finding) -> Self {
        let failures = finding
            .failures
            .iter()
            .map(|(server, obstacle)| Failure { server: server.to_string(), reason: obstacle.to_string() });
        Self {
            server: finding.server.as_ref().map(ToString::to_string),
            public_address: finding.verdict.public.map(|address| address.ip().to_string()),
            port: finding.verdict.public.map(|address| address.port()),
            nat_type: finding.verdict.nat_type.to_string(),
            reason: Some(finding.reason()).filter(|reason| !reason.is_empty()),
            failures: failures.collect(),
        }
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and lists have a form in JSON")
    }

    fn to_text(&self) -> String {
        let port = self.port.map(|port| port.to_string());
        let rows = [
            ("public address", self.public_address.as_deref().or(Some("unknown"))),
            ("port", port.as_deref()),
            ("NAT type", Some(&*self.nat_type)),
            ("reason", self.reason.as_deref()),
            ("server", self.server.as_deref()),
        ];
        let mut lines: Vec<_> = rows.iter().filter_map(|(name, value)| Some(row(name, (*value)?))).collect();
        if self.server.is_some() {
            let failed = |Failure { server, reason }: &Failure| row("failed", &format!("{server}: {reason}"));
            lines.extend(self.failures.iter().map(failed));
        }
        lines.join("\n")
    }
}
