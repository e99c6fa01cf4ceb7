//! A UC server as the interoperability tests need one: registrar and proxy for its own users, logged on to the proxy
//! under test over UDP, TCP or TLS.
//!
//! It forwards without transactions (RFC 3261 §16.11): its Via carries the flow that a response goes back to, so
//! nothing but registrations is remembered.

mod network;
mod routing;
mod via;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::common::eventually;
use crate::common::sip::Sip;
use network::{Event, Network};
use routing::{Output, Routing};

/// How long the log-on may take.
const LOG_ON_LIMIT: Duration = Duration::from_secs(10);

/// What SIP is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// As it stands in a Via.
    pub(crate) fn via(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// As it stands in a URI.
    pub(crate) fn parameter(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// Where a message comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    Datagrams(SocketAddr),
    /// The number of a connection, TCP or TLS.
    Stream(u64, Transport),
}

impl Flow {
    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Datagrams(_) => Transport::Udp,
            Self::Stream(_, transport) => transport,
        }
    }
}

/// How the server registers with the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogOn {
    /// One REGISTER for itself: it is a candidate for every user.
    Server,
    /// One more REGISTER for each user that registers here.
    Users,
}

/// What a server is made from.
pub(crate) struct Plan {
    /// The loopback address that it lives on.
    pub(crate) ip: IpAddr,
    pub(crate) domain: &'static str,
    /// Account at the proxy.
    pub(crate) account: &'static str,
    pub(crate) password: &'static str,
    pub(crate) log_on: LogOn,
    /// The proxy under test.
    pub(crate) proxy: (Transport, SocketAddr),
    /// TLS for users, TLS towards the proxy.
    pub(crate) tls: (Arc<ServerConfig>, Arc<ClientConfig>),
}

/// A running server. It ends when this is dropped.
pub(crate) struct UcServer {
    ports: Ports,
    shared: Arc<Mutex<Shared>>,
    events: mpsc::UnboundedSender<Event>,
    task: JoinHandle<()>,
}

/// Where the server listens for its users and, over UDP, for the proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) tls: SocketAddr,
}

impl Ports {
    pub(crate) fn at(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::Udp => self.udp,
            Transport::Tcp => self.tcp,
            Transport::Tls => self.tls,
        }
    }
}

/// What a test may look at while the server runs.
#[derive(Default)]
struct Shared {
    logged_on: bool,
    registered: Vec<String>,
    /// Each message as it came or went, with its flow.
    log: String,
}

impl UcServer {
    /// Starts a server and waits until it has logged on.
    pub(crate) async fn start(plan: Plan) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        let mut network = Network::open(plan.ip, &plan.tls.0, events.clone()).await;
        let upstream = match plan.proxy {
            (Transport::Udp, address) => Flow::Datagrams(address),
            (Transport::Tcp, address) => network.connect(address, None).await,
            (Transport::Tls, address) => network.connect(address, Some(Arc::clone(&plan.tls.1))).await,
        };
        let ports = network.ports();
        let mut routing = Routing::new(&plan, ports, upstream);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let outputs = routing.log_on();
        deliver(&mut network, outputs, &shared).await;
        let task = tokio::spawn(serve(network, routing, inbox, Arc::clone(&shared)));
        let server = Self { ports, shared, events, task };
        eventually(LOG_ON_LIMIT, &format!("{} logs on", plan.account), || {
            server.look(|shared| shared.logged_on).then_some(())
        })
        .await;
        server
    }

    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// Waits until a user has registered here and, where the server registers its users with the proxy, there.
    pub(crate) async fn registers(&self, user: &str, limit: Duration) {
        eventually(limit, &format!("{user} registers"), || {
            self.look(|shared| shared.registered.iter().any(|known| known == user)).then_some(())
        })
        .await;
    }

    /// Answers the REGISTERs that were held back, and later ones at once.
    ///
    /// Clients subscribe as soon as they run, and try again only after half a minute: so nothing goes out before all
    /// of them are there.
    pub(crate) fn confirm_registrations(&self) {
        self.events.send(Event::RegistrationsConfirmed).unwrap_or_else(|_| panic!("the UC server has ended"));
    }

    fn look<T>(&self, question: impl FnOnce(&Shared) -> T) -> T {
        question(&self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for UcServer {
    fn drop(&mut self) {
        self.task.abort();
        if std::thread::panicking() {
            self.look(|shared| {
                eprintln!("---- UC server at {} ----\n{}", self.ports.udp.ip(), shared.log);
            });
        }
    }
}

async fn serve(
    mut network: Network,
    mut routing: Routing,
    mut inbox: mpsc::UnboundedReceiver<Event>,
    shared: Arc<Mutex<Shared>>,
) {
    while let Some(event) = inbox.recv().await {
        let outputs = match event {
            Event::Connected(flow, peer, writer) => {
                network.adopt(flow, writer);
                routing.connected(flow, peer);
                Vec::new()
            }
            Event::Closed(flow) => {
                routing.forget(flow);
                Vec::new()
            }
            Event::RegistrationsConfirmed => routing.confirm(),
            Event::Received(flow, message) => {
                note(&shared, "from", flow, &message);
                routing.handle(flow, message)
            }
        };
        {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.logged_on = routing.is_logged_on();
            shared.registered = routing.registered();
        }
        deliver(&mut network, outputs, &shared).await;
    }
}

async fn deliver(network: &mut Network, outputs: Vec<Output>, shared: &Mutex<Shared>) {
    for Output { flow, message } in outputs {
        note(shared, "to", flow, &message);
        network.send(flow, &message).await;
    }
}

fn note(shared: &Mutex<Shared>, direction: &str, flow: Flow, message: &Sip) {
    let log = &mut shared.lock().unwrap_or_else(PoisonError::into_inner).log;
    log.push_str(&format!("{direction} {flow:?}\n{message}\n"));
}
