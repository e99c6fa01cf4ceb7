//! Which file is being read, for whoever waits for the one who reads: a file system may hang.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

thread_local! {
    static FOLLOWED: RefCell<Progress> = RefCell::default();
}

/// The file that a thread is at.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Option<PathBuf>>>);

impl Progress {
    /// From now on, it is noted here which file this thread is at.
    pub fn follow(&self) {
        FOLLOWED.with_borrow_mut(|followed| *followed = self.clone());
    }

    /// `None` between two files.
    pub fn file(&self) -> Option<PathBuf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Does something with a file of the configuration that may take as long as the file system likes.
pub fn at_file<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    let note = |file| {
        FOLLOWED.with_borrow(|Progress(at)| *at.lock().unwrap_or_else(PoisonError::into_inner) = file);
    };
    note(Some(path.to_owned()));
    let result = work();
    note(None);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_to_another_thread_while_it_is_worked_on() {
        let progress = Progress::default();
        let seen = progress.clone();
        progress.follow();
        let other = move || std::thread::spawn(move || seen.file()).join().unwrap();
        assert_eq!(at_file(Path::new("a.pem"), other), Some("a.pem".into()));
        assert_eq!(progress.file(), None);
    }
}
