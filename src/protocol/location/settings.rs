//! What the location service is told by the configuration.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{GruuKey, GuardSettings};
use crate::protocol::account::Accounts;

/// Settings of a [`Location`](super::Location).
#[derive(Clone, Debug)]
pub struct LocationSettings {
    /// Briefer registrations get a 423 (RFC 3261 §10.3 step 7). Whole seconds.
    pub minimum_expires: Duration,
    /// For contacts that ask for no interval; also how long a proof logs a datagram server on.
    pub default_expires: Duration,
    /// Longer registrations are shortened.
    pub maximum_expires: Duration,
    /// Bindings of one address-of-record.
    pub maximum_contacts: usize,
    /// Whether Path is taken from user agents that do not say that they support it; else they get a 420
    /// (RFC 3327 §5.3).
    pub accepts_path_without_support: bool,
    /// How often a flow over a stream must show life, as its user agent is told (RFC 5626 §4.4). Below a second it is
    /// not told.
    pub flow_timer: Duration,
    /// How long a nonce is good.
    pub nonce_lifetime: Duration,
    /// Who may log on, and for whom each may speak.
    pub accounts: Arc<Accounts>,
    /// What wrong answers to challenges cost.
    pub guard: GuardSettings,
    /// What the milliseconds of nonces are counted from, here as in the Routers.
    pub epoch: Instant,
    /// When an earlier service of this process ended; `None` for the first. Nonces minted before are stale: nobody
    /// knows any more which of them were used.
    pub succeeded: Option<Instant>,
    /// Drawn at random at the start: nobody may guess which addresses share a bucket.
    pub hash_key: [u8; 16],
    /// Seals temporary GRUUs.
    pub gruu_key: GruuKey,
    /// Nobody can guess it, and no other service has had it: what is drawn from it must not come again under the same
    /// key.
    pub seed: [u8; 16],
    /// What peers can make the service keep.
    pub limits: LocationLimits,
}

/// Bounds on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocationLimits {
    /// Bindings together; new ones get a 503 beyond. A usual one takes about 400 octets.
    pub bindings: usize,
    /// Octets of the strings of one binding: address-of-record, contact, Call-ID and Path.
    pub binding_bytes: usize,
    /// Datagram flows logged on as UC servers at one time; beyond, the oldest proof counts no longer.
    pub datagram_servers: usize,
    /// Users whose UC server is remembered; beyond, the one least recently asked for is forgotten.
    pub learned: usize,
    /// Nonces in the ledger of those used.
    pub nonces: usize,
}

impl Default for LocationLimits {
    fn default() -> Self {
        Self {
            bindings: 1_000_000,
            binding_bytes: 4096,
            datagram_servers: 4096,
            learned: 100_000,
            nonces: 500_000,
        }
    }
}
