//! The Listener of a UDP interface on one core.
//!
//! Takes batches of datagrams in one system call, reads each once and gives each Router those of its Call-IDs in
//! one message; sends what the Router of its own core gives it in one system call, too. All Listeners of an
//! interface share its port, and the system spreads the peers among them.
//!
//! # Restart
//!
//! A Listener that fails loses what stands in its socket's buffer, its queue and its mailbox; UDP peers retransmit,
//! and so do our transactions. The supervisor notices by [`ListenerStopped`] and starts another, which joins the
//! port; meanwhile the system gives the datagrams to the Listeners of the other cores.

mod receive;
mod send;
mod socket;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, AsyncContext as _, Context, Handler};
use slog::{Logger, info, warn};

use self::receive::Receiver;
use self::send::{Sender, Sent};
use self::socket::{Sharing, Socket};
use super::{BIND_RETRY, InterfaceState, InterfaceStatus, ListenerKind, ListenerStopped, Reports};
use crate::actors::directory::Directory;
use crate::actors::drops::{DropReason, Drops, SUMMARY_INTERVAL};
use crate::actors::messages::TransmitDatagrams;
use crate::actors::turns::Turns;
use crate::protocol::flow::InterfaceId;
use crate::protocol::message::MessageLimits;

pub use self::socket::Sharing as PortSharing;

/// Batches from Routers that wait for the actor's turn.
const MAILBOX_CAPACITY: usize = 1_024;

/// Between two attempts to write to a socket whose buffer is full. A timer, because an error queue, which this
/// socket has, makes tokio's write readiness final.
const WRITE_RETRY: Duration = Duration::from_millis(1);

/// What a [`DatagramListener`] is given.
#[derive(Clone, Debug)]
pub struct DatagramListenerSettings {
    /// Its interface.
    pub interface: InterfaceId,
    /// Its core, which is that of its Router.
    pub core: usize,
    /// Where to listen. For all cores but the first the port that the first has got.
    pub address: SocketAddr,
    /// Whether other Listeners of the interface have the port already.
    pub sharing: PortSharing,
    /// Sizes past which a message is refused.
    pub message_limits: MessageLimits,
    /// Where the Routers are.
    pub directory: Arc<Directory>,
    /// To the supervisor.
    pub reports: Reports,
    /// Child logger of the interface.
    pub log: Logger,
}

/// The Listener of a UDP interface on one core.
#[derive(Debug)]
pub struct DatagramListener {
    settings: DatagramListenerSettings,
    sender: Option<Sender>,
    drops: Rc<Drops>,
    told: Option<InterfaceState>,
    is_retrying: bool,
    turns: Turns,
}

impl DatagramListener {
    /// Not yet bound: it binds when it starts.
    pub fn new(settings: DatagramListenerSettings) -> Self {
        Self {
            settings,
            sender: None,
            drops: Rc::default(),
            told: None,
            is_retrying: false,
            turns: Turns::default(),
        }
    }

    fn listen(&mut self, ctx: &mut Context<Self>) {
        let settings = &self.settings;
        match Socket::bind(settings.address, settings.sharing) {
            Ok(socket) => {
                let socket = Rc::new(socket);
                let address = socket.local();
                let receiver = Receiver::new(Rc::clone(&socket), settings, Rc::clone(&self.drops));
                ctx.spawn(wrap_future(receiver.run()));
                let directory = Arc::clone(&settings.directory);
                let limits = settings.message_limits;
                self.sender = Some(Sender::new(socket, directory, limits, Rc::clone(&self.drops)));
                self.tell(InterfaceState::Listening { address });
            }
            Err(error) => {
                let reason = super::reason(settings.address, &error);
                self.tell(InterfaceState::NotListening { reason });
                ctx.run_later(BIND_RETRY, Self::listen);
            }
        }
    }

    fn tell(&mut self, state: InterfaceState) {
        if self.told.as_ref() == Some(&state) {
            return;
        }
        match &state {
            InterfaceState::Listening { address } => {
                info!(self.settings.log, "listening"; "address" => %address)
            }
            InterfaceState::NotListening { reason } => {
                warn!(self.settings.log, "not_listening"; "reason" => reason)
            }
        }
        self.told = Some(state.clone());
        let status = InterfaceStatus { interface: self.settings.interface, listener: self.kind(), state };
        self.settings.reports.status.do_send(status);
    }

    const fn kind(&self) -> ListenerKind {
        ListenerKind::Datagram { core: self.settings.core }
    }

    fn retry_later(&mut self, sent: Sent, ctx: &mut Context<Self>) {
        if sent == Sent::All || self.is_retrying {
            return;
        }
        self.is_retrying = true;
        ctx.run_later(WRITE_RETRY, |listener, ctx| {
            listener.is_retrying = false;
            let sent = listener.sender.as_mut().map_or(Sent::All, Sender::send_waiting);
            listener.retry_later(sent, ctx);
        });
    }
}

impl Actor for DatagramListener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        ctx.run_interval(SUMMARY_INTERVAL, |listener, _| listener.drops.log(&listener.settings.log));
        self.listen(ctx);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        let panicked = std::thread::panicking();
        let stopped = ListenerStopped { interface: self.settings.interface, listener: self.kind(), panicked };
        self.settings.reports.stopped.do_send(stopped);
    }
}

impl Handler<TransmitDatagrams> for DatagramListener {
    type Result = ();

    fn handle(&mut self, TransmitDatagrams(datagrams): TransmitDatagrams, ctx: &mut Context<Self>) {
        self.turns.count(ctx);
        match &mut self.sender {
            Some(sender) => {
                let sent = sender.send(datagrams);
                self.retry_later(sent, ctx);
            }
            None => {
                self.drops.add(DropReason::NotListening, datagrams.len());
                let limits = self.settings.message_limits;
                let branches =
                    datagrams.iter().filter_map(|datagram| send::branch_of_request(&datagram.bytes, limits));
                branches.for_each(|branch| self.settings.directory.tell_failed(branch));
            }
        }
    }
}
