//! Probes of static routes: an OPTIONS of our own (RFC 3261 §11), sent as any request that leaves, whose answer nobody
//! waits for. What becomes of it is told as of all others, by [`Output::ServerHealth`](super::Output::ServerHealth).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use crate::protocol::federation::{Outward, Route, RouteId};
use crate::protocol::flow::{Flow, InterfaceId, Transport};
use crate::protocol::message::{Message, Method};
use crate::protocol::transaction::TransactionKey;

use super::Proxy;
use super::forking::parse_own;
use super::incoming::{Incoming, Whose};
use super::outward::Departure;
use super::response_context::{Passage, Pending};
use super::route::{Routing, Way};
use super::table::ReplyPath;
use super::validate::{DEFAULT_MAX_FORWARDS, MAXIMUM_BREADTH};

/// Where our own requests come from: nowhere that an answer could go to.
const NOWHERE: Flow = Flow {
    interface: InterfaceId(0),
    transport: Transport::Udp,
    local: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    remote: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    connection: None,
};

impl Proxy {
    /// Asks the access server of a static route whether it is there. Nothing while the process is about to end, or where
    /// there is no such route any more.
    pub fn handle_probe(&mut self, now: Instant, route: RouteId) {
        let routes = &self.settings.federation.routes;
        let route = routes.iter().find(|known| known.id == route).map(Arc::clone);
        let Some(route) = route.filter(|_| self.farewell.is_none()) else { return };
        let Some(request) = self.probe(&route) else { return };
        if self.check_load(&request).is_err() {
            return;
        }
        let incoming = Incoming {
            request,
            received: None,
            method: Method::Options,
            arrived: now,
            flow: NOWHERE,
            key: TransactionKey(0),
            reply_path: ReplyPath { flow: NOWHERE, alternate: None },
        };
        let outward = Outward::Route(route);
        let passage = Passage {
            max_forwards: DEFAULT_MAX_FORWARDS,
            max_breadth: MAXIMUM_BREADTH,
            loop_hash: self.random.next(),
        };
        let routing = Routing::to(Way::Outward(outward.clone()));
        let slot = self.insert_context(incoming, None, Whose::NOBODY, &routing, passage);
        if let Some(context) = self.contexts.get_mut(slot) {
            context.is_probe = true;
            context.pending = Pending::Departure(Departure::new(outward));
        }
        self.go_on(now, slot);
    }

    fn probe(&mut self, route: &Route) -> Option<Message> {
        let (domain, realm) = (&route.domain, &self.settings.realm);
        let [tag, call] = [self.random.next(), self.random.next()];
        let text = format!(
            "OPTIONS sip:{domain} SIP/2.0\r\nMax-Forwards: {DEFAULT_MAX_FORWARDS}\r\nFrom: <sip:{realm}>;tag={tag:016x}\r\n\
             To: <sip:{domain}>\r\nCall-ID: {call:016x}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        parse_own(text.into())
    }
}
