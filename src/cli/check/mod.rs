//! `check`: what is wrong, all at once, without a running service.
//!
//! The configuration first; what it says is then held against DNS, the certificates, and the servers of others.

mod certificates;
mod connectivity;
mod dns;
mod findings;

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use self::findings::{Finding, Findings, Grade};
use super::{Exit, block_on, domain, load_with_places, say};
use crate::actors::trial::Trials;
use crate::config::{Config, Remark};

/// Days before its end from which on a certificate is worth a warning.
const SOON: i64 = 30;

/// When to act on that.
const MARGIN: &str = "before peers refuse it";

/// What to check.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Subject {
    /// The configuration file and what it names
    Config,
    /// Whether other organisations find the presence domains by DNS, and would believe us
    Dns,
    /// Our certificates, whom we believe, and what is revoked
    Certificates,
    /// Every static route, as far as an OPTIONS and its answer
    Connectivity {
        /// Further domains to try
        #[arg(value_name = "DOMAIN", value_parser = domain)]
        domains: Vec<String>,
    },
}

/// Checks `subject`, or everything. Faults of the configuration end it: nothing else would mean anything.
pub(super) fn check(file: &Path, subject: Option<&Subject>, as_json: bool) -> Exit {
    let (config, warnings, places) = match load_with_places(file) {
        Ok(loaded) => loaded,
        Err(faults) => {
            say(&if as_json { to_json(&faults.0, &[], &[]) } else { to_text(file, &faults.0, &[]) });
            return Exit::Configuration;
        }
    };
    let mut findings = Findings::new(as_json, places);
    if !as_json && matches!(subject, None | Some(Subject::Config)) {
        say(&to_text(file, &[], &warnings));
    }
    if let Err(fault) = run(&config, subject, &mut findings) {
        eprintln!("{fault}");
        return Exit::Internal;
    }
    if as_json {
        say(&to_json(&[], &warnings, &findings.list));
    } else if subject != Some(&Subject::Config) {
        say(&sum(&findings));
    }
    if findings.count(Grade::Failed) > 0 { Exit::No } else { Exit::Done }
}

fn run(
    config: &Config,
    subject: Option<&Subject>,
    findings: &mut Findings,
) -> Result<(), Box<dyn std::error::Error>> {
    if subject == Some(&Subject::Config) {
        return Ok(());
    }
    let trials = Trials::new(config)?;
    if matches!(subject, None | Some(Subject::Dns)) {
        findings.begin("dns");
        block_on(dns::check(config, &trials, findings))??;
    }
    if matches!(subject, None | Some(Subject::Certificates)) {
        findings.begin("certificates");
        certificates::check(config, findings)?;
    }
    let domains: &[String] = match subject {
        None => &[],
        Some(Subject::Connectivity { domains }) => domains,
        Some(_) => return Ok(()),
    };
    findings.begin("connectivity");
    block_on(connectivity::check(config, &trials, domains, findings))??;
    Ok(())
}

fn sum(findings: &Findings) -> String {
    match (findings.count(Grade::Failed), findings.count(Grade::Warning)) {
        (0, 0) => "all is well".to_owned(),
        (failed, 1) => format!("{failed} failed, 1 warning"),
        (failed, warnings) => format!("{failed} failed, {warnings} warnings"),
    }
}

fn to_text(file: &Path, faults: &[Remark], warnings: &[Remark]) -> String {
    let mut lines: Vec<String> = faults.iter().map(Remark::to_string).collect();
    lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.push(match faults.len() {
        0 => format!("{}: the configuration is valid", file.display()),
        1 => "1 fault; nothing was started".to_owned(),
        count => format!("{count} faults; nothing was started"),
    });
    lines.join("\n")
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    faults: Vec<Row<'a>>,
    warnings: Vec<Row<'a>>,
    /// Of the checks beyond the configuration.
    findings: &'a [Finding],
}

#[derive(Serialize)]
struct Row<'a> {
    place: String,
    key: &'a str,
    text: &'a str,
}

fn to_json(faults: &[Remark], warnings: &[Remark], findings: &[Finding]) -> String {
    serde_json::to_string(&Report { faults: rows(faults), warnings: rows(warnings), findings })
        .expect("strings and lists have a form in JSON")
}

fn rows(remarks: &[Remark]) -> Vec<Row<'_>> {
    remarks.iter().map(Row::from).collect()
}

impl<'a> From<&'a Remark> for Row<'a> {
    fn from(remark: &'a Remark) -> Self {
        Self { place: remark.place.to_string(), key: &remark.key, text: &remark.text }
    }
}
