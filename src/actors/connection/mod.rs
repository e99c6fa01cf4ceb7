//! One stream connection: frames what comes in for the Routers, writes what they send.
//!
//! The actor lives on the worker Arbiter that the stream Listener gives it. It first gets its stream ready
//! ([`establish`]: connect, TLS handshake), then drives both directions from one future of its context, so that a
//! panic in either is the actor's own. Nothing that it waits for holds anybody else up: its queue is bounded, and
//! a peer that reads or writes too slowly loses the connection.
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

mod deadlines;
mod establish;
mod inbox;
mod outbox;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::fut::{ActorFuture, ActorFutureExt as _, WrapFuture as _};
use actix::{
    Actor, ActorContext as _, Addr, ArbiterHandle, AsyncContext as _, Context, Handler,
    Message as ActorMessage,
};
use slog::{Logger, debug, error};
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use self::deadlines::Deadlines;
use self::establish::{Established, Origin};
use self::inbox::{Inbox, poll_discard};
use self::outbox::{Outbox, Overflow};
use self::stream::Stream;
use super::directory::{Admission, Directory, Peer};
use super::log_limit::LogLimit;
use super::messages::{ConnectionClosed, ConnectionOpened, Outgoing, Transmit};
use super::tls::StreamTls;
use super::turns::Turns;
use crate::protocol::account::AccountId;
use crate::protocol::flow::{Flow, InterfaceId, Transport};
use crate::protocol::message::framing::Broken;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::{Fault, Message, MessageLimits, Method, Name};

/// Messages from Routers that wait for the actor's turn. What a full mailbox refuses is a transport error of the
/// sender's (RFC 3261 §17.1.4).
const MAILBOX_CAPACITY: usize = 1_024;

/// Reads in one turn; then other actors of the Arbiter have theirs.
const READS_PER_TURN: usize = 4;

/// How long a peer that has closed its side still gets its responses: the longest that a request can stay
/// unanswered, 64*T1 (RFC 3261 §17.1.2.2).
const HALF_CLOSED_GRACE: Duration = Duration::from_secs(32);

/// How long a peer has to take the last words of a connection that ends. Without the wait, octets of the peer that
/// nobody has read would make the system discard them.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the connections of one interface have in common.
#[derive(Debug)]
pub struct ConnectionSettings {
    /// Their interface.
    pub interface: InterfaceId,
    /// The address of the interface, which outgoing connections leave from unless it is a wildcard.
    pub bind_address: SocketAddr,
    /// TLS; `None` for TCP.
    pub tls: Option<StreamTls>,
    /// Sizes past which a message is refused.
    pub message_limits: MessageLimits,
    /// `limits.handshake_timeout`: for connect and TLS handshake together.
    pub handshake_timeout: Duration,
    /// `limits.message_timeout`: from the first octet of a message to its last, and for a peer to read.
    pub message_timeout: Duration,
    /// `limits.idle_timeout`.
    pub idle_timeout: Duration,
    /// Where the Routers are.
    pub directory: Arc<Directory>,
    /// Child logger of the interface.
    pub log: Logger,
    /// Bounds the lines about handshakes that failed.
    pub failures: LogLimit,
}

impl ConnectionSettings {
    /// What carries the octets.
    pub const fn transport(&self) -> Transport {
        if self.tls.is_some() { Transport::Tls } else { Transport::Tcp }
    }
}

/// Tell the Router of yourself: from the directory, for a Router that has been restarted.
#[derive(Clone, Copy, Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct Announce {
    /// The index of the Router.
    pub router: usize,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer closed it.
    PeerClosed,
    /// No traffic for `limits.idle_timeout`.
    IdleTimeout,
    /// A message took longer than `limits.message_timeout`.
    MessageTimeout,
    /// The peer did not read for `limits.message_timeout`.
    WriteTimeout,
    /// The peer read too slowly for what there was to send.
    QueueFull,
    /// What came was no SIP.
    NotSip,
    /// A message whose end cannot be found was refused.
    Refused(Fault),
    /// The system's word.
    Failed(io::ErrorKind),
}

impl End {
    const fn log_name(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::IdleTimeout => "idle_timeout",
            Self::MessageTimeout => "message_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::QueueFull => "queue_full",
            Self::NotSip => "not_sip",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }
}

/// One stream connection.
#[derive(Debug)]
pub struct Connection {
    settings: Arc<ConnectionSettings>,
    admission: Admission,
    remote: SocketAddr,
    origin: Option<Origin>,
    outbox: Outbox,
    open: Option<Open>,
    turns: Turns,
}

/// What there is once the stream is ready.
#[derive(Debug)]
struct Open {
    stream: Stream,
    flow: Flow,
    account: Option<AccountId>,
    inbox: Inbox,
    deadlines: Deadlines,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Both directions.
    Duplex,
    /// The peer has closed its side; it gets the responses that it awaits.
    HalfClosed,
    /// Nothing is read any more; what is queued is written, then our side is closed.
    Farewell(End),
    /// Our side is closed; the peer's close is awaited.
    Closed(End),
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
        Self::start(arbiter, settings, admission, remote, Origin::Accepted(stream), Vec::new())
    }

    /// Starts a Connection to `peer`, on `arbiter`, with its first messages. Others find it from now on.
    pub fn dialled(
        arbiter: &ArbiterHandle,
        settings: Arc<ConnectionSettings>,
        admission: Admission,
        peer: Peer,
        messages: Vec<Outgoing>,
    ) -> Addr<Self> {
        let id = admission.id();
        let directory = Arc::clone(&settings.directory);
        let origin = Origin::Dialled(peer.clone());
        let address = Self::start(arbiter, settings, admission, peer.remote, origin, messages);
        directory.publish_connection(id, address.clone(), Some(peer));
        address
    }

    fn start(
        arbiter: &ArbiterHandle,
        settings: Arc<ConnectionSettings>,
        admission: Admission,
        remote: SocketAddr,
        origin: Origin,
        messages: Vec<Outgoing>,
    ) -> Addr<Self> {
        Self::start_in_arbiter(arbiter, move |ctx| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            let mut connection = Self {
                settings,
                admission,
                remote,
                origin: Some(origin),
                outbox: Outbox::default(),
                open: None,
                turns: Turns::default(),
            };
            connection.queue(messages, ctx);
            connection
        })
    }

    fn established(&mut self, established: Established, ctx: &mut Context<Self>) {
        let settings = &self.settings;
        let flow = Flow {
            interface: settings.interface,
            transport: settings.transport(),
            local: established.local,
            remote: self.remote,
            connection: Some(self.admission.id()),
        };
        debug!(settings.log, "connection_opened"; "flow" => %flow, "connection" => self.admission.id().0);
        let directory = &settings.directory;
        directory.publish_connection(self.admission.id(), ctx.address(), established.peer);
        directory.tell_opened(&ConnectionOpened { flow, connection: ctx.address().recipient() });
        self.open = Some(Open {
            stream: established.stream,
            flow,
            account: established.account,
            inbox: Inbox::new(settings.message_limits),
            deadlines: Deadlines::new(Instant::now(), settings.message_timeout, settings.idle_timeout),
            stage: Stage::Duplex,
        });
        ctx.spawn(Pump);
    }

    /// Queues `messages`, or fails them.
    fn queue(&mut self, messages: Vec<Outgoing>, ctx: &mut Context<Self>) {
        let mut messages = messages.into_iter();
        while let Some(message) = messages.next() {
            if !self.takes(&message) {
                self.settings.directory.tell_all_failed(&[message]);
                continue;
            }
            if let Some(open) = &mut self.open {
                open.inbox.note_sent(&message.bytes);
            }
            if let Err(Overflow(message)) = self.outbox.push(message) {
                self.settings.directory.tell_all_failed(&[message]);
                self.settings.directory.tell_all_failed(messages.as_slice());
                return self.end(End::QueueFull, ctx);
            }
        }
    }

    /// Whether there is a point in sending `message`: a peer that has closed its side cannot answer a request.
    fn takes(&self, message: &Outgoing) -> bool {
        match self.open.as_ref().map(|open| open.stage) {
            None | Some(Stage::Duplex) => true,
            Some(Stage::HalfClosed) => message.branch.is_none(),
            Some(Stage::Farewell(_) | Stage::Closed(_)) => false,
        }
    }

    fn end(&self, end: End, ctx: &mut Context<Self>) {
        let detail = match end {
            End::Refused(fault) => Some(fault.response().1.to_owned()),
            End::Failed(kind) => Some(kind.to_string()),
            _ => None,
        };
        debug!(self.settings.log, "connection_ended"; "peer" => %self.remote, "connection" => self.admission.id().0,
            "reason" => end.log_name(), "detail" => detail);
        ctx.stop();
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
            error!(self.settings.log, "connection_panicked"; "peer" => %self.remote);
        }
        self.admission.forget_peer();
        let directory = &self.settings.directory;
        self.outbox.fail().for_each(|branch| directory.tell_failed(branch));
        if let Some(open) = &self.open {
            directory.tell_closed(ConnectionClosed { flow: open.flow });
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
                .do_send(ConnectionOpened { flow: open.flow, connection: ctx.address().recipient() });
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

impl Open {
    /// Goes as far as it can. An error ends the connection.
    fn turn(
        &mut self,
        settings: &ConnectionSettings,
        admission: &Admission,
        outbox: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Result<(), End> {
        let now = Instant::now();
        if self.has_room(settings, now) {
            self.read(settings, admission, outbox, now, cx)?;
        }
        self.write(outbox, now, cx)?;
        self.say_farewell(outbox, now, cx)?;
        match self.deadlines.poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Some(end)) => Err(end),
            Poll::Ready(None) => {
                cx.waker().wake_by_ref();
                Ok(())
            }
        }
    }

    /// Offers what is held, when it is time. Whether the Routers have taken all.
    fn has_room(&mut self, settings: &ConnectionSettings, now: Instant) -> bool {
        if !self.inbox.is_held() {
            return true;
        }
        if !self.deadlines.is_retry_due(now) {
            return false;
        }
        let has_room = self.inbox.offer_held(&settings.directory);
        self.deadlines.held(now, !has_room);
        has_room
    }

    fn read(
        &mut self,
        settings: &ConnectionSettings,
        admission: &Admission,
        outbox: &mut Outbox,
        now: Instant,
        cx: &mut TaskContext<'_>,
    ) -> Result<(), End> {
        for _ in 0..READS_PER_TURN {
            if self.stage != Stage::Duplex || self.inbox.is_held() {
                return Ok(());
            }
            let Poll::Ready(read) = self.inbox.poll_read(&mut self.stream, cx) else {
                return Ok(());
            };
            match read {
                Ok(0) => {
                    self.half_close(admission, now);
                    return Ok(());
                }
                Ok(_) => self.take(settings, outbox, now),
                Err(error) => return Err(End::Failed(error.kind())),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Takes what was read.
    fn take(&mut self, settings: &ConnectionSettings, outbox: &mut Outbox, now: Instant) {
        self.deadlines.traffic(now);
        let outcome = self.inbox.deliver(self.flow, self.account, &settings.directory);
        self.deadlines.inside_message(now, self.inbox.is_inside_message(), self.inbox.has_completed());
        self.deadlines.held(now, self.inbox.is_held());
        if let Some(pongs) = self.inbox.take_pongs() {
            // A full queue has no room for them: a peer that does not read needs no answer.
            let _ = outbox.push_own(pongs);
        }
        if let Err(broken) = outcome {
            let end = self.refuse(broken, settings, outbox);
            self.stage = Stage::Farewell(end);
            self.deadlines.close_at(now + FAREWELL, end);
        }
    }

    /// Answers the message whose end cannot be found, where it is a request that can be answered.
    fn refuse(&self, broken: Broken, settings: &ConnectionSettings, outbox: &mut Outbox) -> End {
        let Broken::Refused { message, fault } = broken else {
            return End::NotSip;
        };
        if is_answerable(&message) {
            let (status, reason) = fault.response();
            let tag = settings.directory.tag_for(message.call_id());
            let reply = Reply::with_reason(status, reason).write(&message, self.flow.remote, tag.as_bytes());
            // A full queue has no room for it; then the peer, which does not read, is told by the close alone.
            let _ = outbox.push_own(reply);
        }
        End::Refused(fault)
    }

    /// The peer has closed its side.
    fn half_close(&mut self, admission: &Admission, now: Instant) {
        admission.forget_peer();
        if self.inbox.owes_response() {
            self.stage = Stage::HalfClosed;
            self.deadlines.close_at(now + HALF_CLOSED_GRACE, End::PeerClosed);
        } else {
            self.stage = Stage::Farewell(End::PeerClosed);
            self.deadlines.close_at(now + FAREWELL, End::PeerClosed);
        }
    }

    fn write(&mut self, outbox: &mut Outbox, now: Instant, cx: &mut TaskContext<'_>) -> Result<(), End> {
        let mut progress = false;
        let written = outbox.poll_write(&mut self.stream, cx, &mut progress);
        if progress {
            self.deadlines.traffic(now);
        }
        self.deadlines.stalled(now, written.is_pending(), progress);
        match written {
            Poll::Ready(Err(error)) => Err(End::Failed(error.kind())),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Closes our side once there is nothing more to say, then awaits the peer's.
    fn say_farewell(&mut self, outbox: &Outbox, now: Instant, cx: &mut TaskContext<'_>) -> Result<(), End> {
        if self.stage == Stage::HalfClosed && outbox.is_empty() && !self.inbox.owes_response() {
            self.stage = Stage::Farewell(End::PeerClosed);
            self.deadlines.close_at(now + FAREWELL, End::PeerClosed);
        }
        if let Stage::Farewell(end) = self.stage
            && outbox.is_empty()
        {
            match Pin::new(&mut self.stream).poll_shutdown(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(end),
                Poll::Ready(Ok(())) => self.stage = Stage::Closed(end),
            }
        }
        if let Stage::Closed(end) = self.stage {
            for _ in 0..READS_PER_TURN {
                match poll_discard(&mut self.stream, cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(0) | Err(_)) => return Err(end),
                    Poll::Ready(Ok(_)) => {}
                }
            }
            cx.waker().wake_by_ref();
        }
        Ok(())
    }
}

/// Whether `message` is a request that has what a response copies (RFC 3261 §8.2.6).
fn is_answerable(message: &Message) -> bool {
    let copied = [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq];
    message.method().is_some_and(|method| method != Method::Ack)
        && copied.into_iter().all(|name| message.row(name).is_some())
}
