//! Which connection a request may use that needs one (RFC 3261 §18, RFC 5923).
//!
//! In the clear a peer is where its address is. Under TLS it is who its certificate says: a connection is found for
//! a domain that this proves, whoever has opened it, and never for another. Who has shown no certificate is found by
//! the flow alone (RFC 5923 §8.2): it could have chosen the address and port at which somebody else is expected.

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::protocol::flow::{Flow, InterfaceId, Transport};
use crate::protocol::identity::{Expected, PeerProof, Profile};
use crate::protocol::interface::Side;

/// What a request that needs a connection asks for.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The side of the proxy that it is on.
    pub side: Side,
    /// Our interface.
    pub interface: InterfaceId,
    /// TCP or TLS: what can be dialled.
    pub transport: Transport,
    /// The peer's end, in the order of trying; never empty.
    pub addresses: SmallVec<[SocketAddr; 2]>,
    /// Who it has to be, under TLS.
    pub expected: Option<Arc<Expected>>,
    /// How it proves that.
    pub profile: Profile,
}

/// What connections are looked up by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// Whoever is there.
    Address(InterfaceId, Transport, SocketAddr),
    /// The server of this name and port, which we have dialled.
    Server(Side, Arc<str>, u16),
    /// The server of this domain, which we have dialled there: a peer may write its address into its Record-Route.
    Domain(Side, Arc<str>, SocketAddr),
    /// Who has connected to us and has this name in its certificate, lower case.
    Name(Side, Arc<str>),
}

/// Which requests find a connection. By default none.
#[derive(Clone, Debug, Default)]
pub struct Reuse {
    pub(super) keys: SmallVec<[Key; 2]>,
    /// For whom it is being opened.
    expected: Option<Arc<Expected>>,
    /// What it has proven.
    proof: Option<Arc<PeerProof>>,
}

impl Peer {
    /// The keys of the connections that may serve, the best first.
    pub(super) fn keys(&self) -> SmallVec<[Key; 4]> {
        let Some(expected) = &self.expected else { return self.address_keys().collect() };
        let server = Key::Server(self.side, Arc::clone(&expected.server_name), self.addresses[0].port());
        let domain = expected.domain.as_ref();
        let at = |domain: &Arc<str>| {
            let domain = Arc::clone(domain);
            self.addresses.iter().map(move |at| Key::Domain(self.side, Arc::clone(&domain), *at))
        };
        let names = [Some(&expected.server_name), domain].into_iter().flatten();
        let names = names.map(|name| Key::Name(self.side, Arc::clone(name)));
        [server].into_iter().chain(domain.into_iter().flat_map(at)).chain(names).collect()
    }

    fn address_keys(&self) -> impl Iterator<Item = Key> {
        self.addresses.iter().map(|address| Key::Address(self.interface, self.transport, *address))
    }
}

impl Reuse {
    /// Of a connection that is being opened: requests to the same peer share it.
    pub fn dialling(peer: &Peer) -> Self {
        let keys = match &peer.expected {
            Some(_) => peer.keys().into_iter().take(1).collect(),
            None => peer.address_keys().collect(),
        };
        Self { keys, expected: peer.expected.clone(), proof: None }
    }

    /// Of a connection to `peer` that has been opened, and is who it has to be.
    pub fn dialled(peer: &Peer, remote: SocketAddr, proof: Option<&Arc<PeerProof>>) -> Self {
        let mut reuse = Self { proof: proof.cloned(), ..Self::dialling(peer) };
        match peer.expected.as_ref().map(|expected| &expected.domain) {
            Some(Some(domain)) => reuse.keys.push(Key::Domain(peer.side, Arc::clone(domain), remote)),
            Some(None) => {}
            None => reuse.keys.retain(|key| matches!(key, Key::Address(.., address) if *address == remote)),
        }
        reuse
    }

    /// Of a connection in the clear that a peer has opened.
    pub fn accepted(flow: &Flow) -> Self {
        let key = Key::Address(flow.interface, flow.transport, flow.remote);
        let key = flow.transport.is_dialled().then_some(key);
        Self { keys: key.into_iter().collect(), ..Self::default() }
    }

    /// Of a connection under TLS that a peer has opened, and what it has proven.
    pub fn proven(side: Side, flow: &Flow, proof: Option<&Arc<PeerProof>>) -> Self {
        let Some(proof) = proof.filter(|_| flow.transport.is_dialled()) else { return Self::default() };
        let mut names: Vec<_> = proof.names.hosts_and_domains().map(str::to_ascii_lowercase).collect();
        names.sort_unstable();
        names.dedup();
        let mut keys: SmallVec<[Key; 2]> =
            names.into_iter().map(|name| Key::Name(side, name.into())).collect();
        if proof.vouchers.is_common && proof.names.has_address(flow.remote.ip()) {
            keys.push(Key::Address(flow.interface, flow.transport, flow.remote));
        }
        Self { keys, expected: None, proof: Some(Arc::clone(proof)) }
    }

    /// Whether a request to `peer`, which has found the connection by one of its keys, may use it.
    pub(super) fn serves(&self, peer: &Peer, key: &Key) -> bool {
        match (key, &peer.expected) {
            (Key::Address(..) | Key::Domain(..), _) | (_, None) => true,
            (Key::Server(..) | Key::Name(..), Some(expected)) => match &self.proof {
                Some(proof) => proof.is_expected(expected, peer.profile),
                None => self.expected.as_ref() == Some(expected),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::identity::{PeerNames, Vouchers};

    fn peer(server: &str, domain: Option<&str>, address: &str) -> Peer {
        let expected = Expected { server_name: server.into(), domain: domain.map(Into::into) };
        Peer {
            side: Side::Wan,
            interface: InterfaceId(1),
            transport: Transport::Tls,
            addresses: SmallVec::from_elem(address.parse().unwrap(), 1),
            expected: Some(Arc::new(expected)),
            profile: Profile::Federation,
        }
    }

    /// Of a peer's connection from 192.0.2.1.
    fn flow(transport: Transport) -> Flow {
        let (local, remote) = ("192.0.2.9:5060".parse().unwrap(), "192.0.2.1:5060".parse().unwrap());
        Flow { interface: InterfaceId(1), transport, local, remote, connection: None }
    }

    fn proof(names: &[&str]) -> Arc<PeerProof> {
        let names =
            PeerNames { dns: names.iter().map(|&name| name.to_owned()).collect(), ..PeerNames::default() };
        let vouchers = Vouchers { is_common: true, ..Vouchers::default() };
        Arc::new(PeerProof { account: None, names, vouchers })
    }

    fn finds(peer: &Peer, reuse: &Reuse) -> bool {
        peer.keys().iter().any(|key| reuse.keys.contains(key) && reuse.serves(peer, key))
    }

    #[test]
    fn whoever_has_connected_is_found_for_what_its_certificate_proves_alone() {
        let reuse = |names: &[&str]| Reuse::proven(Side::Wan, &flow(Transport::Tls), Some(&proof(names)));
        let at = "192.0.2.1:5061";
        let table: [(&[&str], Peer, bool); 8] = [
            (&["B.test"], peer("sip.host.test", Some("b.test"), at), true),
            (&["sip.b.test"], peer("sip.b.test", Some("b.test"), at), true),
            (&["sip.b.test"], peer("other.b.test", Some("b.test"), at), false),
            (&["sip.host.test"], peer("sip.host.test", Some("b.test"), at), false),
            (&["b.test"], peer("sip.b.test", Some("c.test"), at), false),
            (&["b.test", "c.test"], peer("sip.b.test", Some("c.test"), at), true),
            (&["*.b.test"], peer("sip.b.test", Some("b.test"), at), false),
            (&["sip.b.test"], peer("sip.b.test", None, at), true),
        ];
        for (names, wanted, expected) in table {
            assert_eq!(finds(&wanted, &reuse(names)), expected, "{names:?} {wanted:?}");
            let other_side = Peer { side: Side::Lan, ..wanted };
            assert!(!finds(&other_side, &reuse(names)));
        }
        let mut with_address = PeerProof::clone(&proof(&["b.test"]));
        with_address.names.addresses.push([192, 0, 2, 1].into());
        for (proof, expected) in [(Arc::new(with_address), true), (proof(&["b.test"]), false)] {
            let reuse = Reuse::proven(Side::Wan, &flow(Transport::Tls), Some(&proof));
            let whoever = Peer { expected: None, ..peer("", None, "192.0.2.1:5060") };
            assert_eq!(finds(&whoever, &reuse), expected);
        }
        let nobody = Reuse::proven(Side::Wan, &flow(Transport::Tls), None);
        assert!(!finds(&peer("b.test", Some("b.test"), at), &nobody));
        assert!(Reuse::proven(Side::Wan, &flow(Transport::Wss), Some(&proof(&["b.test"]))).keys.is_empty());
    }

    #[test]
    fn a_server_that_was_dialled_is_found_by_name_and_port_or_by_domain_and_address() {
        let (first, second) = ("192.0.2.1:5061", "192.0.2.2:5062");
        let dialled = peer("sip.b.test", Some("b.test"), first);
        let table = [
            (peer("sip.b.test", Some("b.test"), first), true, true),
            (peer("sip.b.test", Some("b.test"), "192.0.2.9:5061"), true, true),
            (peer("sip.b.test", Some("b.test"), second), false, false),
            (peer("sip.b.test", Some("c.test"), first), false, false),
            (peer("sip.b.test", None, first), false, true),
            (peer("b.test", Some("b.test"), first), false, true),
            (peer("b.test", Some("b.test"), second), false, false),
            (peer("c.test", Some("c.test"), first), false, false),
        ];
        let dialling = Reuse::dialling(&dialled);
        let open = Reuse::dialled(&dialled, first.parse().unwrap(), Some(&proof(&["sip.b.test"])));
        for (wanted, while_dialling, when_open) in table {
            assert_eq!(finds(&wanted, &dialling), while_dialling, "{wanted:?}");
            assert_eq!(finds(&wanted, &open), when_open, "{wanted:?}");
        }
    }

    #[test]
    fn without_a_name_a_peer_is_where_its_address_is() {
        let (first, second) = ("192.0.2.1:5060", "[2001:db8::1]:5060");
        let both = |transport| Peer {
            addresses: [first, second].map(|address| address.parse().unwrap()).into_iter().collect(),
            expected: None,
            transport,
            ..peer("", None, first)
        };
        let dialled = both(Transport::Tcp);
        let wanted =
            |address: &str| Peer { expected: None, transport: Transport::Tcp, ..peer("", None, address) };
        let dialling = Reuse::dialling(&dialled);
        let open = Reuse::dialled(&dialled, second.parse().unwrap(), None);
        let accepted = Reuse::accepted(&flow(Transport::Tcp));
        for (address, expected) in [(first, [true, false, true]), (second, [true, true, false])] {
            assert_eq!([&dialling, &open, &accepted].map(|reuse| finds(&wanted(address), reuse)), expected);
        }
        assert!(finds(&dialled, &open) && !finds(&both(Transport::Tls), &open));
        assert!(Reuse::accepted(&flow(Transport::Ws)).keys.is_empty());
    }
}
