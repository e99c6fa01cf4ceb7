//! The pen, by which the open segment is written: as a rule by the Registrar itself, which then need not wait for
//! another thread, and by the Journal wherever the disk has a part in it.
//!
//! What is written to a file has left the process; the system brings it to the disk. That takes about a microsecond,
//! and the disk is not asked. It can take long where the system cannot get rid of what was written before, and the
//! first who meets that is the Journal, which waits for the disk regularly: while it does so for longer than usual, the
//! Registrar leaves the writing to it.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::segment::Frames;
use crate::protocol::location::Changes;

/// Who waits for the disk for longer than that has met a slow one.
const QUICK: Duration = Duration::from_millis(100);

/// More octets than these are not written at once.
const FEW_BYTES: usize = 64 << 10;

/// Of the buffer for what is to be written, this much stays for the next time.
pub(super) const KEPT_BYTES: usize = 128 << 10;

/// A file that is written. Waiting for the disk does not keep anybody from writing more.
pub(super) trait Medium: Send + Sync {
    /// Writes all of `octets` at the end.
    fn append(&self, octets: &[u8]) -> io::Result<()>;

    /// Waits until all that was written is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// The pen. Clones write to the same segment, one at a time.
#[derive(Clone, Default)]
pub struct Pen(Arc<Mutex<Page>>);

/// What has become of what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The system has it, and the disk will soon be waited for.
    Before,
    /// The system has it: the first since the disk was waited for.
    First,
    /// It is for the Journal to write.
    Not,
}

#[derive(Default)]
struct Page {
    segment: Option<Segment>,
    /// Why there is none any more, until the Journal hears of it.
    fault: Option<io::Error>,
}

/// The open segment.
struct Segment {
    medium: Arc<dyn Medium>,
    frames: Frames,
    /// What the Registrar writes next.
    buffer: Vec<u8>,
    size: u64,
    /// Something was written since the disk was waited for.
    is_dirty: bool,
    /// Since when the Journal waits for the disk.
    syncing: Option<Instant>,
}

impl Pen {
    /// Writes `changes`, if that is quick.
    pub fn write(&self, changes: &Changes) -> Written {
        let Ok(mut page) = self.0.try_lock() else { return Written::Not };
        let Some(segment) = page.segment.as_mut().filter(|_| changes.size() <= FEW_BYTES) else {
            return Written::Not;
        };
        if segment.syncing.is_some_and(|begun| begun.elapsed() > QUICK) {
            return Written::Not;
        }
        for entry in changes.entries() {
            segment.frames.append(entry, &mut segment.buffer);
        }
        let buffer = std::mem::take(&mut segment.buffer);
        let was_dirty = segment.is_dirty;
        if !page.append(&buffer) {
            return Written::Not;
        }
        page.keep_buffer(buffer);
        if was_dirty { Written::Before } else { Written::First }
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        // Who has panicked was writing; what that has left is damaged at most, and its reader knows how to go on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it writes to `medium`, which has `size` octets. All that was written before is brought to the disk.
    pub(super) fn open(&self, medium: Arc<dyn Medium>, frames: Frames, size: u64) -> io::Result<()> {
        let segment = Segment { medium, frames, buffer: Vec::new(), size, is_dirty: false, syncing: None };
        let mut page = self.page();
        let older = std::mem::replace(&mut *page, Page { segment: Some(segment), fault: None });
        drop(page);
        older.segment.filter(|older| older.is_dirty).map_or(Ok(()), |older| older.medium.sync())
    }

    /// It writes to nothing any more.
    pub(super) fn close(&self) {
        *self.page() = Page::default();
    }

    /// Writes `octets`, which are of this segment's form. After an error there is no segment.
    ///
    /// # Errors
    /// Where they cannot be written, or the Registrar has found that nothing can.
    pub(super) fn append(&self, octets: &[u8]) -> io::Result<()> {
        let mut page = self.page();
        page.append(octets);
        page.fault.take().map_or(Ok(()), Err)
    }

    /// Waits until the disk has all that was written; says whether there was anything. After an error there is no
    /// segment.
    ///
    /// # Errors
    /// Where the disk does not take it, or the Registrar has found that nothing can be written.
    pub(super) fn sync(&self) -> io::Result<bool> {
        let mut page = self.page();
        if let Some(fault) = page.fault.take() {
            return Err(fault);
        }
        let Some(segment) = page.segment.as_mut().filter(|segment| segment.is_dirty) else {
            return Ok(false);
        };
        segment.is_dirty = false;
        segment.syncing = Some(Instant::now());
        let medium = Arc::clone(&segment.medium);
        drop(page);
        let synced = medium.sync();
        let mut page = self.page();
        match &synced {
            Ok(()) => page.segment.iter_mut().for_each(|segment| segment.syncing = None),
            Err(_) => page.segment = None,
        }
        synced.map(|()| true)
    }

    /// Octets of the open segment.
    pub(super) fn size(&self) -> Option<u64> {
        self.page().segment.as_ref().map(|segment| segment.size)
    }
}

impl Page {
    /// Writes `octets`, if there is anything to write and a segment. Whether that did not fail.
    fn append(&mut self, octets: &[u8]) -> bool {
        let Some(segment) = self.segment.as_mut().filter(|_| !octets.is_empty()) else { return true };
        if let Err(fault) = segment.medium.append(octets) {
            *self = Self { segment: None, fault: Some(fault) };
            return false;
        }
        segment.size += octets.len() as u64;
        segment.is_dirty = true;
        true
    }

    fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        if let Some(segment) = &mut self.segment {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES);
            segment.buffer = buffer;
        }
    }
}

impl fmt::Debug for Pen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pen").finish_non_exhaustive()
    }
}
