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

impl Refusal {
    /// The name in logs.
    pub const fn log_name(self) -> &'static str {
        match self {
            Self::OtherUser => "other_user",
            Self::OtherRealm => "other_realm",
            Self::AlgorithmNotOffered => "algorithm_not_offered",
            Self::NoSecret => "no_secret_for_algorithm",
            Self::WrongResponse => "wrong_response",
        }
    }
}

/// Whether the sender of `credentials` knows the expected secret.
///
/// Takes the digest's `uri` from the credentials; whether that must be the Request-URI is the caller's
/// policy. Tells nothing about the nonce. The responses are compared in constant time.
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

    /// Whether `text` is this hash, in either case. Takes the same time wherever the first difference is, so
    /// that a response cannot be guessed digit by digit.
    fn is_written(&self, text: &[u8]) -> bool {
        let difference = |all: u8, (ours, theirs): (&u8, &u8)| {
            std::hint::black_box(all | (ours ^ theirs.to_ascii_lowercase()))
        };
        text.len() == self.length && self.hex().iter().zip(text).fold(0, difference) == 0
    }
}

const fn hex_digit(value: u8) -> u8 {
    b"0123456789abcdef"[value as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: &[Algorithm] = &[Algorithm::Sha512_256, Algorithm::Sha256, Algorithm::Md5];

    /// The request of RFC 7616 §3.9.1, its answer left open.
    fn example(algorithm: &str, response: &str) -> String {
        format!(
            r#"Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", qop=auth,
            nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, algorithm={algorithm},
            cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", response="{response}""#
        )
    }

    const MD5: &str = "8ca523f5e9506fed4657c9700eebdbec";
    const SHA256: &str = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
    /// Not in the RFC; computed by another implementation.
    const SHA512_256: &str = "430d05014cecc49cab6fbe03176d41a1da86cbfe24a16580e22aaad928d960d0";

    fn password(password: &str) -> Secret {
        Secret::Password(password.to_owned())
    }

    fn hashes(md5: Option<&str>, sha256: Option<&str>, sha512_256: Option<&str>) -> Secret {
        let [md5, sha256, sha512_256] = [md5, sha256, sha512_256].map(|hash| hash.map(str::to_owned));
        Secret::Hashes { md5, sha256, sha512_256 }
    }

    fn expected(secret: &Secret) -> Expected<'_> {
        Expected {
            user_name: "Mufasa",
            secret,
            realm: "http-auth@example.org",
            method: b"GET",
            algorithms: ALL,
        }
    }

    fn judge(value: &str, expected: &Expected<'_>) -> Result<Verified, Refusal> {
        verify(&Credentials::parse(value.as_bytes()).unwrap(), expected)
    }

    #[test]
    fn the_examples_of_rfc_7616_are_right_by_password_and_by_hash() {
        let by_password = password("Circle of Life");
        let by_hash = hashes(
            Some("3D78807DEFE7DE2157E2B0B6573A855F"),
            Some("7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232"),
            Some("fb174f5c3c7802721517cae13b98e2b8dae2e0118cb705d94ee29946319204ce"),
        );
        for (algorithm, response) in [("MD5", MD5), ("SHA-256", SHA256), ("SHA-512-256", SHA512_256)] {
            for secret in [&by_password, &by_hash] {
                let value = example(algorithm, response);
                assert_eq!(judge(&value, &expected(secret)), Ok(Verified::Counted(1)), "{algorithm}");
                let value = example(algorithm, &response.to_uppercase());
                assert_eq!(judge(&value, &expected(secret)), Ok(Verified::Counted(1)), "{algorithm}");
            }
        }
    }

    /// RFC 7616 §3.9.2 prints, for SHA-512-256, SHA-512 cut to its first half. By FIPS 180-4 the algorithm of
    /// this name has an initial value of its own, and so have the clients.
    #[test]
    fn sha_512_256_is_not_sha_512_cut_in_half() {
        let secret = password("Secret, or not?");
        let expected = Expected { user_name: "Jäsøn Doe", realm: "api@example.org", ..expected(&secret) };
        let value = |response: &str| {
            format!(
                r#"Digest username="Jäsøn Doe", realm="api@example.org", uri="/doe.json", algorithm=SHA-512-256,
                nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", nc=00000001, qop=auth, userhash=false,
                cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v", response="{response}""#
            )
        };
        let right = value("3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5");
        let printed = value("ae66e67d6b427bd3f120414a82e4acff38e8ecd9101d6c861229025f607a79dd");
        assert_eq!(judge(&right, &expected), Ok(Verified::Counted(1)));
        assert_eq!(judge(&printed, &expected), Err(Refusal::WrongResponse));
    }

    #[test]
    fn the_examples_of_rfc_2617_and_rfc_2069_are_right_without_an_algorithm() {
        let secret = password("Circle Of Life");
        let expected = Expected { realm: "testrealm@host.com", ..expected(&secret) };
        let with_qop = r#"Digest username="Mufasa", realm="testrealm@host.com", uri="/dir/index.html", qop=auth,
            nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", nc=00000001, cnonce="0a4f113b",
            response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
        let without_qop = r#"Digest username="Mufasa", realm="testrealm@host.com", uri="/dir/index.html",
            nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", response="670fd8c2df070c60b045671b8b24ff02""#;
        assert_eq!(judge(with_qop, &expected), Ok(Verified::Counted(1)));
        assert_eq!(judge(without_qop, &expected), Ok(Verified::Uncounted));
    }

    #[test]
    fn everything_that_goes_into_the_digest_counts() {
        let secret = password("Circle of Life");
        let value = example("SHA-256", SHA256);
        let changes = [
            ("/dir/index.html", "/dir/index.htm"),
            ("7ypf/", "8ypf/"),
            ("nc=00000001", "nc=00000002"),
            ("f2/wE", "f3/wE"),
            ("753927fa", "853927fa"),
            ("cb6c1", "cb6c2"),
            ("cb6c1", "cb6c"),
            ("cb6c1", "cb6c1a"),
        ];
        for (from, to) in changes {
            let changed = value.replace(from, to);
            assert_ne!(changed, value);
            assert_eq!(judge(&changed, &expected(&secret)), Err(Refusal::WrongResponse), "{from} {to}");
        }
        let other_method = Expected { method: b"PUT", ..expected(&secret) };
        assert_eq!(judge(&value, &other_method), Err(Refusal::WrongResponse));
        assert_eq!(judge(&value, &expected(&password("circle of life"))), Err(Refusal::WrongResponse));
    }

    #[test]
    fn the_case_of_the_counts_digits_goes_into_the_digest() {
        let secret = password("pw");
        let expected = Expected { user_name: "u", realm: "r", ..expected(&secret) };
        let credentials = |count: &str, response: &str| {
            format!(
                r#"Digest username="u", realm="r", nonce="n", uri="/", qop=auth, cnonce="c", nc={count},
                response="{response}""#
            )
        };
        for count in ["0000000A", "0000000a"] {
            let parsed = credentials(count, "0");
            let right = response(
                &Credentials::parse(parsed.as_bytes()).unwrap(),
                b"GET",
                HashValue::of(Algorithm::Md5, &[b"u:r:pw"]).hex(),
            );
            let by_hand = [b"n:", count.as_bytes(), b":c:auth"].concat();
            let [identity, request] =
                [&b"u:r:pw"[..], b"GET:/"].map(|part| HashValue::of(Algorithm::Md5, &[part]));
            let by_hand = HashValue::of(Algorithm::Md5, &[identity.hex(), &by_hand, request.hex()]);
            assert_eq!(right.hex(), by_hand.hex());
            let value = credentials(count, std::str::from_utf8(by_hand.hex()).unwrap());
            assert_eq!(judge(&value, &expected), Ok(Verified::Counted(10)));
        }
    }

    #[test]
    fn each_reason_to_refuse_has_its_name() {
        let secret = password("Circle of Life");
        let right = expected(&secret);
        let md5_alone = hashes(Some("3d78807defe7de2157e2b0b6573a855f"), None, None);
        let malformed =
            hashes(None, Some("7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b479423z"), None);
        let short = hashes(None, Some("3d78807defe7de2157e2b0b6573a855f"), None);
        let certificate = Secret::Certificate("a.test".to_owned());
        let table = [
            (Expected { realm: "HTTP-auth@example.org", ..right }, Refusal::OtherRealm),
            (Expected { user_name: "mufasa", ..right }, Refusal::OtherUser),
            (Expected { algorithms: &[Algorithm::Md5], ..right }, Refusal::AlgorithmNotOffered),
            (Expected { algorithms: &[], ..right }, Refusal::AlgorithmNotOffered),
            (expected(&md5_alone), Refusal::NoSecret),
            (expected(&malformed), Refusal::NoSecret),
            (expected(&short), Refusal::NoSecret),
            (expected(&certificate), Refusal::NoSecret),
            (expected(&Secret::Address), Refusal::NoSecret),
        ];
        let value = example("SHA-256", SHA256);
        for (expected, refusal) in table {
            assert_eq!(judge(&value, &expected), Err(refusal));
        }
        assert_eq!(judge(&value, &right), Ok(Verified::Counted(1)));
    }

    proptest! {
        #[test]
        fn no_credentials_panic(response: Vec<u8>, uri: Vec<u8>, nonce: Vec<u8>, md5: String) {
            let secret = Secret::Hashes { md5: Some(md5), sha256: None, sha512_256: None };
            let credentials = Credentials {
                user_name: b"Mufasa".into(),
                realm: b"http-auth@example.org".into(),
                nonce: nonce.into(),
                uri: uri.into(),
                response: response.into(),
                algorithm: Algorithm::Md5,
                counted: None,
                opaque: None,
            };
            prop_assert!(verify(&credentials, &expected(&secret)).is_err());
        }
    }
}
