//! The table of connections: how many there may be, and which leads to a peer.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use actix::{Addr, Recipient};
use smallvec::SmallVec;

use super::Directory;
use super::reuse::{Key, Peer, Reuse};
use crate::actors::connection::{Announce, Connection, Reconfigure};
use crate::actors::messages::Transmit;
use crate::protocol::flow::{ConnectionId, Flow};
use crate::protocol::identity::PeerProof;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// With one address of the peer.
    pub per_address: usize,
}

#[derive(Debug)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    /// Sorted, so that a look at all of them can be taken in pieces.
    open: BTreeMap<ConnectionId, Entry>,
    /// For requests that need one; the newest last.
    by_key: HashMap<Key, SmallVec<[ConnectionId; 1]>>,
    per_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    remote: IpAddr,
    /// Where it stands in `by_key`.
    reuse: Reuse,
    address: Option<Addr<Connection>>,
    established: Option<Box<Established>>,
}

/// What is known of a connection that carries SIP.
#[derive(Clone, Debug)]
pub struct Established {
    /// Its two ends.
    pub flow: Flow,
    /// Whether the peer has opened it.
    pub is_incoming: bool,
    /// What the peer has proven by its certificate.
    pub proof: Option<Arc<PeerProof>>,
    /// When it was ready.
    pub since: Instant,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `limits.maximum_connections`.
    Total,
    /// `limits.maximum_connections_per_address`.
    PerAddress,
}

/// The connections.
impl Directory {
    /// Lets a connection with `remote` in, where the limits allow it. It counts until the [`Admission`] is dropped.
    pub fn open_connection(self: &Arc<Self>, remote: IpAddr) -> Result<Admission, Refused> {
        let mut connections = self.connections();
        let limits = connections.limits;
        if connections.open.len() >= limits.total {
            return Err(Refused::Total);
        }
        let of_address = connections.per_address.entry(remote).or_default();
        if *of_address >= limits.per_address {
            return Err(Refused::PerAddress);
        }
        *of_address += 1;
        let id = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        connections
            .open
            .insert(id, Entry { remote, reuse: Reuse::default(), address: None, established: None });
        Ok(Admission { directory: Arc::clone(self), id })
    }

    /// From now on, there may be so many. Those that are open stay.
    pub fn limit_connections(&self, limits: ConnectionLimits) {
        self.connections().limits = limits;
    }

    /// Tells every open connection that the configuration has changed.
    pub fn reconfigure_connections(&self, new: &Reconfigure) {
        self.all_connections().iter().for_each(|address| address.do_send(new.clone()));
    }

    /// How many connections are counted, those included that are being opened.
    pub fn connection_count(&self) -> usize {
        self.connections().open.len()
    }

    /// The newest connection that requests to `peer` may use.
    pub fn connection_to(&self, peer: &Peer) -> Option<Addr<Connection>> {
        let connections = self.connections();
        peer.keys().iter().find_map(|key| connections.find(peer, key))
    }

    /// The connection with this identifier.
    pub fn connection(&self, id: ConnectionId) -> Option<Recipient<Transmit>> {
        Some(self.connections().open.get(&id)?.address.clone()?.recipient())
    }

    /// Puts the address of a connection here, unless it has ended meanwhile. `reuse` says who finds it from now on.
    pub fn publish_connection(&self, id: ConnectionId, address: Addr<Connection>, reuse: Reuse) {
        let mut connections = self.connections();
        if !connections.open.contains_key(&id) {
            return;
        }
        connections.forget_peer(id);
        for key in &reuse.keys {
            connections.by_key.entry(key.clone()).or_default().push(id);
        }
        if let Some(entry) = connections.open.get_mut(&id) {
            entry.address = Some(address);
            entry.reuse = reuse;
        }
    }

    /// From now on administrators see the connection.
    pub fn note_established(&self, id: ConnectionId, established: Established) {
        if let Some(entry) = self.connections().open.get_mut(&id) {
            entry.established = Some(Box::new(established));
        }
    }

    /// The next connections behind `after`, those included that are not established yet; `count` at most, so that
    /// nobody who opens or closes one waits for long. Empty at the end.
    pub fn connections_behind(
        &self,
        after: Option<ConnectionId>,
        count: usize,
    ) -> Vec<(ConnectionId, Option<Established>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let connections = self.connections();
        let behind = connections.open.range((from, Bound::Unbounded)).take(count);
        behind.map(|(id, entry)| (*id, entry.established.as_deref().cloned())).collect()
    }

    /// Every open connection.
    pub(in crate::actors) fn all_connections(&self) -> Vec<Addr<Connection>> {
        self.connections().open.values().filter_map(|entry| entry.address.clone()).collect()
    }

    /// Makes every open connection tell the Router `index` of itself.
    ///
    /// Messages of a connection may overtake that: a Router that meets a connection which it does not know finds
    /// it by [`Self::connection`].
    pub fn announce_connections(&self, index: usize) {
        for address in self.all_connections() {
            address.do_send(Announce { router: index });
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // No panic can happen between two changes that belong together, so a poisoned table is a sound one.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    /// None yet.
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, open: BTreeMap::new(), by_key: HashMap::new(), per_address: HashMap::new() }
    }

    fn find(&self, peer: &Peer, key: &Key) -> Option<Addr<Connection>> {
        let entries = self.by_key.get(key)?.iter().rev().filter_map(|id| self.open.get(id));
        entries.filter(|entry| entry.reuse.serves(peer, key)).find_map(|entry| entry.address.clone())
    }

    fn forget_peer(&mut self, id: ConnectionId) {
        let reuse = self.open.get_mut(&id).map(|entry| std::mem::take(&mut entry.reuse));
        for key in reuse.into_iter().flat_map(|reuse| reuse.keys) {
            if let Some(ids) = self.by_key.get_mut(&key) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
    }

    /// Counts the connection with `remote` from now on, as one of the addresses that it was opened for.
    fn move_to(&mut self, id: ConnectionId, remote: IpAddr) {
        if let Some(entry) = self.open.get_mut(&id) {
            let before = std::mem::replace(&mut entry.remote, remote);
            *self.per_address.entry(remote).or_default() += 1;
            self.uncount(before);
        }
    }

    fn uncount(&mut self, remote: IpAddr) {
        if let Some(count) = self.per_address.get_mut(&remote) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&remote);
            }
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.forget_peer(id);
        if let Some(entry) = self.open.remove(&id) {
            self.uncount(entry.remote);
        }
    }
}

/// A connection's place in the table; dropping it gives the place back.
#[derive(Debug)]
pub struct Admission {
    directory: Arc<Directory>,
    id: ConnectionId,
}

impl Admission {
    /// The identifier that the connection has.
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The peer has turned out to be at `remote`: the connection counts there.
    pub fn move_to(&self, remote: IpAddr) {
        self.directory.connections().move_to(self.id, remote);
    }

    /// Keeps new requests off: the connection is found by its identifier alone from now on.
    pub fn forget_peer(&self) {
        self.directory.connections().forget_peer(self.id);
    }

    /// Gives the place back: from now on nobody finds the connection.
    pub fn end(&self) {
        self.directory.connections().close(self.id);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(cores: usize, total: usize, per_address: usize) -> Arc<Directory> {
        Arc::new(Directory::new(cores, 1, ConnectionLimits { total, per_address }, [7; 16]))
    }

    #[test]
    fn connections_are_counted_until_they_end() {
        let directory = directory(1, 3, 2);
        let [one, two]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let first = directory.open_connection(one).unwrap();
        let second = directory.open_connection(one).unwrap();
        assert_ne!(first.id(), second.id());
        assert_eq!(directory.open_connection(one).unwrap_err(), Refused::PerAddress);
        let third = directory.open_connection(two).unwrap();
        assert_eq!(directory.open_connection(two).unwrap_err(), Refused::Total);
        drop(first);
        assert_eq!(directory.connection_count(), 2);
        let fourth = directory.open_connection(one).unwrap();
        fourth.move_to(two);
        assert_eq!(directory.connections().per_address, HashMap::from([(one, 1), (two, 2)]));
        drop((second, third, fourth));
        assert_eq!(directory.connection_count(), 0);
        assert!(directory.connections().per_address.is_empty());
    }
}
