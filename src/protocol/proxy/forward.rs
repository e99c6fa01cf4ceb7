//! Request forwarding (RFC 3261 §16.6): the octets of one branch, and of the ACK and CANCEL that belong to it.

use bytes::Bytes;

use crate::protocol::account::AccountId;
use crate::protocol::digest::{Credentials, Nonces};
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::interface::{Interfaces, Side};
use crate::protocol::message::edit::Edit;
use crate::protocol::message::lexical::{push_decimal, trim};
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::uri::Uri;
use crate::protocol::message::{Message, Method, Name};
use crate::protocol::record_route::{self, Face, TokenKey};
use crate::protocol::transaction::Branch;

use super::keep_alive;
use super::targets::Target;

/// What is the same for all branches of a request.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The request as it came.
    pub request: &'a Message,
    /// The flow that it came in on.
    pub source: &'a Flow,
    /// Whose it is.
    pub account: Option<AccountId>,
    /// Values at the front of Route that go (§16.4).
    pub own_routes: usize,
    /// What Max-Forwards becomes (step 3).
    pub max_forwards: u32,
    /// Whether we stay on the path of the dialog (step 4).
    pub is_recorded: bool,
    /// The realm whose credentials may have been for us (§22.3).
    pub realm: &'a str,
    /// Whose challenges were ours.
    pub nonces: &'a Nonces,
    /// Our names.
    pub interfaces: &'a Interfaces,
    /// For Record-Route.
    pub token_key: &'a TokenKey,
    /// What the sender says of identities may be passed on.
    pub is_trusted: bool,
    /// How often the sender is to send keep-alives if it offers that, in seconds; 0 leaves it to the sender.
    pub keep_alive: u64,
}

/// What each branch has of its own.
#[derive(Clone, Copy, Debug)]
pub struct Leg<'a> {
    /// Who is asked.
    pub target: &'a Target,
    /// Where the octets go: to the target's hop, or there by another transport.
    pub hop: &'a Flow,
    /// The branch parameter of our Via.
    pub branch: Branch,
    /// The share of Max-Breadth (RFC 5393 §5.3.3); `None` leaves it as it is.
    pub max_breadth: Option<u32>,
}

impl Forwarding<'_> {
    /// As [`Self::write`] to the target's hop. What is longer than `udp_mtu` goes to the same place by TCP instead of
    /// UDP, if that is a way there (§18.1.1). With the octets, where they go.
    pub fn write_by_size(
        &self,
        (target, branch, max_breadth): (&Target, Branch, Option<u32>),
        udp_mtu: usize,
        scratch: &mut Vec<u8>,
    ) -> (Flow, Bytes) {
        let leg = Leg { target, hop: &target.hop, branch, max_breadth };
        let bytes = self.write(&leg, scratch);
        if target.is_fixed || target.hop.transport != Transport::Udp || bytes.len() <= udp_mtu {
            return (target.hop, bytes);
        }
        let hop = Flow { transport: Transport::Tcp, ..target.hop };
        (hop, self.write(&Leg { hop: &hop, ..leg }, scratch))
    }

    /// Writes the request for one branch (steps 1 to 9).
    pub fn write(&self, leg: &Leg<'_>, scratch: &mut Vec<u8>) -> Bytes {
        let Leg { target, hop, branch, max_breadth } = *leg;
        let mut edit = Edit::new(self.request, scratch);
        self.write_vias(&mut edit, hop, branch);
        self.write_number(&mut edit, Name::MaxForwards, self.max_forwards);
        if let Some(max_breadth) = max_breadth {
            self.write_number(&mut edit, Name::MaxBreadth, max_breadth);
        }
        self.write_routes(&mut edit, target);
        if self.is_recorded {
            let [is_sips_above, is_sips_below] = self.schemes(target);
            let upstream = Face { flow: self.source, account: self.account, is_sips: is_sips_above };
            let downstream = Face { flow: hop, account: target.account, is_sips: is_sips_below };
            // Counted down from 255 at most.
            let pass = self.max_forwards as u8;
            record_route::values(self.token_key, self.interfaces, upstream, downstream, pass, |write| {
                edit.insert_row(Name::RecordRoute, |out| write(out));
            });
        }
        self.remove_credentials(&mut edit);
        let crosses = self.interfaces.side(hop.interface) == Side::Wan
            || self.interfaces.side(self.source.interface) == Side::Wan;
        remove_identities(&mut edit, self.request, self.is_trusted, target.is_trusted, crosses);
        if keep_alive::is_asked(self.request, self.source) {
            // The question was for us.
            self.request.row_spans(Name::MsKeepAlive).for_each(|span| edit.replace(span, |_| ()));
        }
        if hop.transport.is_reliable() {
            edit.measure_body();
        }
        edit.write()
    }

    /// Whether the request has `sips` in its Request-URI or topmost Route, as it came and as it leaves (step 4).
    fn schemes(&self, target: &Target) -> [bool; 2] {
        let is_sips = |uri: &[u8]| uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"));
        let is_secure = |route: &[u8]| NameAddr::parse(route).is_some_and(|route| is_sips(route.uri));
        let came = self.request.request_uri();
        let leaves = target.request_uri.as_deref().unwrap_or(came);
        let path = target.path.first().map(|value| &value[..]);
        let next = path.or_else(|| self.request.values(Name::Route).nth(self.own_routes));
        let first = self.request.values(Name::Route).next();
        [(came, first), (leaves, next)].map(|(uri, route)| is_sips(uri) || route.is_some_and(is_secure))
    }

    /// Ours on top (step 8); the one below says where the request came from (§18.2.1).
    fn write_vias(&self, edit: &mut Edit<'_, '_>, hop: &Flow, branch: Branch) {
        edit.insert_row(Name::Via, |out| {
            out.extend_from_slice(b"SIP/2.0/");
            out.extend_from_slice(hop.transport.via_token().as_bytes());
            out.push(b' ');
            self.interfaces.write_sent_by(hop, out);
            if hop.transport == Transport::Udp {
                out.extend_from_slice(b";rport");
            }
            out.extend_from_slice(b";branch=");
            out.extend_from_slice(&branch.to_octets());
        });
        // Only who stays on the way of a dialog may accept them for it (RFC 6223 §4.4).
        let keep_alive = self.is_recorded.then_some(self.keep_alive);
        let (source, via) = (self.source.remote, self.request.top_via());
        if let Some(via) = via.filter(|via| via.needs_stamp(source, keep_alive)) {
            edit.replace(self.request.span_of(via.text), |out| via.write_stamped(source, keep_alive, out));
        }
    }

    /// Step 3, and the same for Max-Breadth.
    fn write_number(&self, edit: &mut Edit<'_, '_>, name: Name, number: u32) {
        match self.request.row(name) {
            Some(value) => {
                edit.replace(self.request.span_of(value), |out| push_decimal(out, u64::from(number)));
            }
            None => edit.append_row(name, |out| push_decimal(out, u64::from(number))),
        }
    }

    /// Steps 2 and 6. A strict router next on the way finds itself in the Request-URI, and the target behind all
    /// routes.
    fn write_routes(&self, edit: &mut Edit<'_, '_>, target: &Target) {
        let request_uri = target.request_uri.as_deref();
        let first = target.path.first().map(|value| &value[..]);
        let first = first.or_else(|| self.request.values(Name::Route).nth(self.own_routes));
        let strict = first.and_then(strict_router);
        if let Some(uri) = strict.or(request_uri) {
            edit.replace_request_uri(uri);
        }
        let passed = usize::from(strict.is_some());
        for value in target.path.iter().skip(passed) {
            edit.insert_row(Name::Route, |out| out.extend_from_slice(value));
        }
        let passed = if target.path.is_empty() { passed } else { 0 };
        edit.remove_first_values(Name::Route, self.own_routes + passed);
        if strict.is_some() {
            edit.append_row(Name::Route, |out| {
                out.push(b'<');
                out.extend_from_slice(request_uri.unwrap_or(self.request.request_uri()));
                out.push(b'>');
            });
        }
    }

    /// Takes out the credentials that were for us; those of other realms are for others.
    fn remove_credentials(&self, edit: &mut Edit<'_, '_>) {
        for name in [Name::ProxyAuthorization, Name::Authorization] {
            for (row, span) in self.request.rows(name).zip(self.request.row_spans(name)) {
                // A server behind us may have the same realm, and challenges of its own.
                let is_ours = Credentials::parse(row)
                    .is_ok_and(|c| *c.realm == *self.realm.as_bytes() && self.nonces.is_ours(&c.nonce));
                if is_ours {
                    edit.replace(span, |_| ());
                }
            }
        }
    }
}

/// Takes out what the next hop may not see, or not believe (RFC 3325 §5, §7): identities asserted by who is not trusted, or
/// to be hidden from who is not trusted; what is meant for the first proxy alone; and across the border, marks of trust
/// of other systems.
pub(super) fn remove_identities(
    edit: &mut Edit<'_, '_>,
    message: &Message,
    is_trusted: bool,
    trusts: bool,
    crosses_border: bool,
) {
    let hides = || {
        let ids = message.rows(Name::Privacy).flat_map(|row| row.split(|&c| matches!(c, b';' | b',')));
        ids.into_iter().any(|id| trim(id).eq_ignore_ascii_case(b"id"))
    };
    let removed = [
        (Name::PAssertedIdentity, !is_trusted || (!trusts && hides())),
        (Name::PPreferredIdentity, true),
        (Name::MsEdgeProxyMessageTrust, crosses_border),
    ];
    for (name, is_removed) in removed {
        message.row_spans(name).filter(|_| is_removed).for_each(|span| edit.replace(span, |_| ()));
    }
}

/// The URI of a Route value without `lr`.
fn strict_router(value: &[u8]) -> Option<&[u8]> {
    let uri = NameAddr::parse(value)?.uri;
    (!Uri::parse(uri).ok()?.is_loose_router()).then_some(uri)
}

/// Whether the proxy stays on the path (step 4, RFC 6665 §4.3): it does for whatever forms a dialog, and for
/// everything in a dialog that it has recorded which can form or refresh one.
pub fn is_recorded(request: &Message, has_token: bool) -> bool {
    let Some(method) = request.method() else { return false };
    let in_dialog = request.is_in_dialog();
    match (method.forms_dialog(), in_dialog) {
        (true, false) => true,
        (true, true) => has_token,
        (false, _) => method == Method::Notify && has_token,
    }
}

/// The ACK to a final response other than 2xx (§17.1.1.3), or the CANCEL (§9.1), of an INVITE that was sent as
/// `invite`. `to` is the To of the response for an ACK; a CANCEL has that of the INVITE.
pub fn write_for_invite(invite: &Message, method: &str, to: Option<&[u8]>) -> Bytes {
    let mut out = Vec::with_capacity(512);
    for part in [method.as_bytes(), b" ", invite.request_uri(), b" SIP/2.0\r\n"] {
        out.extend_from_slice(part);
    }
    let mut row = |name: Name, value: &[u8]| {
        for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    };
    row(Name::Via, invite.values(Name::Via).next().unwrap_or_default());
    for value in invite.rows(Name::Route) {
        row(Name::Route, value);
    }
    row(Name::MaxForwards, b"70");
    row(Name::From, invite.row(Name::From).unwrap_or_default());
    row(Name::To, to.or(invite.row(Name::To)).unwrap_or_default());
    row(Name::CallId, invite.call_id());
    let number = invite.cseq().map_or(0, |cseq| cseq.number);
    row(Name::CSeq, format!("{number} {method}").as_bytes());
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::flow::InterfaceId;
    use crate::protocol::message::{Carriage, MessageLimits};

    fn nonces() -> Nonces {
        Nonces::new([1; 32], std::time::Duration::from_secs(60))
    }

    fn message(text: &str) -> Message {
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), Carriage::Datagram, limits).unwrap()
    }

    fn flow(transport: Transport, port: u16) -> Flow {
        Flow {
            interface: InterfaceId(0),
            transport,
            local: "127.0.0.1:5060".parse().unwrap(),
            remote: std::net::SocketAddr::from(([127, 0, 0, 1], port)),
            connection: None,
        }
    }

    #[test]
    fn every_change_has_its_place_and_all_else_stays() {
        let (source, nonces) = (flow(Transport::Udp, 7), nonces());
        let ours = nonces.mint(0, 0, 0);
        let request = message(&format!(
            "INVITE sip:bob@a.test SIP/2.0\r\nX-First: 1\r\nVia: SIP/2.0/UDP 127.0.0.1:7;branch=z9hG4bKa\r\n\
             Route: <sip:us;lr>, <sip:us2;lr> ,<sip:next;lr>\r\nAuthorization: Digest username=\"u\", realm=\"a.test\", \
             nonce=\"{ours}\", uri=\"x\", response=\"r\"\r\nAuthorization: Digest realm=\"other\"\r\nAuthorization: \
             Digest username=\"u\", realm=\"a.test\", nonce=\"n\", uri=\"x\", response=\"r\"\r\n\
             Record-Route: <sip:before;lr>\r\nX-Last: 1\r\n\r\nbody"
        ));
        let forwarding = Forwarding {
            request: &request,
            source: &source,
            account: None,
            own_routes: 2,
            max_forwards: 70,
            is_recorded: true,
            realm: "a.test",
            nonces: &nonces,
            interfaces: &Interfaces::default(),
            token_key: &TokenKey::new([1; 16]),
            is_trusted: true,
            keep_alive: 540,
        };
        let hop = flow(Transport::Tcp, 9);
        let target = Target {
            request_uri: Some(Bytes::from_static(b"sip:bob@contact")),
            path: vec![Bytes::from_static(b"<sip:p1;lr>"), Bytes::from_static(b"<sip:p2;lr>")],
            ..Target::direct(hop)
        };
        let branch = Branch { router: 1, slot: 2, generation: 3, loop_hash: 4 };
        let leg = Leg { target: &target, hop: &hop, branch, max_breadth: Some(60) };
        let written = forwarding.write(&leg, &mut Vec::new());
        let written = std::str::from_utf8(&written).unwrap();
        let rows: Vec<_> = written.split("\r\n").collect();
        let expected = [
            "INVITE sip:bob@contact SIP/2.0",
            "X-First: 1",
            "Via: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK010000000200000003.0000000000000004",
            "Via: SIP/2.0/UDP 127.0.0.1:7;branch=z9hG4bKa",
            "Route: <sip:p1;lr>",
            "Route: <sip:p2;lr>",
            "Route: <sip:next;lr>",
            "Authorization: Digest realm=\"other\"",
            // The challenge of a server behind us, which has the same realm.
            "Authorization: Digest username=\"u\", realm=\"a.test\", nonce=\"n\", uri=\"x\", response=\"r\"",
            rows[9],
            rows[10],
            "Record-Route: <sip:before;lr>",
            "X-Last: 1",
            "Max-Forwards: 70",
            "Max-Breadth: 60",
            "Content-Length: 4",
            "",
            "body",
        ];
        assert_eq!(rows, expected);
        assert!(
            rows[9].starts_with("Record-Route: <sip:")
                && rows[9].ends_with("@127.0.0.1:5060;transport=tcp;lr>")
        );
        assert!(rows[10].starts_with("Record-Route: <sip:") && rows[10].ends_with("@127.0.0.1:5060;lr>"));
    }

    #[test]
    fn a_strict_router_finds_itself_in_the_request_uri() {
        let written = |routes: &str, own_routes, path: &[&'static str], uri: Option<&'static str>| {
            let request =
                message(&format!("BYE sip:bob@h SIP/2.0\r\n{routes}Via: SIP/2.0/UDP h\r\nTo: t\r\n\r\n"));
            let (source, nonces) = (flow(Transport::Udp, 7), nonces());
            let forwarding = Forwarding {
                request: &request,
                source: &source,
                account: None,
                own_routes,
                max_forwards: 70,
                is_recorded: false,
                realm: "a.test",
                nonces: &nonces,
                interfaces: &Interfaces::default(),
                token_key: &TokenKey::new([1; 16]),
                is_trusted: true,
                keep_alive: 540,
            };
            let target = Target {
                request_uri: uri.map(|uri| Bytes::from_static(uri.as_bytes())),
                path: path.iter().map(|value| Bytes::from_static(value.as_bytes())).collect(),
                ..Target::direct(flow(Transport::Udp, 9))
            };
            let branch = Branch { router: 1, slot: 2, generation: 3, loop_hash: 4 };
            let leg = Leg { target: &target, hop: &target.hop, branch, max_breadth: Some(60) };
            let written = forwarding.write(&leg, &mut Vec::new());
            let text = String::from_utf8(written.to_vec()).unwrap();
            let first = text.split(' ').nth(1).unwrap().to_owned();
            let rows = text.lines().filter_map(|row| row.strip_prefix("Route: ")).map(str::to_owned);
            (first, rows.collect::<Vec<_>>())
        };
        type Row<'a> =
            (&'a str, usize, &'static [&'static str], Option<&'static str>, &'a str, &'a [&'a str]);
        let table: [Row<'_>; 8] = [
            ("Route: <sip:next;lr>\r\n", 0, &[], None, "sip:bob@h", &["<sip:next;lr>"]),
            ("Route: <sip:strict>\r\n", 0, &[], None, "sip:strict", &["<sip:bob@h>"]),
            (
                "Route: <sip:us;lr>, <sip:strict;x=1>,<sip:far>\r\n",
                1,
                &[],
                None,
                "sip:strict;x=1",
                &["<sip:far>", "<sip:bob@h>"],
            ),
            ("Route: <sip:us;lr>\r\nRoute: <sip:s>\r\n", 1, &[], Some("sip:c"), "sip:s", &["<sip:c>"]),
            ("Route: <sip:us>\r\n", 1, &[], None, "sip:bob@h", &[]),
            ("", 0, &["<sip:p;lr>", "<sip:q>"], Some("sip:c"), "sip:c", &["<sip:p;lr>", "<sip:q>"]),
            ("", 0, &["<sip:p>", "<sip:q>"], Some("sip:c"), "sip:p", &["<sip:q>", "<sip:c>"]),
            ("Route: <sip:r>\r\n", 0, &["<sip:p>"], None, "sip:p", &["<sip:r>", "<sip:bob@h>"]),
        ];
        for (routes, own_routes, path, uri, expected, rows) in table {
            let (first, found) = written(routes, own_routes, path, uri);
            assert_eq!(
                (first.as_str(), found),
                (expected, rows.iter().map(|&row| row.to_owned()).collect()),
                "{routes}"
            );
        }
    }

    #[test]
    fn what_is_recorded() {
        let table = [
            ("INVITE", false, false, true),
            ("INVITE", true, false, false),
            ("INVITE", true, true, true),
            ("SUBSCRIBE", false, false, true),
            ("SUBSCRIBE", true, true, true),
            ("REFER", false, false, true),
            ("NOTIFY", true, true, true),
            ("NOTIFY", true, false, false),
            ("NOTIFY", false, false, false),
            ("MESSAGE", false, false, false),
            ("MESSAGE", true, true, false),
            ("BYE", true, true, false),
            ("FOO", false, true, false),
        ];
        for (method, in_dialog, has_token, expected) in table {
            let tag = if in_dialog { ";tag=1" } else { "" };
            let request = message(&format!("{method} sip:a@b SIP/2.0\r\nTo: <sip:a@b>{tag}\r\n\r\n"));
            assert_eq!(is_recorded(&request, has_token), expected, "{method} {in_dialog} {has_token}");
        }
    }

    #[test]
    fn an_ack_has_the_to_of_the_response_and_a_cancel_that_of_the_invite() {
        let invite = message(
            "INVITE sip:bob@a.test SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1, SIP/2.0/UDP them\r\nFrom: f;tag=1\r\n\
             To: t\r\nMax-Forwards: 3\r\nRoute: <sip:one;lr>,<sip:two;lr>\r\nRoute: <sip:three;lr>\r\nCall-ID: c\r\n\
             CSeq: 9 INVITE\r\nContent-Length: 2\r\n\r\nxx",
        );
        let with = |method: &str, to: &str| {
            format!(
                "{method} sip:bob@a.test SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1\r\nRoute: <sip:one;lr>,<sip:two;lr>\r\n\
                 Route: <sip:three;lr>\r\nMax-Forwards: 70\r\nFrom: f;tag=1\r\nTo: {to}\r\nCall-ID: c\r\n\
                 CSeq: 9 {method}\r\nContent-Length: 0\r\n\r\n"
            )
        };
        assert_eq!(write_for_invite(&invite, "ACK", Some(b"t;tag=2")), with("ACK", "t;tag=2"));
        assert_eq!(write_for_invite(&invite, "CANCEL", None), with("CANCEL", "t"));
    }
}
