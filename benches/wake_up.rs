//! What the thread that carries SIP costs before any SIP: one datagram every 200 µs goes to a thread that sleeps, and comes
//! back unread. By a thread that waits in `recvfrom`; by one that also writes to a file, as a REGISTER does; by tokio, as the
//! Listener waits; and by tokio with the hops of a MESSAGE from actor to actor.
//!
//! `cargo bench --bench wake_up -- 20` prints CPU time per datagram over twenty turns of each way: the scheduler's run time
//! of its thread. The threads are pinned to the first core and the sender to the second; where those are two halves of one,
//! or somebody else works there, the figures suffer.

// Clocks and sockets are disallowed to the protocol, which is not here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Octets of a datagram: a MESSAGE of the bench kit.
const LENGTH: usize = 450;
/// Octets that the Journal writes for a REGISTER.
const RECORD: usize = 123;
const INTERVAL: Duration = Duration::from_micros(200);
/// Datagrams of one turn, the first of which are not counted.
const DATAGRAMS: u32 = 1_500;
const UNCOUNTED: u32 = 100;

/// Says where its thread listens, and sends back what comes.
type Way = fn(&Sender<Echo>);

/// A thread that sends back what it gets.
struct Echo {
    address: SocketAddr,
    thread: Pid,
}

fn main() {
    let words = std::env::args().skip(1).find(|word| word != "--bench");
    let Some(turns) = words.and_then(|word| word.parse::<u32>().ok()) else {
        return println!("keeps two cores busy: cargo bench --bench wake_up -- TURNS");
    };
    if let Err(errno) = pin(0).and_then(|()| pin(1)) {
        return println!("this takes two cores of its own: {errno}");
    }
    let ways: [(&str, Way); 4] = [
        ("a thread in recvfrom", plain),
        ("the same, writing 123 octets to a file", writing),
        ("tokio, waiting as the Listener does", tokio_alone),
        ("Listener, Router, Registrar, Router, Listener", actors),
    ];
    let echoes = ways.map(|(what, way)| {
        let (started, begun) = channel();
        thread::spawn(move || {
            pin(0).expect("it could before");
            way(&started);
        });
        (what, begun.recv().expect("the thread has begun"))
    });
    let mut spent = echoes.each_ref().map(|_| Vec::new());
    for _ in 0..turns.max(1) {
        for ((_, echo), spent) in echoes.iter().zip(&mut spent) {
            spent.push(measure(echo));
        }
    }
    println!("| one datagram each {} µs | CPU µs, median | least | most |", INTERVAL.as_micros());
    println!("|---|---|---|---|");
    for ((what, _), mut spent) in echoes.iter().zip(spent) {
        spent.sort_by(f64::total_cmp);
        let [least, median, most] = [0, spent.len() / 2, spent.len() - 1].map(|at| spent[at]);
        println!("| {what} | {median:.1} | {least:.1} | {most:.1} |");
    }
}

/// CPU time of one turn, in microseconds per datagram.
fn measure(echo: &Echo) -> f64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(echo.address).expect("an address of our own");
    socket.set_nonblocking(true).expect("a socket can be that");
    let (start, mut before, mut buffer) = (Instant::now(), Duration::ZERO, [0; 2 * LENGTH]);
    for number in 0..DATAGRAMS {
        if number == UNCOUNTED {
            before = run_time(echo.thread);
        }
        let due = start + INTERVAL * number;
        // This core never sleeps, so that the other one does not pay for waking it.
        while Instant::now() < due {}
        socket.send(&buffer[..LENGTH]).expect("loopback takes it");
        while socket.recv(&mut buffer).is_err() {
            assert!(due.elapsed() < Duration::from_secs(5), "a datagram has not come back");
        }
    }
    (run_time(echo.thread) - before).as_secs_f64() * 1e6 / f64::from(DATAGRAMS - UNCOUNTED)
}

/// How long a thread has run.
fn run_time(thread: Pid) -> Duration {
    let path = format!("/proc/self/task/{thread}/schedstat");
    let text = fs::read_to_string(&path).expect("the scheduler's statistics");
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number of nanoseconds"))
}

/// From now on, this thread runs on that core.
fn pin(core: usize) -> nix::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores)
}

fn open(started: &Sender<Echo>) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("it is bound");
    started.send(Echo { address, thread: gettid() }).expect("somebody waits");
    socket
}

fn plain(started: &Sender<Echo>) {
    echo(started, |_| Ok(()));
}

/// With what the Journal's file takes for a REGISTER, before it is answered.
fn writing(started: &Sender<Echo>) {
    let path = std::env::temp_dir().join(format!("sip-proxy-wake-up-{}", std::process::id()));
    let mut file = File::options().append(true).create_new(true).open(&path).expect("a file of our own");
    fs::remove_file(&path).expect("it is ours");
    echo(started, |octets| file.write_all(&octets[..RECORD]));
}

fn echo(started: &Sender<Echo>, mut keep: impl FnMut(&[u8]) -> io::Result<()>) {
    let socket = open(started);
    let mut buffer = [0; 2 * LENGTH];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        keep(&buffer[..length]).expect("the file has room");
        let _ = socket.send_to(&buffer[..length], from);
    }
}

/// As the Listener does it.
#[allow(deprecated, reason = "its successor is unsafe; this socket owns its descriptor")]
fn register(socket: Rc<UdpSocket>) -> io::Result<AsyncFd<Rc<UdpSocket>>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Hands each datagram to `take`; one system call for each, as the Listener has.
async fn receive(
    socket: Rc<UdpSocket>,
    mut take: impl FnMut(&UdpSocket, &[u8], SocketAddr),
) -> io::Result<()> {
    let socket = register(socket)?;
    let mut buffer = [0; 2 * LENGTH];
    loop {
        let mut ready = socket.readable().await?;
        if let Ok((length, from)) = socket.get_ref().recv_from(&mut buffer) {
            take(socket.get_ref(), &buffer[..length], from);
        }
        ready.clear_ready();
    }
}

fn open_for_tokio(started: &Sender<Echo>) -> Rc<UdpSocket> {
    let socket = open(started);
    socket.set_nonblocking(true).expect("a socket can be that");
    Rc::new(socket)
}

fn tokio_alone(started: &Sender<Echo>) {
    let ended = actix_rt::System::new().block_on(receive(open_for_tokio(started), |socket, octets, from| {
        let _ = socket.send_to(octets, from);
    }));
    ended.expect("the socket is there");
}

fn actors(started: &Sender<Echo>) {
    let ended = actix_rt::System::new().block_on(async {
        let socket = open_for_tokio(started);
        let listener = Listener(Rc::clone(&socket)).start().recipient();
        let registrar = Registrar.start().recipient();
        let router = Router { registrar, listener }.start().recipient();
        receive(socket, |_, octets, from| router.do_send(Received(octets.to_vec(), from))).await
    });
    ended.expect("the socket is there");
}

#[derive(Message)]
#[rtype(result = "()")]
struct Received(Vec<u8>, SocketAddr);

#[derive(Message)]
#[rtype(result = "()")]
struct Question(Vec<u8>, SocketAddr, Recipient<Answer>);

#[derive(Message)]
#[rtype(result = "()")]
struct Answer(Vec<u8>, SocketAddr);

#[derive(Message)]
#[rtype(result = "()")]
struct Transmit(Vec<u8>, SocketAddr);

struct Listener(Rc<UdpSocket>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Transmit> for Listener {
    type Result = ();

    fn handle(&mut self, Transmit(octets, to): Transmit, _: &mut Context<Self>) {
        let _ = self.0.send_to(&octets, to);
    }
}

struct Router {
    registrar: Recipient<Question>,
    listener: Recipient<Transmit>,
}

impl Actor for Router {
    type Context = Context<Self>;
}

impl Handler<Received> for Router {
    type Result = ();

    fn handle(&mut self, Received(octets, from): Received, ctx: &mut Context<Self>) {
        self.registrar.do_send(Question(octets, from, ctx.address().recipient()));
    }
}

impl Handler<Answer> for Router {
    type Result = ();

    fn handle(&mut self, Answer(octets, to): Answer, _: &mut Context<Self>) {
        self.listener.do_send(Transmit(octets, to));
    }
}

struct Registrar;

impl Actor for Registrar {
    type Context = Context<Self>;
}

impl Handler<Question> for Registrar {
    type Result = ();

    fn handle(&mut self, Question(octets, from, asker): Question, _: &mut Context<Self>) {
        asker.do_send(Answer(octets, from));
    }
}
