//! Reading a message: one pass over its octets.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput};

use crate::rig::{parse, texts};

fn messages() -> [(&'static str, Bytes); 4] {
    let message = texts::message(1, 2);
    let answer = texts::response(&message, "200 OK", "");
    [
        ("MESSAGE", message),
        ("200", answer),
        ("INVITE with SDP", texts::invite(1, 2)),
        ("NOTIFY with PIDF", texts::notify(1)),
    ]
}

pub(crate) fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    for (name, octets) in messages() {
        group.throughput(Throughput::Bytes(octets.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| parse(black_box(&octets).clone())));
    }
    group.finish();
}
