//! The service as its administrator sees it while it runs: HTTP over the control socket and over `[admin] listen`.
//!
//! - `door.rs` lets connections in, bounded in number (`places.rs`) and in time; `socket.rs` makes the Unix socket.
//! - `access.rs` says who may ask.
//! - `desk.rs` knows the resources; [`report`] is their form; `collect.rs` and what it uses ask the other actors.
//! - `answer.rs` sends what they say.
//! - [`page`] is what a browser makes of them.
//!
//! It has a thread of its own, so that no client, however slow, holds up SIP. Whom it asks answers in time or is left out
//! of the report.
//!
//! # Restart
//! What is lost: the connections, whose clients ask again, and what was looked up in DNS, which is looked up again. Who
//! notices: the supervisor. A panic while one request is answered ends that request alone, by a 500.

mod access;
mod answer;
mod collect;
mod desk;
mod door;
mod events;
mod exposition;
pub mod metrics;
pub mod page;
mod places;
mod query;
mod records;
pub mod report;
mod socket;
mod tables;
pub mod trace;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use slog::Logger;

use self::desk::Desk;
use super::directory::Directory;
use super::supervisor::describe::Describe;
use super::supervisor::reload::Reload;
use super::supervisor::{Stop, Supervisor};
use crate::config::Admin;
use crate::diagnostics::Diagnostics;

/// What a [`Control`] is given.
pub struct ControlSettings {
    /// `service.control_socket`.
    pub socket: PathBuf,
    /// `[admin]`, where it listens; what a reload makes of it is seen within a second.
    pub admin: Option<Admin>,
    /// Whom it asks about the service as a whole.
    pub supervisor: SupervisorAddress,
    /// Where the others are.
    pub directory: Arc<Directory>,
    /// The log: its levels are changed here.
    pub logs: Arc<Diagnostics>,
}

/// The ways into the supervisor.
#[derive(Clone, Debug)]
pub struct SupervisorAddress {
    /// How the service is.
    pub describe: Recipient<Describe>,
    /// That the configuration is to be read again.
    pub reload: Recipient<Reload>,
    /// That the process is to end.
    pub stop: Recipient<Stop>,
}

impl From<Addr<Supervisor>> for SupervisorAddress {
    fn from(address: Addr<Supervisor>) -> Self {
        Self {
            describe: address.clone().recipient(),
            reload: address.clone().recipient(),
            stop: address.recipient(),
        }
    }
}

/// Answers administrators.
pub struct Control {
    socket: PathBuf,
    admin: Option<Admin>,
    desk: Rc<Desk>,
    log: Logger,
}

impl Control {
    /// A Control that listens when it starts.
    pub fn new(settings: ControlSettings) -> Self {
        let ControlSettings { socket, admin, supervisor, directory, logs } = settings;
        let log = logs.logger("control");
        Self { socket, admin, desk: Rc::new(Desk::new(supervisor, directory, logs)), log }
    }
}

impl Actor for Control {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let socket = door::serve_socket(self.socket.clone(), Rc::clone(&self.desk), self.log.clone());
        ctx.spawn(socket.into_actor(self));
        ctx.spawn(records::keep(Rc::clone(&self.desk), self.log.clone()).into_actor(self));
        let network = door::follow_admin(self.admin.take(), Rc::clone(&self.desk), self.log.clone());
        ctx.spawn(network.into_actor(self));
    }
}
