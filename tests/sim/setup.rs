//! What the proxy under test is told: the one place where its settings are made.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip_proxy::config::Durability;
use sip_proxy::protocol::account::{Account, AccountId, AccountKind, Accounts, Scope, Secret};
use sip_proxy::protocol::digest::Algorithm;
use sip_proxy::protocol::federation::Federation;
use sip_proxy::protocol::flow::{Flow, InterfaceId, Transport};
use sip_proxy::protocol::interface::{Interface, Interfaces, Side};
use sip_proxy::protocol::location::{GruuKey, GuardSettings, LocationLimits, LocationSettings};
use sip_proxy::protocol::proxy::settings::Settings;
use sip_proxy::protocol::transaction::Timers;

use crate::random::Random;

/// The presence domain.
pub(crate) const DOMAIN: &str = "a.test";

/// Users of it. The last one lives nowhere.
pub(crate) const USERS: usize = 6;

/// The one whom nobody has.
pub(crate) const NOBODY: usize = USERS - 1;

/// The user of this number.
pub(crate) fn user(number: usize) -> String {
    format!("sip:u{number}@{DOMAIN}")
}

/// The password of every account that has one.
pub(crate) const PASSWORD: &str = "8c1f0a63b2";

/// Speaks for the first two users, by password; the one before it for everybody.
pub(crate) const BONN: AccountId = AccountId(1);
/// Speaks for everybody, by client certificate.
pub(crate) const MUTUAL: AccountId = AccountId(2);
/// No UC server, but may register from outside, by password.
pub(crate) const REMOTE: AccountId = AccountId(3);

/// The users whom [`BONN`] speaks for.
pub(crate) const OF_BONN: usize = 2;

pub(crate) const MINIMUM_EXPIRES: u64 = 60;
pub(crate) const DEFAULT_EXPIRES: u64 = 3600;
pub(crate) const MAXIMUM_EXPIRES: u64 = 7200;
pub(crate) const MAXIMUM_CONTACTS: usize = 4;

/// Wrong passwords of one host, and how long it is banned then.
const FAILURES: u32 = 3;
const BAN: Duration = Duration::from_secs(15);

/// Larger requests leave by a stream.
pub(crate) const UDP_MTU: usize = 1300;

pub(crate) const NONCE_LIFETIME: Duration = Duration::from_secs(300);

/// How often a flow must show life.
pub(crate) const FLOW_TIMER: Duration = Duration::from_secs(540);

pub(crate) const TIMER_C: Duration = Duration::from_secs(185);

/// How long a challenge waits for a host that guesses passwords.
pub(crate) fn longest_wait(timers: &Timers) -> Duration {
    timers.t2()
}

/// What differs from one world to the next.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// How many Routers there are.
    pub(crate) routers: usize,
    /// Whoever is on the LAN needs no credentials.
    pub(crate) is_open: bool,
    /// T1; T2 and T4 follow.
    pub(crate) t1: Duration,
    /// Transactions that one Router may hold.
    pub(crate) maximum_transactions: usize,
    /// Requests that a stranger may send to one Router in a second; 0 is no limit.
    pub(crate) rate: u32,
    /// Percent of datagrams that are lost, and that come twice.
    pub(crate) loss: u32,
    pub(crate) duplication: u32,
    /// The longest way of a datagram, in milliseconds.
    pub(crate) delay: u64,
    /// Percent of the acts that are faults of the network, and of the proxy's own actors.
    pub(crate) network_faults: u32,
    pub(crate) actor_faults: u32,
    /// How many UC servers and clients there are.
    pub(crate) peers: usize,
    /// What a 200 to a REGISTER promises.
    pub(crate) durability: Durability,
    /// How much happens, and in which time.
    pub(crate) acts: usize,
    pub(crate) span: Duration,
}

impl Profile {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let is_lossy = random.chance(50);
        let is_troubled = random.chance(60);
        Self {
            routers: 1 + random.below(3),
            is_open: random.chance(25),
            t1: random.weigh(&[(4, Duration::from_millis(500)), (1, Duration::from_millis(200))]),
            maximum_transactions: random.weigh(&[(5, 1000), (1, 12)]),
            rate: random.weigh(&[(9, 0), (1, 3)]),
            loss: if is_lossy { 1 + random.below(25) as u32 } else { 0 },
            duplication: if is_lossy { random.below(20) as u32 } else { 0 },
            delay: if is_lossy { random.pick(&[30, 300, 900]) } else { 20 },
            network_faults: if is_troubled { random.below(25) as u32 } else { 0 },
            actor_faults: if is_troubled { random.weigh(&[(3, 8), (2, 25)]) } else { 0 },
            peers: 2 + random.below(4),
            durability: random.pick(&[Durability::Process, Durability::Disk]),
            acts: 3 + random.below(12),
            span: Duration::from_secs(random.pick(&[10, 40, 90])),
        }
    }

    pub(crate) fn timers(&self) -> Timers {
        Timers::new(self.t1, self.t1 * 8, self.t1 * 10)
    }
}

fn accounts(is_open: bool) -> Arc<Accounts> {
    let password = || Secret::Password(PASSWORD.to_owned());
    let account = |user_name: &str, secret, kind, scope| Account {
        user_name: user_name.to_owned(),
        secret,
        scope,
        kind,
    };
    let of_bonn: Vec<_> = (0..OF_BONN).map(|number| format!("u{number}@{DOMAIN}")).collect();
    let of_bonn = Scope::parse(&of_bonn).expect("patterns");
    let certificate = Secret::Certificate("mutual.test".to_owned());
    let all = Scope::everybody;
    let mut list = vec![
        account("berlin", password(), AccountKind::UcServer, all()),
        account("bonn", password(), AccountKind::UcServer, of_bonn),
        account("mutual", certificate, AccountKind::UcServer, all()),
        account("remote", password(), AccountKind::Registrant, all()),
    ];
    if is_open {
        list.push(account("open", Secret::Address, AccountKind::UcServer, all()));
    }
    Arc::new(Accounts::new(list))
}

/// The interfaces, by their identifiers: datagrams, both streams, the one that faces outside, other datagrams.
pub(crate) const INTERFACES: [(Side, Transport, &str); 5] = [
    (Side::Lan, Transport::Udp, "127.0.0.1:5060"),
    (Side::Lan, Transport::Tcp, "127.0.0.1:5060"),
    (Side::Lan, Transport::Tls, "127.0.0.1:5061"),
    (Side::Wan, Transport::Tls, "127.0.0.8:5061"),
    (Side::Lan, Transport::Udp, "127.0.0.1:5062"),
];

/// Where an interface is bound, as text.
pub(crate) fn bound_text(interface: InterfaceId) -> &'static str {
    INTERFACES[usize::from(interface.0)].2
}

/// Where an interface is bound.
pub(crate) fn bound(interface: InterfaceId) -> SocketAddr {
    bound_text(interface).parse().expect("an address")
}

/// What an interface carries.
pub(crate) fn transport(interface: InterfaceId) -> Transport {
    INTERFACES[usize::from(interface.0)].1
}

/// Whom an interface faces.
pub(crate) fn side(interface: InterfaceId) -> Side {
    INTERFACES[usize::from(interface.0)].0
}

/// The way to somebody on the LAN by whichever TCP connection leads there.
pub(crate) fn lan_stream(remote: SocketAddr) -> Flow {
    let interface = InterfaceId(1);
    Flow { interface, transport: Transport::Tcp, local: bound(interface), remote, connection: None }
}

pub(crate) fn interfaces() -> Arc<Interfaces> {
    let list = INTERFACES.iter().zip(0..).map(|(&(side, transport, _), id)| Interface {
        id: InterfaceId(id),
        side,
        transport,
        bound: bound(InterfaceId(id)),
        public: None,
    });
    Arc::new(Interfaces::new(list.collect(), vec!["127.0.0.1".parse().expect("an address")]))
}

pub(crate) fn settings(profile: &Profile) -> Arc<Settings> {
    Arc::new(Settings {
        federation: Federation::default(),
        dns_timeout: Duration::from_secs(4),
        tolerated_proxy_require: vec!["ms-benotify".to_owned(), "ms-piggyback-first-notify".to_owned()],
        keep_alive_timeout: Duration::from_secs(540),
        presence_domains: vec![DOMAIN.to_owned()],
        realm: DOMAIN.to_owned(),
        accounts: accounts(profile.is_open),
        lan_networks: vec!["127.0.0.0/8".parse().expect("a network")],
        digest_algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        nonce_lifetime: NONCE_LIFETIME,
        accepts_digest_without_qop: false,
        accepts_digest_for_other_uri: false,
        counts_guesses: true,
        timers: profile.timers(),
        timer_c: TIMER_C,
        udp_mtu: UDP_MTU,
        follow_redirections: false,
        maximum_transactions: profile.maximum_transactions,
        requests_per_second_per_address: profile.rate,
    })
}

/// The keys of the Registrars of a process.
#[derive(Debug)]
pub(crate) struct LocationKeys {
    pub(crate) hash: [u8; 16],
    pub(crate) gruus: [u8; 32],
}

/// `succeeded`: when the Registrar before this one ended.
pub(crate) fn location_settings(
    settings: &Settings,
    epoch: Instant,
    succeeded: Option<Instant>,
    keys: &LocationKeys,
    seed: [u8; 16],
) -> LocationSettings {
    LocationSettings {
        minimum_expires: Duration::from_secs(MINIMUM_EXPIRES),
        default_expires: Duration::from_secs(DEFAULT_EXPIRES),
        maximum_expires: Duration::from_secs(MAXIMUM_EXPIRES),
        maximum_contacts: MAXIMUM_CONTACTS,
        nonce_lifetime: settings.nonce_lifetime,
        guard: GuardSettings {
            failures: FAILURES,
            ban: BAN,
            first_wait: settings.timers.t1() / 2,
            longest_wait: longest_wait(&settings.timers),
        },
        accounts: Arc::clone(&settings.accounts),
        epoch,
        succeeded,
        hash_key: keys.hash,
        accepts_path_without_support: false,
        flow_timer: FLOW_TIMER,
        gruu_key: GruuKey(keys.gruus),
        seed,
        limits: LocationLimits::default(),
    }
}
