//! The Listeners: which run, which close, and which of them wait for a port until it is free.
//!
//! A reload closes those that are not wanted any more before it starts others, so that interfaces may change places. A
//! UDP interface that went goes on for a while for what is under way, unless another wants its port.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::settings::{message_limits, stream_protocol};
use super::{ChildId, Supervisor, interfaces};
use crate::actors::connection::{ConnectionSettings, Failures, Reconfiguration, Reconfigure};
use crate::actors::listener::datagram::{ApplyLimits, DatagramListener};
use crate::actors::listener::stream::{ApplyConnections, StreamListener};
use crate::actors::listener::{Close, ListenerKind};
use crate::actors::messages::Dial;
use crate::config::{Config, Interface, Protocol};
use crate::protocol::flow::InterfaceId;

/// One Listener.
pub(super) type ListenerId = (InterfaceId, ListenerKind);

/// How a Listener is reached.
pub(super) struct ListenerAddress {
    close: Recipient<Close>,
    kind: Kind,
}

enum Kind {
    Datagrams(Recipient<ApplyLimits>),
    Streams { settings: Recipient<ApplyConnections>, dial: Recipient<Dial> },
}

impl ListenerAddress {
    pub(super) fn of_datagrams(address: Addr<DatagramListener>) -> Self {
        Self { close: address.clone().recipient(), kind: Kind::Datagrams(address.recipient()) }
    }

    pub(super) fn of_streams(address: Addr<StreamListener>) -> Self {
        let (settings, dial) = (address.clone().recipient(), address.clone().recipient());
        Self { close: address.recipient(), kind: Kind::Streams { settings, dial } }
    }
}

/// An interface of before that still has its sockets.
struct Leaving {
    interface: Interface,
    end: SpawnHandle,
}

/// All Listeners.
#[derive(Default)]
pub(super) struct Listening {
    running: BTreeMap<ListenerId, ListenerAddress>,
    /// They have been told to close.
    closing: BTreeSet<ListenerId>,
    leaving: BTreeMap<InterfaceId, Leaving>,
    /// What bounds the lines about connections that were not made, by interface.
    failures: BTreeMap<InterfaceId, Arc<Failures>>,
}

impl Listening {
    pub(super) fn opened(&mut self, listener: ListenerId, address: ListenerAddress) {
        self.running.insert(listener, address);
    }

    /// Whether a Listener that has ended was told to.
    pub(super) fn has_closed(&mut self, listener: ListenerId) -> bool {
        self.closing.remove(&listener)
    }

    /// The interfaces of before that still have their sockets and may come back, and those that close now.
    pub(super) fn left(&self) -> (Vec<Interface>, Vec<InterfaceId>) {
        let closing: Vec<_> = self.closing.iter().map(|(id, _)| *id).collect();
        let open = self.leaving.values().filter(|leaving| !closing.contains(&leaving.interface.id));
        (open.map(|leaving| leaving.interface.clone()).collect(), closing)
    }

    pub(super) fn keep_connections(&mut self, interface: InterfaceId, settings: &ConnectionSettings) {
        self.failures.insert(interface, Arc::clone(&settings.failures));
    }

    fn close(&mut self, listener: ListenerId) {
        if let Some(address) = self.running.get(&listener)
            && self.closing.insert(listener)
        {
            address.close.do_send(Close);
        }
    }

    fn listeners_of(&self, interface: InterfaceId) -> Vec<ListenerId> {
        self.running.keys().filter(|(id, _)| *id == interface).copied().collect()
    }
}

impl Supervisor {
    /// Whether this Listener is there; of other children nobody asks.
    pub(super) fn is_running(&self, child: ChildId) -> bool {
        matches!(child, ChildId::Listener(interface, kind) if self.listening.running.contains_key(&(interface, kind)))
    }

    /// Whether the configuration asks for this child.
    pub(super) fn is_wanted(&self, child: ChildId) -> bool {
        let ChildId::Listener(interface, kind) = child else { return true };
        self.wanted().contains(&(interface, kind))
    }

    fn wanted(&self) -> Vec<ListenerId> {
        interfaces::listeners(&self.parts.config, self.arbiters.len())
    }

    /// Starts the Listeners that are wanted, do not run, and wait for nobody.
    pub(super) fn start_listeners(&mut self, ctx: &mut Context<Self>) {
        if !self.has_listeners || !self.listening.closing.is_empty() {
            return;
        }
        for (interface, kind) in self.wanted() {
            let has_port = self.states.contains_key(&(interface, ListenerKind::Datagram { core: 0 }));
            let may_start = has_port || interfaces::starts_at_once(&self.parts.config, interface, kind);
            let is_new = !self.states.contains_key(&(interface, kind));
            if may_start && is_new && !self.listening.running.contains_key(&(interface, kind)) {
                self.start_child(ChildId::Listener(interface, kind), ctx);
            }
        }
    }

    /// A Listener is gone: nobody finds it.
    pub(super) fn withdraw_listener(&mut self, listener: ListenerId) {
        self.listening.running.remove(&listener);
        match listener {
            (interface, ListenerKind::Datagram { core }) => {
                self.parts.directory.publish_datagram_listener(interface, core, None);
            }
            (interface, ListenerKind::Stream) => {
                self.parts.directory.publish_stream_listener(interface, None);
                self.publish_streams();
            }
        }
    }

    /// Makes every stream Listener known for all interfaces that it serves.
    pub(super) fn publish_streams(&self) {
        let directory = &self.parts.directory;
        let streams =
            self.listening.running.iter().filter_map(|((interface, _), address)| match &address.kind {
                Kind::Streams { dial, .. } => Some((*interface, dial)),
                Kind::Datagrams(_) => None,
            });
        let mut served = BTreeMap::new();
        for (interface, dial) in streams {
            served.extend(self.served_by(interface).into_iter().map(|id| (id, dial)));
        }
        for interface in &self.parts.config.interfaces {
            let dial = served.get(&interface.id).map(|dial| Recipient::clone(dial));
            directory.publish_stream_listener(interface.id, dial);
        }
    }

    /// A Listener has closed as it was told to.
    pub(super) fn closed(&mut self, listener: ListenerId, ctx: &mut Context<Self>) {
        self.withdraw(ChildId::Listener(listener.0, listener.1));
        self.states.remove(&listener);
        if self.listening.listeners_of(listener.0).is_empty() {
            if let Some(leaving) = self.listening.leaving.remove(&listener.0) {
                ctx.cancel_future(leaving.end);
            }
            self.listening.failures.remove(&listener.0);
        }
        self.start_listeners(ctx);
        self.interfaces_changed();
    }

    /// Closes what `old` had and the configuration has not, tells the others, and starts what is new as soon as the
    /// ports are free.
    pub(super) fn change_listeners(&mut self, old: &Config, ctx: &mut Context<Self>) {
        let config = Arc::clone(&self.parts.config);
        let come_back = |id: &InterfaceId| config.interface(*id).is_some();
        let back: Vec<_> = self.listening.leaving.keys().copied().filter(come_back).collect();
        for id in back {
            if let Some(leaving) = self.listening.leaving.remove(&id) {
                ctx.cancel_future(leaving.end);
            }
        }
        let wanted: BTreeSet<_> = self.wanted().into_iter().collect();
        let running: Vec<_> = self.listening.running.keys().copied().collect();
        for listener in running.into_iter().filter(|listener| !wanted.contains(listener)) {
            match (listener.1, old.interface(listener.0)) {
                (ListenerKind::Stream, _) => self.listening.close(listener),
                (ListenerKind::Datagram { .. }, Some(gone)) => self.let_go(gone, 64 * old.sip.t1, ctx),
                // It went earlier, and is leaving.
                (ListenerKind::Datagram { .. }, None) => {}
            }
        }
        self.give_ports_free();
        self.tell_listeners();
        self.start_listeners(ctx);
        self.publish_streams();
    }

    /// Closes the datagram Listeners of an interface that is gone, after a while.
    fn let_go(&mut self, gone: &Interface, patience: Duration, ctx: &mut Context<Self>) {
        let id = gone.id;
        if self.listening.leaving.contains_key(&id) {
            return;
        }
        let end = ctx.run_later(patience, move |supervisor, _| supervisor.close_all_of(id));
        self.listening.leaving.insert(id, Leaving { interface: gone.clone(), end });
    }

    fn close_all_of(&mut self, interface: InterfaceId) {
        for listener in self.listening.listeners_of(interface) {
            self.listening.close(listener);
        }
    }

    /// Who is leaving does not keep a port that somebody wants.
    fn give_ports_free(&mut self) {
        let config = Arc::clone(&self.parts.config);
        let in_the_way =
            |leaving: &&Leaving| config.interfaces.iter().any(|new| collide(new, &leaving.interface));
        let ids: Vec<_> =
            self.listening.leaving.values().filter(in_the_way).map(|leaving| leaving.interface.id).collect();
        ids.into_iter().for_each(|id| self.close_all_of(id));
    }

    /// Gives the Listeners and connections that stay what is in force now.
    fn tell_listeners(&mut self) {
        for ((interface, _), address) in &self.listening.running {
            if self.parts.config.interface(*interface).is_none() {
                continue;
            }
            match &address.kind {
                Kind::Datagrams(settings) => settings.do_send(ApplyLimits {
                    message_limits: message_limits(&self.parts.config),
                    log: self.interface_log("listener", *interface, Protocol::Udp),
                }),
                Kind::Streams { settings, .. } => settings.do_send(ApplyConnections {
                    connections: Arc::new(self.lasting_connections_of(*interface)),
                    log: self.interface_log(
                        "listener",
                        *interface,
                        stream_protocol(&self.parts.config, *interface),
                    ),
                }),
            }
        }
    }

    /// As [`Self::connections_of`], for an interface that has had some before.
    fn lasting_connections_of(&self, interface: InterfaceId) -> ConnectionSettings {
        let failures = self.listening.failures.get(&interface).cloned().unwrap_or_default();
        ConnectionSettings { failures, ..self.connections_of(interface) }
    }

    /// Tells the open connections what is in force now. `gone` are the domains of routes that `old` had and that are
    /// gone, or lead elsewhere.
    pub(super) fn tell_connections(&self, old: &Config, gone: Vec<Arc<str>>) {
        let ids = self.parts.config.interfaces.iter().map(|interface| interface.id);
        let settings = ids.map(|id| (id, Arc::new(self.lasting_connections_of(id)))).collect();
        let new = Reconfiguration {
            settings,
            patience: 64 * old.sip.t1,
            gone_routes: gone,
            route_patience: old.sip.timer_c,
        };
        self.parts.directory.reconfigure_connections(&Reconfigure(Arc::new(new)));
    }
}

/// Whether datagrams of both would come in at one socket.
fn collide(new: &Interface, leaving: &Interface) -> bool {
    let (x, y) = (new.ip_address, leaving.ip_address);
    let overlap = x == y || x.is_ipv4() == y.is_ipv4() && (x.is_unspecified() || y.is_unspecified());
    new.protocol == Protocol::Udp
        && new.id != leaving.id
        && new.port == leaving.port
        && new.port != 0
        && overlap
}
