//! Each actor is made to panic under traffic: what survives, what is lost, and who repairs it.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::{ChildId, Reload, Stop, Supervisor};
use crate::actors::connection::Connection;
use crate::actors::control::Control;
use crate::actors::federation_resolver::FederationResolver;
use crate::actors::journal::Journal;
use crate::actors::listener::ListenerKind;
use crate::actors::listener::datagram::DatagramListener;
use crate::actors::listener::stream::StreamListener;
use crate::actors::registrar::Registrar;
use crate::actors::router::Router;
use crate::actors::stun::Stun;
use crate::diagnostics::Diagnostics;

/// Longest that anything here may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Panic.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Collapse;

macro_rules! collapses {
    ($($actor:ty),+) => {
        $(impl Handler<Collapse> for $actor {
            type Result = ();

            fn handle(&mut self, _: Collapse, _: &mut Context<Self>) {
                panic!("made to panic by a test");
            }
        })+
    };
}

collapses!(
    Router,
    Registrar,
    FederationResolver,
    Journal,
    Stun,
    Control,
    DatagramListener,
    StreamListener,
    Connection,
    Supervisor
);

/// Be stuck for so long.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Freeze(Duration);

impl Handler<Freeze> for Router {
    type Result = ();

    fn handle(&mut self, Freeze(time): Freeze, _: &mut Context<Self>) {
        std::thread::sleep(time);
    }
}

/// The limit of the watchdog from now on.
#[derive(Message)]
#[rtype(result = "()")]
struct WatchWithin(Duration);

impl Handler<WatchWithin> for Supervisor {
    type Result = ();

    fn handle(&mut self, WatchWithin(limit): WatchWithin, ctx: &mut Context<Self>) {
        self.watchdog.set_limit(limit);
        self.keep_watch(ctx);
    }
}

/// Has a Router be stuck for so long, once all have answered the watchdog; false until then.
#[derive(Message)]
#[rtype(result = "bool")]
struct FreezeRouter(Duration);

impl Handler<FreezeRouter> for Supervisor {
    type Result = bool;

    fn handle(&mut self, FreezeRouter(time): FreezeRouter, _: &mut Context<Self>) -> bool {
        if self.watchdog.knows_all() {
            self.freezable.as_ref().unwrap().do_send(Freeze(time));
        }
        self.watchdog.knows_all()
    }
}

/// Ends a thread that carries SIP.
#[derive(Message)]
#[rtype(result = "()")]
struct EndThread;

impl Handler<EndThread> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: EndThread, _: &mut Context<Self>) {
        self.arbiters[1].stop();
    }
}

/// The living children.
#[derive(Default)]
pub(super) struct Collapsible(Mutex<Vec<(ChildId, Recipient<Collapse>)>>);

impl Collapsible {
    pub(super) fn add(&self, child: ChildId, address: Recipient<Collapse>) {
        let mut children = self.0.lock().unwrap();
        children.retain(|(other, _)| *other != child);
        children.push((child, address));
    }
}

/// Makes these children panic; says which there were.
#[derive(Message)]
#[rtype(result = "usize")]
struct CollapseChildren(fn(ChildId) -> bool);

impl Handler<CollapseChildren> for Supervisor {
    type Result = usize;

    fn handle(&mut self, CollapseChildren(which): CollapseChildren, _: &mut Context<Self>) -> usize {
        let children = self.collapsible.0.lock().unwrap();
        let chosen: Vec<_> = children.iter().filter(|(child, _)| which(*child)).collect();
        chosen.iter().for_each(|(_, address)| address.do_send(Collapse));
        chosen.len()
    }
}

/// Makes the connection that `0` is the far end of panic.
#[derive(Message)]
#[rtype(result = "()")]
struct CollapseConnections;

impl Handler<CollapseConnections> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: CollapseConnections, _: &mut Context<Self>) {
        self.parts.directory.all_connections().iter().for_each(|address| address.do_send(Collapse));
    }
}

#[derive(Message)]
#[rtype(result = "Vec<SocketAddr>")]
struct WhereListening;

impl Handler<WhereListening> for Supervisor {
    type Result = Vec<SocketAddr>;

    fn handle(&mut self, _: WhereListening, _: &mut Context<Self>) -> Vec<SocketAddr> {
        let listening = self.states.values().filter_map(|state| match state {
            crate::actors::listener::InterfaceState::Listening { address } => Some(*address),
            crate::actors::listener::InterfaceState::NotListening { .. } => None,
        });
        listening.collect()
    }
}

/// A whole proxy in threads of its own.
struct Service {
    supervisor: Addr<Supervisor>,
    system: System,
    thread: Option<JoinHandle<i32>>,
    address: SocketAddr,
    directory: std::path::PathBuf,
    lines: Lines,
}

/// What the log says.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn have(&self, parts: &[&str]) -> bool {
        let lines = self.0.lock().unwrap();
        let text = String::from_utf8_lossy(&lines);
        text.lines().any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(octets)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Service {
    fn start(name: &str) -> Self {
        Self::start_with(name, "")
    }

    /// With more of a configuration.
    fn start_with(name: &str, more: &str) -> Self {
        Self::start_timed(name, "50ms", "400ms", more)
    }

    /// And with other timers: clients wait 64*T1.
    fn start_timed(name: &str, t1: &str, t2: &str, more: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("sip-proxy-survival-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("sip-proxy.toml");
        // An address of its own: the port that the system chooses for UDP is free for TCP as well.
        static SERVICES: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
        let number = SERVICES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let text = format!(
            "[service]\npresence_domains = [\"a.test\"]\nworker_threads = 2\ndrain_timeout = \"500ms\"\n\
             [lan]\nbind_to_ip_address = \"127.77.0.{number}\"\nport = 0\ntransport_protocol = \"udp\"\n\
             [[wan.network_interface]]\nenabled = false\n[sip]\nt4 = \"500ms\"\n"
        );
        std::fs::write(&file, format!("{text}t1 = \"{t1}\"\nt2 = \"{t2}\"\n{more}")).unwrap();
        let source = crate::config::Source::of_file(&file);
        let loaded = source.load().unwrap();
        let (tell, told) = mpsc::channel();
        let lines = Lines::default();
        let sink = lines.clone();
        let thread = std::thread::spawn(move || {
            let logs = Arc::new(Diagnostics::start(&loaded.config.diagnostics, sink));
            let system = System::new();
            let supervisor = system.block_on(async { Supervisor::launch(loaded, source, &logs) }).unwrap();
            tell.send((supervisor, System::current())).unwrap();
            system.run_with_code().unwrap()
        });
        let (supervisor, system) = told.recv().unwrap();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut service =
            Self { supervisor, system, thread: Some(thread), address: nowhere, directory, lines };
        // Two cores' datagram Listeners and the TCP companion, all on one port.
        let addresses = eventually(|| Some(service.ask(WhereListening)).filter(|all| all.len() == 3));
        assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
        service.address = addresses[0];
        service
    }

    fn ask<M>(&self, message: M) -> M::Result
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Supervisor: Handler<M>,
    {
        let supervisor = self.supervisor.clone();
        let (tell, told) = mpsc::channel();
        self.system.arbiter().spawn(async move {
            let _ = tell.send(supervisor.send(message).await.unwrap());
        });
        told.recv_timeout(LIMIT).unwrap()
    }

    fn collapse(&self, which: fn(ChildId) -> bool) {
        assert!(self.ask(CollapseChildren(which)) > 0);
    }

    /// Has a Router be stuck for so many times the limit of the watchdog.
    fn freeze_router(&self, limits: f32) {
        let limit = Duration::from_secs(2);
        self.ask(WatchWithin(limit));
        eventually(|| self.ask(FreezeRouter(limit.mul_f32(limits))).then_some(()));
    }

    fn exit_code(mut self) -> i32 {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.system.stop();
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn eventually<T>(mut question: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A UC server on one connection.
struct Server {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    name: &'static str,
    sent: u32,
}

impl Server {
    fn connect(service: &Service, name: &'static str) -> Self {
        let stream = TcpStream::connect(service.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader, name, sent: 0 }
    }

    fn request(&mut self, method: &str, user: &str, rows: &str) -> String {
        self.sent += 1;
        let (name, sent, local) = (self.name, self.sent, self.stream.local_addr().unwrap());
        format!(
            "{method} sip:{user}@a.test SIP/2.0\r\nVia: SIP/2.0/TCP {local};branch=z9hG4bK{name}{sent}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@a.test>;tag=1\r\nTo: <sip:{user}@a.test>\r\nCall-ID: {name}-{sent}\r\n\
             CSeq: {sent} {method}\r\n{rows}Content-Length: 0\r\n\r\n"
        )
    }

    fn send(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).is_ok()
    }

    /// The next message; `None` when none comes for a while, or the connection has ended.
    fn receive(&mut self) -> Option<String> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            text.push_str(&line);
            if line == "\r\n" && text.len() > 2 {
                return Some(text);
            }
        }
    }

    /// The next message of this call; others are strays of attempts before, or searches for somebody else.
    fn receive_of(&mut self, call_id: &str) -> Option<String> {
        loop {
            let message = self.receive()?;
            if message.contains(call_id) {
                return Some(message);
            }
        }
    }

    fn register(&mut self) {
        let contact = format!("Contact: <sip:{}@{}>\r\n", self.name, self.stream.local_addr().unwrap());
        let text = self.request("REGISTER", self.name, &contact);
        assert!(self.send(&text));
        let call_id = format!("Call-ID: {}-{}\r\n", self.name, self.sent);
        assert!(eventually(|| self.receive_of(&call_id)).starts_with("SIP/2.0 200"));
    }

    fn is_open(&mut self) -> bool {
        let mut octet = [0];
        !matches!(self.stream.read(&mut octet), Ok(0)) && self.stream.write_all(b"\r\n\r\n").is_ok()
    }
}

/// Sends MESSAGEs from one server to a user of the other until one arrives and its answer comes back. Says how the
/// Request-URI arrived: as the contact of a binding, or unchanged by a search.
fn exchange(from: &mut Server, to: &mut Server) -> String {
    eventually(|| {
        let text = from.request("MESSAGE", to.name, "");
        assert!(from.send(&text), "the sender's connection has ended");
        let call_id = format!("Call-ID: {}-{}\r\n", from.name, from.sent);
        let request = to.receive_of(&call_id)?;
        let kept = request.lines().filter(|line| {
            ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|name| line.starts_with(&format!("{name}:")))
        });
        let rows: Vec<_> = kept.collect();
        assert!(to.send(&format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", rows.join("\r\n"))));
        let response = from.receive_of(&call_id)?;
        response.starts_with("SIP/2.0 200").then(|| request.lines().next().unwrap_or_default().to_owned())
    })
}

/// Two more servers that exchange MESSAGEs all the time, so that whatever fails has requests in flight.
struct Traffic {
    exchanged: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    fn start(service: &Service) -> Self {
        let (mut dave, mut erin) = (Server::connect(service, "dave"), Server::connect(service, "erin"));
        dave.register();
        erin.register();
        let (exchanged, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (Arc::clone(&exchanged), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                exchange(&mut dave, &mut erin);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let traffic = Self { exchanged, is_over, thread: Some(thread) };
        traffic.goes_on();
        traffic
    }

    /// More is exchanged from now on, over the same connections.
    fn goes_on(&self) {
        let before = self.exchanged.load(Ordering::Relaxed);
        eventually(|| (self.exchanged.load(Ordering::Relaxed) > before + 1).then_some(()));
    }

    fn end(mut self) {
        self.goes_on();
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn two_servers(service: &Service) -> (Server, Server) {
    let (mut alice, mut bob) = (Server::connect(service, "alice"), Server::connect(service, "bob"));
    alice.register();
    bob.register();
    assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
    (alice, bob)
}

#[test]
fn routers_that_panic_are_rebuilt_and_connections_log_ons_and_bindings_survive() {
    let service = Service::start("router");
    let (mut alice, mut bob) = two_servers(&service);
    let traffic = Traffic::start(&service);
    for _ in 0..2 {
        service.collapse(|child| matches!(child, ChildId::Router(_)));
        assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
        assert!(exchange(&mut bob, &mut alice).contains("sip:alice@127.0.0.1"));
    }
    traffic.end();
}

/// A user of a UC server that is on one UDP port.
struct Datagrams {
    socket: UdpSocket,
    sent: u32,
}

impl Datagrams {
    fn open(service: &Service) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(service.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        Self { socket, sent: 0 }
    }

    /// Registers for so many seconds, or asks; the contacts of the answer.
    fn register(&mut self, user: &str, expires: Option<u32>) -> Vec<String> {
        let local = self.socket.local_addr().unwrap();
        let contact = expires.map(|expires| format!("Contact: <sip:{user}@{local}>;expires={expires}\r\n"));
        eventually(|| {
            self.sent += 1;
            let (sent, contact) = (self.sent, contact.as_deref().unwrap_or_default());
            let text = format!(
                "REGISTER sip:a.test SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{user}{sent}\r\n\
                 From: <sip:{user}@a.test>;tag=1\r\nTo: <sip:{user}@a.test>\r\nCall-ID: {user}-{local}\r\n\
                 CSeq: {sent} REGISTER\r\n{contact}Content-Length: 0\r\n\r\n"
            );
            self.socket.send(text.as_bytes()).unwrap();
            let answer = self.receive_of(&format!("CSeq: {sent} REGISTER\r\n"))?;
            // What a Journal that ends has not answered is answered with 500, and with 503 until the next is there.
            let answer = Some(answer).filter(|answer| answer.starts_with("SIP/2.0 200"))?;
            let row = answer.lines().find_map(|line| line.strip_prefix("Contact: "));
            Some(row.into_iter().flat_map(|row| row.split(", ")).map(str::to_owned).collect())
        })
    }

    /// The answer with this row; others are to earlier attempts.
    fn receive_of(&self, row: &str) -> Option<String> {
        loop {
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer).ok()?;
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if answer.contains(row) {
                return Some(answer);
            }
        }
    }
}

#[test]
fn a_registrar_that_panics_finds_its_bindings_again() {
    let service = Service::start("registrar");
    let (mut alice, mut bob) = two_servers(&service);
    let mut phone = Datagrams::open(&service);
    phone.register("carol", Some(600));
    let mut gone = Server::connect(&service, "gone");
    gone.register();
    let traffic = Traffic::start(&service);
    for _ in 0..2 {
        service.collapse(|child| child == ChildId::Registrar);
        // It may die of that a moment later, and the next one finds what this one has kept.
        assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
        assert_eq!(phone.register("carol", None).len(), 1);
    }
    // A connection that closes while nobody is there to be told is seen to be closed.
    service.collapse(|child| child == ChildId::Registrar);
    drop(gone);
    eventually(|| phone.register("gone", None).is_empty().then_some(()));
    traffic.end();
}

#[test]
fn a_journal_that_panics_is_told_everything_again() {
    let service = Service::start("journal");
    let (mut alice, mut bob) = two_servers(&service);
    let mut phone = Datagrams::open(&service);
    phone.register("carol", Some(600));
    let traffic = Traffic::start(&service);
    for user in ["dora", "emma"] {
        service.collapse(|child| child == ChildId::Journal);
        assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
        assert_eq!(phone.register(user, Some(600)).len(), 1);
    }
    // What a Registrar then finds is what the new Journal has been told.
    service.collapse(|child| child == ChildId::Registrar);
    for user in ["carol", "dora", "emma"] {
        assert_eq!(phone.register(user, None).len(), 1, "{user}");
    }
    traffic.end();
}

#[test]
fn a_datagram_listener_that_panics_comes_back_on_its_port() {
    let service = Service::start("datagram");
    let (mut alice, mut bob) = two_servers(&service);
    let traffic = Traffic::start(&service);
    let is_datagram = |child| matches!(child, ChildId::Listener(_, ListenerKind::Datagram { .. }));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let answers = || {
        eventually(|| {
            let text = format!(
                "OPTIONS sip:{} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKo;rport\r\nFrom: <sip:x@a.test>;tag=1\r\n\
                 To: <sip:a.test>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\n\r\n",
                service.address,
                socket.local_addr().unwrap()
            );
            socket.send_to(text.as_bytes(), service.address).unwrap();
            let mut buffer = [0; 2048];
            let length = socket.recv(&mut buffer).ok()?;
            buffer[..length].starts_with(b"SIP/2.0 200").then_some(())
        });
    };
    answers();
    service.collapse(is_datagram);
    answers();
    assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
    traffic.end();
}

#[test]
fn a_federation_resolver_that_panics_is_built_anew_and_nobody_else_notices() {
    let service = Service::start("resolver");
    let (mut alice, mut bob) = two_servers(&service);
    let traffic = Traffic::start(&service);
    for _ in 0..2 {
        service.collapse(|child| child == ChildId::FederationResolver);
        assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
    }
    traffic.end();
}

#[test]
fn a_stream_listener_that_panics_accepts_again_and_open_connections_go_on() {
    let service = Service::start("stream");
    let (mut alice, mut bob) = two_servers(&service);
    let traffic = Traffic::start(&service);
    service.collapse(|child| matches!(child, ChildId::Listener(_, ListenerKind::Stream)));
    assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
    let mut carol = eventually(|| {
        let stream = TcpStream::connect(service.address).ok()?;
        drop(stream);
        Some(Server::connect(&service, "carol"))
    });
    carol.register();
    assert!(exchange(&mut alice, &mut carol).contains("sip:carol@127.0.0.1"));
    traffic.end();
}

#[test]
fn a_connection_that_panics_ends_and_takes_its_binding_with_it() {
    let service = Service::start("connection");
    let (mut alice, mut bob) = two_servers(&service);
    service.ask(CollapseConnections);
    eventually(|| (!alice.is_open() && !bob.is_open()).then_some(()));
    // Nothing is left of them: whoever comes anew finds nobody, at once.
    let mut carol = Server::connect(&service, "carol");
    carol.register();
    let text = carol.request("MESSAGE", "bob", "");
    assert!(carol.send(&text));
    assert!(carol.receive().unwrap().starts_with("SIP/2.0 480"));
    let mut bob = Server::connect(&service, "bob");
    bob.register();
    assert!(exchange(&mut carol, &mut bob).contains("sip:bob@127.0.0.1"));
}

#[test]
fn a_control_that_panics_answers_again_and_nobody_else_notices() {
    let service = Service::start("control");
    let (mut alice, mut bob) = two_servers(&service);
    let socket = service.directory.join("var/run/control.sock");
    let health = || {
        let mut stream = UnixStream::connect(&socket).ok()?;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    };
    eventually(health);
    for _ in 0..2 {
        service.collapse(|child| child == ChildId::Control);
        assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
        eventually(health);
    }
}

#[test]
fn a_stun_that_panics_asks_anew() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let address = server.local_addr().unwrap();
    let service = Service::start_with("stun", &format!("[stun]\nservers = [\"{address}\"]\n"));
    let asked_from = || server.recv_from(&mut [0; 100]).unwrap().1;
    let first = asked_from();
    service.collapse(|child| child == ChildId::Stun);
    // Each question has a port of its own.
    eventually(|| (asked_from() != first).then_some(()));
}

#[test]
fn children_that_fail_again_and_again_end_the_process_with_70() {
    let service = Service::start("again");
    eventually(|| {
        service.supervisor.do_send(CollapseChildren(|child| child == ChildId::Registrar));
        (!service.supervisor.connected()).then_some(())
    });
    assert_eq!(service.exit_code(), 70);
}

#[test]
fn a_child_that_begins_anew_after_a_reload_has_what_is_in_force() {
    let service = Service::start("reload");
    let file = service.directory.join("sip-proxy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut server = Server::connect(&service, "alice");
    server.register();
    let status = |server: &mut Server| {
        eventually(|| {
            let text = server.request("MESSAGE", "bob", "").replace("bob@a.test", "bob@b.test");
            assert!(server.send(&text));
            server.receive_of(&format!("Call-ID: alice-{}\r\n", server.sent))
        })
    };
    assert!(status(&mut server).starts_with("SIP/2.0 404"));
    std::fs::write(&file, text.replace("[\"a.test\"]", "[\"a.test\", \"b.test\"]")).unwrap();
    let reloaded = service.ask(Reload);
    assert_eq!((reloaded.faults.len(), reloaded.changes.len()), (0, 1), "{reloaded:?}");
    assert_eq!(reloaded.changes[0].key, "service.presence_domains");
    assert_eq!(reloaded.changes[0].new.as_deref(), Some("[\"a.test\", \"b.test\"]"));
    assert!(status(&mut server).starts_with("SIP/2.0 480"));
    service.collapse(|child| matches!(child, ChildId::Router(_) | ChildId::Registrar));
    assert!(status(&mut server).starts_with("SIP/2.0 480"));
    // A fault has its place, its key and a text.
    std::fs::write(&file, format!("{text}[lan.nonsense]\n[dns]\ntimeout = \"0s\"\n")).unwrap();
    let refused = service.ask(Reload);
    let faults: Vec<_> = refused.faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!((faults, refused.changes.len()), (vec!["lan.nonsense", "dns.timeout"], 0));
    assert!(refused.faults[0].place.starts_with(&format!("{}:", file.display())), "{refused:?}");
}

#[test]
fn a_supervisor_that_panics_ends_the_process_with_70() {
    let service = Service::start("supervisor");
    service.supervisor.do_send(Collapse);
    assert_eq!(service.exit_code(), 70);
}

#[test]
fn a_thread_that_ends_ends_the_process_with_70() {
    let service = Service::start("thread");
    service.ask(EndThread);
    let lines = service.lines.clone();
    assert_eq!(service.exit_code(), 70);
    assert!(lines.have(&["giving_up", "a thread has ended"]));
}

#[test]
fn a_failure_and_the_repair_of_it_are_told() {
    let service = Service::start("told");
    service.collapse(|child| child == ChildId::Router(1));
    eventually(|| {
        service.lines.have(&["error supervisor actor_failed actor=router-1 panicked=true"]).then_some(())
    });
    eventually(|| service.lines.have(&["info supervisor actor_restarted actor=router-1"]).then_some(()));
}

#[test]
fn a_router_that_is_stuck_is_named_and_ends_the_process_with_70() {
    let service = Service::start("stuck");
    service.freeze_router(4.0);
    let lines = service.lines.clone();
    assert_eq!(service.exit_code(), 70);
    // The Listener and the connections on its thread are stuck with it.
    assert!(lines.have(&["error supervisor actor_stuck", "router-0", "listener-0-udp-0"]));
    assert!(lines.have(&["giving_up", "an actor is stuck"]));
}

#[test]
fn a_router_that_is_stuck_for_less_than_the_limit_goes_on() {
    let service = Service::start("slow");
    let (mut alice, mut bob) = two_servers(&service);
    service.freeze_router(0.7);
    eventually(|| service.lines.have(&["info supervisor actor_recovered actor=router-0"]).then_some(()));
    exchange(&mut alice, &mut bob);
}

/// A MESSAGE of alice's for bob that bob has got and not answered; its Via and so on.
fn under_way(alice: &mut Server, bob: &mut Server) -> String {
    let text = alice.request("MESSAGE", "bob", "");
    assert!(alice.send(&text));
    let call_id = format!("Call-ID: alice-{}\r\n", alice.sent);
    eventually(|| bob.receive_of(&call_id))
}

fn answer_to(request: &str) -> String {
    let kept = request.lines().filter(|line| {
        ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|name| line.starts_with(&format!("{name}:")))
    });
    let rows: Vec<_> = kept.collect();
    format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", rows.join("\r\n"))
}

#[test]
fn a_drain_waits_for_what_has_begun_past_the_time_that_a_stop_waits() {
    let service = Service::start_timed("drain", "400ms", "4s", "");
    let (mut alice, mut bob) = two_servers(&service);
    let request = under_way(&mut alice, &mut bob);
    service.ask(Stop { drain: true });
    // Actors that fail meanwhile are rebuilt, and say the same.
    service.collapse(|child| child == ChildId::Registrar);
    eventually(|| service.lines.have(&["draining left=1"]).then_some(()));
    std::thread::sleep(Duration::from_millis(700));
    let late = alice.request("MESSAGE", "bob", "");
    assert!(alice.send(&late));
    let refusal = eventually(|| alice.receive_of(&format!("Call-ID: alice-{}\r\n", alice.sent)));
    assert!(refusal.starts_with("SIP/2.0 503 ") && refusal.contains("\r\nRetry-After: "), "{refusal}");
    assert!(bob.send(&answer_to(&request)));
    let call_id = format!("Call-ID: alice-{}\r\n", alice.sent - 1);
    assert!(eventually(|| alice.receive_of(&call_id)).starts_with("SIP/2.0 200 "));
    assert_eq!(service.exit_code(), 0);
}

#[test]
fn a_stop_after_a_drain_sets_the_limit() {
    let service = Service::start_timed("stop", "400ms", "4s", "");
    let (mut alice, mut bob) = two_servers(&service);
    under_way(&mut alice, &mut bob);
    service.ask(Stop { drain: true });
    eventually(|| service.lines.have(&["draining left=1"]).then_some(()));
    service.ask(Stop { drain: false });
    let lines = service.lines.clone();
    assert_eq!(service.exit_code(), 0);
    assert!(lines.have(&["drain_incomplete left=1"]));
}
