//! The message-routing engine as a whole, in virtual time: Routers and Registrar, a network that loses, doubles and
//! reorders, streams that end, peers that do what they like, actors that panic, processes that restart.
//!
//! Each run is decided by its seed. A failure names it and shows what happened last:
//!
//! | variable | is |
//! |---|---|
//! | `SIM_SEED` | the one seed to run |
//! | `SIM_SEEDS` | how many to run, from 0 on |
//! | `SIM_TRACE` | `1`: all that happens, a line each; `2`: with the messages |
//!
//! `world.rs` is the run itself, `acts.rs` what is begun in it, `engine.rs` the proxy, `network.rs` what lies between,
//! `peer` who talks to it, and `model` the oracle: it holds each message that leaves against what came in, and each
//! request against its outcome.

// Clocks are disallowed to the protocol, which is not here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../common/mod.rs"]
mod common;

mod acts;
mod coverage;
mod engine;
mod faults;
mod model;
mod network;
mod peer;
mod random;
mod sabotage;
mod setup;
mod text;
mod trace;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coverage::Coverage;
use sabotage::Fault;
use trace::{Detail, Trace};
use world::World;

/// Seeds of a run, unless `SIM_SEEDS` says otherwise.
const SEEDS: u64 = 3_000;

/// A run that has failed: why, and what happened.
struct Failure {
    reason: String,
    trace: String,
}

fn simulate(seed: u64, fault: Option<Fault>, detail: Detail) -> Result<(Coverage, String), Failure> {
    let trace = Trace::new(detail);
    let outcome = catch_unwind(AssertUnwindSafe(|| World::new(seed, fault, &trace).run()));
    outcome
        .map(|coverage| (coverage, if detail == Detail::Tail { String::new() } else { trace.to_string() }))
        .map_err(|panic| Failure { reason: reason(&*panic), trace: trace.to_string() })
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Runs one seed and shows what happened.
fn replay(seed: u64) {
    let detail = match number("SIM_TRACE") {
        None | Some(0) => Detail::Tail,
        Some(1) => Detail::Whole,
        Some(_) => Detail::Octets,
    };
    match simulate(seed, None, detail) {
        Ok((_, trace)) if detail != Detail::Tail => println!("{trace}"),
        Ok(_) => {}
        Err(Failure { reason, trace }) => panic!("SIM_SEED={seed}\n{trace}{reason}"),
    }
}

/// Runs seeds on all cores until one fails.
fn run_all(seeds: u64) -> Coverage {
    let (next, has_failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (coverage, failures) = (Mutex::new(Coverage::default()), Mutex::new(Vec::new()));
    let work = || {
        let mut own = Coverage::default();
        while !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            match simulate(seed, None, Detail::Tail) {
                Ok((found, _)) => own.merge(&found),
                Err(failure) => {
                    has_failed.store(true, Ordering::Relaxed);
                    failures.lock().expect("nobody panics here").push((seed, failure));
                }
            }
        }
        coverage.lock().expect("nobody panics here").merge(&own);
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
    let mut failures = failures.into_inner().expect("nobody panics here");
    failures.sort_by_key(|(seed, _)| *seed);
    if let Some((seed, Failure { reason, trace })) = failures.into_iter().next() {
        panic!("SIM_SEED={seed}\n{trace}{reason}");
    }
    coverage.into_inner().expect("nobody panics here")
}

#[test]
fn whatever_happens_each_request_has_its_outcome_and_nothing_is_left_behind() {
    if let Some(seed) = number("SIM_SEED") {
        return replay(seed);
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let coverage = run_all(seeds);
    println!("{seeds} seeds\n{coverage}");
    let gaps = coverage.gaps(seeds);
    assert!(gaps.is_empty(), "what is simulated too seldom: {gaps:#?}");
}

/// Seeds that are tried until a fault is seen.
const OCCASIONS: u64 = 60;

#[test]
fn a_fault_of_the_proxys_is_seen() {
    for (fault, words) in sabotage::ALL {
        let runs = (0..OCCASIONS).map(|seed| simulate(seed, Some(*fault), Detail::Tail));
        let essential = words.split('|').next().expect("there are words");
        let is_seen = runs.filter_map(Result::err).any(|Failure { reason, .. }| {
            assert!(words.split('|').any(|words| reason.contains(words)), "{fault:?} is seen as: {reason}");
            reason.contains(essential)
        });
        assert!(is_seen, "{fault:?} is never seen as: {essential}");
    }
}

#[test]
fn a_seed_decides_about_everything() {
    let run = |seed| match simulate(seed, None, Detail::Whole) {
        Ok((coverage, trace)) => format!("{coverage}{trace}"),
        Err(Failure { reason, .. }) => panic!("SIM_SEED={seed}\n{reason}"),
    };
    for seed in 0..20 {
        let (once, again) = (run(seed), run(seed));
        let differing = once.lines().zip(again.lines()).find(|(once, again)| once != again);
        assert_eq!((differing, once.len()), (None, again.len()), "SIM_SEED={seed}");
    }
}
