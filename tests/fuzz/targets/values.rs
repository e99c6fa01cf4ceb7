//! Single values: URIs, Via, name-addr, the numbers, digest credentials.

use std::net::SocketAddr;
use std::time::Duration;

use sip_proxy::protocol::account::Secret;
use sip_proxy::protocol::digest::{
    Algorithm, Credentials, Expected, NonceVerdict, Nonces, challenge, verify,
};
use sip_proxy::protocol::location::AddressOfRecord;
use sip_proxy::protocol::message::headers::{CSeq, delta_seconds, q_value};
use sip_proxy::protocol::message::lexical::{CommaList, Parameters, decimal};
use sip_proxy::protocol::message::name_addr::NameAddr;
use sip_proxy::protocol::message::uri::{Host, Uri, parse_host_port, unescape};
use sip_proxy::protocol::message::via::Via;

/// Two URIs, with a line feed between them.
pub(crate) fn uri(octets: &[u8]) {
    let mut parts = octets.splitn(2, |&c| c == b'\n');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (first, second) = (check_uri(first), check_uri(second));
    if let (Some(first), Some(second)) = (first, second) {
        assert_eq!(first.is_equivalent(&second), second.is_equivalent(&first), "equivalence has a direction");
    }
    if let Some((_, host, _)) = parse_host_port(octets) {
        check_host(&host);
    }
    assert!(unescape(octets).len() <= octets.len());
}

fn check_uri(text: &[u8]) -> Option<Uri<'_>> {
    let uri = Uri::parse(text).ok()?;
    check_host(&uri.host);
    let (_, host, port) = parse_host_port(uri.host_text).expect("a host that was read once");
    assert!(host.is_same(&uri.host) && port.is_none(), "host_text is not the host");
    assert!(!uri.is_loose_router() || memchr(text, b"lr"), "loose routing out of nowhere");
    let name = AddressOfRecord::from_uri(&uri);
    assert_eq!(name.user(), &*unescape(uri.user.unwrap_or_default()));
    let upper = text.to_ascii_uppercase();
    if uri.user.is_none() {
        let again = Uri::parse(&upper).expect("case matters nowhere in the grammar");
        assert_eq!(AddressOfRecord::from_uri(&again), name, "the domain has no case");
    }
    Some(uri)
}

fn memchr(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

fn check_host(host: &Host<'_>) {
    assert!(host.is_same(host));
    let lower = host.to_lowercase();
    if let Host::Name(_) = host {
        let again = Host::parse(&lower).expect("a name stays one");
        assert!(again.is_same(host), "the same name in lower case is another");
    }
}

/// One header value, read as whatever it may be.
pub(crate) fn via_and_name_addr(octets: &[u8]) {
    let mut read = 0;
    for value in CommaList::new(octets) {
        read += value.len();
        check_via(value);
        check_name_addr(value);
    }
    assert!(read <= octets.len(), "values overlap");
    for parameter in Parameters(octets).iter().filter_map(Result::ok) {
        assert!(!parameter.name.is_empty());
    }
    if let Some(cseq) = CSeq::parse(octets) {
        assert!(cseq.number < 1 << 31 && !cseq.method.is_empty());
    }
    assert!(q_value(octets).is_none_or(|q| q <= 1000));
    assert!(decimal(octets).is_none_or(|number| delta_seconds(octets) == Some(number)));
}

/// Stamped once, a Via says where it came from and is stamped no further.
fn check_via(value: &[u8]) {
    let Some(via) = Via::parse(value) else { return };
    let source: SocketAddr = "[2001:db8::7]:4321".parse().expect("a socket address");
    let stamp = |via: &Via<'_>| {
        let mut out = Vec::new();
        via.write_stamped(source, Some(540), &mut out);
        out
    };
    let stamped = stamp(&via);
    assert!(via.needs_stamp(source, Some(540)) || stamped == via.text);
    let again = Via::parse(&stamped).expect("a Via that was read once");
    assert_eq!((again.branch, again.host_text, again.port), (via.branch, via.host_text, via.port));
    if via.has_rport {
        assert_eq!(again.parameters.value(b"rport"), Some(&b"4321"[..]));
        assert_eq!(again.parameters.value(b"received"), Some(&b"2001:db8::7"[..]));
    }
    assert_eq!(stamp(&again), stamped, "stamped twice");
}

fn check_name_addr(value: &[u8]) {
    let Some(address) = NameAddr::parse(value) else { return };
    assert!(!address.uri.is_empty() && address.parameters.is_valid());
    assert!(address.tag().is_none_or(|tag| !tag.is_empty()));
    let mut written = [b"<", address.uri, b">"].concat();
    written.extend_from_slice(address.parameters.0);
    let again = NameAddr::parse(&written).expect("the same in brackets");
    assert_eq!((again.uri, again.tag()), (address.uri, address.tag()), "brackets change what it says");
}

/// One value of Authorization. Nobody who has not been told the password or the nonce gets in.
pub(crate) fn digest(octets: &[u8]) {
    let nonces = Nonces::new([7; 32], Duration::from_secs(300));
    assert!(!matches!(nonces.check(octets, 1_000), NonceVerdict::Valid(_)), "a nonce was guessed");
    let realm = String::from_utf8_lossy(octets);
    assert!(!challenge(&realm.replace(char::is_control, ""), &[Algorithm::Md5], "n", false).is_empty());
    let Ok(credentials) = Credentials::parse(octets) else { return };
    assert!(!credentials.nonce.is_empty() && !credentials.response.is_empty());
    assert!(!matches!(nonces.check(&credentials.nonce, 1_000), NonceVerdict::Valid(_)));
    let secret = Secret::Password("8c1f0a63b2".to_owned());
    let user_name = String::from_utf8_lossy(&credentials.user_name);
    let realm = String::from_utf8_lossy(&credentials.realm);
    let expected = Expected {
        user_name: &user_name,
        secret: &secret,
        realm: &realm,
        method: b"REGISTER",
        algorithms: &[Algorithm::Sha512_256, Algorithm::Sha256, Algorithm::Md5],
    };
    assert!(verify(&credentials, &expected).is_err(), "a password was guessed");
}
