//! A bounded table in which what was not needed for longest makes room.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most so many entries.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    entries: HashMap<K, (V, u64)>,
    /// By the last use, which a count stands for.
    order: BTreeMap<u64, K>,
    uses: u64,
    maximum: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(maximum: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), uses: 0, maximum }
    }

    /// An entry, as of now used.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (value, last_use) = self.entries.get_mut(key)?;
        self.order.remove(last_use);
        self.uses += 1;
        self.order.insert(self.uses, key.clone());
        *last_use = self.uses;
        Some(value)
    }

    /// An entry, which is not used by that.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.uses += 1;
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, (value, self.uses));
        while self.entries.len() > self.maximum {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.entries.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (value, last_use) = self.entries.remove(key)?;
        self.order.remove(&last_use);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let mut recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("b", 2);
        assert_eq!(recent.get_mut(&"a"), Some(&mut 1));
        recent.insert("c", 3);
        assert_eq!((recent.peek(&"a"), recent.peek(&"b"), recent.peek(&"c")), (Some(&1), None, Some(&3)));
        recent.insert("a", 4);
        assert_eq!(recent.remove(&"a"), Some(4));
        recent.insert("d", 5);
        assert_eq!((recent.peek(&"c"), recent.entries.len(), recent.order.len()), (Some(&3), 2, 2));
    }
}
