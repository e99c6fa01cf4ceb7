//! The four machines from start to end over UDP, and the wheel that holds their timers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use sip_proxy::protocol::timer_wheel::TimerWheel;
use sip_proxy::protocol::transaction::{
    ClientInvite, ClientNonInvite, ServerInvite, ServerNonInvite, Timers,
};

/// Past every timer.
const LONG: Duration = Duration::from_secs(60);

/// INVITE, 180, 200, and the end of Timer M.
fn client_invite(now: Instant, timers: &Timers) -> ClientInvite {
    let (mut machine, actions) = ClientInvite::start(now, timers, false);
    black_box(actions);
    for status in [180, 200] {
        black_box(machine.handle_response(now, timers, status));
    }
    black_box(machine.handle_timeout(now + LONG, timers));
    machine
}

/// A request, 200, and the end of Timer K.
fn client_non_invite(now: Instant, timers: &Timers) -> ClientNonInvite {
    let (mut machine, actions) = ClientNonInvite::start(now, timers, false);
    black_box(actions);
    black_box(machine.handle_response(now, timers, 200));
    black_box(machine.handle_timeout(now + LONG, timers));
    machine
}

/// INVITE, 180, 486, ACK, and the end of Timer I.
fn server_invite(now: Instant, timers: &Timers) -> ServerInvite {
    let mut machine = ServerInvite::start(now, timers, false);
    for status in [180, 486] {
        black_box(machine.handle_response(now, timers, status));
    }
    black_box(machine.handle_ack(now, timers));
    black_box(machine.handle_timeout(now + LONG, timers));
    machine
}

/// A request, 200, and the end of Timer J.
fn server_non_invite(now: Instant, timers: &Timers) -> ServerNonInvite {
    let mut machine = ServerNonInvite::start(now, timers, false);
    black_box(machine.handle_response(now, timers, 200));
    black_box(machine.handle_timeout(now + LONG, timers));
    machine
}

pub(crate) fn machines(criterion: &mut Criterion) {
    let (now, timers) = (Instant::now(), Timers::default());
    let mut group = criterion.benchmark_group("transaction");
    group.bench_function("client, INVITE", |bencher| bencher.iter(|| client_invite(black_box(now), &timers)));
    group.bench_function("client, other", |bencher| {
        bencher.iter(|| client_non_invite(black_box(now), &timers));
    });
    group.bench_function("server, INVITE", |bencher| bencher.iter(|| server_invite(black_box(now), &timers)));
    group.bench_function("server, other", |bencher| {
        bencher.iter(|| server_non_invite(black_box(now), &timers));
    });
    group.finish();
}

/// One timer begins and one fires, beside 50,000 that wait: 10,000 transactions a second that stay for five.
pub(crate) fn wheel(criterion: &mut Criterion) {
    const GAP: Duration = Duration::from_micros(100);
    const STAY: Duration = Duration::from_secs(5);
    let mut now = Instant::now();
    let mut wheel = TimerWheel::new(now, Duration::from_millis(5));
    let mut turn = move || {
        now += GAP;
        wheel.schedule(now + STAY, 7_u64);
        while let Some(value) = wheel.pop_expired(now) {
            black_box(value);
        }
    };
    (0..100_000).for_each(|_| turn());
    criterion.bench_function("transaction/timer", |bencher| bencher.iter(&mut turn));
}
