//! How each child is built.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use slog::{Logger, o};

use super::lifeline::start_on;
use super::listening::ListenerAddress;
use super::settings::{connection_settings, message_limits, promised_silence, stream_protocol};
use super::{ChildId, Supervisor, interfaces};
use crate::actors::connection::ConnectionSettings;
use crate::actors::control::{Control, ControlSettings};
use crate::actors::directory::{FederationResolverAddress, JournalAddress, RegistrarAddress, RouterAddress};
use crate::actors::federation_resolver::FederationResolver;
use crate::actors::journal::{Backlog, Journal, JournalSettings};
use crate::actors::listener::datagram::{DatagramListener, DatagramListenerSettings, PortSharing};
use crate::actors::listener::stream::{StreamListener, StreamListenerSettings};
use crate::actors::listener::{Companion, InterfaceState, ListenerKind, companion};
use crate::actors::registrar::Registrar;
use crate::actors::router::Router;
use crate::actors::stun::{Question, Stun, StunSettings};
use crate::config::{Protocol, Side};
use crate::diagnostics::queues::QueueLength;
use crate::protocol::flow::InterfaceId;
use crate::protocol::location::{GruuKey, GuardSettings, Location, LocationLimits, LocationSettings};
use crate::protocol::proxy::Proxy;
use crate::protocol::proxy::settings::Settings;

/// Stack of a worker's thread. The deepest path is a TLS handshake.
const STACK_BYTES: usize = 2 << 20;

/// Threads for blocking calls of one Arbiter: nothing here makes any but look-ups of the system.
const BLOCKING_THREADS: usize = 1;

/// A worker: one thread with its own runtime.
pub(super) fn new_arbiter() -> actix_rt::Arbiter {
    actix_rt::Arbiter::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_stack_size(STACK_BYTES)
            .build()
            .expect("the system gives a new thread its event queue")
    })
}

impl Supervisor {
    /// Builds a child and makes it known. A start is a restart from nothing: one path for both.
    pub(super) fn start_child(&mut self, child: ChildId, ctx: &mut Context<Self>) {
        match child {
            ChildId::Router(index) => self.start_router(index, ctx),
            ChildId::Registrar => self.start_registrar(ctx),
            ChildId::FederationResolver => self.start_federation_resolver(ctx),
            ChildId::Journal => self.start_journal(ctx),
            ChildId::Stun => self.start_stun(ctx),
            ChildId::Control => self.start_control(ctx),
            ChildId::Listener(interface, ListenerKind::Datagram { core }) => {
                self.start_datagram_listener(interface, core, ctx);
            }
            ChildId::Listener(interface, ListenerKind::Stream) => self.start_stream_listener(interface, ctx),
        }
    }

    /// Until it is back, nobody finds it.
    pub(super) fn withdraw(&mut self, child: ChildId) {
        self.watchdog.forget(child);
        let directory = &self.parts.directory;
        match child {
            ChildId::Router(index) => directory.publish_router(index, None),
            ChildId::Registrar => directory.publish_registrar(None),
            ChildId::FederationResolver => directory.publish_federation_resolver(None),
            ChildId::Journal => directory.publish_journal(None),
            ChildId::Stun => self.stun = None,
            // It speaks, and is not spoken to.
            ChildId::Control => {}
            ChildId::Listener(interface, kind) => self.withdraw_listener((interface, kind)),
        }
    }

    /// A copy for one Router, so that no other core counts references to it.
    pub(super) fn settings_of_router(&self) -> Arc<Settings> {
        Arc::new(Settings::clone(&self.parts.settings))
    }

    fn start_router(&mut self, index: usize, ctx: &Context<Self>) {
        let log = self.parts.logs.logger("router");
        let (settings, secrets) = (self.settings_of_router(), self.parts.secrets.clone());
        let interfaces = Arc::clone(&self.interfaces);
        let directory = Arc::clone(&self.parts.directory);
        let mailbox = QueueLength::default();
        let counted = mailbox.clone();
        let child = ChildId::Router(index);
        let address = start_on(&self.arbiters[index].handle(), child, ctx.address().recipient(), move || {
            let number = u8::try_from(index).expect("worker_threads is at most 256");
            let seed = crate::actors::state::random().map_or(index as u64, u64::from_le_bytes);
            let core = Proxy::new(number, settings, interfaces, &secrets, seed, Instant::now());
            Router::new(index, core, directory, counted, log)
        });
        #[cfg(test)]
        self.collapsible.add(child, address.clone().recipient());
        #[cfg(test)]
        if index == 0 {
            self.freezable = Some(address.clone().recipient());
        }
        self.watchdog.watch(child, address.clone().recipient());
        self.parts.directory.publish_router(index, Some(RouterAddress::new(address, mailbox)));
    }

    /// What the Registrar is told by the configuration.
    pub(super) fn location_settings(&self) -> LocationSettings {
        let (registrar, secrets) = (&self.parts.config.registrar, &self.parts.secrets);
        LocationSettings {
            minimum_expires: registrar.minimum_expires,
            default_expires: registrar.default_expires,
            maximum_expires: registrar.maximum_expires,
            maximum_contacts: registrar.maximum_contacts,
            accepts_path_without_support: registrar.accept_path_without_support,
            flow_timer: promised_silence(&self.parts.config),
            nonce_lifetime: registrar.nonce_lifetime,
            accounts: Arc::clone(&self.parts.settings.accounts),
            guard: GuardSettings {
                failures: registrar.failed_log_ons,
                ban: registrar.ban_time,
                first_wait: self.parts.config.sip.t1 / 2,
                longest_wait: self.parts.config.sip.t2,
            },
            epoch: secrets.epoch,
            succeeded: self.has_registrar.then(Instant::now),
            hash_key: self.parts.location_key,
            gruu_key: GruuKey(secrets.token_key.derive("temporary GRUUs")),
            seed: (u128::from_be_bytes(self.parts.location_key) ^ secrets.epoch.elapsed().as_nanos())
                .to_be_bytes(),
            limits: LocationLimits::default(),
        }
    }

    fn start_registrar(&mut self, ctx: &Context<Self>) {
        let settings = self.location_settings();
        let interfaces = interfaces::configured(&self.parts.config, &self.states, &self.public_addresses);
        let is_successor = self.has_registrar;
        let durability = self.parts.config.registrar.durability;
        let directory = Arc::clone(&self.parts.directory);
        let log = self.parts.logs.logger("registrar");
        let begun = ctx.address().recipient();
        let address =
            start_on(&self.arbiters[0].handle(), ChildId::Registrar, ctx.address().recipient(), move || {
                let core = Location::new(settings);
                Registrar::new(core, interfaces, durability, is_successor, directory, log, begun)
            });
        #[cfg(test)]
        self.collapsible.add(ChildId::Registrar, address.clone().recipient());
        self.watchdog.watch(ChildId::Registrar, address.clone().recipient());
        self.has_registrar = true;
        self.parts.directory.publish_registrar(Some(RegistrarAddress::from(address)));
    }

    fn start_federation_resolver(&mut self, ctx: &Context<Self>) {
        let settings = self.parts.config.dns.clone();
        let routes = self.parts.settings.federation.routes.clone();
        let probe_interval = self.parts.config.probe_interval;
        let interfaces = Arc::clone(&self.interfaces);
        // Which of several servers comes first need not be a secret.
        let seed = crate::actors::state::random().unwrap_or(self.parts.location_key);
        let directory = Arc::clone(&self.parts.directory);
        let log = self.parts.logs.logger("federation_resolver");
        let address = start_on(
            &self.resolver_arbiter.handle(),
            ChildId::FederationResolver,
            ctx.address().recipient(),
            move || {
                FederationResolver::new(
                    &settings,
                    (&routes, probe_interval),
                    interfaces,
                    seed,
                    directory,
                    log,
                )
            },
        );
        #[cfg(test)]
        self.collapsible.add(ChildId::FederationResolver, address.clone().recipient());
        self.watchdog.watch(ChildId::FederationResolver, address.clone().recipient());
        self.parts.directory.publish_federation_resolver(Some(FederationResolverAddress::from(address)));
    }

    fn start_journal(&mut self, ctx: &Context<Self>) {
        // A successor brings to the disk what was written before it.
        let (backlog, pen) = (Backlog::default(), self.pen.clone());
        let settings = JournalSettings {
            state_directory: self.parts.config.service.state_directory.clone(),
            is_successor: self.has_journal,
            backlog: backlog.clone(),
            pen: pen.clone(),
            directory: Arc::clone(&self.parts.directory),
            log: self.parts.logs.logger("journal"),
        };
        let arbiter = self.journal_arbiter.handle();
        let address =
            start_on(&arbiter, ChildId::Journal, ctx.address().recipient(), move || Journal::new(settings));
        #[cfg(test)]
        self.collapsible.add(ChildId::Journal, address.clone().recipient());
        self.has_journal = true;
        self.parts.directory.publish_journal(Some(JournalAddress::new(address, backlog, pen)));
    }

    fn start_stun(&mut self, ctx: &Context<Self>) {
        let settings = StunSettings {
            question: Question::new(&self.parts.config),
            interval: self.parts.config.stun.interval,
            log: self.parts.logs.logger("stun"),
            determined: ctx.address().recipient(),
        };
        let arbiter = self.arbiters[0].handle();
        let address =
            start_on(&arbiter, ChildId::Stun, ctx.address().recipient(), move || Stun::new(settings));
        #[cfg(test)]
        self.collapsible.add(ChildId::Stun, address.clone().recipient());
        self.stun = Some(address.recipient());
    }

    fn start_control(&self, ctx: &Context<Self>) {
        let settings = ControlSettings {
            socket: self.parts.config.service.control_socket.clone(),
            admin: self.parts.config.admin.clone(),
            supervisor: ctx.address().into(),
            directory: Arc::clone(&self.parts.directory),
            logs: Arc::clone(&self.parts.logs),
        };
        let arbiter = self.control_arbiter.handle();
        let _address =
            start_on(&arbiter, ChildId::Control, ctx.address().recipient(), move || Control::new(settings));
        #[cfg(test)]
        self.collapsible.add(ChildId::Control, _address.recipient());
    }

    fn start_datagram_listener(&mut self, interface: InterfaceId, core: usize, ctx: &Context<Self>) {
        // One that comes back finds its port with the Listeners of the other cores.
        let first = self.states.get(&(interface, ListenerKind::Datagram { core: 0 }));
        let is_ours = matches!(first, Some(InterfaceState::Listening { .. }));
        let sharing = if core == 0 && !is_ours { PortSharing::First } else { PortSharing::Joins };
        let settings = DatagramListenerSettings {
            interface,
            core,
            address: self.address_of(interface),
            sharing,
            message_limits: message_limits(&self.parts.config),
            directory: Arc::clone(&self.parts.directory),
            reports: ctx.address().recipient(),
            log: self.interface_log("listener", interface, Protocol::Udp),
        };
        let child = ChildId::Listener(interface, ListenerKind::Datagram { core });
        let arbiter = self.arbiters[core].handle();
        let address =
            start_on(&arbiter, child, ctx.address().recipient(), move || DatagramListener::new(settings));
        #[cfg(test)]
        self.collapsible.add(child, address.clone().recipient());
        self.watchdog.watch(child, address.clone().recipient());
        self.parts.directory.publish_datagram_listener(interface, core, Some(address.clone().recipient()));
        self.listening
            .opened((interface, ListenerKind::Datagram { core }), ListenerAddress::of_datagrams(address));
    }

    /// What the connections of an interface have in common.
    pub(super) fn connections_of(&self, interface: InterfaceId) -> ConnectionSettings {
        let config = &self.parts.config;
        let (protocol, address) = (stream_protocol(config, interface), self.address_of(interface));
        let is_lan = config.interface(interface).is_some_and(|known| known.side == Side::Lan);
        let accounts = is_lan.then(|| Arc::clone(&self.parts.settings.accounts));
        let tls = protocol.is_secure().then(|| self.parts.tls.for_interface(protocol, accounts));
        let directory = Arc::clone(&self.parts.directory);
        let log = |module| self.interface_log(module, interface, protocol);
        connection_settings(config, tls.flatten(), interface, address, directory, log)
    }

    fn start_stream_listener(&mut self, interface: InterfaceId, ctx: &Context<Self>) {
        let (protocol, address) =
            (stream_protocol(&self.parts.config, interface), self.address_of(interface));
        let connections = Arc::new(self.connections_of(interface));
        self.listening.keep_connections(interface, &connections);
        let workers = self.arbiters.iter().map(Arbiter::handle).collect();
        let settings = StreamListenerSettings {
            address,
            connections,
            workers,
            reports: ctx.address().recipient(),
            log: self.interface_log("listener", interface, protocol),
        };
        let arbiter = self.arbiter_of(interface);
        let child = ChildId::Listener(interface, ListenerKind::Stream);
        let listener = start_on(&arbiter.handle(), child, ctx.address().recipient(), move || {
            StreamListener::new(settings)
        });
        #[cfg(test)]
        self.collapsible.add(child, listener.clone().recipient());
        self.watchdog.watch(child, listener.clone().recipient());
        self.listening.opened((interface, ListenerKind::Stream), ListenerAddress::of_streams(listener));
        self.publish_streams();
    }

    /// Where an interface listens: with the port that the first Listener has got, where that is there.
    fn address_of(&self, interface: InterfaceId) -> SocketAddr {
        let first = self.states.get(&(interface, ListenerKind::Datagram { core: 0 }));
        match first {
            Some(InterfaceState::Listening { address }) => *address,
            Some(InterfaceState::NotListening { .. }) | None => {
                let known = self.parts.config.interface(interface);
                known.map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |known| known.socket_address())
            }
        }
    }

    pub(super) fn interface_log(
        &self,
        module: &'static str,
        interface: InterfaceId,
        protocol: Protocol,
    ) -> Logger {
        let key = self.parts.config.interface(interface).map(|known| known.key.clone()).unwrap_or_default();
        self.parts.logs.logger(module).new(o!("interface" => key, "protocol" => protocol.to_string()))
    }

    /// Whether the thread that a child lives on has ended. Nothing can live there any more.
    pub(super) fn has_lost_its_thread(&self, child: ChildId) -> bool {
        let arbiter = match child {
            ChildId::Router(core) | ChildId::Listener(_, ListenerKind::Datagram { core }) => {
                &self.arbiters[core]
            }
            ChildId::Registrar | ChildId::Stun => &self.arbiters[0],
            ChildId::Listener(interface, ListenerKind::Stream) => self.arbiter_of(interface),
            ChildId::FederationResolver => &self.resolver_arbiter,
            ChildId::Journal => &self.journal_arbiter,
            ChildId::Control => &self.control_arbiter,
        };
        !arbiter.alive()
    }

    /// Where the stream Listener of an interface lives.
    fn arbiter_of(&self, interface: InterfaceId) -> &Arbiter {
        &self.arbiters[usize::from(interface.0) % self.arbiters.len()]
    }

    /// The interfaces whose connections a stream Listener has: its own, and the UDP interfaces on its port.
    pub(super) fn served_by(&self, stream: InterfaceId) -> Vec<InterfaceId> {
        let interfaces = &self.parts.config.interfaces;
        let on_its_port = interfaces.iter().filter(|interface| {
            interface.protocol == Protocol::Udp
                && companion(interfaces, interface.id) == Companion::Configured(stream)
        });
        on_its_port.map(|interface| interface.id).chain([stream]).collect()
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router(index) => write!(f, "router-{index}"),
            Self::Registrar => f.write_str("registrar"),
            Self::FederationResolver => f.write_str("federation-resolver"),
            Self::Journal => f.write_str("journal"),
            Self::Stun => f.write_str("stun"),
            Self::Control => f.write_str("control"),
            Self::Listener(interface, ListenerKind::Datagram { core }) => {
                write!(f, "listener-{}-udp-{core}", interface.0)
            }
            Self::Listener(interface, ListenerKind::Stream) => write!(f, "listener-{}-stream", interface.0),
        }
    }
}
