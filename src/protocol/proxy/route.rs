//! Route information preprocessing (RFC 3261 §16.4) and what the request is to be done with then (§16.5).

use std::net::{IpAddr, SocketAddr};

use crate::protocol::account::AccountId;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::interface::{Interfaces, Side};
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::{Host, Uri};
use crate::protocol::message::{Message, Method, Name};
use crate::protocol::record_route::{Token, TokenKey};

use super::settings::Settings;

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Way {
    /// The proxy itself answers: its own address, or a domain without user.
    Ourselves,
    /// A user of a presence domain: the Registrar knows where.
    Location,
    /// The flow that a token of ours names.
    Token(Token),
    /// A peer of the LAN by its address.
    Direct(Flow),
    /// Nowhere.
    Nowhere(Reply),
}

/// What a request's Route header and Request-URI come to.
#[derive(Clone, Debug)]
pub struct Routing {
    /// How many values at the front of Route are ours and are removed.
    pub own_routes: usize,
    /// A token of ours was among them: the request belongs to a dialog that we have recorded.
    pub has_token: bool,
    /// The account at whose end of that dialog the request came in.
    pub dialog_account: Option<AccountId>,
    /// Where it goes.
    pub way: Way,
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
    let mut token = None;
    let mut dialog_account = None;
    let mut next_route = None;
    for value in request.values(Name::Route) {
        let Some(uri) = NameAddr::parse(value).and_then(|route| Uri::parse(route.uri).ok()) else {
            break;
        };
        let own_token = uri.user.and_then(|user| key.read(user));
        // The domain is ours to route, and peers that find us by its name write that.
        let is_domain = uri.user.is_none() && settings.is_presence_domain(&uri.host);
        if own_token.is_none() && !is_domain && !interfaces.is_ours(&uri.host, uri.port) {
            next_route = Some(uri);
            break;
        }
        own_routes += 1;
        dialog_account = own_token.as_ref().and_then(|token| token.account_at(source)).or(dialog_account);
        token = own_token.or(token);
    }
    let has_token = token.is_some();
    let way = match (token.filter(|token| token.next_hop(source).is_some()), next_route) {
        (Some(token), _) => Way::Token(token),
        (None, Some(uri)) => direct(&uri, settings, interfaces),
        (None, None) => by_request_uri(request, settings, interfaces),
    };
    Routing { own_routes, has_token, dialog_account, way }
}

fn by_request_uri(request: &Message, settings: &Settings, interfaces: &Interfaces) -> Way {
    let Ok(uri) = Uri::parse(request.request_uri()) else {
        return Way::Nowhere(Reply::with_reason(400, "Malformed Request-URI"));
    };
    let is_domain = settings.is_presence_domain(&uri.host);
    let is_ours = is_domain || interfaces.is_ours(&uri.host, uri.port);
    match uri.user {
        _ if is_ours && request.method() == Some(Method::Register) => Way::Location,
        Some(_) if is_domain => Way::Location,
        None if is_ours => Way::Ourselves,
        Some(_) if is_ours => Way::Nowhere(Reply::with_reason(404, "User In No Domain Served Here")),
        _ => direct(&uri, settings, interfaces),
    }
}

/// A numeric host on the LAN is reached as it says (RFC 3263 §4.1, §4.2 for numeric hosts).
fn direct(uri: &Uri<'_>, settings: &Settings, interfaces: &Interfaces) -> Way {
    let Host::Address(ip) = uri.host else {
        return Way::Nowhere(Reply::with_reason(404, "No Route To Domain"));
    };
    if !settings.is_lan(ip) {
        return Way::Nowhere(Reply::with_reason(403, "Address Not On The LAN"));
    }
    match flow_to_address(uri, ip, interfaces) {
        Some(flow) => Way::Direct(flow),
        None => Way::Nowhere(Reply::with_reason(404, "No Interface For This Transport")),
    }
}

/// The flow that a URI with a numeric host means.
pub fn flow_to_address(uri: &Uri<'_>, ip: IpAddr, interfaces: &Interfaces) -> Option<Flow> {
    let transport = match uri.transport() {
        None if uri.is_secure => Transport::Tls,
        None => Transport::Udp,
        Some(token) if token.eq_ignore_ascii_case(b"tls") => Transport::Tls,
        Some(token) if token.eq_ignore_ascii_case(b"tcp") && uri.is_secure => Transport::Tls,
        Some(token) if token.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
        Some(token) if token.eq_ignore_ascii_case(b"udp") && !uri.is_secure => Transport::Udp,
        Some(_) => return None,
    };
    let remote = SocketAddr::new(ip, uri.port.unwrap_or(transport.default_port()));
    interfaces.flow_to(Side::Lan, transport, remote).or_else(|| {
        // A peer that names no transport takes what we have (RFC 3263 §4.1 leaves the choice to us).
        let choice = uri.transport().is_none() && !uri.is_secure;
        interfaces.flow_to(Side::Lan, Transport::Tcp, remote).filter(|_| choice)
    })
}
