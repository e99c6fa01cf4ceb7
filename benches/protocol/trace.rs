//! What a message costs for traces: while nobody watches, and while somebody watches others.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use sip_proxy::actors::trace::{Criteria, Direction, Trace, Wanted};
use sip_proxy::protocol::flow::{Flow, InterfaceId, Transport};

use crate::rig::texts;

pub(crate) fn trace(criterion: &mut Criterion) {
    let octets = texts::message(1, 2);
    let flow = Flow {
        interface: InterfaceId(0),
        transport: Transport::Udp,
        local: ([127, 0, 0, 1], 5060).into(),
        remote: ([127, 0, 0, 1], 6100).into(),
        connection: None,
    };
    let trace = Arc::new(Trace::default());
    let show = || black_box(&trace).show(Direction::In, black_box(&flow), &[], black_box(&octets));
    let mut group = criterion.benchmark_group("trace");
    group.bench_function("nobody watches", |bencher| bencher.iter(show));
    let others = Wanted { user: Some("nobody".to_owned()), ..Wanted::default() };
    let _watch = trace.begin(Criteria::new(others).expect("a user is enough"));
    group.bench_function("another user is watched", |bencher| bencher.iter(show));
    group.finish();
}
