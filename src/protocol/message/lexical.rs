//! The small grammar that all header fields share (RFC 3261 §25.1): LWS, tokens, quoted strings, parameters.

use std::io::Write as _;
use std::net::IpAddr;

/// A class of characters, of those that every message is full of: looked up, not compared.
#[derive(Clone, Copy, Debug)]
pub struct Class(u8);

impl Class {
    /// `token`.
    pub const TOKEN: Self = Self(1);
    /// What a parameter's name, and its value without quotes, may consist of.
    pub const PARAMETER: Self = Self(2);
    /// What a host that is no IPv6 reference may consist of.
    pub const HOST: Self = Self(4);
    /// What each part of a URI may consist of: anything printable but the delimiters of name-addr, since peers write
    /// more than §25.1 allows, and the proxy copies it.
    pub const URI: Self = Self(8);

    /// Whether `c` is one of them.
    #[inline]
    pub const fn has(self, c: u8) -> bool {
        CLASSES[c as usize] & self.0 != 0
    }

    /// Whether all of `text` are.
    #[inline]
    pub fn has_all(self, text: &[u8]) -> bool {
        text.iter().all(|&c| self.has(c))
    }

    /// How many at the front of `text` are.
    #[inline]
    pub fn run(self, text: &[u8]) -> usize {
        text.iter().position(|&c| !self.has(c)).unwrap_or(text.len())
    }
}

static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < classes.len() {
        classes[at] = classes_of(at as u8);
        at += 1;
    }
    classes
};

const fn classes_of(c: u8) -> u8 {
    let is_word = c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    let is_token = is_word || matches!(c, b'!' | b'%' | b'*' | b'+' | b'`' | b'\'' | b'~');
    let is_parameter = is_token
        || matches!(c, b'[' | b']' | b'/' | b':' | b'&' | b'$' | b'(' | b')' | b'@' | b'?' | b'=')
        || c >= 0x80;
    let is_uri = c > b' ' && c != 0x7f && !matches!(c, b'<' | b'>' | b'"');
    is_token as u8 * Class::TOKEN.0
        + is_parameter as u8 * Class::PARAMETER.0
        + is_word as u8 * Class::HOST.0
        + is_uri as u8 * Class::URI.0
}

/// Space, tab, and the CR and LF of a folded line: inside a header value they only occur as folding.
#[inline]
pub const fn is_lws(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\r' | b'\n')
}

/// A character of `token`.
#[inline]
pub const fn is_token(c: u8) -> bool {
    Class::TOKEN.has(c)
}

/// Whether all of it is one token.
#[inline]
pub fn is_token_only(text: &[u8]) -> bool {
    !text.is_empty() && Class::TOKEN.has_all(text)
}

/// `text` without LWS at either end.
#[inline]
pub fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    while let [before @ .., last] = text
        && is_lws(*last)
    {
        text = before;
    }
    text
}

/// `text` without LWS at its front.
#[inline]
pub fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, behind @ ..] = text
        && is_lws(*first)
    {
        text = behind;
    }
    text
}

/// A decimal number of at most ten digits, nothing else around it.
pub fn decimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = text.iter().fold(0u64, |sum, &digit| sum * 10 + u64::from(digit - b'0'));
    u32::try_from(value).ok()
}

/// Appends `value` in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends an address as `received` writes it: IPv6 without brackets (RFC 5118 §4.5).
pub fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                push_decimal(out, u64::from(octet));
            }
        }
        IpAddr::V6(v6) => write!(out, "{v6}").expect("a Vec takes all that is written"),
    }
}

/// The end of the quoted string that begins at `text[0] == '"'`: the index after its closing quote.
pub fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// The first `stop` in `text` that stands outside quoted strings and angle brackets.
#[inline]
pub fn find_outside(text: &[u8], stop: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr3(stop, b'"', b'<', &text[at..])?;
        at += match text[at] {
            b'"' => quoted_end(&text[at..])?,
            b'<' => memchr::memchr(b'>', &text[at..])? + 1,
            _ => return Some(at),
        };
    }
}

/// The values of a comma-separated header row, trimmed, one after the other.
#[derive(Clone, Debug)]
pub struct CommaList<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> CommaList<'a> {
    /// Splits `row` at its commas outside quoted strings and angle brackets.
    pub const fn new(row: &'a [u8]) -> Self {
        Self { rest: Some(row) }
    }
}

impl<'a> Iterator for CommaList<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        if let Some(comma) = find_outside(rest, b',') {
            self.rest = Some(&rest[comma + 1..]);
            Some(trim(&rest[..comma]))
        } else {
            self.rest = None;
            Some(trim(rest))
        }
    }
}

/// One `;name` or `;name=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// As written; compared without case.
    pub name: &'a [u8],
    /// As written, with its quotes where it has any; `None` for a flag.
    pub value: Option<&'a [u8]>,
}

/// The parameters of a header value or URI: what stands after the first semicolon, that included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters<'a>(pub &'a [u8]);

impl<'a> Parameters<'a> {
    /// The parameter with this name, given in lower case; the first of several.
    pub fn get(&self, name: &[u8]) -> Option<Parameter<'a>> {
        self.iter().filter_map(Result::ok).find(|p| p.name.eq_ignore_ascii_case(name))
    }

    /// The value of the parameter with this name.
    pub fn value(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.get(name).and_then(|p| p.value)
    }

    /// Every parameter in order; an `Err` and then nothing where the grammar is left.
    pub const fn iter(&self) -> ParameterIter<'a> {
        ParameterIter { rest: self.0 }
    }

    /// Whether all of it follows the grammar.
    pub fn is_valid(&self) -> bool {
        self.iter().all(|p| p.is_ok())
    }
}

/// Iterator of [`Parameters::iter`].
#[derive(Clone, Debug)]
pub struct ParameterIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ParameterIter<'a> {
    type Item = Result<Parameter<'a>, MalformedParameter>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = trim(self.rest);
        if rest.is_empty() {
            return None;
        }
        self.rest = b"";
        let Some(rest) = rest.strip_prefix(b";") else {
            return Some(Err(MalformedParameter));
        };
        // Most often nothing but such characters stands before the next: no white space, quotes or brackets.
        let plain = Class::PARAMETER.run(rest);
        let is_plain = rest.get(plain).is_none_or(|&c| c == b';');
        let end = if is_plain { plain } else { find_outside(rest, b';').unwrap_or(rest.len()) };
        self.rest = &rest[end..];
        let one = &rest[..end];
        let (name, value) = match one.iter().position(|&c| c == b'=') {
            Some(equals) => (trim(&one[..equals]), Some(trim(&one[equals + 1..]))),
            None => (trim(one), None),
        };
        let is_good = is_plain || (Class::PARAMETER.has_all(name) && value.is_none_or(is_parameter_value));
        if is_good && !name.is_empty() {
            Some(Ok(Parameter { name, value }))
        } else {
            self.rest = b"";
            Some(Err(MalformedParameter))
        }
    }
}

/// A parameter that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedParameter;

/// `gen-value`: token, host or quoted string; of URIs also `paramchar` (§25.1).
fn is_parameter_value(value: &[u8]) -> bool {
    match value.first() {
        Some(b'"') => quoted_end(value) == Some(value.len()),
        // An empty value is no token, but peers write `;x=`, and the proxy has no business in it.
        None => true,
        Some(_) => Class::PARAMETER.has_all(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_brackets_do_not_split() {
        let row = br#""a, \" b" <sip:x@y;z=1,2>;q=0.5 , <sip:c>, d"#;
        let values: Vec<_> = CommaList::new(row).collect();
        assert_eq!(values, [&br#""a, \" b" <sip:x@y;z=1,2>;q=0.5"#[..], b"<sip:c>", b"d"]);
    }

    #[test]
    fn parameters_keep_their_order_and_allow_white_space_and_quotes() {
        let list: Vec<_> = Parameters(b" ; a = \"x;y\" ;B;c=[::1]").iter().map(Result::unwrap).collect();
        assert_eq!(list[0], Parameter { name: b"a", value: Some(b"\"x;y\"") });
        assert_eq!(list[1], Parameter { name: b"B", value: None });
        assert_eq!(list[2], Parameter { name: b"c", value: Some(b"[::1]") });
        assert!(!Parameters(b";a=b c").is_valid());
        assert!(!Parameters(b"a").is_valid());
        assert!(!Parameters(b";=1").is_valid());
        assert_eq!(Parameters(b";LR;tag=9").value(b"tag"), Some(&b"9"[..]));
        assert!(Parameters(b";LR").get(b"lr").is_some());
    }

    #[test]
    fn numbers_outside_32_bits_are_none() {
        assert_eq!(decimal(b"4294967295"), Some(u32::MAX));
        for bad in [&b""[..], b"4294967296", b"99999999999", b"-1", b"1a", b" 1"] {
            assert_eq!(decimal(bad), None);
        }
        let mut out = Vec::new();
        push_decimal(&mut out, 0);
        push_decimal(&mut out, 1_234_567_890_123);
        assert_eq!(out, b"01234567890123");
    }
}
