//! The `sip-proxy` command.

use std::process::ExitCode;

/// Buffers are freed on other threads than they were made on, which this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A huge page is cleared as a whole when it is first touched: everybody waits for milliseconds, and most of it stays
    // unused. A kernel that does not know of them has none.
    let _ = nix::sys::prctl::set_thp_disable(true);
    // A panic here is an internal error as any other.
    std::panic::catch_unwind(sip_proxy::cli::main).unwrap_or(sip_proxy::cli::Exit::Internal.into())
}
