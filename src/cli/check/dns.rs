//! `check dns`: whether other organisations find us by `_sipfederationtls._tcp`, and believe what they find.

use std::io;
use std::sync::Arc;

use super::findings::{Finding, Findings};
use crate::actors::service_record::Ours;
use crate::actors::trial::Trials;
use crate::config::Config;
use crate::protocol::next_hop::Query;

pub(super) async fn check(config: &Config, trials: &Trials<'_>, findings: &mut Findings) -> io::Result<()> {
    if !config.federation.enabled {
        findings.add(Finding::ok("federation", "is off: nobody looks for us").at("federation.enabled"));
        return Ok(());
    }
    if config.service.presence_domains.is_empty() {
        let remedy = "name the domains that are served here";
        findings.add(Finding::warning("domains", "there are none", remedy).at("service.presence_domains"));
    }
    let ours = Ours::new(config, Arc::clone(trials.interfaces()));
    for domain in &config.service.presence_domains {
        let query = Query::Federation(Arc::from(domain.as_str()));
        let inquiry = trials.inquire(query, None).await?;
        findings.extend(ours.judge(domain, &inquiry));
    }
    Ok(())
}
