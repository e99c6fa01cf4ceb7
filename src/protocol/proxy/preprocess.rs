//! Route information preprocessing (RFC 3261 §16.4), the part that changes the request: what a strict router has
//! made of it, and a maddr that names the proxy. All later steps see the request as it is afterwards.

use crate::protocol::flow::{Flow, Transport};
use crate::protocol::interface::Interfaces;
use crate::protocol::message::edit::Edit;
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::uri::{Host, Uri};
use crate::protocol::message::{Message, Name};
use crate::protocol::record_route::TokenKey;

use super::forking::parse_own;
use super::settings::Settings;

/// The request as it should have come; `None` where it has. Its URIs have been validated.
pub fn preprocess(
    request: &Message,
    source: &Flow,
    settings: &Settings,
    interfaces: &Interfaces,
    key: &TokenKey,
) -> Option<Message> {
    let repaired = undo_strict_routing(request, interfaces, key);
    let stripped = strip_maddr(repaired.as_ref().unwrap_or(request), source, settings, interfaces);
    stripped.or(repaired)
}

/// A strict router puts what we have recorded into the Request-URI and the target behind all routes (§16.12.1.2).
/// Ours becomes the first route again, since its token may know a flow that the target does not.
fn undo_strict_routing(request: &Message, interfaces: &Interfaces, key: &TokenKey) -> Option<Message> {
    let (at, last) = request.values(Name::Route).enumerate().last()?;
    key.read(request.target().ok()?.user?, interfaces)?;
    let target = NameAddr::parse(last)?.uri;
    let mut scratch = Vec::new();
    let mut edit = Edit::new(request, &mut scratch);
    edit.replace_request_uri(target);
    edit.insert_row(Name::Route, |out| {
        out.push(b'<');
        out.extend_from_slice(request.request_uri());
        out.push(b'>');
    });
    edit.remove_values(Name::Route, |value| value == at);
    parse_own(edit.write())
}

/// A maddr that leads here has led here, with the port and transport that go with it.
fn strip_maddr(
    request: &Message,
    source: &Flow,
    settings: &Settings,
    interfaces: &Interfaces,
) -> Option<Message> {
    let text = request.request_uri();
    let uri = request.target().ok()?;
    let host = uri.maddr()?;
    let transport = uri.wanted_transport()?;
    let port = uri.port.unwrap_or(transport.default_port());
    let is_here = transport == source.transport && port == source.local.port();
    if !is_here || !is_responsible(&host, port, settings, interfaces) {
        return None;
    }
    let mut scratch = Vec::new();
    let mut edit = Edit::new(request, &mut scratch);
    edit.replace_request_uri(&without_maddr(text, &uri));
    parse_own(edit.write())
}

fn is_responsible(host: &Host<'_>, port: u16, settings: &Settings, interfaces: &Interfaces) -> bool {
    settings.is_presence_domain(host) || interfaces.is_ours(host, Some(port))
}

/// Without maddr, and without a port and transport that are not those of the scheme.
fn without_maddr(text: &[u8], uri: &Uri<'_>) -> Vec<u8> {
    let host_end = uri.host_text.as_ptr() as usize - text.as_ptr() as usize + uri.host_text.len();
    let usual = if uri.is_secure { Transport::Tls } else { Transport::Udp };
    let mut out = text[..host_end].to_vec();
    if uri.port == Some(usual.default_port()) {
        out.extend_from_slice(format!(":{}", usual.default_port()).as_bytes());
    }
    for parameter in uri.parameters.iter().filter_map(Result::ok) {
        let is_transport = parameter.name.eq_ignore_ascii_case(b"transport");
        if parameter.name.eq_ignore_ascii_case(b"maddr")
            || (is_transport && uri.wanted_transport() != Some(usual))
        {
            continue;
        }
        out.push(b';');
        out.extend_from_slice(parameter.name);
        if let Some(value) = parameter.value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::account::Accounts;
    use crate::protocol::proxy::tests::network::{Peer, interfaces, settings};
    use crate::protocol::record_route::{self, Face};

    fn message(uri: &str, rows: &str) -> Message {
        parse_own(format!("MESSAGE {uri} SIP/2.0\r\n{rows}To: <sip:b@a.test>\r\n\r\n").into()).unwrap()
    }

    fn after(request: &Message, source: Peer) -> Option<String> {
        let key = TokenKey::new([1; 16]).of_router(0, &Arc::new(Accounts::default()));
        let changed = preprocess(request, &source.0, &settings(), &interfaces(), &key)?;
        Some(String::from_utf8(changed.bytes().to_vec()).unwrap())
    }

    fn recorded() -> String {
        let key = TokenKey::new([1; 16]).of_router(0, &Arc::new(Accounts::default()));
        let (up, down) = (Peer::udp(7).0, Peer::udp(9).0);
        let [up, down] = [&up, &down].map(|flow| Face { flow, account: None, is_sips: false });
        let mut out = Vec::new();
        record_route::values(&key, &interfaces(), up, down, 70, |write| write(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_strict_router_has_moved_is_put_back() {
        let recorded = recorded();
        let own = recorded.trim_start_matches('<').trim_end_matches('>');
        let table = [
            (
                "Route: <sip:next;lr>, <sip:bob@h;x=1>\r\n",
                Some(("sip:bob@h;x=1", "Route: <sip:next;lr>\r\n")),
            ),
            (
                "Route: <sip:one;lr>\r\nRoute: <sip:two>,<sip:bob@h>;p\r\n",
                Some(("sip:bob@h", "Route: <sip:one;lr>\r\nRoute: <sip:two>\r\n")),
            ),
            ("Route: <sip:bob@h>\r\n", Some(("sip:bob@h", ""))),
            // Without a route there is nothing to put back.
            ("", None),
        ];
        for (rows, expected) in table {
            let expected = expected.map(|(uri, rows)| {
                format!("MESSAGE {uri} SIP/2.0\r\nRoute: {recorded}\r\n{rows}To: <sip:b@a.test>\r\n\r\n")
            });
            assert_eq!(after(&message(own, rows), Peer::udp(7)), expected, "{rows}");
        }
        // What we have not written is somebody else's.
        let forged = own.replacen("sip:A", "sip:B", 1);
        assert_eq!(after(&message(&forged, "Route: <sip:bob@h>\r\n"), Peer::udp(7)), None);
    }

    #[test]
    fn a_maddr_that_has_led_here_goes_with_its_port_and_transport() {
        let table = [
            ("sip:bob@a.test;maddr=127.0.0.1", Peer::udp(7), Some("sip:bob@a.test")),
            ("sip:bob@a.test:5060;a=1;maddr=127.0.0.1;b", Peer::udp(7), Some("sip:bob@a.test:5060;a=1;b")),
            ("sip:bob@a.test;maddr=a.test;transport=udp", Peer::udp(7), Some("sip:bob@a.test;transport=udp")),
            ("sip:bob@a.test;transport=tcp;maddr=127.0.0.1", Peer::tcp(7), Some("sip:bob@a.test")),
            ("sip:bob@a.test:5061;transport=tls;maddr=127.0.0.1", Peer::tls(7), Some("sip:bob@a.test")),
            ("sips:bob@a.test;maddr=127.0.0.1", Peer::tls(7), Some("sips:bob@a.test")),
            // Another port, another transport, somebody else.
            ("sip:bob@a.test:5070;maddr=127.0.0.1", Peer::udp(7), None),
            ("sip:bob@a.test;maddr=127.0.0.1", Peer::tcp(7), None),
            ("sip:bob@a.test;maddr=127.0.0.9", Peer::udp(7), None),
            ("sip:bob@a.test;x=1", Peer::udp(7), None),
        ];
        for (uri, source, expected) in table {
            let expected = expected.map(|uri| format!("MESSAGE {uri} SIP/2.0\r\nTo: <sip:b@a.test>\r\n\r\n"));
            assert_eq!(after(&message(uri, ""), source), expected, "{uri}");
        }
    }
}
