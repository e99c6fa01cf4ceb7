//! GRUUs (RFC 5627): URIs of ours that lead to one instance of a user agent.
//!
//! A public GRUU is the address-of-record with the instance as `gr` (Appendix A.1). A temporary one hides both. It
//! carries, encrypted and authenticated, a number that stands for the instance while that is registered, as in
//! Appendix A.2: so all of them are short and equally long, whatever the names, and nothing is kept for any of them
//! but the number, with the bindings.

use std::num::NonZeroU64;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip128::SipHasher24;

use super::bindings::{Binding, Bindings};
use super::{AddressOfRecord, Destination, InstanceId, Registration};
use crate::protocol::message::uri::{Uri, push_escaped};

/// What the user part of a temporary GRUU begins with.
const PREFIX: &str = "tgruu.";

const NONCE: usize = 12;
const SERIES: usize = size_of::<u64>();
const TAG: usize = 16;
const OCTETS: usize = NONCE + SERIES + TAG;

/// The key of temporary GRUUs. One that outlives a restart keeps those good that lead to bindings which do.
#[derive(Clone)]
pub struct GruuKey(pub [u8; 32]);

/// Written by hand so that no log line can show the key.
impl std::fmt::Debug for GruuKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GruuKey(..)")
    }
}

/// The temporary GRUUs of an instance that are good together: those of one registration under one Call-ID
/// (RFC 5627 §3.2). Drawn at random, never to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series(pub NonZeroU64);

/// Makes and reads temporary GRUUs.
pub(super) struct Gruus {
    key: LessSafeKey,
    seed: [u8; 16],
    drawn: u64,
}

impl std::fmt::Debug for Gruus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gruus").field("drawn", &self.drawn).finish_non_exhaustive()
    }
}

impl Gruus {
    /// `seed` must never have been used before.
    pub(super) fn new(key: &GruuKey, seed: [u8; 16]) -> Self {
        let key =
            UnboundKey::new(&AES_256_GCM_SIV, &key.0).expect("the key has the length of the algorithm's");
        Self { key: LessSafeKey::new(key), seed, drawn: 0 }
    }

    /// Octets that do not come again and do not tell their order.
    fn draw(&mut self) -> [u8; 16] {
        self.drawn += 1;
        SipHasher24::new_with_key(&self.seed).hash(&self.drawn.to_be_bytes()).as_bytes()
    }

    /// A series that there has not been.
    pub(super) fn next_series(&mut self) -> Series {
        let number = u128::from_be_bytes(self.draw()) as u64;
        Series(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// A new temporary GRUU of the series, in the domain of `name`.
    pub(super) fn temporary(&mut self, name: &AddressOfRecord, series: Series, is_secure: bool) -> String {
        let drawn = self.draw();
        let mut octets = [0; OCTETS];
        let (nonce, rest) = octets.split_at_mut(NONCE);
        let (content, tag) = rest.split_at_mut(SERIES);
        nonce.copy_from_slice(&drawn[..NONCE]);
        content.copy_from_slice(&series.0.get().to_be_bytes());
        let nonce = Nonce::try_assume_unique_for_key(nonce).expect("the nonce has the right length");
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(name.domain()), content);
        tag.copy_from_slice(sealed.expect("eight octets are no too long text").as_ref());
        let domain = String::from_utf8_lossy(name.domain());
        format!("{}:{PREFIX}{}@{domain};gr", scheme(is_secure), URL_SAFE_NO_PAD.encode(octets))
    }

    /// The series of a temporary GRUU, of which `name` is user and domain; `None` where we have not made it.
    pub(super) fn series_of(&self, name: &AddressOfRecord) -> Option<Series> {
        let mut octets = [0; OCTETS];
        let text = name.user().strip_prefix(PREFIX.as_bytes())?;
        URL_SAFE_NO_PAD.decode_slice(text, &mut octets).ok().filter(|&length| length == OCTETS)?;
        let (nonce, rest) = octets.split_at(NONCE);
        let (content, tag) = rest.split_at(SERIES);
        let mut series = [0; SERIES];
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        self.key.open_separate_gather(nonce, Aad::from(name.domain()), content, tag, &mut series).ok()?;
        NonZeroU64::new(u64::from_be_bytes(series)).map(Series)
    }

    /// Whether a contact of `name` would lead back to it: its own URI, or a GRUU of it (RFC 5627 §5.1).
    pub(super) fn leads_back(&self, contact: &[u8], name: &AddressOfRecord, bindings: &Bindings) -> bool {
        let Ok(uri) = Uri::parse(contact) else { return false };
        match Destination::of(&uri) {
            Destination::Instance(owner, _) => owner == *name,
            Destination::Temporary(found) => {
                self.series_of(&found).and_then(|series| bindings.owner_of(series)) == Some(name)
            }
            Destination::User(owner) => {
                let own = address(name, uri.is_secure);
                owner == *name && Uri::parse(own.as_bytes()).is_ok_and(|own| own.is_equivalent(&uri))
            }
        }
    }

    /// Gives `new`, and the bindings of its instance in `list`, the series that is good once `registration` has been
    /// carried out: a new one where the contact comes under another Call-ID than before (RFC 5627 §5.1).
    pub(super) fn settle(&mut self, list: &mut [Binding], new: &mut Binding, registration: &Registration) {
        let Some(details) = new.details() else { return };
        let Some(instance) = &details.instance else { return };
        let of_instance = |known: &&Binding| known.instance() == Some(instance);
        let known = list.iter().rev().filter(of_instance);
        let is_same_flow = |known: &&Binding| details.reg_id.is_none() || known.reg_id() == details.reg_id;
        let previous = known.clone().find(is_same_flow);
        let is_void = previous.is_some_and(|previous| *previous.call_id() != *registration.call_id);
        let series = known.filter(|_| !is_void).find_map(Binding::series);
        let series = series.or_else(|| registration.supports.gruu.then(|| self.next_series()));
        for known in list.iter_mut().filter(|known| known.instance() == Some(instance)) {
            known.set_series(series);
        }
        new.set_series(series);
    }
}

/// The public GRUU of an instance.
pub(super) fn public(name: &AddressOfRecord, instance: &InstanceId, is_secure: bool) -> String {
    let mut out = address(name, is_secure);
    out.push_str(";gr=");
    push_escaped(&mut out, instance.as_bytes(), b"-_.!~*'()[]/:&+$");
    out
}

/// Whether `name` is that of a temporary GRUU, as far as can be told without the key.
pub(super) fn may_be_temporary(name: &AddressOfRecord) -> bool {
    name.user().starts_with(PREFIX.as_bytes())
}

/// The address-of-record as a URI.
fn address(name: &AddressOfRecord, is_secure: bool) -> String {
    let mut out = format!("{}:", scheme(is_secure));
    if !name.user().is_empty() {
        push_escaped(&mut out, name.user(), b"-_.!~*'()&=+$,;?/");
        out.push('@');
    }
    out.push_str(&String::from_utf8_lossy(name.domain()));
    out
}

const fn scheme(is_secure: bool) -> &'static str {
    if is_secure { "sips" } else { "sip" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AddressOfRecord {
        AddressOfRecord::from_uri(&Uri::parse(text.as_bytes()).unwrap())
    }

    fn gruus() -> Gruus {
        Gruus::new(&GruuKey([7; 32]), [1; 16])
    }

    #[test]
    fn a_public_gruu_is_read_back_whatever_the_names_are() {
        let table = [
            ("sip:bob@a.test", "urn:uuid:f81d4fae-7dec", "sip:bob@a.test;gr=urn:uuid:f81d4fae-7dec"),
            (
                "sip:%20b%40b@A.test",
                "urn:x:a;b,c@d?e=f%20",
                "sip:%20b%40b@a.test;gr=urn:x:a%3Bb%2Cc%40d%3Fe%3Df%2520",
            ),
        ];
        for (of, instance, expected) in table {
            let (of, instance) = (name(of), InstanceId::new(instance.as_bytes()));
            let written = public(&of, &instance, false);
            assert_eq!(written, expected);
            let read = Destination::of(&Uri::parse(written.as_bytes()).unwrap());
            assert_eq!(read, Destination::Instance(of.clone(), instance.clone()));
            assert_eq!(public(&of, &instance, true), expected.replacen("sip:", "sips:", 1));
        }
    }

    #[test]
    fn a_temporary_gruu_is_read_back_and_two_have_nothing_in_common() {
        let mut gruus = gruus();
        let series = gruus.next_series();
        let (short, long) = (name("sip:x@a.test"), name("sip:a-much-longer-name@a.test"));
        let mut seen = std::collections::BTreeSet::new();
        for of in [&short, &short, &long] {
            let written = gruus.temporary(of, series, false);
            assert_eq!(written.len(), "sip:tgruu.".len() + 48 + "@a.test;gr".len());
            let Destination::Temporary(found) = Destination::of(&Uri::parse(written.as_bytes()).unwrap())
            else {
                panic!("{written}")
            };
            assert_eq!(gruus.series_of(&found), Some(series));
            let octets = URL_SAFE_NO_PAD.decode(&found.user()[PREFIX.len()..]).unwrap();
            // No piece of four octets comes twice: neither nonce nor content shows.
            assert!(octets.chunks_exact(4).all(|piece| seen.insert(piece.to_vec())), "{written}");
        }
        assert_ne!(gruus.next_series(), series);
    }

    #[test]
    fn what_we_have_not_made_is_no_temporary_gruu() {
        let mut gruus = gruus();
        let series = gruus.next_series();
        let written = gruus.temporary(&name("sip:x@a.test"), series, false);
        let user = written.split([':', '@']).nth(1).unwrap();
        let read = |user: &str, domain: &str| gruus.series_of(&name(&format!("sip:{user}@{domain}")));
        assert_eq!(read(user, "A.TEST"), Some(series));
        assert_eq!(read(user, "b.test"), None);
        assert_eq!(read(&user[..user.len() - 1], "a.test"), None);
        assert_eq!(read(&format!("{user}A"), "a.test"), None);
        for at in PREFIX.len()..user.len() {
            let mut forged = user.as_bytes().to_vec();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(read(std::str::from_utf8(&forged).unwrap(), "a.test"), None, "{at}");
        }
        let other = Gruus::new(&GruuKey([8; 32]), [1; 16]);
        assert_eq!(other.series_of(&name(&written)), None);
    }
}
