//! What the threads of the log and its owner share.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::events::Events;
use super::queue::Drops;
use super::queues::QueueLength;
use crate::config::Diagnostics as Settings;

/// Nobody who looks here waits for a disk.
#[derive(Debug)]
pub(super) struct Shared {
    /// Those to follow.
    pub(super) settings: ArcSwap<Settings>,
    pub(super) drops: Drops,
    /// Records on their way to the thread that writes.
    pub(super) waiting: QueueLength,
    pub(super) events: Arc<Events>,
    fault: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(settings: &Settings) -> Self {
        let settings = ArcSwap::from_pointee(settings.clone());
        Self {
            settings,
            drops: Drops::default(),
            waiting: QueueLength::default(),
            events: Arc::new(Events::new()),
            fault: Mutex::new(None),
        }
    }

    /// Why some log file cannot be written.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_fault(&self, fault: Option<String>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}
