//! An OPTIONS of the command line's own, and the answer to it (RFC 3261 §11).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Obstacle, Step};
use crate::actors::connection::Stream;
use crate::actors::state;
use crate::actors::tls::TlsFailure;
use crate::protocol::flow::Transport;
use crate::protocol::message::framing::{Frame, Framer};
use crate::protocol::message::{Carriage, Message, MessageLimits, StartLine};

/// What is read at once.
const READ_BYTES: usize = 4096;

/// A final response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 to 699.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
}

impl Answer {
    /// Whether the server takes our requests.
    pub const fn is_well(&self) -> bool {
        self.status < 300
    }
}

/// The request.
#[derive(Debug)]
pub(super) struct Options {
    domain: String,
    from: String,
    transport: Transport,
    limits: MessageLimits,
}

impl Options {
    pub(super) fn new(domain: &str, from: &str, transport: Transport, limits: MessageLimits) -> Self {
        Self { domain: domain.to_owned(), from: from.to_owned(), transport, limits }
    }

    /// Over a connection.
    pub(super) async fn by_stream(&self, mut stream: Stream, patience: Duration) -> Result<Answer, Obstacle> {
        let exchange = async {
            let (call_id, request) = self.write(stream.local_address()?)?;
            stream.write_all(&request).await?;
            stream.flush().await?;
            self.read(&mut stream, &call_id).await
        };
        match timeout(patience, exchange).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(not_sip()),
            Ok(Err(error)) => Err(Obstacle::of_stream(&error)),
            Err(_) => Err(silent()),
        }
    }

    /// The answer; `None`: what comes is no SIP.
    async fn read(&self, stream: &mut Stream, call_id: &str) -> io::Result<Option<Answer>> {
        let (mut framer, mut octets) = (Framer::new(self.limits), BytesMut::with_capacity(READ_BYTES));
        loop {
            if stream.read_buf(&mut octets).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            loop {
                match framer.next(&mut octets) {
                    Ok(Some(Frame::Message(message))) => {
                        if let Some(answer) = self.answer(message, Carriage::Stream, call_id) {
                            return Ok(Some(answer));
                        }
                    }
                    Ok(Some(Frame::Ping)) => {}
                    Ok(None) => break,
                    Err(_) => return Ok(None),
                }
            }
        }
    }

    /// By datagrams, repeated as RFC 3261 §17.1.2.2 has it (`timers`: T1, T2).
    pub(super) async fn by_datagrams(
        &self,
        local: IpAddr,
        remote: SocketAddr,
        timers: (Duration, Duration),
        patience: Duration,
    ) -> Result<Answer, Obstacle> {
        let unreachable =
            |error: io::Error| Obstacle::of(Step::Connect, TlsFailure::Unreachable, error.to_string());
        let exchange = async {
            let socket = UdpSocket::bind((local, 0)).await?;
            socket.connect(remote).await?;
            let (call_id, request) = self.write(socket.local_addr()?)?;
            self.repeat(&socket, &request, &call_id, timers).await
        };
        match timeout(patience, exchange).await {
            Ok(answered) => answered.map_err(unreachable),
            Err(_) => Err(silent()),
        }
    }

    async fn repeat(
        &self,
        socket: &UdpSocket,
        request: &[u8],
        call_id: &str,
        (t1, t2): (Duration, Duration),
    ) -> io::Result<Answer> {
        let mut octets = vec![0; self.limits.message_bytes];
        let mut interval = t1;
        loop {
            socket.send(request).await?;
            let again = Instant::now() + interval;
            while let Ok(received) = timeout_at(again, socket.recv(&mut octets)).await {
                let datagram = Bytes::copy_from_slice(&octets[..received?]);
                if let Some(answer) = self.answer(datagram, Carriage::Datagram, call_id) {
                    return Ok(answer);
                }
            }
            interval = (interval * 2).min(t2);
        }
    }

    /// The request, from `local`, and its Call-ID.
    fn write(&self, local: SocketAddr) -> io::Result<(String, Vec<u8>)> {
        let [call_id, branch, tag] = [(); 3].map(|()| state::random().map(u64::from_be_bytes));
        let (call_id, branch, tag) = (format!("{:016x}", call_id?), branch?, tag?);
        let Self { domain, from, transport, .. } = self;
        let request = format!(
            "OPTIONS sip:{domain} SIP/2.0\r\n\
             Via: SIP/2.0/{via} {local};branch=z9hG4bK{branch:016x};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{from}>;tag={tag:016x}\r\n\
             To: <sip:{domain}>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: 1 OPTIONS\r\n\
             Accept: application/sdp\r\n\
             User-Agent: sip-proxy\r\n\
             Content-Length: 0\r\n\r\n",
            via = transport.to_string().to_ascii_uppercase(),
        );
        Ok((call_id, request.into_bytes()))
    }

    /// The final response to our request, if that is what came.
    fn answer(&self, octets: Bytes, carriage: Carriage, call_id: &str) -> Option<Answer> {
        let message = Message::parse(octets, carriage, self.limits).ok()?;
        let StartLine::Response { status, reason_start } = message.start_line() else { return None };
        if status < 200 || message.call_id() != call_id.as_bytes() {
            return None;
        }
        let line = message.bytes().get(usize::from(reason_start)..)?;
        let end = line.iter().position(|octet| matches!(octet, b'\r' | b'\n')).unwrap_or(line.len());
        Some(Answer { status, reason: String::from_utf8_lossy(&line[..end]).into_owned() })
    }
}

fn not_sip() -> Obstacle {
    Obstacle::new(Step::Answer, "what answers is no SIP", "check the port: another service listens there")
}

fn silent() -> Obstacle {
    Obstacle::new(
        Step::Answer,
        "OPTIONS is not answered",
        "ask the peer whether its SIP server runs, and lets this address in",
    )
}
