//! What these tests share beyond `common`: a proxy with its surroundings, dialogs, and ends that speak octets.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::common::agent::{Agent, unique};
use crate::common::certificates::{Authority, Identity};
use crate::common::proxy::{Protocol, Proxy, Settings};
use crate::common::sip::{Frame, Sip, take_frame, uri_of};

/// The presence domain of all these tests.
pub(crate) const DOMAIN: &str = "example.org";

/// How long a test may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// How long a test listens to be sure that nothing comes.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

/// How long the proxy may take for what it does at once: far less than it would wait for any timer, and yet enough for a
/// machine that has much else to do.
pub(crate) const PROMPT: Duration = Duration::from_secs(5);

/// All of them.
pub(crate) const ALL: [Protocol; 6] =
    [Protocol::Udp, Protocol::Tcp, Protocol::Tls, Protocol::Mtls, Protocol::Ws, Protocol::Wss];

/// The name that the certificates of these tests' UC servers have.
pub(crate) const CERTIFIED: &str = "uc-d.example.org";

/// How long octets may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// `user` of the presence domain.
pub(crate) fn uri(user: &str) -> String {
    format!("sip:{user}@{DOMAIN}")
}

/// The timers of RFC 3261 and one account without a password: whoever is on loopback is a UC server, unasked.
pub(crate) fn open_house() -> Settings {
    Settings::new(DOMAIN).usual_timers().account_rows("user_name = \"uc\"\n")
}

/// As [`open_house`], with T1 at so many milliseconds, and T2 and T4 in the usual relation to it.
pub(crate) fn open_house_with_t1(milliseconds: u32) -> Settings {
    let quoted = |factor| format!("\"{}ms\"", milliseconds * factor);
    open_house().key("sip", "t1", &quoted(1)).key("sip", "t2", &quoted(8)).key("sip", "t4", &quoted(10))
}

/// As [`open_house`], where nothing is repeated, and no transaction ends by itself, while a test goes on.
pub(crate) fn open_house_that_waits() -> Settings {
    let settings = open_house().key("sip", "t1", "\"10s\"").key("sip", "t2", "\"10s\"");
    settings.key("sip", "timer_c", "\"1h\"")
}

/// A running proxy with an authority for its certificate and for those of UC servers.
pub(crate) struct Site {
    pub(crate) proxy: Proxy,
    pub(crate) authority: Authority,
    client: Identity,
}

impl Site {
    /// Starts a proxy with these interfaces.
    pub(crate) async fn open(settings: Settings, protocols: &[Protocol]) -> Self {
        let authority = Authority::new("tests");
        let settings = protocols.iter().fold(settings, |settings, protocol| settings.listen(*protocol));
        Self::start(settings.tls(&authority), authority).await
    }

    /// Starts a proxy with these settings; `authority` has issued its certificate.
    pub(crate) async fn start(settings: Settings, authority: Authority) -> Self {
        let proxy = settings.start().await;
        let client = authority.client(CERTIFIED);
        Self { proxy, authority, client }
    }

    /// A UDP port or a connection, with nothing sent yet.
    pub(crate) async fn connect(&self, protocol: Protocol) -> Agent {
        self.connect_from(self.proxy.ip(), protocol).await
    }

    /// As [`Site::connect`], from another address of this machine.
    pub(crate) async fn connect_from(&self, local: IpAddr, protocol: Protocol) -> Agent {
        let peer = self.proxy.at(protocol);
        match protocol {
            Protocol::Udp => Agent::udp(local, peer).await,
            Protocol::Tcp => Agent::tcp(local, peer).await,
            Protocol::Tls => Agent::tls(local, peer, self.authority.client_config(None)).await,
            Protocol::Mtls => Agent::tls(local, peer, self.authority.client_config(Some(&self.client))).await,
            Protocol::Ws => Agent::web(local, peer, None).await,
            Protocol::Wss => Agent::web(local, peer, Some(self.authority.client_config(None))).await,
        }
    }

    /// A UC server that has registered one user, and so is logged on. For sites without passwords.
    pub(crate) async fn server(&self, protocol: Protocol, user: &str) -> Agent {
        let mut agent = self.connect(protocol).await;
        agent.register(DOMAIN, user, "nobody", "nothing").await;
        agent
    }

    /// As many UC servers as asked for, each logged on with a user of its own: `seat-0` and so on.
    pub(crate) async fn servers(&self, protocol: Protocol, count: usize) -> Vec<Agent> {
        let mut servers = Vec::with_capacity(count);
        for number in 0..count {
            servers.push(self.server(protocol, &format!("seat-{number}")).await);
        }
        servers
    }

    /// Checks that the proxy still does its work: a message between two UC servers, within a second. A busy machine may
    /// take that from it for a while.
    pub(crate) async fn is_well(&self, protocol: Protocol) {
        let mut taken = self.time_of_a_message(protocol).await;
        for _ in 0..4 {
            if taken >= Duration::from_secs(1) {
                taken = self.time_of_a_message(protocol).await;
            }
        }
        assert!(taken < Duration::from_secs(1), "a message takes {taken:?}");
    }

    async fn time_of_a_message(&self, protocol: Protocol) -> Duration {
        let begun = Instant::now();
        let user = format!("probe-{}", unique());
        let (mut here, mut there) = (self.connect(protocol).await, self.server(protocol, &user).await);
        let request = here.message(&uri("prober"), &uri(&user), "are you well?");
        relay(&request, &mut here, &mut there, 200).await;
        there.close().await;
        begun.elapsed()
    }
}

/// Asks whether the proxy is there, on a flow that is authenticated or not.
pub(crate) async fn answers_options(agent: &mut Agent) {
    let proxy = format!("sip:{DOMAIN}");
    let options = agent.request("OPTIONS", &proxy, &uri("alice"), &proxy);
    let response = agent.exchange(&options).await;
    assert_eq!(response.status(), 200, "{response}");
}

/// The next message, if one comes in time.
pub(crate) async fn next_within(agent: &mut Agent, limit: Duration) -> Option<Sip> {
    timeout(limit, agent.receive()).await.ok()
}

/// The next response of 200 or above; what comes before is dropped.
pub(crate) async fn final_response(agent: &mut Agent) -> Sip {
    loop {
        let message = agent.receive().await;
        assert!(!message.is_request(), "a response wanted, this came:\n{message}");
        if message.status() >= 200 {
            return message;
        }
    }
}

/// The next request but for repetitions of one that has come: where the answer to that was late, some are on their way.
pub(crate) async fn next_request(agent: &mut Agent, method: &str, come: &Sip) -> Sip {
    loop {
        let message = agent.receive().await;
        if message != *come {
            assert!(
                message.is_request() && message.method() == method,
                "{method} wanted, this came:\n{message}"
            );
            return message;
        }
    }
}

/// Takes what is on its way, all of it repetitions of `come`.
pub(crate) async fn drain(agent: &mut Agent, come: &Sip) {
    while let Some(late) = next_within(agent, Duration::from_millis(20)).await {
        assert_eq!(late, *come);
    }
}

/// `from` sends, `to` gets and answers it, `from` gets the answer. Returns what came at either end; repetitions of an
/// earlier request, whose answer was late, are passed over.
pub(crate) async fn relay(request: &Sip, from: &mut Agent, to: &mut Agent, status: u16) -> (Sip, Sip) {
    from.send(request).await;
    let arrived = loop {
        let arrived = to.receive().await;
        assert!(arrived.is_request(), "a request wanted, this came:\n{arrived}");
        let same = |name| arrived.need(name) == request.need(name);
        if same("Call-ID") && same("CSeq") {
            break arrived;
        }
    };
    to.answer(&arrived, status).await;
    (arrived, from.receive_response(status).await)
}

/// The CANCEL of an INVITE (RFC 3261 §9.1).
pub(crate) fn cancellation(invite: &Sip) -> Sip {
    let number = invite.need("CSeq").split(' ').next().unwrap_or_default();
    let copied = ["Via", "From", "To", "Call-ID"];
    let cancel = Sip::request("CANCEL", invite.uri()).with("Max-Forwards", "70");
    let cancel = copied.iter().fold(cancel, |cancel, name| cancel.with(name, invite.need(name)));
    cancel.with("CSeq", format!("{number} CANCEL"))
}

/// A dialog as one of its ends sees it (RFC 3261 §12).
pub(crate) struct Dialog {
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
    call_id: String,
    number: u32,
}

impl Dialog {
    /// From the request that this end has sent and the response to it (§12.1.2).
    pub(crate) fn of_caller(request: &Sip, response: &Sip) -> Self {
        let routes = response.values("Record-Route").into_iter().rev().map(str::to_owned).collect();
        Self::new(request.need("From"), response.need("To"), response, routes)
    }

    /// From the request that this end has got and its own response (§12.1.1).
    pub(crate) fn of_callee(request: &Sip, response: &Sip) -> Self {
        let routes = request.values("Record-Route").into_iter().map(str::to_owned).collect();
        Self::new(response.need("To"), request.need("From"), request, routes)
    }

    /// `other` is the message of the other end.
    fn new(local: &str, remote: &str, other: &Sip, routes: Vec<String>) -> Self {
        Self {
            local: local.to_owned(),
            remote: remote.to_owned(),
            target: uri_of(other.need("Contact")).to_owned(),
            routes,
            call_id: other.need("Call-ID").to_owned(),
            number: 1,
        }
    }

    /// The next request of this end.
    pub(crate) fn request(&mut self, agent: &Agent, method: &str) -> Sip {
        self.number += 1;
        self.numbered(agent, method, self.number)
    }

    /// The ACK to the 2xx of the INVITE that began the dialog (§13.2.2.4).
    pub(crate) fn acknowledgement(&self, agent: &Agent) -> Sip {
        self.numbered(agent, "ACK", 1)
    }

    fn numbered(&self, agent: &Agent, method: &str, number: u32) -> Sip {
        let request = Sip::request(method, &self.target)
            .with("Via", agent.via())
            .with("Max-Forwards", "70")
            .with("From", &self.local)
            .with("To", &self.remote)
            .with("Call-ID", &self.call_id)
            .with("CSeq", format!("{number} {method}"))
            .with("Contact", agent.contact("agent"));
        self.routes.iter().fold(request, |request, route| request.with("Route", route))
    }
}

/// One end of a UDP flow or of a TCP connection, which knows octets and no SIP beyond the cut between two messages.
pub(crate) enum Wire {
    Datagrams { socket: UdpSocket, peer: SocketAddr },
    Stream { stream: TcpStream, buffer: Vec<u8> },
}

impl Wire {
    /// A UDP port or a TCP connection that talks to the proxy, from its own address.
    pub(crate) async fn open(proxy: &Proxy, protocol: Protocol) -> Self {
        match protocol {
            Protocol::Udp => Self::udp(proxy.at(protocol)).await,
            Protocol::Tcp => Self::tcp(proxy.at(protocol)).await,
            Protocol::Tls | Protocol::Mtls | Protocol::Ws | Protocol::Wss => {
                panic!("a wire has no TLS and no frames")
            }
        }
    }

    /// A UDP port that talks to `peer`, at the same address.
    pub(crate) async fn udp(peer: SocketAddr) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(peer.ip(), 0)).await.expect("a UDP port of loopback");
        Self::Datagrams { socket, peer }
    }

    /// A TCP connection with `peer`, from the same address.
    pub(crate) async fn tcp(peer: SocketAddr) -> Self {
        Self::tcp_from(peer.ip(), peer).await
    }

    /// A TCP connection from `local` to `peer`.
    pub(crate) async fn tcp_from(local: IpAddr, peer: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a TCP socket");
        socket.bind(SocketAddr::new(local, 0)).expect("a TCP port of loopback");
        Self::over(
            socket.connect(peer).await.unwrap_or_else(|error| panic!("connection with {peer}: {error}")),
        )
    }

    /// A connection that is there already.
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self::Stream { stream, buffer: Vec::new() }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        let address = match self {
            Self::Datagrams { socket, .. } => socket.local_addr(),
            Self::Stream { stream, .. } => stream.local_addr(),
        };
        address.expect("an open socket has an address")
    }

    /// `UDP` or `TCP`, as in Via.
    pub(crate) fn transport(&self) -> &'static str {
        match self {
            Self::Datagrams { .. } => "UDP",
            Self::Stream { .. } => "TCP",
        }
    }

    /// Sends one datagram, or writes to the stream.
    pub(crate) async fn send(&mut self, octets: &[u8]) {
        let sent = match self {
            Self::Datagrams { socket, peer } => socket.send_to(octets, *peer).await.map(|_| ()),
            Self::Stream { stream, .. } => stream.write_all(octets).await,
        };
        sent.unwrap_or_else(|error| panic!("sending {} octets: {error}", octets.len()));
    }

    /// As [`Wire::send`], where the peer may close while octets are on their way.
    pub(crate) async fn try_send(&mut self, octets: &[u8]) -> bool {
        match self {
            Self::Datagrams { socket, peer } => socket.send_to(octets, *peer).await.is_ok(),
            Self::Stream { stream, .. } => stream.write_all(octets).await.is_ok(),
        }
    }

    /// The octets of the next message.
    pub(crate) async fn receive(&mut self) -> Vec<u8> {
        let wanted = format!("{} {} gets nothing within {PATIENCE:?}", self.transport(), self.local());
        timeout(PATIENCE, self.next()).await.unwrap_or_else(|_| panic!("{wanted}"))
    }

    /// As [`Wire::receive`], where the peer may end: `None` if it does, or says nothing for so long.
    pub(crate) async fn try_receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        timeout(limit, self.try_next()).await.ok()?.ok()
    }

    async fn next(&mut self) -> Vec<u8> {
        self.try_next().await.unwrap_or_else(|error| panic!("the proxy closes the connection: {error}"))
    }

    async fn try_next(&mut self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Datagrams { socket, .. } => {
                let mut datagram = vec![0; 65_535];
                let (length, _) = socket.recv_from(&mut datagram).await?;
                datagram.truncate(length);
                Ok(datagram)
            }
            Self::Stream { stream, buffer } => loop {
                match take_frame(buffer) {
                    Some(Frame::Message(octets)) => return Ok(octets),
                    Some(Frame::Ping | Frame::Pong) => {}
                    None if stream.read_buf(buffer).await? == 0 => {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                    None => {}
                }
            },
        }
    }

    /// Whether the stream brings any octet before it ends.
    pub(crate) async fn reads_anything(&mut self) -> bool {
        let Self::Stream { stream, buffer } = self else { panic!("datagrams have no end") };
        let read = timeout(PATIENCE, stream.read_buf(buffer)).await;
        read.expect("an answer or an end").is_ok_and(|length| length > 0)
    }

    /// The octets up to the next empty line, that included.
    pub(crate) async fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.read_exact(1).await);
        }
        String::from_utf8(head).expect("a header section is text")
    }

    /// So many octets, which must come in time.
    pub(crate) async fn read_exact(&mut self, length: usize) -> Vec<u8> {
        let Self::Stream { stream, buffer } = self else { panic!("datagrams have no octets in between") };
        let read = async {
            while buffer.len() < length {
                let read = stream.read_buf(buffer).await.expect("the connection is there");
                assert!(read > 0, "the proxy closes the connection");
            }
        };
        timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("{length} octets wanted within {PATIENCE:?}"));
        buffer.drain(..length).collect()
    }

    /// What comes until the peer closes the stream, which must be within `limit`.
    pub(crate) async fn read_until_closed(&mut self, limit: Duration) -> Vec<u8> {
        let local = self.local();
        let Self::Stream { stream, buffer } = self else { panic!("datagrams have no end") };
        let end = async { while stream.read_buf(buffer).await.is_ok_and(|length| length > 0) {} };
        let closed = timeout(limit, end).await.is_ok();
        assert!(closed, "the connection from {local} is still open after {limit:?}");
        std::mem::take(buffer)
    }

    /// Logs this end on as a UC server, by a registration of `user`. For sites without passwords.
    pub(crate) async fn log_on(&mut self, user: &str) {
        let (local, transport) = (self.local(), self.transport());
        let register = format!(
            "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK-w{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{DOMAIN}>;tag=w\r\nTo: <sip:{user}@{DOMAIN}>\r\n\
             Call-ID: w{number}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{user}@{local};transport={transport}>\r\n\
             Expires: 600\r\nContent-Length: 0\r\n\r\n",
            number = unique(),
        );
        self.send(register.as_bytes()).await;
        let answer = self.receive().await;
        assert!(answer.starts_with(b"SIP/2.0 200 "), "{}", String::from_utf8_lossy(&answer));
    }
}
