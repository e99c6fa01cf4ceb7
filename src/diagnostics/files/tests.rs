//! Log files on a real disk, with what can happen to them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::super::tests::{Scratch, settings};
use super::*;
use crate::config::LogLevel;

const SECOND: Duration = Duration::from_secs(1);

/// Noon of some day.
fn noon() -> Now {
    Now { instant: Instant::now(), time: UNIX_EPOCH + Duration::from_secs(20_000 * DAY + DAY / 2) }
}

impl Now {
    fn after(self, wait: Duration) -> Self {
        Self { instant: self.instant + wait, time: self.time + wait }
    }
}

/// The files of a test, and what was said of them.
struct Bench {
    scratch: Scratch,
    files: Files,
    notices: Vec<Notice>,
    now: Now,
}

impl Bench {
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let scratch = Scratch::new();
        Self::at(&scratch.path().join("var/log"), scratch, change)
    }

    fn at(directory: &Path, scratch: Scratch, change: impl FnOnce(&mut Settings)) -> Self {
        let (mut settings, mut notices, now) = (settings(LogLevel::Info, &[]), Vec::new(), noon());
        change(&mut settings);
        let files = Files::open(now, directory, &settings, &mut notices);
        Self { scratch, files, notices, now }
    }

    fn write(&mut self, line: &str) -> bool {
        self.files.write(self.now, Log::Sip, line.as_bytes(), &mut self.notices)
    }

    fn check(&mut self) {
        self.files.check(self.now, &mut self.notices);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.directory().join(name)
    }

    /// What a file has, or `-`.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|_| "-".to_owned())
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.files.directory()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// As the output does it: whether the log is written again, and how many lines it has lost.
    fn resume(&mut self, log: Log) -> Option<u64> {
        let lost = self.files.reopen(self.now, log)?;
        self.files.resume(self.now, log, b"resumed\n").then_some(lost)
    }
}

#[test]
fn the_directory_and_the_files_are_made_for_the_service_and_its_group() {
    let mut bench = Bench::with(|_| ());
    assert!(bench.write("one\n") && bench.write("two\n"));
    assert_eq!(bench.names(), ["security.log", "sip-proxy.log", "sip.log"]);
    assert_eq!(bench.read("sip.log"), "one\ntwo\n");
    for (path, mode) in [("", 0o750), ("sip.log", 0o640)] {
        let found = fs::metadata(bench.path(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found & !mode, 0, "{path}: {found:o}");
    }
    assert_eq!(bench.notices, []);
}

#[test]
fn a_file_is_begun_anew_past_its_size_and_so_many_older_ones_are_kept() {
    let mut bench = Bench::with(|settings| settings.kept_log_files = 2);
    bench.files.largest = 10;
    for line in ["a 4567\n", "b 4567\n", "c\n", "d 4567\n", "e 4567\n"] {
        assert!(bench.write(line));
    }
    assert_eq!(bench.read("sip.log"), "e 4567\n");
    assert_eq!(bench.read("sip.log.1"), "d 4567\n");
    assert_eq!(bench.read("sip.log.2"), "b 4567\nc\n");
    assert_eq!(bench.names(), ["security.log", "sip-proxy.log", "sip.log", "sip.log.1", "sip.log.2"]);
    // A line that is longer than a file may be stands in a file of its own.
    assert!(bench.write("longer than the limit\n") && bench.write("f\n"));
    assert_eq!((bench.read("sip.log"), bench.read("sip.log.1").len()), ("f\n".to_owned(), 22));
    bench.files.apply(
        bench.now,
        &Settings { kept_log_files: 0, ..settings(LogLevel::Info, &[]) },
        &mut bench.notices,
    );
    bench.files.largest = 1;
    assert!(bench.write("g\n"));
    assert_eq!(bench.names(), ["security.log", "sip-proxy.log", "sip.log"]);
    assert_eq!(bench.notices, []);
}

#[test]
fn a_new_process_goes_on_where_the_last_one_ended() {
    let mut bench = Bench::with(|_| ());
    bench.write("before\n");
    let Bench { scratch, files, .. } = bench;
    let mut bench = Bench::at(files.directory(), scratch, |_| ());
    bench.files.largest = 10;
    bench.write("after\n");
    assert_eq!(
        (bench.read("sip.log.1"), bench.read("sip.log")),
        ("before\n".to_owned(), "after\n".to_owned())
    );
}

#[test]
fn a_file_that_somebody_moves_deletes_or_cuts_is_there_again() {
    let mut bench = Bench::with(|_| ());
    bench.write("one\n");
    fs::rename(bench.path("sip.log"), bench.path("moved")).unwrap();
    bench.write("two\n");
    bench.check();
    bench.write("three\n");
    assert_eq!((bench.read("moved"), bench.read("sip.log")), ("one\ntwo\n".to_owned(), "three\n".to_owned()));
    fs::remove_file(bench.path("sip.log")).unwrap();
    bench.check();
    bench.write("four\n");
    assert_eq!(bench.read("sip.log"), "four\n");
    fs::remove_dir_all(bench.files.directory()).unwrap();
    bench.check();
    bench.write("five\n");
    assert_eq!(bench.read("sip.log"), "five\n");
    fs::write(bench.path("sip.log"), "").unwrap();
    bench.check();
    bench.files.largest = 8;
    bench.write("six\n");
    assert_eq!((bench.read("sip.log"), bench.read("sip.log.1")), ("six\n".to_owned(), "-".to_owned()));
    assert_eq!(bench.notices, []);
}

#[test]
fn a_directory_that_cannot_be_made_is_told_once_and_tried_again() {
    let scratch = Scratch::new();
    let obstacle = scratch.path().join("file");
    fs::write(&obstacle, "").unwrap();
    let mut bench = Bench::at(&obstacle.join("log"), scratch, |_| ());
    let Some(Notice::Failed { reason, .. }) = bench.notices.pop() else { panic!("{:?}", bench.notices) };
    assert!(reason.contains("file/log: ") && bench.notices.is_empty(), "{reason} {:?}", bench.notices);
    assert_eq!(bench.files.fault(), Some(&*reason));
    assert!(!bench.write("lost\n") && !bench.write("lost\n"));
    bench.check();
    assert_eq!(bench.resume(Log::Sip), None, "not so soon");
    bench.now = bench.now.after(SECOND);
    assert_eq!(bench.resume(Log::Sip), None, "the obstacle is there");
    fs::remove_file(&obstacle).unwrap();
    bench.now = bench.now.after(SECOND);
    assert_eq!(bench.resume(Log::Sip), None, "the second wait is longer");
    bench.now = bench.now.after(SECOND);
    assert_eq!(bench.resume(Log::Sip), Some(2));
    assert!(bench.write("there\n"));
    assert_eq!(bench.read("sip.log"), "resumed\nthere\n");
    assert!(bench.files.fault().is_some(), "the others have not been tried");
    assert_eq!((bench.resume(Log::Service), bench.resume(Log::Security)), (Some(0), Some(0)));
    assert_eq!((bench.files.fault(), &*bench.notices), (None, &[][..]));
}

#[test]
fn a_directory_that_becomes_a_file_and_a_generation_that_is_a_directory_are_failures() {
    let mut bench = Bench::with(|_| ());
    fs::remove_dir_all(bench.files.directory()).unwrap();
    fs::write(bench.files.directory(), "").unwrap();
    bench.check();
    assert_eq!(bench.notices.len(), 1, "{:?}", bench.notices);
    let mut bench = Bench::with(|_| ());
    bench.files.largest = 5;
    fs::create_dir_all(bench.path("sip.log.1/x")).unwrap();
    bench.files.kept = 1;
    assert!(bench.write("one\n") && !bench.write("two\n"));
    assert!(
        matches!(&bench.notices[..], [Notice::Failed { log: Log::Sip, reason }] if reason.contains("sip.log.1"))
    );
}

#[test]
fn a_full_disk_loses_lines_and_counts_them_until_there_is_room() {
    let mut bench = Bench::with(|_| ());
    fs::remove_file(bench.path("sip.log")).unwrap();
    symlink("/dev/full", bench.path("sip.log")).unwrap();
    bench.check();
    assert!(!bench.write("one\n") && !bench.write("two\n"));
    let [Notice::Failed { log: Log::Sip, reason }] = &bench.notices[..] else {
        panic!("{:?}", bench.notices)
    };
    assert!(reason.contains("sip.log: No space left on device"), "{reason}");
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        bench.now = bench.now.after(wait * SECOND - SECOND / 2);
        assert!(!bench.files.logs[Log::Sip as usize].is_due(bench.now.instant), "{wait}");
        bench.now = bench.now.after(SECOND / 2);
        assert_eq!(bench.resume(Log::Sip), None, "it can be opened, but not written");
    }
    assert!(!bench.write("three\n"));
    fs::remove_file(bench.path("sip.log")).unwrap();
    bench.now = bench.now.after(30 * SECOND);
    assert_eq!(bench.resume(Log::Sip), Some(3));
    assert_eq!(bench.notices.len(), 1, "{:?}", bench.notices);
}

#[test]
fn a_pipe_that_nobody_reads_holds_nobody_up() {
    let mut bench = Bench::with(|_| ());
    fs::remove_file(bench.path("sip.log")).unwrap();
    nix::unistd::mkfifo(&bench.path("sip.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    bench.check();
    assert!(!bench.write("one\n"));
    assert_eq!(bench.notices.len(), 1, "{:?}", bench.notices);
}

#[test]
fn a_day_that_ends_takes_its_files_along_and_no_others() {
    let mut bench = Bench::with(|settings| settings.delete_log_files_daily = true);
    bench.files.largest = 5;
    bench.write("one\n");
    bench.write("two\n");
    let others = ["sip.log.old", "sip.log.01", "sip.log.1.gz", "other.log", "sip.log.0"];
    others.iter().for_each(|name| fs::write(bench.path(name), "mine\n").unwrap());
    bench.now = bench.now.after(Duration::from_secs(DAY / 2 - 1));
    bench.check();
    assert_eq!(bench.read("sip.log"), "two\n");
    bench.now = bench.now.after(SECOND);
    bench.write("six\n");
    assert_eq!(bench.notices, [Notice::Deleted(4)]);
    assert_eq!((bench.read("sip.log"), bench.read("sip.log.1")), ("six\n".to_owned(), "-".to_owned()));
    others.iter().for_each(|name| assert_eq!(bench.read(name), "mine\n", "{name}"));
    bench.now = bench.now.after(Duration::from_secs(DAY));
    bench.check();
    assert_eq!((bench.read("sip.log"), bench.notices.len()), (String::new(), 2), "no line is needed for it");
}

#[test]
fn what_is_left_of_days_before_goes_when_the_process_begins() {
    let mut bench = Bench::with(|_| ());
    bench.write("one\n");
    // The files are of the time of the test, which lies after the noon of the others.
    bench.now.time = SystemTime::now();
    bench.files.day = bench.now.day();
    let daily = Settings { delete_log_files_daily: true, ..settings(LogLevel::Info, &[]) };
    let old = fs::File::options().write(true).open(bench.path("security.log")).unwrap();
    old.set_modified(bench.now.time - 2 * Duration::from_secs(DAY)).unwrap();
    fs::File::options()
        .write(true)
        .open(bench.path("sip.log"))
        .unwrap()
        .set_modified(bench.now.time)
        .unwrap();
    bench.files.apply(bench.now, &daily, &mut bench.notices);
    assert_eq!(bench.notices, [Notice::Deleted(1)]);
    assert_eq!((bench.read("sip.log"), bench.read("security.log")), ("one\n".to_owned(), String::new()));
    bench.notices.clear();
    bench.files.apply(bench.now, &daily, &mut bench.notices);
    assert_eq!(bench.notices, []);
}
