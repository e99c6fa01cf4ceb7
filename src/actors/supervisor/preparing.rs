//! Reading and checking a configuration, in a thread of its own: a file system that hangs holds up nobody else.
//!
//! Such a thread cannot be ended. It is left alone after [`DEADLINE`], what it comes to then counts for nothing, and there
//! are no more than [`MAXIMUM_THREADS`]. tokio's threads for blocking work do not serve: the process would not end
//! before they have.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::settings;
use super::watch::Fingerprints;
use crate::actors::tls::TlsSettings;
use crate::config::{
    Change, Config, Fault, Faults, Loaded, Place, Places, Progress, Service, Source, Warning, differences,
};
use crate::diagnostics::Diagnostics;

/// How long reading and checking may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// Threads that read, those included that have been left alone.
const MAXIMUM_THREADS: usize = 8;

/// What is read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The file of the configuration and those that it names.
    Everything,
    /// Those that it names, by this text: what the file of the configuration says by now is nobody's wish yet.
    NamedFiles(String),
}

impl Scope {
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Everything => "request",
            Self::NamedFiles(_) => "files_changed",
        }
    }
}

/// A configuration that can be applied.
pub(super) struct Prepared {
    /// Its elements have no identifiers yet that outlive the reload.
    pub(super) config: Config,
    pub(super) tls: TlsSettings,
    pub(super) text: String,
    pub(super) changes: Vec<Change>,
    pub(super) warnings: Vec<Warning>,
    /// The files that it names.
    pub(super) places: Places,
    /// What they looked like when they were read.
    pub(super) read: Fingerprints,
}

/// All that reading needs. Nothing of it changes meanwhile: one reads at a time.
pub(super) struct Task {
    pub(super) source: Source,
    pub(super) scope: Scope,
    /// What the files look like that are known so far.
    pub(super) known: Fingerprints,
    /// What is in force.
    pub(super) config: Arc<Config>,
    pub(super) tls: TlsSettings,
    pub(super) logs: Arc<Diagnostics>,
}

/// What has come of a [`Task`].
pub(super) struct Outcome {
    /// What the known files looked like before any was read.
    pub(super) before: Fingerprints,
    pub(super) prepared: Result<Prepared, Faults>,
}

/// The threads that read.
#[derive(Debug, Default)]
pub(super) struct Threads(Arc<()>);

impl Threads {
    /// Begins with a task; tells also how far that is. Nobody is told if it panics.
    pub(super) fn begin(&self, task: Task) -> io::Result<(oneshot::Receiver<Outcome>, Progress)> {
        let progress = Progress::default();
        let followed = progress.clone();
        let told = self.run(move || {
            followed.follow();
            task.run()
        })?;
        Ok((told, progress))
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<oneshot::Receiver<T>> {
        if Arc::strong_count(&self.0) > MAXIMUM_THREADS {
            let text = format!("{MAXIMUM_THREADS} earlier attempts still wait for their files");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
        }
        let counted = Arc::clone(&self.0);
        in_thread("configuration", move || {
            let _counted = counted;
            work()
        })
    }
}

/// Has a thread of its own do what may block.
pub(super) fn in_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (tell, told) = oneshot::channel();
    let work = move || {
        // Nobody may be waiting any more.
        let _ = tell.send(work());
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
    Ok(told)
}

impl Task {
    fn run(self) -> Outcome {
        let before = self.known.again();
        let prepared = self.prepare(&before);
        Outcome { before, prepared }
    }

    fn prepare(self, before: &Fingerprints) -> Result<Prepared, Faults> {
        let Self { source, scope, config: old, tls, logs, .. } = self;
        let loaded = match scope {
            Scope::Everything => source.load(),
            Scope::NamedFiles(text) => source.load_as(text),
        };
        let Loaded { config, warnings, places, text } = loaded?;
        let unchangeable = unchangeable(&old.service, &config.service, &places);
        if !unchangeable.is_empty() {
            return Err(Faults(unchangeable));
        }
        let tls = if settings::has_same_tls(&old, &config) {
            tls
        } else {
            settings::tls(&config, &logs)
                .map_err(|fault| Faults(vec![places.remark("certificate", fault.to_string())]))?
        };
        let changes = differences(&old, &config);
        let read = before.or_take(places.files());
        Ok(Prepared { config, tls, text, changes, warnings, places, read })
    }
}

/// What only a restart can change, and is otherwise than it is in force.
fn unchangeable(old: &Service, new: &Service, places: &Places) -> Vec<Fault> {
    let quoted = |path: &std::path::Path| format!("{:?}", path.display().to_string());
    let keys = [
        ("state_directory", quoted(&old.state_directory), quoted(&new.state_directory)),
        ("control_socket", quoted(&old.control_socket), quoted(&new.control_socket)),
        ("worker_threads", old.worker_threads.to_string(), new.worker_threads.to_string()),
    ];
    let other = keys.into_iter().filter(|(_, old, new)| old != new);
    let fault = |(key, old, new)| {
        let text = format!("{new} needs a restart, allowed in a reload: {old}, as it is in force");
        places.remark(&format!("service.{key}"), text)
    };
    other.map(fault).collect()
}

/// Why there is no outcome.
#[derive(Debug)]
pub(super) enum Absence {
    /// It has not come in time.
    Late(Progress),
    /// There never will be one.
    Panicked,
    /// Nothing was begun.
    NotBegun(io::Error),
    /// Nothing is read any more.
    Ending,
}

impl Absence {
    /// For people.
    pub(super) fn faults(self, source: &Source) -> Faults {
        let mut file = source.file().to_owned();
        let text = match self {
            Self::Late(progress) => {
                file = progress.file().unwrap_or(file);
                format!("has not been read after {DEADLINE:?}, allowed: a file system that answers")
            }
            Self::Panicked => "cannot be checked: that is a fault of the service".to_owned(),
            Self::NotBegun(error) => format!("is not read again: {error}"),
            Self::Ending => "is not read again: the service is ending".to_owned(),
        };
        Faults(vec![Fault { place: Place::File(file), key: String::new(), text }])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn so_many_threads_may_hang_and_each_that_ends_makes_room() {
        let threads = Threads::default();
        let begin = || {
            let (release, released) = mpsc::channel::<()>();
            threads.run(move || released.recv()).map(|told| (release, told))
        };
        let mut hanging: Vec<_> = (0..MAXIMUM_THREADS).map(|_| begin().unwrap()).collect();
        let refusal = begin().err().unwrap().to_string();
        assert!(refusal.contains("8 earlier attempts"), "{refusal}");
        let (release, told) = hanging.remove(0);
        drop(release);
        assert!(told.blocking_recv().unwrap().is_err());
        // It has told us, and ends.
        while Arc::strong_count(&threads.0) > MAXIMUM_THREADS {
            std::thread::yield_now();
        }
        begin().unwrap();
    }

    #[test]
    fn who_panics_is_told_at_once_from_who_hangs() {
        let threads = Threads::default();
        let told = threads.run::<()>(|| std::panic::resume_unwind(Box::new("a fault of ours"))).unwrap();
        assert!(told.blocking_recv().is_err());
    }
}
