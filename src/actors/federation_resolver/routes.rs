//! How the static routes do: told to the log, and probes asked of the Routers, as [`RouteHealth`] wants it.
//!
//! [`RouteHealth`]: crate::protocol::next_hop::route_health::RouteHealth

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{info, warn};

use super::FederationResolver;
use crate::actors::router::ProbeRoute;
use crate::protocol::federation::{Route, RouteId};
use crate::protocol::next_hop::route_health::{Health, Output, addresses_of};

/// How are the static routes? From Control.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<RouteListed>")]
pub struct ListRoutes;

/// One static route that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteListed {
    /// The route.
    pub route: Arc<Route>,
    /// Where its access server is now.
    pub addresses: Vec<IpAddr>,
    /// How it does.
    pub health: Health,
}

impl Handler<ListRoutes> for FederationResolver {
    type Result = Vec<RouteListed>;

    fn handle(&mut self, _: ListRoutes, ctx: &mut Context<Self>) -> Self::Result {
        self.turns.count(ctx);
        let known = self.access.addresses();
        let listed = |(route, health): (&Arc<Route>, Health)| RouteListed {
            addresses: addresses_of(route, &known),
            route: Arc::clone(route),
            health,
        };
        self.routes.all().map(listed).collect()
    }
}

impl FederationResolver {
    /// Probes what is due, tells what has changed, and comes back when something else is due.
    pub(super) fn look_after_routes(&mut self, ctx: &mut Context<Self>) {
        while let Some(output) = self.routes.poll_output() {
            match output {
                Output::Probe(route) => self.probe(route),
                Output::Failed { route, cause } => {
                    warn!(self.log, "route_failed"; "route" => &*route.domain, "access_server" => server(&route),
                        "reason" => cause);
                }
                Output::Recovered { route, after } => {
                    info!(self.log, "route_recovered"; "route" => &*route.domain,
                        "access_server" => server(&route), "seconds" => after.as_secs());
                }
            }
        }
        // What is in use puts it off: then it comes back too early, and finds nothing due.
        let Some(due) = self.routes.poll_timeout().filter(|_| self.probe_timer.is_none()) else { return };
        let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.probe_timer = Some(ctx.run_later(wait, |resolver, ctx| {
            resolver.probe_timer = None;
            resolver.routes.handle_timeout(Instant::now(), &resolver.access.addresses());
            resolver.look_after_routes(ctx);
        }));
    }

    /// The routes are shared out among the Routers. One that is being restarted is asked the next time.
    fn probe(&self, route: RouteId) {
        let router = usize::from(route.0) % self.directory.router_count();
        if let Some(router) = self.directory.router(router).as_deref() {
            router.probe.do_send(ProbeRoute(route));
        }
    }
}

fn server(route: &Route) -> String {
    let by_name = || format!("{}:{}", route.host.as_deref().unwrap_or_default(), route.port);
    route.socket_address().map_or_else(by_name, |address| address.to_string())
}
