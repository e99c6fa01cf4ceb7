//! URIs (RFC 3261 §19.1, RFC 3966): views that borrow, and comparison.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;

use super::lexical::{Class, Parameters, decimal};
use crate::protocol::flow::Transport;

/// Why a URI is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriFault {
    /// Neither sip nor sips nor any `scheme:`.
    #[error("no scheme")]
    NoScheme,
    /// A well-formed URI of another scheme: 416.
    #[error("scheme not supported")]
    Scheme,
    /// The part between scheme and parameters.
    #[error("malformed user or host")]
    Host,
    /// Parameters or headers.
    #[error("malformed parameters")]
    Parameters,
}

/// A host as written in a URI or Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A domain name, as written.
    Name(&'a [u8]),
    /// An IPv4 address or IPv6 reference.
    Address(IpAddr),
}

impl<'a> Host<'a> {
    /// Reads `host` of §25.1.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        if let Some(inner) = text.strip_prefix(b"[") {
            let inner = inner.strip_suffix(b"]")?;
            return parse_ipv6(std::str::from_utf8(inner).ok()?).map(|v6| Self::Address(IpAddr::V6(v6)));
        }
        if text.is_empty() || text.len() > 253 || !Class::HOST.has_all(text) {
            return None;
        }
        if text[text.len() - 1].is_ascii_digit() {
            let v4 = std::str::from_utf8(text).ok().and_then(|text| text.parse::<Ipv4Addr>().ok());
            if let Some(address) = v4 {
                return Some(Self::Address(IpAddr::V4(address)));
            }
        }
        let has_empty_label = text.starts_with(b".") || text.windows(2).any(|pair| pair == b"..");
        (!has_empty_label).then_some(Self::Name(text))
    }

    /// Whether both are the same host, names without case and final dot.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => {
                a.strip_suffix(b".").unwrap_or(a).eq_ignore_ascii_case(b.strip_suffix(b".").unwrap_or(b))
            }
            (Self::Address(a), Self::Address(b)) => a == b,
            (Self::Name(_), Self::Address(_)) | (Self::Address(_), Self::Name(_)) => false,
        }
    }

    /// Whether it is this name, without case.
    pub fn is_name(&self, name: &str) -> bool {
        self.is_same(&Host::Name(name.as_bytes()))
    }

    /// In lower case, without final dot; addresses in their canonical form.
    pub fn to_lowercase(&self) -> SmallVec<[u8; 64]> {
        match self {
            Self::Name(name) => {
                let mut lower = SmallVec::from_slice(name.strip_suffix(b".").unwrap_or(name));
                lower.make_ascii_lowercase();
                lower
            }
            Self::Address(address) => address.to_string().into_bytes().into(),
        }
    }
}

/// The grammar of RFC 3261 puts one colon too many before a trailing IPv4 address, so both forms are taken
/// (RFC 5118 §4.10).
fn parse_ipv6(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok().or_else(|| {
        let (head, tail) = text.split_once(":::")?;
        tail.parse::<Ipv4Addr>().ok()?;
        format!("{head}::{tail}").parse().ok()
    })
}

/// A host as written and as read, and the port where written.
pub type HostPort<'a> = (&'a [u8], Host<'a>, Option<u16>);

/// Splits `host[:port]`; a port that is no number is an error.
pub fn parse_host_port(text: &[u8]) -> Option<HostPort<'_>> {
    let colon = match text.first()? {
        b'[' => memchr::memchr(b']', text).map_or(text.len(), |end| end + 1),
        _ => text.iter().position(|&c| c == b':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(colon);
    let port = match rest.split_first() {
        None => None,
        Some((b':', digits)) => Some(decimal(digits).and_then(|port| u16::try_from(port).ok())?),
        Some(_) => return None,
    };
    Some((host, Host::parse(host)?, port))
}

/// A `sip:` or `sips:` URI.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    /// Whether it is `sips:`.
    pub is_secure: bool,
    /// The user part as written, escapes included; `None` where there is no `@`.
    pub user: Option<&'a [u8]>,
    /// The password, behind the user's colon.
    pub password: Option<&'a [u8]>,
    /// The host.
    pub host: Host<'a>,
    /// The host as written.
    pub host_text: &'a [u8],
    /// The port, where written.
    pub port: Option<u16>,
    /// From the first `;` on.
    pub parameters: Parameters<'a>,
    /// Behind the `?`, that not included.
    pub headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Reads a SIP or SIPS URI.
    pub fn parse(text: &'a [u8]) -> Result<Self, UriFault> {
        let colon = memchr::memchr(b':', text).ok_or(UriFault::NoScheme)?;
        let scheme = &text[..colon];
        let is_secure = scheme.eq_ignore_ascii_case(b"sips");
        if !is_secure && !scheme.eq_ignore_ascii_case(b"sip") {
            let starts_with_letter = scheme.first().is_some_and(u8::is_ascii_alphabetic);
            let is_scheme =
                starts_with_letter && scheme.iter().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(c));
            return Err(if is_scheme { UriFault::Scheme } else { UriFault::NoScheme });
        }
        let rest = &text[colon + 1..];
        // `;` and `?` may stand in the user part, `@` only behind it.
        let (user_info, rest) = match memchr::memchr(b'@', rest) {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let (user, password) = match user_info {
            Some(info) => split_user(info)?,
            None => (None, None),
        };
        let headers_at = memchr::memchr(b'?', rest);
        let (rest, headers) = headers_at.map_or((rest, &b""[..]), |at| (&rest[..at], &rest[at + 1..]));
        if headers_at.is_some() && (headers.is_empty() || !Class::URI.has_all(headers)) {
            return Err(UriFault::Parameters);
        }
        let semicolon = memchr::memchr(b';', rest).unwrap_or(rest.len());
        let parameters = Parameters(&rest[semicolon..]);
        if !Class::URI.has_all(parameters.0) || !parameters.is_valid() {
            return Err(UriFault::Parameters);
        }
        let (host_text, host, port) = parse_host_port(&rest[..semicolon]).ok_or(UriFault::Host)?;
        Ok(Self { is_secure, user, password, host, host_text, port, parameters, headers })
    }

    /// The `transport` parameter, where written.
    pub fn transport(&self) -> Option<&'a [u8]> {
        self.parameters.value(b"transport")
    }

    /// What a request to it leaves by, where the URI says (RFC 3263 §4.1): `sips` by TLS, another without transport by
    /// UDP. `None`: by something that is not known.
    pub fn wanted_transport(&self) -> Option<Transport> {
        match self.transport() {
            None if self.is_secure => Some(Transport::Tls),
            None => Some(Transport::Udp),
            Some(token) if token.eq_ignore_ascii_case(b"tls") => Some(Transport::Tls),
            Some(token) if token.eq_ignore_ascii_case(b"tcp") && self.is_secure => Some(Transport::Tls),
            Some(token) if token.eq_ignore_ascii_case(b"tcp") => Some(Transport::Tcp),
            Some(token) if token.eq_ignore_ascii_case(b"udp") && !self.is_secure => Some(Transport::Udp),
            Some(_) => None,
        }
    }

    /// The host of the `maddr` parameter: where a request goes in the place of the URI's own (§19.1.1).
    pub fn maddr(&self) -> Option<Host<'a>> {
        self.parameters.value(b"maddr").and_then(Host::parse)
    }

    /// Whether the loose-routing flag is there (§16.12).
    pub fn is_loose_router(&self) -> bool {
        self.parameters.get(b"lr").is_some()
    }

    /// Whether the two are the same by §19.1.4.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.is_secure == other.is_secure
            && same_optional(self.user, other.user)
            && same_optional(self.password, other.password)
            && self.host.is_same(&other.host)
            && self.port == other.port
            && same_parameters(self.parameters, other.parameters)
            && same_headers(self.headers, other.headers)
    }
}

/// Whether two texts are the same URI by §19.1.4. Most often they are so octet by octet.
pub fn are_equivalent(a: &[u8], b: &[u8]) -> bool {
    a == b || matches!((Uri::parse(a), Uri::parse(b)), (Ok(a), Ok(b)) if a.is_equivalent(&b))
}

type UserAndPassword<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

fn split_user(info: &[u8]) -> Result<UserAndPassword<'_>, UriFault> {
    let (user, password) = match memchr::memchr(b':', info) {
        Some(colon) => (&info[..colon], Some(&info[colon + 1..])),
        None => (info, None),
    };
    let is_good = !user.is_empty() && Class::URI.has_all(info) && has_whole_escapes(info);
    if is_good { Ok((Some(user), password)) } else { Err(UriFault::Host) }
}

fn has_whole_escapes(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text)
        .all(|at| text.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

/// Decodes `%HH`; borrows where there is nothing to decode.
pub fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| text[at] == b'%');
        let octet = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        out.push(octet.unwrap_or(text[at]));
        at += if octet.is_some() { 3 } else { 1 };
    }
    Cow::Owned(out)
}

/// Appends `text` with every octet escaped as `%HH` but letters, digits and those in `plain`.
pub fn push_escaped(out: &mut String, text: &[u8], plain: &[u8]) {
    for &octet in text {
        if octet.is_ascii_alphanumeric() || plain.contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push('%');
            for nibble in [octet >> 4, octet & 0xf] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
    }
}

fn same_optional(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => unescape(a) == unescape(b),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Parameters in both must match; some must not stand in one alone (§19.1.4).
fn same_parameters(a: Parameters<'_>, b: Parameters<'_>) -> bool {
    const NEVER_ALONE: [&[u8]; 6] = [b"user", b"ttl", b"method", b"maddr", b"transport", b"gr"];
    let one_way = |a: Parameters<'_>, b: Parameters<'_>| {
        a.iter().filter_map(Result::ok).take(64).all(|p| match b.get(p.name) {
            Some(q) => match (p.value, q.value) {
                (None, None) => true,
                (Some(p), Some(q)) => unescape(p).eq_ignore_ascii_case(&unescape(q)),
                (None, Some(_)) | (Some(_), None) => false,
            },
            None => !NEVER_ALONE.iter().any(|name| p.name.eq_ignore_ascii_case(name)),
        })
    };
    one_way(a, b) && one_way(b, a)
}

/// Headers must be the same set, in any order (§19.1.4).
fn same_headers(a: &[u8], b: &[u8]) -> bool {
    if a.is_empty() || b.is_empty() {
        return a.is_empty() && b.is_empty();
    }
    let sorted = |text: &[u8]| {
        let mut parts: Vec<Vec<u8>> =
            text.split(|&c| c == b'&').map(|part| unescape(part).to_ascii_lowercase()).collect();
        parts.sort();
        parts
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_uri() {
        let uri = Uri::parse(b"sips:al;ice:pw@[2001:db8::1]:5061;transport=tcp;lr?subject=x&a=b").unwrap();
        assert!(uri.is_secure && uri.is_loose_router());
        assert_eq!((uri.user, uri.password), (Some(&b"al;ice"[..]), Some(&b"pw"[..])));
        assert_eq!(uri.host, Host::Address("2001:db8::1".parse().unwrap()));
        assert_eq!((uri.host_text, uri.port), (&b"[2001:db8::1]"[..], Some(5061)));
        assert_eq!((uri.transport(), uri.headers), (Some(&b"tcp"[..]), &b"subject=x&a=b"[..]));
        assert_eq!(Uri::parse(b"sip:example.org").unwrap().host_text, b"example.org");
    }

    #[test]
    fn a_third_colon_before_an_ipv4_address_is_taken_for_two() {
        let right = Host::parse(b"[2001:db8::192.0.2.1]");
        assert!(right.is_some());
        assert_eq!(Host::parse(b"[2001:db8:::192.0.2.1]"), right);
        for bad in [&b"[2001:db8:::1]"[..], b"[2001:db8::::192.0.2.1]", b"[::1:::192.0.2.1]", b"[:::]"] {
            assert_eq!(Host::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn malformed_uris_say_what_is_wrong() {
        let table = [
            (&b"alice"[..], UriFault::NoScheme),
            (b"tel:+49301", UriFault::Scheme),
            (b"<sip:a@b>", UriFault::NoScheme),
            (b"sip:", UriFault::Host),
            (b"sip:@example.org", UriFault::Host),
            (b"sip:a@", UriFault::Host),
            (b"sip:a@b:", UriFault::Host),
            (b"sip:a@b:70000", UriFault::Host),
            (b"sip:a@[::1", UriFault::Host),
            (b"sip:a@b..c", UriFault::Host),
            (b"sip:%zz@b", UriFault::Host),
            (b"sip:a@b; lr", UriFault::Parameters),
            (b"sip:a@b?", UriFault::Parameters),
        ];
        for (text, fault) in table {
            assert_eq!(Uri::parse(text).err(), Some(fault), "{}", String::from_utf8_lossy(text));
        }
    }

    /// The examples of RFC 3261 §19.1.4.
    #[test]
    fn equivalence_follows_the_examples_of_the_rfc() {
        let same = [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ];
        let different = [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ];
        let equivalent = |(a, b): &(&str, &str)| {
            Uri::parse(a.as_bytes()).unwrap().is_equivalent(&Uri::parse(b.as_bytes()).unwrap())
        };
        assert!(same.iter().all(equivalent));
        assert!(!different.iter().any(equivalent));
    }
}
