//! Where a request goes by its Route header and Request-URI (RFC 3261 §16.4 last paragraph, §16.5).

use std::net::{IpAddr, SocketAddr};

use crate::protocol::account::AccountId;
use crate::protocol::federation::Outward;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::interface::{Interfaces, Side};
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::{Host, Uri};
use crate::protocol::message::{Message, Method, Name};
use crate::protocol::record_route::{Hop, Token, TokenKey};

use super::outward::{domain_of, far_domain};
use super::settings::Settings;

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Way {
    /// The proxy itself answers: its own address, or a domain without user.
    Ourselves,
    /// A user of a presence domain: the Registrar knows where.
    Location,
    /// The flow that tokens of ours lead to.
    Token(Lead),
    /// A peer of the LAN by its address.
    Direct(Flow),
    /// A server of another domain.
    Outward(Outward),
    /// Nowhere.
    Nowhere(Reply),
}

impl Way {
    /// Whether it leads by an unprotected hop to where no policy of ours holds: what is said to a `sips` URI may not go
    /// there (§26.2.2). Our own users are reached as they have registered, and dialogs as they have begun.
    pub(super) fn is_insecure(&self) -> bool {
        match self {
            Self::Direct(hop) => !hop.transport.is_secure(),
            Self::Outward(Outward::Route(route)) => !route.transport.is_secure(),
            Self::Outward(Outward::Discovered(_))
            | Self::Ourselves
            | Self::Location
            | Self::Token(_)
            | Self::Nowhere(_) => false,
        }
    }
}

/// Where tokens of ours lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The far end of the flow.
    pub hop: Hop,
    /// The UC server that the flow was logged on as, for when the flow has ended.
    pub account: Option<AccountId>,
    /// The user agent there has named another address than the flow has: a NAT may lie between.
    pub is_elsewhere: bool,
}

/// What a request's Route header and Request-URI come to.
#[derive(Clone, Debug)]
pub struct Routing {
    /// How many values at the front of Route are ours and are removed.
    pub own_routes: usize,
    /// A token of ours was among them: the request belongs to a dialog that we have recorded.
    pub has_token: bool,
    /// One of them names the very flow that the request came in on: it comes from an end of that dialog.
    pub is_from_end: bool,
    /// The account at whose end of that dialog the request came in.
    pub dialog_account: Option<AccountId>,
    /// Where it goes.
    pub way: Way,
}

impl Routing {
    /// There, without any Route.
    pub const fn to(way: Way) -> Self {
        Self { own_routes: 0, has_token: false, is_from_end: false, dialog_account: None, way }
    }
}

/// Reads the route set and, where that is used up, the Request-URI. The URIs have been validated.
pub fn route(
    request: &Message,
    source: &Flow,
    settings: &Settings,
    interfaces: &Interfaces,
    key: &TokenKey,
) -> Routing {
    let mut own_routes = 0;
    let mut tokens = Tokens::default();
    let mut dialog_account = None;
    let mut is_from_end = false;
    let mut next_route = None;
    for value in request.values(Name::Route) {
        let Some(uri) = NameAddr::parse(value).and_then(|route| Uri::parse(route.uri).ok()) else {
            break;
        };
        let own_token = uri.user.and_then(|user| key.read(user, interfaces));
        // The domain is ours to route, and peers that find us by its name write that.
        let is_domain = uri.user.is_none() && settings.is_presence_domain(&uri.host);
        if own_token.is_none() && !is_domain && !interfaces.is_ours(&uri.host, uri.port) {
            next_route = Some(uri);
            break;
        }
        own_routes += 1;
        is_from_end |= own_token.as_ref().is_some_and(|token| token.names(source));
        dialog_account = own_token.as_ref().and_then(|token| token.account_at(source)).or(dialog_account);
        tokens.follow(own_token, source);
    }
    let has_token = tokens.count > 0;
    let way = match (tokens.lead(), next_route) {
        (Some((hop, account)), next) => {
            let is_elsewhere = next.is_none() && is_elsewhere(request, &hop);
            Way::Token(Lead { hop, account, is_elsewhere })
        }
        (None, Some(uri)) => direct(&uri, far_end(request, settings), settings, interfaces),
        (None, None) => by_request_uri(request, settings, interfaces),
    };
    Routing { own_routes, has_token, is_from_end, dialog_account, way }
}

/// The tokens of a request: each leads from where the one before it has led, since a request may pass us several
/// times on its way.
#[derive(Default)]
struct Tokens {
    count: usize,
    reached: Option<(Hop, Option<AccountId>)>,
    last: Option<Token>,
}

impl Tokens {
    fn follow(&mut self, token: Option<Token>, source: &Flow) {
        let Some(token) = token else { return };
        let from = self.reached.map_or(Hop::from(source), |(hop, _)| hop);
        self.count += 1;
        self.reached = token.next_hop(&from).or(self.reached);
        self.last = Some(token);
    }

    /// Both ends may be behind one flow: of two values of ours, the last says where to go, be it back.
    fn lead(&self) -> Option<(Hop, Option<AccountId>)> {
        let back = || self.last.as_ref().filter(|_| self.count > 1).and_then(Token::toward);
        self.reached.or_else(back)
    }
}

/// Whether the Request-URI has another address than the far end of the flow.
fn is_elsewhere(request: &Message, hop: &Hop) -> bool {
    request.target().is_ok_and(|uri| matches!(uri.host, Host::Address(ip) if ip != hop.remote.ip()))
}

fn by_request_uri(request: &Message, settings: &Settings, interfaces: &Interfaces) -> Way {
    let Ok(uri) = request.target() else {
        return Way::Nowhere(Reply::with_reason(400, "Malformed Request-URI"));
    };
    match by_uri_toward(&uri, far_end(request, settings), settings, interfaces) {
        Way::Ourselves | Way::Nowhere(_)
            if request.method() == Some(Method::Register) && is_ours(&uri, settings, interfaces) =>
        {
            Way::Location
        }
        way => way,
    }
}

fn is_ours(uri: &Uri<'_>, settings: &Settings, interfaces: &Interfaces) -> bool {
    settings.is_presence_domain(&uri.host) || interfaces.is_ours(&uri.host, uri.port)
}

/// The domain of the far end of a dialog, if that is another one than ours: it is what is federated with, whatever host
/// its Contact and Record-Route name.
fn far_end(request: &Message, settings: &Settings) -> Option<String> {
    let domain = if request.is_in_dialog() { far_domain(request)? } else { return None };
    (!settings.presence_domains.contains(&domain)).then_some(domain)
}

/// Where a request for `uri` goes that is not a REGISTER.
pub fn by_uri(uri: &Uri<'_>, settings: &Settings, interfaces: &Interfaces) -> Way {
    by_uri_toward(uri, None, settings, interfaces)
}

fn by_uri_toward(uri: &Uri<'_>, far: Option<String>, settings: &Settings, interfaces: &Interfaces) -> Way {
    match uri.user {
        // It is the only target (§16.5); what has led here is gone (`preprocess.rs`).
        _ if uri.maddr().is_some() => direct(uri, far, settings, interfaces),
        Some(_) if settings.is_presence_domain(&uri.host) => Way::Location,
        None if is_ours(uri, settings, interfaces) => Way::Ourselves,
        Some(_) if is_ours(uri, settings, interfaces) => {
            Way::Nowhere(Reply::with_reason(404, "User In No Domain Served Here"))
        }
        _ => direct(uri, far, settings, interfaces),
    }
}

/// A numeric host on the LAN is reached as it says (RFC 3263 §4.1, §4.2 for numeric hosts), a domain as federation has
/// it: `far` in a dialog, else the host.
fn direct(uri: &Uri<'_>, far: Option<String>, settings: &Settings, interfaces: &Interfaces) -> Way {
    let host = uri.maddr().unwrap_or(uri.host);
    let ip = match host {
        Host::Address(ip) if settings.is_lan(ip) => ip,
        Host::Address(_) | Host::Name(_) => {
            let domain = far.or_else(|| domain_of(uri).filter(|_| uri.maddr().is_none()));
            return match domain.map(|domain| settings.federation.outward(&domain)) {
                Some(Ok(outward)) => Way::Outward(outward),
                Some(Err(reply)) => Way::Nowhere(reply),
                None if matches!(host, Host::Address(_)) => {
                    Way::Nowhere(Reply::with_reason(403, "Address Not On The LAN"))
                }
                None => Way::Nowhere(Reply::with_reason(404, "No Route To Domain")),
            };
        }
    };
    match flow_to_address(uri, ip, Side::Lan, interfaces) {
        Some(flow) => Way::Direct(flow),
        None => Way::Nowhere(Reply::with_reason(404, "No Interface For This Transport")),
    }
}

/// The flow that a URI with a numeric host means to those on `side`.
pub fn flow_to_address(uri: &Uri<'_>, ip: IpAddr, side: Side, interfaces: &Interfaces) -> Option<Flow> {
    let transport = uri.wanted_transport()?;
    let remote = SocketAddr::new(ip, uri.port.unwrap_or(transport.default_port()));
    interfaces.flow_to(side, transport, remote).or_else(|| {
        // A peer that names no transport takes what we have (RFC 3263 §4.1 leaves the choice to us).
        let choice = uri.transport().is_none() && !uri.is_secure;
        interfaces.flow_to(side, Transport::Tcp, remote).filter(|_| choice)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::protocol::account::Accounts;
    use crate::protocol::flow::{ConnectionId, InterfaceId};
    use crate::protocol::interface::Interface;
    use crate::protocol::message::{Carriage, MessageLimits};
    use crate::protocol::record_route::{Face, values};
    use crate::protocol::transaction::Timers;

    fn settings() -> Settings {
        Settings {
            requests_per_second_per_address: 0,
            presence_domains: vec!["a.test".to_owned(), "office.a.test".to_owned()],
            realm: "a.test".to_owned(),
            accounts: Arc::new(Accounts::default()),
            lan_networks: vec!["127.0.0.0/8".parse().unwrap()],
            digest_algorithms: Vec::new(),
            nonce_lifetime: Duration::ZERO,
            federation: crate::protocol::federation::Federation::default(),
            dns_timeout: Duration::from_secs(4),
            tolerated_proxy_require: vec!["ms-benotify".to_owned(), "ms-piggyback-first-notify".to_owned()],
            keep_alive_timeout: Duration::from_secs(540),
            timers: Timers::default(),
            timer_c: Duration::ZERO,
            udp_mtu: 1300,
            follow_redirections: false,
            accepts_digest_without_qop: false,
            accepts_digest_for_other_uri: false,
            counts_guesses: true,
            maximum_transactions: 1,
        }
    }

    fn interfaces() -> Interfaces {
        let interface = |id, transport, bound: &str| Interface {
            id: InterfaceId(id),
            side: Side::Lan,
            transport,
            bound: bound.parse().unwrap(),
            public: Some(("proxy.test".to_owned(), 5060)),
        };
        let list = vec![
            interface(0, Transport::Udp, "127.0.0.1:5060"),
            interface(1, Transport::Tls, "127.0.0.1:5061"),
        ];
        Interfaces::new(list, Vec::new())
    }

    fn peer(transport: Transport, port: u16) -> Flow {
        let interface = if transport == Transport::Tls { 1 } else { 0 };
        Flow {
            interface: InterfaceId(interface),
            transport,
            local: SocketAddr::from(([127, 0, 0, 1], 5060 + interface)),
            remote: SocketAddr::from(([127, 0, 0, 9], port)),
            connection: transport.is_reliable().then(|| ConnectionId(u64::from(port))),
        }
    }

    fn routing(method: &str, uri: &str, routes: &[&str], source: &Flow) -> Routing {
        let mut text = format!("{method} {uri} SIP/2.0\r\n");
        routes.iter().for_each(|route| text += &format!("Route: {route}\r\n"));
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        let request = Message::parse(Bytes::from(text + "\r\n"), Carriage::Datagram, limits).unwrap();
        route(&request, source, &settings(), &interfaces(), &TokenKey::new([1; 16]))
    }

    fn name(way: &Way) -> String {
        match way {
            Way::Ourselves => "ourselves".to_owned(),
            Way::Location => "location".to_owned(),
            Way::Token(_) => "token".to_owned(),
            Way::Direct(flow) => flow.to_string(),
            Way::Outward(_) => "outward".to_owned(),
            Way::Nowhere(reply) => reply.status.to_string(),
        }
    }

    #[test]
    fn the_request_uri_decides_where_no_route_is_left() {
        let table = [
            ("MESSAGE", "sip:bob@a.test", "location"),
            ("MESSAGE", "sips:bob@Office.A.TEST.:5061;x=y", "location"),
            ("MESSAGE", "sip:a.test", "ourselves"),
            ("OPTIONS", "sip:127.0.0.1", "ourselves"),
            ("OPTIONS", "sip:proxy.test:5060", "ourselves"),
            ("REGISTER", "sip:a.test", "location"),
            ("REGISTER", "sip:127.0.0.1:5060", "location"),
            ("REGISTER", "sip:b.test", "404"),
            ("MESSAGE", "sip:bob@127.0.0.1:5060", "404"),
            ("MESSAGE", "sip:bob@b.test", "404"),
            ("MESSAGE", "sip:bob@sub.office.a.test", "404"),
            ("MESSAGE", "sip:bob@10.0.0.1", "403"),
            ("MESSAGE", "sip:bob@127.0.0.9", "udp:127.0.0.9:5060"),
            ("MESSAGE", "sip:bob@127.0.0.9:7;transport=TCP", "tcp:127.0.0.9:7"),
            ("MESSAGE", "sip:bob@127.0.0.9;transport=tls", "tls:127.0.0.9:5061"),
            ("MESSAGE", "sips:bob@127.0.0.9", "tls:127.0.0.9:5061"),
            ("MESSAGE", "sips:bob@127.0.0.9;transport=tcp", "tls:127.0.0.9:5061"),
            ("MESSAGE", "sips:bob@127.0.0.9;transport=udp", "404"),
            ("MESSAGE", "sip:bob@127.0.0.9;transport=ws", "404"),
        ];
        for (method, uri, expected) in table {
            let found = routing(method, uri, &[], &peer(Transport::Udp, 1));
            assert_eq!(
                (name(&found.way), found.own_routes, found.has_token),
                (expected.to_owned(), 0, false),
                "{uri}"
            );
        }
    }

    #[test]
    fn values_of_our_own_are_used_up_and_the_next_one_decides() {
        let table: [(&[&str], usize, &str); 7] = [
            (&["<sip:127.0.0.1;lr>"], 1, "location"),
            (&["<sip:proxy.test:5060;lr>, <sip:a.test;lr>"], 2, "location"),
            (&["<sip:127.0.0.1:5060;lr>", "<sip:127.0.0.9:7;lr>"], 1, "udp:127.0.0.9:7"),
            (&["<sip:127.0.0.9:7;lr>", "<sip:127.0.0.1:5060;lr>"], 0, "udp:127.0.0.9:7"),
            (&["<sip:p.b.test;lr>"], 0, "404"),
            // A user of the domain is none of our own URIs.
            (&["<sip:bob@a.test;lr>"], 0, "404"),
            (&["<sip:no-token@127.0.0.1:5060;lr>"], 1, "location"),
        ];
        for (routes, own_routes, expected) in table {
            let found = routing("MESSAGE", "sip:bob@a.test", routes, &peer(Transport::Udp, 1));
            assert_eq!((name(&found.way), found.own_routes), (expected.to_owned(), own_routes), "{routes:?}");
        }
    }

    /// What is recorded of a request that passes from one to the next, topmost first.
    fn recorded(ways: &[(Flow, Flow)]) -> Vec<String> {
        let key = TokenKey::new([1; 16]);
        let face = |flow| Face { flow, account: None, is_sips: false };
        let mut recorded = Vec::new();
        for ((up, down), pass) in ways.iter().zip(0..) {
            let mut own = Vec::new();
            values(&key, &interfaces(), face(up), face(down), pass, |write| {
                let mut out = Vec::new();
                write(&mut out);
                own.push(String::from_utf8(out).unwrap());
            });
            recorded.splice(..0, own);
        }
        recorded
    }

    fn lead(routes: &[&str], from: &Flow) -> Option<SocketAddr> {
        let found = routing("BYE", "sip:x@10.9.9.9", routes, from);
        assert_eq!((found.has_token, found.own_routes), (true, routes.len()));
        match found.way {
            Way::Token(lead) => Some(lead.hop.remote),
            other => panic!("{}", name(&other)),
        }
    }

    /// Also where the request has come by several times, and where both ends are behind one flow.
    #[test]
    fn tokens_lead_to_the_other_end_of_the_dialog() {
        let (udp, tls) = (|port| peer(Transport::Udp, port), |port| peer(Transport::Tls, port));
        let table = [
            vec![udp(1), udp(2)],
            vec![udp(1), tls(2)],
            vec![tls(1), tls(2)],
            vec![udp(1), udp(1)],
            vec![tls(1), tls(1)],
            vec![udp(1), udp(2), udp(3)],
            vec![tls(1), udp(2), udp(3)],
            vec![tls(1), udp(2), udp(2)],
            vec![udp(1), udp(2), tls(3), tls(4)],
        ];
        for passed in table {
            let ways: Vec<_> = passed.windows(2).map(|pair| (pair[0], pair[1])).collect();
            let recorded = recorded(&ways);
            let in_order: Vec<_> = recorded.iter().map(String::as_str).collect();
            let reversed: Vec<_> = in_order.iter().rev().copied().collect();
            let (caller, callee) = (passed[0], passed[passed.len() - 1]);
            assert_eq!(lead(&reversed, &caller), Some(callee.remote), "{passed:?}");
            assert_eq!(lead(&in_order, &callee), Some(caller.remote), "{passed:?}");
        }
    }

    #[test]
    fn a_token_of_the_senders_own_side_alone_leads_nowhere() {
        let (caller, callee) = (peer(Transport::Udp, 1), peer(Transport::Tls, 2));
        let recorded = recorded(&[(caller, callee)]);
        for (own, from) in recorded.iter().zip([&callee, &caller]) {
            let found = routing("BYE", "sip:x@10.9.9.9", &[own], from);
            assert_eq!((name(&found.way), found.has_token), ("403".to_owned(), true));
        }
    }
}
