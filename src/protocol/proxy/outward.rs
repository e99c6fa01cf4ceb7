//! The way out: requests for other domains (product rule), whose servers are looked up first (RFC 3263), and what
//! comes of the servers that are tried.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::protocol::federation::Outward;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::identity::Expected;
use crate::protocol::interface::Interfaces;
use crate::protocol::location::ContextId;
use crate::protocol::message::Message;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::{Host, Uri};
use crate::protocol::next_hop::health::Outcome;
use crate::protocol::next_hop::{Query, Resolution, Server, Unresolved};

use super::response_context::Pending;
use super::slots::Slot;
use super::targets::{Target, TargetKind, only};
use super::{Output, Proxy};

/// How a server of another domain is reached by a connection that may have to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// Where it is, in the order of trying.
    pub addresses: SmallVec<[SocketAddr; 2]>,
    /// What its certificate must prove; `None` without TLS.
    pub expected: Option<Arc<Expected>>,
}

/// The way of a request that leaves the presence domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// How the domain is reached.
    pub outward: Outward,
    /// The server that the dialog has had so far: it is tried first.
    pub preferred: Option<SocketAddr>,
}

impl Departure {
    /// To whichever server comes first.
    pub const fn new(outward: Outward) -> Self {
        Self { outward, preferred: None }
    }
}

/// The domain that a URI names, in lower case; `None` for an address.
pub(super) fn domain_of(uri: &Uri<'_>) -> Option<String> {
    match uri.host {
        Host::Name(_) => String::from_utf8(uri.host.to_lowercase().into_vec()).ok(),
        Host::Address(_) => None,
    }
}

/// Who is at the far end of the dialog of a request that leaves: the domain of To.
pub(super) fn far_domain(request: &Message) -> Option<String> {
    let to = request.to()?;
    domain_of(&Uri::parse(to.uri).ok()?)
}

impl Proxy {
    /// Finds out where a request that leaves can go.
    pub(super) fn depart(&mut self, now: Instant, slot: Slot, departure: Departure) {
        match departure.outward.server() {
            Ok(server) => self.depart_to(now, slot, &departure, vec![server]),
            Err(query) => self.ask_dns(now, slot, query, Pending::Resolution(departure)),
        }
    }

    /// Asks the FederationResolver. Its own budget ends before our patience does.
    pub(super) fn ask_dns(&mut self, now: Instant, slot: Slot, query: Query, pending: Pending) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        context.pending = pending;
        context.patience = Some(now + self.settings.dns_timeout + self.settings.timers.t1());
        let context = ContextId { slot: slot.index, generation: slot.generation };
        self.outputs.push_back(Output::Resolve { context, query });
        self.arm_context(slot);
    }

    /// The FederationResolver has answered the question of a context; nothing if that has ended.
    pub fn handle_resolution(&mut self, now: Instant, context: ContextId, resolution: Resolution) {
        let slot = Slot { index: context.slot, generation: context.generation };
        let Some(context) = self.contexts.get_mut(slot) else { return };
        if !matches!(context.pending, Pending::Resolution(_) | Pending::Identity(_)) {
            return;
        }
        context.patience = None;
        match (std::mem::replace(&mut context.pending, Pending::Nothing), resolution) {
            (Pending::Resolution(departure), Ok(servers)) => self.depart_to(now, slot, &departure, servers),
            (Pending::Resolution(_), Err(cause)) => self.nowhere_to_go(now, slot, &unresolved(cause)),
            (Pending::Identity(claim), resolution) => self.identified(now, slot, *claim, &resolution),
            _ => {}
        }
    }

    fn depart_to(&mut self, now: Instant, slot: Slot, departure: &Departure, servers: Vec<Server>) {
        let targets = targets(departure, servers, &self.interfaces);
        let mut ways = targets.into_iter();
        let Some(first) = ways.next() else {
            return self.nowhere_to_go(
                now,
                slot,
                &Reply::with_reason(500, "No Interface For This Transport"),
            );
        };
        let alternatives: Vec<_> = ways.collect();
        let ways = 1 + u32::try_from(alternatives.len()).expect("a domain has far fewer than 2^32 servers");
        let Some(context) = self.contexts.get_mut(slot) else { return };
        context.waiting = only(Target { alternatives, ways, ..first });
        self.go_on(now, slot);
    }

    /// Answers that there is no way, or, where a branch was tried before the look-up, what came of that.
    fn nowhere_to_go(&mut self, now: Instant, slot: Slot, reply: &Reply) {
        let Some(context) = self.contexts.get(slot) else { return };
        if context.branches.is_empty() { self.reply(now, slot, reply) } else { self.go_on(now, slot) }
    }

    /// Tells the FederationResolver how a server of another domain does. What it has been told of a server that is well
    /// holds for a while, so that not every message wakes it.
    pub(super) fn note_health(&mut self, now: Instant, kind: TargetKind, hop: Flow, outcome: Outcome) {
        if kind == TargetKind::Beyond && self.told_well.is_news(now, (hop.transport, hop.remote), outcome) {
            self.outputs.push_back(Output::ServerHealth {
                transport: hop.transport,
                remote: hop.remote,
                outcome,
            });
        }
    }
}

/// How long it is no news that a server is well.
const NEWS_INTERVAL: Duration = Duration::from_secs(1);

/// Servers of which it is remembered when they were told to be well; with more, all are told anew.
const MAXIMUM_TOLD: usize = 1_024;

/// When the FederationResolver was told last that a server is well.
#[derive(Debug, Default)]
pub(super) struct ToldWell(HashMap<(Transport, SocketAddr), Instant>);

impl ToldWell {
    fn is_news(&mut self, now: Instant, server: (Transport, SocketAddr), outcome: Outcome) -> bool {
        if outcome != Outcome::Answered {
            self.0.remove(&server);
            return true;
        }
        let is_known =
            self.0.get(&server).is_some_and(|told| now.saturating_duration_since(*told) < NEWS_INTERVAL);
        if !is_known {
            if self.0.len() >= MAXIMUM_TOLD {
                self.0.clear();
            }
            self.0.insert(server, now);
        }
        !is_known
    }
}

/// One target for each server, that of the dialog first; servers that none of our interfaces reaches are left out.
fn targets(departure: &Departure, mut servers: Vec<Server>, interfaces: &Interfaces) -> Vec<Target> {
    let is_preferred =
        |server: &Server| departure.preferred.is_some_and(|remote| server.addresses.contains(&remote));
    servers.sort_by_key(|server| !is_preferred(server));
    servers.into_iter().filter_map(|server| target(departure, server, interfaces)).collect()
}

fn target(departure: &Departure, server: Server, interfaces: &Interfaces) -> Option<Target> {
    let outward = &departure.outward;
    let Server { transport, host, mut addresses } = server;
    let hop = addresses.iter().find_map(|&remote| outward.flow_to(transport, remote, interfaces))?;
    // The socket that dials has one family.
    addresses.retain(|address| outward.flow_to(transport, *address, interfaces).is_some());
    let expected = transport.is_secure().then(|| Arc::new(outward.expected(&host)));
    let beyond = Some(Arc::new(Beyond { addresses, expected }));
    let is_trusted = outward.route().is_some_and(|route| route.is_trusted);
    Some(Target { kind: TargetKind::Beyond, beyond, is_trusted, ..Target::direct(hop) })
}

/// What a look-up without result means to who asks.
fn unresolved(cause: Unresolved) -> Reply {
    let (status, reason) = match cause {
        Unresolved::NoSuchName => (404, "No Such Domain"),
        Unresolved::NoRecord | Unresolved::NoService => (404, "Domain Does Not Federate"),
        Unresolved::NoAddress => (502, "Servers Of The Domain Have No Address"),
        Unresolved::Ourselves => (482, "Domain Leads Back Here"),
        Unresolved::Timeout => (504, "Name Servers Did Not Answer"),
        Unresolved::ServerFailure => (502, "Name Servers Failed"),
        Unresolved::Overload => (503, "Overloaded"),
    };
    let text = reason.to_ascii_lowercase();
    Reply::with_reason(status, reason).row("Warning", format!("399 sip-proxy \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_server_is_well_is_news_once_a_second_and_after_each_failure() {
        let (mut told, start) = (ToldWell::default(), Instant::now());
        let server = |port| (Transport::Tls, SocketAddr::from(([192, 0, 2, 1], port)));
        let table = [
            (0, 1, Outcome::Answered, true),
            (10, 1, Outcome::Answered, false),
            (10, 2, Outcome::Answered, true),
            (20, 1, Outcome::Failed, true),
            (30, 1, Outcome::Failed, true),
            (40, 1, Outcome::Answered, true),
            (1_030, 1, Outcome::Answered, false),
            (1_040, 1, Outcome::Answered, true),
        ];
        for (millis, port, outcome, is_news) in table {
            let now = start + Duration::from_millis(millis);
            assert_eq!(told.is_news(now, server(port), outcome), is_news, "{millis} {port} {outcome:?}");
        }
        for port in 0..5_000 {
            assert!(told.is_news(start, server(10_000 + port), Outcome::Answered));
            assert!(told.0.len() <= MAXIMUM_TOLD);
        }
    }
}
