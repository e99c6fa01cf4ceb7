//! What a Router's core and its Registrar take for a whole exchange, from octets to octets.

use std::time::Duration;

use criterion::Criterion;

use crate::rig::{Exchange, Rig, nanoseconds};

pub(crate) fn exchanges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("router");
    let table: [(&str, Exchange); 3] =
        [("MESSAGE, 200", Rig::message), ("INVITE to BYE", Rig::call), ("REGISTER, 200", Rig::register)];
    for (name, exchange) in table {
        let mut rig = Rig::warm(exchange);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| Duration::from_nanos(rig.measure(nanoseconds, times, exchange)));
        });
    }
    group.finish();
}
