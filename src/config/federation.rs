//! `[federation]`, `[open_federation]` and `[[static_routes.route]]`: which other domains, and how they are
//! reached.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::rules::parse_host_port;
use super::{Protocol, TrustedCas};
use crate::protocol::federation::RouteId;
use crate::protocol::identity::Profile;

/// `[federation]`: what holds for every other domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federation {
    /// Whether anything passes between the presence domains and other domains.
    ///
    /// Default true. Reload: requests received afterwards.
    pub enabled: bool,
    /// How a certificate proves a domain. Default [`Profile::Federation`]. Reload: connections made
    /// and requests received afterwards.
    pub identity: Profile,
    /// Which domains open federation may reach. Default [`Policy::Open`]. Reload: requests received
    /// afterwards.
    pub policy: Policy,
    /// Domains with which nothing is exchanged, lower case. Default none. Reload: requests received
    /// afterwards.
    pub blocked_domains: Vec<String>,
    /// Domains that the guard on discovered peers leaves alone, and the only ones under [`Policy::Closed`];
    /// lower case, none of them blocked.
    ///
    /// Default none. Reload: requests received afterwards.
    pub allowed_domains: Vec<String>,
}

/// Which domains open federation may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `"open"`: any that is not blocked.
    Open,
    /// `"closed"`: the allowed ones.
    Closed,
}

/// `[open_federation]`: other domains found by `_sipfederationtls._tcp` and reached over mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFederation {
    /// Whether domains are discovered, and its interface is open; never true where `federation.enabled` is
    /// false.
    ///
    /// Default false. Reload: requests received afterwards.
    pub enabled: bool,
    /// Messages per second towards one discovered peer, 0 to 1000000; more are queued, not dropped. 0 = no
    /// limit.
    ///
    /// Default 20. Reload: at once.
    pub messages_per_second: u32,
}

/// `[[static_routes.route]]`: a domain whose access server is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRoute {
    /// What stands for it. A reload leaves it as it is (`ids.rs`) as long as domain, access server, port and protocol do
    /// not change.
    pub id: RouteId,
    /// Whether what comes from the route needs no authorisation by the registrar; always true for MTLS.
    ///
    /// Default false.
    pub trusted: bool,
    /// The domain, lower case, in one route only. Required.
    pub domain_name: String,
    /// Where the domain's requests go. A name is looked up while the proxy runs. Required.
    pub access_server: Host,
    /// 1 to 65535. Default: 5061 for TLS and MTLS, 5060 for UDP and TCP (RFC 3261 §19.1.2).
    pub port: u16,
    /// What is spoken to it. Default MTLS.
    pub transport_protocol: Protocol,
    /// Source address: one of this machine, and of the access server's family. Default `None`: any.
    pub bind_to_ip_address: Option<IpAddr>,
    /// Authorities for this route alone. Default `None`: those of `[certificate]`.
    pub trusted_cas: Option<TrustedCas>,
    /// Key path for messages: `static_routes.route[0]`.
    pub key: String,
}

/// A host: an address or a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IP address.
    Address(IpAddr),
    /// A DNS name, lower case.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// An IPv6 address stands in brackets in the file.
    pub host: Host,
    /// 1 to 65535.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host @ (Host::Address(IpAddr::V4(_)) | Host::Name(_)) => write!(f, "{host}:{}", self.port),
        }
    }
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_host_port(text).ok_or("no host with a port, allowed: host:port, an IPv6 address in brackets")
    }
}
