//! Which flows have logged on, found by the flow, and by account and address.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::protocol::account::AccountId;
use crate::protocol::flow::{ConnectionId, Flow, InterfaceId, hash_peer};

/// A flow as far as standing goes: a connection, or both ends of a datagram's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FlowKey {
    Connection(ConnectionId),
    Datagram(InterfaceId, SocketAddr, IpAddr),
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match *self {
            Self::Connection(ConnectionId(id)) => state.write_u64(id),
            Self::Datagram(interface, remote, _) => hash_peer(interface, remote, state),
        }
    }
}

impl From<&Flow> for FlowKey {
    fn from(flow: &Flow) -> Self {
        match flow.connection {
            Some(connection) => Self::Connection(connection),
            None => Self::Datagram(flow.interface, flow.remote, flow.local.ip()),
        }
    }
}

/// As many as the Registrar keeps.
#[derive(Debug, Default)]
pub(super) struct Standings {
    by_flow: HashMap<FlowKey, (AccountId, Flow)>,
    by_peer: BTreeSet<(AccountId, IpAddr, FlowKey)>,
}

impl Standings {
    pub(super) fn insert(&mut self, flow: &Flow, account: AccountId) {
        self.remove(flow);
        let key = FlowKey::from(flow);
        self.by_flow.insert(key, (account, *flow));
        self.by_peer.insert((account, flow.remote.ip(), key));
    }

    pub(super) fn remove(&mut self, flow: &Flow) {
        let key = FlowKey::from(flow);
        if let Some((account, flow)) = self.by_flow.remove(&key) {
            self.by_peer.remove(&(account, flow.remote.ip(), key));
        }
    }

    pub(super) fn account_of(&self, flow: &Flow) -> Option<AccountId> {
        self.by_flow.get(&FlowKey::from(flow)).map(|&(account, _)| account)
    }

    /// The one connection of `account` from this address but for `other`; `None` where there are several.
    pub(super) fn only_connection(&self, account: AccountId, ip: IpAddr, other: &Flow) -> Option<Flow> {
        let [first, last] = [0, u64::MAX].map(|id| (account, ip, FlowKey::Connection(ConnectionId(id))));
        let same = self.by_peer.range(first..=last);
        let mut others = same.filter(|(_, _, key)| *key != FlowKey::from(other));
        let (_, _, key) = others.next().filter(|_| others.next().is_none())?;
        self.by_flow.get(key).map(|&(_, flow)| flow)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Flow, AccountId)> {
        self.by_flow.values().map(|&(account, flow)| (flow, account))
    }

    pub(super) fn retain(&mut self, test: impl Fn(&Flow, AccountId) -> bool) {
        let gone: Vec<_> = self.iter().filter(|(flow, account)| !test(flow, *account)).collect();
        gone.iter().for_each(|(flow, _)| self.remove(flow));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::network::Peer;
    use super::*;

    #[test]
    fn the_only_connection_of_an_account_from_an_address_is_found() {
        let (one, two) = (AccountId(1), AccountId(2));
        let (a, b, c) = (Peer::tcp(5070).0, Peer::tcp(5072).0, Peer::tcp(5074).0);
        let (elsewhere, datagrams) = (Peer::outside(5070).0, Peer::udp(5076).0);
        let mut standings = Standings::default();
        let ip = a.remote.ip();
        assert_eq!(standings.only_connection(one, ip, &c), None);
        standings.insert(&elsewhere, one);
        standings.insert(&datagrams, one);
        standings.insert(&b, two);
        standings.insert(&a, one);
        assert_eq!(standings.only_connection(one, ip, &c), Some(a));
        assert_eq!(standings.only_connection(one, ip, &a), None);
        standings.insert(&c, one);
        assert_eq!(standings.only_connection(one, ip, &b), None, "there are two");
        assert_eq!(standings.only_connection(one, ip, &c), Some(a));
        // Logged on anew as another account.
        standings.insert(&c, two);
        assert_eq!((standings.only_connection(one, ip, &b), standings.account_of(&c)), (Some(a), Some(two)));
        standings.retain(|_, account| account == two);
        assert_eq!((standings.only_connection(one, ip, &b), standings.account_of(&a)), (None, None));
        standings.remove(&b);
        standings.remove(&c);
        standings.remove(&datagrams);
        assert!(standings.iter().next().is_none() && standings.by_peer.is_empty());
    }
}
