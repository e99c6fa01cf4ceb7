//! The sections whose keys stand for themselves: timers, limits, look-ups, logs, administration.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::HostPort;
use crate::protocol::digest::Algorithm;

/// `[stun]`: how the public address and the NAT type are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stun {
    /// Servers, asked in this order until one tells the address; one with two addresses makes the NAT type possible
    /// (RFC 5780, RFC 3489).
    ///
    /// Default none: nothing is asked. Reload: asked at once.
    pub servers: Vec<HostPort>,
    /// Between two questions, 10 s to 24 h. Default 10 min. Reload: asked at once.
    pub interval: Duration,
}

/// `[dns]`: look-ups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Name servers, asked in this order; port 53 where none is given.
    ///
    /// Default none: those of the system. Reload: look-ups begun afterwards; the cache is emptied.
    pub name_servers: Vec<SocketAddr>,
    /// All look-ups for one request together, 10 ms to 60 s. Default 4 s. Reload: look-ups begun afterwards.
    pub timeout: Duration,
}

/// `[sip]`: timers of RFC 3261 §17 and §16.6, and the size at which a request leaves by a stream.
///
/// Reload: transactions begun afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sip {
    /// T1, the estimated round trip: 1 ms to 10 s, not above T2. Default 500 ms.
    pub t1: Duration,
    /// T2, the longest retransmission interval of non-INVITE requests: 1 ms to 60 s. Default 4 s.
    pub t2: Duration,
    /// T4, the longest life of a message in the network: 1 ms to 60 s. Default 5 s.
    pub t4: Duration,
    /// Timer C, the longest wait for a final response after a provisional one (§16.6 step 11): up to 1 h.
    ///
    /// Default 185 s; 180 s or less is refused, the RFC wants more than three minutes. With T1 below 500 ms,
    /// as test suites have it, at least 360 × T1.
    pub timer_c: Duration,
    /// Larger requests leave by a stream instead of UDP (§18.1.1). Octets, 500 to 65535. Default 1300.
    pub udp_mtu: usize,
    /// Whether the proxy itself asks the contacts of a 3xx, as far as they are on the LAN (§16.7 step 4), or passes
    /// it on to the client. Default false.
    pub follow_redirections: bool,
    /// Option tags that requests may have in Proxy-Require though the proxy knows nothing of them, lower case; others are
    /// answered 420 (§16.3 step 5).
    ///
    /// Default `ms-benotify` and `ms-piggyback-first-notify`, which Microsoft's peers send (MS-SIP §4.4). Reload: requests
    /// received afterwards.
    pub tolerated_proxy_require: Vec<String>,
}

/// `[registrar]`: bindings (RFC 3261 §10.3) and digest (RFC 8760).
///
/// Reload: requests received afterwards; bindings keep what they were granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registrar {
    /// Shorter registrations are answered 423: 1 s to 30 days, not above the default. Default 60 s.
    pub minimum_expires: Duration,
    /// For registrations that name none: 1 s to 30 days. Default 1 h.
    pub default_expires: Duration,
    /// Longer ones are shortened: 1 s to 30 days, not below the default. Default 24 h.
    pub maximum_expires: Duration,
    /// Bindings of one address-of-record, 1 to 1000. Default 16.
    pub maximum_contacts: usize,
    /// What a 200 to a REGISTER promises. Default [`Durability::Process`].
    pub durability: Durability,
    /// Whether Path is taken from user agents that do not say by `Supported: path` that they know of it.
    ///
    /// Default false: they are answered 420, so that they learn that a proxy on their way has added it
    /// (RFC 3327 §5.3).
    pub accept_path_without_support: bool,
    /// Offered in challenges, most preferred first; at least one, each once.
    ///
    /// Default SHA-512-256, SHA-256, MD5.
    pub digest_algorithms: Vec<Algorithm>,
    /// How long a nonce is accepted, 1 s to 24 h. Default 5 min.
    pub nonce_lifetime: Duration,
    /// Whether credentials without `qop` are accepted, as clients of RFC 2069 send them (RFC 8760 §2.6). Default false.
    pub accept_digest_without_qop: bool,
    /// Whether the `uri` of credentials may differ from the Request-URI, for elements on the way that change that
    /// (RFC 3261 §22.4). Default false: 400.
    pub accept_digest_for_other_uri: bool,
    /// Wrong answers to challenges after which their host is banned, 0 to 1000000; from the fourth on each waits
    /// longer. 0 = no waits, no bans. Default 10.
    pub failed_log_ons: u32,
    /// How long a host is banned, and how long its wrong answers count: 1 s to 24 h. Default 5 min.
    pub ban_time: Duration,
}

/// What a registration outlives that was answered with 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The process, however that ends. The disk is given it a fifth of a second later; once it has it, it outlives the
    /// loss of power.
    Process,
    /// The loss of power: the disk has it before the answer leaves.
    Disk,
}

/// `[limits]`: what peers can make the proxy spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A whole message, 1024 to 65535 octets. Default 65535. Reload: messages begun afterwards.
    pub maximum_message_bytes: usize,
    /// Start line and headers together, 512 to 65535 octets, not above the whole message. Default 16384. The HTTP
    /// request of a WebSocket handshake may be as long.
    ///
    /// Reload: messages begun afterwards.
    pub maximum_header_bytes: usize,
    /// Streams together, 1 to 10000000. Default 50000. Reload: connections accepted afterwards.
    pub maximum_connections: usize,
    /// Streams of one address, 1 to 10000000. Default 1000. Reload: connections accepted afterwards.
    pub maximum_connections_per_address: usize,
    /// Transactions together, 1 to 100000000; above it new requests get 503. Default 500000. Reload: at once.
    pub maximum_transactions: usize,
    /// Connecting, the TLS handshake and the WebSocket handshake together, 10 ms to 10 min. Default 5 s. Reload:
    /// connections made afterwards.
    pub handshake_timeout: Duration,
    /// From the first octet of a message on a stream or WebSocket to its last, 10 ms to 10 min. Default 10 s.
    ///
    /// Reload: connections made afterwards.
    pub message_timeout: Duration,
    /// Streams without traffic or keep-alive, 10 ms to 24 h. Default 10 min. Reload: connections made
    /// afterwards.
    pub idle_timeout: Duration,
    /// Requests per second of one address that is not authenticated, 0 to 1000000; 0 = no limit.
    ///
    /// Default 0. Reload: at once.
    pub requests_per_second_per_address: u32,
}

/// `[diagnostics]`: log files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// The level of modules without one of their own (`log_level`, or `log_level.default`).
    ///
    /// Default info. Reload: at once.
    pub log_level: LogLevel,
    /// Levels of single modules (`log_level.router` and so on), by the names of [`LOG_MODULES`].
    ///
    /// Default none. Reload: at once.
    pub module_log_levels: BTreeMap<&'static str, LogLevel>,
    /// Directory of the log files, made if it is missing. Default `var/log`; `None` (`""`) = everything goes to standard
    /// error. What an administrator should see goes there in any case.
    ///
    /// Reload: the files in the new directory are opened.
    pub log_file_directory: Option<PathBuf>,
    /// A log file is begun anew before it gets larger: megabytes (1,000,000 octets), 1 to 100000. Default 10.
    ///
    /// Reload: at once.
    pub maximum_log_file_size_mb: u64,
    /// Older files kept of each log, 0 to 1000. Default 5. Reload: with the next file.
    pub kept_log_files: usize,
    /// Whether all log files are deleted daily, at midnight in UTC. Default false. Reload: at once; files that were
    /// last written on a day before go then.
    pub delete_log_files_daily: bool,
    /// How a line is written. Default text. Reload: at once.
    pub format: LogFormat,
}

/// The modules that may have a log level of their own: the actors, and what surrounds them.
pub const LOG_MODULES: &[&str] = &[
    "config",
    "connection",
    "control",
    "federation_resolver",
    "journal",
    "listener",
    "registrar",
    "router",
    "security",
    "stun",
    "supervisor",
    "tls",
];

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// An operator is needed.
    Error,
    /// Degraded.
    Warning,
    /// Calls ended, interfaces up, reloads.
    Info,
    /// Single messages.
    Debug,
    /// The wire.
    Trace,
}

impl LogLevel {
    /// All of them, the gravest first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warning, Self::Info, Self::Debug, Self::Trace];

    /// The word for it, in the configuration as in a line of the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The level of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value`.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[admin]`: metrics, health, status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address of this machine and port, 0 to 65535.
    pub listen: SocketAddr,
    /// What a client must show, from `admin.token_file`; never `None` for anything but loopback.
    pub token: Option<Token>,
}

/// A bearer token; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
