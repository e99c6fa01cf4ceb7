//! A binding: a contact address of an address-of-record, with what its request has said of it.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;

use super::clock::Millis;
use super::contact::{Details, Identity};
use super::gruu::Series;
use super::{InstanceId, Target};
use crate::protocol::account::AccountId;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::message::uri::{Host, Uri};

/// A contact address of an address-of-record, valid until it expires (RFC 3261 §10). There are many: what belongs
/// together is in one allocation, and what few have in one of its own.
#[derive(Debug)]
pub(super) struct Binding {
    /// The contact URI, and the Call-ID behind it.
    octets: Box<[u8]>,
    contact_length: u32,
    rarities: Option<Box<Rarities>>,
    pub(super) flow: Arc<Flow>,
    pub(super) expires: Millis,
    /// With the Call-ID, which request this comes from (§10.2.4).
    pub(super) cseq: u32,
    pub(super) q: u16,
    pub(super) account: Option<AccountId>,
    /// Whether the registrant itself is at the other end of the flow.
    pub(super) is_direct: bool,
    is_of_flow: bool,
}

/// What few bindings have.
#[derive(Debug)]
struct Rarities {
    path: Box<[Bytes]>,
    details: Option<Box<Details>>,
}

/// What a [`Binding`] takes from the request that makes it.
pub(super) struct Terms<'a> {
    pub(super) contact: &'a [u8],
    pub(super) call_id: &'a [u8],
    pub(super) path: Box<[Bytes]>,
    pub(super) cseq: u32,
    pub(super) q: u16,
    pub(super) account: Option<AccountId>,
    pub(super) is_direct: bool,
    pub(super) details: Option<Box<Details>>,
}

impl Binding {
    pub(super) fn new(terms: Terms<'_>, flow: Arc<Flow>, expires: Millis) -> Self {
        let Terms { contact, call_id, path, cseq, q, account, is_direct, details } = terms;
        let is_flow = details.as_ref().is_some_and(|details| details.reg_id.is_some());
        let is_of_flow = is_flow || (path.is_empty() && is_behind_nat(contact, &flow));
        let is_usual = path.is_empty() && details.is_none();
        Self {
            octets: [contact, call_id].concat().into(),
            contact_length: u32::try_from(contact.len()).expect("a contact is a part of a message"),
            rarities: (!is_usual).then(|| Box::new(Rarities { path, details })),
            flow,
            expires,
            cseq,
            q,
            account,
            is_direct,
            is_of_flow,
        }
    }

    /// Takes over what a request by the same flow brings, if that is no more than another time to expire. Else nothing is
    /// done.
    pub(super) fn refresh(&mut self, terms: &Terms<'_>, flow: &Flow, expires: Millis) -> bool {
        let is_usual = self.rarities.is_none() && terms.path.is_empty() && terms.details.is_none();
        let is_same = is_usual
            && *self.flow == *flow
            && self.contact() == terms.contact
            && self.call_id() == terms.call_id;
        if is_same {
            let Terms { cseq, q, account, is_direct, .. } = *terms;
            (self.expires, self.cseq, self.q, self.account, self.is_direct) =
                (expires, cseq, q, account, is_direct);
        }
        is_same
    }

    pub(super) fn target(&self) -> Target {
        Target {
            uri: Bytes::copy_from_slice(self.contact()),
            path: self.path().to_vec(),
            q: self.q,
            flow: *self.flow,
            account: self.account,
            is_flow: self.is_of_flow,
            alternatives: Vec::new(),
        }
    }

    pub(super) fn contact(&self) -> &[u8] {
        &self.octets[..self.contact_length as usize]
    }

    pub(super) fn call_id(&self) -> &[u8] {
        &self.octets[self.contact_length as usize..]
    }

    pub(super) fn path(&self) -> &[Bytes] {
        self.rarities.as_ref().map_or(&[], |rarities| &rarities.path)
    }

    pub(super) fn details(&self) -> Option<&Details> {
        self.rarities.as_ref()?.details.as_deref()
    }

    pub(super) fn identity(&self) -> Identity<'_> {
        Identity { uri: self.contact(), details: self.details() }
    }

    /// The user agent, if it has said which it is.
    pub(super) fn instance(&self) -> Option<&InstanceId> {
        self.details()?.instance.as_ref()
    }

    pub(super) fn reg_id(&self) -> Option<NonZeroU32> {
        self.details()?.reg_id
    }

    /// Whether it leads over its flow of datagrams and no other way: it binds the flow rather than an address (RFC
    /// 5626 §6), or a NAT lies between.
    pub(super) const fn is_of_flow(&self) -> bool {
        self.is_of_flow
    }

    pub(super) fn series(&self) -> Option<Series> {
        self.details()?.series
    }

    /// Of a binding with details.
    pub(super) fn set_series(&mut self, series: Option<Series>) {
        if let Some(details) = self.rarities.as_mut().and_then(|rarities| rarities.details.as_mut()) {
            details.series = series;
        }
    }
}

/// Whether there is a NAT between: of datagrams, a contact has another address than its flow (RFC 5626 §1).
fn is_behind_nat(contact: &[u8], flow: &Flow) -> bool {
    let is_elsewhere = |uri: Uri<'_>| match uri.host {
        Host::Address(ip) => ip != flow.remote.ip(),
        Host::Name(_) => false,
    };
    flow.transport == Transport::Udp && Uri::parse(contact).is_ok_and(is_elsewhere)
}
