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
    /// An empty `response` or `nonce`: the client says who it is and waits for a challenge (RFC 8760 §2.7);
    /// to be treated as no credentials at all.
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
        let parameters = Parameters::read(Reader::behind_scheme(value)?)?;
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
        let count = digits
            .iter()
            .try_fold(0, |count: u32, &digit| Some(count << 4 | char::from(digit).to_digit(16)?));
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
    /// Reads `name = value` separated by commas; empty list elements are passed over (RFC 7616 by way of
    /// HTTP's list rule).
    fn read(mut reader: Reader<'a>) -> Result<Self, CredentialsFault> {
        let mut parameters = Self::default();
        loop {
            reader.skip_whitespace();
            if reader.skip(b',') {
                continue;
            }
            if reader.0.is_empty() {
                return Ok(parameters);
            }
            let name = reader.name()?;
            parameters.set(name, reader.value()?)?;
            reader.skip_whitespace();
            if !matches!(reader.0, [] | [b',', ..]) {
                return Err(CredentialsFault::Syntax);
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

/// What is still to be read of a header's value.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Behind the scheme's name, which must be Digest.
    fn behind_scheme(value: &'a [u8]) -> Result<Self, CredentialsFault> {
        let mut reader = Self(value);
        reader.skip_whitespace();
        let scheme = reader.until(is_whitespace);
        if scheme.eq_ignore_ascii_case(b"Digest") { Ok(reader) } else { Err(CredentialsFault::OtherScheme) }
    }

    /// A parameter's name and its equals sign.
    fn name(&mut self) -> Result<&'a [u8], CredentialsFault> {
        let name = self.until(|octet| matches!(octet, b'=' | b',' | b'"') || is_whitespace(octet));
        self.skip_whitespace();
        if !name.is_empty() && self.skip(b'=') { Ok(name) } else { Err(CredentialsFault::Syntax) }
    }

    /// A parameter's value, quoted or bare.
    fn value(&mut self) -> Result<Cow<'a, [u8]>, CredentialsFault> {
        self.skip_whitespace();
        if self.skip(b'"') {
            return self.quoted_string();
        }
        // Wider than a token: some clients leave the quotes of `uri` away.
        let bare = self.until(|octet| octet == b',' || is_whitespace(octet));
        if bare.is_empty() || bare.contains(&b'"') {
            return Err(CredentialsFault::Syntax);
        }
        Ok(Cow::Borrowed(bare))
    }

    /// A quoted string behind its opening quote, with the closing one.
    fn quoted_string(&mut self) -> Result<Cow<'a, [u8]>, CredentialsFault> {
        let mut value = Cow::Borrowed(self.until(ends_plain_text));
        while self.skip(b'\\') {
            let (&escaped, rest) = self.0.split_first().ok_or(CredentialsFault::Syntax)?;
            self.0 = rest;
            value.to_mut().push(escaped);
            value.to_mut().extend_from_slice(self.until(ends_plain_text));
        }
        if self.skip(b'"') { Ok(value) } else { Err(CredentialsFault::Syntax) }
    }

    /// What comes before the first octet with this property, or before the end.
    fn until(&mut self, ends: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&octet| ends(octet)).unwrap_or(self.0.len());
        let (before, rest) = self.0.split_at(end);
        self.0 = rest;
        before
    }

    /// Passes over this octet; whether it was there.
    fn skip(&mut self, octet: u8) -> bool {
        let rest = self.0.strip_prefix(&[octet]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn skip_whitespace(&mut self) {
        self.until(|octet| !is_whitespace(octet));
    }
}

/// The closing quote, or the start of an escape.
const fn ends_plain_text(octet: u8) -> bool {
    matches!(octet, b'"' | b'\\')
}

/// Space, tab, and the line ends within folded whitespace.
const fn is_whitespace(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINIMAL: &str = r#"Digest username="u", realm="r", nonce="n", uri="sip:a", response="00""#;

    fn with(parameters: &str) -> String {
        format!("{MINIMAL}, {parameters}")
    }

    #[test]
    fn the_example_of_rfc_7616_is_read() {
        let value = concat!(
            r#"Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", "#,
            r#"algorithm=MD5, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, "#,
            r#"cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, "#,
            r#"response="8ca523f5e9506fed4657c9700eebdbec", "#,
            r#"opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#,
        );
        let credentials = Credentials::parse(value.as_bytes()).unwrap();
        assert_eq!(&*credentials.user_name, b"Mufasa");
        assert_eq!(&*credentials.realm, b"http-auth@example.org");
        assert_eq!(&*credentials.uri, b"/dir/index.html");
        assert_eq!(&*credentials.nonce, b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v");
        assert_eq!(&*credentials.response, b"8ca523f5e9506fed4657c9700eebdbec");
        assert_eq!(credentials.algorithm, Algorithm::Md5);
        assert_eq!(credentials.opaque.as_deref(), Some(&b"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"[..]));
        let counted = credentials.counted.unwrap();
        assert_eq!((counted.count, &counted.digits), (1, b"00000001"));
        assert_eq!(&*counted.client_nonce, b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ");
    }

    #[test]
    fn folding_order_case_quotes_and_empty_elements_do_not_matter() {
        let plain = with("algorithm=SHA-256, qop=auth, nc=0000001A, cnonce=\"c\"");
        let expected = Credentials::parse(plain.as_bytes()).unwrap();
        let others = [
            concat!(
                "  dIGEST\r\n\tcnonce = \"c\" ,\r\n QOP=\"AUTH\",NC=\"0000001A\",Algorithm=\"sha-256\",\r\n ",
                "response=\"00\",uri=\"sip:a\",nonce=\"n\",realm=\"r\",username=\"u\" \r\n ",
            ),
            concat!(
                "Digest username=u,realm=r,,nonce=n,uri=sip:a,response=00,algorithm=SHA-256,",
                "qop=auth,nc=0000001A,cnonce=c,",
            ),
            concat!(
                r#"Digest , username="u", realm="r", charset=UTF-8, nonce="n", uri="sip:a", x="a, b=\"c","#,
                r#"response="00", algorithm=SHA-256, qop=auth, nc=0000001A, cnonce="c", x=y"#,
            ),
        ];
        for other in others {
            assert_eq!(Credentials::parse(other.as_bytes()).as_ref(), Ok(&expected), "{other}");
        }
    }

    #[test]
    fn escapes_are_undone_and_only_they_cost_a_copy() {
        let value = r#"Digest username="a\\b\"c, d=", realm="", nonce="n", uri="sip:a", response="00""#;
        let credentials = Credentials::parse(value.as_bytes()).unwrap();
        assert!(matches!(&credentials.user_name, Cow::Owned(name) if name == b"a\\b\"c, d="));
        assert!(matches!(credentials.realm, Cow::Borrowed(b"")));
    }

    #[test]
    fn what_is_missing_is_md5_and_no_count() {
        let credentials = Credentials::parse(MINIMAL.as_bytes()).unwrap();
        assert_eq!((credentials.algorithm, credentials.counted), (Algorithm::Md5, None));
    }

    #[test]
    fn faults_are_told_apart() {
        use CredentialsFault as Fault;
        let table = [
            (String::new(), Fault::OtherScheme),
            ("Basic dTpwdw==".into(), Fault::OtherScheme),
            ("Digestusername=\"u\"".into(), Fault::OtherScheme),
            ("Digest".into(), Fault::MissingParameter("username")),
            (MINIMAL.replace("username", "x"), Fault::MissingParameter("username")),
            (MINIMAL.replace("realm", "x"), Fault::MissingParameter("realm")),
            (MINIMAL.replace("nonce", "x"), Fault::MissingParameter("nonce")),
            (MINIMAL.replace("uri", "x"), Fault::MissingParameter("uri")),
            (MINIMAL.replace("response", "x"), Fault::MissingParameter("response")),
            (MINIMAL.replace(r#""00""#, r#""""#), Fault::Unanswered),
            (MINIMAL.replace(r#""n""#, r#""""#), Fault::Unanswered),
            (with("Nonce=\"m\""), Fault::DuplicateParameter("nonce")),
            (with("algorithm=MD5, algorithm=MD5"), Fault::DuplicateParameter("algorithm")),
            (with("algorithm=MD5-sess"), Fault::UnsupportedAlgorithm),
            (with("algorithm=\"\""), Fault::UnsupportedAlgorithm),
            (with("qop=auth-int, nc=00000001, cnonce=\"c\""), Fault::UnsupportedQop),
            (with("qop=auth, cnonce=\"c\""), Fault::MissingParameter("nc")),
            (with("qop=auth, nc=00000001"), Fault::MissingParameter("cnonce")),
            (with("qop=auth, nc=1, cnonce=\"c\""), Fault::MalformedNonceCount),
            (with("qop=auth, nc=0000000g, cnonce=\"c\""), Fault::MalformedNonceCount),
            (with("qop=auth, nc=+0000001, cnonce=\"c\""), Fault::MalformedNonceCount),
            (with("x"), Fault::Syntax),
            (with("x="), Fault::Syntax),
            (with("x y"), Fault::Syntax),
            (with("=y"), Fault::Syntax),
            (with("x=\"y"), Fault::Syntax),
            (with("x=\"y\\"), Fault::Syntax),
            (with("x=\"y\\\""), Fault::Syntax),
            (with("x=\"y\"z"), Fault::Syntax),
            (with("x=y\"z\""), Fault::Syntax),
            (with("x=y z=1"), Fault::Syntax),
            (with("x\"y=z"), Fault::Syntax),
        ];
        for (value, fault) in table {
            assert_eq!(Credentials::parse(value.as_bytes()), Err(fault), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(value: Vec<u8>) {
            let _ = Credentials::parse(&value);
        }

        #[test]
        fn nothing_that_looks_like_credentials_panics(
            value in r#"Digest ((username|realm|nonce|qop|nc|x)?[ \r\n]?=?"?[a-c,\\="]{0,4}"?,? ?){0,8}"#,
        ) {
            let _ = Credentials::parse(value.as_bytes());
        }

        #[test]
        fn every_quoted_value_is_read_back(name: Vec<u8>) {
            let mut value = b"Digest realm=r,nonce=n,uri=sip:a,response=00,username=\"".to_vec();
            for octet in &name {
                if matches!(octet, b'"' | b'\\') {
                    value.push(b'\\');
                }
                value.push(*octet);
            }
            value.push(b'"');
            prop_assert_eq!(&*Credentials::parse(&value).unwrap().user_name, &name[..]);
        }
    }
}
