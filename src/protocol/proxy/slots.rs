//! Where transactions and contexts live: tables that grow and shrink in small steps, so that no message waits while a
//! million of them are moved.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::time::Instant;

use crate::protocol::transaction::TransactionKey;

/// Tenants of one chunk: their places are numbered by an octet.
const CHUNK: usize = 256;
const _: () = assert!(CHUNK <= 1 << u8::BITS);

/// Maps among which the keys are spread: one that doubles moves this share of them.
pub(super) const SHARDS: usize = 256;

/// Entries of a map that keeps its memory when it is empty.
pub(super) const SMALL: usize = 7;

/// A place in a table, and which of its tenants is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// What lives in a table.
pub(super) trait Tenant {
    fn generation(&self) -> u32;
    /// When it wants to be woken.
    fn next_timeout(&self) -> Option<Instant>;
    /// For when the wheel has been told to wake it.
    fn armed(&mut self) -> &mut Option<Instant>;
}

/// Slots that know whether their tenant is still the one that was meant. They are made of chunks, none of which ever
/// moves; an empty one's memory is given back.
#[derive(Debug)]
pub(super) struct Table<T> {
    chunks: Vec<Chunk<T>>,
    /// The chunks with room, the one to be filled next last.
    vacant: Vec<u32>,
    length: usize,
}

impl<T: Tenant> Table<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), vacant: Vec::new(), length: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places().map(|(_, tenant)| tenant)
    }

    /// The slots of those that `test` accepts.
    pub(super) fn slots(&self, test: impl Fn(&T) -> bool) -> Vec<Slot> {
        let accepted = self.places().filter(|(_, tenant)| test(tenant));
        accepted.map(|(index, tenant)| Slot { index, generation: tenant.generation() }).collect()
    }

    /// The slot that [`Self::insert`] fills next.
    pub(super) fn next_index(&self) -> u32 {
        match self.vacant.last() {
            Some(&chunk) => place(chunk as usize, self.chunks[chunk as usize].next()),
            None => place(self.chunks.len(), 0),
        }
    }

    pub(super) fn insert(&mut self, tenant: T) -> Slot {
        let generation = tenant.generation();
        let index = self.next_index();
        let (chunk, offset) = parts(index);
        if chunk == self.chunks.len() {
            self.chunks.push(Chunk::EMPTY);
            self.vacant.push(chunk as u32);
        }
        let chunk = &mut self.chunks[chunk];
        chunk.fill(offset, tenant);
        if chunk.tenants == CHUNK {
            self.vacant.pop();
        }
        self.length += 1;
        Slot { index, generation }
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.at_mut(slot.index).filter(|tenant| tenant.generation() == slot.generation)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        self.at(slot.index).filter(|tenant| tenant.generation() == slot.generation)
    }

    /// Drops a tenant where it lives.
    pub(super) fn discard(&mut self, slot: Slot) {
        if self.get(slot).is_some() {
            let (chunk, offset) = parts(slot.index);
            self.chunks[chunk].places[offset] = None;
            self.vacate(chunk, offset);
        }
    }

    /// Notes that a place is free.
    fn vacate(&mut self, chunk: usize, offset: usize) {
        let number = chunk as u32;
        if self.chunks[chunk].tenants == CHUNK {
            let next = self.vacant.last().copied();
            self.vacant.push(number);
            next.into_iter().for_each(|next| self.release(next));
        }
        self.chunks[chunk].vacate(offset);
        self.length -= 1;
        self.release(number);
    }

    /// Gives back the memory of an empty chunk, unless it is the one to be filled next, which would be made anew at
    /// once.
    fn release(&mut self, chunk: u32) {
        let emptied = &mut self.chunks[chunk as usize];
        if emptied.tenants == 0 && self.vacant.last() != Some(&chunk) {
            *emptied = Chunk::EMPTY;
        }
    }

    /// Whoever lives there now.
    pub(super) fn at(&self, index: u32) -> Option<&T> {
        let (chunk, offset) = parts(index);
        self.chunks.get(chunk)?.places.get(offset)?.as_ref()
    }

    /// Whoever lives there now.
    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        let (chunk, offset) = parts(index);
        self.chunks.get_mut(chunk)?.places.get_mut(offset)?.as_mut()
    }

    fn places(&self) -> impl Iterator<Item = (u32, &T)> {
        let all = self.chunks.iter().enumerate().flat_map(|(number, chunk)| {
            chunk.places.iter().enumerate().map(move |(offset, tenant)| (place(number, offset), tenant))
        });
        all.filter_map(|(index, tenant)| Some((index, tenant.as_ref()?)))
    }
}

/// [`CHUNK`] places, which have their memory once the first is filled.
#[derive(Debug)]
struct Chunk<T> {
    places: Vec<Option<T>>,
    /// Places that were filled and are free again: the last is filled next.
    free: Vec<u8>,
    tenants: usize,
}

impl<T> Chunk<T> {
    const EMPTY: Self = Self { places: Vec::new(), free: Vec::new(), tenants: 0 };

    /// The place that is filled next.
    fn next(&self) -> usize {
        self.free.last().map_or(self.places.len(), |&offset| usize::from(offset))
    }

    /// Fills the place that [`Self::next`] has named.
    fn fill(&mut self, offset: usize, tenant: T) {
        debug_assert_eq!(offset, self.next());
        self.free.pop();
        self.tenants += 1;
        match self.places.get_mut(offset) {
            Some(place) => *place = Some(tenant),
            None => {
                if self.places.capacity() == 0 {
                    self.places.reserve_exact(CHUNK);
                }
                self.places.push(Some(tenant));
            }
        }
    }

    /// Notes that a place has lost its tenant.
    fn vacate(&mut self, offset: usize) {
        self.tenants -= 1;
        self.free.push(offset as u8);
    }
}

fn place(chunk: usize, offset: usize) -> u32 {
    u32::try_from(chunk * CHUNK + offset).expect("limits keep tables far below 2^32")
}

const fn parts(index: u32) -> (usize, usize) {
    (index as usize / CHUNK, index as usize % CHUNK)
}

/// Which server transaction has a key.
#[derive(Debug)]
pub(super) struct Keys(Vec<HashMap<TransactionKey, Slot, BuildHasherDefault<KeyAsHash>>>);

impl Keys {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| HashMap::default()).collect())
    }

    pub(super) fn get(&self, key: &TransactionKey) -> Option<Slot> {
        self.0[shard(key)].get(key).copied()
    }

    pub(super) fn insert(&mut self, key: TransactionKey, slot: Slot) {
        self.0[shard(&key)].insert(key, slot);
    }

    pub(super) fn remove(&mut self, key: &TransactionKey) {
        let shard = &mut self.0[shard(key)];
        shard.remove(key);
        give_back(shard);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(HashMap::is_empty)
    }
}

/// Gives back the memory of an empty map, unless that is the least that it needs once something comes.
pub(super) fn give_back<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if map.is_empty() && map.capacity() > SMALL {
        map.shrink_to_fit();
    }
}

/// The map that a key is in.
pub(super) const fn shard(key: &TransactionKey) -> usize {
    (key.0 >> 64) as usize % SHARDS
}

/// Takes a key for its own hash: it is one already, under a secret of the process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyAsHash(u64);

impl Hasher for KeyAsHash {
    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.0 = self.0.rotate_left(8) ^ u64::from(octet);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Number(u32, Option<Instant>);

    impl Tenant for Number {
        fn generation(&self) -> u32 {
            self.0
        }

        fn next_timeout(&self) -> Option<Instant> {
            None
        }

        fn armed(&mut self) -> &mut Option<Instant> {
            &mut self.1
        }
    }

    #[test]
    fn a_slot_does_not_reach_the_next_tenant() {
        let mut table = Table::new();
        let first = table.insert(Number(1, None));
        table.discard(first);
        let second = table.insert(Number(2, None));
        assert_eq!(first.index, second.index);
        assert!(table.get(first).is_none());
        table.discard(first);
        assert!(table.get(second).is_some() && table.len() == 1);
    }

    #[test]
    fn the_memory_of_a_burst_is_given_back() {
        let mut table = Table::new();
        let slots: Vec<_> = (0..10_000).map(|n| table.insert(Number(n, None))).collect();
        for &slot in &slots {
            table.discard(slot);
        }
        assert_eq!(
            (table.len(), table.chunks.iter().map(|chunk| chunk.places.capacity()).sum::<usize>()),
            (0, CHUNK)
        );
        // A table with one tenant at a time does not make its chunk anew each time.
        let kept = table.insert(Number(1, None));
        for n in 2..100 {
            let slot = table.insert(Number(n, None));
            table.discard(slot);
            assert_eq!(table.chunks.iter().map(|chunk| chunk.places.capacity()).sum::<usize>(), CHUNK);
        }
        assert!(table.get(kept).is_some());
    }

    #[test]
    fn keys_find_their_slots_until_they_are_removed() {
        let mut keys = Keys::new();
        let key = |n: u32| TransactionKey(u128::from(n) << 62 | u128::from(n));
        for n in 0..2_000 {
            keys.insert(key(n), Slot { index: n, generation: 1 });
        }
        assert!((0..2_000).all(|n| keys.get(&key(n)).is_some_and(|slot| slot.index == n)));
        (0..2_000).for_each(|n| keys.remove(&key(n)));
        assert!(keys.is_empty() && keys.get(&key(7)).is_none());
        assert!(keys.0.iter().all(|shard| shard.capacity() <= SMALL));
    }

    proptest! {
        #[test]
        fn a_table_agrees_with_a_map(steps in proptest::collection::vec((any::<bool>(), 0..2_000_usize), 0..3_000)) {
            let (mut table, mut model) = (Table::new(), BTreeMap::new());
            let mut slots = Vec::new();
            for (number, (inserts, which)) in (0..).zip(steps) {
                if inserts || slots.is_empty() {
                    let expected = table.next_index();
                    let slot = table.insert(Number(number, None));
                    prop_assert_eq!(slot.index, expected);
                    prop_assert!(model.insert(slot.index, number).is_none());
                    slots.push(slot);
                } else {
                    let slot = slots.swap_remove(which % slots.len());
                    let there = table.get(slot).map(|tenant| tenant.0);
                    prop_assert_eq!(there, model.remove(&slot.index));
                    table.discard(slot);
                    prop_assert!(table.get(slot).is_none());
                }
                prop_assert_eq!(table.len(), model.len());
            }
            let there: BTreeMap<_, _> = table.places().map(|(index, tenant)| (index, tenant.0)).collect();
            prop_assert_eq!(there, model);
        }
    }
}
