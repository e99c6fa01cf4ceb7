//! What carries an agent's octets: a UDP port, a stream, or a WebSocket connection.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::sip::{Frame, take_frame};
use super::web::{Message, Web, message_of};

/// The largest UDP datagram.
const DATAGRAM: usize = 65_535;

pub(super) enum Link {
    Datagrams { socket: UdpSocket, datagram: Vec<u8> },
    Stream { stream: Box<dyn Octets>, buffer: Vec<u8> },
    Web(Box<Web>),
    Closed,
}

/// What TCP and TLS streams have in common.
pub(crate) trait Octets: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Octets for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Octets for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl Link {
    pub(super) fn datagrams(socket: UdpSocket) -> Self {
        Self::Datagrams { socket, datagram: vec![0; DATAGRAM] }
    }

    pub(super) fn stream(stream: impl Octets + 'static) -> Self {
        Self::Stream { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub(super) fn web(web: Web) -> Self {
        Self::Web(Box::new(web))
    }

    pub(super) async fn send(&mut self, octets: &[u8], to: SocketAddr) -> Result<()> {
        match self {
            Self::Datagrams { socket, .. } => socket.send_to(octets, to).await.map(|_| ()),
            Self::Stream { stream, .. } => {
                stream.write_all(octets).await?;
                stream.flush().await
            }
            Self::Web(web) => web.send(message_of(octets)).await,
            Self::Closed => Err(closed()),
        }
    }

    /// The next datagram or frame; a datagram comes with its source. Cancelling this loses nothing.
    pub(super) async fn receive(&mut self) -> Result<(Frame, Option<SocketAddr>)> {
        match self {
            Self::Datagrams { socket, datagram } => {
                let (length, source) = socket.recv_from(datagram).await?;
                Ok((Frame::Message(datagram[..length].to_vec()), Some(source)))
            }
            Self::Stream { stream, buffer } => loop {
                if let Some(frame) = take_frame(buffer) {
                    return Ok((frame, None));
                }
                if stream.read_buf(buffer).await? == 0 {
                    let rest = String::from_utf8_lossy(buffer);
                    return Err(Error::new(
                        ErrorKind::UnexpectedEof,
                        format!("the stream ends after {rest:?}"),
                    ));
                }
            },
            Self::Web(web) => loop {
                match web.next().await? {
                    Message::Text(text) => return Ok((frame_of(text.as_bytes()), None)),
                    Message::Binary(octets) => return Ok((frame_of(&octets), None)),
                    Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
                }
            },
            Self::Closed => Err(closed()),
        }
    }

    /// Waits for the end of a stream, however it comes; a UDP port has none.
    pub(super) async fn end(&mut self) {
        match self {
            Self::Datagrams { .. } => std::future::pending().await,
            Self::Stream { stream, .. } => {
                let mut octets = [0; 4096];
                while stream.read(&mut octets).await.is_ok_and(|length| length > 0) {}
            }
            Self::Web(web) => web.end().await,
            Self::Closed => {}
        }
    }

    pub(super) async fn close(&mut self) {
        match self {
            Self::Stream { stream, .. } => {
                // The peer may have been quicker.
                let _ = stream.shutdown().await;
            }
            Self::Web(web) => web.close().await,
            Self::Datagrams { .. } | Self::Closed => {}
        }
        *self = Self::Closed;
    }

    pub(super) fn reset(&mut self) {
        let tcp = match self {
            Self::Stream { stream, .. } => Some(stream.tcp()),
            Self::Web(web) => Some(web.tcp()),
            Self::Datagrams { .. } | Self::Closed => None,
        };
        if let Some(tcp) = tcp {
            let socket = SockRef::from(tcp);
            socket.set_linger(Some(Duration::ZERO)).expect("a connected socket takes the option");
        }
        *self = Self::Closed;
    }
}

/// A TCP connection from a free port of `local`.
pub(super) async fn connect(local: IpAddr, peer: SocketAddr, limit: Duration) -> TcpStream {
    let socket = if local.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.expect("a TCP socket");
    socket.bind(SocketAddr::new(local, 0)).expect("a TCP port of loopback");
    let connected = timeout(limit, socket.connect(peer)).await;
    let stream = connected.unwrap_or_else(|_| panic!("no connection with {peer} within {limit:?}"));
    stream.unwrap_or_else(|error| panic!("connection from {local} to {peer}: {error}"))
}

/// One WebSocket message is one SIP message, or a keep-alive.
fn frame_of(octets: &[u8]) -> Frame {
    match octets {
        b"\r\n\r\n" => Frame::Ping,
        b"\r\n" => Frame::Pong,
        message => Frame::Message(message.to_vec()),
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::NotConnected, "this agent has closed its connection")
}
