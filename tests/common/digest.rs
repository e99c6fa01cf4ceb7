//! Digest access authentication from both ends (RFC 7616, RFC 8760): MD5, SHA-256 and SHA-512-256, `qop=auth`.

use std::fmt::Write;

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

use super::sip::{Sip, split};

/// One challenge of a 401 or 407.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) realm: String,
    pub(crate) nonce: String,
    /// Token as it was sent; `MD5` where it was absent.
    pub(crate) algorithm: String,
    pub(crate) qop: Option<String>,
    pub(crate) opaque: Option<String>,
    pub(crate) stale: bool,
}

/// Who answers a challenge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credentials<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
}

impl Challenge {
    /// The challenges of a 401 or 407, in their order.
    pub(crate) fn all(response: &Sip) -> Vec<Self> {
        let name = if response.status() == 407 { "Proxy-Authenticate" } else { "WWW-Authenticate" };
        response.all(name).into_iter().map(Self::parse).collect()
    }

    /// The first challenge of a 401 or 407.
    ///
    /// # Panics
    ///
    /// Where there is none, with the response.
    pub(crate) fn first(response: &Sip) -> Self {
        Self::all(response).into_iter().next().unwrap_or_else(|| panic!("no challenge in:\n{response}"))
    }

    fn parse(value: &str) -> Self {
        let field = |name| directive(value, name);
        Self {
            realm: field("realm").unwrap_or_default(),
            nonce: field("nonce").unwrap_or_default(),
            algorithm: field("algorithm").unwrap_or_else(|| "MD5".to_owned()),
            qop: field("qop"),
            opaque: field("opaque"),
            stale: field("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        }
    }

    /// The value of Authorization or Proxy-Authorization that answers this challenge. `count` is the nonce count,
    /// 1 at the first use of a nonce.
    pub(crate) fn answer(&self, method: &str, uri: &str, credentials: Credentials<'_>, count: u32) -> String {
        let Credentials { user, password } = credentials;
        let (nonce, realm) = (&self.nonce, &self.realm);
        let (count, client_nonce) = (format!("{count:08x}"), "0a4f113b");
        let middle = self.qop.as_ref().map(|_| format!("{count}:{client_nonce}:auth"));
        let proof =
            Proof { algorithm: &self.algorithm, realm, nonce, middle: middle.as_deref(), method, uri };
        let mut value = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{}\", algorithm={}",
            proof.response(user, password),
            self.algorithm
        );
        if self.qop.is_some() {
            value.push_str(&format!(", qop=auth, cnonce=\"{client_nonce}\", nc={count}"));
        }
        if let Some(opaque) = &self.opaque {
            value.push_str(&format!(", opaque=\"{opaque}\""));
        }
        value
    }
}

/// Whether an Authorization value proves `password` for the nonce that it names.
pub(crate) fn proves(value: &str, method: &str, password: &str) -> bool {
    let field = |name| directive(value, name).unwrap_or_default();
    let algorithm = directive(value, "algorithm").unwrap_or_else(|| "MD5".to_owned());
    let middle = directive(value, "qop").map(|qop| format!("{}:{}:{qop}", field("nc"), field("cnonce")));
    let (realm, nonce, uri) = (field("realm"), field("nonce"), field("uri"));
    let proof = Proof {
        algorithm: &algorithm,
        realm: &realm,
        nonce: &nonce,
        middle: middle.as_deref(),
        method,
        uri: &uri,
    };
    field("response") == proof.response(&field("username"), password)
}

/// The value of one directive of a challenge or of credentials, without its quotes.
pub(crate) fn directive(value: &str, name: &str) -> Option<String> {
    let list = value.trim().split_once(' ').map_or("", |(_, list)| list);
    split(list, ',').into_iter().find_map(|part| {
        let (known, content) = part.split_once('=')?;
        known.trim().eq_ignore_ascii_case(name).then(|| content.trim().trim_matches('"').to_owned())
    })
}

/// What a digest response is made of (RFC 7616 §3.4.1), user and password apart.
struct Proof<'a> {
    algorithm: &'a str,
    realm: &'a str,
    nonce: &'a str,
    /// `nc:cnonce:qop`; `None` is the form of RFC 2069.
    middle: Option<&'a str>,
    method: &'a str,
    uri: &'a str,
}

impl Proof<'_> {
    fn response(&self, user: &str, password: &str) -> String {
        let secret = self.hash(&format!("{user}:{}:{password}", self.realm));
        let action = self.hash(&format!("{}:{}", self.method, self.uri));
        let middle = self.middle.map(|middle| format!("{middle}:")).unwrap_or_default();
        self.hash(&format!("{secret}:{}:{middle}{action}", self.nonce))
    }

    fn hash(&self, text: &str) -> String {
        match self.algorithm.to_ascii_uppercase().as_str() {
            "MD5" => hexadecimal(&Md5::digest(text)),
            "SHA-256" => hexadecimal(&Sha256::digest(text)),
            "SHA-512-256" => hexadecimal(&Sha512_256::digest(text)),
            other => panic!("the tests know no digest algorithm {other}"),
        }
    }
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").expect("writing to a string does not fail");
        text
    })
}
