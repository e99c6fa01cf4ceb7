//! A script of what peers, Registrar and clock do to a Router.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| targets::router(octets));
