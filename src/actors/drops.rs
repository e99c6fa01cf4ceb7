//! What was not carried, counted by reason and told in one line.

use std::cell::Cell;
use std::time::Duration;

use slog::{KV, Key, Logger, Record, Serializer, info};

use crate::diagnostics::metrics::Metrics;

/// Between two lines about what was dropped.
pub const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

/// Why something was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DropReason {
    /// The Router's mailbox was full. The peer retransmits.
    RouterBusy,
    /// The Router has failed and is not back yet.
    RouterAway,
    /// A datagram that is no SIP.
    NotSip,
    /// A STUN message that is no Binding request.
    Stun,
    /// The socket was not writable and its queue full.
    QueueFull,
    /// The system refused to send.
    SendFailed,
    /// The interface does not listen, so that nothing can leave by it.
    NotListening,
    /// A connection past `limits.maximum_connections`.
    ConnectionLimit,
    /// A connection past `limits.maximum_connections_per_address`.
    ConnectionLimitPerAddress,
}

impl DropReason {
    const ALL: [Self; 9] = [
        Self::RouterBusy,
        Self::RouterAway,
        Self::NotSip,
        Self::Stun,
        Self::QueueFull,
        Self::SendFailed,
        Self::NotListening,
        Self::ConnectionLimit,
        Self::ConnectionLimitPerAddress,
    ];

    /// Its name in logs and metrics.
    pub const fn log_name(self) -> &'static str {
        match self {
            Self::RouterBusy => "router_busy",
            Self::RouterAway => "router_away",
            Self::NotSip => "not_sip",
            Self::Stun => "stun",
            Self::QueueFull => "queue_full",
            Self::SendFailed => "send_failed",
            Self::NotListening => "not_listening",
            Self::ConnectionLimit => "connection_limit",
            Self::ConnectionLimitPerAddress => "connection_limit_per_address",
        }
    }
}

/// The counts of one actor; its parts share them, on one thread.
#[derive(Debug, Default)]
pub struct Drops {
    counts: [Cell<u64>; DropReason::ALL.len()],
    /// As of the latest line.
    told: [Cell<u64>; DropReason::ALL.len()],
}

impl Drops {
    /// Counts `count` more.
    pub fn add(&self, reason: DropReason, count: usize) {
        let cell = &self.counts[reason as usize];
        cell.set(cell.get() + count as u64);
    }

    /// How many there were since the start.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.counts[reason as usize].get()
    }

    /// Logs what came since the latest line, where anything did, and adds it to the metrics. To be called every
    /// [`SUMMARY_INTERVAL`].
    pub fn log(&self, log: &Logger, metrics: &Metrics) {
        let mut since = Vec::new();
        for reason in DropReason::ALL {
            let told = self.told[reason as usize].replace(self.count(reason));
            let more = self.count(reason) - told;
            if more > 0 {
                metrics.dropped(reason.log_name(), more);
                since.push((reason.log_name(), more));
            }
        }
        if !since.is_empty() {
            info!(log, "dropped"; Summary(since));
        }
    }
}

struct Summary(Vec<(&'static str, u64)>);

impl KV for Summary {
    fn serialize(&self, _record: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        self.0.iter().try_for_each(|&(name, count)| serializer.emit_u64(Key::from(name), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::vocabulary::FIELDS;

    #[test]
    fn each_reason_has_a_count_and_a_name_of_its_own() {
        let drops = Drops::default();
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            drops.add(reason, index + 1);
            assert_eq!(drops.count(reason), index as u64 + 1);
        }
        let names: std::collections::BTreeSet<_> =
            DropReason::ALL.iter().map(|reason| reason.log_name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        let is_field = |name: &&str| FIELDS.iter().any(|field| field.name == *name);
        assert!(names.iter().all(is_field), "each is a field of the log: {names:?}");
    }

    #[test]
    fn a_line_is_written_only_for_what_is_new() {
        #[derive(Default)]
        struct Lines(std::sync::Mutex<usize>);
        impl slog::Drain for &'static Lines {
            type Ok = ();
            type Err = slog::Never;
            fn log(&self, _: &Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
                *self.0.lock().unwrap() += 1;
                Ok(())
            }
        }
        let lines: &'static Lines = Box::leak(Box::default());
        let log = Logger::root(lines, slog::o!());
        let (drops, metrics) = (Drops::default(), Metrics::default());
        drops.log(&log, &metrics);
        assert_eq!(*lines.0.lock().unwrap(), 0);
        drops.add(DropReason::Stun, 2);
        drops.log(&log, &metrics);
        drops.log(&log, &metrics);
        assert_eq!(*lines.0.lock().unwrap(), 1);
    }
}
