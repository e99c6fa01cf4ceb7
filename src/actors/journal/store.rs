//! The store: a directory of segments.
//!
//! What changes is appended to the newest segment. When that has grown, another is begun, the whole state is told to
//! it, and once that is done the older ones are removed; so a segment that stands alone is complete. Whoever reads
//! them in their order and lets the later entry win has the state.

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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::actors::journal::testing::{Scratch, create_failing, set_full};

    /// Entries without name have no place here, values are text.
    fn changes(entries: &[(&str, &str)]) -> Changes {
        let mut changes = Changes::default();
        for (name, value) in entries {
            changes.push(name.as_bytes(), |out| out.extend_from_slice(value.as_bytes()));
        }
        changes
    }

    fn open(scratch: &Scratch) -> Store {
        Store::open(&scratch.0, create_failing, Pen::default()).unwrap()
    }

    fn keep(store: &mut Store, entries: &[(&str, &str)]) {
        store.append(&changes(entries));
        store.write().unwrap();
    }

    /// What is kept, in the order of the names, and how many places are damaged.
    fn kept(store: &Store) -> (Vec<(String, String)>, usize) {
        let Kept { entries, damaged } = store.load();
        let text = |octets: Box<[u8]>| String::from_utf8(octets.into()).unwrap();
        let mut entries: Vec<_> =
            entries.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        entries.sort();
        (entries, damaged)
    }

    fn pairs(entries: &[(&str, &str)]) -> Vec<(String, String)> {
        entries.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn segments(scratch: &Scratch) -> Vec<u64> {
        numbers(&scratch.0).unwrap().into_iter().collect()
    }

    #[test]
    fn the_last_word_on_each_name_is_kept_whatever_segment_has_it() {
        let scratch = Scratch::new("last-word");
        let mut store = open(&scratch);
        assert_eq!(kept(&store), (vec![], 0));
        assert_eq!(store.begin().unwrap(), 1);
        keep(&mut store, &[("a", "1"), ("b", "1"), ("c", "1")]);
        keep(&mut store, &[("b", "2")]);
        assert_eq!(store.begin().unwrap(), 2);
        keep(&mut store, &[("a", "3"), ("c", "")]);
        drop(store);
        let mut store = open(&scratch);
        assert_eq!(kept(&store), (pairs(&[("a", "3"), ("b", "2")]), 0));
        // Until all has been told to a new segment, the older ones are needed.
        assert_eq!(store.begin().unwrap(), 3);
        keep(&mut store, &[("b", "4")]);
        assert_eq!(segments(&scratch), [1, 2, 3]);
        assert_eq!(kept(&store), (pairs(&[("a", "3"), ("b", "4")]), 0));
        store.append(&changes(&[("a", "5")]));
        store.complete().unwrap();
        assert_eq!(segments(&scratch), [3]);
        assert_eq!(kept(&store), (pairs(&[("a", "5"), ("b", "4")]), 0));
    }

    #[test]
    fn what_is_not_committed_is_not_there() {
        let scratch = Scratch::new("uncommitted");
        let mut store = open(&scratch);
        store.begin().unwrap();
        store.append(&changes(&[("a", "1")]));
        assert_eq!(kept(&store), (vec![], 0));
        store.write().unwrap();
        assert_eq!(kept(&store), (pairs(&[("a", "1")]), 0));
    }

    #[test]
    fn a_segment_has_grown_when_most_of_it_is_of_no_more_use() {
        let scratch = Scratch::new("grown");
        let mut store = open(&scratch);
        let large = "x".repeat(1 << 20);
        store.begin().unwrap();
        keep(&mut store, &[("a", &large), ("b", &large), ("c", &large), ("d", &large)]);
        for _ in 0..20 {
            keep(&mut store, &[("a", &large)]);
        }
        assert!(!store.has_grown(), "not before it is complete");
        store.begin().unwrap();
        keep(&mut store, &[("a", &large)]);
        store.complete().unwrap();
        for kept in 2..=6 {
            keep(&mut store, &[("a", &large)]);
            assert_eq!(store.has_grown(), kept > 5, "{kept} MiB, of which one is needed");
        }
    }

    #[test]
    fn one_process_at_a_time_has_the_directory_for_its_owner_alone() {
        let scratch = Scratch::new("one");
        let mut store = Store::open(&scratch.0.join("a/b"), create_file, Pen::default()).unwrap();
        store.begin().unwrap();
        let other = Store::open(&scratch.0.join("a/b"), create_file, Pen::default());
        assert!(matches!(other, Err(OpenError::InUse(_))));
        for (path, mode) in
            [("a", 0o700), ("a/b", 0o700), ("a/b/lock", 0o600), ("a/b/00000001.segment", 0o600)]
        {
            let found = fs::metadata(scratch.0.join(path)).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{path}");
        }
        drop(store);
        assert!(Store::open(&scratch.0.join("a/b"), create_file, Pen::default()).is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_had_is_named() {
        let scratch = Scratch::new("file");
        fs::create_dir_all(&scratch.0).unwrap();
        let file = scratch.0.join("file");
        fs::write(&file, b"no directory").unwrap();
        let fault = Store::open(&file.join("x"), create_file, Pen::default()).map(|_| ()).unwrap_err();
        assert!(fault.to_string().contains("file/x"), "{fault}");
        assert!(matches!(fault, OpenError::Io(..)));
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_costs_no_more_than_itself() {
        let scratch = Scratch::new("damaged");
        let mut store = open(&scratch);
        store.begin().unwrap();
        for name in ["alice", "bob", "carol"] {
            keep(&mut store, &[(name, "the value")]);
        }
        store.begin().unwrap();
        keep(&mut store, &[("dora", "the value")]);
        let first = store.path(1);
        let mut octets = fs::read(&first).unwrap();
        let place = memchr::memmem::find(&octets, b"bob").unwrap();
        octets[place] ^= 1;
        fs::write(&first, octets).unwrap();
        fs::create_dir(store.path(7)).unwrap();
        fs::write(store.path(8), b"something else").unwrap();
        fs::write(scratch.0.join("notes.txt"), b"nobody's business").unwrap();
        fs::write(store.path(9), b"sipr").unwrap();
        let (entries, damaged) = kept(&store);
        assert_eq!((entries.len(), damaged), (3, 3), "{entries:?}");
    }

    #[test]
    fn a_segment_that_cannot_be_written_is_given_up_and_the_next_begins_anew() {
        let scratch = Scratch::new("full");
        let mut store = open(&scratch);
        store.begin().unwrap();
        keep(&mut store, &[("a", "1")]);
        store.complete().unwrap();
        set_full(&scratch.0, true);
        store.append(&changes(&[("b", "1")]));
        assert!(store.write().is_err());
        assert!(store.write().is_ok(), "nothing waits any more");
        assert!(store.begin().is_err());
        assert_eq!(segments(&scratch), [1], "what was not begun leaves no file");
        set_full(&scratch.0, false);
        assert_eq!(kept(&store), (pairs(&[("a", "1")]), 0), "half an entry is none");
        store.begin().unwrap();
        keep(&mut store, &[("b", "2")]);
        store.complete().unwrap();
        assert_eq!(kept(&store), (pairs(&[("b", "2")]), 0));
    }
}
