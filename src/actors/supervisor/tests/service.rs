//! A whole proxy, and UC servers that use it.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::LIMIT;
use super::faults::{CollapseChildren, FreezeRouter, WatchWithin, WhereListening};
use crate::actors::supervisor::{ChildId, Supervisor};
use crate::diagnostics::Diagnostics;

/// A whole proxy in threads of its own.
pub(super) struct Service {
    pub(super) supervisor: Addr<Supervisor>,
    pub(super) system: System,
    pub(super) thread: Option<JoinHandle<i32>>,
    pub(super) address: SocketAddr,
    pub(super) directory: std::path::PathBuf,
    pub(super) lines: Lines,
}

/// What the log says.
#[derive(Clone, Default)]
pub(super) struct Lines(pub(super) Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(super) fn have(&self, parts: &[&str]) -> bool {
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
    pub(super) fn start(name: &str) -> Self {
        Self::start_with(name, "")
    }

    /// With more of a configuration.
    pub(super) fn start_with(name: &str, more: &str) -> Self {
        Self::start_timed(name, "50ms", "400ms", more)
    }

    /// And with other timers: clients wait 64*T1.
    pub(super) fn start_timed(name: &str, t1: &str, t2: &str, more: &str) -> Self {
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

    pub(super) fn ask<M>(&self, message: M) -> M::Result
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

    pub(super) fn collapse(&self, which: fn(ChildId) -> bool) {
        assert!(self.ask(CollapseChildren(which)) > 0);
    }

    /// Has a Router be stuck for so many times the limit of the watchdog.
    pub(super) fn freeze_router(&self, limits: f32) {
        let limit = Duration::from_secs(2);
        self.ask(WatchWithin(limit));
        eventually(|| self.ask(FreezeRouter(limit.mul_f32(limits))).then_some(()));
    }

    pub(super) fn exit_code(mut self) -> i32 {
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

pub(super) fn eventually<T>(mut question: impl FnMut() -> Option<T>) -> T {
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
pub(super) struct Server {
    pub(super) stream: TcpStream,
    pub(super) reader: BufReader<TcpStream>,
    pub(super) name: &'static str,
    pub(super) sent: u32,
}

impl Server {
    pub(super) fn connect(service: &Service, name: &'static str) -> Self {
        let stream = TcpStream::connect(service.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader, name, sent: 0 }
    }

    pub(super) fn request(&mut self, method: &str, user: &str, rows: &str) -> String {
        self.sent += 1;
        let (name, sent, local) = (self.name, self.sent, self.stream.local_addr().unwrap());
        format!(
            "{method} sip:{user}@a.test SIP/2.0\r\nVia: SIP/2.0/TCP {local};branch=z9hG4bK{name}{sent}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@a.test>;tag=1\r\nTo: <sip:{user}@a.test>\r\nCall-ID: {name}-{sent}\r\n\
             CSeq: {sent} {method}\r\n{rows}Content-Length: 0\r\n\r\n"
        )
    }

    pub(super) fn send(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).is_ok()
    }

    /// The next message; `None` when none comes for a while, or the connection has ended.
    pub(super) fn receive(&mut self) -> Option<String> {
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
    pub(super) fn receive_of(&mut self, call_id: &str) -> Option<String> {
        loop {
            let message = self.receive()?;
            if message.contains(call_id) {
                return Some(message);
            }
        }
    }

    pub(super) fn register(&mut self) {
        let contact = format!("Contact: <sip:{}@{}>\r\n", self.name, self.stream.local_addr().unwrap());
        let text = self.request("REGISTER", self.name, &contact);
        assert!(self.send(&text));
        let call_id = format!("Call-ID: {}-{}\r\n", self.name, self.sent);
        assert!(eventually(|| self.receive_of(&call_id)).starts_with("SIP/2.0 200"));
    }

    pub(super) fn is_open(&mut self) -> bool {
        let mut octet = [0];
        !matches!(self.stream.read(&mut octet), Ok(0)) && self.stream.write_all(b"\r\n\r\n").is_ok()
    }
}

/// Sends MESSAGEs from one server to a user of the other until one arrives and its answer comes back. Says how the
/// Request-URI arrived: as the contact of a binding, or unchanged by a search.
pub(super) fn exchange(from: &mut Server, to: &mut Server) -> String {
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
pub(super) struct Traffic {
    pub(super) exchanged: Arc<AtomicUsize>,
    pub(super) is_over: Arc<AtomicBool>,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Traffic {
    pub(super) fn start(service: &Service) -> Self {
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
    pub(super) fn goes_on(&self) {
        let before = self.exchanged.load(Ordering::Relaxed);
        eventually(|| (self.exchanged.load(Ordering::Relaxed) > before + 1).then_some(()));
    }

    pub(super) fn end(mut self) {
        self.goes_on();
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(super) fn two_servers(service: &Service) -> (Server, Server) {
    let (mut alice, mut bob) = (Server::connect(service, "alice"), Server::connect(service, "bob"));
    alice.register();
    bob.register();
    assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
    (alice, bob)
}

/// A user of a UC server that is on one UDP port.
pub(super) struct Datagrams {
    pub(super) socket: UdpSocket,
    pub(super) sent: u32,
}

impl Datagrams {
    pub(super) fn open(service: &Service) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(service.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        Self { socket, sent: 0 }
    }

    /// Registers for so many seconds, or asks; the contacts of the answer.
    pub(super) fn register(&mut self, user: &str, expires: Option<u32>) -> Vec<String> {
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
    pub(super) fn receive_of(&self, row: &str) -> Option<String> {
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
