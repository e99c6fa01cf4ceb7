//! `lookup`: what the proxy would do for a domain, without a running service.

use std::path::Path;

use serde::Serialize;

use super::table::row;
use super::visit::{Attempt, unresolved, visit, way};
use super::{Exit, block_on, load, say};
use crate::actors::federation_resolver::Inquiry;
use crate::actors::trial::Trials;
use crate::config::Config;
use crate::protocol::federation::Outward;
use crate::protocol::identity::Profile;

/// Exits with 0 where requests for `domain` would arrive.
pub(super) fn lookup(file: &Path, domain: &str, as_json: bool) -> Exit {
    let config = match load(file) {
        Ok((config, _)) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return Exit::Configuration;
        }
    };
    let trials = match Trials::new(&config) {
        Ok(trials) => trials,
        Err(fault) => {
            eprintln!("TLS cannot be set up: {fault}");
            return Exit::Internal;
        }
    };
    let mut report = Report::new(domain, as_json);
    match block_on(report.fill(&config, &trials)) {
        Ok(Ok(())) => {}
        Ok(Err(fault)) | Err(fault) => {
            eprintln!("{fault}");
            return Exit::Internal;
        }
    }
    report.end();
    if report.arrives { Exit::Done } else { Exit::No }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    domain: String,
    /// `presence_domain`, `static_route`, `open_federation` or `refused`.
    way: &'static str,
    /// The key path of the static route.
    route: Option<String>,
    srv: Vec<Record>,
    /// In the order of trying.
    servers: Vec<Attempt>,
    verdict: String,
    remedy: Option<String>,
    /// Whether requests would arrive.
    arrives: bool,
    #[serde(skip)]
    as_json: bool,
}

/// An SRV record.
#[derive(Debug, Serialize)]
struct Record {
    priority: u16,
    weight: u16,
    port: u16,
    target: String,
}

impl Report {
    fn new(domain: &str, as_json: bool) -> Self {
        Self {
            domain: domain.to_owned(),
            way: "refused",
            route: None,
            srv: Vec::new(),
            servers: Vec::new(),
            verdict: String::new(),
            remedy: None,
            arrives: false,
            as_json,
        }
    }

    /// Prints a row as soon as it is known: name servers and peers may take their time.
    fn row(&self, name: &str, value: &str) {
        if !self.as_json {
            say(&row(name, value));
        }
    }

    async fn fill(&mut self, config: &Config, trials: &Trials<'_>) -> std::io::Result<()> {
        self.row("domain", &self.domain);
        if config.service.presence_domains.contains(&self.domain) {
            (self.way, self.arrives) = ("presence_domain", true);
            self.verdict = "served here: its requests go to the UC servers of its users".to_owned();
            return Ok(());
        }
        let outward = match trials.federation().outward(&self.domain) {
            Ok(outward) => outward,
            Err(reply) => {
                let why = reply.rows.iter().find(|(name, _)| *name == "Warning");
                let why = why.and_then(|(_, value)| value.split('"').nth(1)).unwrap_or(reply.reason);
                self.verdict = format!("refused by policy, {} {}: {why}", reply.status, reply.reason);
                self.remedy = Some(
                    "see federation.enabled, federation.policy, federation.blocked_domains, \
                     open_federation.enabled, and static_routes.route"
                        .to_owned(),
                );
                return Ok(());
            }
        };
        let place = outward.route().and_then(|route| config.static_routes.get(usize::from(route.id.0)));
        self.route = place.map(|route| route.key.clone());
        self.way = if self.route.is_some() { "static_route" } else { "open_federation" };
        self.row("way", &way(&outward, self.route.as_deref()));
        let (mut inquiry, mut attempts) = (None, Vec::new());
        let as_json = self.as_json;
        let tried = |attempt: Attempt| {
            if !as_json {
                say(&describe(&attempt, config.federation.identity).join("\n"));
            }
            attempts.push(attempt);
        };
        let found = |found: &Inquiry| {
            if !as_json {
                say_records(found);
            }
            inquiry = Some(found.clone());
        };
        visit(trials, &outward, found, tried).await?;
        self.servers = attempts;
        if let Some(inquiry) = inquiry {
            self.judge(&outward, &inquiry);
        }
        Ok(())
    }

    fn judge(&mut self, outward: &Outward, inquiry: &Inquiry) {
        self.srv = inquiry
            .srv()
            .iter()
            .map(|srv| Record {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_string(),
            })
            .collect();
        if let Err(cause) = inquiry.resolution {
            let (what, remedy) = unresolved(outward, cause);
            (self.verdict, self.remedy) = (what, Some(remedy.into_owned()));
            return;
        }
        let reached = self.servers.iter().position(Attempt::is_reached);
        self.arrives = reached.is_some();
        self.verdict = match reached.map(|index| (index, &self.servers[index])) {
            Some((0, server)) => format!("requests arrive: {}", server.place()),
            Some((others, server)) => {
                format!("requests arrive: {}, where {others} before it cannot be reached", server.place())
            }
            None => "no server can be reached, or none is who it should be".to_owned(),
        };
    }

    fn end(&self) {
        if self.as_json {
            return say(&serde_json::to_string(self).expect("strings and lists have a form in JSON"));
        }
        self.row("verdict", &self.verdict);
        if let Some(remedy) = &self.remedy {
            self.row("remedy", remedy);
        }
    }
}

fn say_records(inquiry: &Inquiry) {
    for srv in inquiry.srv() {
        let target = if srv.target.is_empty() { "." } else { &srv.target };
        let record = format!("priority {} weight {} port {} {target}", srv.priority, srv.weight, srv.port);
        say(&row("SRV", &record));
    }
    for server in inquiry.resolution.as_deref().unwrap_or_default() {
        let addresses: Vec<_> = server.addresses.iter().map(ToString::to_string).collect();
        say(&row("server", &format!("{} {}: {}", server.host, server.transport, addresses.join(", "))));
    }
}

/// The rows of one address.
fn describe(attempt: &Attempt, profile: Profile) -> Vec<String> {
    let mut rows = vec![row("trial", &attempt.place())];
    let mut add = |name: &str, value: &str| rows.push(row(&format!("  {name}"), value));
    if let Some(version) = attempt.tls_version {
        let sni = attempt.sni.as_deref().unwrap_or("none");
        add("TLS", &format!("{version}, server name {sni}"));
    }
    if let Some(certificate) = &attempt.certificate {
        add("certificate", &certificate.describe());
    }
    if let Some(answer) = &attempt.answer {
        if attempt.certificate.is_some() {
            add("identity", &format!("proven by the profile {:?}", profile_name(profile)));
        }
        add("OPTIONS", answer);
    }
    if let (Some(step), Some(reason)) = (attempt.failed_at, &attempt.reason) {
        add("failed", &format!("{step}: {reason}"));
    }
    if let Some(remedy) = attempt.remedy {
        add("remedy", remedy);
    }
    rows
}

const fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Rfc5922 => "rfc5922",
        Profile::Federation => "federation",
    }
}
