//! Who is there: the proxy's interfaces and accounts, and its peers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::account::{Account, AccountId, AccountKind, Accounts, Scope, Secret};
use crate::protocol::digest::Algorithm;
use crate::protocol::flow::{ConnectionId, Flow, InterfaceId, Transport};
use crate::protocol::interface::{Interface, Interfaces, Side};
use crate::protocol::proxy::settings::Settings;
use crate::protocol::transaction::Timers;

/// The UC servers' account: password `pw`, any user of the domain.
pub(crate) const UCS: AccountId = AccountId(0);
/// A UC server that speaks for carol alone: password `pw`.
pub(super) const SCOPED: AccountId = AccountId(1);

/// Somebody who registers for `*@partner.example`: password `pw`.
pub(in crate::protocol::proxy) const PARTNER: AccountId = AccountId(2);

/// Somebody on the network, as the flow between the proxy and them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::protocol::proxy) struct Peer(pub(in crate::protocol::proxy) Flow);

impl Peer {
    /// On 127.0.0.1, by UDP.
    pub(in crate::protocol::proxy) fn udp(port: u16) -> Self {
        Self::at(Transport::Udp, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// On 127.0.0.1, over a TCP connection that has the port's number.
    pub(in crate::protocol::proxy) fn tcp(port: u16) -> Self {
        Self::at(Transport::Tcp, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// On 127.0.0.1, over a TLS connection that has the port's number.
    pub(in crate::protocol::proxy) fn tls(port: u16) -> Self {
        Self::at(Transport::Tls, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// On 127.0.0.1, over a WebSocket connection that has the port's number.
    pub(in crate::protocol::proxy) fn ws(port: u16) -> Self {
        Self::at(Transport::Ws, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// On 127.0.0.1, over a WebSocket connection under TLS that has the port's number.
    pub(in crate::protocol::proxy) fn wss(port: u16) -> Self {
        Self::at(Transport::Wss, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Anywhere.
    pub(in crate::protocol::proxy) fn at(transport: Transport, remote: SocketAddr) -> Self {
        let (interface, port) = match transport {
            Transport::Udp => (0, 5060),
            Transport::Tcp => (1, 5060),
            Transport::Tls => (2, 5061),
            Transport::Ws => (4, 8080),
            Transport::Wss => (5, 8443),
        };
        Self(Flow {
            interface: InterfaceId(interface),
            transport,
            local: SocketAddr::from(([127, 0, 0, 1], port)),
            remote,
            connection: transport.is_reliable().then(|| ConnectionId(u64::from(remote.port()))),
        })
    }

    /// By the interface that faces other organisations.
    pub(in crate::protocol::proxy) fn outside(port: u16) -> Self {
        let remote = SocketAddr::from(([127, 0, 0, 9], port));
        let local = SocketAddr::from(([127, 0, 0, 8], 5061));
        Self(Flow { interface: InterfaceId(3), local, ..Self::at(Transport::Tls, remote).0 })
    }

    /// The beginning of the Via that it writes.
    pub(in crate::protocol::proxy) fn via(&self) -> String {
        format!("SIP/2.0/{} {}", self.0.transport.via_token(), self.host())
    }

    /// The URI under which it can be reached.
    pub(in crate::protocol::proxy) fn contact(&self, user: &str) -> String {
        match self.0.transport.uri_parameter() {
            None => format!("sip:{user}@{}", self.host()),
            Some(transport) => format!("sip:{user}@{};transport={transport}", self.host()),
        }
    }

    /// What it calls itself. A browser does not know its address (RFC 7118 §B.1).
    fn host(&self) -> String {
        if self.0.transport.is_web_socket() {
            format!("web{}.invalid", self.0.remote.port())
        } else {
            self.0.remote.to_string()
        }
    }
}

/// The settings of the proxy under test.
pub(crate) fn settings() -> Settings {
    let account = |user_name: &str, scope, kind| Account {
        user_name: user_name.to_owned(),
        secret: Secret::Password("pw".to_owned()),
        scope,
        kind,
    };
    let accounts = vec![
        account("ucs", Scope::everybody(), AccountKind::UcServer),
        account("scoped", Scope::parse(&["carol@a.test"]).unwrap(), AccountKind::UcServer),
        account("partner", Scope::parse(&["*@partner.example"]).unwrap(), AccountKind::Registrant),
    ];
    Settings {
        presence_domains: vec!["a.test".to_owned()],
        realm: "a.test".to_owned(),
        accounts: Arc::new(Accounts::new(accounts)),
        lan_networks: vec!["127.0.0.0/8".parse().unwrap()],
        digest_algorithms: vec![Algorithm::Sha512_256, Algorithm::Sha256, Algorithm::Md5],
        nonce_lifetime: Duration::from_secs(300),
        federation: crate::protocol::federation::Federation::default(),
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
        maximum_transactions: 1000,
        requests_per_second_per_address: 0,
    }
}

/// Its interfaces: all transports on the LAN, TLS outside.
pub(crate) fn interfaces() -> Interfaces {
    let interface = |id, side, transport, bound: &str| Interface {
        id: InterfaceId(id),
        side,
        transport,
        bound: bound.parse().unwrap(),
        public: None,
    };
    let list = vec![
        interface(0, Side::Lan, Transport::Udp, "127.0.0.1:5060"),
        interface(1, Side::Lan, Transport::Tcp, "127.0.0.1:5060"),
        interface(2, Side::Lan, Transport::Tls, "127.0.0.1:5061"),
        interface(3, Side::Wan, Transport::Tls, "127.0.0.8:5061"),
        interface(4, Side::Lan, Transport::Ws, "127.0.0.1:8080"),
        interface(5, Side::Lan, Transport::Wss, "127.0.0.1:8443"),
    ];
    Interfaces::new(list, vec!["127.0.0.1".parse().unwrap()])
}
