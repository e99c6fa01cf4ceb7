//! What makes actors fail, in tests alone.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use actix::prelude::*;

use crate::actors::connection::Connection;
use crate::actors::control::Control;
use crate::actors::federation_resolver::FederationResolver;
use crate::actors::journal::Journal;
use crate::actors::listener::datagram::DatagramListener;
use crate::actors::listener::stream::StreamListener;
use crate::actors::registrar::Registrar;
use crate::actors::router::Router;
use crate::actors::stun::Stun;
use crate::actors::supervisor::{ChildId, Supervisor};

/// Panic.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(in crate::actors::supervisor) struct Collapse;

macro_rules! collapses {
    ($($actor:ty),+) => {
        $(impl Handler<Collapse> for $actor {
            type Result = ();

            fn handle(&mut self, _: Collapse, _: &mut Context<Self>) {
                panic!("made to panic by a test");
            }
        })+
    };
}

collapses!(
    Router,
    Registrar,
    FederationResolver,
    Journal,
    Stun,
    Control,
    DatagramListener,
    StreamListener,
    Connection,
    Supervisor
);

/// Be stuck for so long.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(in crate::actors::supervisor) struct Freeze(pub(super) Duration);

impl Handler<Freeze> for Router {
    type Result = ();

    fn handle(&mut self, Freeze(time): Freeze, _: &mut Context<Self>) {
        std::thread::sleep(time);
    }
}

/// The limit of the watchdog from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct WatchWithin(pub(super) Duration);

impl Handler<WatchWithin> for Supervisor {
    type Result = ();

    fn handle(&mut self, WatchWithin(limit): WatchWithin, ctx: &mut Context<Self>) {
        self.watchdog.set_limit(limit);
        self.keep_watch(ctx);
    }
}

/// Has a Router be stuck for so long, once all have answered the watchdog; false until then.
#[derive(Message)]
#[rtype(result = "bool")]
pub(super) struct FreezeRouter(pub(super) Duration);

impl Handler<FreezeRouter> for Supervisor {
    type Result = bool;

    fn handle(&mut self, FreezeRouter(time): FreezeRouter, _: &mut Context<Self>) -> bool {
        if self.watchdog.knows_all() {
            self.freezable.as_ref().unwrap().do_send(Freeze(time));
        }
        self.watchdog.knows_all()
    }
}

/// Ends a thread that carries SIP.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct EndThread;

impl Handler<EndThread> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: EndThread, _: &mut Context<Self>) {
        self.arbiters[1].stop();
    }
}

/// The living children.
#[derive(Default)]
pub(in crate::actors::supervisor) struct Collapsible(pub(super) Mutex<Vec<(ChildId, Recipient<Collapse>)>>);

impl Collapsible {
    pub(in crate::actors::supervisor) fn add(&self, child: ChildId, address: Recipient<Collapse>) {
        let mut children = self.0.lock().unwrap();
        children.retain(|(other, _)| *other != child);
        children.push((child, address));
    }
}

/// Makes these children panic; says which there were.
#[derive(Message)]
#[rtype(result = "usize")]
pub(super) struct CollapseChildren(pub(super) fn(ChildId) -> bool);

impl Handler<CollapseChildren> for Supervisor {
    type Result = usize;

    fn handle(&mut self, CollapseChildren(which): CollapseChildren, _: &mut Context<Self>) -> usize {
        let children = self.collapsible.0.lock().unwrap();
        let chosen: Vec<_> = children.iter().filter(|(child, _)| which(*child)).collect();
        chosen.iter().for_each(|(_, address)| address.do_send(Collapse));
        chosen.len()
    }
}

/// Makes the connection that `0` is the far end of panic.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct CollapseConnections;

impl Handler<CollapseConnections> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: CollapseConnections, _: &mut Context<Self>) {
        self.parts.directory.all_connections().iter().for_each(|address| address.do_send(Collapse));
    }
}

#[derive(Message)]
#[rtype(result = "Vec<SocketAddr>")]
pub(super) struct WhereListening;

impl Handler<WhereListening> for Supervisor {
    type Result = Vec<SocketAddr>;

    fn handle(&mut self, _: WhereListening, _: &mut Context<Self>) -> Vec<SocketAddr> {
        let listening = self.states.values().filter_map(|state| match state {
            crate::actors::listener::InterfaceState::Listening { address } => Some(*address),
            crate::actors::listener::InterfaceState::NotListening { .. } => None,
        });
        listening.collect()
    }
}
