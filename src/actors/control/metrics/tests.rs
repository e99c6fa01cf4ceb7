//! All that is told has a type and help; the documentation has all of it, and the dashboard asks for nothing else.

use std::collections::BTreeSet;

use super::*;
use crate::actors::control::exposition::Format;

/// The metrics of a process in which something of each kind has happened.
fn everything() -> String {
    let metrics = Metrics::default();
    metrics.tls_handshake(true, "ok");
    metrics.dns_lookup("SRV", "ok", Duration::from_millis(3));
    metrics.journal_commit(Duration::from_millis(1));
    metrics.dropped("not_sip", 1);
    metrics.actor_failed("router");
    let mut connection = metrics.connection("tcp");
    connection.opened(&metrics, true);
    let gauges = Gauges {
        addresses_of_record: Some(1),
        bindings: Some(2),
        certificate_seconds: Some(-1),
        queues: vec![Queue { name: "log", length: 1, capacity: Some(2) }],
        ..Gauges::default()
    };
    let load = Load { servers: 1, clients: 2, contexts: 3 };
    let mut snapshot = Snapshot { gauges, journal_backlog: Some(0), ..Snapshot::default() };
    snapshot.add(&Counted { counts: Counts::default(), load });
    write(&metrics, snapshot)
}

fn samples(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

fn name(sample: &str) -> &str {
    sample.split(['{', ' ']).next().unwrap_or_default()
}

/// Names with their types; each has help.
fn families(text: &str) -> BTreeSet<(&str, &str)> {
    let families: BTreeSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    for (family, _) in &families {
        assert!(text.contains(&format!("# HELP {family} ")), "{family}");
    }
    families
}

#[test]
fn every_sample_has_a_type_and_help() {
    let text = everything();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let families = families(&text);
    for name in samples(&text).into_iter().map(name) {
        let ends =
            [("_total", "counter"), ("_bucket", "histogram"), ("_sum", "histogram"), ("_count", "histogram")];
        let is_part =
            |(end, kind)| name.strip_suffix(end).is_some_and(|family| families.contains(&(family, kind)));
        assert!(families.contains(&(name, "gauge")) || ends.into_iter().any(is_part), "{name}");
    }
    assert!(families.contains(&("sip_proxy_certificate_expiry_seconds", "gauge")));
}

#[test]
fn the_older_form_has_the_same_samples_and_families_of_their_names() {
    let open = everything();
    let classic = Format::Classic.write(open.clone());
    let without_braces: Vec<_> = samples(&open).iter().map(|line| line.replacen("{} ", " ", 1)).collect();
    assert_eq!(samples(&classic), without_braces);
    assert!(!classic.contains("# EOF") && !classic.contains("# UNIT"), "{classic}");
    let families = families(&classic);
    for name in samples(&classic).into_iter().map(name) {
        let is_whole = ["counter", "gauge"].iter().any(|kind| families.contains(&(name, *kind)));
        let is_part =
            |end| name.strip_suffix(end).is_some_and(|family| families.contains(&(family, "histogram")));
        assert!(is_whole || ["_bucket", "_sum", "_count"].into_iter().any(is_part), "{name}");
    }
}

#[test]
fn every_family_is_documented() {
    let text = everything();
    let families: Vec<_> = families(&text).into_iter().map(|(family, _)| family).collect();
    let page = include_str!("../../../../docs/metrics.md");
    let rows: Vec<_> =
        page.lines().filter_map(|row| row.strip_prefix("| `sip_proxy_")?.split('`').next()).collect();
    assert_eq!(rows.len(), families.len(), "{rows:?} {families:?}");
    for row in rows {
        let family = format!("sip_proxy_{}", row.strip_suffix("_total").unwrap_or(row));
        assert!(families.contains(&&*family), "docs/metrics.md has {row}");
    }
}

#[test]
fn the_dashboard_asks_for_nothing_that_is_not_there() {
    let text = everything();
    let names: BTreeSet<_> = samples(&text).into_iter().map(name).collect();
    let dashboard = include_str!("../../../../etc/grafana-dashboard.json");
    let _: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let asked: BTreeSet<&str> = dashboard
        .match_indices("sip_proxy_")
        .map(|(at, _)| {
            let rest = &dashboard[at..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            &rest[..end]
        })
        .collect();
    assert!(asked.len() >= 14, "{asked:?}");
    // Counters without a sample yet have no line.
    let without_samples = ["sip_proxy_transactions_total"];
    for name in asked {
        assert!(names.contains(&name) || without_samples.contains(&name), "the dashboard asks for {name}");
    }
}
