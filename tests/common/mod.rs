//! What the black-box tests share: a small SIP text library of their own, scripted agents, certificates, and the
//! proxy as a child process.
//!
//! Nothing here uses the product's library: a fault in its parser must not hide itself from its tests.

// Every test binary includes this module whole and uses the part that it needs. Clocks and sockets are disallowed to
// the protocol, which is not here.
#![allow(dead_code, clippy::disallowed_methods, clippy::disallowed_types)]

pub(crate) mod agent;
pub(crate) mod certificates;
pub(crate) mod digest;
pub(crate) mod dns;
pub(crate) mod form;
pub(crate) mod http;
mod link;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod scratch;
pub(crate) mod sip;
pub(crate) mod stun_server;
pub(crate) mod web;

use std::future::Future;
use std::time::{Duration, Instant};

/// Runs `test` on a runtime of its own and fails when it takes longer than `limit`.
///
/// Nothing of the test outlives the call: its tasks end with the runtime.
pub(crate) fn run(limit: Duration, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        assert!(tokio::time::timeout(limit, test).await.is_ok(), "the test takes longer than {limit:?}");
    });
}

/// Asks `question` again and again until it has an answer.
///
/// # Panics
///
/// When `limit` has passed, with `what` was waited for.
pub(crate) async fn eventually<T>(limit: Duration, what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
