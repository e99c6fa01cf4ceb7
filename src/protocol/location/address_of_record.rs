//! Addresses-of-record in canonical form, the keys of all bindings (RFC 3261 §10.3 step 5).

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::protocol::message::uri::{Uri, unescape};

/// An address-of-record, canonical: the user unescaped and with its case, the domain in lower case; scheme,
/// password, port and parameters dropped. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressOfRecord(Arc<[u8]>);

impl AddressOfRecord {
    /// The address-of-record that `uri` means.
    pub fn from_uri(uri: &Uri<'_>) -> Self {
        let domain = uri.host.to_lowercase();
        let Some(user) = uri.user else {
            return Self(domain.as_slice().into());
        };
        let mut octets = SmallVec::<[u8; 128]>::from_slice(&unescape(user));
        octets.push(b'@');
        octets.extend_from_slice(&domain);
        Self(octets.as_slice().into())
    }

    /// As a URI: [`Self::from_uri`] reads it again.
    pub fn to_uri(&self) -> String {
        let domain = String::from_utf8_lossy(self.domain());
        let domain = if domain.contains(':') { format!("[{domain}]") } else { domain.into_owned() };
        if self.at().is_none() {
            return format!("sip:{domain}");
        }
        let mut uri = "sip:".to_owned();
        for octet in self.user() {
            if octet.is_ascii_alphanumeric() || b"-_.!~*'()+".contains(octet) {
                uri.push(char::from(*octet));
            } else {
                uri.push_str(&format!("%{octet:02X}"));
            }
        }
        uri + "@" + &domain
    }

    /// The one that [`Self::as_bytes`] was taken of.
    pub(super) fn from_canonical(octets: &[u8]) -> Self {
        Self(octets.into())
    }

    /// Sorts before all others; names nobody.
    pub(super) fn least() -> Self {
        Self(Arc::default())
    }

    /// The user part; empty where the address-of-record is a whole domain.
    pub fn user(&self) -> &[u8] {
        &self.0[..self.at().unwrap_or(0)]
    }

    /// The domain.
    pub fn domain(&self) -> &[u8] {
        self.at().map_or(&self.0, |at| &self.0[at + 1..])
    }

    /// `user@domain`, or `domain`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The last `@`: an unescaped user may hold others, a domain none.
    fn at(&self) -> Option<usize> {
        memchr::memrchr(b'@', &self.0)
    }
}

impl fmt::Display for AddressOfRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for AddressOfRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> AddressOfRecord {
        AddressOfRecord::from_uri(&Uri::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn forms_of_one_address_of_record_are_equal() {
        let table = [
            ("sip:%61lice@A.TEST;x=y", "alice@a.test", "alice", "a.test"),
            ("sips:alice:secret@a.test.:5061;gruu;opaque=user:epid:xx", "alice@a.test", "alice", "a.test"),
            ("sip:Alice@a.test", "Alice@a.test", "Alice", "a.test"),
            ("sip:a%40b@a.test?subject=x", "a@b@a.test", "a@b", "a.test"),
            ("sip:A.test", "a.test", "", "a.test"),
            ("sip:x@[2001:DB8:0::1]", "x@2001:db8::1", "x", "2001:db8::1"),
        ];
        for (text, whole, user, domain) in table {
            let found = canonical(text);
            assert_eq!(found.to_string(), whole, "{text}");
            assert_eq!((found.user(), found.domain()), (user.as_bytes(), domain.as_bytes()), "{text}");
        }
    }

    #[test]
    fn any_can_be_written_as_a_uri_and_read_again() {
        for text in [
            "sip:alice@a.test",
            "sip:a.test",
            "sip:a%40b%20%ff%3B@a.test",
            "sip:x@[2001:db8::1]",
            "sip:%25@a.test",
        ] {
            let name = canonical(text);
            assert_eq!(canonical(&name.to_uri()), name, "{text}");
        }
        assert_eq!(canonical("sip:a%40b@a.test").to_uri(), "sip:a%40b@a.test");
        assert_eq!(canonical("sip:+49.30_1@a.test").to_uri(), "sip:+49.30_1@a.test");
    }

    #[test]
    fn users_that_differ_in_case_are_different() {
        assert_ne!(canonical("sip:Alice@a.test"), canonical("sip:alice@a.test"));
        assert_ne!(canonical("sip:a.test"), canonical("sip:x@a.test"));
    }
}
