//! What the Journal takes, and the bound on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Message, Recipient};

use crate::actors::registrar::TellAll;
use crate::config::Durability;
use crate::protocol::location::{Answer, Changes};

/// Octets of changes that may wait to be written; beyond, no REGISTER changes anything (503).
pub const MAXIMUM_WAITING: usize = 16 << 20;

/// Octets of changes that were sent to a Journal and are not dealt with yet.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// Whether more may be sent.
    pub fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) < MAXIMUM_WAITING
    }

    /// `octets` are being sent.
    pub fn add(&self, octets: usize) {
        self.0.fetch_add(octets, Ordering::Relaxed);
    }

    /// Octets that wait.
    pub fn octets(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        // What was sent before has been written, and its answers are on their way.
        self.0.load(Ordering::Acquire) == 0
    }

    pub(super) fn remove(&self, octets: usize) {
        self.0.fetch_sub(octets, Ordering::Release);
    }
}

/// Keep these changes, then answer. From the Registrar, which gathers them for a while where the disk is waited for: what
/// a commit costs is shared by all of them.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Keep {
    /// What has changed.
    pub changes: Changes,
    /// What depends on that, for each Router by its index.
    pub answers: Vec<Vec<Answer>>,
    /// What the answers promise.
    pub durability: Durability,
}

/// The Registrar has written by the [`Pen`](super::Pen): bring it to the disk after a while.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct HasWritten;

/// Say what is kept, with all that was sent before. From a Registrar that begins; everything is to be told again
/// afterwards, as [`TellAll`] says to `registrar`.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Kept")]
pub struct Load {
    /// Who is to tell everything from now on.
    pub registrar: Recipient<TellAll>,
}

/// What is kept of an address-of-record: its name and a value, as [`Changes`] has told them.
pub type Entry = (Box<[u8]>, Box<[u8]>);

/// The answer to [`Load`].
#[derive(Debug, Default)]
pub struct Kept {
    /// In no order; none without a value.
    pub entries: Vec<Entry>,
    /// Places of the store that could not be read.
    pub damaged: usize,
}

/// Everything has been told to the segment of this number, as [`TellAll`] has asked.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ToldAll {
    /// Which.
    pub segment: u64,
}

/// The process is about to end: have everything written that waits. From the supervisor to the Registrar, and on to
/// the Journal.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Finish;
