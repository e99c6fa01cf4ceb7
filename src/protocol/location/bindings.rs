//! The table of bindings, with what finds them again: when they expire, the connection or flow that they came over,
//! and the temporary GRUUs that lead to them.
//!
//! [`Bindings::change`] is the only way in, so that the indices cannot fall behind the table.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::clock::Millis;
use super::contact::{Details, Identity};
use super::gruu::Series;
use super::hash::KeyedHash;
use super::{AddressOfRecord, InstanceId, Target};
use crate::protocol::account::AccountId;
use crate::protocol::flow::{ConnectionId, Flow, Transport};
use crate::protocol::message::uri::{Host, Uri};

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
    /// Boxed, since few have any.
    pub(super) details: Option<Box<Details>>,
}

impl Binding {
    pub(super) fn target(&self) -> Target {
        Target {
            uri: self.contact.clone(),
            path: self.path.to_vec(),
            q: self.q,
            flow: *self.flow,
            account: self.account,
            is_flow: self.is_of_flow(),
            alternatives: Vec::new(),
        }
    }

    pub(super) fn identity(&self) -> Identity<'_> {
        Identity { uri: &self.contact, details: self.details.as_deref() }
    }

    /// The user agent, if it has said which it is.
    pub(super) fn instance(&self) -> Option<&InstanceId> {
        self.details.as_ref()?.instance.as_ref()
    }

    pub(super) fn reg_id(&self) -> Option<NonZeroU32> {
        self.details.as_ref()?.reg_id
    }

    /// Whether it binds a flow rather than an address (RFC 5626 §6).
    pub(super) fn is_flow(&self) -> bool {
        self.reg_id().is_some()
    }

    /// Whether it leads over its flow of datagrams and no other way: it binds the flow, or a contact that has another
    /// address than its flow shows a NAT between (RFC 5626 §1).
    pub(super) fn is_of_flow(&self) -> bool {
        let is_elsewhere = |uri: Uri<'_>| match uri.host {
            Host::Address(ip) => ip != self.flow.remote.ip(),
            Host::Name(_) => false,
        };
        let may_be_behind_nat = self.flow.transport == Transport::Udp && self.path.is_empty();
        self.is_flow() || (may_be_behind_nat && Uri::parse(&self.contact).is_ok_and(is_elsewhere))
    }

    pub(super) fn series(&self) -> Option<Series> {
        self.details.as_ref()?.series
    }
}

/// The bindings of one address-of-record, in the order in which they were last refreshed. Nearly always one.
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
    /// What ends with a flow of datagrams.
    by_datagrams: BTreeSet<(Arc<Flow>, AddressOfRecord)>,
    by_series: HashMap<Series, AddressOfRecord, KeyedHash>,
    length: usize,
}

/// What finds an address-of-record again, beside its name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Connection(ConnectionId),
    Datagrams(Arc<Flow>),
    Series(Series),
}

impl Bindings {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self {
            records: HashMap::with_hasher(hash),
            expiries: BTreeSet::new(),
            by_connection: BTreeSet::new(),
            by_datagrams: BTreeSet::new(),
            by_series: HashMap::with_hasher(hash),
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
        let before = keys(&record.bindings);
        self.length -= record.bindings.len();
        let result = change(&mut record.bindings);
        self.length += record.bindings.len();
        let after = keys(&record.bindings);
        for gone in before.iter().filter(|key| !after.contains(key)) {
            self.forget(gone, name);
        }
        for new in after.iter().filter(|key| !before.contains(key)) {
            self.remember(new, name);
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

    fn remember(&mut self, key: &Key, name: &AddressOfRecord) {
        match key {
            Key::Connection(id) => _ = self.by_connection.insert((*id, name.clone())),
            Key::Datagrams(flow) => _ = self.by_datagrams.insert((Arc::clone(flow), name.clone())),
            Key::Series(series) => _ = self.by_series.insert(*series, name.clone()),
        }
    }

    fn forget(&mut self, key: &Key, name: &AddressOfRecord) {
        match key {
            Key::Connection(id) => _ = self.by_connection.remove(&(*id, name.clone())),
            Key::Datagrams(flow) => _ = self.by_datagrams.remove(&(Arc::clone(flow), name.clone())),
            Key::Series(series) => _ = self.by_series.remove(series),
        }
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

    /// The addresses-of-record that have bound this flow of datagrams (RFC 5626 §7).
    pub(super) fn over_datagrams(&self, flow: &Flow) -> Vec<AddressOfRecord> {
        let from = (Arc::new(*flow), AddressOfRecord::least());
        self.by_datagrams
            .range(from..)
            .take_while(|(of, _)| **of == *flow)
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// The address-of-record whose temporary GRUUs these are.
    pub(super) fn owner_of(&self, series: Series) -> Option<&AddressOfRecord> {
        self.by_series.get(&series)
    }
}

fn keys(bindings: &[Binding]) -> SmallVec<[Key; 2]> {
    let mut keys = SmallVec::new();
    for binding in bindings {
        let flow = match binding.flow.connection {
            Some(id) => Some(Key::Connection(id)),
            None => binding.is_of_flow().then(|| Key::Datagrams(Arc::clone(&binding.flow))),
        };
        keys.extend(flow.into_iter().chain(binding.series().map(Key::Series)));
    }
    keys
}

#[cfg(test)]
impl Bindings {
    /// How many bindings each flow has; panics where an index does not say what the table says.
    pub(super) fn check(&self) -> std::collections::BTreeMap<Flow, u32> {
        let mut per_flow = std::collections::BTreeMap::new();
        let (mut expiries, mut keys) = (BTreeSet::new(), Vec::new());
        for (name, record) in &self.records {
            expiries.insert((record.due.expect("no empty record stays"), name.clone()));
            assert_eq!(record.due, record.bindings.iter().map(|binding| binding.expires).min());
            for binding in &record.bindings {
                *per_flow.entry(*binding.flow).or_insert(0) += 1;
                let same =
                    |other: &&Binding| binding.instance().is_some() && other.instance() == binding.instance();
                assert!(record.bindings.iter().filter(same).all(|other| other.series() == binding.series()));
            }
            keys.extend(self::keys(&record.bindings).into_iter().map(|key| (key, name.clone())));
        }
        let mut rebuilt = Self::new(*self.records.hasher());
        for (key, name) in &keys {
            rebuilt.remember(key, name);
        }
        assert_eq!((&expiries, &rebuilt.by_connection), (&self.expiries, &self.by_connection));
        assert_eq!((&rebuilt.by_datagrams, &rebuilt.by_series), (&self.by_datagrams, &self.by_series));
        assert_eq!(self.length as u32, per_flow.values().sum::<u32>());
        per_flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_few_bindings_have_costs_the_others_little() {
        assert_eq!(size_of::<Binding>(), 104);
        assert!(size_of::<Details>() <= 64);
    }
}
