//! Sockets of the scripted UC server: one UDP port, one TCP port, one TLS port, and its connection to the proxy.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::mpsc::UnboundedSender;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Flow, Ports, Transport};
use crate::common::scratch::free_port;
use crate::common::sip::{Frame, Sip, take_frame};

/// The largest UDP datagram.
const DATAGRAM: usize = 65_535;

/// What the sockets, and the test, have to tell.
pub(super) enum Event {
    /// Somebody has connected from this address; this is the writing half.
    Connected(Flow, IpAddr, Writer),
    Closed(Flow),
    Received(Flow, Sip),
    RegistrationsConfirmed,
}

/// The writing half of a stream.
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// All sockets of one server.
pub(super) struct Network {
    datagrams: Arc<UdpSocket>,
    streams: HashMap<Flow, Writer>,
    ports: Ports,
    events: UnboundedSender<Event>,
}

impl Network {
    /// Listens on free ports of `ip`. The reading tasks end with their sockets or with the runtime.
    pub(super) async fn open(ip: IpAddr, tls: &Arc<ServerConfig>, events: UnboundedSender<Event>) -> Self {
        // Requests too large for a datagram come by TCP, to the port that they would have gone to by UDP (§18.1.1).
        let same = SocketAddr::new(ip, free_port(ip));
        let datagrams = Arc::new(UdpSocket::bind(same).await.expect("the UDP port was free just now"));
        let plain = TcpListener::bind(same).await.expect("the TCP port was free just now");
        let secure = TcpListener::bind(SocketAddr::new(ip, 0)).await.expect("a TCP port of loopback");
        let address = |result: std::io::Result<SocketAddr>| result.expect("a bound socket has an address");
        let ports = Ports {
            udp: address(datagrams.local_addr()),
            tcp: address(plain.local_addr()),
            tls: address(secure.local_addr()),
        };
        tokio::spawn(read_datagrams(Arc::clone(&datagrams), events.clone()));
        tokio::spawn(accept(plain, None, events.clone()));
        tokio::spawn(accept(secure, Some(TlsAcceptor::from(Arc::clone(tls))), events.clone()));
        Self { datagrams, streams: HashMap::new(), ports, events }
    }

    pub(super) fn ports(&self) -> Ports {
        self.ports
    }

    /// Connects to the proxy, by TLS if there are settings for it.
    pub(super) async fn connect(&mut self, proxy: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Flow {
        let socket = TcpSocket::new_v4().expect("a TCP socket");
        socket.bind(SocketAddr::new(self.ports.tcp.ip(), 0)).expect("a TCP port of loopback");
        let stream =
            socket.connect(proxy).await.unwrap_or_else(|error| panic!("connecting to {proxy}: {error}"));
        let (flow, writer) = match tls {
            None => begin(stream, Transport::Tcp, &self.events),
            Some(config) => {
                let stream = TlsConnector::from(config).connect(ServerName::from(proxy.ip()), stream).await;
                let stream = stream.unwrap_or_else(|error| panic!("TLS with {proxy}: {error}"));
                begin(stream, Transport::Tls, &self.events)
            }
        };
        self.streams.insert(flow, writer);
        flow
    }

    /// Takes over the writing half of a connection that somebody has made.
    pub(super) fn adopt(&mut self, flow: Flow, writer: Writer) {
        self.streams.insert(flow, writer);
    }

    /// Sends a message; one for a connection that is gone is lost, as on any network.
    pub(super) async fn send(&mut self, flow: Flow, message: &Sip) {
        let octets = message.to_bytes();
        match flow {
            Flow::Datagrams(to) => {
                self.datagrams.send_to(&octets, to).await.expect("sending a datagram on loopback");
            }
            Flow::Stream(..) => {
                let Some(writer) = self.streams.get_mut(&flow) else { return };
                if writer.write_all(&octets).await.is_err() || writer.flush().await.is_err() {
                    self.streams.remove(&flow);
                }
            }
        }
    }
}

async fn read_datagrams(socket: Arc<UdpSocket>, events: UnboundedSender<Event>) {
    let mut datagram = vec![0; DATAGRAM];
    loop {
        // An ICMP error of an earlier datagram is reported here; the next call reads on.
        let Ok((length, source)) = socket.recv_from(&mut datagram).await else { continue };
        // Keep-alives are no SIP.
        let Ok(message) = Sip::parse(&datagram[..length]) else { continue };
        if events.send(Event::Received(Flow::Datagrams(source), message)).is_err() {
            return;
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, events: UnboundedSender<Event>) {
    while let Ok((stream, peer)) = listener.accept().await {
        let (flow, writer) = match &tls {
            None => begin(stream, Transport::Tcp, &events),
            Some(acceptor) => match acceptor.accept(stream).await {
                Ok(stream) => begin(stream, Transport::Tls, &events),
                Err(_) => continue,
            },
        };
        if events.send(Event::Connected(flow, peer.ip(), writer)).is_err() {
            return;
        }
    }
}

/// Starts reading a stream; what is read follows after the caller's own event, since nothing is awaited in between.
fn begin<S>(stream: S, transport: Transport, events: &UnboundedSender<Event>) -> (Flow, Writer)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let flow = Flow::Stream(COUNT.fetch_add(1, Ordering::Relaxed), transport);
    let (mut reader, writer): (_, WriteHalf<S>) = tokio::io::split(stream);
    let events = events.clone();
    tokio::spawn(async move {
        let mut buffer = Vec::new();
        loop {
            while let Some(frame) = take_frame(&mut buffer) {
                // Keep-alives of clients need no answer to pass the time of a test.
                let Frame::Message(octets) = frame else { continue };
                let message = Sip::parse(&octets).unwrap_or_else(|fault| panic!("{flow:?}: {fault}"));
                if events.send(Event::Received(flow, message)).is_err() {
                    return;
                }
            }
            if !reader.read_buf(&mut buffer).await.is_ok_and(|length| length > 0) {
                // Nobody listens any more where the server has ended before its users.
                let _ = events.send(Event::Closed(flow));
                return;
            }
        }
    });
    (flow, Box::new(writer))
}
