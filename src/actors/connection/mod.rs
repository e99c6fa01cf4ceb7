//! One stream connection: frames what comes in for the Routers, writes what they send.
//!
//! The actor lives on the worker Arbiter that the stream Listener gives it. It first gets its stream ready
//! (`establish.rs`: connect, TLS handshake, WebSocket handshake), then drives both directions from one future of its
//! context, so that a panic in either is the actor's own. Nothing that it waits for holds anybody else up: its queue
//! is bounded, and a peer that reads or writes too slowly loses the connection.
//!
//! # Restart
//!
//! A connection that fails is not restarted; its octets cannot be had again. `Drop` tells the Routers and the
//! Registrar, as at every end, and the Routers what was queued ([`TransmitFailed`]). What stands in the mailbox is
//! lost: [`ConnectionClosed`] makes the Routers fail the transactions that used the connection. The peer notices
//! the close and connects again, or the next [`Dial`] does.
//!
//! [`TransmitFailed`]: super::messages::TransmitFailed
//! [`Dial`]: super::messages::Dial

mod codec;
mod connect;
mod deadlines;
mod end;
mod establish;
mod failure;
mod inbox;
mod open;
mod outbox;
mod pace;
mod reconfigure;
mod stream;
mod trial;
mod upgrade;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use actix::fut::{ActorFuture, ActorFutureExt as _, WrapFuture as _};
use actix::{
    Actor, ActorContext as _, Addr, ArbiterHandle, AsyncContext as _, Context, Handler,
    Message as ActorMessage, SpawnHandle,
};
use rustls::AlertDescription;
use slog::{Logger, debug};

use self::end::End;
use self::establish::{Established, Origin};
pub use self::failure::Failures;
use self::failure::{Cause, Phase, Report};
use self::open::Open;
use self::outbox::{Outbox, Overflow};
pub use self::reconfigure::{Reconfiguration, Reconfigure};
pub(crate) use self::stream::Stream;
pub(crate) use self::trial::{Phase as TrialPhase, Trial, try_out};
use super::directory::{self, Admission, Directory, Peer, Reuse};
use super::messages::{ConnectionClosed, ConnectionOpened, Outgoing, Transmit};
use super::tls::StreamTls;
use super::turns::Turns;
use crate::diagnostics::metrics::ConnectionGauge;
use crate::protocol::flow::{Flow, InterfaceId, Transport};
use crate::protocol::interface::Side;
use crate::protocol::message::MessageLimits;

/// Messages from Routers that wait for the actor's turn. What a full mailbox refuses is a transport error of the
/// sender's (RFC 3261 §17.1.4).
const MAILBOX_CAPACITY: usize = 1_024;

/// What the connections of one interface have in common.
#[derive(Debug)]
pub struct ConnectionSettings {
    /// Their interface.
    pub interface: InterfaceId,
    /// Whom it faces.
    pub side: Side,
    /// The address of the interface, which outgoing connections leave from unless it is a wildcard.
    pub bind_address: SocketAddr,
    /// Where those to peers of the other family leave from: the address of another interface with the same purpose.
    pub other_family: Option<IpAddr>,
    /// What they speak.
    pub transport: Transport,
    /// What TLS needs; without it there are no connections where `transport` is secure.
    pub tls: Option<StreamTls>,
    /// Sizes past which a message is refused.
    pub message_limits: MessageLimits,
    /// `limits.handshake_timeout`: for connect and handshakes together.
    pub handshake_timeout: Duration,
    /// `limits.message_timeout`: from the first octet of a message to its last, and for a peer to read.
    pub message_timeout: Duration,
    /// `limits.idle_timeout`.
    pub idle_timeout: Duration,
    /// How long a peer that is there may take for any answer: 64*T1 (RFC 3261 §17.1.2.2).
    pub answer_timeout: Duration,
    /// Where the Routers are.
    pub directory: Arc<Directory>,
    /// Child logger of the interface.
    pub log: Logger,
    /// Likewise, for who was refused.
    pub security: Logger,
    /// Bounds the lines about connections that were not made; it outlives a reload.
    pub failures: Arc<Failures>,
}

impl ConnectionSettings {
    /// The address that a connection to `remote` leaves from; an unspecified one leaves it to the system. `None`: none
    /// of this interface's leads there.
    pub fn source(&self, remote: SocketAddr) -> Option<IpAddr> {
        let sources = [Some(self.bind_address.ip()), self.other_family];
        sources.into_iter().flatten().find(|source| source.is_ipv4() == remote.is_ipv4())
    }
}

/// Tell the Router of yourself: from the directory, for a Router that has been restarted.
#[derive(Clone, Copy, Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct Announce {
    /// The index of the Router.
    pub router: usize,
}

/// One stream connection.
#[derive(Debug)]
pub struct Connection {
    settings: Arc<ConnectionSettings>,
    admission: Admission,
    remote: SocketAddr,
    is_incoming: bool,
    /// The other domain that it was opened to.
    domain: Option<Arc<str>>,
    /// It is to end, because its interface is gone.
    orphaned: Option<SpawnHandle>,
    origin: Option<Origin>,
    outbox: Outbox,
    open: Option<Open>,
    turns: Turns,
    gauge: ConnectionGauge,
}

impl Connection {
    /// Starts a Connection for a stream that was accepted, on `arbiter`.
    pub fn accepted(
        arbiter: &ArbiterHandle,
        settings: Arc<ConnectionSettings>,
        admission: Admission,
        stream: std::net::TcpStream,
        remote: SocketAddr,
    ) -> Addr<Self> {
        Self::start(arbiter, settings, admission, remote, (Origin::Accepted(stream), None), Vec::new())
    }

    /// Starts a Connection to `peer`, a server of `domain` where it is one, on `arbiter`, with its first messages. Others
    /// find it from now on.
    pub fn dialled(
        arbiter: &ArbiterHandle,
        settings: Arc<ConnectionSettings>,
        admission: Admission,
        (peer, domain): (Peer, Option<Arc<str>>),
        messages: Vec<Outgoing>,
    ) -> Addr<Self> {
        let id = admission.id();
        let directory = Arc::clone(&settings.directory);
        let reuse = Reuse::dialling(&peer);
        let (first, origin) = (peer.addresses[0], (Origin::Dialled(peer), domain));
        let address = Self::start(arbiter, settings, admission, first, origin, messages);
        directory.publish_connection(id, address.clone(), reuse);
        address
    }

    fn start(
        arbiter: &ArbiterHandle,
        settings: Arc<ConnectionSettings>,
        admission: Admission,
        remote: SocketAddr,
        (origin, domain): (Origin, Option<Arc<str>>),
        messages: Vec<Outgoing>,
    ) -> Addr<Self> {
        Self::start_in_arbiter(arbiter, move |ctx| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            let metrics = settings.directory.metrics();
            let (gauge, outbox) =
                (metrics.connection(settings.transport.name()), Outbox::new(metrics.sending()));
            let mut connection = Self {
                gauge,
                settings,
                admission,
                remote,
                is_incoming: matches!(origin, Origin::Accepted(_)),
                domain,
                orphaned: None,
                origin: Some(origin),
                outbox,
                open: None,
                turns: Turns::default(),
            };
            connection.queue(messages, ctx);
            connection
        })
    }

    fn established(&mut self, established: Established, ctx: &mut Context<Self>) {
        self.remote = established.remote;
        self.admission.move_to(self.remote.ip());
        let settings = &self.settings;
        let flow = Flow {
            interface: settings.interface,
            transport: settings.transport,
            local: established.local,
            remote: self.remote,
            connection: Some(self.admission.id()),
        };
        debug!(settings.log, "connection_opened"; "flow" => %flow, "connection" => self.admission.id().0);
        let directory = &settings.directory;
        self.gauge.opened(directory.metrics(), self.is_incoming);
        directory.publish_connection(self.admission.id(), ctx.address(), established.reuse);
        directory.note_established(
            self.admission.id(),
            directory::Established {
                flow,
                is_incoming: self.is_incoming,
                proof: established.proof.clone(),
                since: Instant::now(),
            },
        );
        directory.tell_opened(&ConnectionOpened { flow, connection: ctx.address().recipient() });
        if let Some(account) = established.proof.as_ref().and_then(|proof| proof.account) {
            directory.tell_logged_on(flow, account);
        }
        self.open = Some(Open::new(established.stream, flow, established.proof, settings));
        ctx.spawn(Pump);
    }

    /// Queues `messages`, or fails them.
    fn queue(&mut self, messages: Vec<Outgoing>, ctx: &mut Context<Self>) {
        let mut messages = messages.into_iter();
        while let Some(message) = messages.next() {
            if self.open.as_ref().is_some_and(|open| !open.takes(&message)) {
                self.settings.directory.tell_all_failed(&[message]);
                continue;
            }
            let message = match &mut self.open {
                Some(open) => open.send(message),
                None => message,
            };
            if let Err(Overflow(message)) = self.outbox.push(message) {
                self.settings.directory.tell_all_failed(&[message]);
                self.settings.directory.tell_all_failed(messages.as_slice());
                return self.end(End::QueueFull, ctx);
            }
        }
    }

    /// Says what is still to be said, and ends.
    fn take_leave(&mut self, end: End, ctx: &mut Context<Self>) {
        match &mut self.open {
            Some(open) => open.take_leave(end),
            None => self.end(end, ctx),
        }
    }

    fn end(&self, end: End, ctx: &mut Context<Self>) {
        if let End::Alert(alert) = end {
            self.report_alert(alert);
        }
        debug!(self.settings.log, "connection_ended"; "peer" => %self.remote, "connection" => self.admission.id().0,
            "reason" => end.log_name(), "detail" => end.detail());
        ctx.stop();
    }
}

impl Connection {
    /// What a client learns of the server's opinion only after the handshake, with TLS 1.3.
    fn report_alert(&self, alert: AlertDescription) {
        let report = Report {
            is_incoming: self.is_incoming,
            peer: self.remote,
            phase: Phase::Open,
            sni: None,
            expected: None,
            certificate: None,
            version: None,
        };
        report.log(&Cause::from(rustls::Error::AlertReceived(alert)), &self.settings);
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let origin = self.origin.take().expect("an actor starts once");
        let establishing = establish::establish(Arc::clone(&self.settings), origin, self.remote);
        ctx.spawn(establishing.into_actor(self).map(|outcome, connection, ctx| match outcome {
            Some(established) => connection.established(established, ctx),
            None => ctx.stop(),
        }));
    }
}

/// At every end, also while unwinding, and also if the Arbiter ended before the actor started.
impl Drop for Connection {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.settings.failures.tell_panic(&self.settings.log, self.remote);
        }
        // First, so that nobody who has been told finds it, nor does a Registrar that begins meanwhile.
        self.admission.end();
        let directory = &self.settings.directory;
        self.outbox.fail().for_each(|branch| directory.tell_failed(branch));
        if let Some(open) = &self.open {
            directory.tell_closed(ConnectionClosed { flow: open.flow() });
        }
    }
}

impl Handler<Transmit> for Connection {
    type Result = ();

    fn handle(&mut self, Transmit(messages): Transmit, ctx: &mut Context<Self>) {
        self.turns.count(ctx);
        self.queue(messages, ctx);
    }
}

impl Handler<Announce> for Connection {
    type Result = ();

    fn handle(&mut self, announce: Announce, ctx: &mut Context<Self>) {
        if let Some(open) = &self.open
            && let Some(router) = self.settings.directory.router(announce.router).as_deref()
        {
            router
                .opened
                .do_send(ConnectionOpened { flow: open.flow(), connection: ctx.address().recipient() });
        }
    }
}

/// The future that drives both directions. It is polled whenever the actor is, so also after each message of a
/// Router: what several of them queued in one turn leaves in one write.
struct Pump;

impl ActorFuture<Connection> for Pump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        connection: &mut Connection,
        ctx: &mut Context<Connection>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let Connection { settings, admission, outbox, open: Some(open), .. } = connection else {
            return Poll::Ready(());
        };
        match open.turn(settings, admission, outbox, cx) {
            Ok(()) => Poll::Pending,
            Err(end) => {
                connection.end(end, ctx);
                Poll::Ready(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
