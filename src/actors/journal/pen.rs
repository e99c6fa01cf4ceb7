//! The pen, by which the open segment is written: as a rule by the Registrar itself, which then need not wait for
//! another thread, and by the Journal where answers wait for the disk.
//!
//! What is written to a file has left the process; the system brings it to the disk. That takes about a microsecond,
//! and the disk has no part in it. It can take long where the system is busy bringing to the disk what was written
//! before. The Journal asks for that a few times a second, and while it waits, for whatever of the store, the Registrar
//! leaves the writing to it.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::segment::Frames;
use crate::protocol::location::Changes;

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

/// What is written, and not on the disk for certain.
pub(super) struct Unsynced {
    file: Arc<SyncedFile>,
    _waiting: Waiting,
}

/// A medium that is waited for by one at a time. Who waits after a failure hears of that, too: the system tells it once,
/// and what has not reached the disk may never do so.
struct SyncedFile {
    medium: Arc<dyn Medium>,
    failed: Mutex<Option<io::ErrorKind>>,
}

/// While there is one, somebody waits for the disk.
pub(super) struct Waiting(Pen);

#[derive(Default)]
struct Page {
    segment: Option<Segment>,
    /// Why the Registrar could not write, until the Journal hears of it.
    fault: Option<io::Error>,
    /// How many wait for the disk.
    waiting: usize,
}

/// The open segment.
struct Segment {
    file: Arc<SyncedFile>,
    frames: Frames,
    /// What the Registrar writes next.
    buffer: Vec<u8>,
    size: u64,
    /// Something was written since the disk was waited for.
    is_dirty: bool,
    /// Something could not be written whole: nothing more is.
    is_broken: bool,
}

impl Pen {
    /// Writes `changes`, if that is quick.
    pub fn write(&self, changes: &Changes) -> Written {
        let mut page = match self.0.try_lock() {
            Ok(page) => page,
            Err(TryLockError::Poisoned(page)) => page.into_inner(),
            Err(TryLockError::WouldBlock) => return Written::Not,
        };
        let page = &mut *page;
        let is_quick = page.waiting == 0 && changes.size() <= FEW_BYTES;
        let Some(segment) = page.segment.as_mut().filter(|segment| is_quick && !segment.is_broken) else {
            return Written::Not;
        };
        let mut buffer = std::mem::take(&mut segment.buffer);
        for entry in changes.entries() {
            segment.frames.append(entry, &mut buffer);
        }
        let was_dirty = segment.is_dirty;
        if let Err(fault) = segment.append(&buffer) {
            page.fault = Some(fault);
            return Written::Not;
        }
        buffer.clear();
        buffer.shrink_to(KEPT_BYTES);
        segment.buffer = buffer;
        if was_dirty { Written::Before } else { Written::First }
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        // Who has panicked was writing; what that has left is damaged at most, and its reader knows how to go on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until this is dropped, the Registrar does not write.
    pub(super) fn waiting(&self) -> Waiting {
        self.page().waiting += 1;
        Waiting(self.clone())
    }

    /// From now on it writes to `medium`, which has `size` octets. What was written before is brought to the disk, if
    /// nobody is at that already.
    pub(super) fn open(&self, medium: Arc<dyn Medium>, frames: Frames, size: u64) -> io::Result<()> {
        self.turn_over(Some(Segment {
            file: Arc::new(SyncedFile { medium, failed: Mutex::default() }),
            frames,
            buffer: Vec::new(),
            size,
            is_dirty: false,
            is_broken: false,
        }))
    }

    /// It writes to nothing any more. All that was written before is brought to the disk, if the disk takes it.
    pub(super) fn close(&self) {
        // Who closes it has said already that nothing is kept.
        let _ = self.turn_over(None);
    }

    fn turn_over(&self, segment: Option<Segment>) -> io::Result<()> {
        let mut page = self.page();
        let older = std::mem::replace(&mut page.segment, segment);
        page.fault = None;
        drop(page);
        let Some(older) = older.filter(|older| older.is_dirty) else { return Ok(()) };
        let _waiting = self.waiting();
        older.file.sync()
    }

    /// Writes `octets`, which are of this segment's form.
    ///
    /// # Errors
    /// Where they cannot be written, or the Registrar has found that nothing can.
    pub(super) fn append(&self, octets: &[u8]) -> io::Result<()> {
        let mut page = self.page();
        if let Some(fault) = page.fault.take() {
            return Err(fault);
        }
        let segment = page.segment.as_mut().filter(|segment| !segment.is_broken && !octets.is_empty());
        segment.map_or(Ok(()), |segment| segment.append(octets))
    }

    /// What the disk is to be waited for, if there is anything. Whatever is written from now on is not of it.
    ///
    /// # Errors
    /// Where the Registrar has found that nothing can be written.
    pub(super) fn unsynced(&self) -> io::Result<Option<Unsynced>> {
        self.take_unsynced(|segment, _| segment.is_dirty)
    }

    /// Waits until the disk has all that was written, also where somebody else is at that; says whether there was
    /// anything.
    ///
    /// # Errors
    /// Where the disk has not taken it, or the Registrar has found that nothing can be written.
    pub(super) fn sync(&self) -> io::Result<bool> {
        let unsynced = self.take_unsynced(|segment, waiting| segment.is_dirty || waiting > 0)?;
        unsynced.map_or(Ok(false), |unsynced| unsynced.sync().map(|()| true))
    }

    fn take_unsynced(&self, is_to_be: impl Fn(&Segment, usize) -> bool) -> io::Result<Option<Unsynced>> {
        let mut page = self.page();
        if let Some(fault) = page.fault.take() {
            return Err(fault);
        }
        let waiting = page.waiting;
        let Some(segment) = page.segment.as_mut().filter(|segment| is_to_be(segment, waiting)) else {
            return Ok(None);
        };
        segment.is_dirty = false;
        let file = Arc::clone(&segment.file);
        drop(page);
        Ok(Some(Unsynced { file, _waiting: self.waiting() }))
    }

    /// Octets of the open segment.
    pub(super) fn size(&self) -> Option<u64> {
        self.page().segment.as_ref().map(|segment| segment.size)
    }
}

impl Segment {
    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        // Also where a part of it is written only.
        self.is_dirty = true;
        let appended = self.file.medium.append(octets);
        self.is_broken = appended.is_err();
        self.size += octets.len() as u64;
        appended
    }
}

impl Unsynced {
    /// Waits until the disk has it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl SyncedFile {
    fn sync(&self) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = *failed {
            return Err(kind.into());
        }
        self.medium.sync().inspect_err(|fault| *failed = Some(fault.kind()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.page().waiting -= 1;
    }
}

impl fmt::Debug for Pen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pen").finish_non_exhaustive()
    }
}
