//! The configuration in its checked form: what the rest of the proxy reads.
//!
//! [`load()`] layers the file and the environment over the built-in defaults and answers with a [`Config`] or
//! with all faults at once. On the way:
//!
//! - `file.rs` and `environment.rs` turn TOML and `SIP_PROXY__SECTION__KEY` variables into two trees of
//!   values and note where each key stands; the `config` crate lays the second tree over the first.
//! - `reader.rs` hands the tree out key by key. A section is told of each key once, where the key is taken:
//!   its name, what it may hold, its default. What nobody takes is an unknown key.
//! - `rules.rs` says what a key may hold: a range, a duration, an address, a list of those.
//! - `check.rs` and the files below it take the keys and check what several of them say together.
//! - `source.rs` reads all that again while the proxy runs, `progress.rs` tells at which file that is, `ids.rs` gives what stays the identifiers that it had, and
//!   `diff.rs` says what is different.
//!
//! A field's documentation gives meaning, unit, default, what is allowed, and what a reload does with a
//! change. Relative paths in the file are relative to the file, and absolute here.
//!
//! Not here: the clock and the network, except that a check asks this machine for its addresses, reads the
//! certificates, and compares them with today's date.

mod certificate;
mod check;
mod diff;
mod environment;
mod fault;
mod federation;
mod file;
mod ids;
mod load;
mod progress;
mod reader;
mod report;
mod rules;
mod settings;
mod source;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use self::certificate::{Certificate, Tls, TlsVersion, TrustedCas, days};
pub use self::diff::{Change, ChangeKind, differences};
pub use self::fault::{Fault, Faults, Place, Remark, Warning};
pub use self::federation::{Federation, Host, HostPort, OpenFederation, Policy, StaticRoute};
pub use self::ids::{Ids, IdsUsedUp, MAXIMUM_INTERFACES};
pub use self::load::{control_socket, load, load_with_places};
pub use self::progress::{Progress, at_file};
pub use self::report::Places;
pub use self::rules::parse_name;
pub use self::settings::{
    Admin, Diagnostics, Dns, Durability, LOG_MODULES, Limits, LogFormat, LogLevel, Registrar, Sip, Stun,
    Token,
};
pub use self::source::{Loaded, Source};
use crate::protocol::account::Accounts;
use crate::protocol::federation::guard::GuardLimits;
use crate::protocol::flow::{InterfaceId, Transport};
pub use crate::protocol::interface::Side;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file that this was read from.
    pub file: PathBuf,
    /// What is configured and switched off; nothing works by it, administrators see it.
    pub switched_off: SwitchedOff,
    /// `[service]`.
    pub service: Service,
    /// The certificate that the proxy shows (`certificate.chain`, `certificate.private_key`).
    ///
    /// Default `None`: interfaces with TLS, MTLS or WSS do not listen and say so. Reload: connections made
    /// afterwards.
    pub certificate: Option<Certificate>,
    /// The rest of `[certificate]`: whom the proxy believes, which stands also without a certificate of its
    /// own.
    pub tls: Tls,
    /// `[lan]`, `[[lan.network_interface]]`, `[[wan.network_interface]]`, `[open_federation]`, in this order;
    /// only those that are enabled. `lan.enabled` is the switch of that section's own interface and account;
    /// the elements of lists have switches of their own. No two want one socket; 512 at most.
    ///
    /// Default: TCP on 127.0.0.1:5060 (LAN), MTLS on 0.0.0.0:5061 (WAN). Reload: interfaces that came or went
    /// open or close, the others go on undisturbed.
    pub interfaces: Vec<Interface>,
    /// What stands for the proxy in Via and Record-Route on the WAN (`[wan.public_address]`), where enabled.
    ///
    /// Default `None`. Reload: messages sent afterwards.
    pub wan_public_address: Option<PublicAddress>,
    /// The networks from which an account without a password is believed (`lan.allowed_networks`).
    ///
    /// Default: loopback, the private networks of RFC 1918, and fc00::/7. Reload: requests received
    /// afterwards; who was believed and is outside now has to prove an account.
    pub lan_allowed_networks: Vec<IpNet>,
    /// `[lan]` where it is enabled, `[[lan.account]]`, `[[registrar.account]]`, in this order.
    ///
    /// `user_name`: 1 to 255 octets, in one account only; required, `ucserver` in `[lan]`. Its proof, exactly
    /// one: `password`; `password_file`, without the line break that ends it; `ha1_md5`, `ha1_sha256`,
    /// `ha1_sha512_256`, one or several hashes of `user_name:realm:password` in hexadecimal; `certificate`, a
    /// name in the client certificate. An empty password, in `[lan]` alone, means [`Secret::Address`].
    /// `users`: for whom it speaks, default `["*"]`, see [`Scope`].
    ///
    /// Default: `ucserver` without a password. Reload: requests received afterwards; an account that went
    /// takes its bindings and authenticated flows with it, one whose proof has changed its authenticated flows.
    ///
    /// [`Secret::Address`]: crate::protocol::account::Secret::Address
    /// [`Scope`]: crate::protocol::account::Scope
    pub accounts: Accounts,
    /// `[federation]`.
    pub federation: Federation,
    /// `[federation_guard]`: what a discovered peer that is not an allowed domain may send; one that does more is watched: one
    /// request per second of its is let in, until it has kept within the limits for a whole window.
    ///
    /// `window`: 1 s to 24 h, default 10 min. `requests` in a window, default 12000; `users`: different ones asked for,
    /// default 1000; both 0 to 1000000. `failures`: answers with 4xx in percent, 0 to 100, default 50. 0 = no limit.
    /// Reload: at once, counted anew where one of them changes.
    pub federation_guard: GuardLimits,
    /// `[open_federation]`, but its interface, which is among [`Config::interfaces`].
    pub open_federation: OpenFederation,
    /// `[[static_routes.route]]`: those that are enabled, none where `static_routes.enabled` is false.
    ///
    /// Default: none. Reload: requests routed afterwards; connections to a route that went are drained.
    pub static_routes: Vec<StaticRoute>,
    /// How long nothing may pass a static route until its access server is asked by an OPTIONS whether it is there
    /// (`static_routes.probe_interval`): 1 s to 24 h; `None` (`"0s"`) = never.
    ///
    /// Default 30 s. Reload: at once.
    pub probe_interval: Option<Duration>,
    /// `[stun]`.
    pub stun: Stun,
    /// `[dns]`.
    pub dns: Dns,
    /// `[sip]`.
    pub sip: Sip,
    /// `[registrar]`, but its accounts, which are among [`Config::accounts`].
    pub registrar: Registrar,
    /// `[limits]`.
    pub limits: Limits,
    /// `[diagnostics]`.
    pub diagnostics: Diagnostics,
    /// `[admin]`, where `admin.listen` gives an address. Default `None`. Reload: opens, closes or moves.
    pub admin: Option<Admin>,
}

impl Config {
    /// The interface with this identifier.
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.id == id)
    }
}

/// What `enabled = false` keeps out of the rest of [`Config`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchedOff {
    /// `lan.enabled` is false.
    pub lan: bool,
    /// `static_routes.enabled` is false.
    pub static_routes: bool,
    /// Network interfaces, that of `[open_federation]` among them.
    pub interfaces: Vec<Interface>,
    /// Static routes, all of them where `static_routes.enabled` is false.
    pub routes: Vec<StaticRoute>,
}

/// `[service]`: who the proxy is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The SIP domains served here, in lower case, each once.
    ///
    /// Default none: only OPTIONS is answered, and a warning says so. Reload: requests received afterwards.
    pub presence_domains: Vec<String>,
    /// Directory of what must outlive a restart: registrations, keys. Created where it is missing.
    ///
    /// Default `var/lib`. Reload: refused, needs a restart.
    pub state_directory: PathBuf,
    /// Socket of the command line, mode 0600; at most 107 bytes of path, the limit of the system.
    ///
    /// Default `var/run/control.sock`. Reload: refused, needs a restart.
    pub control_socket: PathBuf,
    /// Threads that carry SIP, 0 to 256; 0 = one per core.
    ///
    /// Default 0. Reload: refused, needs a restart.
    pub worker_threads: usize,
    /// How long a stop waits for what has begun: requests to be answered, and answers to INVITEs to be acknowledged. 0 s
    /// to 1 h; 0 = not at all.
    ///
    /// Default 32 s, as long as a client waits that is not calling (64*T1 at its default). Reload: stops begun afterwards.
    pub drain_timeout: Duration,
}

/// What an interface or a route speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Datagrams, and TCP at the same port for answers and for requests that fit no datagram (RFC 3261
    /// §18.2.1).
    Udp,
    /// Streams in the clear.
    Tcp,
    /// TLS; a client may show a certificate and need not.
    Tls,
    /// TLS with a certificate on both sides.
    Mtls,
    /// WebSocket in the clear (RFC 7118). Of interfaces alone: a proxy dials no WebSocket.
    Ws,
    /// WebSocket under TLS. Of interfaces alone.
    Wss,
}

impl Protocol {
    /// What carries the octets; TLS for MTLS.
    pub const fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Tcp => Transport::Tcp,
            Self::Tls | Self::Mtls => Transport::Tls,
            Self::Ws => Transport::Ws,
            Self::Wss => Transport::Wss,
        }
    }

    /// Whether it needs certificates.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Mtls | Self::Wss)
    }
}

/// The name that the configuration file uses.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Mtls => "mtls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        })
    }
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Interface {
    /// What stands for it. A reload leaves it as it is (`ids.rs`) as long as side, socket and protocol do not change.
    pub id: InterfaceId,
    /// Which side it faces.
    pub side: Side,
    /// An address of this machine, or the wildcard of its family; `::` means IPv6 alone.
    pub ip_address: IpAddr,
    /// 0 to 65535; 0 lets the system choose.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Key path for messages: `lan`, `lan.network_interface[0]`, `wan.network_interface[1]`,
    /// `open_federation`.
    pub key: String,
}

impl Interface {
    /// Address and port.
    pub const fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.ip_address, self.port)
    }
}

/// `[wan.public_address]`: how the WAN side is reached where the machine's own addresses are not (NAT).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicAddress {
    /// The address; `None` = `"auto"`, the default: STUN tells, by the servers of `[stun]`.
    pub ip_address: Option<IpAddr>,
    /// The port, 1 to 65535. Default 5061.
    pub port: u16,
    /// Host name for Via and Record-Route, lower case. Default `None`: the certificate's first name that is no presence
    /// domain, else its first one.
    pub host_name: Option<String>,
}
