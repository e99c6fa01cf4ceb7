//! Ends that send and show octets as they are: the agents of `common` read what comes, these do not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::common::sip::{Frame, Sip, take_frame};

/// How long an end waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing must come before it counts as silence.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

/// The ports to which the messages of the table want their answers (RFC 3261 §18.2.2).
const PORTS: [u16; 4] = [5060, 5050, 6050, 19823];

/// A sender.
pub(crate) enum Sender {
    /// Of datagrams, from the first of several sockets.
    Datagrams { sockets: Vec<UdpSocket>, peer: SocketAddr },
    /// Of a stream.
    Stream(Stream),
}

/// A TCP connection.
pub(crate) struct Stream {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Sender {
    pub(crate) async fn datagrams(local: IpAddr, peer: SocketAddr) -> Self {
        let mut sockets = Vec::new();
        for port in PORTS {
            let socket = UdpSocket::bind(SocketAddr::new(local, port)).await;
            sockets.push(socket.unwrap_or_else(|error| panic!("{local}:{port}: {error}")));
        }
        Self::Datagrams { sockets, peer }
    }

    pub(crate) async fn stream(local: IpAddr, peer: SocketAddr) -> Self {
        Self::Stream(Stream::connect(local, peer).await)
    }

    /// Where what it sends comes from.
    pub(crate) fn local(&self) -> SocketAddr {
        match self {
            Self::Datagrams { sockets, .. } => {
                sockets[0].local_addr().expect("a bound socket has an address")
            }
            Self::Stream(stream) => stream.local(),
        }
    }

    /// Sends octets as they are: one datagram, or one write.
    pub(crate) async fn send(&mut self, octets: &[u8]) {
        match self {
            Self::Datagrams { sockets, peer } => {
                sockets[0].send_to(octets, *peer).await.expect("sending on loopback");
            }
            Self::Stream(stream) => stream.send(octets).await,
        }
    }

    /// The next final response, on whichever port it comes; `None` if none comes in time or the stream ends.
    pub(crate) async fn final_response(&mut self, limit: Duration) -> Option<Sip> {
        timeout(limit, async {
            loop {
                let octets = match self {
                    Self::Datagrams { sockets, .. } => receive_any(sockets).await,
                    Self::Stream(stream) => stream.read().await?,
                };
                let message =
                    Sip::parse(&octets).unwrap_or_else(|fault| panic!("{fault}: {}", octets.escape_ascii()));
                if message.status() >= 200 {
                    return Some(message);
                }
                assert!(
                    !message.is_request() || message.status() == 0,
                    "neither request nor response:\n{message}"
                );
            }
        })
        .await
        .ok()
        .flatten()
    }
}

async fn receive_any(sockets: &[UdpSocket]) -> Vec<u8> {
    let mut datagram = vec![0; 65_535];
    loop {
        for socket in sockets {
            if let Ok((length, _)) = socket.try_recv_from(&mut datagram) {
                return datagram[..length].to_vec();
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl Stream {
    pub(crate) async fn connect(local: IpAddr, peer: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a TCP socket");
        socket.bind(SocketAddr::new(local, 0)).expect("a TCP port of loopback");
        let stream = timeout(PATIENCE, socket.connect(peer)).await.expect("in time").expect("a connection");
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    pub(crate) async fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.expect("sending on loopback");
    }

    /// The next message, octet for octet; `None` if none comes in time or the stream ends.
    pub(crate) async fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        timeout(limit, self.read()).await.ok().flatten()
    }

    async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            match take_frame(&mut self.buffer) {
                Some(Frame::Message(octets)) => return Some(octets),
                Some(Frame::Ping | Frame::Pong) => {}
                None => {
                    if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                        return None;
                    }
                }
            }
        }
    }
}
