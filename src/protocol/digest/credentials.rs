//! The value of an Authorization or Proxy-Authorization header (RFC 7616 §3.4, RFC 3261 §25.1).

use std::borrow::Cow;

use super::Algorithm;

/// What a client says to prove itself. Quoted strings are without their quotes and escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// `username`.
    pub user_name: Cow<'a, [u8]>,
    /// `realm`: whose challenge this answers; a request may carry credentials for several (RFC 3261 §22.3).
    pub realm: Cow<'a, [u8]>,
    /// `nonce`, as it was in the challenge.
    pub nonce: Cow<'a, [u8]>,
    /// `uri`. It may differ from the Request-URI, which proxies on the way rewrite (RFC 8760 §2.6).
    pub uri: Cow<'a, [u8]>,
    /// `response`: the digest, in hexadecimal.
    pub response: Cow<'a, [u8]>,
    /// `algorithm`; MD5 if it is missing.
    pub algorithm: Algorithm,
    /// What `qop=auth` brings with it; `None` without `qop` (RFC 2069).
    pub counted: Option<NonceCount<'a>>,
    /// `opaque`.
    pub opaque: Option<Cow<'a, [u8]>>,
}

/// What distinguishes several uses of a nonce (`qop=auth`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonceCount<'a> {
    /// `nc`: how many requests the client has sent with this nonce, this one included.
    pub count: u32,
    /// `nc` as written: its letters' case goes into the digest.
    pub digits: [u8; 8],
    /// `cnonce`: the client's own nonce.
    pub client_nonce: Cow<'a, [u8]>,
}

/// Why a header's value holds no credentials that could be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsFault {
    /// Basic or another scheme: to be treated as no credentials at all (RFC 8760 §2.6).
    #[error("authentication scheme other than Digest")]
    OtherScheme,
    /// An empty `response` or `nonce`: the client says who it is and waits for a challenge (RFC 8760 §2.7); to be
    /// treated as no credentials at all.
    #[error("no challenge answered yet")]
    Unanswered,
    /// Not a list of parameters.
    #[error("malformed digest credentials")]
    Syntax,
    /// A parameter comes twice, so that two readers could see two different ones.
    #[error("parameter {0} comes twice")]
    DuplicateParameter(&'static str),
    /// A parameter that must be there is not.
    #[error("parameter {0} is missing")]
    MissingParameter(&'static str),
    /// `algorithm` is none that is ever offered.
    #[error("unsupported algorithm")]
    UnsupportedAlgorithm,
    /// `qop` is none that is ever offered.
    #[error("unsupported quality of protection")]
    UnsupportedQop,
    /// `nc` is not eight hexadecimal digits.
    #[error("malformed nonce count")]
    MalformedNonceCount,
}

impl<'a> Credentials<'a> {
    /// Reads a header's value, which may be folded. Unknown parameters are ignored.
    pub fn parse(value: &'a [u8]) -> Result<Self, CredentialsFault> {
        let parameters = Parameters::read(parameters_of_digest(value)?)?;
        let [user_name, realm, nonce, uri, response, algorithm, qop, nc, cnonce, opaque] = parameters.0;
        let algorithm = match algorithm {
            Some(token) => Algorithm::parse(&token).ok_or(CredentialsFault::UnsupportedAlgorithm)?,
            None => Algorithm::Md5,
        };
        let credentials = Self {
            user_name: user_name.ok_or(CredentialsFault::MissingParameter("username"))?,
            realm: realm.ok_or(CredentialsFault::MissingParameter("realm"))?,
            nonce: nonce.ok_or(CredentialsFault::MissingParameter("nonce"))?,
            uri: uri.ok_or(CredentialsFault::MissingParameter("uri"))?,
            response: response.ok_or(CredentialsFault::MissingParameter("response"))?,
            algorithm,
            counted: qop.map(|qop| NonceCount::new(&qop, nc, cnonce)).transpose()?,
            opaque,
        };
        if credentials.nonce.is_empty() || credentials.response.is_empty() {
            return Err(CredentialsFault::Unanswered);
        }
        Ok(credentials)
    }
}

impl<'a> NonceCount<'a> {
    fn new(
        qop: &[u8],
        nc: Option<Cow<'a, [u8]>>,
        client_nonce: Option<Cow<'a, [u8]>>,
    ) -> Result<Self, CredentialsFault> {
        if !qop.eq_ignore_ascii_case(b"auth") {
            return Err(CredentialsFault::UnsupportedQop);
        }
        let nc = nc.ok_or(CredentialsFault::MissingParameter("nc"))?;
        let client_nonce = client_nonce.ok_or(CredentialsFault::MissingParameter("cnonce"))?;
        let digits = <[u8; 8]>::try_from(&*nc).map_err(|_| CredentialsFault::MalformedNonceCount)?;
        let count = digits.iter().try_fold(0, |count: u32, &digit| Some(count << 4 | char::from(digit).to_digit(16)?));
        Ok(Self { count: count.ok_or(CredentialsFault::MalformedNonceCount)?, digits, client_nonce })
    }
}

/// The names of the parameters that are read, in the order of [`Parameters`].
const NAMES: [&str; 10] =
    ["username", "realm", "nonce", "uri", "response", "algorithm", "qop", "nc", "cnonce", "opaque"];

/// The values of the parameters in [`NAMES`].
#[derive(Default)]
struct Parameters<'a>([Option<Cow<'a, [u8]>>; NAMES.len()]);

impl<'a> Parameters<'a> {
    /// Reads `name = value` separated by commas; empty list elements are passed over (RFC 7616 by way of HTTP's
    /// list rule).
    fn read(mut rest: &'a [u8]) -> Result<Self, CredentialsFault> {
        let mut parameters = Self::default();
        loop {
            rest = skip_whitespace(rest);
            match rest {
                [] => return Ok(parameters),
                [b',', after @ ..] => rest = after,
                _ => {
                    let (name, value, after) = parameter(rest)?;
                    parameters.set(name, value)?;
                    rest = after;
                    if !matches!(rest, [] | [b',', ..]) {
                        return Err(CredentialsFault::Syntax);
                    }
                }
            }
        }
    }

    fn set(&mut self, name: &[u8], value: Cow<'a, [u8]>) -> Result<(), CredentialsFault> {
        let Some(index) = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes())) else {
            return Ok(());
        };
        if self.0[index].replace(value).is_some() {
            return Err(CredentialsFault::DuplicateParameter(NAMES[index]));
        }
        Ok(())
    }
}

/// What follows the scheme's name.
fn parameters_of_digest(value: &[u8]) -> Result<&[u8], CredentialsFault> {
    let value = skip_whitespace(value);
    let end = value.iter().position(|&octet| is_whitespace(octet)).unwrap_or(value.len());
    let (scheme, parameters) = value.split_at(end);
    if scheme.eq_ignore_ascii_case(b"Digest") { Ok(parameters) } else { Err(CredentialsFault::OtherScheme) }
}

/// One `name = value`, and what follows it and its whitespace.
fn parameter(text: &[u8]) -> Result<(&[u8], Cow<'_, [u8]>, &[u8]), CredentialsFault> {
    let end = text.iter().position(|&octet| octet == b'=' || is_whitespace(octet)).ok_or(CredentialsFault::Syntax)?;
    let (name, rest) = text.split_at(end);
    let [b'=', rest @ ..] = skip_whitespace(rest) else { return Err(CredentialsFault::Syntax) };
    if name.is_empty() || name.iter().any(|octet| b",\"".contains(octet)) {
        return Err(CredentialsFault::Syntax);
    }
    let (value, rest) = match skip_whitespace(rest) {
        [b'"', quoted @ ..] => quoted_string(quoted)?,
        bare => bare_value(bare)?,
    };
    Ok((name, value, skip_whitespace(rest)))
}

/// A quoted string behind its opening quote, and what follows the closing one.
fn quoted_string(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), CredentialsFault> {
    let special = |from: usize| {
        let found = memchr::memchr2(b'"', b'\\', &text[from..]).ok_or(CredentialsFault::Syntax)?;
        Ok(from + found)
    };
    let mut at = special(0)?;
    if text[at] == b'"' {
        return Ok((Cow::Borrowed(&text[..at]), &text[at + 1..]));
    }
    let mut unescaped = Vec::new();
    let mut from = 0;
    while text[at] == b'\\' {
        unescaped.extend_from_slice(&text[from..at]);
        unescaped.push(*text.get(at + 1).ok_or(CredentialsFault::Syntax)?);
        from = at + 2;
        at = special(from)?;
    }
    unescaped.extend_from_slice(&text[from..at]);
    Ok((Cow::Owned(unescaped), &text[at + 1..]))
}

/// A value without quotes, and what follows it. Wider than a token: some clients leave the quotes of `uri` away.
fn bare_value(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), CredentialsFault> {
    let end = text.iter().position(|&octet| octet == b',' || is_whitespace(octet)).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    if value.is_empty() || value.contains(&b'"') {
        return Err(CredentialsFault::Syntax);
    }
    Ok((Cow::Borrowed(value), rest))
}

/// Space, tab, and the line ends within folded whitespace.
const fn is_whitespace(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

fn skip_whitespace(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&octet| !is_whitespace(octet)).unwrap_or(text.len());
    &text[start..]
}
