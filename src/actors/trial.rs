//! What the proxy would meet on its way to another domain: look-up, connection, certificate, and an OPTIONS with its
//! answer. For the command line, with the parts that the service itself is made of.

mod options;

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ProtocolVersion;
use slog::{Discard, Logger, o};

pub use self::options::Answer;
use self::options::Options;
use super::connection::{self, TrialPhase, try_out};
use super::directory::{ConnectionLimits, Directory, Peer};
use super::federation_resolver::{Inquiry, inquire};
use super::supervisor::{as_configured, connection_settings, federation, message_limits, stream_protocol};
use super::tls::{CertificateSummary, TlsFailure, TlsFault, TlsParts, TlsSettings};
use crate::config::Config;
use crate::protocol::federation::{Federation, Outward};
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::identity::Expected;
use crate::protocol::interface::Interfaces;
use crate::protocol::next_hop::{Query, Server};

/// How long an answer to OPTIONS is waited for, in units of T1 (RFC 3261 §17.1.2.2, Timer F).
const PATIENCE: u32 = 64;

/// All that trials need of a configuration.
#[derive(Debug)]
pub struct Trials<'a> {
    config: &'a Config,
    federation: Federation,
    interfaces: Arc<Interfaces>,
    tls: TlsSettings,
    directory: Arc<Directory>,
    log: Logger,
}

/// How far a trial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An interface of ours to leave by.
    Interface,
    /// TCP.
    Connect,
    /// TLS, with the look at both certificates.
    Handshake,
    /// Whose certificate it is.
    Identity,
    /// SIP.
    Answer,
}

impl Step {
    /// What tables call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Identity => "identity",
            Self::Answer => "answer",
        }
    }
}

/// Why a trial has not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Where it has ended.
    pub step: Step,
    /// In words.
    pub cause: Cow<'static, str>,
    /// What the library or the system says; may be empty.
    pub detail: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl Obstacle {
    fn new(step: Step, cause: &'static str, remedy: &'static str) -> Self {
        Self { step, cause: cause.into(), detail: String::new(), remedy }
    }

    fn of(step: Step, failure: TlsFailure, detail: String) -> Self {
        Self { step, cause: failure.words().into(), detail, remedy: failure.remedy() }
    }

    /// What an error of the open stream means. An alert comes late with TLS 1.3, where it is about our certificate.
    fn of_stream(error: &io::Error) -> Self {
        let failure = TlsFailure::of(error);
        let step = if failure == TlsFailure::OursRefused { Step::Handshake } else { Step::Answer };
        Self::of(step, failure, error.to_string())
    }
}

/// What has become of one address of a server.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The address.
    pub remote: SocketAddr,
    /// The name in the ClientHello; none without TLS.
    pub sni: Option<String>,
    /// `1.2` or `1.3`, where it came to that.
    pub tls_version: Option<&'static str>,
    /// The server's certificate, where it has shown one.
    pub certificate: Option<CertificateSummary>,
    /// The answer to OPTIONS; else why there is none.
    pub outcome: Result<Answer, Obstacle>,
}

impl<'a> Trials<'a> {
    /// By this configuration.
    ///
    /// # Errors
    ///
    /// Where TLS cannot be set up with it.
    pub fn new(config: &'a Config) -> Result<Self, TlsFault> {
        let log = Logger::root(Discard, o!());
        let tls = TlsParts {
            certificate: config.certificate.as_ref(),
            tls: &config.tls,
            routes: &config.static_routes,
            profile: config.federation.identity,
        };
        let limits = ConnectionLimits { total: 0, per_address: 0 };
        Ok(Self {
            config,
            federation: federation(config),
            interfaces: Arc::new(as_configured(config)),
            tls: TlsSettings::new(tls, &log)?,
            // Where Routers are found: there are none, and connections on trial are not kept.
            directory: Arc::new(Directory::new(0, 0, limits, [0; 16])),
            log,
        })
    }

    /// What the configuration says of other domains.
    pub const fn federation(&self) -> &Federation {
        &self.federation
    }

    /// Our interfaces.
    pub const fn interfaces(&self) -> &Arc<Interfaces> {
        &self.interfaces
    }

    /// Asks the name servers. Without `interfaces`, servers that are ourselves are servers, too.
    ///
    /// # Errors
    ///
    /// Where the system has no random numbers.
    pub async fn inquire(&self, query: Query, interfaces: Option<&Arc<Interfaces>>) -> io::Result<Inquiry> {
        let interfaces = interfaces.cloned().unwrap_or_default();
        inquire(&self.config.dns, interfaces, query, &self.log).await
    }

    /// Finds the servers by which a domain is reached.
    ///
    /// # Errors
    ///
    /// Where the system has no random numbers.
    pub async fn find(&self, outward: &Outward) -> io::Result<Inquiry> {
        match outward.server() {
            Ok(server) => Ok(Inquiry { resolution: Ok(vec![server]), looked_up: Vec::new() }),
            Err(query) => self.inquire(query, Some(&self.interfaces)).await,
        }
    }

    /// Tries one address of a server that leads to a domain.
    pub async fn run(&self, outward: &Outward, server: &Server, remote: SocketAddr) -> Trial {
        let expected = server.transport.is_secure().then(|| Arc::new(outward.expected(&server.host)));
        let trial = Trial {
            remote,
            sni: None,
            tls_version: None,
            certificate: None,
            outcome: Err(Obstacle::new(
                Step::Interface,
                "no interface of ours speaks this transport to that address",
                "add one to wan.network_interface: same transport, same address family",
            )),
        };
        let Some(flow) = outward.flow_to(server.transport, remote, &self.interfaces) else { return trial };
        match server.transport {
            Transport::Udp => Trial { outcome: self.by_datagrams(outward, &flow).await, ..trial },
            _ => self.by_stream(outward, &flow, expected, trial).await,
        }
    }

    async fn by_datagrams(&self, outward: &Outward, flow: &Flow) -> Result<Answer, Obstacle> {
        let timers = (self.config.sip.t1, self.config.sip.t2);
        self.options(outward, Transport::Udp)
            .by_datagrams(flow.local.ip(), flow.remote, timers, self.patience())
            .await
    }

    async fn by_stream(
        &self,
        outward: &Outward,
        flow: &Flow,
        expected: Option<Arc<Expected>>,
        trial: Trial,
    ) -> Trial {
        let protocol = stream_protocol(self.config, flow.interface);
        let tls = protocol.is_secure().then(|| self.tls.for_interface(protocol, None)).flatten();
        if flow.transport.is_secure() && tls.is_none() {
            let remedy = "give certificate.chain and certificate.private_key";
            let outcome = Err(Obstacle::new(Step::Handshake, "we have no certificate to show", remedy));
            return Trial { outcome, ..trial };
        }
        let interface =
            self.config.interface(flow.interface).expect("a flow is of an interface of the configuration");
        let (address, log) = (interface.socket_address(), |_| self.log.clone());
        let directory = Arc::clone(&self.directory);
        let settings = connection_settings(self.config, tls, flow.interface, address, directory, log);
        let peer = Peer {
            side: interface.side,
            interface: flow.interface,
            transport: flow.transport,
            addresses: [flow.remote].into_iter().collect(),
            expected,
            profile: self.federation.profile,
        };
        let connection::Trial { sni, version, certificate, outcome } = try_out(&settings, peer).await;
        let outcome = match outcome {
            Ok(stream) => self.options(outward, flow.transport).by_stream(stream, self.patience()).await,
            Err((phase, failure, detail)) => Err(Obstacle::of(step(phase), failure, detail)),
        };
        Trial { sni, tls_version: version.and_then(version_name), certificate, outcome, ..trial }
    }

    fn options(&self, outward: &Outward, transport: Transport) -> Options {
        let from = self.config.service.presence_domains.first().map_or("anonymous.invalid", String::as_str);
        Options::new(outward.domain(), from, transport, message_limits(self.config))
    }

    fn patience(&self) -> Duration {
        self.config.sip.t1 * PATIENCE
    }
}

const fn step(phase: TrialPhase) -> Step {
    match phase {
        TrialPhase::Connect => Step::Connect,
        TrialPhase::Handshake => Step::Handshake,
        TrialPhase::Identity => Step::Identity,
    }
}

const fn version_name(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("1.2"),
        ProtocolVersion::TLSv1_3 => Some("1.3"),
        _ => None,
    }
}
