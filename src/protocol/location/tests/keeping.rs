//! What is kept of bindings, and what comes back of it.

mod redialling;
mod restoring;
mod telling;

use std::collections::BTreeMap;

use super::*;
use crate::protocol::interface::{Interface, Interfaces, Side};

/// A time of the wall clock: milliseconds since the Unix epoch.
const UNIX: u64 = 1_800_000_000_000;

/// What somebody has who keeps all changes.
pub(super) type Store = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) fn interfaces() -> Interfaces {
    of([(Side::Lan, Transport::Udp, "10.0.0.1:5060"), (Side::Lan, Transport::Tls, "10.0.0.1:5061")])
}

fn of<const N: usize>(list: [(Side, Transport, &str); N]) -> Interfaces {
    let interface = |(id, (side, transport, bound)): (u16, (Side, Transport, &str))| Interface {
        id: InterfaceId(id),
        side,
        transport,
        bound: bound.parse().unwrap(),
        public: None,
    };
    Interfaces::new((0..).zip(list).map(interface).collect(), vec!["10.0.0.1".parse().unwrap()])
}

impl Fixture {
    pub(super) fn unix_millis(&self) -> u64 {
        UNIX + u64::try_from((self.now - self.epoch).as_millis()).unwrap()
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, unix_millis: self.unix_millis() }
    }

    /// The addresses-of-record that have changed since the last call.
    fn changed(&mut self) -> Vec<String> {
        let changes = self.location.take_changes(self.moment());
        let name = |entry| String::from_utf8(Changes::split(entry).unwrap().0.to_vec()).unwrap();
        changes.entries().map(name).collect()
    }

    pub(super) fn keep(&mut self, store: &mut Store) {
        let changes = self.location.take_changes(self.moment());
        for entry in changes.entries() {
            match Changes::split(entry).unwrap() {
                (name, []) => store.remove(name),
                (name, value) => store.insert(name.to_vec(), value.to_vec()),
            };
        }
    }

    /// Everything, as it is told to a new segment.
    pub(super) fn everything(&mut self) -> Store {
        let (mut store, mut walk) = (Store::new(), self.location.walk());
        while let Some(rest) = walk {
            walk = self.location.repeat(rest, 3);
            self.keep(&mut store);
        }
        store
    }

    /// Another location service that begins with what is kept, after `away`.
    fn restarted(
        store: &Store,
        away: Duration,
        interfaces: &Interfaces,
        change: impl FnOnce(&mut LocationSettings),
    ) -> (Self, Restored) {
        let mut at = with(change);
        let unix_millis = UNIX + u64::try_from(away.as_millis()).unwrap();
        let restored = at.restore(store, unix_millis, interfaces, &|_| false);
        (at, restored)
    }

    pub(super) fn restore(
        &mut self,
        store: &Store,
        unix_millis: u64,
        interfaces: &Interfaces,
        is_open: &dyn Fn(ConnectionId) -> bool,
    ) -> Restored {
        let (mut restored, moment) = (Restored::default(), Moment { now: self.now, unix_millis });
        let around = Surroundings { interfaces, is_open };
        for (name, value) in store {
            self.location.restore(moment, name, value, &around, &mut restored);
        }
        self.location.flows.check(self.location.bindings.check());
        assert!(self.location.take_changes(moment).is_empty(), "what comes back is no change");
        restored
    }
}

/// What is kept of one user, whom `account` has registered over `flow` with this contact.
fn kept(account: AccountId, to: &str, flow: Flow, rows: &[&str]) -> Store {
    let (mut at, mut store) = (new(), Store::new());
    assert_eq!(at.register(flow, registration(account, to, "c", 7, rows)).status, 200);
    at.keep(&mut store);
    store
}

fn tls(id: u64) -> Flow {
    let local = "10.0.0.1:5061".parse().unwrap();
    Flow { interface: InterfaceId(1), transport: Transport::Tls, local, ..tcp(id) }
}

fn dialled(transport: Transport, remote: &str) -> Flow {
    let base = if transport == Transport::Tls { tls(1) } else { tcp(1) };
    Flow { connection: None, remote: remote.parse().unwrap(), ..base }
}

const ALICE: &str = "sip:alice@a.test";
