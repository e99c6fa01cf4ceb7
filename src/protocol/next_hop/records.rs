//! DNS records, as far as finding servers needs them.

use std::net::IpAddr;
use std::sync::Arc;

/// Targets of one name, and mappings of one domain, that are looked at: those of the best priority.
pub const MAXIMUM_TARGETS: usize = 50;

/// Addresses that are looked at, of one name and of all servers of a domain together.
pub const MAXIMUM_ADDRESSES: usize = 64;

/// The types that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// RFC 3403.
    Naptr,
    /// RFC 2782.
    Srv,
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl RecordType {
    /// As zone files write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Naptr => "NAPTR",
            Self::Srv => "SRV",
            Self::A => "A",
            Self::Aaaa => "AAAA",
        }
    }
}

/// What one look-up asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The name, in lower case, without the dot at its end.
    pub name: Arc<str>,
    /// Which of its records.
    pub kind: RecordType,
}

/// A NAPTR record (RFC 3403 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    /// The lowest first; a higher one only where no lower one is of use.
    pub order: u16,
    /// The lowest first among those of one order.
    pub preference: u16,
    /// `s`: the replacement has SRV records.
    pub flags: Box<str>,
    /// Protocol and resolution service.
    pub service: Box<str>,
    /// There is a regular expression, which RFC 3263 §4.1 knows no use for.
    pub has_regexp: bool,
    /// The name to go on with, in lower case, without the dot at its end.
    pub replacement: Arc<str>,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// The lowest first.
    pub priority: u16,
    /// The share of those of one priority.
    pub weight: u16,
    /// Where the service is.
    pub port: u16,
    /// The host, in lower case, without the dot at its end: empty where there is decidedly no service.
    pub target: Arc<str>,
}

/// Records of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// Of [`RecordType::Naptr`].
    Naptr(Vec<Naptr>),
    /// Of [`RecordType::Srv`].
    Srv(Vec<Srv>),
    /// Of [`RecordType::A`] or [`RecordType::Aaaa`].
    Addresses(Vec<IpAddr>),
}

impl Records {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        match self {
            Self::Naptr(naptr) => naptr.is_empty(),
            Self::Srv(srv) => srv.is_empty(),
            Self::Addresses(addresses) => addresses.is_empty(),
        }
    }

    /// As many of the best of them as are looked at, so that no domain has more than its share of the cache.
    pub(super) fn bounded(mut self) -> Self {
        match &mut self {
            Self::Naptr(naptr) => {
                naptr.sort_by_key(|naptr| (naptr.order, naptr.preference));
                naptr.truncate(MAXIMUM_TARGETS);
            }
            Self::Srv(srv) => {
                srv.sort_by_key(|srv| srv.priority);
                srv.truncate(MAXIMUM_TARGETS);
            }
            Self::Addresses(addresses) => addresses.truncate(MAXIMUM_ADDRESSES),
        }
        self
    }
}

/// Why a look-up has brought no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// NXDOMAIN.
    NoSuchName,
    /// The name has none of this type.
    NoRecord,
    /// No name server has answered.
    Timeout,
    /// The name servers fail, refuse, or answer what is none.
    ServerFailure,
}

impl Failure {
    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSuchName => "no_such_name",
            Self::NoRecord => "no_record",
            Self::Timeout => "timeout",
            Self::ServerFailure => "server_failure",
        }
    }
}

/// What a look-up has brought.
pub type Answer = Result<Records, Failure>;
