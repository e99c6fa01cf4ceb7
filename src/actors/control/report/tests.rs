//! `docs/resources.md` has every field with its type. The samples below name each field, so that a new one is missing here
//! first, and then there.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::actors::control::trace::Traced;

const PAGE: &str = include_str!("../../../../docs/resources.md");

/// An object with something in each field.
struct Sample {
    /// Its section of the page.
    section: &'static str,
    value: Value,
    /// Whether the type takes this.
    takes: fn(Value) -> bool,
}

fn sample<T: Serialize + DeserializeOwned>(section: &'static str, value: T) -> Sample {
    let value = serde_json::to_value(value).unwrap();
    Sample { section, value, takes: |value| serde_json::from_value::<T>(value).is_ok() }
}

fn text() -> String {
    "x".to_owned()
}

fn endpoint() -> Endpoint {
    Endpoint { key: text(), address: text(), status: text(), reason: Some(text()) }
}

fn interface() -> Interface {
    Interface {
        key: text(),
        side: text(),
        enabled: true,
        ip_address: text(),
        port: 1,
        protocol: text(),
        status: text(),
        reason: Some(text()),
        connections: Some(1),
    }
}

fn route() -> Route {
    Route {
        key: text(),
        enabled: true,
        trusted: true,
        domain_name: text(),
        access_server: text(),
        port: 1,
        protocol: text(),
        bind_to_ip_address: Some(text()),
        addresses: vec![text()],
        health: text(),
        reason: Some(text()),
    }
}

fn server() -> Server {
    Server { account: text(), peer: text(), interface: text(), by: text(), bindings: 1 }
}

fn peer() -> Peer {
    Peer {
        peer: text(),
        direction: text(),
        interface: text(),
        names: vec![text()],
        route: Some(text()),
        connected_seconds: 1,
    }
}

fn count() -> RegistrationCount {
    RegistrationCount { addresses_of_record: 1, bindings: 1 }
}

fn registration() -> Registration {
    Registration { aor: text(), contact: text(), peer: text(), expires_seconds: 1, q: 0.5 }
}

fn service_record() -> ServiceRecord {
    ServiceRecord { domain: text(), host_ip: Some(text()), port: Some(1), grade: text(), text: text() }
}

fn federation() -> Federation {
    Federation { enabled: true, open: true, policy: text(), records: vec![service_record()] }
}

fn nat() -> Nat {
    Nat {
        enabled: true,
        public_address: Some(text()),
        nat_type: Some(text()),
        reason: Some(text()),
        determined: Some(text()),
        written: Some(text()),
    }
}

fn certificate() -> Certificate {
    Certificate {
        file: text(),
        subject: text(),
        names: vec![text()],
        issuer: text(),
        not_before: text(),
        not_after: text(),
        days_left: 1,
    }
}

fn account() -> Account {
    Account { user_name: text(), kind: text(), proof: text() }
}

fn settings() -> Settings {
    Settings {
        lan_enabled: true,
        accounts: vec![account()],
        log_level: text(),
        module_log_levels: BTreeMap::from([(text(), text())]),
        log_file_directory: Some(text()),
        maximum_log_file_size_mb: 1,
        kept_log_files: 1,
        delete_log_files_daily: true,
        log_fault: Some(text()),
        log_lines_dropped: 1,
    }
}

fn event() -> Event {
    Event { number: 1, time: text(), level: text(), module: text(), event: text(), text: text() }
}

fn traced() -> Traced {
    Traced {
        time: text(),
        direction: text(),
        transport: text(),
        source: text(),
        destination: text(),
        interface: text(),
        text: text(),
        octets: Some(text()),
        missed: 1,
    }
}

fn change() -> Change {
    Change { key: text(), kind: text(), old: Some(text()), new: Some(text()) }
}

fn fault() -> Fault {
    Fault { place: text(), key: text(), text: text() }
}

fn status() -> Status {
    Status {
        state: State::Ready,
        version: text(),
        started: text(),
        uptime_seconds: 1,
        configuration: text(),
        configured: text(),
        presence_domains: vec![text()],
        interfaces: vec![interface()],
        static_routes_enabled: true,
        routes: vec![route()],
        servers: vec![server()],
        peers: vec![peer()],
        registrations: count(),
        federation: federation(),
        nat: nat(),
        certificate: Some(certificate()),
        settings: settings(),
        events: vec![event()],
        endpoints: vec![endpoint()],
        unanswered: vec![text()],
    }
}

fn samples() -> Vec<Sample> {
    vec![
        sample("status", status()),
        sample("endpoint", endpoint()),
        sample("interface", interface()),
        sample("route", route()),
        sample("server", server()),
        sample("peer", peer()),
        sample("registration_count", count()),
        sample(
            "registrations",
            Registrations { count: count(), registrations: vec![registration()], next: Some(text()) },
        ),
        sample("registration", registration()),
        sample("federation", federation()),
        sample("service_record", service_record()),
        sample("nat", nat()),
        sample("certificate", certificate()),
        sample("settings", settings()),
        sample("account", account()),
        sample("event", event()),
        sample("traced", traced()),
        sample(
            "reloaded",
            Reloaded { changes: vec![change()], warnings: vec![fault()], faults: vec![fault()] },
        ),
        sample("change", change()),
        sample("fault", fault()),
        sample("log_level", LogLevel { module: Some(text()), level: text() }),
        sample("problem", Problem { error: text() }),
    ]
}

/// Field and type of each row, by section.
fn sections() -> BTreeMap<&'static str, BTreeMap<&'static str, &'static str>> {
    let section = |text: &'static str| {
        let (name, rest) = text.split_once('\n')?;
        let row = |row: &'static str| {
            let mut cells = row.strip_prefix("| `")?.strip_suffix(" |")?.splitn(3, " | ");
            let (field, kind) = (cells.next()?.strip_suffix('`')?, cells.next()?);
            assert!(cells.next().is_some_and(|meaning| !meaning.is_empty()), "{row}");
            Some((field, kind))
        };
        Some((name, rest.lines().filter_map(row).collect()))
    };
    PAGE.split("\n## ").skip(1).filter_map(section).collect()
}

/// The type of a value, as the page writes it. An object is that of the section whose fields it has, or one that has
/// strings under names of its own.
fn kind(value: &Value, samples: &[Sample]) -> String {
    match value {
        Value::Bool(_) => "boolean".to_owned(),
        Value::Number(number) if number.is_f64() => "number".to_owned(),
        Value::Number(_) => "integer".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(rows) => match kind(&rows[0], samples).as_str() {
            "string" => "list of strings".to_owned(),
            other => format!("list of {other}"),
        },
        Value::Object(_) => match samples.iter().find(|sample| sample.value == *value) {
            Some(Sample { section, .. }) => format!("[{section}](#{section})"),
            None => "object of strings".to_owned(),
        },
        Value::Null => panic!("a sample has something in each field"),
    }
}

#[test]
fn the_page_of_the_resources_has_every_field_with_its_type() {
    let (samples, sections) = (samples(), sections());
    let known: BTreeSet<_> = samples.iter().map(|sample| sample.section).collect();
    assert_eq!(sections.keys().copied().collect::<BTreeSet<_>>(), known);
    for Sample { section, value, takes } in &samples {
        let rows = &sections[section];
        let fields = value.as_object().unwrap();
        let names = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(
            names(rows.keys().copied().collect()),
            names(fields.keys().map(String::as_str).collect()),
            "fields of {section}"
        );
        for (field, content) in fields {
            let mut without = value.clone();
            without[field] = Value::Null;
            let end = if takes(without) { " or null" } else { "" };
            assert_eq!(rows[field.as_str()], kind(content, &samples) + end, "type of {section}.{field}");
        }
    }
}

#[test]
fn the_page_of_the_resources_has_every_value_of_the_state() {
    let row = PAGE.lines().find(|line| line.starts_with("| `state` |")).unwrap();
    for state in [State::Starting, State::Ready, State::Impaired, State::Draining] {
        let name = serde_json::to_value(state).unwrap();
        assert!(row.contains(&format!("`{}`", name.as_str().unwrap())), "{name}");
    }
}
