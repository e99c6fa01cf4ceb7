//! The settings of a usual deployment: one domain, one UC server's account that the LAN's addresses have.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip_proxy::protocol::account::{Account, AccountKind, Accounts, Scope, Secret};
use sip_proxy::protocol::digest::Algorithm;
use sip_proxy::protocol::flow::{Flow, InterfaceId, Transport};
use sip_proxy::protocol::interface::{Interface, Interfaces, Side};
use sip_proxy::protocol::location::{GruuKey, GuardSettings, Location, LocationLimits, LocationSettings};
use sip_proxy::protocol::proxy::settings::Settings;
use sip_proxy::protocol::proxy::{EventDetail, Proxy, Secrets};
use sip_proxy::protocol::record_route::TokenKey;
use sip_proxy::protocol::transaction::Timers;

use super::Ends;

const INTERFACE: InterfaceId = InterfaceId(0);
const NONCE_LIFETIME: Duration = Duration::from_secs(300);

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Both are at the LAN interface, over UDP.
pub(crate) fn ends() -> Ends {
    let flow = |port| Flow {
        interface: INTERFACE,
        transport: Transport::Udp,
        local: at(5060),
        remote: at(port),
        connection: None,
    };
    Ends { caller: flow(6000), callee: flow(6100) }
}

fn accounts() -> Arc<Accounts> {
    Arc::new(Accounts::new(vec![Account {
        user_name: "ucserver".to_owned(),
        secret: Secret::Address,
        scope: Scope::everybody(),
        kind: AccountKind::UcServer,
    }]))
}

/// A Router's core.
pub(crate) fn proxy(now: Instant) -> Proxy {
    let interface = Interface {
        id: INTERFACE,
        side: Side::Lan,
        transport: Transport::Udp,
        bound: at(5060),
        public: None,
    };
    let settings = Settings {
        presence_domains: vec!["home.test".to_owned()],
        realm: "home.test".to_owned(),
        accounts: accounts(),
        lan_networks: vec!["127.0.0.0/24".parse().expect("a network")],
        digest_algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        nonce_lifetime: NONCE_LIFETIME,
        federation: sip_proxy::protocol::federation::Federation::default(),
        dns_timeout: Duration::from_secs(4),
        tolerated_proxy_require: vec!["ms-benotify".to_owned(), "ms-piggyback-first-notify".to_owned()],
        keep_alive_timeout: Duration::from_secs(540),
        timers: Timers::default(),
        timer_c: Duration::from_secs(185),
        udp_mtu: 1300,
        follow_redirections: false,
        accepts_digest_without_qop: false,
        accepts_digest_for_other_uri: false,
        counts_guesses: true,
        maximum_transactions: 1_000_000,
        requests_per_second_per_address: 0,
    };
    let secrets = Secrets {
        transaction_key: [1; 16],
        nonce_key: [2; 32],
        token_key: TokenKey::new([3; 16]),
        epoch: now,
    };
    let interfaces = Interfaces::new(vec![interface], vec![at(0).ip()]);
    let mut proxy = Proxy::new(0, Arc::new(settings), Arc::new(interfaces), &secrets, 4, now);
    proxy.set_detail(EventDetail::Faults);
    proxy
}

/// The location service that belongs to it.
pub(crate) fn location(now: Instant) -> Location {
    Location::new(LocationSettings {
        minimum_expires: Duration::from_secs(60),
        default_expires: Duration::from_secs(3600),
        maximum_expires: Duration::from_secs(86_400),
        maximum_contacts: 10,
        accepts_path_without_support: false,
        flow_timer: Duration::from_secs(540),
        nonce_lifetime: NONCE_LIFETIME,
        accounts: accounts(),
        guard: GuardSettings {
            failures: 6,
            ban: Duration::from_secs(300),
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(4),
        },
        epoch: now,
        succeeded: None,
        hash_key: [5; 16],
        gruu_key: GruuKey([6; 32]),
        seed: [7; 16],
        limits: LocationLimits::default(),
    })
}
