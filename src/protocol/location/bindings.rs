//! The table of bindings, with what finds them again: when they expire, what they end with, and the temporary GRUUs
//! that lead to them.
//!
//! [`Bindings::change`] is the only way in, so that neither the indices nor what is kept of the table beyond the
//! process can fall behind it; what comes from there enters by [`Bindings::restore`].

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
    /// Whether the registrant itself is at the other end of the flow.
    pub(super) is_direct: bool,
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
    by_series: HashMap<Series, AddressOfRecord, KeyedHash>,
    length: usize,
    /// Which have changed since somebody asked; some of them more than once.
    changed: Vec<AddressOfRecord>,
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
            records: HashMap::with_hasher(hash),
            expiries: BTreeSet::new(),
            by_tie: BTreeSet::new(),
            by_series: HashMap::with_hasher(hash),
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
            Key::Tie(tie) => _ = self.by_tie.insert((tie.clone(), name.clone())),
            Key::Series(series) => _ = self.by_series.insert(*series, name.clone()),
        }
    }

    fn forget(&mut self, key: &Key, name: &AddressOfRecord) {
        match key {
            Key::Tie(tie) => _ = self.by_tie.remove(&(tie.clone(), name.clone())),
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

    /// The address-of-record whose temporary GRUUs these are.
    pub(super) fn owner_of(&self, series: Series) -> Option<&AddressOfRecord> {
        self.by_series.get(&series)
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
        assert_eq!((&expiries, &rebuilt.by_tie), (&self.expiries, &self.by_tie));
        assert_eq!(rebuilt.by_series, self.by_series);
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
