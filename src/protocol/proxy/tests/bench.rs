//! One [`Proxy`] with a clock, a network and a Registrar that do as the test says.

mod events;
mod registrar;

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::registrar::Registrar;
use super::super::TICK;
use super::network::{Peer, UCS, interfaces, settings};
use super::text::kind;
use crate::protocol::account::AccountId;
use crate::protocol::federation::RouteId;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::identity::PeerProof;
use crate::protocol::location::{ContextId, Target};
use crate::protocol::message::{Carriage, Message, MessageLimits};
use crate::protocol::next_hop::health::Outcome;
use crate::protocol::next_hop::{Query, Resolution};
use crate::protocol::proxy::outward::Beyond;
use crate::protocol::proxy::settings::Settings;
use crate::protocol::proxy::{Alternate, Event, EventDetail, Load, Output, Proxy, Secrets, Unfinished};
use crate::protocol::record_route::TokenKey;
use crate::protocol::transaction::Branch;

/// How long the longest transaction may outlive the end of a test: Timer C, then what follows it.
const LONGEST: Duration = Duration::from_secs(600);

/// Something that the proxy has sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// When, since the bench was made.
    pub(super) at: Duration,
    pub(super) hop: Flow,
    pub(super) alternate: Option<Alternate>,
    pub(super) bytes: Bytes,
    pub(super) beyond: Option<Arc<Beyond>>,
}

impl Sent {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// The proxy and its surroundings.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) proxy: Proxy,
    start: Instant,
    now: Instant,
    registrar: Registrar,
    sent: VecDeque<Sent>,
    unreachable: HashSet<(Transport, SocketAddr)>,
    pub(super) failed_flows: Vec<Flow>,
    pub(super) ended_flows: Vec<Flow>,
    events: Vec<Event>,
    /// What the FederationResolver has been asked and has not answered.
    asked: VecDeque<(ContextId, Query)>,
    pub(super) health: Vec<(SocketAddr, bool)>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    /// With settings that differ from the usual.
    pub(super) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let start = Instant::now();
        let mut settings = settings();
        change(&mut settings);
        let secrets = Secrets {
            transaction_key: [1; 16],
            nonce_key: [2; 32],
            token_key: TokenKey::new([3; 16]),
            epoch: start,
        };
        let registrar = Registrar::new(settings.nonce_lifetime);
        let mut proxy = Proxy::new(4, Arc::new(settings), Arc::new(interfaces()), &secrets, 5, start);
        proxy.set_detail(EventDetail::Transactions);
        Self {
            proxy,
            start,
            now: start,
            registrar,
            sent: VecDeque::new(),
            unreachable: HashSet::new(),
            failed_flows: Vec::new(),
            ended_flows: Vec::new(),
            events: Vec::new(),
            asked: VecDeque::new(),
            health: Vec::new(),
        }
    }

    /// Other settings from now on, which differ from the usual.
    pub(super) fn reconfigure(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = settings();
        change(&mut settings);
        self.proxy.set_settings(self.now, Arc::new(settings));
        self.drain();
    }

    /// From now on nobody gets through to this address.
    pub(super) fn cut_off(&mut self, transport: Transport, remote: SocketAddr) {
        self.unreachable.insert((transport, remote));
    }

    /// `peer` has sent this.
    pub(super) fn receive(&mut self, peer: Peer, text: &str) {
        self.receive_with(peer, None, text.as_bytes());
    }

    /// `peer` has sent these octets, over a connection whose certificate proves `account`.
    pub(super) fn receive_with(&mut self, peer: Peer, account: Option<AccountId>, octets: &[u8]) {
        let proof = account.map(|account| PeerProof { account: Some(account), ..PeerProof::default() });
        self.receive_proven(peer, proof, octets);
    }

    /// `peer` has sent these octets, over a connection whose certificate proves this.
    pub(super) fn receive_proven(&mut self, peer: Peer, proof: Option<PeerProof>, octets: &[u8]) {
        let proof = proof.map(Arc::new);
        let carriage = match peer.0.transport {
            Transport::Udp => Carriage::Datagram,
            Transport::Tcp | Transport::Tls => Carriage::Stream,
            Transport::Ws | Transport::Wss => Carriage::WebSocket,
        };
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        let message = Message::parse(Bytes::copy_from_slice(octets), carriage, limits).unwrap();
        self.proxy.handle_message(self.now, &peer.0, proof.as_ref(), message);
        self.drain();
    }

    /// The process is about to end, and a successor there in so many seconds; what is left.
    pub(super) fn say_farewell(&mut self, retry_after: u32) -> Unfinished {
        self.proxy.drain(self.now, retry_after)
    }

    /// This route is to be probed.
    pub(super) fn probe(&mut self, route: RouteId) {
        self.proxy.handle_probe(self.now, route);
        self.drain();
    }

    /// The oldest question to the FederationResolver that was not answered.
    pub(super) fn question(&self) -> Option<&Query> {
        self.asked.front().map(|(_, query)| query)
    }

    /// Answers it.
    pub(super) fn resolve(&mut self, resolution: Resolution) {
        let (context, _) = self.asked.pop_front().expect("a question");
        self.proxy.handle_resolution(self.now, context, resolution);
        self.drain();
    }

    /// What was sent for this branch has not got through to there, as the network says.
    pub(super) fn fail(&mut self, branch: &Branch, destination: SocketAddr) {
        self.proxy.handle_transmit_failure(self.now, branch, Some(destination));
        self.drain();
    }

    /// The connection of `peer` has ended.
    pub(super) fn close(&mut self, peer: Peer) {
        self.registrar.servers.retain(|server| server.flow != peer.0);
        self.proxy.handle_connection_closed(self.now, &peer.0);
        self.drain();
    }

    /// `peer` has logged off.
    pub(super) fn log_off(&mut self, peer: Peer) {
        self.registrar.servers.retain(|server| server.flow != peer.0);
        self.proxy.handle_log_off(self.now, &peer.0);
        self.drain();
    }

    /// Lets time pass, with all that is due meanwhile.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        // A timer fires at the first tick at or after its time.
        while let Some(deadline) = self.proxy.poll_timeout().filter(|&deadline| deadline <= until + TICK) {
            self.now = self.now.max(deadline);
            self.proxy.handle_timeout(self.now);
            assert!(
                self.proxy.poll_timeout().is_none_or(|next| next > self.now),
                "a timer that does not advance"
            );
            self.drain();
        }
        self.now = self.now.max(until);
    }

    pub(super) fn pass_millis(&mut self, millis: u64) {
        self.pass(Duration::from_millis(millis));
    }

    /// What has been sent to `peer` and was not taken yet.
    pub(super) fn take_sent(&mut self, peer: Peer) -> Vec<Sent> {
        let is_for = |sent: &Sent| {
            (sent.hop.transport, sent.hop.remote) == (peer.0.transport, peer.0.remote)
                && sent.hop.connection.is_none_or(|connection| Some(connection) == peer.0.connection)
        };
        let (taken, left) = self.sent.drain(..).partition(is_for);
        self.sent = left;
        VecDeque::into(taken)
    }

    /// Its text.
    pub(super) fn take(&mut self, peer: Peer) -> Vec<String> {
        self.take_sent(peer).iter().map(Sent::text).collect()
    }

    /// Method or status code of each.
    pub(super) fn kinds(&mut self, peer: Peer) -> Vec<String> {
        self.take(peer).iter().map(|text| kind(text).to_owned()).collect()
    }

    /// The one message that has been sent to `peer`; its method or status code must be `expected`.
    pub(super) fn one(&mut self, peer: Peer, expected: &str) -> String {
        let mut taken = self.take(peer);
        assert_eq!(taken.iter().map(|text| kind(text)).collect::<Vec<_>>(), [expected], "to {}", peer.0);
        taken.remove(0)
    }

    /// Nothing has been sent that was not taken.
    pub(super) fn nothing_more(&self) {
        let left: Vec<_> =
            self.sent.iter().map(|sent| format!("{} {}", sent.hop, kind(&sent.text()))).collect();
        assert!(left.is_empty(), "also sent: {left:?}");
    }

    /// Nothing has been sent to `peer` that was not taken.
    pub(super) fn nothing_sent_to(&self, peer: Peer) {
        let sent = self.sent.iter().find(|sent| sent.hop.remote == peer.0.remote);
        assert!(sent.is_none(), "sent to {}: {}", peer.0, sent.unwrap().text());
    }

    fn drain(&mut self) {
        while let Some(output) = self.proxy.poll_output() {
            match output {
                Output::Transmit { hop, alternate, bytes, branch, beyond } => {
                    self.transmit(Sent { at: self.now - self.start, hop, alternate, bytes, beyond }, branch);
                }
                Output::Resolve { context, query } => self.asked.push_back((context, query)),
                Output::ServerHealth { remote, outcome, .. } => {
                    self.health.push((remote, outcome == Outcome::Answered));
                }
                Output::Ask(question) if self.registrar.is_holding => self.registrar.held.push_back(question),
                Output::Ask(question) => self.answer(question),
                Output::Learned { user, flow } => {
                    self.registrar.learned.insert(user.to_string(), flow);
                }
                Output::FlowFailed(flow) => self.failed_flows.push(flow),
                Output::FlowEnded(flow) => self.ended_flows.push(flow),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn transmit(&mut self, sent: Sent, branch: Option<Branch>) {
        let hop = sent.hop;
        if self.unreachable.contains(&(hop.transport, hop.remote)) {
            if let Some(branch) = branch {
                self.proxy.handle_transmit_failure(self.now, &branch, Some(hop.remote));
            }
            return;
        }
        self.sent.push_back(sent);
    }
}

/// A binding of `user`, as `peer` makes it.
pub(super) fn binding(user: &str, peer: Peer) -> Target {
    Target {
        uri: Bytes::from(peer.contact(user)),
        path: Vec::new(),
        q: 1000,
        flow: peer.0,
        account: Some(UCS),
        is_flow: false,
        alternatives: Vec::new(),
    }
}

/// Whatever a test has begun ends by itself and leaves nothing behind.
impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.pass(LONGEST);
        assert_eq!(self.proxy.load(), Load { servers: 0, clients: 0, contexts: 0 });
        assert!(self.proxy.by_key.is_empty() && self.proxy.waiting.is_empty());
        assert_eq!(self.proxy.poll_timeout(), None);
    }
}
