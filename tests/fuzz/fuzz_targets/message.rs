//! One message in a datagram or a frame.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| targets::message(octets));
