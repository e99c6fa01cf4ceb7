//! Asks STUN servers: a core of [`protocol::stun::nat`](crate::protocol::stun::nat) with its two sockets.
//!
//! For the actor as for the command line, and so without anything of either.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use crate::actors::state;
use crate::config::{Config, Host, HostPort, Side};
use crate::protocol::stun::TransactionId;
use crate::protocol::stun::nat::{Detection, Doubt, NatType, Socket, TRANSACTIONS, Verdict};

/// No answer of a STUN server is longer; what is, is cut and thereby malformed.
const LARGEST_ANSWER: usize = 1500;

/// Whom to ask, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The servers, in this order.
    pub servers: Vec<HostPort>,
    /// Addresses of the WAN interfaces, to ask from; wildcards among them leave it to the system.
    pub local: Vec<IpAddr>,
    /// For the look-up of one server's name.
    pub look_up_time: Duration,
}

impl Question {
    /// What `config` says.
    pub fn new(config: &Config) -> Self {
        let wan = config.interfaces.iter().filter(|interface| interface.side == Side::Wan);
        Self {
            servers: config.stun.servers.clone(),
            local: wan.map(|interface| interface.ip_address).collect(),
            look_up_time: config.dns.timeout,
        }
    }
}

/// What has become of a [`Question`].
#[derive(Debug)]
pub struct Finding {
    /// The server that has told the address, if one has.
    pub server: Option<HostPort>,
    /// What it has told; else whether UDP seems to be blocked.
    pub verdict: Verdict,
    /// Those that were asked before, and what was in the way.
    pub failures: Vec<(HostPort, Obstacle)>,
}

impl Finding {
    /// Why there is no address, or no type; empty where there are both.
    pub fn reason(&self) -> String {
        if let Some(doubt) = self.verdict.doubt {
            return doubt.to_string();
        }
        let failure = |(server, obstacle): &(HostPort, Obstacle)| format!("{server}: {obstacle}");
        let failures = if self.server.is_none() { &*self.failures } else { &[] };
        failures.iter().map(failure).collect::<Vec<_>>().join("; ")
    }
}

/// Why a server has not told our address.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// Its name has not been found.
    #[error("its name cannot be looked up: {0}")]
    LookUp(io::Error),
    /// That takes too long.
    #[error("its name is not looked up in time")]
    LookUpTime,
    /// The system does not let us ask.
    #[error("it cannot be asked: {0}")]
    System(#[from] io::Error),
    /// It does not answer.
    #[error("it does not answer")]
    Silent,
    /// Its answer has no address.
    #[error(transparent)]
    Doubt(Doubt),
}

/// Asks one server after the other, until one tells our address.
///
/// A server that is silent takes 40 s, one that answers up to 40 s more, and 40 s again where its other address is
/// silent.
pub async fn ask(question: &Question) -> Finding {
    let mut failures = Vec::new();
    for server in &question.servers {
        match ask_server(question, server).await {
            Ok(verdict) => return Finding { server: Some(server.clone()), verdict, failures },
            Err(obstacle) => failures.push((server.clone(), obstacle)),
        }
    }
    // That somebody answers, whatever it is, shows that UDP is not blocked.
    let is_silent = failures.iter().any(|(_, obstacle)| matches!(obstacle, Obstacle::Silent));
    let has_answer = failures.iter().any(|(_, obstacle)| matches!(obstacle, Obstacle::Doubt(_)));
    let nat_type = if is_silent && !has_answer { NatType::UdpBlocked } else { NatType::Unknown };
    Finding { server: None, verdict: Verdict { public: None, nat_type, doubt: None }, failures }
}

async fn ask_server(question: &Question, server: &HostPort) -> Result<Verdict, Obstacle> {
    let server = address_of(question, server).await?;
    let local = SocketAddr::new(local_address(&question.local, server)?, 0);
    // New ports each time: what a NAT remembers of earlier ones would spoil the result (RFC 3489 §10.1).
    let (main, mapping) = (UdpSocket::bind(local).await?, UdpSocket::bind(local).await?);
    let mut ids = [TransactionId([0; 12]); TRANSACTIONS];
    for id in &mut ids {
        *id = TransactionId(state::random()?);
    }
    let detection = Detection::new(now(), server, main.local_addr()?, ids);
    let verdict = converse(detection, &main, &mapping).await?;
    match verdict {
        Verdict { public: Some(_), .. } => Ok(verdict),
        Verdict { doubt: Some(doubt), .. } => Err(Obstacle::Doubt(doubt)),
        Verdict { public: None, doubt: None, .. } => Err(Obstacle::Silent),
    }
}

/// Carries datagrams to and fro until there is a verdict.
async fn converse(mut detection: Detection, main: &UdpSocket, mapping: &UdpSocket) -> io::Result<Verdict> {
    let mut octets = [0; LARGEST_ANSWER];
    loop {
        while let Some(transmit) = detection.poll_transmit(now()) {
            let socket = match transmit.socket {
                Socket::Main => main,
                Socket::Mapping => mapping,
            };
            // What the system does not send is as good as lost on the way: it is repeated.
            let _ = socket.send_to(&transmit.octets, transmit.to).await;
        }
        if let Some(verdict) = detection.verdict() {
            return Ok(verdict);
        }
        let due = detection.poll_timeout().expect("what has no verdict has a transaction under way");
        // The times that matter are looked at above: datagrams that keep coming cannot put them off.
        let received = timeout_at(due.into(), receive(main, mapping, &mut octets)).await;
        if let Ok(received) = received {
            let (length, source) = received?;
            detection.handle_datagram(now(), source, &octets[..length]);
        }
    }
}

/// A datagram of either socket.
async fn receive(
    main: &UdpSocket,
    mapping: &UdpSocket,
    octets: &mut [u8],
) -> io::Result<(usize, SocketAddr)> {
    loop {
        let (socket, readable) = match select(pin!(main.readable()), pin!(mapping.readable())).await {
            Either::Left((readable, _)) => (main, readable),
            Either::Right((readable, _)) => (mapping, readable),
        };
        readable?;
        match socket.try_recv_from(octets) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

/// The time that timers go by.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// One address of a server, of a family that a WAN interface has, if there is one.
async fn address_of(question: &Question, server: &HostPort) -> Result<SocketAddr, Obstacle> {
    let name = match &server.host {
        Host::Address(ip) => return Ok(SocketAddr::new(*ip, server.port)),
        Host::Name(name) => name,
    };
    // The system's look-up runs in a thread that may wait.
    let found = timeout(question.look_up_time, lookup_host((name.as_str(), server.port))).await;
    let found: Vec<_> = found.map_err(|_| Obstacle::LookUpTime)?.map_err(Obstacle::LookUp)?.collect();
    let has_family =
        |address: &&SocketAddr| question.local.iter().any(|ip| ip.is_ipv4() == address.is_ipv4());
    let preferred = found.iter().find(has_family).or_else(|| found.first());
    preferred.copied().ok_or_else(|| Obstacle::LookUp(io::ErrorKind::NotFound.into()))
}

/// The address to ask `server` from.
fn local_address(local: &[IpAddr], server: SocketAddr) -> io::Result<IpAddr> {
    let reaches = |ip: &&IpAddr| {
        ip.is_ipv4() == server.is_ipv4()
            && !ip.is_unspecified()
            && ip.is_loopback() == server.ip().is_loopback()
    };
    if let Some(ip) = local.iter().find(reaches) {
        return Ok(*ip);
    }
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // To connect sends nothing, but has the system choose.
    let chosen = std::net::UdpSocket::bind((any, 0))?;
    chosen.connect(server)?;
    Ok(chosen.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::stun::answer;

    fn question(servers: &[&str], local: &[&str]) -> Question {
        Question {
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
            local: local.iter().map(|ip| ip.parse().unwrap()).collect(),
            look_up_time: Duration::from_secs(10),
        }
    }

    /// A server with one address, which answers as SIP ports do.
    async fn server(ip: &str, answers: fn(&[u8], SocketAddr) -> Option<Vec<u8>>) -> SocketAddr {
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut octets = [0; 100];
            loop {
                let (length, source) = socket.recv_from(&mut octets).await.unwrap();
                if let Some(answer) = answers(&octets[..length], source) {
                    socket.send_to(&answer, source).await.unwrap();
                }
            }
        });
        address
    }

    fn refuse(request: &[u8], _: SocketAddr) -> Option<Vec<u8>> {
        Some([&[1, 0x11, 0, 8][..], &request[4..20], b"\0\x09\0\x04\0\0\x05\0"].concat())
    }

    #[actix::test]
    async fn the_next_server_is_asked_where_one_does_not_tell() {
        let (broken, good) = (server("127.0.0.1", refuse).await, server("127.0.0.1", answer).await);
        let finding =
            ask(&question(&[&broken.to_string(), &good.to_string()], &["127.0.0.9", "10.0.0.1"])).await;
        assert_eq!(finding.server.as_ref().map(ToString::to_string), Some(good.to_string()));
        assert_eq!(finding.verdict.public.unwrap().ip(), IpAddr::from([127, 0, 0, 9]));
        assert_eq!(finding.verdict.doubt, Some(Doubt::OneAddress));
        assert_eq!(finding.failures.len(), 1);
        let finding = ask(&question(&[&broken.to_string()], &[])).await;
        assert_eq!((finding.verdict.public, finding.verdict.nat_type), (None, NatType::Unknown));
        assert_eq!(finding.reason(), format!("{broken}: the server answers with error 500"));
    }

    #[actix::test]
    async fn a_name_is_looked_up_and_one_that_is_none_is_an_obstacle() {
        let port = server("127.0.0.1", answer).await.port();
        let finding = ask(&question(&["x.invalid:1", &format!("localhost:{port}")], &["127.0.0.1"])).await;
        assert_eq!(finding.verdict.public.unwrap().ip(), IpAddr::from([127, 0, 0, 1]));
        assert!(finding.failures[0].1.to_string().contains("look"), "{:?}", finding.failures);
    }

    #[actix::test]
    async fn h13_an_address_of_ipv6_is_told_by_a_server_of_ipv6() {
        let server = server("::1", answer).await;
        let finding = ask(&question(&[&server.to_string()], &["0.0.0.0"])).await;
        assert_eq!(finding.verdict.public.unwrap().ip(), IpAddr::from(Ipv6Addr::LOCALHOST));
    }

    #[actix::test]
    async fn what_is_no_answer_does_not_put_off_the_end() {
        tokio::time::pause();
        let echo = server("127.0.0.1", |request, _| Some(request.to_vec())).await;
        let question = question(&[&echo.to_string()], &[]);
        let finding = timeout(Duration::from_secs(120), ask(&question)).await.expect("it comes to an end");
        assert_eq!(finding.verdict.nat_type, NatType::UdpBlocked);
    }
}
