//! What is kept of bindings beyond the process: for each address-of-record one value with all that it has.
//!
//! A value is an octet that says how the rest is written, then the bindings one after the other in the form of
//! `postcard`. Accounts are kept by name and interfaces by address, since the numbers of both are those of one
//! configuration; times are those of the wall clock.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use bytes::Bytes;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::InstanceId;
use super::bindings::{Binding, Terms};
use super::clock::{Clock, Millis, Moment};
use super::contact::Details;
use super::gruu::Series;
use crate::protocol::account::{AccountId, Accounts};
use crate::protocol::flow::{ConnectionId, Flow, Transport};

/// How values are written now. Another number for each change of [`Kept`].
const FORM: u8 = 1;

/// A [`Binding`] as it is kept.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept<'a> {
    #[serde(with = "serde_bytes")]
    pub(super) contact: &'a [u8],
    #[serde(with = "serde_bytes")]
    pub(super) call_id: &'a [u8],
    #[serde(borrow)]
    pub(super) path: Vec<&'a serde_bytes::Bytes>,
    /// Milliseconds since the Unix epoch.
    pub(super) expires: u64,
    pub(super) cseq: u32,
    pub(super) q: u16,
    /// The user name.
    pub(super) account: Option<&'a str>,
    pub(super) is_direct: bool,
    pub(super) flow: KeptFlow,
    #[serde(borrow)]
    pub(super) details: Option<KeptDetails<'a>>,
}

/// [`Details`] as they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptDetails<'a> {
    #[serde(borrow)]
    instance: Option<&'a serde_bytes::Bytes>,
    pub(super) reg_id: Option<NonZeroU32>,
    series: Option<NonZeroU64>,
    parameters: &'a str,
}

/// A [`Flow`] as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptFlow {
    #[serde(with = "TransportCode")]
    pub(super) transport: Transport,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Of a process that knew its number.
    pub(super) connection: Option<u64>,
}

/// The transports by the numbers that are written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Transport")]
enum TransportCode {
    Udp = 0,
    Tcp = 1,
    Tls = 2,
    Ws = 3,
    Wss = 4,
}

/// Appends the value of `bindings`; nothing where there are none.
pub(super) fn write(bindings: &[Binding], accounts: &Accounts, clock: Clock, at: Moment, out: &mut Vec<u8>) {
    if bindings.is_empty() {
        return;
    }
    out.push(FORM);
    for binding in bindings {
        let kept = Kept::of(binding, accounts, clock, at);
        postcard::serialize_with_flavor(&kept, Appending(out)).expect("a Vec takes all that is written");
    }
}

/// The bindings of a value; `None` where it is not in the form of today.
pub(super) fn read(value: &[u8]) -> Option<SmallVec<[Kept<'_>; 1]>> {
    let (&FORM, mut rest) = value.split_first()? else { return None };
    let mut bindings = SmallVec::new();
    while !rest.is_empty() {
        let (kept, others) = postcard::take_from_bytes(rest).ok()?;
        bindings.push(kept);
        rest = others;
    }
    Some(bindings)
}

impl<'a> Kept<'a> {
    fn of(binding: &'a Binding, accounts: &'a Accounts, clock: Clock, at: Moment) -> Self {
        let account = binding.account.and_then(|id| accounts.get(id));
        Self {
            contact: binding.contact(),
            call_id: binding.call_id(),
            path: binding.path().iter().map(|value| serde_bytes::Bytes::new(value)).collect(),
            expires: (at.unix_millis + binding.expires).saturating_sub(clock.millis(at.now)),
            cseq: binding.cseq,
            q: binding.q,
            account: account.map(|account| account.user_name.as_str()),
            is_direct: binding.is_direct,
            flow: KeptFlow {
                transport: binding.flow.transport,
                local: binding.flow.local,
                remote: binding.flow.remote,
                connection: binding.flow.connection.map(|ConnectionId(number)| number),
            },
            details: binding.details().map(KeptDetails::of),
        }
    }

    /// The binding again, by what flow, account and expiry mean now.
    pub(super) fn binding(&self, flow: Arc<Flow>, account: Option<AccountId>, expires: Millis) -> Binding {
        let terms = Terms {
            contact: self.contact,
            call_id: self.call_id,
            path: self.path.iter().map(|value| Bytes::copy_from_slice(value)).collect(),
            cseq: self.cseq,
            q: self.q,
            account,
            is_direct: self.is_direct,
            details: self.details.map(|details| Box::new(details.details())),
        };
        Binding::new(terms, flow, expires)
    }
}

impl<'a> KeptDetails<'a> {
    fn of(details: &'a Details) -> Self {
        Self {
            instance: details.instance.as_ref().map(|instance| serde_bytes::Bytes::new(instance.as_bytes())),
            reg_id: details.reg_id,
            series: details.series.map(|Series(number)| number),
            parameters: &details.parameters,
        }
    }

    fn details(self) -> Details {
        Details {
            instance: self.instance.map(|name| InstanceId::new(name)),
            reg_id: self.reg_id,
            series: self.series.map(Series),
            parameters: self.parameters.into(),
        }
    }
}

/// Appends to a buffer that others have begun.
struct Appending<'a>(&'a mut Vec<u8>);

impl Flavor for Appending<'_> {
    type Output = ();

    fn try_push(&mut self, octet: u8) -> postcard::Result<()> {
        self.0.push(octet);
        Ok(())
    }

    fn try_extend(&mut self, octets: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(octets);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
