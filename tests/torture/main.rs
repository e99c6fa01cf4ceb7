//! Torture: the messages of RFC 4475 and RFC 5118, and the fuzz targets on their corpus and mutations of it.
//!
//! `table.rs` has what becomes of each message. It is checked twice: in process, against the parser and the
//! validation (`in_process.rs`), and from outside, against the built binary over UDP and TCP (`black_box.rs`).
//! `fuzz_smoke.rs` runs the bodies of `tests/fuzz` for a few seconds; `FUZZ_SEED=` replays one of its runs.

// What `.clippy.toml` disallows is disallowed to the protocol, which is not here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../fuzz/targets/mod.rs"]
mod targets;

mod black_box;
mod fuzz_smoke;
mod in_process;
mod mutation;
mod table;
mod wire;
