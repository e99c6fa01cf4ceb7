//! What administrators are told: who is logged on, and who is registered where, a bounded piece at a time.
//!
//! The pages of all registrations go through the table's shards one by one, and through each by name. That is no order
//! that a person would want, but any address-of-record has its place in it, whatever comes and goes between two pages:
//! nobody who stays is left out or told twice.

use std::time::Instant;

use super::bindings::Binding;
use super::clock::Millis;
use super::{AddressOfRecord, Location};
use crate::protocol::account::{Account, Secret};
use crate::protocol::flow::Flow;

/// Addresses-of-record in one piece at most.
const NAMES_AT_ONCE: usize = 256;

/// Shards that are looked through for one page.
const SHARDS_AT_ONCE: usize = 64;

/// How a UC server has logged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOnKind {
    /// By the certificate of its connection.
    Certificate,
    /// By a registration, its own or of a user.
    Registration,
    /// By its address: its account has no password.
    Address,
    /// By the credentials of a request.
    Digest,
}

/// A UC server that is logged on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerListed {
    /// The user name of its account.
    pub account: String,
    /// The way to it.
    pub flow: Flow,
    /// How it has logged on.
    pub by: LogOnKind,
    /// Bindings that were registered over its flow.
    pub bindings: u32,
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingListed {
    /// Whose.
    pub name: AddressOfRecord,
    /// Its contact, as registered.
    pub contact: Vec<u8>,
    /// The way to it.
    pub flow: Flow,
    /// Whole seconds until it expires.
    pub seconds: u64,
    /// Preference, in thousandths.
    pub q: u16,
}

/// A piece of all bindings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Addresses-of-record with a binding, in all.
    pub names: usize,
    /// Bindings, in all.
    pub bindings: usize,
    /// Those of this page.
    pub listed: Vec<BindingListed>,
    /// Where the next page begins: behind this one; `None` at the end.
    pub next: Option<Place>,
}

/// A place among all registrations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind this address-of-record, whether or not it is there.
    Behind(AddressOfRecord),
    /// At the beginning of a shard.
    Shard(usize),
}

impl Location {
    /// The UC servers that are logged on, in the order of their log-ons, `count` at most.
    pub fn list_servers(&self, count: usize) -> Vec<ServerListed> {
        let accounts = &self.settings.accounts;
        let listed = |(account, flow, bindings)| {
            let account: &Account = accounts.get(account)?;
            let by = match (&account.secret, bindings) {
                (Secret::Certificate(_), _) => LogOnKind::Certificate,
                (_, 1..) => LogOnKind::Registration,
                (Secret::Address, 0) => LogOnKind::Address,
                (Secret::Password(_) | Secret::Hashes { .. }, 0) => LogOnKind::Digest,
            };
            Some(ServerListed { account: account.user_name.clone(), flow, by, bindings })
        };
        self.flows.servers().filter_map(listed).take(count).collect()
    }

    /// The bindings of one address-of-record.
    pub fn list(&self, now: Instant, name: &AddressOfRecord) -> Page {
        let listed = self.listed(self.clock.millis(now), name, self.bindings.get(name));
        Page { listed: listed.collect(), ..self.empty_page() }
    }

    /// The next bindings from `place` on, of so many addresses-of-record at most: a bounded piece, which may be empty and
    /// yet not the last.
    pub fn list_page(&self, now: Instant, place: &Place, count: usize) -> Page {
        let now = self.clock.millis(now);
        let (mut shard, mut after) = match place {
            Place::Behind(name) => (self.bindings.shard(name), Some(name)),
            Place::Shard(shard) => (*shard, None),
        };
        let (mut page, mut left) = (self.empty_page(), count.clamp(1, NAMES_AT_ONCE));
        for _ in 0..SHARDS_AT_ONCE {
            let Some(found) = self.bindings.names_of(shard, after.take(), left) else {
                return Page { next: None, ..page };
            };
            for name in &found.names {
                page.listed.extend(self.listed(now, name, self.bindings.get(name)));
            }
            left -= found.names.len();
            if let Some(last) = found.names.last().filter(|_| found.is_cut) {
                return Page { next: Some(Place::Behind((*last).clone())), ..page };
            }
            shard += 1;
            page.next = Some(Place::Shard(shard));
            if left == 0 {
                break;
            }
        }
        page
    }

    fn empty_page(&self) -> Page {
        Page { names: self.bindings.names(), bindings: self.bindings.len(), ..Page::default() }
    }

    fn listed<'a>(
        &self,
        now: Millis,
        name: &'a AddressOfRecord,
        bindings: &'a [Binding],
    ) -> impl Iterator<Item = BindingListed> + use<'a> {
        bindings.iter().filter(move |binding| binding.expires > now).map(move |binding| BindingListed {
            name: name.clone(),
            contact: binding.contact().to_vec(),
            flow: *binding.flow,
            seconds: (binding.expires - now) / 1000,
            q: binding.q,
        })
    }
}
