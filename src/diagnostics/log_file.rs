//! One log on the disk: the file that grows, and the generations before it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Who may read: the service, and the group that administrators join.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// Between a failure and the next try: at first, and after many.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// After so long without a failure the next one is the first again.
const WELL: Duration = Duration::from_secs(60);

/// `sip.log` with `sip.log.1`, `sip.log.2` and so on, the older the higher.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    open: Option<Open>,
    fault: Option<Fault>,
    /// Lines since the failure.
    lost: u64,
    /// Before the next try, if it fails.
    wait: Duration,
    well_since: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    /// Device and number: whether the path still leads here.
    identity: (u64, u64),
}

#[derive(Debug)]
struct Fault {
    text: String,
    retry_at: Instant,
}

impl LogFile {
    /// Nothing is opened yet: the first [`Self::open`] is due at once.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, open: None, fault: None, lost: 0, wait: FIRST_WAIT, well_since: None }
    }

    /// Why it cannot be written.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_ref().map(|fault| fault.text.as_str())
    }

    /// Whether it has failed and is to be tried again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.retry_at <= now)
    }

    /// Lines that have not been written since it failed.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Opens it, or makes it.
    pub(super) fn open(&mut self, now: Instant) -> bool {
        let opened = self.try_open();
        self.settle(now, opened)
    }

    /// Writes a line, in a new file where this one would get larger than `largest`.
    pub(super) fn write(&mut self, now: Instant, line: &[u8], largest: u64, kept: usize) -> bool {
        let written = match &self.open {
            None => Ok(false),
            Some(open) if open.size > 0 && open.size + line.len() as u64 > largest => {
                self.rotate(kept).and_then(|()| self.append(line)).map(|()| true)
            }
            Some(_) => self.append(line).map(|()| true),
        };
        let is_written = matches!(written, Ok(true));
        if is_written {
            self.well_since.get_or_insert(now);
        }
        self.settle(now, written.map(drop)) && is_written
    }

    /// Counts a line that has found no way.
    pub(super) const fn lose(&mut self) {
        self.lost += 1;
    }

    /// A line has been written after a failure: it is well again.
    pub(super) fn resume(&mut self) {
        self.fault = None;
        self.lost = 0;
    }

    /// Looks whether somebody has moved, deleted, or cut the file.
    pub(super) fn check(&mut self, now: Instant) {
        let Some(open) = &mut self.open else { return };
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) == open.identity => open.size = found.len(),
            Ok(_) | Err(_) => {
                self.open(now);
            }
        }
        if self.well_since.is_some_and(|since| now.saturating_duration_since(since) >= WELL) {
            self.wait = FIRST_WAIT;
        }
    }

    /// Deletes the file and its generations, as far as `is_old` says so of the time of their last change. The number of
    /// those that are gone.
    pub(super) fn delete(&mut self, now: Instant, is_old: impl Fn(&fs::Metadata) -> bool) -> io::Result<u64> {
        let mut deleted = 0;
        for (_, path) in self.generations()? {
            if fs::metadata(&path).is_ok_and(|found| is_old(&found)) {
                remove(&path)?;
                deleted += 1;
            }
        }
        self.check(now);
        Ok(deleted)
    }

    fn try_open(&mut self) -> io::Result<()> {
        self.open = None;
        if let Some(directory) = self.path.parent() {
            let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
            made.map_err(|error| at(directory, &error))?;
        }
        // Of a pipe that nobody reads, neither opening nor writing waits.
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(FILE_MODE).custom_flags(nix::libc::O_NONBLOCK);
        let opened = options.open(&self.path).and_then(|file| Ok((file.metadata()?, file)));
        let (found, file) = opened.map_err(|error| at(&self.path, &error))?;
        self.open = Some(Open { file, size: found.len(), identity: identity(&found) });
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Err(error) = open.file.write_all(line) {
            // Half a line would spoil the next one. Where that cannot be undone, there is nothing to spoil either.
            let _ = open.file.set_len(open.size);
            return Err(at(&self.path, &error));
        }
        open.size += line.len() as u64;
        Ok(())
    }

    /// Begins a new file; the others become one older, and those that are not kept go.
    fn rotate(&mut self, kept: usize) -> io::Result<()> {
        let mut generations = self.generations()?;
        generations.sort_unstable_by(|one, other| other.cmp(one));
        for (number, path) in generations {
            if number >= kept {
                remove(&path)?;
            } else {
                let older = self.generation(number + 1);
                fs::rename(&path, &older).map_err(|error| at(&older, &error))?;
            }
        }
        self.try_open()
    }

    /// All files of this log that there are: 0 is the one that grows.
    fn generations(&self) -> io::Result<Vec<(usize, PathBuf)>> {
        let (Some(directory), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(Vec::new());
        };
        let (mut found, name) = (Vec::new(), name.to_string_lossy());
        for entry in fs::read_dir(directory).map_err(|error| at(directory, &error))? {
            let path = entry.map_err(|error| at(directory, &error))?.path();
            let Some(rest) = path.file_name().and_then(|file| file.to_str()?.strip_prefix(&*name)) else {
                continue;
            };
            let number = match rest.strip_prefix('.') {
                None if rest.is_empty() => Some(0),
                Some(digits) => {
                    digits.parse().ok().filter(|number: &usize| *number > 0 && number.to_string() == digits)
                }
                None => None,
            };
            found.extend(number.map(|number| (number, path)));
        }
        Ok(found)
    }

    fn generation(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// Remembers a failure until the next try.
    fn settle(&mut self, now: Instant, result: io::Result<()>) -> bool {
        let Err(error) = result else { return true };
        self.open = None;
        self.well_since = None;
        self.fault = Some(Fault { text: error.to_string(), retry_at: now + self.wait });
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        false
    }
}

fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Deletes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The same failure with the place where it was met.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
