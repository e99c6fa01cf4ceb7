//! What a key may hold. A rule reads an [`Entry`], or reports what is wrong with it and what is allowed.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::reader::Entry;
use super::{Host, HostPort};
use crate::protocol::message::lexical::is_token_only;

/// True or false.
pub(super) fn flag(entry: &Entry<'_>) -> Option<bool> {
    entry.boolean()
}

/// Any string.
pub(super) fn text(entry: &Entry<'_>) -> Option<String> {
    entry.text("a string").map(str::to_owned)
}

/// An integer of a range.
pub(super) fn range<T>(range: RangeInclusive<T>) -> impl Fn(&Entry<'_>) -> Option<T>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    move |entry| {
        let allowed = format!("{} to {}", range.start(), range.end());
        let value = entry.integer(&allowed)?;
        T::try_from(value)
            .ok()
            .filter(|value| range.contains(value))
            .or_else(|| entry.refuse(&format!("{value} is out of range"), &allowed))
    }
}

/// A port that something can be sent to.
pub(super) fn port(entry: &Entry<'_>) -> Option<u16> {
    range(1..=u16::MAX)(entry)
}

/// A duration of a range, written as `"500ms"`, `"4s"`, `"10m"`, `"24h"`.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Entry<'_>) -> Option<Duration> {
    move |entry| {
        let [least, most] = [range.start(), range.end()].map(|d| humantime::format_duration(*d).to_string());
        let allowed = format!("\"{least}\" to \"{most}\"");
        let text = entry.text(&allowed)?;
        match humantime::parse_duration(text) {
            Ok(value) if range.contains(&value) => Some(value),
            Ok(_) => entry.refuse(&format!("`{text}` is out of range"), &allowed),
            Err(_) => entry.refuse(&format!("`{text}` is no duration as \"500ms\" or \"10m\""), &allowed),
        }
    }
}

/// One of a few words.
pub(super) fn choice<T: Clone>(words: &'static [(&'static str, T)]) -> impl Fn(&Entry<'_>) -> Option<T> {
    move |entry| {
        let allowed = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" ");
        let text = entry.text(&allowed)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone());
        found.or_else(|| entry.refuse(&format!("`{text}` is unknown"), &allowed))
    }
}

/// An address of one machine, or a wildcard.
pub(super) fn address(entry: &Entry<'_>) -> Option<IpAddr> {
    let allowed = "an IP address as \"192.0.2.1\" or \"2001:db8::1\"";
    let text = entry.text(allowed)?;
    let single = |a: &IpAddr| !a.is_multicast() && *a != IpAddr::from([255, 255, 255, 255]);
    match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) if single(&address) => Some(address),
        Ok(_) => entry.refuse(&format!("`{text}` is the address of many machines"), allowed),
        Err(_) => entry.refuse(&format!("`{text}` is no IP address"), allowed),
    }
}

/// An address and a prefix length, or an address alone.
pub(super) fn network(entry: &Entry<'_>) -> Option<IpNet> {
    let allowed = "a network as \"192.168.0.0/16\", or an IP address";
    let text = entry.text(allowed)?;
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match network {
        Some(network) if network.trunc() == network => Some(network),
        Some(network) => entry.refuse(
            &format!("`{text}` has bits beyond its prefix"),
            &format!("\"{}\", or an IP address", network.trunc()),
        ),
        None => entry.refuse(&format!("`{text}` is no network"), allowed),
    }
}

/// A host name, in lower case: labels of letters, digits and inner hyphens (RFC 1123 §2.1), and underscores.
pub(super) fn domain(entry: &Entry<'_>) -> Option<String> {
    let allowed = "a domain name as \"example.org\"";
    let text = entry.text(allowed)?;
    parse_name(text).or_else(|| entry.refuse(&format!("`{text}` is no domain name"), allowed))
}

/// The name of an extension, in lower case (RFC 3261 §25.1, `option-tag`).
pub(super) fn option_tag(entry: &Entry<'_>) -> Option<String> {
    let allowed = "a token as \"ms-benotify\"";
    let text = entry.text(allowed)?;
    match is_token_only(text.as_bytes()) {
        true => Some(text.to_ascii_lowercase()),
        false => entry.refuse(&format!("`{text}` is no option tag"), allowed),
    }
}

/// An IP address or a name.
pub(super) fn host(entry: &Entry<'_>) -> Option<Host> {
    let allowed = "an IP address or a host name";
    let text = entry.text(allowed)?;
    parse_host(text).or_else(|| entry.refuse(&format!("`{text}` is no host"), allowed))
}

/// `host:port`, an IPv6 address in brackets.
pub(super) fn host_port(entry: &Entry<'_>) -> Option<HostPort> {
    let allowed = "\"host:port\", an IPv6 address in brackets";
    let text = entry.text(allowed)?;
    parse_host_port(text).or_else(|| entry.refuse(&format!("`{text}` is no host with a port"), allowed))
}

/// `ip:port` to listen at; or, where there is a default port, one to send to, and the address alone is
/// enough.
pub(super) fn socket_address(default_port: Option<u16>) -> impl Fn(&Entry<'_>) -> Option<SocketAddr> {
    move |entry| {
        let allowed = if default_port.is_some() { "\"ip\" or \"ip:port\"" } else { "\"ip:port\"" };
        let text = entry.text(allowed)?;
        let alone = || Some(SocketAddr::new(text.parse().ok()?, default_port?));
        let usable = |address: &SocketAddr| default_port.is_none() || address.port() != 0;
        let parsed = text.parse().ok().or_else(alone).filter(usable);
        parsed.or_else(|| entry.refuse(&format!("`{text}` is no such address"), allowed))
    }
}

/// A path; relative ones are relative to the file.
pub(super) fn path(entry: &Entry<'_>) -> Option<PathBuf> {
    match entry.text("a path")? {
        "" => entry.refuse("is empty", "a path"),
        text => Some(entry.report().resolve(text)),
    }
}

/// The path of a file whose content is a part of the configuration.
pub(super) fn file(entry: &Entry<'_>) -> Option<PathBuf> {
    path(entry).inspect(|path| entry.report().note_file(path))
}

/// What `rule` allows; `None` for the empty string, which means that there is none.
pub(super) fn unless_empty<T>(
    rule: impl Fn(&Entry<'_>) -> Option<T>,
) -> impl Fn(&Entry<'_>) -> Option<Option<T>> {
    unless("", rule)
}

/// What `rule` allows; `None` for the word.
pub(super) fn unless<T>(
    word: &'static str,
    rule: impl Fn(&Entry<'_>) -> Option<T>,
) -> impl Fn(&Entry<'_>) -> Option<Option<T>> {
    move |entry| if entry.is_text(word) { Some(None) } else { rule(entry).map(Some) }
}

/// A list; elements that are faulty are reported one by one.
pub(super) fn list<T>(rule: impl Fn(&Entry<'_>) -> Option<T>) -> impl Fn(&Entry<'_>) -> Option<Vec<T>> {
    move |entry| {
        let items = entry.items("a list")?;
        let values: Vec<_> = items.iter().map(&rule).collect();
        values.into_iter().collect()
    }
}

/// A list without repetitions.
pub(super) fn set<T: Hash + Eq>(
    rule: impl Fn(&Entry<'_>) -> Option<T>,
) -> impl Fn(&Entry<'_>) -> Option<Vec<T>> {
    let list = list(move |entry| Some((rule(entry)?, entry.path().to_owned())));
    move |entry| {
        let values = list(entry)?;
        let mut seen = HashSet::new();
        let repeated: Vec<_> = values.iter().filter(|(value, _)| !seen.insert(value)).collect();
        for (_, path) in &repeated {
            entry.report().fault(path, "is given twice, allowed: once");
        }
        repeated.is_empty().then_some(())?;
        Some(values.into_iter().map(|(value, _)| value).collect())
    }
}

/// One value, or a list without repetitions that is not empty.
pub(super) fn one_or_set<T: Hash + Eq>(
    rule: impl Fn(&Entry<'_>) -> Option<T> + Copy,
) -> impl Fn(&Entry<'_>) -> Option<Vec<T>> {
    let set = non_empty(set(rule));
    move |entry| if entry.is_list() { set(entry) } else { rule(entry).map(|value| vec![value]) }
}

/// A list with at least one element.
pub(super) fn non_empty<T>(
    list: impl Fn(&Entry<'_>) -> Option<Vec<T>>,
) -> impl Fn(&Entry<'_>) -> Option<Vec<T>> {
    move |entry| match list(entry)? {
        empty if empty.is_empty() => entry.refuse("is empty", "at least one element"),
        values => Some(values),
    }
}

/// One host that something can be sent to.
fn parse_host(text: &str) -> Option<Host> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() || address.is_multicast() => None,
        Ok(address) => Some(Host::Address(address)),
        // Names never look like IPv4 addresses (RFC 1123 §2.1), so this is one that was mistyped.
        Err(_) if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => None,
        Err(_) => parse_name(text).map(Host::Name),
    }
}

/// A host with a port, an IPv6 address in brackets.
pub(super) fn parse_host_port(text: &str) -> Option<HostPort> {
    let is_v6 = |host: &Host| matches!(host, Host::Address(IpAddr::V6(_)));
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(address) => parse_host(address).filter(is_v6)?,
        None => parse_host(host).filter(|host| !is_v6(host))?,
    };
    Some(HostPort { host, port: port.parse().ok().filter(|port| *port != 0)? })
}

/// A domain or host name in lower case, without the dot that may end it: labels of letters, digits, inner hyphens and
/// underscores. `None`: it is none.
pub fn parse_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let octet = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |l: &str| {
        (1..=63).contains(&l.len()) && l.bytes().all(octet) && !l.starts_with('-') && !l.ends_with('-')
    };
    (name.len() <= 253 && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_in_lower_case() {
        for (text, expected) in [
            ("Example.ORG", Some("example.org")),
            ("example.org.", Some("example.org")),
            ("localhost", Some("localhost")),
            ("_sip.xn--bcher-kva.example", Some("_sip.xn--bcher-kva.example")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a.example", None),
            ("a-.example", None),
            ("b\u{fc}cher.example", None),
            ("a b", None),
            ("*.example", None),
        ] {
            assert_eq!(parse_name(text).as_deref(), expected, "{text:?}");
        }
        assert!(parse_name(&"a".repeat(63)).is_some() && parse_name(&"a".repeat(64)).is_none());
        assert!(parse_name(&["a"; 127].join(".")).is_some() && parse_name(&["a"; 128].join(".")).is_none());
    }

    #[test]
    fn hosts_are_single_addresses_or_names() {
        for (text, expected) in [
            ("203.0.113.77", Some("203.0.113.77")),
            ("2001:DB8::1", Some("2001:db8::1")),
            ("Sip.Example", Some("sip.example")),
            ("1.2.3", None),
            ("0.0.0.0", None),
            ("::", None),
            ("224.0.0.1", None),
            ("[::1]", None),
        ] {
            assert_eq!(parse_host(text).map(|host| host.to_string()).as_deref(), expected, "{text:?}");
        }
    }
}
