//! From the proxy to peers: datagrams, and streams that are there or are dialled.

use std::net::SocketAddr;

use bytes::Bytes;
use sip_proxy::protocol::flow::{ConnectionId, Flow, InterfaceId, Transport};
use sip_proxy::protocol::transaction::Branch;

use super::{Outgoing, Stage};
use crate::coverage::Count;
use crate::engine::{Actor, Mail};
use crate::setup;
use crate::text::Text;
use crate::trace::What;
use crate::world::{Happening, World};

impl World<'_> {
    /// Carries what a Router sends.
    pub(crate) fn carry(
        &mut self,
        hop: Flow,
        alternate: Option<SocketAddr>,
        bytes: Bytes,
        branch: Option<Branch>,
    ) {
        if hop.transport == Transport::Udp {
            return self.carry_datagram(hop, &bytes);
        }
        let message = Outgoing { bytes, branch };
        let Some(id) = hop.connection else { return self.dial(&hop, hop.remote, message) };
        match (self.network.is_known(id), alternate) {
            (true, _) => self.write(id, message),
            (false, Some(alternate)) => self.dial(&hop, alternate, message),
            (false, None) => self.tell_failed(message.branch, None),
        }
    }

    fn carry_datagram(&mut self, hop: Flow, bytes: &Bytes) {
        let peer =
            self.peers.iter().position(|peer| peer.address == hop.remote && peer.takes(Transport::Udp));
        let Some(peer) = peer.filter(|&peer| !self.peers[peer].is_down) else {
            self.trace.push(self.now, What::Lost("nobody is there", bytes.clone()));
            // The network may say so (RFC 3261 §18.4).
            let branch = Text::read(bytes);
            let branch = branch.branch(0).filter(|_| branch.status().is_none());
            let branch = branch.and_then(|branch| Branch::parse(branch.as_bytes()));
            if self.random.chance(70) && branch.is_some() {
                self.count(Count::IcmpErrors);
                self.tell_failed(branch, Some(hop.remote));
            }
            return;
        };
        for delay in self.fates(bytes) {
            self.schedule(delay, Happening::AtPeer { peer, flow: hop, bytes: bytes.clone() });
        }
    }

    pub(super) fn tell_failed(&mut self, branch: Option<Branch>, unreached: Option<SocketAddr>) {
        if let Some(branch) = branch {
            self.post(Actor::Router(usize::from(branch.router)), Mail::Failed { branch, unreached });
        }
    }

    fn write(&mut self, id: ConnectionId, message: Outgoing) {
        let delay = self.random.millis(0, 10);
        let now = self.now;
        let connection = self.network.connections.get_mut(&id).expect("it was looked for before");
        match connection.stage {
            Stage::Dialling => connection.queued.push(message),
            Stage::Cut => self.trace.push(now, What::Lost("the connection has ended", message.bytes)),
            Stage::Open => {
                connection.to_peer = connection.to_peer.max(now + delay);
                connection.under_way.retain(|(at, _)| *at > now);
                connection.under_way.push((connection.to_peer, message.branch));
                let (peer, flow, wait) = (connection.peer, connection.flow, connection.to_peer - now);
                self.schedule(wait, Happening::AtPeer { peer, flow, bytes: message.bytes });
            }
        }
    }

    /// Uses the connection that leads there, or opens one.
    fn dial(&mut self, hop: &Flow, remote: SocketAddr, message: Outgoing) {
        // A datagram interface takes streams on its port: the one that is configured there.
        let interface = if hop.interface == InterfaceId(0) { InterfaceId(1) } else { hop.interface };
        if let Some(&id) = self.network.dialled.get(&(interface, remote))
            && self.network.is_known(id)
        {
            return self.write(id, message);
        }
        self.count(Count::Dials);
        let admission = self.engine.directory.open_connection(remote.ip()).expect("the limits are high");
        let id = admission.id();
        let transport = hop.transport;
        let local = setup::bound(interface);
        let flow = Flow { interface, transport, local, remote, connection: Some(id) };
        let peer = self.peers.iter().position(|peer| peer.address == remote && peer.takes(transport));
        let wait = self.random.millis(1, 50);
        self.opens(peer.unwrap_or(usize::MAX), flow, None, admission, Stage::Dialling);
        self.network.dialled.insert((interface, remote), id);
        self.write(id, message);
        self.schedule(wait, Happening::Dialled { id });
    }

    /// A dial has come to its end.
    pub(crate) fn dialled(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let peer = connection.peer;
        let is_taken = self.peers.get(peer).is_some_and(|peer| !peer.is_down && !peer.refuses_dials);
        if is_taken {
            connection.stage = Stage::Open;
            for message in std::mem::take(&mut connection.queued) {
                self.write(id, message);
            }
            return;
        }
        self.count(Count::DialsRefused);
        let connection = self.network.connections.remove(&id).expect("it is there");
        for message in connection.queued {
            self.tell_failed(message.branch, None);
        }
    }

    /// Octets have come to a peer.
    pub(crate) fn reaches(&mut self, peer: usize, flow: Flow, bytes: Bytes) {
        let is_there = flow.connection.is_none_or(|id| self.network.open_flow(id).is_some());
        if !is_there || self.peers[peer].is_down {
            return self.trace.push(self.now, What::Lost("nobody reads", bytes));
        }
        self.trace.push(self.now, What::PeerReceives { peer, bytes: bytes.clone() });
        self.peer_receives(peer, flow, &Text::read(&bytes));
    }
}
