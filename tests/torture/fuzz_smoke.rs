//! The fuzz targets on the stable compiler: the corpus, mutations of it, and inputs that grow.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::mutation::{Random, mutate};
use super::targets;

/// Mutations of each target, unless `FUZZ_CASES` says otherwise.
const CASES: u64 = 3_000;

/// A script for the router is many messages.
const ROUTER_CASES: u64 = 2_000;

#[test]
fn no_message_breaks_the_index_or_the_edits() {
    smoke("message", CASES);
}

#[test]
fn no_uri_breaks_the_views() {
    smoke("uri", CASES);
}

#[test]
fn no_header_value_breaks_the_views() {
    smoke("via_and_name_addr", CASES);
}

#[test]
fn no_stream_breaks_the_framing() {
    smoke("framing", CASES);
}

#[test]
fn no_datagram_is_taken_for_what_it_is_not() {
    smoke("demux", CASES);
}

#[test]
fn no_credentials_break_the_digest() {
    smoke("digest", CASES);
}

#[test]
fn no_script_leaves_anything_behind_in_the_router() {
    smoke("router", ROUTER_CASES);
}

#[test]
fn no_frame_breaks_the_web_socket() {
    smoke("websocket", CASES);
}

#[test]
fn no_request_breaks_the_handshake() {
    smoke("handshake", CASES);
}

/// Runs a target on its corpus and on mutations of it. `FUZZ_SEED` runs one mutation, `FUZZ_CASES` so many.
fn smoke(name: &str, cases: u64) {
    let (_, target) = targets::ALL.iter().find(|(known, _)| *known == name).expect("a target of this name");
    let corpus = corpus(name);
    for (file, octets) in &corpus {
        let outcome = catch_unwind(|| target(octets));
        assert!(outcome.is_ok(), "{name}: {file}");
    }
    let seeds: Vec<_> = corpus.into_iter().map(|(_, octets)| octets).collect();
    let number = |key| std::env::var(key).ok().map(|value| value.parse::<u64>().expect("a number"));
    let range = match number("FUZZ_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FUZZ_CASES").unwrap_or(cases),
    };
    for seed in range {
        let octets = mutate(&mut Random::new(seed), &seeds);
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&octets)));
        assert!(outcome.is_ok(), "{name}: FUZZ_SEED={seed}, {}", octets.escape_ascii());
    }
}

/// The corpus of a target; of those that read messages, the torture messages too.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut folders = vec![root.join("fuzz/corpus").join(name)];
    if matches!(name, "message" | "framing" | "demux" | "via_and_name_addr") {
        folders.push(root.join("torture/messages"));
    }
    let mut files = Vec::new();
    for folder in folders {
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    // In an order that does not depend on the file system: a seed must mean the same everywhere.
    files.sort();
    let read =
        |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    files.iter().map(|path| (path.display().to_string(), read(path))).collect()
}

/// Inputs that would take a careless reader quadratic time: the target, what stands before, what is repeated, what
/// stands behind.
const GROWING: [(&str, &str, &str, &str); 22] = [
    ("message", HEAD, "x: y\r\n", "\r\n"),
    ("message", HEAD, "x", ": y\r\n\r\n"),
    ("message", HEAD, "Via: SIP/2.0/UDP a;branch=z9hG4bK\r\n", "\r\n"),
    ("message", "OPTIONS sip:a SIP/2.0\r\nVia: a", ",b", "\r\n\r\n"),
    ("message", "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a", ";b", "\r\n\r\n"),
    ("message", "OPTIONS sip:a SIP/2.0\r\nRoute: ", "<sip:a>,", "<sip:b>\r\n\r\n"),
    ("message", "OPTIONS sip:a SIP/2.0\r\nFrom: \"", "\\\"", "\r\n\r\n"),
    ("message", "OPTIONS sip:a SIP/2.0\r\nTo: ", "<", "\r\n\r\n"),
    ("message", "OPTIONS sip:a SIP/2.0\r\nx: y", "\r\n ", "\r\n\r\n"),
    ("message", "OPTIONS sip:a SIP/2.0\r\nx: y", "\r", "\r\n\r\n"),
    ("message", "OPTIONS ", " ", " sip:a SIP/2.0\r\n\r\n"),
    ("message", "", "\r\n", "OPTIONS sip:a SIP/2.0\r\n\r\n"),
    ("uri", "sip:a@b", ";c=%41", ""),
    ("uri", "sip:", "%41", "@b"),
    ("via_and_name_addr", "SIP/2.0/UDP a", " ; b = c", ""),
    ("via_and_name_addr", "SIP/2.0/UDP a;b", " ", ";c"),
    ("via_and_name_addr", "", "\"a\" <sip:b>;c,", "d"),
    ("framing", "\u{f}0123456789abcde", "\r\n", "x"),
    ("framing", "\u{f}0123456789abcdeOPTIONS sip:a SIP/2.0\r\n", "l: 0\r\n ", "\r\n\r\n"),
    ("handshake", "\u{f}0123456789abcdeGET / HTTP/1.1\r\n", "a: b\r\n", "\r\n"),
    ("handshake", "\u{f}0123456789abcdeGET / HTTP/1.1\r\na: ", "b", "\r\n\r\n"),
    ("digest", "Digest username=\"u\"", ", x=\"\\y\"", ""),
];

const HEAD: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\n\
                    To: <sip:a@b>\r\nCall-ID: a\r\nCSeq: 1 OPTIONS\r\n";

/// Sixteen times the input may take sixteen times as long; quadratic would be 256 times. What is compared are the
/// shortest of several runs, so that a busy machine does not matter; and a pair is measured again before it counts.
#[test]
fn time_grows_with_the_input_and_not_with_its_square() {
    const BETWEEN: u32 = 64;
    for (name, before, repeated, behind) in GROWING {
        let (_, target) =
            targets::ALL.iter().find(|(known, _)| *known == name).expect("a target of this name");
        let input = |size: usize| {
            let times = (size - before.len() - behind.len()) / repeated.len();
            [before, &repeated.repeat(times), behind].concat().into_bytes()
        };
        let (small, large) = (input(4_000), input(64_000));
        let is_linear = |_| {
            shortest(*target, &large) < shortest(*target, &small).max(Duration::from_micros(50)) * BETWEEN
        };
        assert!((0..4).any(is_linear), "{name}: {repeated:?} many times takes more than linear time");
    }
}

fn shortest(target: targets::Target, octets: &[u8]) -> Duration {
    let run = |_| {
        let begun = Instant::now();
        target(octets);
        begun.elapsed()
    };
    (0..5).map(run).min().expect("five runs")
}
