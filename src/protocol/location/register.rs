//! Carrying out a REGISTER (RFC 3261 §10.3 steps 6 to 8).

use std::net::SocketAddr;

use bytes::Bytes;

use super::bindings::{Binding, BindingList, Terms};
use super::clock::Millis;
use super::contact::Contact;
use super::event::{LocationEvent, LogOffReason, RemovalReason};
use super::flows::SEARCHED_AT_MOST;
use super::plan::{Bounds, Plan, Step, plan};
use super::registration::{Change, Registration};
use super::{AddressOfRecord, Location};
use crate::protocol::account::{Account, AccountId, AccountKind};
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::message::Name;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::{Host, Uri};

impl Location {
    /// Does what `registration` asks, or nothing; the response to it.
    pub(super) fn register(&mut self, now: Millis, flow: &Flow, registration: &Registration) -> Reply {
        let name = &registration.address_of_record;
        self.remove_expired(now, name);
        let steps = match self.plan_within_limits(flow, registration) {
            Ok(steps) => steps,
            Err(refusal) => return refusal,
        };
        let removed = match steps.as_slice() {
            [] => Vec::new(),
            steps => self.carry_out(now, flow, registration, steps),
        };
        self.replace_dialled(now, flow, registration);
        self.settle_server(flow, registration, &removed);
        self.tell_removed(name, removed, RemovalReason::Unregistered);
        self.granted(now, flow, registration)
    }

    fn plan_within_limits(&self, flow: &Flow, registration: &Registration) -> Result<Plan, Reply> {
        if self.flows.is_closed(flow) {
            return Err(Reply::new(430));
        }
        // It has gone since the Router has looked.
        if registration.account.is_some_and(|account| self.settings.accounts.get(account).is_none()) {
            return Err(Reply::with_reason(403, "Account Not Configured"));
        }
        let is_path_unwanted = !registration.path.is_empty() && !registration.supports.path;
        if is_path_unwanted && !self.settings.accepts_path_without_support {
            return Err(Reply::new(420).row(Name::Unsupported.as_str(), "path".to_owned()));
        }
        let limits = &self.settings.limits;
        if registration.kept_bytes() > limits.binding_bytes {
            return Err(Reply::with_reason(400, "Contact, Path And Call-ID Too Long"));
        }
        self.check_no_way_back(registration)?;
        // Servers that share an account share its address-of-record: as many as are ever asked.
        let is_own = self.is_own(&registration.address_of_record, registration.account);
        let maximum_contacts = if is_own { SEARCHED_AT_MOST } else { self.settings.maximum_contacts };
        let bounds = Bounds {
            minimum_expires: self.settings.minimum_expires,
            default_expires: self.settings.default_expires,
            maximum_expires: self.settings.maximum_expires,
            maximum_contacts,
        };
        let steps = plan(self.bindings.get(&registration.address_of_record), registration, &bounds)?;
        let added = steps.iter().filter(|step| step.binding.is_none()).count();
        if added > 0 && self.bindings.len() + added > limits.bindings {
            return Err(Reply::with_reason(503, "Too Many Registrations"));
        }
        if !steps.is_empty() && !self.has_room {
            return Err(Reply::with_reason(503, "Registrations Wait To Be Kept"));
        }
        Ok(steps)
    }

    /// A user agent must not register its own address-of-record as where it is (RFC 5627 §5.1).
    fn check_no_way_back(&self, registration: &Registration) -> Result<(), Reply> {
        let Change::Contacts(contacts) = &registration.change else { return Ok(()) };
        let has_instance = |contact: &&Contact| {
            contact.is_kept() && contact.details.as_ref().is_some_and(|details| details.instance.is_some())
        };
        let name = &registration.address_of_record;
        let leads_back = |contact: &Contact| self.gruus.leads_back(&contact.uri, name, &self.bindings);
        if contacts.iter().filter(has_instance).any(leads_back) {
            return Err(Reply::with_reason(403, "Contact Leads Back To The Address-Of-Record"));
        }
        Ok(())
    }

    /// Cannot fail: the bindings are those that the steps were planned from. Returns those that it has removed.
    fn carry_out(
        &mut self,
        now: Millis,
        flow: &Flow,
        registration: &Registration,
        steps: &[Step],
    ) -> Vec<Binding> {
        let name = &registration.address_of_record;
        let is_direct = registration.is_direct;
        let account = registration.account.and_then(|id| log_on_by(id, self.kind(id)?, is_direct));
        let (flows, gruus, events) = (&mut self.flows, &mut self.gruus, &mut self.events);
        let mut replaced = Vec::new();
        let removed = self.bindings.change(name, |list| {
            for step in steps.iter().filter(|step| step.expires > 0) {
                let Change::Contacts(contacts) = &registration.change else { continue };
                let (terms, expires) = terms(now, registration, &contacts[step.contact], step.expires);
                let known = step.binding.map(|at| &mut list[at]);
                if flows.is_attached(flow, account)
                    && known.is_some_and(|known| known.refresh(&terms, flow, expires))
                {
                    continue;
                }
                let mut new = Binding::new(terms, flows.attach(flow, account, events), expires);
                gruus.settle(list, &mut new, registration);
                if let Some(at) = step.binding {
                    replaced.push(std::mem::replace(&mut list[at], new));
                } else {
                    events.push_back(added(name, &new));
                    list.push(new);
                }
            }
            in_order_of_refreshing(list, steps)
        });
        self.release(now, name, &replaced, LogOffReason::Unregistered);
        self.release(now, name, &removed, LogOffReason::Unregistered);
        removed
    }

    /// What the flows of bindings lose with them.
    pub(super) fn release(
        &mut self,
        now: Millis,
        name: &AddressOfRecord,
        ended: &[Binding],
        reason: LogOffReason,
    ) {
        for binding in ended {
            if self.is_own(name, binding.account) {
                self.flows.set_contact(&binding.flow, None);
            }
            self.flows.detach(&binding.flow, now, reason, &mut self.events);
        }
    }

    /// Whether `name` is the account's own as a UC server: its user name, or a bare domain.
    pub(super) fn is_own(&self, name: &AddressOfRecord, account: Option<AccountId>) -> bool {
        let account = account.and_then(|id| self.settings.accounts.get(id));
        account.is_some_and(|account| is_own_name(account, name))
    }

    /// What a change of a server binding means: where the UC server is asked, or that it has logged off.
    fn settle_server(&mut self, flow: &Flow, registration: &Registration, removed: &[Binding]) {
        let name = &registration.address_of_record;
        if !self.is_own(name, registration.account) {
            return;
        }
        let own = self.bindings.get(name).iter().rfind(|binding| *binding.flow == *flow);
        if let Some(binding) = own {
            self.flows.set_contact(flow, numeric_address(binding.contact(), Transport::Udp));
        } else if registration.change.is_removal() {
            self.flows.log_off(flow, LogOffReason::Unregistered, &mut self.events);
        }
        // Servers may share an account, and so the name: one that clears it with `*` speaks for its own flow alone.
        if registration.change != Change::RemoveAll {
            let is_elsewhere =
                |binding: &&Binding| *binding.flow != *flow && binding.account == registration.account;
            for binding in removed.iter().filter(is_elsewhere) {
                self.flows.log_off(&binding.flow, LogOffReason::Unregistered, &mut self.events);
            }
        }
    }

    /// Removes the bindings of `name` that have expired.
    pub(super) fn remove_expired(&mut self, now: Millis, name: &AddressOfRecord) {
        if self.bindings.get(name).iter().all(|binding| binding.expires > now) {
            return;
        }
        let expired =
            self.bindings.change(name, |list| take_where(list, |_, binding| binding.expires <= now));
        self.release(now, name, &expired, LogOffReason::Expired);
        self.tell_removed(name, expired, RemovalReason::Expired);
    }

    pub(super) fn tell_removed(
        &mut self,
        name: &AddressOfRecord,
        removed: Vec<Binding>,
        reason: RemovalReason,
    ) {
        self.events.extend(removed.into_iter().map(|binding| LocationEvent::BindingRemoved {
            address_of_record: name.clone(),
            contact: Bytes::copy_from_slice(binding.contact()),
            reason,
        }));
    }
}

/// What a binding for `contact` takes from the request, and when it expires.
fn terms<'a>(
    now: Millis,
    registration: &'a Registration,
    contact: &'a Contact,
    expires: u32,
) -> (Terms<'a>, Millis) {
    let terms = Terms {
        contact: &contact.uri,
        call_id: &registration.call_id,
        path: registration.path.clone(),
        cseq: registration.cseq,
        q: contact.q,
        account: registration.account,
        is_direct: registration.is_direct,
        details: contact.details.clone(),
    };
    (terms, now.saturating_add(u64::from(expires) * 1000))
}

/// Takes out what the steps remove, and puts what they have refreshed behind the rest.
fn in_order_of_refreshing(list: &mut BindingList, steps: &[Step]) -> Vec<Binding> {
    // Nearly always.
    if list.len() == 1 && steps.iter().all(|step| step.expires > 0) {
        return Vec::new();
    }
    let (mut removed, mut refreshed) = (Vec::new(), BindingList::new());
    for (at, binding) in std::mem::take(list).into_iter().enumerate() {
        match steps.iter().find(|step| step.binding == Some(at)) {
            None => list.push(binding),
            Some(Step { expires: 0, .. }) => removed.push(binding),
            Some(_) => refreshed.push(binding),
        }
    }
    list.extend(refreshed);
    removed
}

fn added(name: &AddressOfRecord, binding: &Binding) -> LocationEvent {
    LocationEvent::BindingAdded {
        address_of_record: name.clone(),
        contact: Bytes::copy_from_slice(binding.contact()),
        flow: *binding.flow,
    }
}

/// Whether `account` may have bindings of `name`: a user that it speaks for, or its own as a UC server.
pub(super) fn speaks_for(account: &Account, name: &AddressOfRecord) -> bool {
    account.scope.contains(name.user(), name.domain()) || is_own_name(account, name)
}

fn is_own_name(account: &Account, name: &AddressOfRecord) -> bool {
    let is_name = name.user().is_empty() || name.user() == account.user_name.as_bytes();
    account.kind == AccountKind::UcServer && is_name
}

/// Takes out those for which `test` says so, by place and value; the others keep their order.
pub(super) fn take_where(list: &mut BindingList, test: impl Fn(usize, &Binding) -> bool) -> Vec<Binding> {
    if !list.iter().enumerate().any(|(at, binding)| test(at, binding)) {
        return Vec::new();
    }
    let (taken, kept): (Vec<_>, Vec<_>) =
        std::mem::take(list).into_iter().enumerate().partition(|(at, binding)| test(*at, binding));
    list.extend(kept.into_iter().map(|(_, binding)| binding));
    taken.into_iter().map(|(_, binding)| binding).collect()
}

/// Whom a binding logs on. What others have in between is not a registrant's flow: it may be that of many.
pub(super) fn log_on_by(
    account: AccountId,
    kind: AccountKind,
    is_direct: bool,
) -> Option<(AccountId, AccountKind)> {
    (kind == AccountKind::UcServer || is_direct).then_some((account, kind))
}

/// The address that a contact names for this transport, where it names one in numbers. One that names no transport
/// means that by which it is registered.
pub(super) fn numeric_address(contact: &[u8], transport: Transport) -> Option<SocketAddr> {
    let uri = Uri::parse(contact).ok()?;
    let is_named = uri.transport().is_none_or(|named| match transport {
        Transport::Udp => named.eq_ignore_ascii_case(b"udp"),
        Transport::Tcp => named.eq_ignore_ascii_case(b"tcp"),
        // Their clients listen nowhere.
        Transport::Ws | Transport::Wss => false,
        Transport::Tls => {
            named.eq_ignore_ascii_case(b"tls") || (uri.is_secure && named.eq_ignore_ascii_case(b"tcp"))
        }
    });
    match uri.host {
        Host::Address(ip) if is_named && (!uri.is_secure || transport == Transport::Tls) => {
            Some(SocketAddr::new(ip, uri.port.unwrap_or(transport.default_port())))
        }
        Host::Address(_) | Host::Name(_) => None,
    }
}
