//! The values of a REGISTER's Contact header (RFC 3261 §10.2.1; RFC 5626 §6, RFC 5627 §5.1).

use std::num::NonZeroU32;

use bytes::Bytes;

use super::InstanceId;
use super::gruu::Series;
use crate::protocol::message::headers::{delta_seconds, q_value};
use crate::protocol::message::lexical::{Parameters, decimal};
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::{Uri, UriFault, are_equivalent};

/// What a malformed `expires` parameter means, in seconds (RFC 3261 §10.2.1.1, §20.10).
const MALFORMED_EXPIRES: u32 = 3600;

/// Parameters with a meaning here; all others are kept as they came.
const READ: [&[u8]; 6] = [b"q", b"expires", b"+sip.instance", b"reg-id", b"pub-gruu", b"temp-gruu"];

/// A value of a Contact header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// A SIP or SIPS URI, valid UTF-8, without line breaks.
    pub uri: Bytes,
    /// Preference in thousandths; 1000 where there is none (RFC 3261 §10.2.1.2).
    pub q: u16,
    /// The interval asked for in seconds, by the parameter or else the Expires header.
    pub expires: Option<u32>,
    /// The rest of it, where there is any.
    pub details: Option<Box<Details>>,
}

/// What most contacts do not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The user agent, by `+sip.instance`.
    pub instance: Option<InstanceId>,
    /// Which of its flows this is; only beside `instance`, and where outbound applies (RFC 5626 §6).
    pub reg_id: Option<NonZeroU32>,
    /// The temporary GRUUs that lead to the instance; all bindings of one have the same. `None` in a request, and
    /// where nobody has asked for any.
    pub series: Option<Series>,
    /// Parameters without a meaning here, each with its semicolon.
    pub parameters: Box<str>,
}

impl Details {
    /// What identifies a binding in place of its URI: instance and flow.
    pub fn flow(&self) -> Option<(&InstanceId, NonZeroU32)> {
        Some((self.instance.as_ref()?, self.reg_id?))
    }

    /// Octets on the heap, beside those of the struct itself.
    pub(super) fn kept_bytes(&self) -> usize {
        self.instance.as_ref().map_or(0, |instance| instance.as_bytes().len()) + self.parameters.len()
    }
}

/// What makes two contacts of an address-of-record one: instance and flow where they have both, else the URI
/// (RFC 3261 §10.3 step 7, RFC 5626 §6).
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity<'a> {
    pub(super) uri: &'a [u8],
    pub(super) details: Option<&'a Details>,
}

impl Identity<'_> {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self.details.and_then(Details::flow), other.details.and_then(Details::flow)) {
            (None, None) => are_equivalent(self.uri, other.uri),
            (own, theirs) => own == theirs,
        }
    }
}

impl Contact {
    pub(super) fn identity(&self) -> Identity<'_> {
        Identity { uri: &self.uri, details: self.details.as_deref() }
    }

    /// Reads one value. `reg-id` is taken as it stands: whether it counts is the request's to say.
    pub(super) fn read(value: &[u8], header_expires: Option<u32>) -> Result<Self, Reply> {
        let bad = |reason| Reply::with_reason(400, reason);
        let address = NameAddr::parse(value).ok_or_else(|| bad("Malformed Contact"))?;
        match Uri::parse(address.uri) {
            Ok(_) => {}
            // It could be kept, but no request could be sent to it (RFC 5627 §5.1).
            Err(UriFault::Scheme) => return Err(Reply::with_reason(403, "Contact Is No SIP URI")),
            Err(UriFault::NoScheme | UriFault::Host | UriFault::Parameters) => {
                return Err(bad("Malformed Contact"));
            }
        }
        if std::str::from_utf8(address.uri).is_err() {
            return Err(bad("Malformed Contact"));
        }
        let parameters = address.parameters;
        let q = match parameters.get(b"q") {
            Some(q) => q.value.and_then(q_value).ok_or_else(|| bad("Malformed q Value Of Contact"))?,
            None => 1000,
        };
        let expires = match parameters.get(b"expires") {
            Some(own) => Some(own.value.and_then(delta_seconds).unwrap_or(MALFORMED_EXPIRES)),
            None => header_expires,
        };
        let details = read_details(parameters).map_err(bad)?;
        Ok(Self { uri: Bytes::copy_from_slice(address.uri), q, expires, details })
    }

    /// Whether the contact is to be there afterwards.
    pub(super) fn is_kept(&self) -> bool {
        self.expires != Some(0)
    }

    /// Whether it names a flow.
    pub(super) fn has_reg_id(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.reg_id.is_some())
    }

    /// Ignores `reg-id` (RFC 5626 §6).
    pub(super) fn ignore_reg_id(&mut self) {
        if let Some(details) = &mut self.details {
            details.reg_id = None;
        }
        self.details.take_if(|details| **details == Details::default());
    }
}

fn read_details(parameters: Parameters<'_>) -> Result<Option<Box<Details>>, &'static str> {
    let instance = match parameters.get(b"+sip.instance") {
        Some(own) => {
            let read = own.value.and_then(InstanceId::from_parameter);
            Some(read.ok_or("Malformed +sip.instance Of Contact")?)
        }
        None => None,
    };
    let reg_id = match parameters.get(b"reg-id") {
        Some(own) => {
            let read = own.value.and_then(decimal).filter(|&number| number < 1 << 31);
            Some(read.and_then(NonZeroU32::new).ok_or("Malformed reg-id Of Contact")?)
        }
        None => None,
    };
    let parameters = other_parameters(parameters).ok_or("Malformed Contact")?;
    let details = Details { instance, reg_id, series: None, parameters };
    Ok((details != Details::default()).then(|| Box::new(details)))
}

/// `None` where they cannot be written into a row of ours.
fn other_parameters(parameters: Parameters<'_>) -> Option<Box<str>> {
    let mut out = String::new();
    for parameter in parameters.iter().filter_map(Result::ok) {
        if READ.iter().any(|name| parameter.name.eq_ignore_ascii_case(name)) {
            continue;
        }
        out.push(';');
        out.push_str(std::str::from_utf8(parameter.name).ok()?);
        if let Some(value) = parameter.value {
            out.push('=');
            out.push_str(&one_line(std::str::from_utf8(value).ok()?));
        }
    }
    Some(out.into())
}

/// Without the line breaks of a folded value, which may not enter another message's row.
pub(super) fn one_line(value: &str) -> String {
    value.replace(['\r', '\n'], " ")
}
