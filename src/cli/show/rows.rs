//! Reports as people read them.

use super::word;
use crate::actors::control::report::{
    Certificate, Event, Interface, Peer, Registrations, Route, Server, ServiceRecord, Settings, Status,
};
use crate::cli::table::{Kind, Screen, Table, Tone, duration, harmless, row, validity};

/// The whole of it.
pub(super) fn status(status: &Status, screen: Screen) -> Vec<String> {
    let state = screen.paint(Tone::of(word(status.state)), word(status.state));
    let mut lines = vec![
        format!("sip-proxy {}: {state} for {}", status.version, duration(status.uptime_seconds)),
        row("started", &status.started),
        row("configuration", &format!("{}, read {}", status.configuration, status.configured)),
        row("domains", &or(&status.presence_domains.join(", "), "none")),
    ];
    for endpoint in status.endpoints.iter().filter(|endpoint| endpoint.status != "listening") {
        let reason = endpoint.reason.as_deref().unwrap_or_default();
        lines.push(row(&endpoint.key, &format!("{} {}: {reason}", endpoint.address, endpoint.status)));
    }
    if !status.unanswered.is_empty() {
        lines.push(row("no answer from", &status.unanswered.join(", ")));
    }
    let mut section = |title: &str, rows: Vec<String>| {
        lines.push(String::new());
        lines.push(screen.paint(Tone::Heading, title));
        lines.extend(rows);
    };
    section("Network interfaces", interfaces(&status.interfaces, screen));
    let switch = if status.static_routes_enabled { "Static routes" } else { "Static routes (switched off)" };
    section(switch, routes(&status.routes, screen));
    section("UC servers", servers(&status.servers, screen));
    section("Federation peers", peers(&status.peers, screen));
    section("Federation", federation(status, screen));
    section("NAT", nat(status));
    let none = || vec![screen.paint(Tone::Faint, "none is configured")];
    section("Certificate", status.certificate.as_ref().map_or_else(none, certificate));
    section("Settings", settings(&status.settings));
    section("Events", events(&status.events, screen));
    lines
}

pub(super) fn interfaces(interfaces: &[Interface], screen: Screen) -> Vec<String> {
    let mut table = Table::new(&[
        ("interface", Kind::Name),
        ("side", Kind::Name),
        ("address", Kind::Name),
        ("port", Kind::Number),
        ("protocol", Kind::Name),
        ("status", Kind::State),
        ("connections", Kind::Number),
        ("reason", Kind::Text),
    ]);
    for interface in interfaces {
        table.row(&[
            interface.key.clone(),
            interface.side.clone(),
            interface.ip_address.clone(),
            interface.port.to_string(),
            interface.protocol.clone(),
            interface.status.clone(),
            interface.connections.map(|count| count.to_string()).unwrap_or_default(),
            interface.reason.clone().unwrap_or_default(),
        ]);
    }
    table.render(screen, "none is configured")
}

pub(super) fn routes(routes: &[Route], screen: Screen) -> Vec<String> {
    let mut table = Table::new(&[
        ("domain", Kind::Name),
        ("access server", Kind::Name),
        ("port", Kind::Number),
        ("protocol", Kind::Name),
        ("trusted", Kind::Name),
        ("health", Kind::State),
        ("addresses", Kind::Text),
        ("reason", Kind::Text),
    ]);
    for route in routes {
        table.row(&[
            route.domain_name.clone(),
            route.access_server.clone(),
            route.port.to_string(),
            route.protocol.clone(),
            if route.trusted { "yes" } else { "no" }.to_owned(),
            route.health.clone(),
            route.addresses.join(", "),
            route.reason.clone().unwrap_or_default(),
        ]);
    }
    table.render(screen, "none is configured")
}

fn servers(servers: &[Server], screen: Screen) -> Vec<String> {
    let mut table = Table::new(&[
        ("account", Kind::Name),
        ("peer", Kind::Name),
        ("interface", Kind::Name),
        ("by", Kind::Name),
        ("bindings", Kind::Number),
    ]);
    for server in servers {
        table.row(&[
            server.account.clone(),
            server.peer.clone(),
            server.interface.clone(),
            server.by.clone(),
            server.bindings.to_string(),
        ]);
    }
    table.render(screen, "none is logged on")
}

pub(super) fn peers(peers: &[Peer], screen: Screen) -> Vec<String> {
    let mut table = Table::new(&[
        ("peer", Kind::Name),
        ("direction", Kind::Name),
        ("interface", Kind::Name),
        ("connected", Kind::Number),
        ("route", Kind::Name),
        ("names", Kind::Text),
    ]);
    for peer in peers {
        table.row(&[
            peer.peer.clone(),
            peer.direction.clone(),
            peer.interface.clone(),
            duration(peer.connected_seconds),
            peer.route.clone().unwrap_or_default(),
            peer.names.join(", "),
        ]);
    }
    table.render(screen, "none is connected")
}

pub(super) fn registrations(all: &Registrations, screen: Screen) -> Vec<String> {
    let mut table = Table::new(&[
        ("address-of-record", Kind::Name),
        ("contact", Kind::Text),
        ("peer", Kind::Name),
        ("expires", Kind::Number),
        ("q", Kind::Number),
    ]);
    for registration in &all.registrations {
        table.row(&[
            registration.aor.clone(),
            registration.contact.clone(),
            registration.peer.clone(),
            duration(registration.expires_seconds),
            registration.q.to_string(),
        ]);
    }
    table.render(screen, "nobody is registered")
}

pub(super) fn certificate(certificate: &Certificate) -> Vec<String> {
    let left = validity(certificate.days_left);
    vec![
        row("file", &certificate.file),
        row("subject", &certificate.subject),
        row("names", &certificate.names.join(", ")),
        row("issuer", &certificate.issuer),
        row("valid from", &certificate.not_before),
        row("valid to", &format!("{} ({left})", certificate.not_after)),
    ]
}

pub(super) fn events(events: &[Event], screen: Screen) -> Vec<String> {
    if events.is_empty() {
        return vec![screen.paint(Tone::Faint, "none")];
    }
    events.iter().map(|one| event(one, screen)).collect()
}

/// A line as in the log.
pub(super) fn event(event: &Event, screen: Screen) -> String {
    let level = screen.paint(Tone::of(&event.level), &event.level);
    harmless(&format!("{} ", event.time))
        + &level
        + &harmless(&format!(" {} {} {}", event.module, event.event, event.text))
}

fn federation(status: &Status, screen: Screen) -> Vec<String> {
    let federation = &status.federation;
    let switch = |is_on: bool| if is_on { "on" } else { "off" };
    let mut lines = vec![
        row("federation", switch(federation.enabled)),
        row("open federation", &format!("{}, policy {}", switch(federation.open), federation.policy)),
    ];
    lines.extend(federation.records.iter().map(|record| self::record(record, screen)));
    lines
}

fn record(record: &ServiceRecord, screen: Screen) -> String {
    let grade = screen.paint(Tone::of(&record.grade), &record.grade);
    let place = record.host_ip.as_ref().zip(record.port);
    let place = place.map(|(ip, port)| format!(" DNS host IP {ip}, DNS port {port};")).unwrap_or_default();
    let text = harmless(&format!("{place} {}", record.text));
    format!("{:<15} {grade}{text}", harmless(&record.domain))
}

fn nat(status: &Status) -> Vec<String> {
    let nat = &status.nat;
    let known = |value: &Option<String>| or(value.as_deref().unwrap_or_default(), "unknown");
    let mut lines = Vec::new();
    if nat.enabled {
        lines.push(row("public address", &known(&nat.public_address)));
        lines.push(row("NAT type", &known(&nat.nat_type)));
        lines.extend(nat.reason.as_ref().map(|reason| row("reason", reason)));
        lines.extend(nat.determined.as_ref().map(|when| row("determined", when)));
    } else {
        lines.push(row("STUN", "off: stun.servers is empty"));
    }
    lines.extend(nat.written.as_ref().map(|written| row("in messages", written)));
    lines
}

fn settings(settings: &Settings) -> Vec<String> {
    let account = |account: &crate::actors::control::report::Account| {
        format!("{} ({}, {})", account.user_name, account.kind, account.proof)
    };
    let accounts: Vec<_> = settings.accounts.iter().map(account).collect();
    let modules = settings.module_log_levels.iter().map(|(module, level)| format!("{module}={level}"));
    let levels: Vec<_> = std::iter::once(settings.log_level.clone()).chain(modules).collect();
    let directory = settings.log_file_directory.as_deref().unwrap_or("standard error only");
    let mut lines = vec![
        row("accounts", &or(&accounts.join(", "), "none")),
        row("log level", &levels.join(" ")),
        row("log files", directory),
    ];
    lines.extend(settings.log_fault.as_ref().map(|fault| row("log fault", fault)));
    if settings.log_lines_dropped > 0 {
        lines.push(row("lines dropped", &settings.log_lines_dropped.to_string()));
    }
    lines
}

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise } else { text }.to_owned()
}
