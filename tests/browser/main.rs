//! The status page in a browser: headless Chromium, driven by ChromeDriver.
//!
//! Half of the tests have the page talk to the built proxy; the others to reports made here, for what a proxy is not
//! easily brought to. Needs the packages in `tests/packages.txt`; a missing one fails the tests and says so. All traffic
//! stays on loopback.

// Disallowed to the protocol only, which is not here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../common/mod.rs"]
mod common;

mod appearance;
mod browser;
mod deeds;
mod fixture;
mod hostile;
mod http;
mod reports;
mod service;
mod states;
