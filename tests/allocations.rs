//! How often the cores ask for memory: what an exchange takes once the tables are as large as they stay.
//!
//! With `DHAT=1` in the environment the test writes `target/dhat-EXCHANGE.json`, which says where; `dh_view.html` of
//! Valgrind shows it.

#[path = "../benches/rig/mod.rs"]
mod rig;

use rig::{Exchange, Rig};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Exchanges that are counted: so many that a table's rare growth vanishes in the mean.
const TIMES: u64 = 1_000;

/// What an exchange asks for memory for, and how often.
type Reasons = &'static [(&'static str, u64)];

/// MESSAGE and 200. A buffer has to leave the core, and an index that is a block of its own is not moved.
const MESSAGE: Reasons = &[
    ("the indices of the two messages that come", 2),
    ("the buffers of the two messages that leave", 2),
    ("the reference count of the request's, which is kept until it is answered", 1),
    ("the address-of-record of the question to the Registrar", 1),
    ("the list of targets in the Registrar's answer", 1),
    ("the target set that is made of it", 1),
    ("the contact, which its binding has packed", 1),
    ("the slot of the timer wheel, one for all that is due in the same tick", 1),
];

/// REGISTER that refreshes a binding, and 200.
const REGISTER: Reasons = &[
    ("the index of the request", 1),
    ("the buffer of the 200 and its reference count", 2),
    ("the address-of-record of To", 1),
    ("what is asked of the Registrar: the registration, its Call-ID, the contact", 3),
    ("rows of the 200: the list, Contact", 2),
    ("the slot of the timer wheel, one for all that is due in the same tick", 1),
];

/// INVITE, 180, 200, ACK, BYE, 200.
const CALL: Reasons = &[
    ("the indices of the six messages that come", 6),
    ("the buffers of the six messages that leave", 6),
    ("the reference counts of those that are kept: the requests, and what may be asked for again", 4),
    ("the address-of-record of the question to the Registrar", 1),
    ("the list of targets in the Registrar's answer", 1),
    ("the target set that is made of it", 1),
    ("the lists of those to be asked", 2),
    ("the contact, which its binding has packed", 1),
    ("the slots of the timer wheel, one for all that is due in the same tick", 2),
];

const BOUNDS: [(&str, Exchange, Reasons); 3] =
    [("message", Rig::message, MESSAGE), ("register", Rig::register, REGISTER), ("call", Rig::call, CALL)];

fn profiler(name: &str) -> dhat::Profiler {
    let builder = dhat::Profiler::builder().trim_backtraces(Some(24));
    match std::env::var_os("DHAT") {
        None => builder.testing().build(),
        Some(_) => builder.file_name(format!("target/dhat-{name}.json")).build(),
    }
}

fn blocks() -> u64 {
    dhat::HeapStats::get().total_blocks
}

#[test]
fn an_exchange_asks_for_memory_no_more_often_than_is_known() {
    for (name, exchange, reasons) in BOUNDS {
        let mut rig = Rig::warm(exchange);
        let counting = profiler(name);
        let taken = rig.measure(blocks, TIMES, exchange);
        drop(counting);
        println!("{name}: {taken} allocations in {TIMES} exchanges");
        let known: u64 = reasons.iter().map(|(_, count)| count).sum();
        let mean = (taken + TIMES / 2) / TIMES;
        assert!(mean <= known, "{name}: {mean} allocations, of which these are known: {reasons:#?}");
    }
}
