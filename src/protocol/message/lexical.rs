//! The small grammar that all header fields share (RFC 3261 §25.1): LWS, tokens, quoted strings, parameters.

/// Space, tab, and the CR and LF of a folded line: inside a header value they only occur as folding.
pub const fn is_lws(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\r' | b'\n')
}

/// A character of `token`.
pub const fn is_token(c: u8) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// Whether all of it is one token.
pub fn is_token_only(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&c| is_token(c))
}

/// `text` without LWS at either end.
pub fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&c| !is_lws(c)).unwrap_or(text.len());
    let end = text.iter().rposition(|&c| !is_lws(c)).map_or(start, |last| last + 1);
    &text[start..end]
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

/// The first of `stops` in `text` that stands outside quoted strings and angle brackets.
pub fn find_outside(text: &[u8], stops: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut bracket = false;
    while at < text.len() {
        let c = text[at];
        match c {
            b'"' if !bracket => at += quoted_end(&text[at..])? - 1,
            b'<' if !bracket => bracket = true,
            b'>' => bracket = false,
            _ if !bracket && stops.contains(&c) => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
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
        if let Some(comma) = find_outside(rest, b",") {
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
        let end = find_outside(rest, b";").unwrap_or(rest.len());
        self.rest = &rest[end..];
        let one = &rest[..end];
        let (name, value) = match memchr::memchr(b'=', one) {
            Some(equals) => (trim(&one[..equals]), Some(trim(&one[equals + 1..]))),
            None => (trim(one), None),
        };
        let is_value = value.is_none_or(is_parameter_value);
        if !name.is_empty() && name.iter().all(|&c| is_parameter_character(c)) && is_value {
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
        Some(_) => value.iter().all(|&c| is_parameter_character(c)),
    }
}

const fn is_parameter_character(c: u8) -> bool {
    is_token(c)
        || matches!(c, b'[' | b']' | b'/' | b':' | b'&' | b'$' | b'(' | b')' | b'@' | b'?' | b'=')
        || c >= 0x80
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
