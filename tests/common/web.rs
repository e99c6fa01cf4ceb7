//! WebSocket as a browser speaks it (RFC 7118): frames and handshake are a library's, which knows nothing of the proxy.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};
use tokio_tungstenite::WebSocketStream;
pub(crate) use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::agent::PATIENCE;
use super::link::{Octets, connect};

/// One WebSocket connection with the proxy.
pub(crate) struct Web {
    socket: WebSocketStream<Box<dyn Octets>>,
    pub(crate) local: SocketAddr,
}

impl Web {
    /// A connection from `local` to `peer`, under TLS where there is a configuration for it, and its handshake.
    pub(crate) async fn open(local: IpAddr, peer: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        let stream = connect(local, peer, PATIENCE).await;
        let local = stream.local_addr().expect("a connected socket has an address");
        let stream: Box<dyn Octets> = match tls {
            None => Box::new(stream),
            Some(config) => {
                let secured = TlsConnector::from(config).connect(ServerName::from(peer.ip()), stream).await;
                Box::new(TlsStream::Client(
                    secured.unwrap_or_else(|error| panic!("TLS with {peer}: {error}")),
                ))
            }
        };
        let mut request =
            format!("ws://{peer}/sip").into_client_request().expect("a request with an address");
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
        // The library refuses a server that does not choose what was offered.
        let upgraded = timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await;
        let upgraded = upgraded.unwrap_or_else(|_| panic!("no WebSocket with {peer} within {PATIENCE:?}"));
        let (socket, _) = upgraded.unwrap_or_else(|error| panic!("WebSocket with {peer}: {error}"));
        Self { socket, local }
    }

    /// Sends one WebSocket message or frame.
    pub(crate) async fn send(&mut self, message: Message) -> Result<()> {
        self.socket.send(message).await.map_err(Error::other)
    }

    /// Sends many at once.
    pub(crate) async fn send_all(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.socket.feed(message).await.expect("the connection is open");
        }
        self.socket.flush().await.expect("the connection is open");
    }

    /// The next WebSocket message; control frames count as such. Cancelling this loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Message> {
        match self.socket.next().await {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(Error::other(error)),
            None => Err(Error::new(ErrorKind::UnexpectedEof, "the WebSocket connection has ended")),
        }
    }

    /// The next one, which must come in time.
    pub(crate) async fn receive(&mut self) -> Message {
        let next = timeout(PATIENCE, self.next()).await;
        let next = next.unwrap_or_else(|_| panic!("{} gets nothing within {PATIENCE:?}", self.local));
        next.unwrap_or_else(|error| panic!("{}: {error}", self.local))
    }

    /// The code that the proxy closes the connection with; then it must end.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        let code = match self.receive().await {
            Message::Close(close) => close.map(|close| close.code.into()),
            other => panic!("a close wanted, this came: {other}"),
        };
        assert!(timeout(PATIENCE, self.end()).await.is_ok(), "{} is closed and goes on", self.local);
        code
    }

    /// Waits for the end, however it comes.
    pub(crate) async fn end(&mut self) {
        while self.next().await.is_ok() {}
    }

    /// Closes in order.
    pub(crate) async fn close(&mut self) {
        // The peer may have been quicker.
        if self.socket.close(None).await.is_ok() {
            let _ = timeout(PATIENCE, self.end()).await;
        }
    }

    /// The connection below.
    pub(super) fn tcp(&self) -> &TcpStream {
        self.socket.get_ref().tcp()
    }
}

/// `octets` in one message: text if it may be (RFC 7118 §4.2).
pub(crate) fn message_of(octets: &[u8]) -> Message {
    match std::str::from_utf8(octets) {
        Ok(text) => Message::text(text),
        Err(_) => Message::binary(octets.to_vec()),
    }
}

/// `text` as a text message in as many fragments as it has parts.
pub(crate) fn fragments<'a>(parts: &'a [&'a str]) -> impl Iterator<Item = Message> + 'a {
    parts.iter().enumerate().map(|(at, part)| {
        let kind = if at == 0 { Data::Text } else { Data::Continue };
        Message::Frame(Frame::message((*part).to_owned(), OpCode::Data(kind), at + 1 == parts.len()))
    })
}
