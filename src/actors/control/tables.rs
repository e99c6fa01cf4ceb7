//! From what the actors know to what a report says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::report;
use crate::actors::directory::Established;
use crate::actors::federation_resolver::RouteListed;
use crate::actors::listener::InterfaceState;
use crate::actors::supervisor::describe::Description;
use crate::config::{self, Certificate, Config, Host, Interface, Policy, Protocol, Side, StaticRoute};
use crate::diagnostics::Diagnostics;
use crate::protocol::account::{AccountKind, Secret};
use crate::protocol::flow::InterfaceId;
use crate::protocol::location::{BindingListed, LogOnKind, Page, Place, ServerListed};
use crate::protocol::next_hop::route_health::Health;

/// RFC 3339 in UTC.
pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Connected {
    /// Of each interface.
    pub(super) by_interface: BTreeMap<InterfaceId, usize>,
    /// Those with somebody outside of the LAN.
    pub(super) peers: Vec<report::Peer>,
}

impl Connected {
    /// Counts a connection, and lists it if the peer is outside; `maximum` of them.
    pub(super) fn note(&mut self, config: &Config, established: &Established, maximum: usize) {
        let flow = &established.flow;
        *self.by_interface.entry(flow.interface).or_default() += 1;
        let Some(interface) = config.interface(flow.interface) else { return };
        if interface.side == Side::Wan && self.peers.len() < maximum {
            self.peers.push(peer(config, interface, established));
        }
    }
}

fn peer(config: &Config, interface: &Interface, established: &Established) -> report::Peer {
    let Established { flow, is_incoming, proof, since } = established;
    let names: BTreeSet<String> =
        proof.iter().flat_map(|proof| proof.names.hosts_and_domains()).map(str::to_ascii_lowercase).collect();
    let is_of = |route: &&StaticRoute| match &route.access_server {
        Host::Address(address) => *address == flow.remote.ip(),
        Host::Name(name) => names.contains(name),
    };
    let route = config.static_routes.iter().find(is_of).map(|route| route.key.clone());
    report::Peer {
        peer: flow.to_string(),
        direction: if *is_incoming { "in" } else { "out" }.to_owned(),
        interface: interface.key.clone(),
        names: names.into_iter().collect(),
        route,
        connected_seconds: since.elapsed().as_secs(),
    }
}

/// All static routes, those that are switched off at the end.
pub(super) fn routes(config: &Config, known: &[RouteListed]) -> Vec<report::Route> {
    let on = config.static_routes.iter().map(|route| {
        let state = known.iter().find(|listed| *listed.route.domain == *route.domain_name);
        let (health, reason) = match state.map(|listed| listed.health) {
            Some(Health::Well) => ("well", None),
            Some(Health::Ill(reason)) => ("ill", Some(reason.to_owned())),
            Some(Health::Unknown) | None => ("unknown", None),
        };
        let addresses = state.map(|listed| listed.addresses.iter().map(ToString::to_string).collect());
        report::Route { addresses: addresses.unwrap_or_default(), reason, ..route_row(route, true, health) }
    });
    on.chain(config.switched_off.routes.iter().map(|route| route_row(route, false, "disabled"))).collect()
}

fn route_row(route: &StaticRoute, enabled: bool, health: &str) -> report::Route {
    report::Route {
        key: route.key.clone(),
        enabled,
        trusted: route.trusted,
        domain_name: route.domain_name.clone(),
        access_server: route.access_server.to_string(),
        port: route.port,
        protocol: route.transport_protocol.to_string(),
        bind_to_ip_address: route.bind_to_ip_address.map(|address| address.to_string()),
        addresses: Vec::new(),
        health: health.to_owned(),
        reason: None,
    }
}

/// A UC server that is logged on.
pub(super) fn server(config: &Config, server: ServerListed) -> report::Server {
    let interface = config.interface(server.flow.interface);
    report::Server {
        account: server.account,
        peer: server.flow.to_string(),
        interface: interface.map(|interface| interface.key.clone()).unwrap_or_default(),
        by: match server.by {
            LogOnKind::Certificate => "certificate",
            LogOnKind::Registration => "registration",
            LogOnKind::Address => "address",
            LogOnKind::Digest => "digest",
        }
        .to_owned(),
        bindings: server.bindings as usize,
    }
}

/// A page: what the last piece says beside its bindings, and what was listed before it.
pub(super) fn registrations(page: Page, mut listed: Vec<BindingListed>) -> report::Registrations {
    listed.extend(page.listed);
    let next = match page.next {
        Some(Place::Behind(name)) => Some(name.to_uri()),
        // Where a shard ends, the next one is found behind the last name.
        Some(Place::Shard(_)) => listed.last().map(|last| last.name.to_uri()),
        None => None,
    };
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    report::Registrations {
        count: report::RegistrationCount { addresses_of_record: page.names, bindings: page.bindings },
        registrations: listed.iter().map(registration).collect(),
        next,
    }
}

fn registration(listed: &BindingListed) -> report::Registration {
    report::Registration {
        aor: listed.name.to_uri(),
        contact: String::from_utf8_lossy(&listed.contact).into_owned(),
        peer: listed.flow.to_string(),
        expires_seconds: listed.seconds,
        q: f32::from(listed.q) / 1000.0,
    }
}

/// All interfaces, those that are switched off at the end.
pub(super) fn interfaces(service: &Description, connected: &Connected) -> Vec<report::Interface> {
    let config = &service.config;
    let on = (0..).map(InterfaceId).zip(&config.interfaces).map(|(id, interface)| {
        let (status, port, reason) = match service.states.get(&id) {
            Some(InterfaceState::Listening { address }) => ("listening", address.port(), None),
            Some(InterfaceState::NotListening { reason }) => {
                ("not_listening", interface.port, Some(reason.clone()))
            }
            None => ("starting", interface.port, None),
        };
        let open = connected.by_interface.get(&id).copied().unwrap_or_default();
        let connections = (interface.protocol != Protocol::Udp).then_some(open);
        report::Interface { port, reason, connections, ..row(interface, true, status) }
    });
    let off = config.switched_off.interfaces.iter().map(|interface| row(interface, false, "disabled"));
    on.chain(off).collect()
}

fn row(interface: &Interface, enabled: bool, status: &str) -> report::Interface {
    report::Interface {
        key: interface.key.clone(),
        side: side(interface.side).to_owned(),
        enabled,
        ip_address: interface.ip_address.to_string(),
        port: interface.port,
        protocol: interface.protocol.to_string(),
        status: status.to_owned(),
        reason: None,
        connections: None,
    }
}

const fn side(side: Side) -> &'static str {
    match side {
        Side::Lan => "lan",
        Side::Wan => "wan",
    }
}

/// The names by which administrators may reach `[admin] listen`.
pub(super) fn own_names(service: &Description) -> Vec<String> {
    let config = &service.config;
    let certified = config.certificate.iter().flat_map(|own| &own.names);
    let public = config.wan_public_address.iter().filter_map(|public| public.host_name.as_ref());
    certified.chain(public).cloned().collect()
}

/// The state of the service as a whole.
pub(super) fn state(
    service: &Description,
    interfaces: &[report::Interface],
    routes: &[report::Route],
) -> report::State {
    let is_deaf = |interface: &report::Interface| interface.status == "not_listening";
    if service.is_stopping {
        report::State::Draining
    } else if !service.is_ready {
        report::State::Starting
    } else if interfaces.iter().any(is_deaf) || routes.iter().any(|route| route.health == "ill") {
        report::State::Impaired
    } else {
        report::State::Ready
    }
}

/// `[federation]` and `[open_federation]`.
pub(super) fn federation(config: &Config, records: Vec<report::ServiceRecord>) -> report::Federation {
    report::Federation {
        enabled: config.federation.enabled,
        open: config.open_federation.enabled,
        policy: match config.federation.policy {
            Policy::Open => "open",
            Policy::Closed => "closed",
        }
        .to_owned(),
        records,
    }
}

/// What STUN has found, and what stands in messages.
pub(super) fn nat(service: &Description) -> report::Nat {
    let config = &service.config;
    let verdict = service.nat.as_ref().map(|(determined, _)| determined.verdict);
    let public = config.wan_public_address.as_ref();
    let written = public.and_then(|public| {
        let configured = public.ip_address.map(|ip| ip.to_string());
        let found = || verdict?.public.map(|found| found.ip().to_string());
        let certified = || config.certificate.as_ref()?.names.first().cloned();
        let host = public.host_name.clone().or_else(certified).or(configured).or_else(found)?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Some(format!("{host}:{}", public.port))
    });
    report::Nat {
        enabled: !config.stun.servers.is_empty(),
        public_address: verdict.and_then(|verdict| verdict.public).map(|public| public.ip().to_string()),
        nat_type: verdict.map(|verdict| verdict.nat_type.to_string()),
        reason: service.nat.as_ref().map(|(found, _)| found.reason.clone()).filter(|text| !text.is_empty()),
        determined: service.nat.as_ref().map(|(_, when)| time(*when)),
        written,
    }
}

/// A certificate of ours.
pub(super) fn certificate(own: &Certificate, now: SystemTime) -> report::Certificate {
    report::Certificate {
        file: own.file.display().to_string(),
        subject: own.subject.clone(),
        names: own.names.clone(),
        issuer: own.issuer.clone(),
        not_before: time(own.not_before),
        not_after: time(own.not_after),
        days_left: config::days(now, own.not_after),
    }
}

/// What the status page shows of the settings.
pub(super) fn settings(config: &Config, logs: &Diagnostics) -> report::Settings {
    let (log_level, modules) = logs.levels().current();
    let diagnostics = &config.diagnostics;
    report::Settings {
        lan_enabled: !config.switched_off.lan,
        accounts: config.accounts.list().iter().map(account).collect(),
        log_level: log_level.as_str().to_owned(),
        module_log_levels: modules
            .into_iter()
            .map(|(module, level)| (module, level.as_str().to_owned()))
            .collect(),
        log_file_directory: diagnostics.log_file_directory.as_ref().map(|path| path.display().to_string()),
        maximum_log_file_size_mb: diagnostics.maximum_log_file_size_mb,
        kept_log_files: diagnostics.kept_log_files,
        delete_log_files_daily: diagnostics.delete_log_files_daily,
        log_fault: logs.fault(),
        log_lines_dropped: logs.dropped(),
    }
}

/// Never what proves it.
fn account(account: &crate::protocol::account::Account) -> report::Account {
    report::Account {
        user_name: account.user_name.clone(),
        kind: match account.kind {
            AccountKind::UcServer => "uc_server",
            AccountKind::Registrant => "registrar",
        }
        .to_owned(),
        proof: match account.secret {
            Secret::Address => "address",
            Secret::Password(_) | Secret::Hashes { .. } => "password",
            Secret::Certificate(_) => "certificate",
        }
        .to_owned(),
    }
}
