//! Requests from the outside (product rule): whose they are, by the certificate of their connection or by the trusted
//! route that they came in on, and what they may: nothing but reach our users (RFC 5922 §7.4, RFC 3325 §5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::protocol::admission;
use crate::protocol::federation::Federation;
use crate::protocol::flow::{ConnectionId, Flow};
use crate::protocol::identity::{PeerProof, Profile};
use crate::protocol::interface::Side;
use crate::protocol::location::{Ask, ContextId, Question};
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::Uri;
use crate::protocol::message::{Message, Method};
use crate::protocol::next_hop::{Query, Resolution};

use super::incoming::{Incoming, part_of};
use super::outward::domain_of;
use super::response_context::Pending;
use super::route::Way;
use super::slots::Slot;
use super::{Event, EventDetail, Output, Proxy};

/// How long a domain counts as proven by a connection whose certificate has been held against the domain's record.
const PROVEN_FOR: Duration = Duration::from_secs(600);

/// Domains that one connection may have proven; the oldest is proven again.
const DOMAINS_PER_CONNECTION: usize = 16;

/// Somebody from the outside, by the domain of From.
#[derive(Debug)]
pub(super) struct Stranger {
    pub(super) domain: Arc<str>,
    /// What it says of identities is passed on: it comes by a trusted route.
    pub(super) is_trusted: bool,
    /// The domain's record must tell whether the certificate proves it.
    pub(super) is_claim: bool,
}

impl Stranger {
    /// Whether it is a discovered peer, and has proven its domain.
    pub(super) const fn is_guarded(&self) -> bool {
        !self.is_trusted && !self.is_claim
    }
}

/// A request whose sender is believed if the domain's record names a host that its certificate names.
#[derive(Debug)]
pub(super) struct Claim {
    domain: Arc<str>,
    proof: Arc<PeerProof>,
    /// What is done then.
    next: (Pending, Ask),
}

/// Domains, and until when each counts as proven.
type ProvenDomains = SmallVec<[(Arc<str>, Instant); 1]>;

/// The domains that connections have proven by records.
#[derive(Debug, Default)]
pub(super) struct Proven(HashMap<ConnectionId, ProvenDomains>);

impl Proven {
    fn has(&self, now: Instant, flow: &Flow, domain: &str) -> bool {
        let domains = flow.connection.and_then(|connection| self.0.get(&connection));
        domains.is_some_and(|domains| domains.iter().any(|(known, until)| **known == *domain && now < *until))
    }

    fn insert(&mut self, now: Instant, flow: &Flow, domain: Arc<str>) {
        let Some(connection) = flow.connection else { return };
        let domains = self.0.entry(connection).or_default();
        domains.retain(|(known, until)| *known != domain && now < *until);
        if domains.len() == DOMAINS_PER_CONNECTION {
            domains.remove(0);
        }
        domains.push((domain, now + PROVEN_FOR));
    }

    /// The connection has ended.
    pub(super) fn forget(&mut self, flow: &Flow) {
        if let Some(connection) = flow.connection {
            self.0.remove(&connection);
        }
    }
}

impl Proxy {
    /// Who from the outside has sent a request, if it is to be judged by that and not by an account. The error is the
    /// refusal.
    pub(super) fn stranger(
        &self,
        now: Instant,
        proof: Option<&Arc<PeerProof>>,
        flow: &Flow,
        request: &Message,
    ) -> Result<Option<Stranger>, Reply> {
        if request.method() == Some(Method::Register) || self.standing.account_of(flow).is_some() {
            return Ok(None);
        }
        let federation = &self.settings.federation;
        let side = self.interfaces.side(flow.interface);
        let from = || request.from().and_then(|from| domain_of(&Uri::parse(from.uri).ok()?));
        let is_own = |domain: &str| self.settings.presence_domains.iter().any(|own| own == domain);
        if let Some(route) = federation.trusted_by_address(flow, &self.access_addresses) {
            // On the LAN the same host may be a UC server, too.
            let domain = from().filter(|from| **from == *route.domain || (side == Side::Wan && is_own(from)));
            return match (domain, side) {
                (Some(domain), _) => {
                    federation.check_policy(&domain)?;
                    Ok(Some(Stranger { domain: domain.into(), is_trusted: true, is_claim: false }))
                }
                (None, Side::Lan) => Ok(None),
                (None, Side::Wan) => Err(Reply::with_reason(403, "From In Another Domain Than The Route's")),
            };
        }
        let Some(proof) = proof.filter(|proof| side == Side::Wan && proof.account.is_none()) else {
            return Ok(None);
        };
        if admission::has_credentials(request, &self.settings) {
            return Ok(None);
        }
        let domain = from().ok_or_else(|| Reply::with_reason(403, "From Names No Domain"))?;
        if is_own(&domain) {
            return match trusted_by_certificate(federation, proof) {
                true => Ok(Some(Stranger { domain: domain.into(), is_trusted: true, is_claim: false })),
                false => Err(Reply::with_reason(403, "Own Domain From Outside")),
            };
        }
        self.stranger_by_certificate(now, proof, flow, domain).map(Some)
    }

    fn stranger_by_certificate(
        &self,
        now: Instant,
        proof: &PeerProof,
        flow: &Flow,
        domain: String,
    ) -> Result<Stranger, Reply> {
        let federation = &self.settings.federation;
        let profile = federation.profile;
        federation.check_policy(&domain)?;
        if let Some(route) = federation.route_of(&domain).filter(|route| route.is_mutual)
            && proof.proves(&domain, profile, route.host.as_slice())
        {
            return Ok(Stranger { domain: domain.into(), is_trusted: true, is_claim: false });
        }
        federation.check_discovered(&domain)?;
        let none: [&str; 0] = [];
        let is_proven = proof.proves(&domain, profile, &none) || self.proven.has(now, flow, &domain);
        let is_claim = !is_proven && profile == Profile::Federation && proof.may_prove(&domain);
        if !is_proven && !is_claim {
            return Err(Reply::with_reason(403, "Certificate Does Not Prove The Domain Of From"));
        }
        Ok(Stranger { domain: domain.into(), is_trusted: false, is_claim })
    }

    /// What somebody from the outside may: reach our users, and nobody else.
    pub(super) fn check_inward(&self, way: &Way) -> Result<(), Reply> {
        let is_inward = match way {
            Way::Location | Way::Ourselves | Way::Nowhere(_) => true,
            Way::Token(lead) => self.interfaces.side(lead.hop.interface) == Side::Lan,
            Way::Direct(_) | Way::Outward(_) => false,
        };
        if is_inward { Ok(()) } else { Err(Reply::with_reason(403, "No Relay From Outside To Outside")) }
    }

    /// Asks for the record of the domain that a stranger claims; `next` is done once it is proven.
    pub(super) fn ask_identity(
        &mut self,
        now: Instant,
        slot: Slot,
        domain: Arc<str>,
        proof: Arc<PeerProof>,
        next: (Pending, Ask),
    ) {
        let query = Query::Names(Arc::clone(&domain));
        self.ask_dns(now, slot, query, Pending::Identity(Box::new(Claim { domain, proof, next })));
    }

    /// The record of the domain that a stranger claims has been looked up.
    pub(super) fn identified(&mut self, now: Instant, slot: Slot, claim: Claim, resolution: &Resolution) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let (flow, Claim { domain, proof, next }) = (context.source, claim);
        let hosts: Vec<_> = resolution.iter().flatten().map(|server| &*server.host).collect();
        if !proof.proves(&domain, self.settings.federation.profile, &hosts) {
            let call_id = part_of(&context.request, context.request.call_id());
            self.stranger_refused(
                call_id,
                flow,
                &domain,
                Some(&proof),
                "domain's record names another server",
            );
            return self.reply(
                now,
                slot,
                &Reply::with_reason(403, "Certificate Does Not Prove The Domain Of From"),
            );
        }
        let request = context.request.clone();
        context.peer = Some(Arc::clone(&domain));
        self.proven.insert(now, &flow, Arc::clone(&domain));
        if let Err(refusal) = self.guard_request(now, &domain, &request) {
            return self.reply(now, slot, &refusal);
        }
        self.pursue(now, slot, next);
    }

    /// Asks the Registrar what is to be known of a stranger's request, or goes on at once.
    pub(super) fn pursue(&mut self, now: Instant, slot: Slot, (pending, ask): (Pending, Ask)) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        context.pending = pending;
        if matches!(ask, Ask::Nothing) {
            return self.go_on(now, slot);
        }
        let flow = context.source;
        context.patience = Some(now + self.settings.timers.f() / 4);
        self.arm_context(slot);
        let context = ContextId { slot: slot.index, generation: slot.generation };
        self.outputs.push_back(Output::Ask(Question { context, flow, log_on: None, nonce_use: None, ask }));
    }

    /// Tells why somebody from the outside is refused.
    pub(super) fn tell_refused_stranger(
        &mut self,
        incoming: &Incoming,
        proof: Option<&Arc<PeerProof>>,
        reply: &Reply,
    ) {
        let from = incoming
            .request
            .from()
            .and_then(|from| Uri::parse(from.uri).ok().and_then(|uri| domain_of(&uri)));
        let call_id = part_of(&incoming.request, incoming.request.call_id());
        self.stranger_refused(
            call_id,
            incoming.flow,
            &from.unwrap_or_default(),
            proof.map(|proof| &**proof),
            reply.reason,
        );
    }

    fn stranger_refused(
        &mut self,
        call_id: bytes::Bytes,
        flow: Flow,
        domain: &str,
        proof: Option<&PeerProof>,
        reason: &'static str,
    ) {
        if self.detail >= EventDetail::Faults {
            let names = proof.map(|proof| proof.names.hosts_and_domains().collect::<Vec<_>>().join(","));
            let names = names.unwrap_or_default();
            let domain = domain.to_owned();
            self.outputs.push_back(Output::Event(Event::PeerRefused {
                call_id,
                flow,
                domain,
                names,
                reason,
            }));
        }
    }
}

/// Whether a certificate is that of a static route over MTLS, which is trusted by itself.
fn trusted_by_certificate(federation: &Federation, proof: &PeerProof) -> bool {
    let mut routes = federation.routes.iter().filter(|route| route.is_mutual);
    routes.any(|route| proof.proves(&route.domain, federation.profile, route.host.as_slice()))
}
