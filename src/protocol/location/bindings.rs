//! The table of bindings, with what finds them again: when they expire, and what they end with.
//!
//! [`Bindings::change`] is the only way in, so that neither the indices nor what is kept of the table beyond the
//! process can fall behind it; what comes from there enters by [`Bindings::restore`].

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

/// What takes bindings with it when it ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tie {
    Connection(ConnectionId),
    /// A stream's flow without a connection, until it turns out that none can be had.
    Dialled(Arc<Flow>),
}

impl Tie {
    /// That of a binding over `flow`; datagrams end with nothing.
    fn of(flow: &Arc<Flow>) -> Option<Self> {
        match flow.connection {
            Some(connection) => Some(Self::Connection(connection)),
            None => flow.is_dialled().then(|| Self::Dialled(Arc::clone(flow))),
        }
    }
}

/// How far a walk through all addresses-of-record has come, in the order in which they expire.
///
/// Whatever changes on the way counts as changed anyway, so that it does no harm if it moves ahead or behind.
#[derive(Clone, Debug)]
pub struct Walk {
    next: (Millis, AddressOfRecord),
    last: (Millis, AddressOfRecord),
}

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
    by_tie: BTreeSet<(Tie, AddressOfRecord)>,
    length: usize,
    /// Which have changed since somebody asked; some of them more than once.
    changed: Vec<AddressOfRecord>,
}

impl Bindings {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self {
            records: HashMap::with_hasher(hash),
            expiries: BTreeSet::new(),
            by_tie: BTreeSet::new(),
            length: 0,
            changed: Vec::new(),
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
        self.changed.push(name.clone());
        self.alter(name, change)
    }

    /// Adds what was kept of `name`, which is no change.
    pub(super) fn restore(&mut self, name: &AddressOfRecord, kept: BindingList) {
        self.alter(name, |list| list.extend(kept));
    }

    fn alter<R>(&mut self, name: &AddressOfRecord, change: impl FnOnce(&mut BindingList) -> R) -> R {
        let mut record = self.records.remove(name).unwrap_or_default();
        let before = ties(&record.bindings);
        self.length -= record.bindings.len();
        let result = change(&mut record.bindings);
        self.length += record.bindings.len();
        let after = ties(&record.bindings);
        for gone in before.iter().filter(|tie| !after.contains(tie)) {
            self.by_tie.remove(&(gone.clone(), name.clone()));
        }
        for new in after.iter().filter(|tie| !before.contains(tie)) {
            self.by_tie.insert((new.clone(), name.clone()));
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

    /// The addresses-of-record that have a binding with this tie.
    pub(super) fn tied_to(&self, tie: Tie) -> Vec<AddressOfRecord> {
        let from = (tie, AddressOfRecord::least());
        let tied = self.by_tie.range(&from..).take_while(|(tie, _)| *tie == from.0);
        tied.map(|(_, name)| name.clone()).collect()
    }

    /// How many addresses-of-record count as changed.
    pub(super) const fn changes(&self) -> usize {
        self.changed.len()
    }

    /// The addresses-of-record that have changed since the last call, each once.
    pub(super) fn take_changed(&mut self) -> Vec<AddressOfRecord> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// A walk through all that there are now; `None` where there are none.
    pub(super) fn walk(&self) -> Option<Walk> {
        Some(Walk { next: self.expiries.first()?.clone(), last: self.expiries.last()?.clone() })
    }

    /// Lets the next ones of a walk count as changed, `count` of them at most. The rest of the walk.
    pub(super) fn repeat(&mut self, walk: Walk, count: usize) -> Option<Walk> {
        let Walk { next, last } = walk;
        let mut ahead = self.expiries.range(&next..=&last);
        self.changed.extend(ahead.by_ref().take(count).map(|(_, name)| name.clone()));
        ahead.next().cloned().map(|next| Walk { next, last })
    }
}

fn ties(bindings: &[Binding]) -> SmallVec<[Tie; 2]> {
    bindings.iter().filter_map(|binding| Tie::of(&binding.flow)).collect()
}

#[cfg(test)]
impl Bindings {
    /// How many bindings each flow has; panics where an index does not say what the table says.
    pub(super) fn check(&self) -> std::collections::BTreeMap<Flow, u32> {
        let mut per_flow = std::collections::BTreeMap::new();
        let (mut expiries, mut by_tie) = (BTreeSet::new(), BTreeSet::new());
        for (name, record) in &self.records {
            expiries.insert((record.due.expect("no empty record stays"), name.clone()));
            assert_eq!(record.due, record.bindings.iter().map(|binding| binding.expires).min());
            for binding in &record.bindings {
                *per_flow.entry(*binding.flow).or_insert(0) += 1;
                by_tie.extend(Tie::of(&binding.flow).map(|tie| (tie, name.clone())));
            }
        }
        assert_eq!((&expiries, &by_tie), (&self.expiries, &self.by_tie));
        assert_eq!(self.length as u32, per_flow.values().sum::<u32>());
        per_flow
    }
}
