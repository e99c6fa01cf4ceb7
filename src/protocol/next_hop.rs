//! Where a domain's servers are: the order in which to try them, and which are known to be ill (RFC 3263, RFC 2782).

pub mod access;
pub mod health;
pub mod records;
pub mod resolver;
pub mod route_health;

mod cache;
mod recent;
mod search;
mod weights;

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::flow::Transport;

/// What has to be known before a request can leave, or its sender be believed. Names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// The servers of a domain of open federation: `_sipfederationtls._tcp`, over TLS alone.
    Federation(Arc<str>),
    /// The server that a URI, a Route or a sent-by names (RFC 3263 §4.1, §4.2).
    Server {
        /// A name; numeric hosts need no look-up.
        host: Arc<str>,
        /// The port, where one is written: then there is neither NAPTR nor SRV.
        port: Option<u16>,
        /// The transport, where one is written.
        transport: Option<Transport>,
        /// `sips`: TLS on every hop.
        is_secure: bool,
    },
    /// The names of a domain's federation servers, without their addresses: a certificate with one of them proves the
    /// domain.
    Names(Arc<str>),
}

/// One server that may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What is spoken to it.
    pub transport: Transport,
    /// The name that its addresses were found by: the target of an SRV record, or the host itself.
    pub host: Arc<str>,
    /// Where it is, in the order of trying: the families alternate (RFC 8305 §4). Empty for [`Query::Names`].
    pub addresses: SmallVec<[SocketAddr; 2]>,
}

/// Why there is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unresolved {
    /// The name does not exist.
    NoSuchName,
    /// The name exists, and has no such record; of federation: the domain does not federate.
    NoRecord,
    /// The domain says that it has no such service: an SRV target of `.` (RFC 2782).
    NoService,
    /// There are servers, and none of them has an address.
    NoAddress,
    /// All servers of the domain are ourselves.
    Ourselves,
    /// No answer within `dns.timeout`.
    Timeout,
    /// The name servers fail, or what they answer is none.
    ServerFailure,
    /// Too many look-ups wait.
    Overload,
}

/// The servers in the order of trying, the sick ones last; never empty.
pub type Resolution = Result<Vec<Server>, Unresolved>;

impl Query {
    /// The name that is asked for.
    pub const fn name(&self) -> &Arc<str> {
        match self {
            Self::Federation(name) | Self::Names(name) | Self::Server { host: name, .. } => name,
        }
    }
}

impl Unresolved {
    /// The cause in words, as the log has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSuchName => "no such name",
            Self::NoRecord => "no such record",
            Self::NoService => "the domain says that it has no such service",
            Self::NoAddress => "its servers have no address",
            Self::Ourselves => "its servers are ourselves",
            Self::Timeout => "no answer in time",
            Self::ServerFailure => "the name servers fail",
            Self::Overload => "too many look-ups wait",
        }
    }
}
