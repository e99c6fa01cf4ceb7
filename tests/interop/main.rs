//! Interoperability with software that others have written: SIPp, linphone, baresip, Kamailio as another organisation,
//! and Wireshark.
//!
//! Needs the packages in `tests/packages.txt`; a missing one fails the tests and says so. All traffic stays on
//! loopback.

// Disallowed to the protocol only, which is not here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../common/mod.rs"]
mod common;

mod capture;
mod clients;
mod federation;
mod harness;
mod kamailio;
mod real_clients;
mod sipp;
mod uc_server;

use std::path::PathBuf;

/// What to do where something is missing.
const REMEDY: &str = "Install what the interoperability tests need: \
                      apt-get install --no-install-recommends $(cat tests/packages.txt)";

/// Where a program is.
///
/// # Panics
///
/// Where it is not on the path: a test that passes without having tested would hide it.
fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is not on the path. {REMEDY}"))
}
