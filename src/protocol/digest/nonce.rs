//! Nonces that carry their own proof of origin, so that a challenge costs no memory (RFC 7616 §5.4, §5.12).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

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
    Stale,
    /// Not ours, or made before the key was drawn.
    Forged,
}

impl NonceId {
    /// When it was minted, in the milliseconds given to [`Nonces::mint`].
    pub const fn minted_millis(self) -> u64 {
        self.minted
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
        Self { code, lifetime: whole_millis(lifetime) }
    }

    /// A new nonce, 43 characters of base64url. `random` must not repeat within a millisecond.
    pub fn mint(&self, now_millis: u64, random: u64) -> String {
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
            NonceVerdict::Stale
        } else {
            NonceVerdict::Valid(id)
        }
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
