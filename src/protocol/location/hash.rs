//! Hashing of what peers choose, keyed so that they cannot choose collisions.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// SipHash-1-3 under a key that the owner of the process has drawn, so that equal runs stay equal.
#[derive(Clone, Copy)]
pub(super) struct KeyedHash(pub(super) [u8; 16]);

impl BuildHasher for KeyedHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// Written by hand so that no log line can show the key.
impl std::fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedHash(..)")
    }
}
