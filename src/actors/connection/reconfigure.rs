//! What a change of the configuration does to connections that are open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext as _, Context, Handler, Message as ActorMessage};
use slog::info;

use super::end::End;
use super::{Connection, ConnectionSettings};
use crate::protocol::flow::InterfaceId;

/// The configuration has changed. To every Connection, from the supervisor.
#[derive(Clone, Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct Reconfigure(pub Arc<Reconfiguration>);

/// What connections are told of a configuration that has changed.
#[derive(Debug)]
pub struct Reconfiguration {
    /// By the interface. Connections of one that is not here end when their transactions have had some time.
    pub settings: BTreeMap<InterfaceId, Arc<ConnectionSettings>>,
    /// How much.
    pub patience: Duration,
    /// The domains of static routes that are gone, or lead elsewhere. What was opened to them takes no more requests.
    pub gone_routes: Vec<Arc<str>>,
    /// How long the requests that it has taken may wait for their answers: Timer C.
    pub route_patience: Duration,
}

impl Handler<Reconfigure> for Connection {
    type Result = ();

    fn handle(&mut self, Reconfigure(new): Reconfigure, ctx: &mut Context<Self>) {
        let is_gone = self.domain.as_ref().is_some_and(|domain| new.gone_routes.contains(domain));
        if is_gone {
            self.admission.forget_peer();
            ctx.run_later(new.route_patience, |connection, ctx| connection.take_leave(End::RouteGone, ctx));
        }
        let Some(settings) = new.settings.get(&self.settings.interface) else {
            if self.orphaned.is_none() {
                self.admission.forget_peer();
                let leave = ctx.run_later(new.patience, |connection: &mut Self, ctx| {
                    connection.take_leave(End::InterfaceGone, ctx);
                });
                self.orphaned = Some(leave);
            }
            return;
        };
        // It has come back.
        if let Some(leave) = self.orphaned.take() {
            ctx.cancel_future(leave);
        }
        self.settings = Arc::clone(settings);
        let outdated = self.open.as_mut().and_then(|open| open.reconfigure(settings));
        if let Some(end) = outdated {
            info!(self.settings.security, "connection_outdated"; "peer" => %self.remote, "reason" => end.log_name());
            self.end(end, ctx);
        }
    }
}
