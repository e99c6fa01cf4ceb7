//! The LAN's usual traffic: one caller, one callee, MESSAGEs at a fixed rate, and how long each takes to its 200.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::texts;

/// MESSAGEs a second.
pub(crate) const RATE: u64 = 500;

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The user who is called.
const USER: u64 = 1;

/// Microseconds from a MESSAGE to its 200, in rising order.
pub(crate) struct Latencies {
    sorted: Vec<f64>,
    /// MESSAGEs without a 200.
    pub(crate) lost: usize,
}

impl Latencies {
    /// The latency that this share does not exceed.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let rank = (self.sorted.len() as f64 * share).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
    }
}

/// Two ends that stay for as long as the proxy does.
pub(crate) struct Load {
    caller: UdpSocket,
    callee: UdpSocket,
    /// MESSAGEs so far, so that each has a Call-ID of its own.
    count: u64,
}

impl Load {
    /// The callee registers with `proxy`.
    pub(crate) fn new(proxy: SocketAddr) -> Self {
        let load = Self { caller: end(proxy), callee: end(proxy), count: 0 };
        register(&load.callee, USER, 1);
        load
    }

    /// Talks for so long.
    pub(crate) fn run(&mut self, period: Duration) -> Latencies {
        let times = RATE * period.as_millis() as u64 / 1000;
        let (first, begin) = (self.count, Instant::now());
        self.count += times;
        let sent: Vec<AtomicU64> = (0..times).map(|_| AtomicU64::new(0)).collect();
        let is_over = AtomicBool::new(false);
        let mut sorted = thread::scope(|scope| {
            scope.spawn(|| answer(&self.callee, &is_over));
            scope.spawn(|| self.send(first, begin, &sent));
            let taken = self.collect(first, begin, &sent);
            is_over.store(true, Ordering::Relaxed);
            taken
        });
        sorted.sort_by(f64::total_cmp);
        let lost = sent.len() - sorted.len();
        Latencies { sorted, lost }
    }

    /// Notes of each MESSAGE when it left, in nanoseconds: that the sender is late is not the proxy's.
    fn send(&self, first: u64, begin: Instant, sent: &[AtomicU64]) {
        let own = self.caller.local_addr().expect("a bound socket has an address").to_string();
        for (number, left) in (first..).zip(sent) {
            let message = placed(&texts::message(number, USER), texts::CALLER, &own);
            let due = begin + Duration::from_secs(1) * (number - first) as u32 / RATE as u32;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            left.store(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
            self.caller.send(&message).expect("sending on loopback does not fail");
        }
    }

    /// The latencies, once all answers are there or nothing more comes.
    fn collect(&self, first: u64, begin: Instant, sent: &[AtomicU64]) -> Vec<f64> {
        let mut taken = vec![None; sent.len()];
        let mut datagram = [0; 2048];
        let mut left = sent.len();
        while left > 0 {
            let Ok(length) = self.caller.recv(&mut datagram) else { break };
            let now = begin.elapsed().as_nanos() as u64;
            let number = number_of_answer(&datagram[..length]).and_then(|number| number.checked_sub(first));
            let Some(at) = number.filter(|at| *at < sent.len() as u64) else { continue };
            let place: &mut Option<f64> = &mut taken[at as usize];
            if place.is_none() {
                left -= 1;
                *place = Some((now - sent[at as usize].load(Ordering::Relaxed)) as f64 / 1000.0);
            }
        }
        taken.into_iter().flatten().collect()
    }
}

/// A UDP port that talks to the proxy alone.
pub(crate) fn end(proxy: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(proxy.ip(), 0)).expect("a UDP port of loopback");
    socket.connect(proxy).expect("a UDP port connects with any");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time above zero");
    socket
}

/// Registers a user whose UC server is `socket`, and waits for the answer.
pub(crate) fn register(socket: &UdpSocket, user: u64, number: u64) {
    let own = socket.local_addr().expect("a bound socket has an address").to_string();
    socket.send(&placed(&texts::register(number, user), texts::CALLEE, &own)).expect("loopback");
    let mut datagram = [0; 2048];
    let length = socket.recv(&mut datagram).expect("a REGISTER is answered");
    assert!(
        datagram[..length].starts_with(b"SIP/2.0 200"),
        "{}",
        String::from_utf8_lossy(&datagram[..length])
    );
}

/// The message of an end that is somewhere else than the text has it.
pub(crate) fn placed(message: &[u8], place: &str, own: &str) -> Vec<u8> {
    String::from_utf8_lossy(message).replace(place, own).into_bytes()
}

fn answer(callee: &UdpSocket, is_over: &AtomicBool) {
    let mut datagram = [0; 2048];
    while !is_over.load(Ordering::Relaxed) {
        let received = callee.recv(&mut datagram).ok().map(|length| &datagram[..length]);
        if let Some(message) = received.filter(|datagram| datagram.starts_with(b"MESSAGE")) {
            callee.send(&texts::response(message, "200 OK", "")).expect("loopback");
        }
    }
}

/// The number that stands in the Call-ID of a 200.
fn number_of_answer(datagram: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(datagram).ok()?.strip_prefix("SIP/2.0 200")?;
    let (_, rest) = text.split_once("Call-ID: ")?;
    u64::from_str_radix(rest.split_once('@')?.0, 16).ok()
}
