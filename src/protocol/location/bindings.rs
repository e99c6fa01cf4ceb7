//! The table of bindings, with what finds them again: when they expire, and the connection that they came over.
//!
//! [`Bindings::change`] is the only way in, so that the indices cannot fall behind the table.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::clock::Millis;
use super::hash::KeyedHash;
use super::{AddressOfRecord, Target};
use crate::protocol::account::AccountId;
use crate::protocol::flow::{ConnectionId, Flow};

/// A contact address of an address-of-record, valid until it expires (RFC 3261 §10).
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) contact: Bytes,
    /// With `cseq`, which request this comes from (§10.2.4).
    pub(super) call_id: Box<[u8]>,
    pub(super) path: Box<[Bytes]>,
    pub(super) flow: Arc<Flow>,
    pub(super) expires: Millis,
    pub(super) cseq: u32,
    pub(super) q: u16,
    pub(super) account: Option<AccountId>,
}

impl Binding {
    pub(super) fn target(&self) -> Target {
        Target {
            uri: self.contact.clone(),
            path: self.path.to_vec(),
            q: self.q,
            flow: *self.flow,
            account: self.account,
        }
    }
}

/// The bindings of one address-of-record, older ones first. Nearly always one.
pub(super) type BindingList = SmallVec<[Binding; 1]>;

#[derive(Debug, Default)]
struct Record {
    bindings: BindingList,
    /// When the first of them expires: its place in `Bindings::expiries`.
    due: Option<Millis>,
}

#[derive(Debug)]
pub(super) struct Bindings {
    records: HashMap<AddressOfRecord, Record, KeyedHash>,
    /// One entry per record, so that refreshing often costs no memory.
    expiries: BTreeSet<(Millis, AddressOfRecord)>,
    /// What a closed connection takes with it.
    by_connection: BTreeSet<(ConnectionId, AddressOfRecord)>,
    length: usize,
}

impl Bindings {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self {
            records: HashMap::with_hasher(hash),
            expiries: BTreeSet::new(),
            by_connection: BTreeSet::new(),
            length: 0,
        }
    }

    /// How many bindings there are.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// The bindings of `name`, those included that have expired and are not removed yet.
    pub(super) fn get(&self, name: &AddressOfRecord) -> &[Binding] {
        self.records.get(name).map_or(&[], |record| &record.bindings)
    }

    /// Lets `change` have the bindings of `name`, and sees to the indices afterwards.
    pub(super) fn change<R>(
        &mut self,
        name: &AddressOfRecord,
        change: impl FnOnce(&mut BindingList) -> R,
    ) -> R {
        let mut record = self.records.remove(name).unwrap_or_default();
        let before = connections(&record.bindings);
        self.length -= record.bindings.len();
        let result = change(&mut record.bindings);
        self.length += record.bindings.len();
        let after = connections(&record.bindings);
        for gone in before.iter().filter(|id| !after.contains(id)) {
            self.by_connection.remove(&(*gone, name.clone()));
        }
        for new in after.iter().filter(|id| !before.contains(id)) {
            self.by_connection.insert((*new, name.clone()));
        }
        let due = record.bindings.iter().map(|binding| binding.expires).min();
        if due != record.due {
            self.reschedule(name, record.due, due);
            record.due = due;
        }
        if due.is_some() {
            self.records.insert(name.clone(), record);
        } else if self.records.is_empty() {
            self.records.shrink_to_fit();
        }
        result
    }

    fn reschedule(&mut self, name: &AddressOfRecord, from: Option<Millis>, to: Option<Millis>) {
        if let Some(from) = from {
            self.expiries.remove(&(from, name.clone()));
        }
        if let Some(to) = to {
            self.expiries.insert((to, name.clone()));
        }
    }

    /// The address-of-record whose binding expires first, and when that is.
    pub(super) fn first_due(&self) -> Option<&(Millis, AddressOfRecord)> {
        self.expiries.first()
    }

    /// The addresses-of-record that have a binding over this connection.
    pub(super) fn over_connection(&self, id: ConnectionId) -> Vec<AddressOfRecord> {
        let from = (id, AddressOfRecord::least());
        self.by_connection
            .range(from..)
            .take_while(|(of, _)| *of == id)
            .map(|(_, name)| name.clone())
            .collect()
    }
}

fn connections(bindings: &[Binding]) -> SmallVec<[ConnectionId; 2]> {
    bindings.iter().filter_map(|binding| binding.flow.connection).collect()
}

#[cfg(test)]
impl Bindings {
    /// How many bindings each flow has; panics where an index does not say what the table says.
    pub(super) fn check(&self) -> std::collections::BTreeMap<Flow, u32> {
        let mut per_flow = std::collections::BTreeMap::new();
        let (mut expiries, mut by_connection) = (BTreeSet::new(), BTreeSet::new());
        for (name, record) in &self.records {
            expiries.insert((record.due.expect("no empty record stays"), name.clone()));
            assert_eq!(record.due, record.bindings.iter().map(|binding| binding.expires).min());
            for binding in &record.bindings {
                *per_flow.entry(*binding.flow).or_insert(0) += 1;
                by_connection.extend(binding.flow.connection.map(|id| (id, name.clone())));
            }
        }
        assert_eq!((&expiries, &by_connection), (&self.expiries, &self.by_connection));
        assert_eq!(self.length as u32, per_flow.values().sum::<u32>());
        per_flow
    }
}
