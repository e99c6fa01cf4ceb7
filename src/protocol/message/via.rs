//! One Via value (RFC 3261 §20.42, RFC 3581).

use std::net::SocketAddr;

use super::lexical::{
    Class, Parameter, Parameters, decimal, find_outside, is_lws, push_address, push_decimal, trim, trim_start,
};
use super::uri::{Host, HostPort, parse_host_port};

/// A Via value, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// The whole value.
    pub text: &'a [u8],
    /// The transport token of sent-protocol, as written.
    pub transport: &'a [u8],
    /// The host of sent-by.
    pub host: Host<'a>,
    /// The host of sent-by as written.
    pub host_text: &'a [u8],
    /// The port of sent-by, where written.
    pub port: Option<u16>,
    /// From the first `;` on.
    pub parameters: Parameters<'a>,
    /// The branch parameter.
    pub branch: Option<&'a [u8]>,
    /// Whether the sender asks for answers to its source port (RFC 3581 §3).
    pub has_rport: bool,
    /// Whether somebody has written `received`.
    pub has_received: bool,
    /// Whether the sender is willing to send keep-alives, and asks how often (RFC 6223 §4.3).
    pub offers_keep_alives: bool,
    /// Whether all parameters follow the grammar.
    pub is_whole: bool,
}

impl<'a> Via<'a> {
    /// Reads one value: white space may stand around `/` and `:`, name and version of the protocol are any tokens
    /// (§25.1). `None` where it is none.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        Self::read(text).filter(|via| via.is_whole)
    }

    /// Reads as much of a value as an answer needs, so that its sender can be told of the fault: after one,
    /// [`Self::parameters`] has no more.
    pub fn read(text: &'a [u8]) -> Option<Self> {
        let text = trim(text);
        let rest = slash(skip_token(text)?)?;
        let rest = slash(skip_token(rest)?)?;
        let (transport, rest) = rest.split_at(Class::TOKEN.run(rest));
        if transport.is_empty() || !rest.first().is_some_and(|&c| is_lws(c)) {
            return None;
        }
        let rest = trim(rest);
        let semicolon = find_outside(rest, b';').unwrap_or(rest.len());
        let parameters = Parameters(&rest[semicolon..]);
        let (host_text, host, port) = parse_sent_by(trim(&rest[..semicolon]))?;
        let (mut branch, mut has_rport, mut has_received, mut is_whole) = (None, false, false, true);
        let mut keep = None;
        for parameter in parameters.iter() {
            let Ok(Parameter { name, value }) = parameter else {
                is_whole = false;
                break;
            };
            if name.eq_ignore_ascii_case(b"branch") {
                branch.get_or_insert(value);
            }
            has_rport |= name.eq_ignore_ascii_case(b"rport");
            has_received |= name.eq_ignore_ascii_case(b"received");
            if name.eq_ignore_ascii_case(b"keep") {
                keep.get_or_insert(value.is_none());
            }
        }
        let branch = branch.flatten().filter(|branch| !branch.is_empty());
        Some(Self {
            text,
            transport,
            host,
            host_text,
            port,
            parameters,
            branch,
            has_rport,
            has_received,
            offers_keep_alives: keep.unwrap_or(false),
            is_whole,
        })
    }

    /// Whether [`Self::write_stamped`] would write anything but what came.
    pub fn needs_stamp(&self, source: SocketAddr, keep_alive: Option<u64>) -> bool {
        self.has_rport
            || self.has_received
            || self.host != Host::Address(source.ip())
            || (self.offers_keep_alives && keep_alive.is_some())
    }

    /// Writes the value with `received` and `rport` telling where the request came from (RFC 3261 §18.2.1,
    /// RFC 3581 §4): whatever the sender wrote there itself is replaced, all else, and a second one, stays as it is.
    /// `keep_alive` is how often keep-alives are to come, in seconds, where the sender offers them (RFC 6223 §4.4);
    /// 0 leaves it to the sender.
    pub fn write_stamped(&self, source: SocketAddr, keep_alive: Option<u64>, out: &mut Vec<u8>) {
        let offset = |part: &[u8]| part.as_ptr() as usize - self.text.as_ptr() as usize;
        let needs_received = self.has_rport || self.host != Host::Address(source.ip());
        let (mut has_rport, mut has_received, mut keep_alive) = (false, false, keep_alive);
        let mut copied = 0;
        for parameter in self.parameters.iter().filter_map(Result::ok) {
            let name_end = offset(parameter.name) + parameter.name.len();
            let end = parameter.value.map_or(name_end, |value| offset(value) + value.len());
            if parameter.name.eq_ignore_ascii_case(b"rport") && !has_rport {
                has_rport = true;
                out.extend_from_slice(&self.text[copied..name_end]);
                out.push(b'=');
                push_decimal(out, u64::from(source.port()));
                copied = end;
            } else if parameter.name.eq_ignore_ascii_case(b"received") && !has_received {
                has_received = true;
                out.extend_from_slice(&self.text[copied..name_end]);
                out.push(b'=');
                push_address(out, source.ip());
                copied = end;
            } else if parameter.name.eq_ignore_ascii_case(b"keep")
                && let Some(seconds) = keep_alive.take()
                && parameter.value.is_none()
            {
                out.extend_from_slice(&self.text[copied..name_end]);
                out.push(b'=');
                push_decimal(out, seconds);
                copied = end;
            }
        }
        out.extend_from_slice(&self.text[copied..]);
        if needs_received && !has_received {
            out.extend_from_slice(b";received=");
            push_address(out, source.ip());
        }
    }
}

fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let end = Class::TOKEN.run(text);
    (0 < end && end < text.len()).then_some(&text[end..])
}

fn slash(text: &[u8]) -> Option<&[u8]> {
    trim_start(text).strip_prefix(b"/").map(trim_start)
}

/// `host [COLON port]`, with the white space that COLON allows.
fn parse_sent_by(text: &[u8]) -> Option<HostPort<'_>> {
    if !text.iter().any(|&c| is_lws(c)) {
        return parse_host_port(text);
    }
    let colon = text.iter().rposition(|&c| c == b':').filter(|&at| !text[at..].contains(&b']'))?;
    let host_text = trim(&text[..colon]);
    let port = decimal(trim(&text[colon + 1..])).and_then(|port| u16::try_from(port).ok())?;
    Some((host_text, Host::parse(host_text)?, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_allowed() {
        type Row<'a> = (&'a [u8], &'a [u8], &'a [u8], Option<u16>, Option<&'a [u8]>);
        let table: [Row<'_>; 7] = [
            (
                b"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1",
                b"UDP",
                b"192.0.2.1",
                Some(5060),
                Some(b"z9hG4bK1"),
            ),
            (b"sip / 2.0 / tcp  host.example ;rport; branch = x", b"tcp", b"host.example", None, Some(b"x")),
            (b"SIP/2.0/TLS [2001:db8::9]:5061;branch=y", b"TLS", b"[2001:db8::9]", Some(5061), Some(b"y")),
            (b"SIP/2.0/TLS [2001:db8::9];received=[::1]", b"TLS", b"[2001:db8::9]", None, None),
            (b"SIP/7.0/UDP a;branch=z", b"UDP", b"a", None, Some(b"z")),
            (b"SIP/2.0/UNKNOWN a : 7 ;x=\"q;z\"", b"UNKNOWN", b"a", Some(7), None),
            (
                b"SIP / 2.0\r\n /UDP\r\n\t192.0.2.2;branch=390skdjuw",
                b"UDP",
                b"192.0.2.2",
                None,
                Some(b"390skdjuw"),
            ),
        ];
        for (text, transport, host, port, branch) in table {
            let via = Via::parse(text).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(text)));
            assert_eq!((via.transport, via.host_text, via.port, via.branch), (transport, host, port, branch));
        }
    }

    #[test]
    fn the_source_is_stamped_and_nothing_else_changes() {
        let table = [
            ("SIP/2.0/UDP 192.0.2.1:9;branch=z", "SIP/2.0/UDP 192.0.2.1:9;branch=z"),
            ("SIP/2.0/UDP a.example;branch=z", "SIP/2.0/UDP a.example;branch=z;received=192.0.2.1"),
            ("SIP/2.0/UDP 192.0.2.1;rport ;X=1", "SIP/2.0/UDP 192.0.2.1;rport=40 ;X=1;received=192.0.2.1"),
            (
                "SIP/2.0/UDP 9.9.9.9;received=8.8.8.8;rport=7",
                "SIP/2.0/UDP 9.9.9.9;received=192.0.2.1;rport=40",
            ),
            ("SIP/2.0/TCP 192.0.2.1:40;Keep;x", "SIP/2.0/TCP 192.0.2.1:40;Keep=540;x"),
            ("SIP/2.0/TCP 192.0.2.1:40;keep=30", "SIP/2.0/TCP 192.0.2.1:40;keep=30"),
            ("SIP/2.0/TCP 192.0.2.1:40;keep=30;keep", "SIP/2.0/TCP 192.0.2.1:40;keep=30;keep"),
            ("SIP/2.0/TCP 192.0.2.1:40;keep;keep", "SIP/2.0/TCP 192.0.2.1:40;keep=540;keep"),
            // Else a response could be far longer than its request.
            ("SIP/2.0/UDP 192.0.2.1;rport;rport", "SIP/2.0/UDP 192.0.2.1;rport=40;rport;received=192.0.2.1"),
        ];
        for (text, expected) in table {
            let source = "192.0.2.1:40".parse().unwrap();
            let via = Via::parse(text.as_bytes()).unwrap();
            let mut out = Vec::new();
            via.write_stamped(source, Some(540), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            assert_eq!(via.needs_stamp(source, Some(540)), text != expected);
        }
    }

    #[test]
    fn a_value_with_a_malformed_parameter_still_says_where_to_answer() {
        for text in ["SIP/2.0/UDP 192.0.2.15:9;branch=z;;", "SIP/2.0/UDP 192.0.2.15:9;branch=z;=1;x"] {
            let via = Via::read(text.as_bytes()).unwrap();
            assert_eq!((via.host_text, via.port, via.branch), (&b"192.0.2.15"[..], Some(9), Some(&b"z"[..])));
            assert!(Via::parse(text.as_bytes()).is_none());
        }
    }

    #[test]
    fn values_that_are_none() {
        for text in [
            "",
            "SIP/2.0/UDP",
            "/2.0/UDP a",
            "SIP//UDP a",
            "SIP/2.0/UDP ;branch=1",
            "SIP/2.0/UDP a:x",
            "SIP/2.0/UDP a b",
            "S P/2.0/UDP a",
            "SIP/2.0/U DP a",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP a;=1",
        ] {
            assert!(Via::parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
