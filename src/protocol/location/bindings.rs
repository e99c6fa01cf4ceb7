//! The table of bindings, with what finds them again: when they expire, what they end with, and the temporary GRUUs
//! that lead to them.
//!
//! [`Bindings::change`] is the only way in, so that neither the indices nor what is kept of the table beyond the
//! process can fall behind it; what comes from there enters by [`Bindings::restore`].

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use smallvec::SmallVec;

use super::AddressOfRecord;
pub(super) use super::binding::{Binding, Terms};
use super::clock::Millis;
use super::gruu::Series;
use super::hash::KeyedHash;
use crate::protocol::flow::{ConnectionId, Flow};

/// The bindings of one address-of-record, in the order in which they were last refreshed. Nearly always one.
pub(super) type BindingList = SmallVec<[Binding; 1]>;

/// What takes bindings with it when it ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tie {
    Connection(ConnectionId),
    /// A stream's flow without a connection, until it turns out that none can be had.
    Dialled(Arc<Flow>),
    /// A flow of datagrams beside which there is no other way, until nothing arrives over it any more (RFC 5626 §7).
    Datagrams(Arc<Flow>),
}

impl Tie {
    /// That of a binding; one to an address for datagrams ends with nothing.
    fn of(binding: &Binding) -> Option<Self> {
        let flow = &binding.flow;
        match flow.connection {
            Some(connection) => Some(Self::Connection(connection)),
            None if flow.is_dialled() => Some(Self::Dialled(Arc::clone(flow))),
            None => binding.is_of_flow().then(|| Self::Datagrams(Arc::clone(flow))),
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

/// Names of one shard.
#[derive(Debug)]
pub(super) struct Names<'a> {
    pub(super) names: Vec<&'a AddressOfRecord>,
    /// Whether there are more.
    pub(super) is_cut: bool,
}

#[derive(Debug, Default)]
struct Record {
    bindings: BindingList,
    /// Its place in `Indices::expiries`: not behind the time at which the first of them expires. Zero before there are
    /// any.
    due: Millis,
}

/// Maps among which the records are spread: one that doubles moves this share of them, so that nobody waits while a
/// million are moved.
const SHARDS: usize = 256;

/// Boxed, so that the room which a map keeps free is small.
type Records = HashMap<AddressOfRecord, Box<Record>, KeyedHash>;

#[derive(Debug)]
pub(super) struct Bindings {
    records: Box<[Records]>,
    indices: Indices,
    length: usize,
    /// Which have changed since somebody asked; some of them more than once.
    changed: Vec<AddressOfRecord>,
    /// Whether there may be a walk that has not come to its end.
    is_walked: bool,
}

/// What finds addresses-of-record again.
#[derive(Debug)]
struct Indices {
    /// One entry per record. Refreshing leaves it where it is: [`Bindings::postpone`] puts it back when its time has come.
    expiries: BTreeSet<(Millis, AddressOfRecord)>,
    by_tie: BTreeSet<(Tie, AddressOfRecord)>,
    by_series: HashMap<Series, AddressOfRecord, KeyedHash>,
}

/// What finds an address-of-record again, beside its name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Tie(Tie),
    Series(Series),
}

impl Bindings {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self {
            records: (0..SHARDS).map(|_| HashMap::with_hasher(hash)).collect(),
            indices: Indices::new(hash),
            length: 0,
            changed: Vec::new(),
            is_walked: false,
        }
    }

    /// How many bindings there are.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// The bindings of `name`, those included that have expired and are not removed yet.
    pub(super) fn get(&self, name: &AddressOfRecord) -> &[Binding] {
        self.records[self.shard(name)].get(name).map_or(&[], |record| &record.bindings)
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
        let shard = self.shard(name);
        let records = &mut self.records[shard];
        let record = records.entry(name.clone()).or_default();
        let before = keys(&record.bindings);
        self.length -= record.bindings.len();
        let result = change(&mut record.bindings);
        self.length += record.bindings.len();
        let due = record.bindings.iter().map(|binding| binding.expires).min();
        self.indices.settle(name, &before, &keys(&record.bindings));
        match due {
            Some(due) if record.due != 0 && due >= record.due => {}
            Some(due) => {
                self.indices.reschedule(name, record.due, Some(due));
                record.due = due;
            }
            None => {
                self.indices.reschedule(name, record.due, None);
                records.remove(name);
                if records.is_empty() {
                    records.shrink_to_fit();
                }
            }
        }
        result
    }

    /// How many addresses-of-record there are.
    pub(super) fn names(&self) -> usize {
        self.indices.expiries.len()
    }

    /// The first names of a shard behind `after`, in their order, `count` at most; `None` where there is no such shard.
    pub(super) fn names_of(
        &self,
        shard: usize,
        after: Option<&AddressOfRecord>,
        count: usize,
    ) -> Option<Names<'_>> {
        let records = self.records.get(shard)?;
        let mut names: Vec<_> =
            records.keys().filter(|name| after.is_none_or(|after| *name > after)).collect();
        let is_cut = names.len() > count;
        if is_cut {
            names.select_nth_unstable(count);
            names.truncate(count);
        }
        names.sort_unstable();
        Some(Names { names, is_cut })
    }

    /// Apart from what the maps themselves go by: their places are the lowest bits of the hash, their marks the highest.
    pub(super) fn shard(&self, name: &AddressOfRecord) -> usize {
        let hash = self.records[0].hasher().hash_one(name.as_bytes());
        (hash >> 32) as usize % SHARDS
    }

    /// Puts `name` where it belongs in the order of expiring, of which it has become the first by not being moved.
    pub(super) fn postpone(&mut self, name: &AddressOfRecord) {
        let shard = self.shard(name);
        let Some(record) = self.records[shard].get_mut(name) else { return };
        let Some(due) = record.bindings.iter().map(|binding| binding.expires).min() else { return };
        if due != record.due {
            self.indices.reschedule(name, record.due, Some(due));
            record.due = due;
            if self.is_walked {
                self.changed.push(name.clone());
            }
        }
    }

    /// The address-of-record that may have a binding which expires before all others, and when that would be.
    pub(super) fn first_due(&self) -> Option<&(Millis, AddressOfRecord)> {
        self.indices.expiries.first()
    }

    /// The addresses-of-record that have a binding with this tie.
    pub(super) fn tied_to(&self, tie: Tie) -> Vec<AddressOfRecord> {
        let from = (tie, AddressOfRecord::least());
        let tied = self.indices.by_tie.range(&from..).take_while(|(tie, _)| *tie == from.0);
        tied.map(|(_, name)| name.clone()).collect()
    }

    /// The addresses-of-record that have a binding which `test` accepts. Looks at all that there are.
    pub(super) fn having(&self, test: impl Fn(&AddressOfRecord, &Binding) -> bool) -> Vec<AddressOfRecord> {
        let all = self.records.iter().flatten();
        let mut names: Vec<_> = all
            .filter(|(name, record)| record.bindings.iter().any(|binding| test(name, binding)))
            .map(|(name, _)| name.clone())
            .collect();
        names.sort_unstable();
        names
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
    pub(super) fn walk(&mut self) -> Option<Walk> {
        let expiries = &self.indices.expiries;
        let walk = Walk { next: expiries.first()?.clone(), last: expiries.last()?.clone() };
        self.is_walked = true;
        Some(walk)
    }

    /// Lets the next ones of a walk count as changed, `count` of them at most. The rest of the walk.
    pub(super) fn repeat(&mut self, walk: Walk, count: usize) -> Option<Walk> {
        let Walk { next, last } = walk;
        let mut ahead = self.indices.expiries.range(&next..=&last);
        self.changed.extend(ahead.by_ref().take(count).map(|(_, name)| name.clone()));
        let next = ahead.next().cloned();
        self.is_walked = next.is_some();
        Some(Walk { next: next?, last })
    }

    /// The address-of-record whose temporary GRUUs these are.
    pub(super) fn owner_of(&self, series: Series) -> Option<&AddressOfRecord> {
        self.indices.by_series.get(&series)
    }
}

impl Indices {
    fn new(hash: KeyedHash) -> Self {
        Self { expiries: BTreeSet::new(), by_tie: BTreeSet::new(), by_series: HashMap::with_hasher(hash) }
    }

    /// `name` is found by the keys `after` in place of those `before`.
    fn settle(&mut self, name: &AddressOfRecord, before: &[Key], after: &[Key]) {
        for gone in before.iter().filter(|key| !after.contains(key)) {
            match gone {
                Key::Tie(tie) => _ = self.by_tie.remove(&(tie.clone(), name.clone())),
                Key::Series(series) => _ = self.by_series.remove(series),
            }
        }
        for new in after.iter().filter(|key| !before.contains(key)) {
            match new {
                Key::Tie(tie) => _ = self.by_tie.insert((tie.clone(), name.clone())),
                Key::Series(series) => _ = self.by_series.insert(*series, name.clone()),
            }
        }
    }

    fn reschedule(&mut self, name: &AddressOfRecord, from: Millis, to: Option<Millis>) {
        if to == Some(from) {
            return;
        }
        self.expiries.remove(&(from, name.clone()));
        if let Some(to) = to {
            self.expiries.insert((to, name.clone()));
        }
    }
}

fn keys(bindings: &[Binding]) -> SmallVec<[Key; 2]> {
    let key = |binding: &Binding| {
        let tie = Tie::of(binding).map(Key::Tie);
        tie.into_iter().chain(binding.series().map(Key::Series))
    };
    bindings.iter().flat_map(key).collect()
}

#[cfg(test)]
impl Bindings {
    /// How many bindings each flow has; panics where an index does not say what the table says.
    pub(super) fn check(&self) -> std::collections::BTreeMap<Flow, u32> {
        let mut per_flow = std::collections::BTreeMap::new();
        let hash = *self.records[0].hasher();
        let mut rebuilt = Indices::new(hash);
        for (name, record) in self.records.iter().flatten() {
            assert!(record.bindings.iter().all(|binding| record.due <= binding.expires), "{name}");
            for binding in &record.bindings {
                *per_flow.entry(*binding.flow).or_insert(0) += 1;
                let same =
                    |other: &&Binding| binding.instance().is_some() && other.instance() == binding.instance();
                assert!(record.bindings.iter().filter(same).all(|other| other.series() == binding.series()));
            }
            rebuilt.settle(name, &[], &keys(&record.bindings));
            rebuilt.reschedule(name, 0, Some(record.due));
        }
        let Indices { expiries, by_tie, by_series } = rebuilt;
        assert_eq!((&expiries, &by_tie), (&self.indices.expiries, &self.indices.by_tie));
        assert_eq!(by_series, self.indices.by_series);
        assert_eq!(self.length as u32, per_flow.values().sum::<u32>());
        per_flow
    }
}

#[cfg(test)]
mod tests {
    use super::super::contact::Details;
    use super::*;

    #[test]
    fn what_few_bindings_have_costs_the_others_little() {
        assert_eq!((size_of::<Binding>(), size_of::<Record>()), (56, 80));
        assert!(size_of::<Details>() <= 64);
    }
}
