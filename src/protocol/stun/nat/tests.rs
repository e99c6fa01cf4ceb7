//! Every type of NAT, between the client and servers of every kind, in virtual time.

use std::time::Duration;

use super::super::codec::{
    BINDING_ERROR, BINDING_RESPONSE, CHANGE_REQUEST, CHANGED_ADDRESS, ERROR_CODE, MAPPED_ADDRESS, Message,
    OTHER_ADDRESS, Writer, write_address,
};
use super::*;

const LOCAL: &str = "10.0.0.2:40000";
const SERVER: &str = "203.0.113.10:3478";
const OTHER: &str = "203.0.113.11:3479";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What a NAT lets in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Filter {
    Nobody,
    Ports,
    Hosts,
    Anybody,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mapping {
    /// No NAT.
    None,
    Same,
    Each,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dialect {
    Rfc3489,
    Rfc5780,
}

/// How a server differs from what it is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trait {
    Honest,
    OneAddress,
    /// It says that its other address is this one.
    Claims(&'static str),
    /// It answers what is to change with an error.
    Refuses(u16),
    /// It answers what is to change from where it was asked.
    Unchanged,
    /// So many datagrams before each answer are no answer.
    Noisy,
    /// Its other address does not answer.
    HalfSilent,
    /// It answers anything with an error.
    Broken(u16),
    /// Its answers have no address.
    Empty,
    /// It answers from elsewhere.
    Stranger,
}

struct World {
    mapping: Mapping,
    filter: Filter,
    dialect: Dialect,
    server: Trait,
    /// What has left: from which socket, where to.
    sent: Vec<(Socket, SocketAddr)>,
}

impl World {
    /// The address of one of our sockets as `to` sees it.
    fn public(&self, socket: Socket, to: SocketAddr) -> SocketAddr {
        let port = if socket == Socket::Main { 40_000 } else { 40_001 };
        let shift = if to == address(OTHER) { 10 } else { 0 };
        match self.mapping {
            Mapping::None => SocketAddr::new(address(LOCAL).ip(), port),
            Mapping::Same => SocketAddr::new(address("198.51.100.1:1").ip(), port),
            Mapping::Each => SocketAddr::new(address("198.51.100.1:1").ip(), port + shift),
        }
    }

    fn lets_in(&self, socket: Socket, source: SocketAddr) -> bool {
        self.sent.iter().filter(|(from, _)| *from == socket).any(|(_, to)| match self.filter {
            Filter::Nobody => false,
            Filter::Ports => *to == source,
            Filter::Hosts => to.ip() == source.ip(),
            Filter::Anybody => true,
        })
    }

    /// What comes back for a datagram.
    fn answers(&mut self, Transmit { socket, to, octets }: &Transmit) -> Vec<(SocketAddr, Vec<u8>)> {
        self.sent.push((*socket, *to));
        let request = Message::parse(octets).unwrap();
        let flags = request.attribute(CHANGE_REQUEST).map_or(0, |value| value[3]);
        let mut source = *to;
        if flags & 4 != 0 {
            source.set_ip(address(OTHER).ip());
        }
        if flags & 2 != 0 {
            source.set_port(address(OTHER).port());
        }
        let mut answers = Vec::new();
        let (kind, error) = match self.server {
            Trait::Refuses(code) if flags != 0 => (BINDING_ERROR, Some(code)),
            Trait::Broken(code) => (BINDING_ERROR, Some(code)),
            _ => (BINDING_RESPONSE, None),
        };
        match self.server {
            Trait::HalfSilent if *to == address(OTHER) => return answers,
            Trait::Unchanged | Trait::Refuses(_) => source = *to,
            Trait::Stranger => source = address("203.0.113.66:3478"),
            Trait::Noisy => {
                let alien = Writer::new(BINDING_RESPONSE, TransactionId([0; 12])).finish();
                answers.extend([alien, octets.clone(), b"no STUN".to_vec()].map(|noise| (source, noise)));
            }
            _ => {}
        }
        let mut answer = Writer::new(kind, request.transaction);
        if let Some(code) = error {
            answer.push(ERROR_CODE, &[0, 0, (code / 100) as u8, (code % 100) as u8]);
        } else if self.server != Trait::Empty {
            self.describe(&mut answer, self.public(*socket, *to));
        }
        if self.lets_in(*socket, source) {
            answers.push((source, answer.finish()));
        }
        answers
    }

    fn describe(&self, answer: &mut Writer, public: SocketAddr) {
        let other_kind = match self.dialect {
            Dialect::Rfc3489 => {
                answer.push(MAPPED_ADDRESS, &write_address(public));
                CHANGED_ADDRESS
            }
            Dialect::Rfc5780 => {
                answer.push_xor_mapped(public);
                OTHER_ADDRESS
            }
        };
        match self.server {
            Trait::OneAddress => {}
            Trait::Claims(claimed) => answer.push(other_kind, &write_address(address(claimed))),
            _ => answer.push(other_kind, &write_address(address(OTHER))),
        }
    }

    /// The verdict, and after how many milliseconds.
    fn judge(&mut self) -> (Verdict, u128) {
        let start = Instant::now();
        let mut now = start;
        let ids = [1, 2, 3, 4, 5].map(|id| TransactionId([id; 12]));
        let mut detection = Detection::new(now, address(SERVER), address(LOCAL), ids);
        loop {
            while let Some(transmit) = detection.poll_transmit(now) {
                for (source, octets) in self.answers(&transmit) {
                    detection.handle_datagram(now, source, &octets);
                }
            }
            if let Some(verdict) = detection.verdict() {
                return (verdict, (now - start).as_millis());
            }
            now = detection.poll_timeout().expect("what has no verdict has a time to wait for");
            assert!(now - start < Duration::from_secs(160), "{detection:?}");
        }
    }
}

const SILENCE: u128 = 39_500;

fn world(mapping: Mapping, filter: Filter, dialect: Dialect, server: Trait) -> World {
    World { mapping, filter, dialect, server, sent: Vec::new() }
}

#[test]
fn h11_each_type_of_nat_is_told_by_servers_of_either_rfc() {
    let table = [
        (Mapping::None, Filter::Anybody, NatType::OpenInternet, 0),
        (Mapping::None, Filter::Ports, NatType::SymmetricUdpFirewall, SILENCE),
        (Mapping::None, Filter::Hosts, NatType::SymmetricUdpFirewall, SILENCE),
        (Mapping::None, Filter::Nobody, NatType::UdpBlocked, SILENCE),
        (Mapping::Same, Filter::Anybody, NatType::FullCone, 0),
        (Mapping::Same, Filter::Hosts, NatType::RestrictedCone, SILENCE),
        (Mapping::Same, Filter::Ports, NatType::RestrictedPortCone, SILENCE),
        (Mapping::Same, Filter::Nobody, NatType::UdpBlocked, SILENCE),
        (Mapping::Each, Filter::Ports, NatType::Symmetric, SILENCE),
        (Mapping::Each, Filter::Hosts, NatType::Symmetric, SILENCE),
        // Whom anybody reaches is no worse off than behind a full cone.
        (Mapping::Each, Filter::Anybody, NatType::FullCone, 0),
    ];
    for (mapping, filter, nat_type, time) in table {
        for dialect in [Dialect::Rfc3489, Dialect::Rfc5780] {
            for server in [Trait::Honest, Trait::Noisy] {
                let mut world = world(mapping, filter, dialect, server);
                let public = world.public(Socket::Main, address(SERVER));
                let public = (filter != Filter::Nobody).then_some(public);
                let expected = (Verdict { public, nat_type, doubt: None }, time);
                assert_eq!(world.judge(), expected, "{mapping:?} {filter:?} {dialect:?} {server:?}");
            }
        }
    }
}

#[test]
fn h12_servers_that_cannot_be_relied_on_leave_the_type_unknown() {
    let table = [
        (Trait::OneAddress, Doubt::OneAddress, true),
        (Trait::Claims("203.0.113.10:3479"), Doubt::OneAddress, true),
        (Trait::Claims("127.0.0.1:25"), Doubt::OneAddress, true),
        (Trait::Claims("224.0.0.1:25"), Doubt::OneAddress, true),
        (Trait::Claims("0.0.0.0:25"), Doubt::OneAddress, true),
        (Trait::Claims("203.0.113.11:0"), Doubt::OneAddress, true),
        (Trait::Claims("[2001:db8::1]:3479"), Doubt::OneAddress, true),
        (Trait::Refuses(420), Doubt::Refused(420), true),
        (Trait::Unchanged, Doubt::Unchanged, true),
        (Trait::Stranger, Doubt::Stranger(address("203.0.113.66:3478")), true),
        (Trait::Broken(500), Doubt::Refused(500), false),
        (Trait::Broken(420), Doubt::Refused(420), false),
        (Trait::Empty, Doubt::Unusable, false),
    ];
    for (server, doubt, has_address) in table {
        let mut world = world(Mapping::Same, Filter::Anybody, Dialect::Rfc5780, server);
        let public = has_address.then(|| world.public(Socket::Main, address(SERVER)));
        let expected = (Verdict { public, nat_type: NatType::Unknown, doubt: Some(doubt) }, 0);
        assert_eq!(world.judge(), expected, "{server:?}");
        let known = [address(SERVER), address(OTHER)];
        assert!(world.sent.iter().all(|(_, to)| known.contains(to)), "{server:?}: {:?}", world.sent);
    }
}

#[test]
fn h12_a_second_address_that_is_silent_leaves_the_type_unknown_and_nobody_waiting() {
    for filter in [Filter::Hosts, Filter::Ports] {
        let mut world = world(Mapping::Same, filter, Dialect::Rfc3489, Trait::HalfSilent);
        let public = Some(world.public(Socket::Main, address(SERVER)));
        let doubt = Some(Doubt::OtherSilent);
        assert_eq!(world.judge(), (Verdict { public, nat_type: NatType::Unknown, doubt }, SILENCE));
    }
}

#[test]
fn nothing_leaves_for_the_other_address_from_the_socket_that_waits_for_answers_from_there() {
    let mut world = world(Mapping::Same, Filter::Ports, Dialect::Rfc5780, Trait::Honest);
    world.judge();
    assert!(!world.sent.contains(&(Socket::Main, address(OTHER))));
    assert!(world.sent.contains(&(Socket::Mapping, address(OTHER))));
}
