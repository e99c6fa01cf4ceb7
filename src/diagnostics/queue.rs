//! The bounded queue between those who log and the thread that writes.

use std::sync::atomic::{AtomicU64, Ordering};

use slog::{Drain, Level, Never, OwnedKVList, Record, b, o, record};
use slog_async::{AsyncCore, AsyncGuard};

/// Records that may wait. A burst of one second at full speed fits; a disk that stalls for longer costs records,
/// not calls.
const RECORDS: usize = 16_384;

/// The queue. What does not fit is dropped and counted.
pub(super) struct Queue {
    core: AsyncCore,
    dropped: AtomicU64,
}

impl Queue {
    /// With a thread of its own that gives `drain` one record after the other. Dropping the guard writes what is
    /// there.
    pub(super) fn new<D>(drain: D) -> (Self, AsyncGuard)
    where
        D: Drain<Ok = (), Err = Never> + Send + 'static,
    {
        Self::with_room(drain, RECORDS)
    }

    fn with_room<D>(drain: D, records: usize) -> (Self, AsyncGuard)
    where
        D: Drain<Ok = (), Err = Never> + Send + 'static,
    {
        let builder = AsyncCore::custom(drain).chan_size(records).blocking(false).thread_name("log".to_owned());
        let (core, guard) = builder.build_with_guard();
        (Self { core, dropped: AtomicU64::new(0) }, guard)
    }

    /// Says how many records were dropped, once there is room for that.
    fn tell_dropped(&self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        let values = o!("module" => "diagnostics");
        let told = self.core.log(
            &record!(Level::Warning, "", &format_args!("log_records_dropped"), b!("count" => dropped)),
            &OwnedKVList::from(values),
        );
        if told.is_err() {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
    }
}

impl Drain for Queue {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if self.dropped.load(Ordering::Relaxed) > 0 {
            self.tell_dropped();
        }
        if self.core.log(record, values).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};

    use slog::{Logger, info};

    use super::*;

    /// Writes nothing until it is told to.
    struct Stalled {
        go: Mutex<Receiver<()>>,
        lines: Sender<String>,
    }

    impl Drain for Stalled {
        type Ok = ();
        type Err = Never;

        fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
            let _ = self.go.lock().unwrap().recv();
            self.lines.send(record.msg().to_string()).unwrap();
            Ok(())
        }
    }

    #[test]
    fn records_without_room_are_counted_and_nobody_waits() {
        let (go, wait) = channel();
        let (lines, written) = channel();
        let (queue, guard) = Queue::with_room(Stalled { go: Mutex::new(wait), lines }, 4);
        let queue = Arc::new(queue);
        let log = Logger::root(Arc::clone(&queue).fuse(), o!());
        for _ in 0..100 {
            info!(log, "record");
        }
        let dropped = queue.dropped.load(Ordering::Relaxed);
        assert!((94..=96).contains(&dropped), "{dropped}");
        drop(go);
        // Room comes as the thread goes on; the next record says what was lost.
        let first = written.recv().unwrap();
        info!(log, "after");
        drop(guard);
        let rest: Vec<_> = written.try_iter().collect();
        assert_eq!(first, "record");
        assert!(rest.iter().any(|line| line == "log_records_dropped"), "{rest:?}");
    }
}
