//! Finding the way: what the Registrar is asked before a request can be forwarded, and what its answer makes of it
//! (RFC 3261 §16.5, RFC 5627 §6.1).

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::account::AccountKind;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::interface::Side;
use crate::protocol::location::{Answer, Ask, Destination, Located, Verdict};
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::Uri;
use crate::protocol::message::{Message, Name};
use crate::protocol::record_route::Hop;

use super::Proxy;
use super::forking::user_of;
use super::outward::{Departure, far_domain};
use super::response_context::Pending;
use super::route::{Lead, Way};
use super::slots::Slot;
use super::targets::{Target, only, target_set, target_set_beside};

impl Proxy {
    /// What a request waits for, and what the Registrar is asked meanwhile. A user agent of ours that the Request-URI
    /// names may be elsewhere by now than where the Route leads (RFC 5627 §6.1).
    pub(super) fn way_on(
        &self,
        request: &Message,
        source: &Flow,
        way: &Way,
    ) -> Result<(Pending, Ask), Reply> {
        if request.target().is_ok_and(|uri| uri.is_secure) && way.is_insecure() {
            let warning = "399 sip-proxy \"the way of a sips URI needs TLS, and that to its host has none\"";
            return Err(Reply::with_reason(480, "No Secure Way").row("Warning", warning.to_owned()));
        }
        let route = match way {
            Way::Nowhere(reply) => return Err(reply.clone()),
            Way::Ourselves => return Err(Reply::with_reason(404, "No User In Request-URI")),
            Way::Location => None,
            Way::Direct(hop) => Some(Target::direct(*hop)),
            Way::Outward(outward) => {
                return Ok((Pending::Departure(Departure::new(outward.clone())), Ask::Nothing));
            }
            Way::Token(lead) => match self.departure_in_dialog(request, lead) {
                Some(departure) if lead.hop.connection.is_none() => {
                    return Ok((Pending::Departure(departure), Ask::Nothing));
                }
                departure => {
                    let target = self.token_target(lead, source).ok_or_else(|| Reply::new(480))?;
                    Some(Target { fallback: departure.map(Arc::new), ..target })
                }
            },
        };
        let may_be_gruu = |uri: &Uri<'_>| {
            uri.parameters.get(b"gr").is_some() && self.settings.is_presence_domain(&uri.host)
        };
        let uri = request.target().ok();
        let uri = uri.filter(|uri| route.is_none() || may_be_gruu(uri));
        match (uri.map(|uri| Destination::of(&uri)), route) {
            (Some(destination), route) if route.is_none() || destination.is_instance() => {
                Ok((Pending::Location(route.map(Box::new)), Ask::Locate(destination)))
            }
            (_, Some(route)) => Ok((Pending::Spending(only(route)), Ask::Nothing)),
            (_, None) => Err(Reply::with_reason(400, "Malformed Request-URI")),
        }
    }

    /// The Registrar has answered the question of a context; nothing if that has ended.
    pub(super) fn resume(&mut self, now: Instant, answer: Answer) {
        let slot = Slot { index: answer.context.slot, generation: answer.context.generation };
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let (method, source) = (context.method, context.source);
        context.patience = None;
        match (answer.verdict, &context.pending) {
            (Verdict::Replayed, _) => {
                let reply = self.challenge(now, &source, method, true);
                self.reply(now, slot, &reply);
            }
            (Verdict::Punished(penalty), Pending::Refusal(_)) => self.punished(now, slot, penalty),
            (Verdict::Registered(reply), Pending::Registration) => self.reply(now, slot, &reply),
            (Verdict::Located(located), Pending::Location(_)) => self.located(now, slot, located),
            // The dialog's way is still there.
            (Verdict::Unreachable(Reply { status: 480, .. }), Pending::Location(Some(_))) => {
                self.located(now, slot, Located::default());
            }
            (Verdict::Unreachable(reply), Pending::Location(_)) => self.reply(now, slot, &reply),
            (Verdict::Located(located), Pending::Redirection(uri)) => {
                let uri = uri.clone();
                context.pending = Pending::Nothing;
                self.redirection_located(now, slot, &uri, located);
            }
            // Of that user agent the redirection knows as little as we do: others may be left.
            (Verdict::Unreachable(_), Pending::Redirection(_)) => {
                context.pending = Pending::Nothing;
                self.go_on(now, slot);
            }
            (Verdict::Admitted, Pending::Spending(_) | Pending::Departure(_)) => self.go_on(now, slot),
            _ => self.reply(now, slot, &Reply::new(500)),
        }
    }

    fn located(&mut self, now: Instant, slot: Slot, located: Located) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let has_further_routes = context.request.values(Name::Route).nth(context.own_routes).is_some();
        context.waiting = match std::mem::replace(&mut context.pending, Pending::Nothing) {
            Pending::Location(Some(route)) => {
                target_set_beside(*route, has_further_routes, located, &self.interfaces)
            }
            _ => target_set(located, context.method, &self.interfaces),
        };
        let accounts = &self.settings.accounts;
        for target in context.waiting.iter_mut().flatten() {
            let account = target.account.and_then(|account| accounts.get(account));
            // A phone is no server of the trust domain.
            target.is_trusted = account.is_none_or(|account| account.kind == AccountKind::UcServer);
        }
        if context.waiting.is_empty() {
            let reply = self.nobody_to_ask(slot);
            return self.reply(now, slot, &reply);
        }
        self.go_on(now, slot);
    }

    /// A user of ours whom nobody can be asked for: 480 if an account speaks for the user, who may come back with it,
    /// else 404 (§16.5).
    fn nobody_to_ask(&self, slot: Slot) -> Reply {
        let user = self.contexts.get(slot).and_then(|context| user_of(context.request.request_uri()));
        let is_known = user.is_some_and(|user| {
            let accounts = self.settings.accounts.list();
            accounts.iter().any(|account| account.scope.contains(user.user(), user.domain()))
        });
        match is_known {
            true => Reply::with_reason(480, "No UC Server To Ask"),
            false => Reply::with_reason(404, "No Account For User"),
        }
    }

    /// Where tokens of ours lead now: to their flow while that is open; if its connection has ended, the one that the same
    /// UC server has opened since. Servers may share an account, so that is only known where the account has one flow
    /// from the same address. Of a phone behind a NAT, nothing but the flow by which it came will do.
    pub(super) fn token_target(&self, lead: &Lead, source: &Flow) -> Option<Target> {
        let Lead { hop, account, is_elsewhere } = *lead;
        let mut flow = self.flow_of(&hop)?;
        if hop.connection.is_some() && self.standing.account_of(&flow).is_none() {
            let only =
                account.and_then(|account| self.standing.only_connection(account, hop.remote.ip(), source));
            flow = only.unwrap_or(flow);
        }
        let there = || self.standing.account_of(&flow).or(account);
        let is_fixed = is_elsewhere && there().is_none_or(|account| !self.is_uc_server(account));
        Some(Target { account, is_fixed, ..Target::direct(flow) })
    }

    /// Where else the far end of a dialog with another domain can be found than by its flow. Over TLS alone: what is not
    /// encrypted is dialled as it is.
    fn departure_in_dialog(&self, request: &Message, lead: &Lead) -> Option<Departure> {
        let is_beyond = self.interfaces.side(lead.hop.interface) == Side::Wan
            || lead.account.is_none() && lead.hop.connection.is_none();
        if !is_beyond || lead.hop.transport != Transport::Tls {
            return None;
        }
        let domain = far_domain(request)?;
        let outward = self.settings.federation.outward(&domain).ok()?;
        Some(Departure { outward, preferred: Some(lead.hop.remote) })
    }

    fn flow_of(&self, hop: &Hop) -> Option<Flow> {
        let flow = self.interfaces.flow_from(hop.interface, hop.transport, hop.remote)?;
        let flow = Flow { connection: hop.connection, ..flow };
        Some(hop.local.map_or(flow, |ip| self.interfaces.from_address(flow, ip)))
    }
}
