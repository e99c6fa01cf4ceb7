//! Numbers that nobody outside can foresee.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// Numbers that tell nothing of each other, though they are seen in branches and nonces: a counter under a key
/// (SipHash).
#[derive(Clone, Debug)]
pub(super) struct Random {
    key: [u8; 16],
    count: u64,
}

impl Random {
    /// The sequence of `key` from `count` on, which must differ between users of one key.
    pub(super) const fn new(key: [u8; 16], count: u64) -> Self {
        Self { key, count }
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(b"random");
        hasher.write(&self.count.to_be_bytes());
        hasher.finish()
    }
}
