//! Whether credentials prove their sender (RFC 7616 §3.4.1).

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

use super::{Algorithm, Credentials};
use crate::protocol::account::Secret;

/// Octets of the longest digest.
const LONGEST: usize = 32;

/// What credentials are held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The account's user name.
    pub user_name: &'a str,
    /// The account's secret.
    pub secret: &'a Secret,
    /// The realm of our challenges.
    pub realm: &'a str,
    /// The request's method.
    pub method: &'a [u8],
    /// The algorithms that are offered: no other is accepted, or an attacker could choose a weaker one.
    pub algorithms: &'a [Algorithm],
}

/// Right credentials, and what they are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// With `qop=auth` and this nonce count.
    Counted(u32),
    /// Without `qop` (RFC 2069): whether that is enough is policy (RFC 8760 §2.6 item 8).
    Uncounted,
}

/// Why credentials prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// They are somebody else's.
    #[error("credentials of another user")]
    OtherUser,
    /// They are for another realm: not meant for us, to be left alone (RFC 3261 §22.3).
    #[error("credentials for another realm")]
    OtherRealm,
    /// The algorithm is not offered.
    #[error("algorithm not offered")]
    AlgorithmNotOffered,
    /// The account has no password, or not its hash by this algorithm.
    #[error("account has no secret for this algorithm")]
    NoSecret,
    /// The sender does not know the password.
    #[error("wrong response")]
    WrongResponse,
}

/// Whether the sender of `credentials` knows the expected secret.
///
/// Takes the digest's `uri` from the credentials; whether that must be the Request-URI is the caller's policy. Tells
/// nothing about the nonce. The responses are compared in constant time.
pub fn verify(credentials: &Credentials<'_>, expected: &Expected<'_>) -> Result<Verified, Refusal> {
    if *credentials.realm != *expected.realm.as_bytes() {
        return Err(Refusal::OtherRealm);
    }
    if *credentials.user_name != *expected.user_name.as_bytes() {
        return Err(Refusal::OtherUser);
    }
    if !expected.algorithms.contains(&credentials.algorithm) {
        return Err(Refusal::AlgorithmNotOffered);
    }
    let identity = identity_hash(credentials.algorithm, expected).ok_or(Refusal::NoSecret)?;
    let right = response(credentials, expected.method, identity.hex());
    if !right.is_written(&credentials.response) {
        return Err(Refusal::WrongResponse);
    }
    Ok(credentials.counted.as_ref().map_or(Verified::Uncounted, |counted| Verified::Counted(counted.count)))
}

/// H(A1): from the password, or as it is configured.
fn identity_hash(algorithm: Algorithm, expected: &Expected<'_>) -> Option<HashValue> {
    match expected.secret {
        Secret::Password(password) => Some(HashValue::of(
            algorithm,
            &[expected.user_name.as_bytes(), expected.realm.as_bytes(), password.as_bytes()],
        )),
        Secret::Hashes { md5, sha256, sha512_256 } => {
            let hash = match algorithm {
                Algorithm::Md5 => md5,
                Algorithm::Sha256 => sha256,
                Algorithm::Sha512_256 => sha512_256,
            };
            HashValue::parse(algorithm, hash.as_ref()?.as_bytes())
        }
        Secret::Address | Secret::Certificate(_) => None,
    }
}

fn response(credentials: &Credentials<'_>, method: &[u8], identity: &[u8]) -> HashValue {
    let request = HashValue::of(credentials.algorithm, &[method, &credentials.uri]);
    let (nonce, request) = (&*credentials.nonce, request.hex());
    match &credentials.counted {
        // The client hashes its own `qop`; whatever its case, `auth` is the only spelling that others hash.
        Some(counted) => HashValue::of(
            credentials.algorithm,
            &[identity, nonce, &counted.digits, &counted.client_nonce, b"auth", request],
        ),
        None => HashValue::of(credentials.algorithm, &[identity, nonce, request]),
    }
}

/// A hash in lower-case hexadecimal, as the next hash takes it.
struct HashValue {
    digits: [u8; 2 * LONGEST],
    length: usize,
}

impl HashValue {
    /// The hash of the parts with colons between them.
    fn of(algorithm: Algorithm, parts: &[&[u8]]) -> Self {
        match algorithm {
            Algorithm::Md5 => Self::by::<Md5>(parts),
            Algorithm::Sha256 => Self::by::<Sha256>(parts),
            Algorithm::Sha512_256 => Self::by::<Sha512_256>(parts),
        }
    }

    fn by<D: Digest>(parts: &[&[u8]]) -> Self {
        let mut hash = D::new();
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                hash.update(b":");
            }
            hash.update(part);
        }
        let octets = hash.finalize();
        let mut digits = [0; 2 * LONGEST];
        for (pair, octet) in digits.chunks_exact_mut(2).zip(octets.iter()) {
            pair.copy_from_slice(&[hex_digit(octet >> 4), hex_digit(octet & 0xf)]);
        }
        Self { digits, length: 2 * octets.len() }
    }

    /// A configured hash; `None` if it is not one of this algorithm's.
    fn parse(algorithm: Algorithm, text: &[u8]) -> Option<Self> {
        let length = match algorithm {
            Algorithm::Md5 => 32,
            Algorithm::Sha256 | Algorithm::Sha512_256 => 64,
        };
        if text.len() != length || !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut digits = [0; 2 * LONGEST];
        digits[..length].copy_from_slice(text);
        digits.make_ascii_lowercase();
        Some(Self { digits, length })
    }

    fn hex(&self) -> &[u8] {
        &self.digits[..self.length]
    }

    /// Whether `text` is this hash, in either case. Takes the same time wherever the first difference is, so that
    /// a response cannot be guessed digit by digit.
    fn is_written(&self, text: &[u8]) -> bool {
        let difference =
            |all: u8, (ours, theirs): (&u8, &u8)| std::hint::black_box(all | (ours ^ theirs.to_ascii_lowercase()));
        text.len() == self.length && self.hex().iter().zip(text).fold(0, difference) == 0
    }
}

const fn hex_digit(value: u8) -> u8 {
    b"0123456789abcdef"[value as usize]
}
