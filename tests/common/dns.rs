//! A name server for tests: answers from records that a test gives and changes, fails as it is told to, and tells what
//! it was asked.
//!
//! It stands for the resolver of an organisation: follows CNAME records, and says NXDOMAIN only where nothing is at a
//! name or below it. The tests of the actors include this file by its path, so it uses nothing of its neighbours.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// Types by name and number.
const TYPES: [(&str, u16); 6] = [("A", 1), ("NS", 2), ("CNAME", 5), ("AAAA", 28), ("SRV", 33), ("NAPTR", 35)];

/// Aliases in one answer.
const MAXIMUM_ALIASES: usize = 16;

const SOA: u16 = 6;
const OPT: u16 = 41;

/// What the server does instead of answering as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers so much later.
    Late(Duration),
    /// Never answers.
    Silent,
    /// Answers with this response code: 2 is SERVFAIL, 5 REFUSED.
    Code(u8),
    /// Has no room in datagrams: the answer is to be fetched by TCP.
    Truncates,
    /// Leaves it to the client to ask for what a name is an alias of.
    Reluctant,
    /// Names other servers to ask: it does not know the domain.
    Lame,
}

/// What the server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The name, in lower case.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) by_tcp: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    kind: u16,
    ttl: u32,
    data: Vec<u8>,
    /// Of a CNAME.
    target: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<String, Vec<Entry>>,
    moods: HashMap<String, Mood>,
    /// TTL and minimum of the SOA record in negative answers; none: there is no SOA record.
    negative_ttl: Option<u32>,
    asked: Vec<Asked>,
}

/// A name server on a port of its own, UDP and TCP. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct NameServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// A server that has these records: lines of `name ttl type data`.
    pub(crate) async fn start(local: IpAddr, records: &str) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(SocketAddr::new(local, 0)).await.expect("a UDP port of loopback");
            let address = udp.local_addr().expect("a bound socket has an address");
            if let Ok(tcp) = TcpListener::bind(address).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State { negative_ttl: Some(30), ..State::default() }));
        let tasks = vec![
            tokio::spawn(serve_datagrams(udp, Arc::clone(&state))),
            tokio::spawn(serve_streams(tcp, Arc::clone(&state))),
        ];
        let server = Self { address, state, tasks };
        server.add(records);
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// More records.
    pub(crate) fn add(&self, records: &str) {
        for line in records.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (name, kind) = (fields[0].to_ascii_lowercase(), number_of(fields[2]));
            let ttl = fields[1].parse().expect("a TTL");
            let target = (fields[2] == "CNAME").then(|| fields[3].to_ascii_lowercase());
            let entry = Entry { kind, ttl, data: encode(fields[2], &fields[3..]), target };
            self.state().records.entry(name).or_default().push(entry);
        }
    }

    /// No more records of this type.
    pub(crate) fn remove(&self, name: &str, kind: &str) {
        let mut state = self.state();
        let entries = state.records.get_mut(name).expect("a name that there is");
        entries.retain(|entry| entry.kind != number_of(kind));
        if entries.is_empty() {
            state.records.remove(name);
        }
    }

    /// These records in place of all that had their name and type.
    pub(crate) fn replace(&self, record: &str) {
        let fields: Vec<&str> = record.split_whitespace().collect();
        self.remove(fields[0], fields[2]);
        self.add(record);
    }

    /// How it treats questions about a name from now on; `*` stands for all names that have no mood of their own.
    pub(crate) fn set_mood(&self, name: &str, mood: Option<Mood>) {
        let mut state = self.state();
        match mood {
            Some(mood) => state.moods.insert(name.to_owned(), mood),
            None => state.moods.remove(name),
        };
    }

    /// How long its negative answers hold.
    pub(crate) fn set_negative_ttl(&self, ttl: Option<u32>) {
        self.state().negative_ttl = ttl;
    }

    /// All that it was asked, but for the record of the proxy's own domain: the service looks at that now and then, for
    /// its status.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let is_own = |asked: &&Asked| asked.name == "_sipfederationtls._tcp.example.org";
        self.state().asked.iter().filter(|asked| !is_own(asked)).cloned().collect()
    }

    /// How often it was asked this.
    pub(crate) fn count(&self, name: &str, kind: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.name == name && asked.kind == kind).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve_datagrams(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let socket = Arc::new(socket);
    let mut buffer = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let Some(question) = Question::parse(&buffer[..length]) else { continue };
        let (reply, delay) = lock(&state).reply(&question, false);
        let Some(reply) = reply else { continue };
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = socket.send_to(&reply, peer).await;
        });
    }
}

async fn serve_streams(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_stream(stream, Arc::clone(&state)));
    }
}

/// One question after the other (RFC 1035 §4.2.2).
async fn serve_stream(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let Some(question) = Question::parse(&query) else { return };
        let (reply, delay) = lock(&state).reply(&question, true);
        let Some(reply) = reply else { continue };
        tokio::time::sleep(delay).await;
        let mut framed = u16::try_from(reply.len()).expect("a message of DNS").to_be_bytes().to_vec();
        framed.extend(reply);
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

struct Question {
    id: [u8; 2],
    /// As it came.
    octets: Vec<u8>,
    name: String,
    kind: u16,
    /// What the client takes in a datagram.
    room: usize,
}

impl Question {
    fn parse(query: &[u8]) -> Option<Self> {
        let (mut at, mut labels) = (12, Vec::new());
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
            at += length;
        }
        let fixed = query.get(at..at + 4)?;
        let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
        let room = match query.get(at + 4..at + 9) {
            Some([0, high, low, size @ ..]) if u16::from_be_bytes([*high, *low]) == OPT => {
                usize::from(u16::from_be_bytes([size[0], size[1]]))
            }
            _ => 512,
        };
        let octets = query[12..at + 4].to_vec();
        Some(Self { id: [query[0], query[1]], octets, name: labels.join("."), kind, room })
    }
}

impl State {
    fn reply(&mut self, question: &Question, by_tcp: bool) -> (Option<Vec<u8>>, Duration) {
        let known = TYPES.iter().find(|(_, number)| *number == question.kind);
        let kind = known.map_or_else(|| question.kind.to_string(), |(name, _)| (*name).to_owned());
        self.asked.push(Asked { name: question.name.clone(), kind, by_tcp });
        let mood = self.moods.get(&question.name).or_else(|| self.moods.get("*")).copied();
        let mut delay = Duration::ZERO;
        let reply = match mood {
            Some(Mood::Silent) => return (None, delay),
            Some(Mood::Code(code)) => message(question, 0, code, &[], &[]),
            Some(Mood::Truncates) if !by_tcp => message(question, 0x02, 0, &[], &[]),
            Some(Mood::Lame) => {
                let data = wire_name("ns.elsewhere.test");
                message(question, 0, 0, &[], &[record("test", number_of("NS"), 60, &data)])
            }
            Some(Mood::Late(late)) => {
                delay = late;
                self.answer(question, MAXIMUM_ALIASES)
            }
            Some(Mood::Reluctant) => self.answer(question, 1),
            Some(Mood::Truncates) | None => self.answer(question, MAXIMUM_ALIASES),
        };
        if !by_tcp && reply.len() > question.room {
            return (Some(message(question, 0x02, 0, &[], &[])), delay);
        }
        (Some(reply), delay)
    }

    fn answer(&self, question: &Question, aliases: usize) -> Vec<u8> {
        let (mut answers, mut name, mut seen) = (Vec::new(), question.name.clone(), Vec::new());
        loop {
            let entries = self.records.get(&name).map(Vec::as_slice).unwrap_or_default();
            let asked_for = entries.iter().filter(|entry| entry.kind == question.kind);
            let found: Vec<_> =
                asked_for.map(|entry| record(&name, entry.kind, entry.ttl, &entry.data)).collect();
            if !found.is_empty() {
                answers.extend(found);
                return message(question, 0, 0, &answers, &[]);
            }
            let alias = entries.iter().find_map(|entry| Some((entry, entry.target.clone()?)));
            let Some((entry, target)) = alias.filter(|_| !seen.contains(&name)) else { break };
            answers.push(record(&name, entry.kind, entry.ttl, &entry.data));
            seen.push(std::mem::replace(&mut name, target));
            if seen.len() == aliases {
                return message(question, 0, 0, &answers, &[]);
            }
        }
        let suffix = format!(".{name}");
        let exists = self.records.keys().any(|known| *known == name || known.ends_with(&suffix));
        let soa = self.negative_ttl.map(|ttl| {
            let mut data = [wire_name("ns.test"), wire_name("admin.test")].concat();
            data.extend([1, 3600, 600, 86_400, ttl].iter().flat_map(|number| number.to_be_bytes()));
            record("test", SOA, ttl, &data)
        });
        message(question, 0, if exists { 0 } else { 3 }, &answers, soa.as_slice())
    }
}

/// A response, recursion available.
fn message(question: &Question, flags: u8, code: u8, answers: &[Vec<u8>], authority: &[Vec<u8>]) -> Vec<u8> {
    let count = |records: &[Vec<u8>]| u16::try_from(records.len()).expect("few records").to_be_bytes();
    let mut message = question.id.to_vec();
    message.extend([0x81 | flags, 0x80 | code, 0, 1]);
    message.extend(count(answers));
    message.extend(count(authority));
    message.extend([0, 0]);
    message.extend(&question.octets);
    message.extend(answers.concat());
    message.extend(authority.concat());
    message
}

fn record(name: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = wire_name(name);
    record.extend(kind.to_be_bytes());
    record.extend(1u16.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend(u16::try_from(data.len()).expect("a short record").to_be_bytes());
    record.extend(data);
    record
}

fn number_of(kind: &str) -> u16 {
    TYPES.iter().find(|(name, _)| *name == kind).expect("a type that is known").1
}

/// The data of a record from its fields in a zone file.
fn encode(kind: &str, fields: &[&str]) -> Vec<u8> {
    let number = |field: &str| field.parse::<u16>().expect("a number").to_be_bytes().to_vec();
    match kind {
        "A" => fields[0].parse::<Ipv4Addr>().expect("an IPv4 address").octets().to_vec(),
        "AAAA" => fields[0].parse::<Ipv6Addr>().expect("an IPv6 address").octets().to_vec(),
        "SRV" => [number(fields[0]), number(fields[1]), number(fields[2]), wire_name(fields[3])].concat(),
        "NAPTR" => {
            let text = |field: &str| {
                let text = field.trim_matches('"');
                [&[u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat()
            };
            let numbers = [number(fields[0]), number(fields[1])].concat();
            let texts = [text(fields[2]), text(fields[3]), text(fields[4])].concat();
            [numbers, texts, wire_name(fields[5])].concat()
        }
        _ => wire_name(fields[0]),
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.trim_end_matches('.').split('.').filter(|label| !label.is_empty());
    let mut octets: Vec<u8> = labels
        .flat_map(|label| [&[u8::try_from(label.len()).expect("a label")], label.as_bytes()].concat())
        .collect();
    octets.push(0);
    octets
}
