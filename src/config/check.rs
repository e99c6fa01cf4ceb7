//! Takes every key of the layered values and checks what several of them say together.
//!
//! A check goes on after a fault, with the default in place of what is faulty, so that one run finds all
//! faults.

mod accounts;
mod certificates;
mod federation;
mod interfaces;
mod machine;
mod routes;
mod settings;

use std::path::PathBuf;

use config::{Map, Value};

use super::ids;
use super::reader::Section;
use super::report::Report;
use super::rules::flag;
use super::{Config, SwitchedOff};

/// `service.control_socket`, whatever else there is.
pub(super) fn control_socket(report: &Report, entries: Map<String, Value>) -> PathBuf {
    settings::service(Section::root(report, entries).section("service")).control_socket
}

/// The checked form of `entries`; worth something only where `report` has no fault afterwards.
pub(super) fn check(report: &Report, entries: Map<String, Value>) -> Config {
    let mut root = Section::root(report, entries);
    let service = settings::service(root.section("service"));
    let (certificate, tls) = certificates::read(root.section("certificate"));
    let stun = settings::stun(root.section("stun"));
    let federation = federation::read(root.section("federation"), &service.presence_domains);

    let (mut lan, mut wan) = (root.section("lan"), root.section("wan"));
    let lan_allowed_networks = interfaces::allowed_networks(&mut lan);
    let wan_public_address = interfaces::public_address(wan.section("public_address"), &stun);
    let lan_enabled = lan.get("enabled", flag, true);
    let mut switches = interfaces::read(lan_enabled, &mut lan, &mut wan);
    let open_federation = federation::read_open(root.section("open_federation"), &federation, &mut switches);
    let mut interfaces = switches.on;
    interfaces::verify(report, &interfaces, &lan_allowed_networks, certificate.is_some());

    let mut registrar_section = root.section("registrar");
    let registrar = settings::registrar(&mut registrar_section);
    let accounts =
        accounts::Reader::new(&service, &registrar, &interfaces).read(lan_enabled, lan, registrar_section);
    let shows_certificate = certificate.is_some() || tls.client_certificate.is_some();
    let mut routes_section = root.section("static_routes");
    let probe_interval = routes::probe_interval(&mut routes_section);
    let mut routes = routes::Reader::new(&service, &federation, &interfaces, &accounts, shows_certificate)
        .read(routes_section);

    ids::number(&mut interfaces, &mut routes.on);
    Config {
        file: report.file().to_owned(),
        switched_off: SwitchedOff {
            lan: !lan_enabled,
            static_routes: !routes.all_enabled,
            interfaces: switches.off,
            routes: routes.off,
        },
        service,
        certificate,
        tls,
        interfaces,
        wan_public_address,
        lan_allowed_networks,
        accounts,
        federation,
        federation_guard: federation::read_guard(root.section("federation_guard")),
        open_federation,
        static_routes: routes.on,
        probe_interval,
        stun,
        dns: settings::dns(root.section("dns")),
        sip: settings::sip(root.section("sip")),
        registrar,
        limits: settings::limits(root.section("limits")),
        diagnostics: settings::diagnostics(root.section("diagnostics")),
        admin: settings::admin(root.section("admin")),
    }
}
