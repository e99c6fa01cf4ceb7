//! The access servers of static routes that are given by name: looked up as [`AccessServers`] wants it, and told to the
//! Routers.
//!
//! [`AccessServers`]: crate::protocol::next_hop::access::AccessServers

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::info;

use super::{Fault, FederationResolver};
use crate::actors::registrar::RouterRestarted;
use crate::actors::router::AccessServersMoved;
use crate::protocol::federation::{Route, RouteId};
use crate::protocol::next_hop::access::Output;
use crate::protocol::next_hop::records::Key;

impl FederationResolver {
    /// Looks up what is due, tells what is new, and comes back when something else is due.
    pub(super) fn look_after_access_servers(&mut self, ctx: &mut Context<Self>) {
        self.access.handle_timeout(Instant::now());
        while let Some(output) = self.access.poll_output() {
            match output {
                Output::LookUp(route, key) => self.look_up_access_server(route, key, ctx),
                Output::Addresses(addresses) => {
                    self.directory.tell_access_servers(&AccessServersMoved(addresses));
                }
                Output::Moved { route, old, new } => self.tell_moved(&route, &old, &new, ctx),
                Output::LeadsToOurselves { route, address } => {
                    self.tell_leads_to_ourselves(&route.domain, address, ctx);
                }
            }
        }
        if let Some(timer) = self.access_timer.take() {
            ctx.cancel_future(timer);
        }
        self.access_timer = self.access.poll_timeout().map(|due| {
            let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            ctx.run_later(wait, |resolver, ctx| {
                resolver.access_timer = None;
                resolver.look_after_access_servers(ctx);
            })
        });
    }

    fn look_up_access_server(&self, route: RouteId, key: Key, ctx: &mut Context<Self>) {
        let kind = key.kind;
        let answer = self.name_servers.look_up(key);
        let handled = answer.into_actor(self).map(move |(answer, ttl), resolver, ctx| {
            resolver.access.handle_answer(Instant::now(), route, kind, answer, ttl);
            resolver.look_after_access_servers(ctx);
        });
        ctx.spawn(handled);
    }

    fn tell_moved(&mut self, route: &Arc<Route>, old: &[IpAddr], new: &[IpAddr], ctx: &mut Context<Self>) {
        let host = route.host.as_deref().unwrap_or_default();
        if self.is_new(&Fault::Moved(Arc::clone(&route.domain), new.to_vec()), ctx) {
            info!(self.log, "access_server_moved"; "route" => &*route.domain, "access_server" => host,
                "old" => list(old), "new" => list(new));
        }
    }
}

pub(super) fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Handler<RouterRestarted> for FederationResolver {
    type Result = ();

    fn handle(&mut self, RouterRestarted { router }: RouterRestarted, _: &mut Context<Self>) {
        if let Some(router) = self.directory.router(router).as_deref() {
            router.access_servers.do_send(AccessServersMoved(self.access.addresses()));
        }
    }
}
