//! The store over a directory of a test's own.

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
    let mut entries: Vec<_> = entries.into_iter().map(|(name, value)| (text(name), text(value))).collect();
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
    for (path, mode) in [("a", 0o700), ("a/b", 0o700), ("a/b/lock", 0o600), ("a/b/00000001.segment", 0o600)] {
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
