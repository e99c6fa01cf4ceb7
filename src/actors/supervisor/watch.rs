//! Files whose content is a part of the configuration: when they change, it is read again.
//!
//! They are looked at every few seconds, by length, time, inode and device of what the path leads to, so that a link which
//! is pointed elsewhere counts, too. What has changed must have rested from one look to the next: who renews a
//! certificate writes its key a moment later.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use actix::prelude::*;

use super::Supervisor;
use super::preparing::in_thread;
use crate::config::at_file;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// What a file looks like; `None`: it is not there.
type Fingerprint = Option<(u64, Option<SystemTime>, u64, u64)>;

/// What files look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprints(BTreeMap<PathBuf, Fingerprint>);

impl Fingerprints {
    /// As they are now.
    pub(super) fn take<'a>(files: impl Iterator<Item = &'a Path>) -> Self {
        Self(files.map(|file| (file.to_owned(), fingerprint(file))).collect())
    }

    /// The same files, as they are now.
    pub(super) fn again(&self) -> Self {
        Self::take(self.0.keys().map(PathBuf::as_path))
    }

    /// These files: as they were where they are known here, else as they are now.
    pub(super) fn or_take<'a>(&self, files: impl Iterator<Item = &'a Path>) -> Self {
        let known = |file: &Path| self.0.get(file).copied().unwrap_or_else(|| fingerprint(file));
        Self(files.map(|file| (file.to_owned(), known(file))).collect())
    }
}

fn fingerprint(file: &Path) -> Fingerprint {
    let found = at_file(file, || std::fs::metadata(file)).ok()?;
    Some((found.len(), found.modified().ok(), found.ino(), found.dev()))
}

/// The files, as they were when they were read last and when they were looked at last.
#[derive(Debug)]
pub(super) struct Watch {
    read: Fingerprints,
    seen: Fingerprints,
    is_looking: bool,
}

impl Watch {
    /// For files that have been read when they looked like this.
    pub(super) fn new(read: Fingerprints) -> Self {
        Self { seen: read.clone(), read, is_looking: false }
    }

    /// What is watched, as it was when it was looked at last.
    pub(super) const fn seen(&self) -> &Fingerprints {
        &self.seen
    }

    /// These have been read; `read` is what they looked like before.
    pub(super) fn have_read(&mut self, read: Fingerprints) {
        self.seen = read.clone();
        self.read = read;
    }

    /// They could not be used as they looked: that is not tried again.
    pub(super) fn have_refused(&mut self, before: Fingerprints) {
        self.seen = before.clone();
        self.read = before;
    }

    /// They may have been read otherwise than they are: they count as changed.
    pub(super) fn distrust(&mut self) {
        self.read = Fingerprints::default();
    }

    /// Whether they have changed and rested since.
    fn look(&mut self, now: Fingerprints) -> bool {
        let has_rested = now == self.seen;
        self.seen = now;
        has_rested && self.seen != self.read
    }
}

impl Supervisor {
    /// Looks at the files again and again; not in this thread, for a file system may hang.
    pub(super) fn watch_files(&self, ctx: &mut Context<Self>) {
        ctx.run_interval(INTERVAL, |supervisor, ctx| {
            let is_reading = supervisor.reloading.is_under_way();
            let watch = &mut supervisor.reloading.watch;
            if is_reading || watch.is_looking || watch.seen.0.is_empty() || supervisor.stopping.is_asked_for()
            {
                return;
            }
            let known = watch.seen.clone();
            let Ok(looked) = in_thread("watch", move || known.again()) else { return };
            watch.is_looking = true;
            ctx.spawn(looked.into_actor(supervisor).map(|now, supervisor, ctx| {
                let is_reading = supervisor.reloading.is_under_way();
                let watch = &mut supervisor.reloading.watch;
                watch.is_looking = false;
                // A reload may have come between.
                if let Ok(now) = now
                    && !is_reading
                    && now.0.keys().eq(watch.seen.0.keys())
                    && watch.look(now)
                {
                    supervisor.files_changed(ctx);
                }
            }));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_has_rested_and_is_not_tried_twice() {
        let directory = std::env::temp_dir().join(format!("sip-proxy-watch-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (one, two, link) = (directory.join("one"), directory.join("two"), directory.join("link"));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&two, "2").unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let files = || [link.as_path()].into_iter();
        let mut watch = Watch::new(Fingerprints::take(files()));
        let look = |watch: &mut Watch| watch.look(Fingerprints::take(files()));
        assert!(!look(&mut watch));

        // The link is pointed elsewhere, to a file of the same length.
        std::fs::remove_file(&link).unwrap();
        assert!(!look(&mut watch));
        std::os::unix::fs::symlink(&two, &link).unwrap();
        assert!(!look(&mut watch), "it has not rested");
        assert!(look(&mut watch));
        let before = watch.seen().again();
        watch.have_refused(before);
        assert!(!look(&mut watch));

        // It changes while it is read: what was read is what there was before.
        let before = watch.seen().again();
        std::fs::write(&two, "22").unwrap();
        watch.have_read(before.or_take(files()));
        assert!(!look(&mut watch));
        assert!(look(&mut watch));

        // Who could not be waited for has ended.
        watch.have_refused(watch.seen().clone());
        assert!(!look(&mut watch));
        watch.distrust();
        assert!(look(&mut watch));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
