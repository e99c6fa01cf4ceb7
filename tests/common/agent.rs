//! Scripted ends: a UC server or a user agent that sends what a test tells it, octet for octet, and shows what comes.
//!
//! An agent does nothing by itself: it repeats no request, answers none, and keeps no dialog.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::{TlsConnector, TlsStream};

use super::digest::{Challenge, Credentials};
use super::link::{Link, connect};
use super::sip::{Frame, Sip};
use super::web::Web;

/// How long an agent waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// One end of a UDP flow or of a stream.
pub(crate) struct Agent {
    link: Link,
    transport: &'static str,
    local: SocketAddr,
    /// Where [`Agent::send`] sends to.
    peer: SocketAddr,
    /// Source of what was received last.
    source: SocketAddr,
    /// Messages that came while another was waited for.
    waiting: VecDeque<Sip>,
    /// Keep-alives seen on the stream.
    pub(crate) pongs: usize,
    pub(crate) pings: usize,
}

impl Agent {
    /// An agent on a UDP port of `local`, which talks to `peer`.
    pub(crate) async fn udp(local: IpAddr, peer: SocketAddr) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await.expect("a UDP port of loopback");
        let address = socket.local_addr().expect("a bound socket has an address");
        Self::new(Link::datagrams(socket), "UDP", address, peer)
    }

    /// A TCP connection from `local` to `peer`.
    pub(crate) async fn tcp(local: IpAddr, peer: SocketAddr) -> Self {
        let stream = connect(local, peer, PATIENCE).await;
        let address = stream.local_addr().expect("a connected socket has an address");
        Self::new(Link::stream(stream), "TCP", address, peer)
    }

    /// A TLS connection from `local` to `peer`, whose certificate must have its IP address.
    pub(crate) async fn tls(local: IpAddr, peer: SocketAddr, config: Arc<ClientConfig>) -> Self {
        Self::try_tls(local, peer, config).await.unwrap_or_else(|error| panic!("TLS with {peer}: {error}"))
    }

    /// As [`Agent::tls`], for a handshake that may fail.
    pub(crate) async fn try_tls(
        local: IpAddr,
        peer: SocketAddr,
        config: Arc<ClientConfig>,
    ) -> std::io::Result<Self> {
        Self::try_tls_named(local, peer, config, ServerName::from(peer.ip())).await
    }

    /// As [`Agent::try_tls`], by the name that the certificate must have; a host name goes out as SNI.
    pub(crate) async fn try_tls_named(
        local: IpAddr,
        peer: SocketAddr,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> std::io::Result<Self> {
        let stream = connect(local, peer, PATIENCE).await;
        let address = stream.local_addr()?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Self::new(Link::stream(TlsStream::Client(stream)), "TLS", address, peer))
    }

    /// A WebSocket connection from `local` to `peer`, under TLS where there is a configuration for it.
    pub(crate) async fn web(local: IpAddr, peer: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        let transport = if tls.is_some() { "WSS" } else { "WS" };
        let web = Web::open(local, peer, tls).await;
        let local = web.local;
        Self::new(Link::web(web), transport, local, peer)
    }

    pub(super) fn new(link: Link, transport: &'static str, local: SocketAddr, peer: SocketAddr) -> Self {
        let waiting = VecDeque::new();
        Self { link, transport, local, peer, source: peer, waiting, pongs: 0, pings: 0 }
    }

    /// Address and port of this end.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Source of the message that came last.
    pub(crate) fn source(&self) -> SocketAddr {
        self.source
    }

    /// A new request, complete but for a body: Via, Max-Forwards, From, To, Call-ID, CSeq and Contact.
    pub(crate) fn request(&self, method: &str, uri: &str, from: &str, to: &str) -> Sip {
        let number = unique();
        Sip::request(method, uri)
            .with("Via", self.via())
            .with("Max-Forwards", "70")
            .with("From", format!("<{from}>;tag=f{number}"))
            .with("To", format!("<{to}>"))
            .with("Call-ID", format!("c{number}@{}", self.local.ip()))
            .with("CSeq", format!("1 {method}"))
            .with("Contact", self.contact("agent"))
    }

    /// A MESSAGE with a text.
    pub(crate) fn message(&self, from: &str, to: &str, text: &str) -> Sip {
        self.request("MESSAGE", to, from, to).without("Contact").body("text/plain", text)
    }

    /// A Via value of this end with a new branch.
    pub(crate) fn via(&self) -> String {
        let rport = if self.transport == "UDP" { ";rport" } else { "" };
        format!("SIP/2.0/{} {};branch=z9hG4bK-t{}{rport}", self.transport, self.sent_by(), unique())
    }

    /// What this end calls itself: its address, which a browser does not know (RFC 7118 §B.1).
    fn sent_by(&self) -> String {
        match self.transport {
            "WS" | "WSS" => format!("web{}.invalid", self.local.port()),
            _ => self.local.to_string(),
        }
    }

    /// A Contact value of this end.
    pub(crate) fn contact(&self, user: &str) -> String {
        let parameter = match self.transport {
            "UDP" => "",
            "TCP" => ";transport=tcp",
            "WS" | "WSS" => ";transport=ws",
            _ => ";transport=tls",
        };
        format!("<sip:{user}@{}{parameter}>", self.sent_by())
    }

    /// Sends a message to the peer.
    pub(crate) async fn send(&mut self, message: &Sip) {
        self.send_bytes(&message.to_bytes()).await;
    }

    /// Sends octets to the peer: one datagram, or one write.
    pub(crate) async fn send_bytes(&mut self, octets: &[u8]) {
        self.send_to(octets, self.peer).await;
    }

    /// Sends octets to another address; a stream knows only its peer.
    pub(crate) async fn send_to(&mut self, octets: &[u8], to: SocketAddr) {
        self.link.send(octets, to).await.unwrap_or_else(|error| panic!("sending to {to}: {error}"));
    }

    /// The next message.
    ///
    /// # Panics
    ///
    /// Where none comes in time, what comes is no SIP, or the stream ends.
    pub(crate) async fn receive(&mut self) -> Sip {
        match self.waiting.pop_front() {
            Some(message) => message,
            None => self.read(PATIENCE).await.unwrap_or_else(|| {
                panic!("{} {} gets nothing within {PATIENCE:?}", self.transport, self.local)
            }),
        }
    }

    /// The next message, which must be a request with this method.
    pub(crate) async fn receive_request(&mut self, method: &str) -> Sip {
        let message = self.receive().await;
        assert!(message.is_request() && message.method() == method, "{method} wanted, this came:\n{message}");
        message
    }

    /// The next message, which must be a response with this status; 100 is passed over where it is not wanted.
    pub(crate) async fn receive_response(&mut self, status: u16) -> Sip {
        loop {
            let message = self.receive().await;
            if message.status() == 100 && status != 100 {
                continue;
            }
            assert_eq!(message.status(), status, "{status} wanted, this came:\n{message}");
            return message;
        }
    }

    /// Checks that nothing comes for a while.
    pub(crate) async fn receive_nothing(&mut self, during: Duration) {
        let message = match self.waiting.pop_front() {
            Some(message) => Some(message),
            None => self.read(during).await,
        };
        if let Some(message) = message {
            panic!("{} {} wants silence, this came:\n{message}", self.transport, self.local);
        }
    }

    /// Whether the peer closes the stream within the usual patience; messages before the end are dropped.
    pub(crate) async fn is_closed_by_peer(&mut self) -> bool {
        timeout(PATIENCE, self.link.end()).await.is_ok()
    }

    /// Whether the peer ends the stream within the usual patience and has said nothing before.
    pub(crate) async fn ends_without_a_word(&mut self) -> bool {
        self.waiting.is_empty() && matches!(timeout(PATIENCE, self.link.receive()).await, Ok(Err(_)))
    }

    /// Sends a request and waits for its final response. What else comes meanwhile is kept for
    /// [`Agent::receive`].
    pub(crate) async fn exchange(&mut self, request: &Sip) -> Sip {
        self.send(request).await;
        let mut others = VecDeque::new();
        let response = loop {
            let message = self.receive().await;
            let ours = !message.is_request()
                && message.need("Call-ID") == request.need("Call-ID")
                && message.need("CSeq") == request.need("CSeq");
            match (ours, message.status()) {
                (true, 200..) => break message,
                (true, _) => {}
                (false, _) => others.push_back(message),
            }
        };
        others.append(&mut self.waiting);
        self.waiting = others;
        response
    }

    /// Sends a request; the next message that comes, or `None` where the peer closes.
    pub(crate) async fn try_exchange(&mut self, request: &Sip) -> Option<Sip> {
        self.link.send(&request.to_bytes(), self.peer).await.ok()?;
        let received = timeout(PATIENCE, self.link.receive()).await;
        match received.unwrap_or_else(|_| panic!("{} {}: no answer", self.transport, self.local)) {
            Ok((Frame::Message(octets), _)) => Sip::parse(&octets).ok(),
            Ok((Frame::Ping | Frame::Pong, _)) | Err(_) => None,
        }
    }

    /// As [`Agent::exchange`], answering one challenge. An INVITE's challenge is acknowledged.
    pub(crate) async fn authorised_exchange(&mut self, request: &Sip, user: &str, password: &str) -> Sip {
        let challenged = self.exchange(request).await;
        if !matches!(challenged.status(), 401 | 407) {
            return challenged;
        }
        if request.method() == "INVITE" {
            self.send(&acknowledgement(request, &challenged)).await;
        }
        let retry = self.answer_challenge(request, &challenged, Credentials { user, password });
        self.exchange(&retry).await
    }

    /// The request again, with credentials for the first challenge of a 401 or 407, a new branch and the next CSeq.
    pub(crate) fn answer_challenge(
        &self,
        request: &Sip,
        challenged: &Sip,
        credentials: Credentials<'_>,
    ) -> Sip {
        let name = if challenged.status() == 407 { "Proxy-Authorization" } else { "Authorization" };
        let answer = Challenge::first(challenged).answer(request.method(), request.uri(), credentials, 1);
        let number = request.need("CSeq").split(' ').next().and_then(|number| number.parse::<u32>().ok());
        let number = number.expect("the request's own CSeq has a number") + 1;
        request
            .clone()
            .set("Via", self.via())
            .set("CSeq", format!("{number} {}", request.method()))
            .set(name, answer)
    }

    /// Logs a UC server on as a whole (one REGISTER with its own name) and returns the 200.
    pub(crate) async fn log_on(&mut self, domain: &str, user: &str, password: &str) -> Sip {
        self.register(domain, user, user, password).await
    }

    /// Registers `subscriber` of `domain`, authenticated as the account `user`, and returns the 200.
    pub(crate) async fn register(
        &mut self,
        domain: &str,
        subscriber: &str,
        user: &str,
        password: &str,
    ) -> Sip {
        let identity = format!("sip:{subscriber}@{domain}");
        let request = self
            .request("REGISTER", &format!("sip:{domain}"), &identity, &identity)
            .set("Contact", self.contact(subscriber))
            .with("Expires", "600");
        let response = self.authorised_exchange(&request, user, password).await;
        assert_eq!(response.status(), 200, "{user} registers {subscriber}:\n{response}");
        response
    }

    /// The response to a request, not yet sent; its To tag is this agent's.
    pub(crate) fn response(&self, request: &Sip, status: u16) -> Sip {
        Sip::response(request, status, reason(status), &format!("a{}", self.local.port()))
    }

    /// Answers a request.
    pub(crate) async fn answer(&mut self, request: &Sip, status: u16) {
        let mut response = self.response(request, status);
        if matches!(request.method(), "INVITE" | "SUBSCRIBE") && (101..300).contains(&status) {
            response = response.with("Contact", self.contact("agent"));
        }
        self.send(&response).await;
    }

    /// Ends the connection in order; an agent on UDP gives up its port.
    pub(crate) async fn close(&mut self) {
        self.link.close().await;
    }

    /// Ends the connection by a reset, as a machine that has crashed does.
    pub(crate) fn reset(&mut self) {
        self.link.reset();
    }

    /// The next message within `limit`, counting keep-alives on the way.
    async fn read(&mut self, limit: Duration) -> Option<Sip> {
        let end = Instant::now() + limit;
        loop {
            let received = timeout_at(end, self.link.receive()).await.ok()?;
            let (frame, source) =
                received.unwrap_or_else(|error| panic!("{} {}: {error}", self.transport, self.local));
            self.source = source.unwrap_or(self.peer);
            match frame {
                Frame::Ping => self.pings += 1,
                Frame::Pong => self.pongs += 1,
                Frame::Message(octets) => {
                    let text = String::from_utf8_lossy(&octets);
                    return Some(Sip::parse(&octets).unwrap_or_else(|fault| panic!("{fault}, in:\n{text}")));
                }
            }
        }
    }
}

/// The ACK to a final response other than 2xx: of the INVITE's own transaction (RFC 3261 §17.1.1.3).
pub(crate) fn acknowledgement(invite: &Sip, response: &Sip) -> Sip {
    let number = invite.need("CSeq").split(' ').next().unwrap_or_default();
    let mut acknowledgement = Sip::request("ACK", invite.uri())
        .with("Via", invite.need("Via"))
        .with("Max-Forwards", "70")
        .with("From", invite.need("From"))
        .with("To", response.need("To"))
        .with("Call-ID", invite.need("Call-ID"))
        .with("CSeq", format!("{number} ACK"));
    for route in invite.all("Route") {
        acknowledgement = acknowledgement.with("Route", route);
    }
    acknowledgement
}

/// A number that no other call of this process returns.
pub(crate) fn unique() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        404 => "Not Found",
        480 => "Temporarily Unavailable",
        486 => "Busy Here",
        487 => "Request Terminated",
        503 => "Service Unavailable",
        603 => "Decline",
        _ => "Answer",
    }
}
