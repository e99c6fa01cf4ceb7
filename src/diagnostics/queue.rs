//! The bounded queue between those who log and the thread that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use slog::{Drain, Never, OwnedKVList, Record};
use slog_async::{AsyncCore, AsyncGuard};

use super::queues;
use super::shared::Shared;

/// Records that found the queue full.
#[derive(Debug, Default)]
pub(super) struct Drops {
    total: AtomicU64,
    unsaid: AtomicU64,
}

impl Drops {
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// How many the log does not speak of yet; it is about to.
    pub(super) fn take_unsaid(&self) -> u64 {
        self.unsaid.swap(0, Ordering::Relaxed)
    }

    fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.unsaid.fetch_add(1, Ordering::Relaxed);
    }
}

/// The way in. Never waits.
pub(super) struct Queue {
    core: AsyncCore,
    size: usize,
    shared: Arc<Shared>,
}

impl Queue {
    /// Starts the thread, in which `writer` takes what comes. The guard ends it.
    pub(super) fn start(
        writer: impl Drain<Ok = (), Err = Never> + Send + 'static,
        size: usize,
        shared: Arc<Shared>,
    ) -> (Self, AsyncGuard) {
        let core = AsyncCore::custom(writer).chan_size(size).thread_name("log".to_owned());
        let (core, guard) = core.build_with_guard();
        (Self { core, size, shared }, guard)
    }

    /// Hands a record on, or counts it as dropped.
    pub(super) fn log(&self, record: &Record<'_>, values: &OwnedKVList) {
        self.shared.waiting.add(1);
        if self.core.log(record, values).is_err() {
            self.shared.waiting.remove(1);
            self.shared.drops.count();
        }
    }

    pub(super) fn told(&self) -> queues::Queue {
        queues::Queue { name: "log", length: self.shared.waiting.get(), capacity: Some(self.size) }
    }
}
