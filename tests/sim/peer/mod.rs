//! The peers: UC servers and clients with transactions of their own (RFC 3261 §17), which do what they should, and
//! now and then what they should not.

mod client;
mod dialog;
mod draft;
mod relay;
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use sip_proxy::protocol::flow::{ConnectionId, Flow, InterfaceId, Transport};

use crate::common::digest::Challenge;
use crate::coverage::Count;
use crate::model::Proof;
use crate::setup::{self, DOMAIN, NOBODY, OF_BONN};
use crate::text::Text;
use crate::world::{Happening, World};
use client::Client;
use dialog::Dialog;
pub(crate) use draft::{Draft, Purpose};
use server::Server;

/// How a peer gets known to the proxy (docs/log-on.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogOn {
    /// By a REGISTER for itself.
    Server,
    /// By one for each of its users.
    Users,
    /// By nothing but its requests.
    Requests,
    /// By its client certificate.
    Certificate,
}

/// What a peer will do at some time.
#[derive(Clone, Debug)]
pub(crate) enum Alarm {
    /// Its client transaction repeats the request.
    Repeat(usize),
    /// It registers what it has to register.
    Register { process: u32 },
    /// Its server transaction goes on with what it has planned.
    Say { key: String, step: usize },
    /// Its server transaction repeats the final response.
    RepeatFinal { key: String },
    /// It cancels an INVITE.
    Cancel(usize),
    /// It says something in a dialog.
    Talk { dialog: usize },
    /// It can be reached again.
    ComeBack,
}

/// A challenge that can be answered, and how often it was.
#[derive(Clone, Debug)]
struct Known {
    challenge: Challenge,
    uses: u32,
    proof: Proof,
}

/// A UC server, or a client.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) interface: InterfaceId,
    pub(crate) transport: Transport,
    /// Where it is reached, and where its datagrams come from.
    pub(crate) address: SocketAddr,
    /// What it writes into Via and Contact; another address where a NAT lies between.
    sent_by: SocketAddr,
    has_rport: bool,
    /// It takes TCP on its port as well.
    takes_tcp: bool,
    pub(crate) refuses_dials: bool,
    /// Nothing reaches it, nothing comes from it.
    pub(crate) is_down: bool,
    /// The user name of its account; `None`: it has no password to prove.
    account: Option<&'static str>,
    log_on: LogOn,
    /// Those who live on it.
    users: Vec<usize>,
    /// In thousandths, for the contacts that it registers.
    q: u16,
    /// Its users have a second device.
    has_second: bool,
    /// It registers by way of others.
    has_path: bool,
    /// Its registrations last so long, in seconds.
    expires: u64,
    connection: Option<ConnectionId>,
    known: Option<Known>,
    clients: BTreeMap<usize, Client>,
    servers: BTreeMap<String, Server>,
    dialogs: Vec<Dialog>,
    /// Requests that it sends back to where they came from: by their branch, the number that they have then.
    loops: BTreeMap<String, usize>,
    registrations: u32,
    /// Answers what it is asked, or lets others wait.
    is_rude: bool,
}

impl Peer {
    pub(crate) const fn has_certificate(&self) -> bool {
        matches!(self.log_on, LogOn::Certificate)
    }

    /// Whether messages reach it by this transport.
    pub(crate) fn takes(&self, transport: Transport) -> bool {
        self.transport == transport || (self.takes_tcp && transport == Transport::Tcp)
    }

    fn via(&self, number: usize) -> String {
        let rport = if self.has_rport { ";rport" } else { "" };
        let transport = self.transport.via_token();
        format!("SIP/2.0/{transport} {};branch={}{number}{rport}", self.sent_by, crate::text::BRANCH)
    }

    fn contact(&self, user: &str) -> String {
        match self.transport {
            Transport::Udp => format!("sip:{user}@{}", self.sent_by),
            transport => format!("sip:{user}@{};transport={transport}", self.sent_by),
        }
    }

    /// The rows of a REGISTER that say where it is to be reached.
    fn registered_contacts(&self, contact: &str, expires: u64) -> String {
        let transport = if self.takes_tcp && self.q == 1000 { ";transport=tcp" } else { "" };
        let q = if self.q == 1000 { String::new() } else { format!(";q=0.{}", self.q / 100) };
        let own = self.contact(contact);
        let mut rows = format!("Contact: <{own}{transport}>{q};expires={expires}\r\n");
        if self.has_second && contact.starts_with('u') {
            let second = self.contact(&format!("{contact}b"));
            rows += &format!("Contact: <{second}>;q=0.3;expires={expires}\r\n");
        }
        if self.has_path {
            rows +=
                &format!("Supported: path\r\nPath: <sip:edge.{DOMAIN};lr>,\r\n <sip:core.{DOMAIN};lr>\r\n");
        }
        rows
    }

    /// The AOR of somebody for whom it may speak.
    pub(crate) fn speaker(&self) -> usize {
        self.users.first().copied().unwrap_or(0)
    }
}

/// Who there is.
impl World<'_> {
    pub(crate) fn people(&mut self) {
        for number in 0..self.profile.peers {
            let peer = self.somebody(number);
            self.model.peer_is_at(number, peer.address);
            self.trace.note(self.now, || {
                format!(
                    "peer {number}: {:?} {} as {:?}, {:?} {:?}",
                    peer.transport, peer.address, peer.account, peer.log_on, peer.users
                )
            });
            self.peers.push(peer);
            let wait = self.random.millis(1, 2000);
            let process = self.engine.process;
            self.schedule(wait, Happening::Alarm { peer: number, alarm: Alarm::Register { process } });
        }
    }

    fn somebody(&mut self, number: usize) -> Peer {
        let random = &mut self.random;
        let interface = InterfaceId(random.weigh(&[(5, 0), (4, 1), (3, 2), (1, 3), (1, 4)]));
        let (_, transport, _) = setup::INTERFACES[usize::from(interface.0)];
        let is_outside = interface == InterfaceId(3);
        let address = SocketAddr::from(([127, 0, if is_outside { 9 } else { 1 }, number as u8 + 1], 5060));
        let is_behind_nat = transport == Transport::Udp && random.chance(15);
        let sent_by = if is_behind_nat { SocketAddr::from(([10, 0, 0, 1], 5070)) } else { address };
        let log_on = match transport {
            _ if is_outside => LogOn::Users,
            Transport::Tls if random.chance(30) => LogOn::Certificate,
            _ => random.pick(&[LogOn::Server, LogOn::Users, LogOn::Users, LogOn::Requests]),
        };
        let account = match log_on {
            _ if is_outside => Some("remote"),
            LogOn::Certificate => None,
            _ if self.profile.is_open && random.chance(50) => None,
            _ => Some(random.weigh(&[(4, "berlin"), (1, "bonn")])),
        };
        let of_account = if account == Some("bonn") { OF_BONN } else { NOBODY };
        let mut users: Vec<_> = (0..1 + random.below(3)).map(|_| random.below(of_account)).collect();
        users.sort_unstable();
        users.dedup();
        Peer {
            interface,
            transport,
            address,
            sent_by,
            has_rport: transport == Transport::Udp && (is_behind_nat || random.chance(70)),
            takes_tcp: transport == Transport::Udp && !is_behind_nat && random.chance(50),
            refuses_dials: random.chance(20),
            is_down: false,
            account,
            log_on,
            users,
            q: random.pick(&[1000, 1000, 500, 300]),
            has_second: random.chance(30),
            has_path: random.chance(10),
            expires: random.pick(&[3600, 3600, 60, 600]),
            connection: None,
            known: None,
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            dialogs: Vec::new(),
            loops: BTreeMap::new(),
            registrations: 0,
            is_rude: random.chance(15),
        }
    }

    /// The way of a peer's requests; opens its connection where it has none.
    pub(crate) fn way_of(&mut self, peer: usize) -> Option<Flow> {
        let Peer { interface, transport, address, connection, is_down, .. } = self.peers[peer];
        if is_down {
            return None;
        }
        if transport == Transport::Udp {
            let local = setup::bound(interface);
            return Some(Flow { interface, transport, local, remote: address, connection: None });
        }
        if let Some(flow) = connection.and_then(|id| self.network.open_flow(id)) {
            return Some(flow);
        }
        let flow = self.connect(peer)?;
        self.peers[peer].connection = flow.connection;
        Some(flow)
    }

    /// Something has come.
    pub(crate) fn peer_receives(&mut self, peer: usize, flow: Flow, text: &Text) {
        match text.status() {
            Some(status) => self.client_hears(peer, flow, text, status),
            None => self.server_hears(peer, flow, text),
        }
    }

    pub(crate) fn alarm(&mut self, peer: usize, alarm: Alarm) {
        match alarm {
            Alarm::Repeat(number) => self.client_repeats(peer, number),
            Alarm::Register { process } => self.registers(peer, process),
            Alarm::Say { key, step } => self.server_says(peer, &key, step),
            Alarm::RepeatFinal { key } => self.server_repeats(peer, &key),
            Alarm::Cancel(number) => self.client_cancels(peer, number),
            Alarm::Talk { dialog } => self.talks(peer, dialog),
            Alarm::ComeBack => self.comes_back(peer),
        }
    }

    /// A peer that was down is back, and registers.
    fn comes_back(&mut self, peer: usize) {
        if std::mem::replace(&mut self.peers[peer].is_down, false) {
            self.registers_all(peer, None);
        }
    }

    /// A peer is down: its streams have ended.
    pub(crate) fn loses_all(&mut self, peer: usize) {
        for id in self.network.of_peer(peer) {
            self.cut(id, true);
        }
    }

    fn remind(&mut self, peer: usize, wait: Duration, alarm: Alarm) {
        self.schedule(wait, Happening::Alarm { peer, alarm });
    }

    /// A stream of a peer's has ended: what it waits for on it will not come; it comes back and registers anew.
    pub(crate) fn peer_disconnected(&mut self, peer: usize, id: ConnectionId) {
        if self.peers[peer].connection == Some(id) {
            self.peers[peer].connection = None;
            let wait = self.random.millis(50, 3000);
            let process = self.engine.process;
            self.remind(peer, wait, Alarm::Register { process });
        }
    }

    /// A peer registers, and again after a while, as long as acts go on.
    fn registers(&mut self, peer: usize, process: u32) {
        if self.peers[peer].is_down || process + 2 < self.engine.process {
            return;
        }
        self.registers_all(peer, None);
        if self.now < self.profile.span {
            let wait = self.random.millis(25_000, 80_000);
            let process = self.engine.process;
            self.remind(peer, wait, Alarm::Register { process });
        }
    }

    /// The REGISTERs of a peer, for its own name or its users; with `expires`, for so long.
    pub(crate) fn registers_all(&mut self, peer: usize, expires: Option<u64>) {
        let names: Vec<(String, String)> = match (self.peers[peer].log_on, self.peers[peer].account) {
            (LogOn::Server, Some(account)) => vec![(format!("sip:{account}@{DOMAIN}"), account.to_owned())],
            (LogOn::Server, None) => vec![(format!("sip:{DOMAIN}"), "server".to_owned())],
            (LogOn::Users, _) => {
                let users = self.peers[peer].users.iter();
                users.map(|&user| (setup::user(user), format!("u{user}-c{peer}"))).collect()
            }
            (LogOn::Certificate | LogOn::Requests, _) => Vec::new(),
        };
        for (name, contact) in names {
            self.register(peer, &name, &contact, expires);
        }
    }

    fn register(&mut self, peer: usize, name: &str, contact: &str, expires: Option<u64>) {
        let is_sweeping = self.random.chance(50);
        let of_peer = &mut self.peers[peer];
        of_peer.registrations += 1;
        let rows = match expires {
            Some(0) if is_sweeping => "Contact: *\r\nExpires: 0\r\n".to_owned(),
            expires => of_peer.registered_contacts(contact, expires.unwrap_or(of_peer.expires)),
        };
        let draft = Draft {
            from: format!("<{name}>;tag=r{peer}"),
            to: format!("<{name}>"),
            call_id: format!("register-{peer}"),
            cseq: of_peer.registrations,
            rows,
            has_contact: false,
            ..Draft::new("REGISTER", &format!("sip:{DOMAIN}"), Purpose::Register)
        };
        self.count(Count::Registers);
        self.asks(peer, draft);
    }
}
