//! What DNS says of the presence domains: looked up in the background, and never because somebody asks.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, debug};
use tokio::time::{Instant, sleep};

use super::desk::Desk;
use super::report::ServiceRecord;
use crate::actors::federation_resolver::inquire;
use crate::actors::finding::{Finding, Grade};
use crate::actors::service_record::Ours;
use crate::actors::supervisor::describe::Description;
use crate::config::Config;
use crate::protocol::next_hop::Query;

/// Between two look-ups of the same.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Between two looks whether the configuration is another one.
const LOOK: Duration = Duration::from_secs(5);

/// Presence domains that are looked up.
const MAXIMUM_DOMAINS: usize = 100;

/// Keeps the records at `desk` up to date, for ever. Nothing is asked while open federation is off.
pub(super) async fn keep(desk: Rc<Desk>, log: Logger) {
    let mut last: Option<(Arc<Config>, Instant)> = None;
    loop {
        if let Some(service) = desk.description().await.filter(|service| service.is_ready) {
            let is_fresh = last.as_ref().is_some_and(|(config, when)| {
                Arc::ptr_eq(config, &service.config) && when.elapsed() < INTERVAL
            });
            if !is_fresh {
                desk.set_records(look_up(&service, &log).await);
                last = Some((service.config, Instant::now()));
            }
        }
        sleep(LOOK).await;
    }
}

async fn look_up(service: &Description, log: &Logger) -> Vec<ServiceRecord> {
    let config = &service.config;
    if !config.open_federation.enabled {
        return Vec::new();
    }
    let ours = Ours::new(config, Arc::clone(&service.interfaces));
    let mut records = Vec::new();
    for domain in config.service.presence_domains.iter().take(MAXIMUM_DOMAINS) {
        let query = Query::Federation(Arc::from(domain.as_str()));
        match inquire(&config.dns, Arc::clone(&service.interfaces), query, log).await {
            Ok(inquiry) => {
                let place = ours.place(domain, &inquiry);
                records.push(record(domain, &ours.judge(domain, &inquiry), place));
            }
            // Without random numbers nothing is looked up, and others say so.
            Err(fault) => debug!(log, "record_not_looked_up"; "domain" => domain, "reason" => %fault),
        }
    }
    records
}

/// One record that fits is enough: what is wrong with the others is a warning then.
fn record(domain: &str, findings: &[Finding], place: Option<(std::net::IpAddr, u16)>) -> ServiceRecord {
    let worst = findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Ok);
    let grade = if place.is_some() { worst.min(Grade::Warning) } else { worst };
    let text = |finding: &Finding| match &finding.remedy {
        Some(remedy) => format!("{}; remedy: {remedy}", finding.text),
        None => finding.text.clone(),
    };
    ServiceRecord {
        domain: domain.to_owned(),
        host_ip: place.map(|(ip, _)| ip.to_string()),
        port: place.map(|(_, port)| port),
        grade: grade.as_str().to_owned(),
        text: findings.iter().map(text).collect::<Vec<_>>().join(". "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_that_fits_is_enough() {
        let findings =
            [Finding::ok("a.test", "it fits"), Finding::failed("a.test", "it does not", "correct it")];
        let fits = record("a.test", &findings, Some(([192, 0, 2, 1].into(), 5061)));
        assert_eq!(
            (&*fits.grade, fits.host_ip.as_deref(), fits.port),
            ("warning", Some("192.0.2.1"), Some(5061))
        );
        assert_eq!(fits.text, "it fits. it does not; remedy: correct it");
        assert_eq!(record("a.test", &findings[1..], None).grade, "failed");
        assert_eq!(record("a.test", &findings[..1], None).grade, "ok");
    }
}
