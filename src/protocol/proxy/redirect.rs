//! Recursion on redirections (RFC 3261 §16.5, §16.7 step 4): the contacts of a 3xx are asked in the place of its
//! sender, where `sip.follow_redirections` wants that.
//!
//! They wait until all that was asked has ended, and are asked one after the other, the best q first. One that could
//! not be asked, or has been, stays in the response for the client.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::protocol::account::AccountKind;
use crate::protocol::interface::Side;
use crate::protocol::location::{Ask, ContextId, Destination, Located, Question};
use crate::protocol::message::edit::Edit;
use crate::protocol::message::headers::q_value;
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::uri::{Uri, are_equivalent};
use crate::protocol::message::{Message, Name};

use super::forking::parse_own;
use super::response_context::{Pending, ResponseContext};
use super::route::{Way, by_uri};
use super::slots::Slot;
use super::targets::{Target, TargetKind, only, target_set};
use super::{Output, Proxy};

/// Contacts that one request is led on to; redirections beyond are for the client.
const FOLLOWED_AT_MOST: usize = 16;

/// Where a request has been led on to.
#[derive(Debug, Default)]
pub(super) struct Redirections {
    /// To be asked, the best first.
    waiting: VecDeque<Bytes>,
    /// Every one that is or was in the target set: none comes in twice (§16.5).
    followed: Vec<Bytes>,
}

impl Proxy {
    /// Takes out of a redirection what is to be followed. What is left of it for the client; `None` where nothing is.
    pub(super) fn follow_redirection(&mut self, slot: Slot, response: &Message) -> Option<Message> {
        let may_follow = |context: &&ResponseContext| {
            // Behind a Route of somebody else's it is for whom that has chosen.
            let has_further_routes = context.request.values(Name::Route).nth(context.own_routes).is_some();
            context.follows_redirections && context.is_open() && !has_further_routes
        };
        let Some(context) = self.contexts.get(slot).filter(may_follow) else {
            return Some(response.clone());
        };
        let (mut taken, mut count) = (SmallVec::<[usize; 4]>::new(), 0);
        let mut found: Vec<(u16, Bytes)> = Vec::new();
        for (number, value) in response.values(Name::Contact).enumerate() {
            count += 1;
            let Some((q, uri)) = self.followable(context, value) else { continue };
            let is_known =
                found.iter().any(|(_, known)| are_equivalent(known, uri)) || context.has_followed(uri);
            if !is_known && context.followed() + found.len() < FOLLOWED_AT_MOST {
                found.push((q, Bytes::copy_from_slice(uri)));
                taken.push(number);
            }
        }
        found.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
        if let Some(context) = self.contexts.get_mut(slot).filter(|_| !taken.is_empty()) {
            let redirections = context.redirections.get_or_insert_default();
            redirections.followed.extend(found.iter().map(|(_, uri)| uri.clone()));
            redirections.waiting.extend(found.into_iter().map(|(_, uri)| uri));
        }
        match taken.len() {
            0 => Some(response.clone()),
            all if all == count => None,
            _ => {
                let mut edit = Edit::new(response, &mut self.scratch);
                edit.remove_values(Name::Contact, |number| taken.contains(&number));
                parse_own(edit.write())
            }
        }
    }

    /// The URI of a contact that may be asked, with its q value.
    fn followable<'a>(&self, context: &ResponseContext, value: &'a [u8]) -> Option<(u16, &'a [u8])> {
        let contact = NameAddr::parse(value)?;
        let uri = Uri::parse(contact.uri).ok()?;
        let is_secure = context.request.target().is_ok_and(|uri| uri.is_secure);
        // The headers of a URI would make another request of it, and what was to be secure stays so.
        if !uri.headers.is_empty() || (is_secure && !uri.is_secure) {
            return None;
        }
        let is_reachable = match by_uri(&uri, &self.settings, &self.interfaces) {
            Way::Location => true,
            Way::Direct(_) => self.may_send_directly(context),
            Way::Ourselves | Way::Token(_) | Way::Outward(_) | Way::Nowhere(_) => false,
        };
        let q = contact.parameters.value(b"q").and_then(q_value).unwrap_or(1000);
        is_reachable.then_some((q, contact.uri))
    }

    fn may_send_directly(&self, context: &ResponseContext) -> bool {
        let account = context.account.and_then(|account| self.settings.accounts.get(account));
        account.is_some_and(|account| account.kind == AccountKind::UcServer)
            && self.interfaces.side(context.source.interface) == Side::Lan
    }

    /// Asks the next contact that a redirection has named. False: there is none.
    pub(super) fn follow_next(&mut self, now: Instant, slot: Slot) -> bool {
        let Some(context) = self.contexts.get_mut(slot).filter(|context| context.is_open()) else {
            return false;
        };
        let next = context.redirections.as_mut().and_then(|redirections| redirections.waiting.pop_front());
        let Some(uri) = next else { return false };
        let way = Uri::parse(&uri)
            .map(|parsed| (by_uri(&parsed, &self.settings, &self.interfaces), Destination::of(&parsed)));
        match way {
            Ok((Way::Location, destination)) => {
                let flow = context.source;
                context.pending = Pending::Redirection(uri);
                context.patience = Some(now + self.settings.timers.f() / 4);
                self.outputs.push_back(Output::Ask(Question {
                    context: ContextId { slot: slot.index, generation: slot.generation },
                    flow,
                    log_on: None,
                    nonce_use: None,
                    ask: Ask::Locate(destination),
                }));
                self.arm_context(slot);
            }
            Ok((Way::Direct(hop), _)) => {
                let target = Target { request_uri: Some(uri), ..Target::direct(hop) };
                context.waiting = only(target);
                self.go_on(now, slot);
            }
            // The interfaces have changed meanwhile.
            Ok((Way::Ourselves | Way::Token(_) | Way::Outward(_) | Way::Nowhere(_), _)) | Err(_) => {
                self.go_on(now, slot);
            }
        }
        true
    }

    /// The Registrar knows where the user is to whom a redirection has led.
    pub(super) fn redirection_located(&mut self, now: Instant, slot: Slot, uri: &Bytes, located: Located) {
        let Some(context) = self.contexts.get_mut(slot) else { return };
        let mut groups = target_set(located, context.method, &self.interfaces);
        for target in groups.iter_mut().flatten().filter(|target| target.kind == TargetKind::Search) {
            target.request_uri = Some(uri.clone());
        }
        let asked = |target: &Target| {
            context.branches.iter().any(|branch| {
                let (old, new) = (&branch.target.request_uri, &target.request_uri);
                branch.target.hop == target.hop
                    && old.as_deref().zip(new.as_deref()).is_some_and(|(a, b)| are_equivalent(a, b))
            })
        };
        for group in &mut groups {
            group.retain(|target| !asked(target));
        }
        groups.retain(|group| !group.is_empty());
        context.waiting = groups;
        self.go_on(now, slot);
    }
}

impl ResponseContext {
    fn followed(&self) -> usize {
        self.redirections.as_ref().map_or(0, |redirections| redirections.followed.len())
    }

    fn has_followed(&self, uri: &[u8]) -> bool {
        let followed = self.redirections.iter().flat_map(|redirections| &redirections.followed);
        are_equivalent(self.request.request_uri(), uri)
            || followed.into_iter().any(|known| are_equivalent(known, uri))
    }
}
