//! What the tests of the Journal share: a directory, and a disk that can be full.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::pen::Medium;

/// In a directory with such a file, nothing reaches the disk.
const SLOW: &str = "slow";

/// In a directory with such a file, no more than half of what is written finds room.
const FULL: &str = "full";

/// In a directory with such a file, the disk takes nothing.
const BROKEN: &str = "broken";

/// A directory of a test's own, gone with it.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sip-proxy-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

/// Whether the disk of this directory is full.
pub(super) fn set_full(directory: &Path, is_full: bool) {
    set(&directory.join(FULL), is_full);
}

/// Whether the disk of this directory takes its time.
pub(super) fn set_slow(directory: &Path, is_slow: bool) {
    set(&directory.join(SLOW), is_slow);
}

/// Whether the disk of this directory takes what was written.
pub(super) fn set_broken(directory: &Path, is_broken: bool) {
    set(&directory.join(BROKEN), is_broken);
}

fn set(file: &Path, is_set: bool) {
    if is_set { fs::write(file, b"") } else { fs::remove_file(file) }.unwrap();
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file on a disk that can be full or slow, which counts how often it was waited for.
struct Failing {
    file: File,
    directory: PathBuf,
}

/// As [`super::store::create_file`].
pub(super) fn create_failing(path: &Path) -> io::Result<Arc<dyn Medium>> {
    let directory = path.parent().unwrap().to_owned();
    Ok(Arc::new(Failing { file: File::create_new(path)?, directory }))
}

impl Medium for Failing {
    fn append(&self, octets: &[u8]) -> io::Result<()> {
        if !self.directory.join(FULL).exists() {
            return self.file.append(octets);
        }
        self.file.append(&octets[..octets.len() / 2])?;
        Err(io::ErrorKind::StorageFull.into())
    }

    fn sync(&self) -> io::Result<()> {
        let mut syncs =
            fs::OpenOptions::new().create(true).append(true).open(self.directory.join("syncs"))?;
        syncs.write_all(b".")?;
        while self.directory.join(SLOW).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.directory.join(BROKEN).exists() {
            return Err(io::Error::other("broken"));
        }
        self.file.sync()
    }
}
