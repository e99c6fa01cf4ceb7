//! The `sip-proxy` command.

use std::process::ExitCode;

/// Buffers are freed on other threads than they were made on, which this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A panic here is an internal error as any other.
    std::panic::catch_unwind(sip_proxy::cli::main).unwrap_or(sip_proxy::cli::Exit::Internal.into())
}
