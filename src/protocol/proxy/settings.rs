//! What a [`Proxy`](super::Proxy) is told by the configuration.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::protocol::account::Accounts;
use crate::protocol::digest::Algorithm;
use crate::protocol::federation::Federation;
use crate::protocol::flow::Flow;
use crate::protocol::location::AddressOfRecord;
use crate::protocol::message::uri::Host;
use crate::protocol::transaction::Timers;

/// The part of the configuration that decides about messages. Swapped as a whole at a reload; what has begun goes
/// on as it began where that matters.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The domains served here, in lower case.
    pub presence_domains: Vec<String>,
    /// The realm of our challenges: the first presence domain.
    pub realm: String,
    /// Who may log on.
    pub accounts: Arc<Accounts>,
    /// Networks from which an account without password may log on, and to whose addresses UC servers may send
    /// directly.
    pub lan_networks: Vec<IpNet>,
    /// Offered in challenges, most preferred first.
    pub digest_algorithms: Vec<Algorithm>,
    /// How long a nonce is good.
    pub nonce_lifetime: Duration,
    /// Whether credentials without `qop` count (RFC 8760 §2.6): they protect less, and use their nonce up.
    pub accepts_digest_without_qop: bool,
    /// Whether the `uri` of credentials may be another than the Request-URI, which an element on the way has changed
    /// then (RFC 3261 §22.4 item 6).
    pub accepts_digest_for_other_uri: bool,
    /// Whether wrong answers to challenges cost anything.
    pub counts_guesses: bool,
    /// Which other domains there are, and who may speak for them.
    pub federation: Federation,
    /// The budget of the look-ups for one request.
    pub dns_timeout: Duration,
    /// T1, T2, T4.
    pub timers: Timers,
    /// Timer C (§16.6 step 11).
    pub timer_c: Duration,
    /// Option tags in Proxy-Require that are none of our business, in lower case: whoever understands them is beyond us.
    pub tolerated_proxy_require: Vec<String>,
    /// How long a connection may be silent, as peers that ask are told (MS-CONMGMT).
    pub keep_alive_timeout: Duration,
    /// Requests larger than this leave by a stream (§18.1.1), in octets.
    pub udp_mtu: usize,
    /// Whether the contacts of a 3xx are asked in the place of its sender (§16.7 step 4).
    pub follow_redirections: bool,
    /// Server transactions that one Router may hold.
    pub maximum_transactions: usize,
    /// Requests that one address may send to one Router in a second before it has proven anything; 0 = no limit.
    pub requests_per_second_per_address: u32,
}

impl Settings {
    /// Whether `host` is one of the presence domains.
    pub fn is_presence_domain(&self, host: &Host<'_>) -> bool {
        self.presence_domains.iter().any(|domain| host.is_name(domain))
    }

    /// How often the peer of `flow` is to send keep-alives, in seconds. Datagrams have no connection that would end: it
    /// knows its NAT best, which 0 leaves to it (RFC 6223 §5).
    pub const fn keep_alive_of(&self, flow: &Flow) -> u64 {
        if flow.transport.is_reliable() { self.keep_alive_timeout.as_secs() } else { 0 }
    }

    /// Whether users of this address-of-record's domain are found here.
    pub fn serves(&self, name: &AddressOfRecord) -> bool {
        self.presence_domains.iter().any(|domain| domain.as_bytes() == name.domain())
    }

    /// Whether `address` is on the LAN.
    pub fn is_lan(&self, address: IpAddr) -> bool {
        self.lan_networks.iter().any(|network| network.contains(&address))
    }
}
