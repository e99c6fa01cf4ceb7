//! Reading a REGISTER request (RFC 3261 §10.2, §10.3; RFC 3327, RFC 5626 §6).

use bytes::Bytes;
use smallvec::SmallVec;

use super::AddressOfRecord;
use super::contact::{Contact, one_line};
use crate::protocol::account::AccountId;
use crate::protocol::message::headers::delta_seconds;
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::Uri;
use crate::protocol::message::{Message, Name};

/// Option tags that may be required of us (RFC 3327, RFC 5626, RFC 5627).
pub const EXTENSIONS: [&str; 3] = ["path", "outbound", "gruu"];

/// What a REGISTER asks for, read and checked as far as it can be without the bindings.
///
/// Whether its sender may register this address-of-record is decided before, at admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The account that registers; not always the user whose address-of-record it is (§10.2, third party).
    pub account: Option<AccountId>,
    /// From the To header.
    pub address_of_record: AddressOfRecord,
    /// Whether the To header has a SIPS URI. GRUUs have the same scheme.
    pub is_secure: bool,
    /// Orders, with `cseq`, the requests of one user agent (§10.2.4).
    pub call_id: Box<[u8]>,
    /// The number of CSeq.
    pub cseq: u32,
    /// The Path values, topmost first, unfolded.
    pub path: Box<[Bytes]>,
    /// Whether it comes from the user agent itself, so that the flow is the sender's own.
    pub is_direct: bool,
    /// What the user agent says that it understands.
    pub supports: Supports,
    /// What is to be done.
    pub change: Change,
}

/// The option tags of Supported on which the answer depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supports {
    /// RFC 3327.
    pub path: bool,
    /// RFC 5626.
    pub outbound: bool,
    /// RFC 5627.
    pub gruu: bool,
}

impl Supports {
    fn read(request: &Message) -> Self {
        let has = |tag| request.has_option(Name::Supported, tag);
        Self { path: has("path"), outbound: has("outbound"), gruu: has("gruu") }
    }
}

/// What a REGISTER does to the bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// No Contact: the bindings are listed (§10.2.3).
    Nothing,
    /// `Contact: *` (§10.2.2).
    RemoveAll,
    /// Each in turn is added, refreshed or, with zero seconds, removed.
    Contacts(SmallVec<[Contact; 1]>),
}

impl Registration {
    /// Reads `request`, which `account` has sent. The error is the response that refuses it; its phrase names the
    /// fault.
    pub fn read(request: &Message, account: Option<AccountId>) -> Result<Self, Reply> {
        check_extensions(request)?;
        let bad = |reason| Reply::with_reason(400, reason);
        let to = request.to().and_then(|to| Uri::parse(to.uri).ok()).ok_or_else(|| bad("Malformed To"))?;
        let call_id = request.call_id();
        if call_id.is_empty() {
            return Err(bad("Missing Call-ID"));
        }
        let mut registration = Self {
            account,
            address_of_record: AddressOfRecord::from_uri(&to),
            is_secure: to.is_secure,
            call_id: call_id.into(),
            cseq: request.cseq().ok_or_else(|| bad("Malformed CSeq"))?.number,
            path: read_path(request).ok_or_else(|| bad("Malformed Path"))?,
            is_direct: request.values(Name::Via).nth(1).is_none() && request.row(Name::Path).is_none(),
            supports: Supports::read(request),
            change: Change::read(request)?,
        };
        registration.settle_flows(request)?;
        Ok(registration)
    }

    /// Whether the contacts are flows: what each `reg-id` counts for (RFC 5626 §6).
    fn settle_flows(&mut self, request: &Message) -> Result<(), Reply> {
        let Change::Contacts(contacts) = &mut self.change else { return Ok(()) };
        if !contacts.iter().any(Contact::has_reg_id) {
            return Ok(());
        }
        let is_first_hop = request.values(Name::Via).nth(1).is_none();
        let is_possible = is_first_hop || self.path.last().is_some_and(|first_hop| has_ob(first_hop));
        if !is_possible && self.supports.outbound {
            return Err(Reply::new(439));
        }
        let lacks_instance =
            |contact: &Contact| contact.details.as_ref().is_none_or(|d| d.instance.is_none());
        for contact in contacts.iter_mut().filter(|contact| !is_possible || lacks_instance(contact)) {
            contact.ignore_reg_id();
        }
        let mut kept = contacts.iter().filter(|contact| contact.is_kept());
        if kept.clone().nth(1).is_some() && kept.any(Contact::has_reg_id) {
            return Err(Reply::with_reason(400, "A Flow Is Not Registered Alone"));
        }
        Ok(())
    }

    /// Whether a contact of it is a flow.
    pub(super) fn is_outbound(&self) -> bool {
        matches!(&self.change, Change::Contacts(contacts) if contacts.iter().any(Contact::has_reg_id))
    }

    /// Octets that a binding of this request keeps at most, beside its fixed part.
    pub(super) fn kept_bytes(&self) -> usize {
        let bytes = |contact: &Contact| {
            contact.uri.len() + contact.details.as_ref().map_or(0, |details| details.kept_bytes())
        };
        let longest_contact = match &self.change {
            Change::Nothing | Change::RemoveAll => 0,
            Change::Contacts(contacts) => contacts.iter().map(bytes).max().unwrap_or(0),
        };
        let path: usize = self.path.iter().map(|value| value.len() + size_of::<Bytes>()).sum();
        self.address_of_record.as_bytes().len() + self.call_id.len() + longest_contact + path
    }
}

/// §8.2.2.3: an extension that we lack must not be passed over in silence. The error is the refusal.
pub fn check_extensions(request: &Message) -> Result<(), Reply> {
    let is_known = |tag: &[u8]| EXTENSIONS.iter().any(|known| tag.eq_ignore_ascii_case(known.as_bytes()));
    Reply::refuse_extensions(request.values(Name::Require).filter(|tag| !is_known(tag)), "Malformed Require")
}

fn read_path(request: &Message) -> Option<Box<[Bytes]>> {
    let read = |value| {
        let address = NameAddr::parse(value)?;
        Uri::parse(address.uri).ok()?;
        Some(Bytes::from(one_line(std::str::from_utf8(value).ok()?)))
    };
    request.values(Name::Path).map(read).collect()
}

/// Whether the proxy that has written this Path value is the first hop and keeps the flow (RFC 5626 §5.1): of several
/// the last is its.
fn has_ob(path_value: &[u8]) -> bool {
    let uri = NameAddr::parse(path_value).and_then(|value| Uri::parse(value.uri).ok());
    uri.is_some_and(|uri| uri.parameters.get(b"ob").is_some())
}

impl Change {
    /// Whether it only takes away.
    pub(super) fn is_removal(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::RemoveAll => true,
            Self::Contacts(contacts) => !contacts.iter().any(Contact::is_kept),
        }
    }

    fn read(request: &Message) -> Result<Self, Reply> {
        let bad = |reason| Reply::with_reason(400, reason);
        let expires = match request.row(Name::Expires) {
            Some(row) => Some(delta_seconds(row).ok_or_else(|| bad("Malformed Expires"))?),
            None => None,
        };
        let mut contacts = SmallVec::new();
        let mut is_wildcard = false;
        for value in request.values(Name::Contact) {
            if is_wildcard || (value == b"*" && !contacts.is_empty()) {
                return Err(bad("Contact * Is Not Alone"));
            }
            is_wildcard = value == b"*";
            if !is_wildcard {
                contacts.push(Contact::read(value, expires)?);
            }
        }
        match (is_wildcard, expires) {
            (true, Some(0)) => Ok(Self::RemoveAll),
            (true, _) => Err(bad("Contact * Needs Expires 0")),
            (false, _) if contacts.is_empty() => Ok(Self::Nothing),
            (false, _) => Ok(Self::Contacts(contacts)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::{Carriage, MessageLimits};

    fn read(rows: &str) -> Result<Registration, Reply> {
        let text = format!(
            "REGISTER sip:a.test SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:x@a.test>;tag=1\r\n\
             To: <sip:%62ob@A.test;p>\r\nCall-ID: c\r\nCSeq: 7 REGISTER\r\n{rows}\r\n"
        );
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        let request = Message::parse(Bytes::from(text), Carriage::Datagram, limits).unwrap();
        assert_eq!(request.fault(), None);
        Registration::read(&request, Some(AccountId(3)))
    }

    fn contacts(rows: &str) -> Vec<(String, u16, Option<u32>)> {
        let Change::Contacts(contacts) = read(rows).unwrap().change else { panic!("no contacts in {rows}") };
        let text = |contact: &Contact| String::from_utf8(contact.uri.to_vec()).unwrap();
        contacts.iter().map(|contact| (text(contact), contact.q, contact.expires)).collect()
    }

    #[test]
    fn a_register_is_read_with_its_canonical_address_of_record() {
        let registration = read("Contact: <sip:bob@192.0.2.1>\r\n").unwrap();
        assert_eq!(registration.address_of_record.to_string(), "bob@a.test");
        assert_eq!((&*registration.call_id, registration.cseq), (&b"c"[..], 7));
        assert_eq!(registration.account, Some(AccountId(3)));
        assert!(registration.path.is_empty());
    }

    #[test]
    fn each_contact_has_its_own_interval_or_that_of_the_header() {
        let rows = "Expires: 300\r\nm: \"B, o\" <sip:b@h;transport=tcp>;q=0.5;expires=60 , sip:c@h;x=1\r\n\
                    Contact: <sips:d@h>;expires=\"soon\"\r\nContact: <sip:e@h>;expires=99999999999\r\n";
        let expected = [
            ("sip:b@h;transport=tcp".to_owned(), 500, Some(60)),
            ("sip:c@h".to_owned(), 1000, Some(300)),
            ("sips:d@h".to_owned(), 1000, Some(3600)),
            ("sip:e@h".to_owned(), 1000, Some(u32::MAX)),
        ];
        assert_eq!(contacts(rows), expected);
        assert_eq!(contacts("Contact: <sip:b@h>\r\n"), [("sip:b@h".to_owned(), 1000, None)]);
    }

    #[test]
    fn what_a_contact_header_can_ask_for() {
        assert_eq!(read("").unwrap().change, Change::Nothing);
        assert_eq!(read("Expires: 5\r\n").unwrap().change, Change::Nothing);
        assert_eq!(read("Contact: *\r\nExpires: 0\r\n").unwrap().change, Change::RemoveAll);
    }

    #[test]
    fn faults_are_named() {
        let table = [
            ("Contact: *\r\n", 400, "Contact * Needs Expires 0"),
            ("Contact: *\r\nExpires: 60\r\n", 400, "Contact * Needs Expires 0"),
            ("Contact: *, <sip:b@h>\r\nExpires: 0\r\n", 400, "Contact * Is Not Alone"),
            ("Contact: <sip:b@h>\r\nContact: *\r\nExpires: 0\r\n", 400, "Contact * Is Not Alone"),
            ("Contact: *, *\r\nExpires: 0\r\n", 400, "Contact * Is Not Alone"),
            ("Contact: <sip:b@h>\r\nExpires: soon\r\n", 400, "Malformed Expires"),
            ("Contact: <sip:b@h>;q=1.5\r\n", 400, "Malformed q Value Of Contact"),
            ("Contact: <sip:b@h>;q\r\n", 400, "Malformed q Value Of Contact"),
            ("Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E\r\n", 400, "Malformed Contact"),
            ("Contact: <sip:b@h>,\r\n", 400, "Malformed Contact"),
            ("Contact:\r\n", 400, "Malformed Contact"),
            ("Contact: <mailto:b@h>\r\n", 403, "Contact Is No SIP URI"),
            ("Path: <sip:p;lr>, nonsense\r\nContact: <sip:b@h>\r\n", 400, "Malformed Path"),
            ("Require: path, Gruu, outbound, x\r\nContact: <sip:b@h>\r\n", 420, "Bad Extension"),
        ];
        for (rows, status, reason) in table {
            let reply = read(rows).unwrap_err();
            assert_eq!((reply.status, reply.reason), (status, reason), "{rows}");
        }
        assert_eq!(
            read("Require: path, x\r\nRequire: Gruu, y\r\n").unwrap_err().rows[0],
            ("Unsupported", "x,y".to_owned())
        );
    }

    #[test]
    fn path_values_are_kept_in_order_and_unfolded() {
        let rows = "Require: path\r\nPath: <sip:p1.test;lr>,\r\n <sip:p2.test;lr>;a=\r\n b\r\nContact: <sip:b@h>\r\n";
        let registration = read(rows).unwrap();
        assert_eq!(*registration.path, [&b"<sip:p1.test;lr>"[..], b"<sip:p2.test;lr>;a=   b"]);
    }
}
