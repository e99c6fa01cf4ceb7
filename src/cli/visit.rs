//! A visit to a domain, for `lookup` and `check connectivity`: what is found by DNS, and each address tried.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::time::SystemTime;

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::table;
use crate::actors::federation_resolver::Inquiry;
use crate::actors::tls::CertificateSummary;
use crate::actors::trial::{Answer, Obstacle, Trial, Trials};
use crate::protocol::federation::{Outward, Route};
use crate::protocol::next_hop::{Server, Unresolved};

/// Addresses that are tried at the same time.
const AT_ONCE: usize = 8;

/// Looks a domain up, tells `found`, tries the addresses of its servers, and tells each to `tried`, in the order in
/// which requests would go there.
pub(super) async fn visit(
    trials: &Trials<'_>,
    outward: &Outward,
    found: impl FnOnce(&Inquiry),
    mut tried: impl FnMut(Attempt),
) -> io::Result<()> {
    let inquiry = trials.find(outward).await?;
    found(&inquiry);
    let servers = inquiry.resolution.as_deref().unwrap_or_default();
    let each =
        servers.iter().flat_map(|server| server.addresses.iter().map(move |address| (server, *address)));
    let attempts = each.map(|(server, address)| async move {
        Attempt::new(server, trials.run(outward, server, address).await)
    });
    let mut attempts = stream::iter(attempts).buffered(AT_ONCE);
    while let Some(attempt) = attempts.next().await {
        tried(attempt);
    }
    Ok(())
}

/// What has become of one address, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Attempt {
    pub(super) host: String,
    pub(super) transport: String,
    pub(super) address: String,
    /// The name that the server was asked for in TLS.
    pub(super) sni: Option<String>,
    pub(super) tls_version: Option<&'static str>,
    pub(super) certificate: Option<Shown>,
    /// The answer to OPTIONS.
    pub(super) answer: Option<String>,
    /// Whether the server takes our requests: its answer is a 2xx.
    pub(super) is_well: bool,
    /// Where it has ended, where it has.
    pub(super) failed_at: Option<&'static str>,
    pub(super) reason: Option<String>,
    pub(super) remedy: Option<&'static str>,
}

/// A certificate of a peer.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) subject: String,
    pub(super) names: String,
    pub(super) issuer: String,
    pub(super) not_after: String,
    pub(super) days_left: Option<i64>,
}

impl Attempt {
    fn new(server: &Server, trial: Trial) -> Self {
        let (answer, obstacle) = match trial.outcome {
            Ok(answer) => (Some(answer), None),
            Err(obstacle) => (None, Some(obstacle)),
        };
        let reason = |Obstacle { cause, detail, .. }: &Obstacle| {
            if detail.is_empty() { cause.to_string() } else { format!("{cause} ({detail})") }
        };
        Self {
            host: server.host.to_string(),
            transport: server.transport.to_string(),
            address: trial.remote.to_string(),
            sni: trial.sni,
            tls_version: trial.tls_version,
            certificate: trial.certificate.map(Shown::new),
            is_well: answer.as_ref().is_some_and(Answer::is_well),
            answer: answer.map(|Answer { status, reason }| format!("{status} {reason}")),
            failed_at: obstacle.as_ref().map(|obstacle| obstacle.step.as_str()),
            reason: obstacle.as_ref().map(reason),
            remedy: obstacle.map(|obstacle| obstacle.remedy),
        }
    }

    /// Whether the server is who was meant, and speaks SIP.
    pub(super) const fn is_reached(&self) -> bool {
        self.answer.is_some()
    }

    /// `host at address, transport`; of a server that is given by its address, that alone.
    pub(super) fn place(&self) -> String {
        let Self { host, transport, address, .. } = self;
        if host.parse::<IpAddr>().is_ok() {
            format!("{address} {transport}")
        } else {
            format!("{host} at {address} {transport}")
        }
    }
}

impl Shown {
    fn new(summary: CertificateSummary) -> Self {
        let CertificateSummary { subject, names, issuer, not_after } = summary;
        let end = humantime::parse_rfc3339(&not_after).ok();
        let days_left = end.map(|end| crate::config::days(SystemTime::now(), end));
        Self { subject, names, issuer, not_after, days_left }
    }

    /// In a line.
    pub(super) fn describe(&self) -> String {
        let names = if self.names.is_empty() { &self.subject } else { &self.names };
        let left = self.days_left.map(table::validity).unwrap_or_default();
        format!("{names}; issued by {}; {left}", self.issuer)
    }
}

/// How a domain is reached, in words.
pub(super) fn way(outward: &Outward, key: Option<&str>) -> String {
    let Some(Route { port, transport, is_mutual, .. }) = outward.route() else {
        return "open federation".to_owned();
    };
    let server = outward.server().map_or_else(
        |query| format!("{}:{port}", query.name()),
        |server| server.addresses.iter().map(ToString::to_string).collect(),
    );
    let protocol = if *is_mutual { "mtls".to_owned() } else { transport.to_string() };
    format!("static route to {server} {protocol} ({})", key.unwrap_or_default())
}

/// Why no server was found, and what to do about it.
pub(super) fn unresolved(outward: &Outward, cause: Unresolved) -> (String, Cow<'static, str>) {
    let name = match outward.server() {
        Err(query) if outward.route().is_some() => query.name().to_string(),
        Err(query) => format!("_sipfederationtls._tcp.{}", query.name()),
        Ok(_) => outward.domain().to_string(),
    };
    let remedy = match cause {
        Unresolved::NoSuchName | Unresolved::NoRecord if outward.route().is_some() => {
            "check access_server of the route: its name has no address".into()
        }
        Unresolved::NoSuchName | Unresolved::NoRecord => {
            format!("the domain does not federate openly; ask it for {name}, or add a static route").into()
        }
        Unresolved::NoService => "the domain does not want this; a static route may be agreed on".into(),
        Unresolved::NoAddress => {
            "tell the domain: the targets of its SRV record need A or AAAA records".into()
        }
        Unresolved::Ourselves => {
            "make it a presence domain, or have its DNS records corrected: they name this proxy".into()
        }
        Unresolved::Timeout | Unresolved::ServerFailure => {
            "check dns.name_servers and the way there; else the domain's own name servers".into()
        }
        Unresolved::Overload => "its records lead to more and more others: tell the domain".into(),
    };
    (format!("{name}: {}", cause.as_str()), remedy)
}
