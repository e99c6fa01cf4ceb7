//! Typed views of the header fields with a value of their own.

use super::index::Message;
use super::lexical::{decimal, is_lws, is_token_only, trim};
use super::name::Name;

/// CSeq (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2^31 (§8.1.1.5).
    pub number: u32,
    /// As written.
    pub method: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// Reads the value.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let space = text.iter().position(|&c| is_lws(c))?;
        let number = decimal(&text[..space]).filter(|&number| number < 1 << 31)?;
        let method = trim(&text[space..]);
        is_token_only(method).then_some(Self { number, method })
    }
}

/// Delta-seconds; a number too large means the largest (RFC 3261 §20.19).
pub fn delta_seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(decimal(text).unwrap_or(u32::MAX))
}

/// A q value in thousandths (§25.1 `qvalue`): 0 to 1 with at most three decimals.
pub fn q_value(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match memchr::memchr(b'.', text) {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    if !matches!(whole, b"0" | b"1") || fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |d| u16::from(d - b'0'));
    let value = u16::from(whole[0] - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2);
    (value <= 1000).then_some(value)
}

impl Message {
    /// Whether To has a tag: of a request, whether it belongs to a dialog (RFC 3261 §12.2).
    pub fn is_in_dialog(&self) -> bool {
        self.to().is_some_and(|to| to.tag().is_some())
    }

    /// Whether any of the comma-separated option tags under this name is `tag`, without case.
    pub fn has_option(&self, name: Name, tag: &str) -> bool {
        self.values(name).any(|value| value.eq_ignore_ascii_case(tag.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cseq_q_and_seconds() {
        assert_eq!(CSeq::parse(b"0009 \t INVITE"), Some(CSeq { number: 9, method: b"INVITE" }));
        for bad in
            [&b"INVITE"[..], b"1", b"2147483648 X", b"-1 X", b"36893488147419103232 REGISTER", b"1 A B"]
        {
            assert_eq!(CSeq::parse(bad), None);
        }
        let q = [(&b"0"[..], 0), (b"1", 1000), (b"0.5", 500), (b"0.123", 123), (b"1.000", 1000), (b"0.", 0)];
        assert!(q.iter().all(|&(text, value)| q_value(text) == Some(value)));
        assert!([&b""[..], b"2", b"1.001", b"0.1234", b".5", b"-1"].iter().all(|bad| q_value(bad).is_none()));
        assert_eq!(delta_seconds(b"99999999999999"), Some(u32::MAX));
        assert_eq!(delta_seconds(b"60"), Some(60));
        assert_eq!(delta_seconds(b"1.5"), None);
    }
}
