//! The bodies of the fuzz targets: what must hold for any octets.
//!
//! libFuzzer calls them by way of `fuzz_targets/`; the test `torture` calls them with the corpus and with seeded
//! mutations of it, on the stable compiler. Each is a plain function that panics where something does not hold.

// Each target includes this module whole and uses one function of it.
#![allow(dead_code)]

mod messages;
mod router;
mod values;
mod web;

pub(crate) use messages::{demux, framing, message};
pub(crate) use router::router;
pub(crate) use values::{digest, uri, via_and_name_addr};
pub(crate) use web::{handshake, websocket};

/// The body of a target.
pub(crate) type Target = fn(&[u8]);

/// All targets by the names of their folders below `corpus/`.
pub(crate) const ALL: [(&str, Target); 9] = [
    ("message", message),
    ("uri", uri),
    ("via_and_name_addr", via_and_name_addr),
    ("framing", framing),
    ("demux", demux),
    ("digest", digest),
    ("router", router),
    ("websocket", websocket),
    ("handshake", handshake),
];
