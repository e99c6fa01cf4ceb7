//! The store: a directory of segments.
//!
//! What changes is appended to the newest segment. When that has grown, another is begun, the whole state is told to
//! it, and once that is done the older ones are removed; so a segment that stands alone is complete. Whoever reads
//! them in their order and lets the later entry win has the state.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Kept;
use super::pen::{KEPT_BYTES, Medium, Pen, Unsynced};
use super::segment::{Frames, Reader};
use crate::protocol::location::Changes;

/// Held by the process that writes here.
const LOCK_FILE: &str = "lock";

const SEGMENT_EXTENSION: &str = "segment";

/// A segment has grown when it has this much more than twice the whole state.
const GROWTH_BYTES: u64 = 4 << 20;

impl Medium for File {
    fn append(&self, octets: &[u8]) -> io::Result<()> {
        let mut file = self;
        file.write_all(octets)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes the file of a new segment.
pub(super) type Create = fn(&Path) -> io::Result<Arc<dyn Medium>>;

/// On the disk, for the owner alone: contacts are personal data.
pub(super) fn create_file(path: &Path) -> io::Result<Arc<dyn Medium>> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(Arc::new(file))
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

/// The directory, while this process has it.
pub(super) struct Store {
    directory: PathBuf,
    create: Create,
    /// The newest segment's.
    number: u64,
    /// The form of its entries.
    frames: Option<Frames>,
    /// Writes to it.
    pen: Pen,
    /// What is to be written.
    pending: Vec<u8>,
    /// Its size when the whole state was in it; `None`: that is still being told.
    whole: Option<u64>,
    _lock: File,
}

impl Store {
    /// Takes the directory, which is made if need be. `pen` will write to the segment that is open.
    pub(super) fn open(directory: &Path, create: Create, pen: Pen) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Io(directory.to_owned(), error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(directory.join(LOCK_FILE)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(directory.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let number = numbers(directory).map_err(failed)?.last().copied().unwrap_or(0);
        Ok(Self {
            directory: directory.to_owned(),
            create,
            number,
            frames: None,
            pen,
            pending: Vec::new(),
            whole: None,
            _lock: lock,
        })
    }

    /// Reads what is kept. What cannot be read is counted and left out.
    pub(super) fn load(&self) -> Kept {
        let mut found = HashMap::new();
        let mut damaged = 0;
        match numbers(&self.directory) {
            Ok(numbers) => {
                for number in numbers {
                    damaged += read_segment(&self.path(number), &mut found);
                }
            }
            Err(_) => damaged += 1,
        }
        let entries = found.into_iter().collect();
        Kept { entries, damaged }
    }

    /// Begins a new segment, to which the whole state is to be told. Its number.
    ///
    /// # Errors
    /// Where the disk does not take it. Then it is time to [give up](Self::give_up).
    pub(super) fn begin(&mut self) -> io::Result<u64> {
        let _waiting = self.pen.waiting();
        self.number += 1;
        let path = self.path(self.number);
        let (medium, frames, size) = self.create_segment(&path).inspect_err(|_| {
            // It is nobody's yet. If it cannot be removed either, it is an empty one to its reader.
            let _ = fs::remove_file(&path);
        })?;
        self.pending.clear();
        self.frames = Some(frames);
        self.whole = None;
        self.pen.open(medium, frames, size)?;
        Ok(self.number)
    }

    fn create_segment(&self, path: &Path) -> io::Result<(Arc<dyn Medium>, Frames, u64)> {
        let frames = Frames::draw()?;
        let header = frames.header();
        let medium = (self.create)(path)?;
        medium.append(&header)?;
        medium.sync()?;
        self.sync_directory()?;
        Ok((medium, frames, header.len() as u64))
    }

    /// Adds `changes` to what the next [`Self::write`] writes.
    pub(super) fn append(&mut self, changes: &Changes) {
        if let Some(frames) = &self.frames {
            for entry in changes.entries() {
                frames.append(entry, &mut self.pending);
            }
        }
    }

    /// Writes what was appended.
    ///
    /// # Errors
    /// Where that cannot be done. Then it is time to [give up](Self::give_up).
    pub(super) fn write(&mut self) -> io::Result<()> {
        let written = self.pen.append(&self.pending);
        self.pending.clear();
        self.pending.shrink_to(KEPT_BYTES);
        written
    }

    /// Waits until the disk has all that was written, by whomever; says whether there was anything.
    ///
    /// # Errors
    /// Where the disk does not take it. Then it is time to [give up](Self::give_up).
    pub(super) fn sync(&self) -> io::Result<bool> {
        self.pen.sync()
    }

    /// What is written, by whomever, and not on the disk, if there is anything: for another thread to wait for.
    ///
    /// # Errors
    /// Where the Registrar could not write. Then it is time to [give up](Self::give_up).
    pub(super) fn unsynced(&self) -> io::Result<Option<Unsynced>> {
        self.pen.unsynced()
    }

    /// Nothing is written any more until the next segment.
    pub(super) fn give_up(&mut self) {
        self.pen.close();
        self.pending.clear();
        self.frames = None;
    }

    /// The whole state has been told: the older segments are of no more use.
    pub(super) fn complete(&mut self) -> io::Result<()> {
        let _waiting = self.pen.waiting();
        self.write()?;
        self.sync()?;
        let Some(size) = self.pen.size() else { return Ok(()) };
        self.whole = Some(size);
        for older in numbers(&self.directory)?.range(..self.number) {
            fs::remove_file(self.path(*older))?;
            // The oldest first, one after the other: an entry that a younger one has taken back must not come to
            // life again because of the order in which the disk gets to know.
            self.sync_directory()?;
        }
        Ok(())
    }

    /// Whether it is time to begin a new segment.
    pub(super) fn has_grown(&self) -> bool {
        let sizes = self.whole.zip(self.pen.size()).filter(|_| self.pending.is_empty());
        sizes.is_some_and(|(whole, size)| size > 2 * whole + GROWTH_BYTES)
    }

    /// The number of the newest segment.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:08}.{SEGMENT_EXTENSION}"))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// The numbers of the segments that are there.
fn numbers(directory: &Path) -> io::Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let path = PathBuf::from(entry?.file_name());
        if path.extension().is_some_and(|extension| extension == SEGMENT_EXTENSION) {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            numbers.extend(stem.and_then(|stem| stem.parse::<u64>().ok()));
        }
    }
    Ok(numbers)
}

/// Reads a segment into `found`, over what older ones have said. How many places could not be read.
fn read_segment(path: &Path, found: &mut HashMap<Box<[u8]>, Box<[u8]>>) -> usize {
    let reader = File::open(path).and_then(Reader::open);
    let Ok(Some(mut reader)) = reader else { return 1 };
    let mut failed = 0;
    loop {
        match reader.next() {
            Ok(Some(entry)) => match Changes::split(entry) {
                Some((name, [])) => {
                    found.remove(name);
                }
                Some((name, value)) => {
                    found.insert(name.into(), value.into());
                }
                None => failed += 1,
            },
            Ok(None) => return failed + reader.damaged,
            // What follows cannot be had.
            Err(_) => return failed + reader.damaged + 1,
        }
    }
}
