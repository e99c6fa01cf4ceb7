//! How much waits in queues, for those who ask. Whoever has a queue tells what changes in steps as large as possible.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What waits in one queue, or in several of a kind together.
#[derive(Clone, Debug, Default)]
pub struct QueueLength(Arc<AtomicUsize>);

impl QueueLength {
    /// So much more waits.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// So much does not wait any more.
    pub fn remove(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// What waits.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one queue has of a [`QueueLength`] of several. It gives that back when it is dropped.
#[derive(Debug, Default)]
pub struct QueueShare {
    all: QueueLength,
    own: usize,
}

impl QueueShare {
    /// Nothing waits yet.
    pub fn new(all: &QueueLength) -> Self {
        Self { all: all.clone(), own: 0 }
    }

    /// So much waits now. It costs nothing where that is what waited before.
    pub fn set(&mut self, length: usize) {
        if length > self.own {
            self.all.add(length - self.own);
        } else if length < self.own {
            self.all.remove(self.own - length);
        }
        self.own = length;
    }
}

impl Drop for QueueShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// One queue as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The name in metrics.
    pub name: &'static str,
    /// What waits.
    pub length: usize,
    /// What has room, where there is one bound on all of it.
    pub capacity: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_has_what_its_shares_have_as_long_as_they_live() {
        let all = QueueLength::default();
        let (mut one, mut two) = (QueueShare::new(&all), QueueShare::new(&all));
        one.set(7);
        two.set(2);
        one.set(3);
        assert_eq!(all.get(), 5);
        drop(one);
        assert_eq!(all.get(), 2);
        two.set(0);
        assert_eq!(all.get(), 0);
    }
}
