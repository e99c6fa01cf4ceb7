//! `name-addr` and `addr-spec` with parameters: From, To, Contact, Route, Record-Route, Path (RFC 3261 §20.10).

use super::lexical::{Parameter, Parameters, is_lws, is_token, quoted_end, trim};

/// One value of such a header, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    /// The URI, without brackets.
    pub uri: &'a [u8],
    /// The header's own parameters, from the first `;` on.
    pub parameters: Parameters<'a>,
    /// The tag parameter, where it has a value.
    pub(super) tag: Option<&'a [u8]>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value, already cut out of its comma list. `None` where the grammar is left; the URI itself is
    /// not read.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = trim(text);
        let (uri, rest) = match text.first()? {
            b'"' => bracketed(trim(&text[quoted_end(text)?..]))?,
            b'<' => bracketed(text)?,
            _ => match memchr::memchr(b'<', text) {
                Some(open) if is_display_name(&text[..open]) => bracketed(&text[open..])?,
                Some(_) => return None,
                None => bare(text)?,
            },
        };
        let parameters = Parameters(trim(rest));
        if uri.is_empty() || uri.iter().any(|&c| is_lws(c)) {
            return None;
        }
        let mut tag = None;
        for parameter in parameters.iter() {
            let Parameter { name, value } = parameter.ok()?;
            if name.eq_ignore_ascii_case(b"tag") {
                tag.get_or_insert(value);
            }
        }
        Some(Self { uri, parameters, tag: tag.flatten().filter(|tag| !tag.is_empty()) })
    }

    /// The tag parameter, where it has a value.
    pub const fn tag(&self) -> Option<&'a [u8]> {
        self.tag
    }
}

fn bracketed(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"<")?;
    let close = memchr::memchr(b'>', inner)?;
    Some((&inner[..close], &inner[close + 1..]))
}

/// Without brackets every `;` belongs to the header, and `?` and `,` may not occur (§20.10).
fn bare(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b';', text).unwrap_or(text.len());
    let uri = trim(&text[..end]);
    let is_good = !uri.iter().any(|c| matches!(c, b',' | b'?' | b'"' | b'>'));
    is_good.then_some((uri, &text[end..]))
}

/// Tokens with white space; octets past ASCII are let through, as peers send them unquoted.
fn is_display_name(text: &[u8]) -> bool {
    text.iter().all(|&c| is_token(c) || is_lws(c) || c >= 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_are_allowed() {
        type Row<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>);
        let table: [Row<'_>; 6] = [
            (b"<sip:a@b;x=1>;tag=1", b"sip:a@b;x=1", Some(b"1")),
            (b"\"A \\\" <x>\" <sip:a@b>  ; TAG = 2 ; q=1", b"sip:a@b", Some(b"2")),
            (b"Alice Example <sip:a@b>", b"sip:a@b", None),
            (b"sip:a@b;tag=3", b"sip:a@b", Some(b"3")),
            (b"\"x\"<sip:a@b>;epid=abc;tag=4", b"sip:a@b", Some(b"4")),
            (b"<tel:+49;phone-context=x>", b"tel:+49;phone-context=x", None),
        ];
        for (text, uri, tag) in table {
            let parsed = NameAddr::parse(text).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(text)));
            assert_eq!((parsed.uri, parsed.tag()), (uri, tag));
        }
    }

    #[test]
    fn forms_that_are_none() {
        for text in [
            "",
            "<sip:a@b",
            "\"A <sip:a@b>",
            "sip:a@b?x=y",
            "sip:a b",
            "<>",
            "< sip:a@b >",
            "Bell, Alice <sip:a@b>",
            "<sip:a>x",
        ] {
            assert!(NameAddr::parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
