//! A STUN server with two addresses and two ports, which also plays the NAT in front of whom it answers: it tells the
//! address that the NAT would have given, and does not send what the NAT would keep out.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;

use super::scratch::loopback;

/// Where the NAT is to be outside. It stands in answers, and nothing is sent there.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// Of whom a NAT, or a firewall without translation, lets datagrams in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Filter {
    /// Of nobody.
    Nobody,
    /// Of the ports that were sent something.
    Ports,
    /// Of the hosts that were.
    Hosts,
    /// Of anybody.
    Anybody,
}

/// Which address a NAT gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mapping {
    /// There is no NAT.
    None,
    /// One for all destinations.
    One,
    /// One for each of them.
    Each,
}

/// What the server speaks, or does not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speech {
    /// MAPPED-ADDRESS, CHANGED-ADDRESS, SOURCE-ADDRESS.
    Rfc3489,
    /// XOR-MAPPED-ADDRESS, OTHER-ADDRESS, RESPONSE-ORIGIN.
    Rfc5780,
    /// XOR-MAPPED-ADDRESS; CHANGE-REQUEST is answered with 420.
    Rfc8489,
    /// That, but CHANGE-REQUEST is passed over, and another address claimed.
    Boaster,
    /// Before each answer, one to another transaction, one without the cookie, and no STUN at all.
    Noisy,
    /// Nothing but error 500.
    Broken,
}

/// The running server; it ends with the runtime of its test.
#[derive(Clone)]
pub(crate) struct StunServer {
    state: Arc<State>,
}

struct State {
    speech: Speech,
    mapping: Mapping,
    filter: Filter,
    /// By address, then by port.
    sockets: [[(UdpSocket, SocketAddr); 2]; 2],
    nat: Mutex<Nat>,
}

struct Nat {
    outside: Ipv4Addr,
    /// By client, and for [`Mapping::Each`] by destination, the port outside.
    ports: HashMap<(SocketAddr, Option<SocketAddr>), u16>,
    /// Whom each mapping has sent something.
    sent: HashMap<(SocketAddr, Option<SocketAddr>), HashSet<SocketAddr>>,
}

impl StunServer {
    pub(crate) async fn start(speech: Speech, mapping: Mapping, filter: Filter) -> Self {
        let (first, second) = (loopback(), loopback());
        let sockets = [bind(first).await, bind(second).await];
        let nat = Nat { outside: OUTSIDE, ports: HashMap::new(), sent: HashMap::new() };
        let state = Arc::new(State { speech, mapping, filter, sockets, nat: Mutex::new(nat) });
        for (address, port) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let state = Arc::clone(&state);
            tokio::spawn(async move { state.serve(address, port).await });
        }
        Self { state }
    }

    /// The address to ask.
    pub(crate) fn address(&self) -> SocketAddr {
        self.state.sockets[0][0].1
    }

    /// The NAT gets another address outside.
    pub(crate) fn move_to(&self, outside: Ipv4Addr) {
        self.state.nat.lock().unwrap_or_else(PoisonError::into_inner).outside = outside;
    }
}

async fn bind(ip: IpAddr) -> [(UdpSocket, SocketAddr); 2] {
    let socket = || async {
        let socket = UdpSocket::bind((ip, 0)).await.expect("a UDP port of loopback");
        let address = socket.local_addr().expect("a bound socket has an address");
        (socket, address)
    };
    [socket().await, socket().await]
}

impl State {
    async fn serve(&self, address: usize, port: usize) {
        let (socket, here) = &self.sockets[address][port];
        let mut octets = [0; 2048];
        loop {
            let (length, client) = socket.recv_from(&mut octets).await.expect("a socket of loopback");
            let request = &octets[..length];
            assert!(length >= 20 && request[..2] == [0, 1], "no Binding request: {request:?}");
            assert_eq!(request[4..8], [0x21, 0x12, 0xa4, 0x42], "the cookie");
            let flags = change_request(request);
            let (change_address, change_port) = match self.speech {
                Speech::Rfc8489 | Speech::Boaster => (false, false),
                _ => (flags & 4 != 0, flags & 2 != 0),
            };
            let (sender, source) =
                &self.sockets[address ^ usize::from(change_address)][port ^ usize::from(change_port)];
            let Some(mapped) = self.pass(client, *here, *source) else { continue };
            let other = self.sockets[address ^ 1][port ^ 1].1;
            if self.speech == Speech::Noisy {
                for (place, octet) in [(19, !request[19]), (4, 0), (0, 0xff)] {
                    let mut noise = self.answer(request, mapped, *source, other, flags);
                    noise[place] = octet;
                    sender.send_to(&noise, client).await.expect("loopback takes it");
                }
            }
            let answer = self.answer(request, mapped, *source, other, flags);
            sender.send_to(&answer, client).await.expect("loopback takes it");
        }
    }

    /// The address that the NAT gives `client` towards `here`, if it lets an answer from `source` in.
    fn pass(&self, client: SocketAddr, here: SocketAddr, source: SocketAddr) -> Option<SocketAddr> {
        let mut nat = self.nat.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (client, (self.mapping == Mapping::Each).then_some(here));
        let next = 20_000 + 7 * nat.ports.len() as u16;
        let port = *nat.ports.entry(key).or_insert(next);
        let sent = nat.sent.entry(key).or_default();
        sent.insert(here);
        let is_in = match self.filter {
            Filter::Nobody => false,
            Filter::Ports => sent.contains(&source),
            Filter::Hosts => sent.iter().any(|to| to.ip() == source.ip()),
            Filter::Anybody => true,
        };
        let mapped = match self.mapping {
            Mapping::None => client,
            Mapping::One | Mapping::Each => SocketAddr::new(nat.outside.into(), port),
        };
        is_in.then_some(mapped)
    }

    fn answer(
        &self,
        request: &[u8],
        mapped: SocketAddr,
        source: SocketAddr,
        other: SocketAddr,
        flags: u8,
    ) -> Vec<u8> {
        let refusal = match self.speech {
            Speech::Broken => Some([0, 0, 5, 0]),
            Speech::Rfc8489 if flags != 0 => Some([0, 0, 4, 20]),
            _ => None,
        };
        let mut body = Vec::new();
        match (refusal, self.speech) {
            (Some(code), _) => body.extend(attribute(0x0009, &code)),
            (None, Speech::Rfc3489) => {
                body.extend(attribute(0x0001, &plain(mapped)));
                body.extend(attribute(0x0004, &plain(source)));
                body.extend(attribute(0x0005, &plain(other)));
            }
            (None, _) => {
                body.extend(attribute(0x0020, &masked(mapped)));
                body.extend(attribute(0x802b, &plain(source)));
                body.extend(attribute(0x802c, &plain(other)));
            }
        }
        let kind = if refusal.is_some() { [1, 0x11] } else { [1, 1] };
        [&kind[..], &(body.len() as u16).to_be_bytes(), &request[4..20], &body].concat()
    }
}

/// The flags of CHANGE-REQUEST, which is the only attribute of a request here.
fn change_request(request: &[u8]) -> u8 {
    match &request[20..] {
        [] => 0,
        [0, 3, 0, 4, 0, 0, 0, flags] => *flags,
        others => panic!("not CHANGE-REQUEST: {others:?}"),
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// MAPPED-ADDRESS and its like, of IPv4.
fn plain(address: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(address) = address else { panic!("an IPv4 address") };
    [&[0, 1][..], &address.port().to_be_bytes(), &address.ip().octets()].concat()
}

/// XOR-MAPPED-ADDRESS, of IPv4.
fn masked(address: SocketAddr) -> Vec<u8> {
    let mask = [0, 0, 0x21, 0x12, 0x21, 0x12, 0xa4, 0x42];
    plain(address).iter().zip(mask).map(|(octet, mask)| octet ^ mask).collect()
}
