//! Who there is: a few peers on each side, and a proxy and a Registrar with two UC servers' accounts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip_proxy::protocol::account::{Account, AccountKind, Accounts, Scope, Secret};
use sip_proxy::protocol::digest::Algorithm;
use sip_proxy::protocol::flow::{ConnectionId, Flow, InterfaceId, Transport};
use sip_proxy::protocol::interface::{Interface, Interfaces, Side};
use sip_proxy::protocol::location::{GruuKey, GuardSettings, Location, LocationLimits, LocationSettings};
use sip_proxy::protocol::proxy::settings::Settings;
use sip_proxy::protocol::proxy::{EventDetail, Proxy, Secrets};
use sip_proxy::protocol::record_route::TokenKey;
use sip_proxy::protocol::transaction::Timers;

/// The presence domain.
pub(super) const DOMAIN: &str = "example.org";

/// How many peers [`peer`] tells apart: UDP and TCP on the LAN, and TLS from outside.
const PEERS: u8 = 10;

const NONCE_LIFETIME: Duration = Duration::from_secs(300);

/// The flow of one of the peers.
pub(super) fn peer(which: u8) -> Flow {
    let which = which % PEERS;
    let (interface, transport, local) = match which {
        0..4 => (0, Transport::Udp, bound(0)),
        4..8 => (1, Transport::Tcp, bound(1)),
        _ => (2, Transport::Tls, bound(2)),
    };
    let remote = SocketAddr::new(local.ip(), 6000 + u16::from(which));
    let connection = transport.is_reliable().then(|| ConnectionId(u64::from(which)));
    Flow { interface: InterfaceId(interface), transport, local, remote, connection }
}

fn bound(interface: u16) -> SocketAddr {
    let outside = u8::from(interface == 2);
    SocketAddr::from(([127, 0, outside, 1], 5060 + interface))
}

fn interfaces() -> Interfaces {
    let sides = [(Side::Lan, Transport::Udp), (Side::Lan, Transport::Tcp), (Side::Wan, Transport::Tls)];
    let list = (0..).zip(sides).map(|(id, (side, transport))| Interface {
        id: InterfaceId(id),
        side,
        transport,
        bound: bound(id),
        public: None,
    });
    Interfaces::new(list.collect(), vec![bound(0).ip()])
}

fn accounts() -> Arc<Accounts> {
    let account = |user_name: &str, secret, kind| Account {
        user_name: user_name.to_owned(),
        secret,
        scope: Scope::everybody(),
        kind,
    };
    let password = || Secret::Password("8c1f0a63b2".to_owned());
    Arc::new(Accounts::new(vec![
        account("ucserver", Secret::Address, AccountKind::UcServer),
        account("berlin", password(), AccountKind::UcServer),
        account("partner", password(), AccountKind::Registrant),
    ]))
}

/// A Router's core whose table is small enough for a script to fill.
pub(super) fn proxy(now: Instant) -> Proxy {
    let settings = Settings {
        presence_domains: vec![DOMAIN.to_owned()],
        realm: DOMAIN.to_owned(),
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
        follow_redirections: true,
        accepts_digest_without_qop: false,
        accepts_digest_for_other_uri: false,
        counts_guesses: true,
        maximum_transactions: 24,
        requests_per_second_per_address: 0,
    };
    let secrets = Secrets {
        transaction_key: [1; 16],
        nonce_key: [2; 32],
        token_key: TokenKey::new([3; 16]),
        epoch: now,
    };
    let mut proxy = Proxy::new(0, Arc::new(settings), Arc::new(interfaces()), &secrets, 4, now);
    proxy.set_detail(EventDetail::Transactions);
    proxy
}

/// The location service that belongs to it.
pub(super) fn location(now: Instant) -> Location {
    Location::new(LocationSettings {
        minimum_expires: Duration::from_secs(60),
        default_expires: Duration::from_secs(3600),
        maximum_expires: Duration::from_secs(86_400),
        maximum_contacts: 4,
        accepts_path_without_support: true,
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
        limits: LocationLimits {
            bindings: 16,
            binding_bytes: 512,
            datagram_servers: 3,
            learned: 4,
            nonces: 8,
        },
    })
}
