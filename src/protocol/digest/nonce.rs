//! Nonces that carry their own proof of origin, so that a challenge costs no memory (RFC 7616 §5.4, §5.12).

use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use siphasher::sip::SipHasher13;

use crate::protocol::flow::host_of;

/// Octets of the time, of the random number, and of the code over both.
const TIME: usize = 8;
const RANDOM: usize = 8;
const CODE: usize = 16;
/// All of them, and their length in base64 without padding.
const NONCE: usize = TIME + RANDOM + CODE;
const ENCODED: usize = (NONCE * 4).div_ceil(3);

/// How far another core's clock reading may be ahead of ours, in milliseconds.
const CLOCK_TOLERANCE: u64 = 1000;

/// Makes and recognises nonces: the time of minting, a random number, and a keyed code over both.
///
/// Times are milliseconds of one clock, which need not be the wall's.
#[derive(Clone)]
pub struct Nonces {
    code: Hmac<Sha256>,
    /// Of [`Self::origin_of`].
    origin_key: [u8; 16],
    lifetime: u64,
}

/// Which nonce; ordered by the time of minting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NonceId {
    minted: u64,
    random: u64,
}

/// What a nonce in credentials is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceVerdict {
    /// Ours and young enough.
    Valid(NonceId),
    /// Ours but too old: the answer may be right, so a new challenge says `stale=true`.
    Stale(NonceId),
    /// Not ours, or made before the key was drawn.
    Forged,
}

impl NonceId {
    /// When it was minted, in the milliseconds given to [`Nonces::mint`].
    pub const fn minted_millis(self) -> u64 {
        self.minted
    }

    /// Whom it was minted for, by [`Nonces::origin_of`]: who answers it from there has got the challenge there.
    pub const fn origin(self) -> u16 {
        (self.random >> 48) as u16
    }

    /// No nonce of this millisecond is later.
    pub(super) const fn last_of(millis: u64) -> Self {
        Self { minted: millis, random: u64::MAX }
    }

    /// Whether it is too old at `now`, in milliseconds as `lifetime` is.
    pub(super) const fn is_expired(self, now: u64, lifetime: u64) -> bool {
        now.saturating_sub(self.minted) > lifetime
    }
}

impl Nonces {
    /// With a key drawn at random at the start of the process; nonces of earlier processes are [`Forged`].
    ///
    /// [`Forged`]: NonceVerdict::Forged
    pub fn new(key: [u8; 32], lifetime: Duration) -> Self {
        let code = Hmac::new_from_slice(&key).expect("HMAC takes keys of any length");
        let (mut origin_key, half) = ([0; 16], &key[..16]);
        origin_key.copy_from_slice(half);
        Self { code, origin_key, lifetime: whole_millis(lifetime) }
    }

    /// From now on, nonces are accepted for so long, also those that were made before.
    pub fn set_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = whole_millis(lifetime);
    }

    /// What stands for an address in the nonces that are minted for it.
    pub fn origin_of(&self, address: IpAddr) -> u16 {
        let mut hasher = SipHasher13::new_with_key(&self.origin_key);
        host_of(address).hash(&mut hasher);
        hasher.finish() as u16
    }

    /// A new nonce for this origin, 43 characters of base64url. The upper 48 bits of `random` must not repeat within a
    /// millisecond.
    pub fn mint(&self, now_millis: u64, origin: u16, random: u64) -> String {
        let random = u64::from(origin) << 48 | random >> 16;
        let mut octets = [0; NONCE];
        octets[..TIME].copy_from_slice(&now_millis.to_be_bytes());
        octets[TIME..TIME + RANDOM].copy_from_slice(&random.to_be_bytes());
        let (message, code) = octets.split_at_mut(TIME + RANDOM);
        let whole = self.code.clone().chain_update(&*message).finalize().into_bytes();
        code.copy_from_slice(&whole[..CODE]);
        URL_SAFE_NO_PAD.encode(octets)
    }

    /// What a nonce that a client has sent is worth now.
    pub fn check(&self, nonce: &[u8], now_millis: u64) -> NonceVerdict {
        let Some(id) = self.authentic(nonce) else { return NonceVerdict::Forged };
        let from_the_future = id.minted > now_millis.saturating_add(CLOCK_TOLERANCE);
        if from_the_future || id.is_expired(now_millis, self.lifetime) {
            NonceVerdict::Stale(id)
        } else {
            NonceVerdict::Valid(id)
        }
    }

    /// Whether a nonce in credentials is one of ours, however old.
    pub fn is_ours(&self, nonce: &[u8]) -> bool {
        self.authentic(nonce).is_some()
    }

    fn authentic(&self, nonce: &[u8]) -> Option<NonceId> {
        if nonce.len() != ENCODED {
            return None;
        }
        let mut octets = [0; NONCE];
        URL_SAFE_NO_PAD.decode_slice(nonce, &mut octets).ok().filter(|&length| length == NONCE)?;
        let (message, code) = octets.split_at(TIME + RANDOM);
        self.code.clone().chain_update(message).verify_truncated_left(code).ok()?;
        let (minted, random) = message.split_at(TIME);
        Some(NonceId {
            minted: u64::from_be_bytes(minted.try_into().ok()?),
            random: u64::from_be_bytes(random.try_into().ok()?),
        })
    }
}

/// Written by hand so that no log line can show the key.
impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

pub(super) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn nonces() -> Nonces {
        Nonces::new([1; 32], MINUTE)
    }

    #[test]
    fn a_nonce_is_valid_for_its_lifetime_and_stale_after() {
        let nonce = nonces().mint(100_000, 7, 42 << 16);
        let id = NonceId { minted: 100_000, random: 7 << 48 | 42 };
        for (now, is_valid) in [
            (100_000, true),
            (160_000, true),
            (160_001, false),
            (u64::MAX, false),
            (99_000, true),
            (98_999, false),
            (0, false),
        ] {
            let verdict = if is_valid { NonceVerdict::Valid(id) } else { NonceVerdict::Stale(id) };
            assert_eq!(nonces().check(nonce.as_bytes(), now), verdict, "{now}");
        }
    }

    #[test]
    fn a_nonce_needs_no_quoting_and_repeats_no_other() {
        let nonce = nonces().mint(u64::MAX, u16::MAX, u64::MAX);
        assert_eq!(nonce.len(), ENCODED);
        assert!(nonce.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)));
        assert_ne!(nonces().mint(7, 0, 1 << 16), nonces().mint(7, 0, 2 << 16));
        assert_ne!(nonces().mint(7, 0, 1 << 16), nonces().mint(8, 0, 1 << 16));
    }

    #[test]
    fn a_nonce_of_another_key_is_forged() {
        let nonce = Nonces::new([2; 32], MINUTE).mint(0, 0, 0);
        assert_eq!(nonces().check(nonce.as_bytes(), 0), NonceVerdict::Forged);
    }

    #[test]
    fn a_changed_nonce_is_forged() {
        let nonce = nonces().mint(1_000_000, 0, 42).into_bytes();
        for at in 0..nonce.len() {
            let mut changed = nonce.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(nonces().check(&changed, 1_000_000), NonceVerdict::Forged, "{at}");
            assert_eq!(nonces().check(&nonce[..at], 1_000_000), NonceVerdict::Forged, "{at}");
        }
        assert_eq!(nonces().check(&[&nonce[..], b"="].concat(), 1_000_000), NonceVerdict::Forged);
    }

    #[test]
    fn an_origin_is_that_of_a_host() {
        let origin = |address: &str| nonces().origin_of(address.parse().unwrap());
        assert_eq!(origin("192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::2"));
    }

    #[test]
    fn no_log_line_shows_the_key() {
        assert_eq!(format!("{:?}", nonces()), "Nonces { lifetime: 60000, .. }");
    }

    proptest! {
        #[test]
        fn every_nonce_is_recognised(now: u64, origin: u16, random: u64) {
            let nonce = nonces().mint(now, origin, random);
            let id = NonceId { minted: now, random: u64::from(origin) << 48 | random >> 16 };
            prop_assert_eq!(nonces().check(nonce.as_bytes(), now), NonceVerdict::Valid(id));
            prop_assert_eq!(id.origin(), origin);
            prop_assert_eq!(id.minted_millis(), now);
        }

        #[test]
        fn nothing_else_is(nonce in proptest::collection::vec(any::<u8>(), 0..100), now: u64) {
            prop_assert_eq!(nonces().check(&nonce, now), NonceVerdict::Forged);
        }
    }
}
