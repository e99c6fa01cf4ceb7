//! What the cores take for their work: `cargo bench`, or `cargo bench -- router` for one group.
//!
//! Short runs. Who wants to know more gives criterion's own options: `cargo bench -- router --measurement-time 20`.

// Clocks are disallowed to the protocol, which is not here.
#![allow(clippy::disallowed_methods)]

#[path = "../rig/mod.rs"]
mod rig;

mod edit;
mod index;
mod router;
mod trace;
mod transaction;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// That of the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn brief() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args()
}

criterion_group! {
    name = benches;
    config = brief();
    targets = index::index, edit::edit, transaction::machines, transaction::wheel, router::exchanges, trace::trace
}
criterion_main!(benches);
