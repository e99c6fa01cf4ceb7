//! Digest authentication of requests (RFC 7616 as profiled for SIP by RFC 8760 and RFC 3261 §22).
//!
//! The way of a request: [`Credentials::parse`] reads the header, [`Nonces::check`] tells whether the nonce
//! is ours and young, [`verify`] whether the sender knows the password, [`NonceLedger::spend`] whether this
//! answer is used for the first time, in that order: only who knows a password gets an entry in the ledger.
//! Whoever fails gets a [`challenge`].
//!
//! Deliberately absent: Basic (RFC 8760 §2.6 forbids it), `auth-int` (a proxy's challenge must not depend on
//! the body), the `-sess` algorithms and `userhash` (neither is offered, nor seen in SIP),
//! Authentication-Info.

mod credentials;
mod ledger;
mod nonce;
mod verify;

pub use credentials::{Credentials, CredentialsFault, NonceCount};
pub use ledger::{NonceLedger, NonceUse, Spending};
pub use nonce::{NonceId, NonceVerdict, Nonces};
pub use verify::{Expected, Refusal, Verified, verify};

/// A hash algorithm of the "Hash Algorithms for HTTP Digest Authentication" registry (RFC 7616 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// For peers that know no better; what a missing parameter means.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512 with its own initial value, cut to 256 bits (FIPS 180-4 §5.3.6.2).
    Sha512_256,
}

impl Algorithm {
    /// The token of the `algorithm` parameter.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// Reads a token, without regard to case. `None` for the `-sess` variants too.
    pub fn parse(token: &[u8]) -> Option<Self> {
        [Self::Md5, Self::Sha256, Self::Sha512_256]
            .into_iter()
            .find(|algorithm| token.eq_ignore_ascii_case(algorithm.token().as_bytes()))
    }
}

/// The values of the WWW-Authenticate or Proxy-Authenticate headers of one challenge, one per algorithm.
///
/// `algorithms` without repetition, the most preferred first (RFC 8760 §2.3). `realm` and `nonce` are ours
/// and free of control characters. `stale`: the answer was right but its nonce was not, so the client need
/// not ask its user for a password again (RFC 7616 §3.3).
pub fn challenge(realm: &str, algorithms: &[Algorithm], nonce: &str, stale: bool) -> Vec<String> {
    let realm = realm.replace('\\', r"\\").replace('"', r#"\""#);
    let stale = if stale { ", stale=true" } else { "" };
    let value = |algorithm: &Algorithm| {
        let algorithm = algorithm.token();
        format!(r#"Digest realm="{realm}", nonce="{nonce}", algorithm={algorithm}, qop="auth"{stale}"#)
    };
    algorithms.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_known_by_their_tokens_without_regard_to_case() {
        for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256] {
            assert_eq!(Algorithm::parse(algorithm.token().as_bytes()), Some(algorithm));
            assert_eq!(Algorithm::parse(algorithm.token().to_lowercase().as_bytes()), Some(algorithm));
        }
        for other in ["", "SHA256", "SHA-512", "MD5-sess", "SHA-256-sess", "AKAv1-MD5"] {
            assert_eq!(Algorithm::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn one_challenge_per_algorithm_in_the_order_given() {
        let values = challenge("a.test", &[Algorithm::Sha512_256, Algorithm::Md5], "abc", false);
        let expected = [
            r#"Digest realm="a.test", nonce="abc", algorithm=SHA-512-256, qop="auth""#,
            r#"Digest realm="a.test", nonce="abc", algorithm=MD5, qop="auth""#,
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_stale_challenge_says_so_and_a_realm_is_quoted() {
        let values = challenge(r#"a "b" \c"#, &[Algorithm::Md5], "n", true);
        let expected = r#"Digest realm="a \"b\" \\c", nonce="n", algorithm=MD5, qop="auth", stale=true"#;
        assert_eq!(values, [expected]);
    }
}
