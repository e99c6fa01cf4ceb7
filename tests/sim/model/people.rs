//! Who there is, and what peers do.

use std::net::SocketAddr;

use bytes::Bytes;
use sip_proxy::protocol::flow::{ConnectionId, Flow, Transport};

use super::records::{Begun, Ends, Origin, Request, Said};
use super::{Model, Proof};
use crate::coverage::Count;
use crate::random::Random;
use crate::text::{Header, Text};

impl Model {
    pub(crate) fn peer_is_at(&mut self, peer: usize, address: SocketAddr) {
        self.addresses.insert(address, peer);
    }

    pub(crate) fn connection_is_of(&mut self, peer: usize, connection: ConnectionId, is_certified: bool) {
        self.certified.extend(is_certified.then_some(connection));
        self.connections.insert(connection, peer);
        self.live.insert(connection);
    }

    /// The proxy has noticed the end of a connection, though no Router may have heard yet.
    pub(crate) fn connection_ends(&mut self, connection: ConnectionId) {
        self.live.remove(&connection);
    }

    pub(super) fn owner_of(&self, hop: &Flow) -> Option<usize> {
        match hop.connection {
            Some(connection) => self.connections.get(&connection).copied(),
            None => self.addresses.get(&hop.remote).copied(),
        }
    }

    /// The number of the next request of a peer's, which it writes into its branch.
    pub(crate) const fn next_request(&self) -> usize {
        self.requests.len()
    }

    /// A peer begins a request.
    pub(crate) fn begins(&mut self, begun: Begun) {
        self.requests.push(Request::new(begun));
        self.coverage.add(Count::Requests);
    }

    /// Somebody sends the credentials of a request as well: of both, those count that come first.
    pub(crate) fn is_overheard(&mut self, request: usize) -> Proof {
        let proof = &mut self.requests[request].proof;
        if matches!(proof, Proof::Honest { .. }) {
            *proof = Proof::Used;
        }
        *proof
    }

    /// A peer sends an ACK or a CANCEL with the branch of a request.
    pub(crate) fn follows_up(&mut self, request: usize, bytes: &Bytes) {
        let follow_ups = &mut self.requests[request].follow_ups;
        if !follow_ups.iter().any(|text| text.bytes() == bytes) {
            follow_ups.push(Text::read(bytes));
        }
    }

    /// The number of the next response of a peer's, which it writes into a row.
    pub(crate) const fn next_answer(&self) -> usize {
        self.said.len()
    }

    /// A peer has made a response.
    pub(crate) fn answers(&mut self, peer: usize, bytes: &Bytes, origin: Origin) {
        self.said.push(Said::new(peer, Text::read(bytes), origin));
    }

    /// The octets of a request, as its peer has sent them.
    pub(crate) fn octets_of(&self, request: usize) -> Bytes {
        self.requests[request].text.bytes().clone()
    }

    /// The branch of something that a Router has sent, for those who would answer in another's place.
    pub(crate) fn some_branch(&self, random: &mut Random) -> Option<String> {
        let branch = self.branches.get(random.below(self.branches.len()))?;
        branch.text.branch(0).map(str::to_owned)
    }

    /// The ends of the dialog that a response makes, as the caller sees them.
    pub(crate) fn ends_of_caller(&self, answer: usize) -> Ends {
        let said = &self.said[answer];
        let branch = said.branch.map(|at| &self.branches[at]).filter(|_| said.origin == Origin::Own);
        let life = branch.and_then(|branch| self.requests[branch.request].life(branch.incarnation));
        Ends {
            other: said.peer,
            process: self.process,
            near: life.map(|life| life.source),
            far: branch.map(|branch| branch.hop),
        }
    }

    /// The ends of the dialog that a request makes, as the callee sees them.
    pub(crate) fn ends_of_callee(&self, request: &Text, number: usize) -> Ends {
        let branch = request.branch(0).and_then(|branch| self.by_branch.get(branch));
        let branch =
            branch.map(|&at| &self.branches[at]).filter(|_| request.values(Header::Via).count() == 2);
        let life = branch.and_then(|branch| self.requests[branch.request].life(branch.incarnation));
        let (near, far) = (branch.map(|branch| branch.hop), life.map(|life| life.source));
        Ends { other: self.requests[number].peer, process: self.process, near, far }
    }

    /// Whether a flow is there.
    pub(super) fn is_live(&self, flow: &Flow) -> bool {
        match flow.connection {
            Some(connection) => self.live.contains(&connection),
            None => flow.transport == Transport::Udp,
        }
    }
}
