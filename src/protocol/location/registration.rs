//! Reading a REGISTER request (RFC 3261 §10.2, §10.3; RFC 3327).

use bytes::Bytes;
use smallvec::SmallVec;

use super::AddressOfRecord;
use crate::protocol::account::AccountId;
use crate::protocol::message::headers::{delta_seconds, q_value};
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::{Uri, UriFault};
use crate::protocol::message::{Message, Name};

/// Option tags that a REGISTER may require of us.
const EXTENSIONS: [&str; 1] = ["path"];

/// What a malformed `expires` parameter means, in seconds (§10.2.1.1, §20.10).
const MALFORMED_EXPIRES: u32 = 3600;

/// What a REGISTER asks for, read and checked as far as it can be without the bindings.
///
/// Whether its sender may register this address-of-record is decided before, at admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The account that registers; not always the user whose address-of-record it is (§10.2, third party).
    pub account: Option<AccountId>,
    /// From the To header.
    pub address_of_record: AddressOfRecord,
    /// Orders, with `cseq`, the requests of one user agent (§10.2.4).
    pub call_id: Box<[u8]>,
    /// The number of CSeq.
    pub cseq: u32,
    /// The Path values, topmost first, unfolded.
    pub path: Box<[Bytes]>,
    /// What is to be done.
    pub change: Change,
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

/// A value of a Contact header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// A SIP or SIPS URI, valid UTF-8, without line breaks.
    pub uri: Bytes,
    /// Preference in thousandths; 1000 where there is none (§10.2.1.2).
    pub q: u16,
    /// The interval asked for in seconds, by the parameter or else the Expires header.
    pub expires: Option<u32>,
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
        Ok(Self {
            account,
            address_of_record: AddressOfRecord::from_uri(&to),
            call_id: call_id.into(),
            cseq: request.cseq().ok_or_else(|| bad("Malformed CSeq"))?.number,
            path: read_path(request).ok_or_else(|| bad("Malformed Path"))?,
            change: Change::read(request).map_err(bad)?,
        })
    }

    /// Octets that a binding of this request keeps at most, beside its fixed part.
    pub(super) fn kept_bytes(&self) -> usize {
        let longest_contact = match &self.change {
            Change::Nothing | Change::RemoveAll => 0,
            Change::Contacts(contacts) => contacts.iter().map(|contact| contact.uri.len()).max().unwrap_or(0),
        };
        let path: usize = self.path.iter().map(|value| value.len() + size_of::<Bytes>()).sum();
        self.address_of_record.as_bytes().len() + self.call_id.len() + longest_contact + path
    }
}

/// §8.2.2.3: an extension that we lack must not be passed over in silence.
fn check_extensions(request: &Message) -> Result<(), Reply> {
    let is_known = |tag: &[u8]| EXTENSIONS.iter().any(|known| tag.eq_ignore_ascii_case(known.as_bytes()));
    let unsupported: Vec<_> = request
        .values(Name::Require)
        .filter(|tag| !tag.is_empty() && !is_known(tag))
        .map(|tag| one_line(&String::from_utf8_lossy(tag)))
        .collect();
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Reply::new(420).row(Name::Unsupported.as_str(), unsupported.join(", ")))
}

fn read_path(request: &Message) -> Option<Box<[Bytes]>> {
    let read = |value| {
        let address = NameAddr::parse(value)?;
        Uri::parse(address.uri).ok()?;
        Some(Bytes::from(one_line(std::str::from_utf8(value).ok()?)))
    };
    request.values(Name::Path).map(read).collect()
}

/// Without the line breaks of a folded value, which may not enter another message's row.
fn one_line(value: &str) -> String {
    value.replace(['\r', '\n'], " ")
}

impl Change {
    /// Whether it only takes away.
    pub(super) fn is_removal(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::RemoveAll => true,
            Self::Contacts(contacts) => contacts.iter().all(|contact| contact.expires == Some(0)),
        }
    }

    fn read(request: &Message) -> Result<Self, &'static str> {
        let expires = match request.row(Name::Expires) {
            Some(row) => Some(delta_seconds(row).ok_or("Malformed Expires")?),
            None => None,
        };
        let mut contacts = SmallVec::new();
        let mut is_wildcard = false;
        for value in request.values(Name::Contact) {
            if is_wildcard || (value == b"*" && !contacts.is_empty()) {
                return Err("Contact * Is Not Alone");
            }
            is_wildcard = value == b"*";
            if !is_wildcard {
                contacts.push(Contact::read(value, expires)?);
            }
        }
        match (is_wildcard, expires) {
            (true, Some(0)) => Ok(Self::RemoveAll),
            (true, _) => Err("Contact * Needs Expires 0"),
            (false, _) if contacts.is_empty() => Ok(Self::Nothing),
            (false, _) => Ok(Self::Contacts(contacts)),
        }
    }
}

impl Contact {
    fn read(value: &[u8], header_expires: Option<u32>) -> Result<Self, &'static str> {
        let address = NameAddr::parse(value).ok_or("Malformed Contact")?;
        match Uri::parse(address.uri) {
            Ok(_) => {}
            // It could be kept, but no request could be sent to it.
            Err(UriFault::Scheme) => return Err("Contact Is No SIP URI"),
            Err(UriFault::NoScheme | UriFault::Host | UriFault::Parameters) => {
                return Err("Malformed Contact");
            }
        }
        if std::str::from_utf8(address.uri).is_err() {
            return Err("Malformed Contact");
        }
        let q = match address.parameters.get(b"q") {
            Some(q) => q.value.and_then(q_value).ok_or("Malformed q Value Of Contact")?,
            None => 1000,
        };
        let expires = match address.parameters.get(b"expires") {
            Some(own) => Some(own.value.and_then(delta_seconds).unwrap_or(MALFORMED_EXPIRES)),
            None => header_expires,
        };
        Ok(Self { uri: Bytes::copy_from_slice(address.uri), q, expires })
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
            ("Contact: <mailto:b@h>\r\n", 400, "Contact Is No SIP URI"),
            ("Path: <sip:p;lr>, nonsense\r\nContact: <sip:b@h>\r\n", 400, "Malformed Path"),
            ("Require: path, Gruu, x\r\nContact: <sip:b@h>\r\n", 420, "Bad Extension"),
        ];
        for (rows, status, reason) in table {
            let reply = read(rows).unwrap_err();
            assert_eq!((reply.status, reply.reason), (status, reason), "{rows}");
        }
        assert_eq!(
            read("Require: path, Gruu, x\r\n").unwrap_err().rows[0],
            ("Unsupported", "Gruu, x".to_owned())
        );
    }

    #[test]
    fn path_values_are_kept_in_order_and_unfolded() {
        let rows = "Require: path\r\nPath: <sip:p1.test;lr>,\r\n <sip:p2.test;lr>;a=\r\n b\r\nContact: <sip:b@h>\r\n";
        let registration = read(rows).unwrap();
        assert_eq!(*registration.path, [&b"<sip:p1.test;lr>"[..], b"<sip:p2.test;lr>;a=   b"]);
    }
}
