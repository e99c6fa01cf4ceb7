//! Instances of user agents, and the Request-URIs that name one (RFC 5626 §4.1, RFC 5627 §6.1).

use std::fmt;

use super::AddressOfRecord;
use super::gruu;
use crate::protocol::message::uri::{Uri, unescape};

/// The name that a user agent keeps for life, a URN, as `+sip.instance` has it between quotes and brackets.
///
/// Compared without case throughout, because the `gr` parameter that carries it is (RFC 3261 §19.1.4): two instances
/// must not have one public GRUU (RFC 5627 §5.4).
#[derive(Clone)]
pub struct InstanceId(Box<[u8]>);

impl InstanceId {
    /// From the name itself.
    pub fn new(name: &[u8]) -> Self {
        Self(name.into())
    }

    /// From the value of a Contact's `+sip.instance` (RFC 5626 §10); `None` where it is none.
    pub fn from_parameter(value: &[u8]) -> Option<Self> {
        let name = value.strip_prefix(b"\"<")?.strip_suffix(b">\"")?;
        (!name.is_empty() && name.iter().all(|&c| is_uric(c))).then(|| Self::new(name))
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A character of `uric` (RFC 3261 §25.1).
const fn is_uric(c: u8) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, b';' | b'/' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',')
        || matches!(c, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' | b'%')
}

impl PartialEq for InstanceId {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for InstanceId {}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

/// Whom a Request-URI of a presence domain means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A user, wherever it is. So is `gr` without a value read, which other servers write.
    User(AddressOfRecord),
    /// One instance of a user: what may be a public GRUU.
    Instance(AddressOfRecord, InstanceId),
    /// What looks like a temporary GRUU of ours, and is a user if it is none.
    Temporary(AddressOfRecord),
}

impl Destination {
    /// Whom `uri` means.
    pub fn of(uri: &Uri<'_>) -> Self {
        let name = AddressOfRecord::from_uri(uri);
        match uri.parameters.get(b"gr").map(|gr| gr.value.unwrap_or_default()) {
            None => Self::User(name),
            Some(b"") if gruu::may_be_temporary(&name) => Self::Temporary(name),
            Some(b"") => Self::User(name),
            Some(value) => Self::Instance(name, InstanceId::new(&unescape(value))),
        }
    }

    /// Whether it is more than a user.
    pub const fn is_instance(&self) -> bool {
        !matches!(self, Self::User(_))
    }

    /// The address-of-record as written in the URI.
    pub const fn name(&self) -> &AddressOfRecord {
        match self {
            Self::User(name) | Self::Instance(name, _) | Self::Temporary(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_what_stands_between_quotes_and_brackets() {
        let good =
            InstanceId::from_parameter(b"\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"").unwrap();
        assert_eq!(good, InstanceId::new(b"urn:uuid:00000000-0000-1000-8000-aabbccddeeff"));
        for bad in [
            "",
            "\"\"",
            "\"<>\"",
            "<urn:x:y>",
            "\"urn:x:y\"",
            "\"<urn:x y>\"",
            "\"<urn:\\\"x>\"",
            "\"<<x>>\"",
        ] {
            assert_eq!(InstanceId::from_parameter(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn only_gr_with_a_value_or_a_name_of_our_making_means_an_instance() {
        let table = [
            ("sip:bob@a.test", "User(\"bob@a.test\")"),
            ("sip:bob@a.test;gruu;opaque=user:epid:x", "User(\"bob@a.test\")"),
            ("sip:bob@a.test;gr", "User(\"bob@a.test\")"),
            ("sip:bob@a.test;gr=", "User(\"bob@a.test\")"),
            ("sip:tgruu.x@a.test", "User(\"tgruu.x@a.test\")"),
            ("sip:tgruu.x@a.test;x=y;GR", "Temporary(\"tgruu.x@a.test\")"),
            ("sip:%62ob@A.test;x=y;gr=urn:x:a%3bb", "Instance(\"bob@a.test\", \"urn:x:a;b\")"),
        ];
        for (text, expected) in table {
            let destination = Destination::of(&Uri::parse(text.as_bytes()).unwrap());
            assert_eq!(format!("{destination:?}"), expected, "{text}");
            assert_eq!(destination.is_instance(), !expected.starts_with("User"), "{text}");
        }
    }
}
