//! Other settings while it works.

use std::sync::Arc;
use std::time::Instant;

use super::bindings::Binding;
use super::register::{speaks_for, take_where};
use super::{AddressOfRecord, Location, LocationSettings, LogOffReason, RemovalReason};
use crate::protocol::account::{AccountId, Accounts, Secret};
use crate::protocol::flow::Flow;

impl Location {
    /// Takes new settings. Its keys, its clock and its bounds stay.
    ///
    /// An account that is gone takes its bindings and its log-ons with it; one that does not speak for a user any more,
    /// those of that user. Of one with another proof the log-ons end, and those of the account without a password whose
    /// address `is_lan` does not accept any more: the next request has to prove it again. Other bindings keep what they
    /// were granted.
    pub fn reconfigure(&mut self, now: Instant, new: LocationSettings, is_lan: &dyn Fn(&Flow) -> bool) {
        let LocationSettings {
            minimum_expires,
            default_expires,
            maximum_expires,
            maximum_contacts,
            accepts_path_without_support,
            flow_timer,
            nonce_lifetime,
            accounts,
            guard,
            epoch: _,
            succeeded: _,
            hash_key: _,
            gruu_key: _,
            seed: _,
            limits: _,
        } = new;
        self.nonces.set_lifetime(nonce_lifetime);
        self.guard.set_settings(guard);
        let settings = &mut self.settings;
        settings.minimum_expires = minimum_expires;
        settings.default_expires = default_expires;
        settings.maximum_expires = maximum_expires;
        settings.maximum_contacts = maximum_contacts;
        settings.accepts_path_without_support = accepts_path_without_support;
        settings.flow_timer = flow_timer;
        settings.nonce_lifetime = nonce_lifetime;
        settings.guard = guard;
        self.set_accounts(now, &accounts, is_lan);
    }

    fn set_accounts(&mut self, now: Instant, accounts: &Arc<Accounts>, is_lan: &dyn Fn(&Flow) -> bool) {
        let is_gone = |id: AccountId| accounts.get(id).is_none();
        if self.settings.accounts.iter().any(|(id, _)| is_gone(id)) {
            let reasons = (LogOffReason::AccountRemoved, RemovalReason::AccountRemoved);
            self.remove_bindings(now, reasons, |_, binding| binding.account.is_some_and(is_gone));
        }
        for flow in self.flows.logged_on_as(|id, _| is_gone(id)) {
            self.flows.log_off(&flow, LogOffReason::AccountRemoved, &mut self.events);
        }
        let before = std::mem::replace(&mut self.settings.accounts, Arc::clone(accounts));
        let must_prove = |id: AccountId, flow: &Flow| {
            let (before, after) = (before.get(id), accounts.get(id));
            let secrets = before.zip(after).map(|(before, after)| (&before.secret, &after.secret));
            secrets.is_some_and(|(before, after)| {
                before != after || (*after == Secret::Address && !is_lan(flow))
            })
        };
        for flow in self.flows.logged_on_as(must_prove) {
            self.flows.log_off(&flow, LogOffReason::AccountChanged, &mut self.events);
        }
        let scopes =
            |id| before.get(id).zip(accounts.get(id)).map(|(before, after)| (&before.scope, &after.scope));
        if accounts.iter().any(|(id, _)| scopes(id).is_some_and(|(before, after)| before != after)) {
            let is_silenced = |name: &AddressOfRecord, binding: &Binding| {
                let account = binding.account.and_then(|id| accounts.get(id));
                account.is_some_and(|account| !speaks_for(account, name))
            };
            let reasons = (LogOffReason::AccountChanged, RemovalReason::AccountChanged);
            self.remove_bindings(now, reasons, is_silenced);
        }
    }

    fn remove_bindings(
        &mut self,
        now: Instant,
        (log_off, removal): (LogOffReason, RemovalReason),
        is_gone: impl Fn(&AddressOfRecord, &Binding) -> bool,
    ) {
        let now = self.clock.millis(now);
        for name in self.bindings.having(&is_gone) {
            let gone =
                self.bindings.change(&name, |list| take_where(list, |_, binding| is_gone(&name, binding)));
            self.release(now, &name, &gone, log_off);
            self.tell_removed(&name, gone, removal);
        }
    }
}
