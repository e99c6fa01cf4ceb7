//! The table of connections: how many there may be, and which leads to a peer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use actix::{Addr, Recipient};

use super::Directory;
use crate::actors::connection::{Announce, Connection};
use crate::actors::messages::Transmit;
use crate::protocol::flow::{ConnectionId, InterfaceId, Transport};
use crate::protocol::identity::Expected;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// With one address of the peer.
    pub per_address: usize,
}

/// What a request that needs a connection asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Our interface.
    pub interface: InterfaceId,
    /// TCP or TLS: what can be dialled.
    pub transport: Transport,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Who it has to be.
    pub expected: Option<Arc<Expected>>,
}

#[derive(Debug, Default)]
pub(super) struct Connections {
    open: HashMap<ConnectionId, Entry>,
    /// The newest connection to each peer, for requests that need one (RFC 3261 §18).
    by_peer: HashMap<Peer, ConnectionId>,
    per_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    remote: IpAddr,
    /// Where it stands in `by_peer`.
    peer: Option<Peer>,
    address: Option<Addr<Connection>>,
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
        if connections.open.len() >= self.limits.total {
            return Err(Refused::Total);
        }
        let of_address = connections.per_address.entry(remote).or_default();
        if *of_address >= self.limits.per_address {
            return Err(Refused::PerAddress);
        }
        *of_address += 1;
        let id = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        connections.open.insert(id, Entry { remote, peer: None, address: None });
        Ok(Admission { directory: Arc::clone(self), id })
    }

    /// How many connections are counted, those included that are being opened.
    pub fn connection_count(&self) -> usize {
        self.connections().open.len()
    }

    /// The newest connection that requests to `peer` may use.
    pub fn connection_to(&self, peer: &Peer) -> Option<Addr<Connection>> {
        let connections = self.connections();
        let id = connections.by_peer.get(peer)?;
        connections.open.get(id)?.address.clone()
    }

    /// The connection with this identifier.
    pub fn connection(&self, id: ConnectionId) -> Option<Recipient<Transmit>> {
        Some(self.connections().open.get(&id)?.address.clone()?.recipient())
    }

    /// Puts the address of a connection here, unless it has ended meanwhile. With `peer`, requests to that peer
    /// find it.
    pub fn publish_connection(&self, id: ConnectionId, address: Addr<Connection>, peer: Option<Peer>) {
        let mut connections = self.connections();
        if !connections.open.contains_key(&id) {
            return;
        }
        connections.forget_peer(id);
        if let Some(peer) = &peer {
            connections.by_peer.insert(peer.clone(), id);
        }
        if let Some(entry) = connections.open.get_mut(&id) {
            entry.address = Some(address);
            entry.peer = peer;
        }
    }

    /// Every open connection.
    #[cfg(test)]
    pub(in crate::actors) fn all_connections(&self) -> Vec<Addr<Connection>> {
        self.connections().open.values().filter_map(|entry| entry.address.clone()).collect()
    }

    /// Makes every open connection tell the Router `index` of itself.
    ///
    /// Messages of a connection may overtake that: a Router that meets a connection which it does not know finds
    /// it by [`Self::connection`].
    pub fn announce_connections(&self, index: usize) {
        let addresses: Vec<_> =
            self.connections().open.values().filter_map(|entry| entry.address.clone()).collect();
        for address in addresses {
            address.do_send(Announce { router: index });
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // No panic can happen between two changes that belong together, so a poisoned table is a sound one.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn forget_peer(&mut self, id: ConnectionId) {
        let peer = self.open.get_mut(&id).and_then(|entry| entry.peer.take());
        if let Some(peer) = peer
            && self.by_peer.get(&peer) == Some(&id)
        {
            self.by_peer.remove(&peer);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.forget_peer(id);
        let Some(entry) = self.open.remove(&id) else {
            return;
        };
        if let Some(count) = self.per_address.get_mut(&entry.remote) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&entry.remote);
            }
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
        drop((second, third, fourth));
        assert_eq!(directory.connection_count(), 0);
        assert!(directory.connections().per_address.is_empty());
    }
}
