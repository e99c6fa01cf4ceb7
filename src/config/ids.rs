//! Identifiers that outlive a reload: flows, bindings and log-ons name interfaces, accounts and routes by them.
//!
//! What stays as it is keeps its identifier. What is new gets one that nothing has had lately: they are given out in a
//! circle, so that whatever still names something that went finds nothing under it.

use std::collections::BTreeSet;

use super::{Config, Interface, StaticRoute};
use crate::protocol::account::{Account, AccountId, Accounts};
use crate::protocol::federation::RouteId;
use crate::protocol::flow::InterfaceId;

/// Interfaces that there are at one time, those included that are about to close.
pub const MAXIMUM_INTERFACES: usize = 1024;

/// So many interfaces are still closing that there are no identifiers for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many interfaces, accounts or routes have been replaced lately, allowed: the same in half a minute"
)]
pub struct IdsUsedUp;

/// Where each circle has come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids {
    interface: u16,
    account: u16,
    route: u16,
}

impl Ids {
    /// Gives `new`, which is to follow `old`, its identifiers. `leaving` are interfaces of before that still have theirs;
    /// one that is wanted again gets it back. Those that are `closing` do not.
    ///
    /// # Errors
    ///
    /// Where there are not enough; then nothing can be done with `new`.
    pub fn assign(
        &mut self,
        old: &Config,
        new: &mut Config,
        leaving: &[Interface],
        closing: &[InterfaceId],
    ) -> Result<(), IdsUsedUp> {
        let known: Vec<&Interface> = old.interfaces.iter().chain(leaving).collect();
        let closing = closing.iter().map(|id| id.0);
        let circle = Circle { next: &mut self.interface, size: MAXIMUM_INTERFACES, used: closing.collect() };
        let ids = circle.assign(&known, |interface| interface.id.0, &new.interfaces, is_same_interface)?;
        new.interfaces.iter_mut().zip(ids).for_each(|(interface, id)| interface.id = InterfaceId(id));

        let known: Vec<_> = old.accounts.iter().collect();
        let circle = Circle { next: &mut self.account, size: usize::from(u16::MAX), used: BTreeSet::new() };
        let list = new.accounts.list();
        let ids =
            circle.assign(&known, |(id, _)| id.0, list, |(_, known), new| is_same_account(known, new))?;
        let accounts = ids.into_iter().map(AccountId).zip(list.iter().cloned()).collect();
        new.accounts = Accounts::with_ids(accounts);

        let known: Vec<&StaticRoute> = old.static_routes.iter().collect();
        let circle = Circle { next: &mut self.route, size: usize::from(u16::MAX), used: BTreeSet::new() };
        let ids = circle.assign(&known, |route| route.id.0, &new.static_routes, is_same_route)?;
        new.static_routes.iter_mut().zip(ids).for_each(|(route, id)| route.id = RouteId(id));
        Ok(())
    }
}

/// Numbers them for a start. Accounts have numbers from the beginning.
pub(super) fn number(interfaces: &mut [Interface], routes: &mut [StaticRoute]) {
    (0..=u16::MAX).map(InterfaceId).zip(interfaces).for_each(|(id, interface)| interface.id = id);
    (0..=u16::MAX).map(RouteId).zip(routes).for_each(|(id, route)| route.id = id);
}

/// Whether it has the same socket, and means the same by it.
fn is_same_interface(known: &&Interface, new: &Interface) -> bool {
    let is =
        |interface: &Interface| (interface.side, interface.ip_address, interface.port, interface.protocol);
    is(known) == is(new)
}

fn is_same_account(known: &Account, new: &Account) -> bool {
    (&known.user_name, known.kind) == (&new.user_name, new.kind)
}

/// Whether it leads to the same place. What is known of a place says nothing of another.
fn is_same_route(known: &&StaticRoute, new: &StaticRoute) -> bool {
    fn place(route: &StaticRoute) -> (&str, &super::Host, u16, super::Protocol) {
        (&route.domain_name, &route.access_server, route.port, route.transport_protocol)
    }
    place(known) == place(new)
}

/// Identifiers below `size`, given out one after the other.
struct Circle<'a> {
    next: &'a mut u16,
    size: usize,
    used: BTreeSet<u16>,
}

impl Circle<'_> {
    /// The identifiers of `new`: each that of the first of `known` which is the same and has not been given yet, else a
    /// free one.
    fn assign<K, T>(
        self,
        known: &[K],
        id: impl Fn(&K) -> u16,
        new: &[T],
        is_same: impl Fn(&K, &T) -> bool,
    ) -> Result<Vec<u16>, IdsUsedUp> {
        let mut used = self.used;
        used.extend(known.iter().map(&id));
        let mut given = BTreeSet::new();
        let kept: Vec<Option<u16>> = new
            .iter()
            .map(|new| {
                let same = known.iter().filter(|known| is_same(known, new)).map(&id);
                same.into_iter().find(|id| given.insert(*id))
            })
            .collect();
        let mut free = || {
            for _ in 0..self.size {
                let id = *self.next;
                *self.next = if usize::from(id) + 1 < self.size { id + 1 } else { 0 };
                if used.insert(id) {
                    return Ok(id);
                }
            }
            Err(IdsUsedUp)
        };
        kept.into_iter().map(|kept| kept.map_or_else(&mut free, Ok)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    const BASE: &str = "[wan]\nnetwork_interface = []\n";

    fn interface(port: u16, protocol: &str) -> String {
        format!(
            "[[lan.network_interface]]\nip_address = \"127.0.0.1\"\nport = {port}\nprotocol = \"{protocol}\"\n"
        )
    }

    fn route(domain: &str, server: &str) -> String {
        format!("[[static_routes.route]]\ndomain_name = \"{domain}\"\naccess_server = \"{server}\"\n")
    }

    fn account(name: &str, password: &str) -> String {
        format!("[[lan.account]]\nuser_name = \"{name}\"\npassword = \"{password}\"\n")
    }

    fn load(parts: &[String]) -> Config {
        config(&format!("{BASE}{}", parts.concat()))
    }

    /// What has which identifier: interfaces by port, accounts by name, routes by domain.
    fn named(config: &Config) -> [Vec<(String, u16)>; 3] {
        let mut names = [
            config.interfaces.iter().map(|i| (i.port.to_string(), i.id.0)).collect(),
            config.accounts.iter().map(|(id, account)| (account.user_name.clone(), id.0)).collect::<Vec<_>>(),
            config.static_routes.iter().map(|route| (route.domain_name.clone(), route.id.0)).collect(),
        ];
        names.iter_mut().for_each(|list| list.sort());
        names
    }

    fn ids(list: &[(String, u16)]) -> Vec<(&str, u16)> {
        list.iter().map(|(name, id)| (&**name, *id)).collect()
    }

    #[test]
    fn what_stays_keeps_its_identifier_and_what_is_new_gets_one_that_nothing_has() {
        let old = load(&[
            interface(5070, "tcp"),
            interface(5071, "tcp"),
            account("a", "1"),
            account("b", "1"),
            route("a.example", "192.0.2.1"),
            route("b.example", "192.0.2.2"),
        ]);
        let [interfaces, accounts, routes] = named(&old);
        assert_eq!(ids(&interfaces), [("5060", 0), ("5070", 1), ("5071", 2)]);
        assert_eq!(ids(&accounts), [("a", 1), ("b", 2), ("ucserver", 0)]);
        assert_eq!(ids(&routes), [("a.example", 0), ("b.example", 1)]);

        // The first of each goes, one comes, one is pointed elsewhere.
        let mut new = load(&[
            interface(5072, "tcp"),
            interface(5071, "tcp"),
            account("c", "1"),
            account("b", "2"),
            route("b.example", "192.0.2.9"),
        ]);
        let mut all = Ids::default();
        all.assign(&old, &mut new, &[], &[]).unwrap();
        let [interfaces, accounts, routes] = named(&new);
        assert_eq!(ids(&interfaces), [("5060", 0), ("5071", 2), ("5072", 3)]);
        assert_eq!(ids(&accounts), [("b", 2), ("c", 3), ("ucserver", 0)]);
        assert_eq!(ids(&routes), [("b.example", 2)]);
        assert_eq!(new.accounts.get(AccountId(3)).map(|account| &*account.user_name), Some("c"));
        assert_eq!(new.accounts.get(AccountId(1)), None);
        assert_eq!(new.accounts.by_user_name(b"b").map(|(id, _)| id), Some(AccountId(2)));

        // What comes back is new, unless it has not quite gone.
        let mut third = old.clone();
        all.assign(&new, &mut third, &[], &[]).unwrap();
        assert_eq!(ids(&named(&third)[0]), [("5060", 0), ("5070", 4), ("5071", 2)]);
        let mut third = old.clone();
        let closing: Vec<_> = old.interfaces.iter().filter(|i| i.port == 5070).cloned().collect();
        all.assign(&new, &mut third, &closing, &[]).unwrap();
        assert_eq!(ids(&named(&third)[0]), [("5060", 0), ("5070", 1), ("5071", 2)]);
    }

    #[test]
    fn the_same_port_for_another_protocol_or_side_is_another_interface() {
        let old = load(&[interface(5070, "tcp")]);
        let mut new = load(&[interface(5070, "udp")]);
        Ids::default().assign(&old, &mut new, &[], &[]).unwrap();
        assert_eq!(ids(&named(&new)[0]), [("5060", 0), ("5070", 2)]);
    }

    #[test]
    fn identifiers_come_round_and_are_never_given_twice() {
        let mut circle = 1020;
        let known = [1022_u16, 0];
        let next = Circle { next: &mut circle, size: 1024, used: BTreeSet::new() };
        let given = next.assign(&known, |id| *id, &[7, 8, 9, 0], |known, new: &u16| known == new).unwrap();
        assert_eq!(given, [1020, 1021, 1023, 0]);
        let all: Vec<u16> = (0..1024).collect();
        let next = Circle { next: &mut circle, size: 1024, used: BTreeSet::new() };
        assert_eq!(next.assign(&all, |id| *id, &[()], |_, ()| false), Err(IdsUsedUp));
    }
}
