//! Which UC server has answered for which user: the first to be asked next time (product rule).

use std::collections::{BTreeMap, HashMap};

use super::AddressOfRecord;
use super::flows::ServerId;
use super::hash::KeyedHash;

/// The servers that were learned; bounded, the one that was not needed for longest is forgotten first.
///
/// A log-on has an identifier that never comes again, so what was learned of a server that has logged off leads
/// nowhere, without being looked for.
#[derive(Debug)]
pub(super) struct Learned {
    entries: HashMap<AddressOfRecord, Entry, KeyedHash>,
    /// By the time of the last use, which a count stands for.
    order: BTreeMap<u64, AddressOfRecord>,
    uses: u64,
    maximum: usize,
}

#[derive(Debug)]
struct Entry {
    server: ServerId,
    last_use: u64,
}

impl Learned {
    pub(super) fn new(maximum: usize, hash: KeyedHash) -> Self {
        Self { entries: HashMap::with_hasher(hash), order: BTreeMap::new(), uses: 0, maximum }
    }

    pub(super) fn learn(&mut self, name: &AddressOfRecord, server: ServerId) {
        self.forget(name);
        self.uses += 1;
        self.entries.insert(name.clone(), Entry { server, last_use: self.uses });
        self.order.insert(self.uses, name.clone());
        while self.entries.len() > self.maximum {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.entries.remove(&oldest);
        }
    }

    /// The server that was learned for `name`, as of now used.
    pub(super) fn server_of(&mut self, name: &AddressOfRecord) -> Option<ServerId> {
        let entry = self.entries.get_mut(name)?;
        self.uses += 1;
        self.order.remove(&entry.last_use);
        self.order.insert(self.uses, name.clone());
        entry.last_use = self.uses;
        Some(entry.server)
    }

    pub(super) fn forget(&mut self, name: &AddressOfRecord) {
        if let Some(entry) = self.entries.remove(name) {
            self.order.remove(&entry.last_use);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::uri::Uri;

    fn name(user: usize) -> AddressOfRecord {
        AddressOfRecord::from_uri(&Uri::parse(format!("sip:u{user}@a.test").as_bytes()).unwrap())
    }

    #[test]
    fn the_one_least_recently_asked_for_is_forgotten_first() {
        let mut learned = Learned::new(3, KeyedHash([7; 16]));
        let mut ids = ServerId::sequence();
        let server = ids.next().unwrap();
        for user in 0..3 {
            learned.learn(&name(user), server);
        }
        assert_eq!(learned.server_of(&name(0)), Some(server));
        learned.learn(&name(2), ids.next().unwrap());
        learned.learn(&name(3), server);
        assert_eq!(learned.server_of(&name(1)), None);
        assert_eq!(learned.server_of(&name(0)), Some(server));
        assert_ne!(learned.server_of(&name(2)), Some(server));
        assert_eq!((learned.entries.len(), learned.order.len()), (3, 3));
        learned.forget(&name(0));
        assert_eq!((learned.server_of(&name(0)), learned.order.len()), (None, 2));
    }
}
