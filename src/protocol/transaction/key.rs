//! What finds a transaction: [`TransactionKey`] for requests (RFC 3261 §17.2.3), [`Branch`] for responses
//! (§17.1.3).

use bytes::BufMut;
use siphasher::sip128::SipHasher24;
use smallvec::SmallVec;

/// The magic cookie that opens each branch parameter since RFC 3261 (§8.1.1.7).
const COOKIE: &[u8] = b"z9hG4bK";

/// Stands for the fields by which a request is matched to its server transaction (§17.2.3).
///
/// A hash of 128 bits in place of the fields saves their storage and comparison. It may: under a random key
/// that no peer can learn (keys never leave the process) two different requests collide with probability
/// 2⁻¹²⁸, and nobody can search for a collision; among a million live transactions there is one with
/// probability below 2⁻⁸⁸.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionKey(pub u128);

/// What a request without the magic cookie is matched by (RFC 2543, §17.2.3). All as received.
#[derive(Clone, Copy, Debug)]
pub struct LegacyKey<'a> {
    /// The Request-URI.
    pub request_uri: &'a [u8],
    /// The To tag, empty if there is none.
    pub to_tag: &'a [u8],
    /// The From tag, empty if there is none.
    pub from_tag: &'a [u8],
    /// The Call-ID.
    pub call_id: &'a [u8],
    /// The number in CSeq.
    pub cseq_number: u32,
    /// The whole of the top Via's value.
    pub top_via: &'a [u8],
}

/// Makes [`TransactionKey`]s; one per process, its key drawn at random at the start.
#[derive(Clone)]
pub struct KeyHasher(SipHasher24);

impl KeyHasher {
    /// With this secret key.
    pub fn new(key: [u8; 16]) -> Self {
        Self(SipHasher24::new_with_key(&key))
    }

    /// The key of the server transaction that a request belongs to.
    ///
    /// `branch`, `host` and `port` are those of the top Via (`port` only if written there), without regard to
    /// case (§7.3.1). ACK counts as INVITE. With `method` INVITE for a CANCEL, the result is the key of what
    /// it cancels (§9.2). `legacy` is asked for only if the branch lacks the cookie or has nothing behind it.
    ///
    /// In the legacy form the To tag counts for neither INVITE nor ACK: an ACK carries the tag of the
    /// response, the INVITE that it must find does not. What the tag would tell apart, an ACK to a 2xx from
    /// one to a refusal, the machine's state tells (RFC 6026 §6).
    pub fn server<'a>(
        &self,
        branch: Option<&[u8]>,
        host: &[u8],
        port: Option<u16>,
        method: &[u8],
        legacy: impl FnOnce() -> LegacyKey<'a>,
    ) -> TransactionKey {
        let method = if method == b"ACK" { b"INVITE" } else { method };
        let mut fields = Fields(SmallVec::new());
        match branch.filter(|branch| has_cookie(branch)) {
            Some(branch) => {
                fields.number(3261);
                fields.caseless(branch);
                fields.caseless(host);
                // Port 0 is nobody's, so it can stand for none.
                fields.number(u32::from(port.unwrap_or(0)));
            }
            None => {
                let legacy = legacy();
                fields.number(2543);
                fields.exact(legacy.request_uri);
                fields.exact(if method == b"INVITE" { b"" } else { legacy.to_tag });
                fields.exact(legacy.from_tag);
                fields.exact(legacy.call_id);
                fields.number(legacy.cseq_number);
                fields.exact(legacy.top_via);
            }
        }
        fields.exact(method);
        TransactionKey(self.0.hash(&fields.0).as_u128())
    }
}

/// Written by hand so that no log line can show the key.
impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHasher(..)")
    }
}

/// Whether a branch is one of RFC 3261's: the cookie and something behind it. The cookie alone names nothing
/// (RFC 4475 §3.2.1).
fn has_cookie(branch: &[u8]) -> bool {
    branch.len() > COOKIE.len() && branch[..COOKIE.len()].eq_ignore_ascii_case(COOKIE)
}

/// What is hashed: each field with its length, so that no two sequences of fields give the same octets. Put together
/// first, since feeding a hash in many steps is much code to read.
struct Fields(SmallVec<[u8; 192]>);

impl Fields {
    fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_ne_bytes());
    }

    fn exact(&mut self, field: &[u8]) {
        self.0.extend_from_slice(&field.len().to_ne_bytes());
        self.0.extend_from_slice(field);
    }

    fn caseless(&mut self, field: &[u8]) {
        self.exact(field);
        let begin = self.0.len() - field.len();
        self.0[begin..].make_ascii_lowercase();
    }
}

/// The branch parameter of our own Via: names the client transaction and carries the loop hash.
///
/// `z9hG4bK`, then router, slot and generation as 2 + 8 + 8 digits, a dot, and the loop hash as 16, all
/// lower-case hexadecimal of fixed width. A response finds its transaction without a search.
///
/// A branch must be unique across space and time (§8.1.1.7): let `generation` begin at a random number in
/// each process, or one that has just been restarted repeats the branches of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Branch {
    /// The router that holds the transaction.
    pub router: u8,
    /// Its place in that router's table.
    pub slot: u32,
    /// Tells the transactions apart that have the same place one after another.
    pub generation: u32,
    /// What the request's way depends on, hashed: the same again is a loop (RFC 5393 §4.2.1). Not the method,
    /// so that CANCEL and ACK have their INVITE's branch.
    pub loop_hash: u64,
}

impl Branch {
    /// The length of the written form, in octets.
    pub const LENGTH: usize = COOKIE.len() + 2 + 8 + 8 + 1 + 16;

    /// The written form.
    pub fn to_octets(&self) -> [u8; Self::LENGTH] {
        let mut octets = [b'.'; Self::LENGTH];
        let (cookie, rest) = octets.split_at_mut(COOKIE.len());
        cookie.copy_from_slice(COOKIE);
        write_hex(&mut rest[..2], u64::from(self.router));
        write_hex(&mut rest[2..10], u64::from(self.slot));
        write_hex(&mut rest[10..18], u64::from(self.generation));
        write_hex(&mut rest[19..], self.loop_hash);
        octets
    }

    /// Appends the written form.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_slice(&self.to_octets());
    }

    /// Reads the written form, without regard to case (§7.3.1); `None` if it is not exactly one of ours.
    pub fn parse(branch: &[u8]) -> Option<Self> {
        if branch.len() != Self::LENGTH || !has_cookie(branch) {
            return None;
        }
        let rest = &branch[COOKIE.len()..];
        if rest[18] != b'.' {
            return None;
        }
        Some(Self {
            router: u8::try_from(read_hex(&rest[..2])?).ok()?,
            slot: u32::try_from(read_hex(&rest[2..10])?).ok()?,
            generation: u32::try_from(read_hex(&rest[10..18])?).ok()?,
            loop_hash: read_hex(&rest[19..])?,
        })
    }
}

fn write_hex(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

/// At most 16 digits, by the callers' slices.
fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, &digit| Some(number << 4 | u64::from(char::from(digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BRANCH: &[u8] = b"z9hG4bK776asdhds";

    fn hasher() -> KeyHasher {
        KeyHasher::new([7; 16])
    }

    fn unneeded() -> LegacyKey<'static> {
        panic!("a branch with the cookie needs no other field")
    }

    fn key(branch: &[u8], host: &[u8], port: Option<u16>, method: &[u8]) -> TransactionKey {
        hasher().server(Some(branch), host, port, method, unneeded)
    }

    const LEGACY: LegacyKey<'static> = LegacyKey {
        request_uri: b"sip:bob@b.test",
        to_tag: b"",
        from_tag: b"1",
        call_id: b"call@a.test",
        cseq_number: 7,
        top_via: b"SIP/2.0/UDP a.test",
    };

    fn legacy_key(method: &[u8], legacy: LegacyKey<'_>) -> TransactionKey {
        hasher().server(None, b"a.test", None, method, || legacy)
    }

    #[test]
    fn repeated_request_has_the_same_key_in_any_case_of_branch_and_host() {
        let first = key(BRANCH, b"a.test", Some(5060), b"MESSAGE");
        assert_eq!(key(BRANCH, b"a.test", Some(5060), b"MESSAGE"), first);
        assert_eq!(key(b"Z9HG4BK776ASDHDS", b"A.Test", Some(5060), b"MESSAGE"), first);
    }

    #[test]
    fn branch_sent_by_and_method_tell_requests_apart() {
        let first = key(BRANCH, b"a.test", Some(5060), b"INVITE");
        let others = [
            key(b"z9hG4bK776asdhdt", b"a.test", Some(5060), b"INVITE"),
            key(BRANCH, b"b.test", Some(5060), b"INVITE"),
            key(BRANCH, b"a.test", Some(5062), b"INVITE"),
            key(BRANCH, b"a.test", None, b"INVITE"),
            key(BRANCH, b"a.test", Some(5060), b"CANCEL"),
            key(BRANCH, b"a.test", Some(5060), b"invite"),
            key(b"z9hG4bK776asdhdsa", b".test", Some(5060), b"INVITE"),
            KeyHasher::new([8; 16]).server(Some(BRANCH), b"a.test", Some(5060), b"INVITE", unneeded),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, first, "{index}");
        }
    }

    #[test]
    fn ack_has_the_key_of_its_invite() {
        assert_eq!(key(BRANCH, b"a.test", None, b"ACK"), key(BRANCH, b"a.test", None, b"INVITE"));
        let ack = LegacyKey { to_tag: b"of the response", ..LEGACY };
        assert_eq!(legacy_key(b"ACK", ack), legacy_key(b"INVITE", LEGACY));
    }

    #[test]
    fn each_field_tells_requests_without_the_cookie_apart() {
        let first = legacy_key(b"BYE", LEGACY);
        let others = [
            legacy_key(b"BYE", LegacyKey { request_uri: b"sip:Bob@b.test", ..LEGACY }),
            legacy_key(b"BYE", LegacyKey { to_tag: b"2", ..LEGACY }),
            legacy_key(b"BYE", LegacyKey { from_tag: b"2", ..LEGACY }),
            legacy_key(b"BYE", LegacyKey { call_id: b"other@a.test", ..LEGACY }),
            legacy_key(b"BYE", LegacyKey { cseq_number: 8, ..LEGACY }),
            legacy_key(b"BYE", LegacyKey { top_via: b"SIP/2.0/UDP c.test", ..LEGACY }),
            legacy_key(b"OPTIONS", LEGACY),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, first, "{index}");
        }
    }

    #[test]
    fn a_branch_that_names_nothing_counts_as_none() {
        let none = legacy_key(b"BYE", LEGACY);
        for branch in [&b""[..], b"1", b"z9hG4bK", b"z9hG4b", b"xz9hG4bK1"] {
            assert_eq!(hasher().server(Some(branch), b"a.test", None, b"BYE", || LEGACY), none);
        }
    }

    #[test]
    fn fields_longer_than_a_chunk_count_to_their_ends() {
        let (mut long, mut other) = (b"z9hG4bK".to_vec(), b"z9hG4bK".to_vec());
        long.extend([b'a'; 200]);
        other.extend([b'a'; 199]);
        other.push(b'b');
        assert_ne!(key(&long, b"a.test", None, b"BYE"), key(&other, b"a.test", None, b"BYE"));
        assert_eq!(
            key(&long.to_ascii_uppercase(), b"a.test", None, b"BYE"),
            key(&long, b"a.test", None, b"BYE")
        );
    }

    #[test]
    fn a_branch_is_written_in_fixed_width_and_read_in_any_case() {
        let branch = Branch { router: 1, slot: 0xab, generation: u32::MAX, loop_hash: 0x0123_4567_89ab_cdef };
        let written = b"z9hG4bK01000000abffffffff.0123456789abcdef";
        assert_eq!(branch.to_octets().as_slice(), written);
        assert_eq!(Branch::parse(written), Some(branch));
        assert_eq!(Branch::parse(&written.to_ascii_uppercase()), Some(branch));
    }

    #[test]
    fn what_is_not_exactly_a_branch_of_ours_is_none() {
        let written = Branch { router: 1, slot: 2, generation: 3, loop_hash: 4 }.to_octets();
        for at in 0..written.len() {
            let mut broken = written;
            broken[at] = b'g';
            // A `g` at the place of the cookie's own is a matter of case.
            assert_eq!(Branch::parse(&broken).is_some(), at == 3, "{at}");
            assert_eq!(Branch::parse(&written[..at]), None);
        }
        assert_eq!(Branch::parse(&[&written[..], b"0"].concat()), None);
        assert_eq!(Branch::parse(b"z9hG4bK+1000000abffffffff.0123456789abcdef"), None);
    }

    proptest! {
        #[test]
        fn every_branch_is_read_as_written(router: u8, slot: u32, generation: u32, loop_hash: u64) {
            let branch = Branch { router, slot, generation, loop_hash };
            let mut out = bytes::BytesMut::new();
            branch.write(&mut out);
            prop_assert_eq!(out.len(), Branch::LENGTH);
            prop_assert_eq!(Branch::parse(&out), Some(branch));
        }

        #[test]
        fn no_branch_and_no_field_panics(branch: Vec<u8>, host: Vec<u8>, port: Option<u16>, method: Vec<u8>) {
            let _ = Branch::parse(&branch);
            let first = hasher().server(Some(&branch), &host, port, &method, || LEGACY);
            prop_assert_eq!(hasher().server(Some(&branch), &host, port, &method, || LEGACY), first);
        }
    }
}
