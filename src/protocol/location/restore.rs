//! Bindings that come back, be it that the process was started anew or the location service alone.
//!
//! A binding over UDP is reached as before. One over a connection that is still open, too. One whose connection is
//! gone has no way any more (RFC 5626 §7), unless it is of a UC server that can be connected to: until that comes
//! back by itself, a connection to the address of its contact takes the place of the old one (product rule).

use std::net::SocketAddr;

use super::bindings::{Binding, BindingList, Tie};
use super::clock::Moment;
use super::event::{LogOffReason, RemovalReason};
use super::record::{self, Kept, KeptFlow};
use super::register::{log_on_by, numeric_address, speaks_for, take_where};
use super::registration::{Change, Registration};
use super::{AddressOfRecord, Location, clock};
use crate::protocol::account::{AccountId, AccountKind};
use crate::protocol::flow::{ConnectionId, Flow, Transport};
use crate::protocol::interface::{Interfaces, Side};

/// What a binding that comes back must still fit.
pub struct Surroundings<'a> {
    /// The interfaces of the configuration, whether they listen already or not.
    pub interfaces: &'a Interfaces,
    /// Whether a connection is open.
    pub is_open: &'a dyn Fn(ConnectionId) -> bool,
}

/// What has come of all that was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Bindings that are back.
    pub bindings: usize,
    /// Bindings whose time was over.
    pub expired: usize,
    /// Bindings that fit no longer: their connection, interface or account is gone.
    pub dropped: usize,
    /// Values that could not be read.
    pub unreadable: usize,
}

/// Why a binding does not come back.
enum Lost {
    Expired,
    Unfit,
}

impl Location {
    /// Takes back what was kept of the address-of-record `name`, before any question about it. Of events it causes
    /// the log-ons of flows alone.
    pub fn restore(
        &mut self,
        at: Moment,
        name: &[u8],
        value: &[u8],
        around: &Surroundings<'_>,
        restored: &mut Restored,
    ) {
        let Some(kept) = record::read(value) else {
            restored.unreadable += 1;
            return;
        };
        let name = AddressOfRecord::from_canonical(name);
        let mut list = BindingList::new();
        for kept in kept {
            match self.revive(at, &name, &kept, around) {
                Ok(binding) => list.push(binding),
                Err(Lost::Expired) => restored.expired += 1,
                Err(Lost::Unfit) => restored.dropped += 1,
            }
        }
        restored.bindings += list.len();
        self.bindings.restore(&name, list);
    }

    fn revive(
        &mut self,
        at: Moment,
        name: &AddressOfRecord,
        kept: &Kept<'_>,
        around: &Surroundings<'_>,
    ) -> Result<Binding, Lost> {
        let left = kept.expires.saturating_sub(at.unix_millis);
        if left == 0 {
            return Err(Lost::Expired);
        }
        let account = self.account_now(name, kept).ok_or(Lost::Unfit)?;
        let flow = self.way_now(kept, account, around).ok_or(Lost::Unfit)?;
        if self.bindings.len() >= self.settings.limits.bindings {
            return Err(Lost::Unfit);
        }
        let is_own = self.is_own(name, account);
        // Of a server that is not there, nothing but its own registration says that it can be asked for anybody.
        let log_on = account.filter(|_| !flow.is_dialled() || is_own);
        let log_on = log_on.and_then(|id| log_on_by(id, self.kind(id)?, kept.is_direct));
        let flow = self.flows.attach(&flow, log_on, &mut self.events);
        if is_own {
            self.flows.set_contact(&flow, numeric_address(kept.contact, Transport::Udp));
        }
        // A wall clock that was set back lets nothing live longer than a new registration could.
        let longest = clock::whole_millis(self.settings.maximum_expires);
        let expires = self.clock.millis(at.now).saturating_add(left.min(longest));
        Ok(kept.binding(flow, account, expires))
    }

    /// The account that has registered a binding, if it still speaks for `name`. The configuration may have changed.
    fn account_now(&self, name: &AddressOfRecord, kept: &Kept<'_>) -> Option<Option<AccountId>> {
        let Some(user_name) = kept.account else { return Some(None) };
        let (id, account) = self.settings.accounts.by_user_name(user_name.as_bytes())?;
        speaks_for(account, name).then_some(Some(id))
    }

    /// The flow of a binding as things are now.
    fn way_now(
        &self,
        kept: &Kept<'_>,
        account: Option<AccountId>,
        around: &Surroundings<'_>,
    ) -> Option<Flow> {
        let KeptFlow { transport, local, remote, connection } = kept.flow;
        let interface = around.interfaces.of_socket(transport, local)?;
        let is_server = account.is_some_and(|id| self.kind(id) == Some(AccountKind::UcServer));
        // UC servers log on at LAN interfaces alone (admission).
        if is_server && interface.side != Side::Lan {
            return None;
        }
        let flow = Flow { interface: interface.id, transport, local, remote, connection: None };
        let connection = connection.map(ConnectionId);
        if let Some(open) = connection.filter(|id| (around.is_open)(*id)) {
            return Some(Flow { connection: Some(open), ..flow });
        }
        // A flow that was registered as such is gone with its connection, even a UC server's (RFC 5626 §7).
        let is_dialled = is_server && kept.details.is_none_or(|details| details.reg_id.is_none());
        match connection {
            None => (!flow.is_dialled() || is_server).then_some(flow),
            Some(_) if is_dialled => Some(Flow { remote: address_to_dial(kept)?, ..flow }),
            Some(_) => None,
        }
    }

    /// Nothing can be had from a flow that was to be dialled: what was to be reached by it is gone.
    pub(super) fn give_up_dialled(&mut self, now: clock::Millis, flow: &Flow) {
        for name in self.bindings.tied_to(Tie::Dialled((*flow).into())) {
            let gone =
                self.bindings.change(&name, |list| take_where(list, |_, binding| *binding.flow == *flow));
            self.release(now, &name, &gone, LogOffReason::Unreachable);
            self.tell_removed(&name, gone, RemovalReason::Unreachable);
        }
    }

    /// A UC server that registers over a connection has come back: what has stood for that until now is replaced.
    pub(super) fn replace_dialled(&mut self, now: clock::Millis, flow: &Flow, registration: &Registration) {
        let name = &registration.address_of_record;
        let is_replaced = |binding: &Binding| {
            binding.flow.is_dialled()
                && binding.flow.remote.ip() == flow.remote.ip()
                && binding.account == registration.account
        };
        let changes = flow.connection.is_some() && registration.change != Change::Nothing;
        if !changes || !self.bindings.get(name).iter().any(is_replaced) {
            return;
        }
        let replaced = self.bindings.change(name, |list| take_where(list, |_, binding| is_replaced(binding)));
        self.release(now, name, &replaced, LogOffReason::Superseded);
        self.tell_removed(name, replaced, RemovalReason::Replaced);
    }
}

/// Where the UC server that has made a binding over a connection takes others: the address of its contact, on the
/// host that the connection came from. The port of the connection's end is none at which it listens.
fn address_to_dial(kept: &Kept<'_>) -> Option<SocketAddr> {
    let KeptFlow { transport, remote, .. } = kept.flow;
    let address = numeric_address(kept.contact, transport)?;
    let listens = address.ip() == remote.ip() && address.port() != remote.port();
    // With a path, the flow was that of its first hop.
    (listens && kept.path.is_empty()).then_some(address)
}
