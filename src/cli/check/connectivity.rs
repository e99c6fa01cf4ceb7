//! `check connectivity`: every static route, and the domains that were named, as far as an OPTIONS and its answer.

use std::io;

use super::findings::{Finding, Findings, Grade};
use crate::actors::trial::Trials;
use crate::cli::visit::{Attempt, unresolved, visit};
use crate::config::Config;
use crate::protocol::federation::Outward;

pub(super) async fn check(
    config: &Config,
    trials: &Trials<'_>,
    domains: &[String],
    findings: &mut Findings,
) -> io::Result<()> {
    let federation = trials.federation();
    if !federation.is_enabled {
        findings.add(Finding::ok("federation", "is off: nothing leaves").at("federation.enabled"));
    } else if federation.routes.is_empty() && domains.is_empty() {
        findings.add(Finding::ok("static routes", "there are none; name domains to have them tried"));
    }
    let routes = config.static_routes.iter().filter(|_| federation.is_enabled);
    let routes = routes.map(|route| &route.domain_name);
    let others =
        domains.iter().filter(|domain| federation.route_of(domain).is_none() || !federation.is_enabled);
    for domain in routes.chain(others) {
        match federation.outward(domain) {
            Ok(outward) => to_domain(config, trials, &outward, findings).await?,
            Err(reply) => findings.add(Finding::failed(
                domain,
                format!("is refused by policy: {} {}", reply.status, reply.reason),
                "see `sip-proxy lookup` for the domain",
            )),
        }
    }
    Ok(())
}

async fn to_domain(
    config: &Config,
    trials: &Trials<'_>,
    outward: &Outward,
    findings: &mut Findings,
) -> io::Result<()> {
    let route = outward.route().and_then(|route| config.static_routes.get(usize::from(route.id.0)));
    let key = route.map(|route| route.key.as_str());
    let (mut cause, mut attempts) = (None, Vec::new());
    visit(
        trials,
        outward,
        |found| cause = found.resolution.as_ref().err().copied(),
        |attempt| {
            attempts.push(attempt);
        },
    )
    .await?;
    if let Some(cause) = cause {
        let (what, remedy) = unresolved(outward, cause);
        let finding = Finding::failed(outward.domain(), what, remedy);
        findings.add(match key {
            Some(key) => finding.at(&format!("{key}.access_server")),
            None => finding,
        });
        return Ok(());
    }
    // One server that is reached is enough for requests to arrive.
    let worst = if attempts.iter().any(Attempt::is_reached) { Grade::Warning } else { Grade::Failed };
    let judged = attempts.iter().map(|attempt| judge(outward, attempt, key).at_most(worst));
    findings.extend(judged);
    Ok(())
}

/// The row of one address.
fn judge(outward: &Outward, attempt: &Attempt, key: Option<&str>) -> Finding {
    let domain = outward.domain();
    let seen: Vec<_> = attempt
        .tls_version
        .map(|version| format!("TLS {version}"))
        .into_iter()
        .chain(attempt.certificate.as_ref().map(|certificate| certificate.describe()))
        .collect();
    let seen = if seen.is_empty() { String::new() } else { format!(" [{}]", seen.join("; ")) };
    let place = attempt.place();
    let expiry = attempt.certificate.as_ref().and_then(|certificate| certificate.days_left);
    let finding = match (&attempt.answer, &attempt.reason) {
        (Some(answer), _) if !attempt.is_well => Finding::warning(
            domain,
            format!("{place}: OPTIONS is answered with {answer}{seen}"),
            "SIP arrives; ask the peer whether it serves this domain and lets us in",
        ),
        (Some(answer), _) if expiry.is_some_and(|days| days < super::SOON) => Finding::warning(
            domain,
            format!("{place}: OPTIONS is answered with {answer}; the certificate ends soon{seen}"),
            "tell the peer",
        ),
        (Some(answer), _) => Finding::ok(domain, format!("{place}: OPTIONS is answered with {answer}{seen}")),
        (None, reason) => {
            let step = attempt.failed_at.unwrap_or_default();
            let reason = reason.as_deref().unwrap_or_default();
            let remedy = attempt.remedy.unwrap_or_default();
            Finding::failed(domain, format!("{place}: {step}: {reason}{seen}"), remedy)
        }
    };
    match key {
        Some(key) if finding.grade != Grade::Ok => finding.at(key),
        _ => finding,
    }
}
