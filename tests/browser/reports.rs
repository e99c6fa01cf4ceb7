//! Reports of services in one state or another.

use sip_proxy::actors::control::report::{
    Account, Certificate, Endpoint, Event, Federation, Interface, Nat, Peer, RegistrationCount, Route,
    Server, ServiceRecord, Settings, State, Status,
};

/// A service that has just begun and has nothing to do.
pub(super) fn idle() -> Status {
    Status {
        state: State::Ready,
        version: "0.1.0".to_owned(),
        started: "2026-01-31T09:15:02.090Z".to_owned(),
        uptime_seconds: 4,
        configuration: "/etc/sip-proxy/sip-proxy.toml".to_owned(),
        configured: "2026-01-31T09:15:02.090Z".to_owned(),
        presence_domains: vec!["example.org".to_owned()],
        interfaces: Vec::new(),
        static_routes_enabled: true,
        routes: Vec::new(),
        servers: Vec::new(),
        peers: Vec::new(),
        registrations: RegistrationCount::default(),
        federation: Federation { enabled: true, open: false, policy: "open".to_owned(), records: Vec::new() },
        nat: Nat::default(),
        certificate: None,
        settings: Settings {
            lan_enabled: true,
            accounts: Vec::new(),
            log_level: "info".to_owned(),
            module_log_levels: [("router".to_owned(), "debug".to_owned())].into(),
            log_file_directory: None,
            maximum_log_file_size_mb: 10,
            kept_log_files: 5,
            delete_log_files_daily: false,
            log_fault: None,
            log_lines_dropped: 0,
        },
        events: Vec::new(),
        endpoints: vec![Endpoint {
            key: "service.control_socket".to_owned(),
            address: "/run/sip-proxy/control.sock".to_owned(),
            status: "listening".to_owned(),
            reason: None,
        }],
        unanswered: Vec::new(),
    }
}

/// A service at work, with a fault of each kind.
pub(super) fn busy() -> Status {
    let mut status = idle();
    status.state = State::Impaired;
    status.uptime_seconds = 3 * 86_400 + 4 * 3_600;
    status.interfaces = interfaces();
    status.routes = routes();
    status.servers = servers();
    status.peers = (1..=4).map(peer).collect();
    status.registrations = RegistrationCount { addresses_of_record: 1204, bindings: 1388 };
    status.federation.open = true;
    status.federation.records = records();
    status.nat = Nat {
        enabled: true,
        public_address: Some("203.0.113.1".to_owned()),
        nat_type: Some("Restricted Port Cone".to_owned()),
        reason: None,
        determined: Some("2026-02-03T13:05:00.000Z".to_owned()),
        written: Some("sip.example.org:5061".to_owned()),
    };
    status.certificate = Some(Certificate {
        file: "/etc/sip-proxy/fullchain.pem".to_owned(),
        subject: "CN=sip.example.org".to_owned(),
        names: vec!["sip.example.org".to_owned(), "example.org".to_owned()],
        issuer: "CN=Example CA R3,O=Example Trust,C=DE".to_owned(),
        not_before: "2025-11-20T00:00:00Z".to_owned(),
        not_after: "2026-02-15T00:00:00Z".to_owned(),
        days_left: 12,
    });
    status.settings.accounts = ["ucserver-berlin", "ucserver-hamburg", "ucserver-wien"].map(account).into();
    status.settings.log_file_directory = Some("/var/log/sip-proxy".to_owned());
    status.events = vec![
        event(1, "info", "supervisor", "ready", "interfaces=4 routes=3 version=0.1.0"),
        event(
            2,
            "info",
            "registrar",
            "logged_on",
            "peer=tcp:10.0.0.2:35220 account=ucserver-berlin passes=true",
        ),
        event(3, "warning", "router", "route_failed", "domain=d.example server=198.51.100.7:5061"),
    ];
    status
}

fn interfaces() -> Vec<Interface> {
    let interface = |key: &str, side: &str, ip: &str, protocol: &str, status: &str| Interface {
        key: key.to_owned(),
        side: side.to_owned(),
        enabled: status != "disabled",
        ip_address: ip.to_owned(),
        port: 5061,
        protocol: protocol.to_owned(),
        status: status.to_owned(),
        reason: (status == "not_listening").then(|| {
            "this machine has no such address; allowed: those of `ip address`, or 0.0.0.0".to_owned()
        }),
        connections: (protocol != "udp").then_some(3),
    };
    vec![
        interface("lan", "lan", "10.0.0.1", "tcp", "listening"),
        interface("wan.network_interface[0]", "wan", "192.0.2.10", "mtls", "not_listening"),
        interface("wan.network_interface[1]", "wan", "2001:db8::5", "udp", "disabled"),
        interface("open_federation", "wan", "0.0.0.0", "mtls", "listening"),
    ]
}

fn routes() -> Vec<Route> {
    let route = |domain: &str, health: &str, reason: Option<&str>| Route {
        key: format!("static_routes.route[{domain}]"),
        enabled: health != "disabled",
        trusted: health == "well",
        domain_name: domain.to_owned(),
        access_server: format!("sip.{domain}"),
        port: 5061,
        protocol: "mtls".to_owned(),
        bind_to_ip_address: None,
        addresses: vec!["198.51.100.7".to_owned()],
        health: health.to_owned(),
        reason: reason.map(str::to_owned),
    };
    vec![
        route("c.example", "well", None),
        route("d.example", "ill", Some("connect: nobody can be reached there (Connection refused)")),
        route("old-partner.example", "disabled", None),
    ]
}

fn servers() -> Vec<Server> {
    let server = |account: &str, peer: &str, by: &str, bindings: usize| Server {
        account: account.to_owned(),
        peer: peer.to_owned(),
        interface: "lan".to_owned(),
        by: by.to_owned(),
        bindings,
    };
    vec![
        server("ucserver-berlin", "tcp:10.0.0.2:35220", "registration", 812),
        server("ucserver-hamburg", "tcp:10.0.0.3:41022", "digest", 576),
    ]
}

fn records() -> Vec<ServiceRecord> {
    let record = |domain: &str, host_ip: Option<&str>, grade: &str, text: &str| ServiceRecord {
        domain: domain.to_owned(),
        host_ip: host_ip.map(str::to_owned),
        port: host_ip.map(|_| 5061),
        grade: grade.to_owned(),
        text: text.to_owned(),
    };
    vec![
        record("example.org", Some("203.0.113.1"), "ok", "SRV 0 0 5061 sip.example.org"),
        record("berlin.example.org", None, "failed", "no record _sipfederationtls._tcp.berlin.example.org"),
    ]
}

/// The peer of a number.
pub(super) fn peer(number: u16) -> Peer {
    Peer {
        peer: format!("tls:203.0.113.{}:{}", number % 250, 5000 + number),
        direction: if number.is_multiple_of(3) { "out" } else { "in" }.to_owned(),
        interface: "open_federation".to_owned(),
        names: vec![format!("partner{number}.example")],
        route: None,
        connected_seconds: 37 * u64::from(number),
    }
}

fn account(user_name: &str) -> Account {
    Account { user_name: user_name.to_owned(), kind: "uc_server".to_owned(), proof: "password".to_owned() }
}

/// An event of that day.
pub(super) fn event(number: u64, level: &str, module: &str, name: &str, text: &str) -> Event {
    Event {
        number,
        time: format!("2026-01-31T09:15:{:02}.000Z", number % 60),
        level: level.to_owned(),
        module: module.to_owned(),
        event: name.to_owned(),
        text: text.to_owned(),
    }
}
