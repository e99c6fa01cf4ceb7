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

use config::{Map, Value};

use super::Config;
use super::ids;
use super::reader::Section;
use super::report::Report;
use super::rules::flag;

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
    let mut interfaces = interfaces::read(lan_enabled, &mut lan, &mut wan);
    let open_federation =
        federation::read_open(root.section("open_federation"), &federation, &mut interfaces);
    interfaces::verify(report, &interfaces, &lan_allowed_networks, certificate.is_some());

    let mut registrar_section = root.section("registrar");
    let registrar = settings::registrar(&mut registrar_section);
    let accounts =
        accounts::Reader::new(&service, &registrar, &interfaces).read(lan_enabled, lan, registrar_section);
    let shows_certificate = certificate.is_some() || tls.client_certificate.is_some();
    let mut routes_section = root.section("static_routes");
    let probe_interval = routes::probe_interval(&mut routes_section);
    let mut static_routes =
        routes::Reader::new(&service, &federation, &interfaces, &accounts, shows_certificate)
            .read(routes_section);

    ids::number(&mut interfaces, &mut static_routes);
    Config {
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
        static_routes,
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
