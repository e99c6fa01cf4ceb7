//! The receiving side: datagrams in batches, and what the network says of those that were sent.

use std::cell::Cell;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use actix::WeakAddr;
use actix::dev::SendError;
use bytes::Bytes;
use futures_util::future::select;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, recvmsg};
use tokio::sync::oneshot;

use super::send::branch_of_request;
use super::socket::{Socket, destination, socket_address};
use super::{DatagramListener, DatagramListenerSettings};
use crate::actors::directory::Directory;
use crate::actors::drops::{DropReason, Drops};
use crate::actors::messages::{Datagram, MessagesReceived, Received, TransmitDatagrams};
use crate::protocol::flow::{Flow, InterfaceId, Transport};
use crate::protocol::message::demux::{DatagramKind, classify};
use crate::protocol::message::{Carriage, Message, MessageLimits};
use crate::protocol::stun;

/// Datagrams that one system call takes.
const BATCH: usize = 32;

/// As many are asked for while few come: headers for more would have to be read and written for nothing.
const FEW: usize = 4;

/// Batches in one turn; then other actors of the Arbiter have theirs.
const BATCHES_PER_TURN: usize = 4;

/// Errors looked at in one turn.
const ERRORS_PER_TURN: usize = 64;

/// Room for the largest datagram there is. Of each buffer the system backs what was ever used.
const DATAGRAM_BYTES: usize = 65_536;

/// `type` and `code` of the ICMP messages that matter here (RFC 792, RFC 4443).
mod icmp {
    pub(super) const V4_UNREACHABLE: u8 = 3;
    pub(super) const V4_FRAGMENTATION_NEEDED: u8 = 4;
    pub(super) const V4_PARAMETER_PROBLEM: u8 = 12;
    pub(super) const V6_UNREACHABLE: u8 = 1;
    pub(super) const V6_PARAMETER_PROBLEM: u8 = 4;
}

/// The loop that reads one socket.
pub(super) struct Receiver {
    socket: Rc<Socket>,
    interface: InterfaceId,
    limits: Rc<Cell<MessageLimits>>,
    directory: Arc<Directory>,
    drops: Rc<Drops>,
    buffers: Vec<u8>,
    headers: MultiHeaders<SockaddrStorage>,
    /// As many datagrams are asked for next: [`FEW`] or [`BATCH`].
    wanted: usize,
    /// What of one batch belongs to each Router.
    groups: Vec<Vec<Received>>,
    /// What is answered here.
    answers: Vec<Datagram>,
    /// The sending side.
    listener: WeakAddr<DatagramListener>,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing is left.
    Drained,
    /// There may be more.
    More,
}

/// What one system call has brought.
#[derive(Debug, Default)]
struct Taken {
    /// Datagrams, whatever has become of them.
    count: usize,
    /// The system has not said of one where it was sent to.
    is_destination_missing: bool,
}

impl Receiver {
    pub(super) fn new(
        socket: Rc<Socket>,
        settings: &DatagramListenerSettings,
        limits: Rc<Cell<MessageLimits>>,
        drops: Rc<Drops>,
        listener: WeakAddr<DatagramListener>,
    ) -> Self {
        Self {
            headers: headers(&socket),
            wanted: FEW,
            socket,
            interface: settings.interface,
            limits,
            directory: Arc::clone(&settings.directory),
            drops,
            buffers: vec![0; BATCH * DATAGRAM_BYTES],
            groups: (0..settings.directory.router_count()).map(|_| Vec::new()).collect(),
            answers: Vec::new(),
            listener,
        }
    }

    /// Reads until `closed`, or its other end, is no more; then nothing here holds the socket.
    pub(super) async fn run(mut self, closed: oneshot::Receiver<()>) {
        select(pin!(self.read()), closed).await;
    }

    async fn read(&mut self) {
        let socket = Rc::clone(&self.socket);
        while let Ok(mut ready) = socket.ready().await {
            if ready.ready().is_error() {
                self.read_errors();
            }
            match self.turn() {
                Turn::Drained => ready.clear_ready(),
                Turn::More => {
                    ready.retain_ready();
                    drop(ready);
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn turn(&mut self) -> Turn {
        for _ in 0..BATCHES_PER_TURN {
            let wanted = self.wanted;
            match self.receive() {
                Ok(count) if count == wanted => {}
                // The system stopped before the batch was full: nothing was left then, and what comes later makes
                // the socket ready anew.
                Ok(_) | Err(Errno::EAGAIN) => return Turn::Drained,
                Err(Errno::EINTR) => {}
                // An error of a datagram that was sent, which this call has reported in place of receiving.
                Err(_) => self.read_errors(),
            }
        }
        Turn::More
    }

    /// Receives one batch and passes it on. How many datagrams it had.
    fn receive(&mut self) -> nix::Result<usize> {
        let taken = if self.wanted == FEW { self.take::<FEW>() } else { self.take::<BATCH>() };
        let Taken { count, is_destination_missing } = taken?;
        if is_destination_missing {
            // The system has written a shorter length into the reused headers, where it stays.
            self.headers = headers(&self.socket);
        }
        self.wanted = if count < FEW { FEW } else { BATCH };
        self.deliver();
        self.answer();
        Ok(count)
    }

    /// Receives up to `WANTED` datagrams, and sorts them: what is passed on, what is answered, what is dropped.
    fn take<const WANTED: usize>(&mut self) -> nix::Result<Taken> {
        let mut buffers = self.buffers.chunks_exact_mut(DATAGRAM_BYTES);
        let mut slots: [[IoSliceMut<'_>; 1]; WANTED] =
            std::array::from_fn(|_| [IoSliceMut::new(buffers.next().unwrap_or_default())]);
        let bound = self.socket.local();
        let is_wildcard = self.socket.is_wildcard();
        let mut taken = Taken::default();
        let received =
            recvmmsg(self.socket.raw(), &mut self.headers, slots.iter_mut(), MsgFlags::empty(), None)?;
        for datagram in received {
            taken.count += 1;
            let Some(remote) = datagram.address.as_ref().and_then(socket_address) else {
                continue;
            };
            let mut local = bound;
            if is_wildcard {
                let address =
                    datagram.cmsgs().ok().and_then(|mut messages| messages.find_map(|m| destination(&m)));
                taken.is_destination_missing |= address.is_none();
                local.set_ip(address.unwrap_or(bound.ip()));
            }
            let flow = Flow {
                interface: self.interface,
                transport: Transport::Udp,
                local,
                remote,
                connection: None,
            };
            let octets = datagram.iovs().next().unwrap_or_default();
            match read(octets, remote, self.limits.get()) {
                Ok(message) => {
                    let router = self.directory.router_of(&message, None);
                    self.groups[router].push(Received { flow, proof: None, message });
                }
                Err(NoMessage::Answer(bytes)) => {
                    self.answers.push(Datagram { local: Some(local.ip()), remote, bytes });
                }
                Err(NoMessage::KeepAlive) => {}
                Err(NoMessage::Dropped(reason)) => self.drops.add(reason, 1),
            }
        }
        Ok(taken)
    }

    /// Has the answers sent; there will be more requests if there is no room for them.
    fn answer(&mut self) {
        let count = self.answers.len();
        // Most datagrams are SIP, and an address is made anew each time.
        if count == 0 {
            return;
        }
        let Some(listener) = self.listener.upgrade() else { return };
        if listener.try_send(TransmitDatagrams(std::mem::take(&mut self.answers))).is_err() {
            self.drops.add(DropReason::QueueFull, count);
        }
    }

    fn deliver(&mut self) {
        for (index, group) in self.groups.iter_mut().enumerate() {
            if group.is_empty() {
                continue;
            }
            let count = group.len();
            // As many may come next time: a list that grows is copied each time.
            let messages = MessagesReceived(std::mem::replace(group, Vec::with_capacity(count)));
            match self.directory.router(index).as_deref().map(|router| router.receive(messages)) {
                Some(Ok(())) => {}
                Some(Err(SendError::Full(_))) => self.drops.add(DropReason::RouterBusy, count),
                Some(Err(SendError::Closed(_))) | None => self.drops.add(DropReason::RouterAway, count),
            }
        }
    }

    /// Takes what the network has said of datagrams that were sent, and tells the Routers.
    fn read_errors(&self) {
        let mut space = vec![0; 256];
        let mut payload = [0; 2_048];
        for _ in 0..ERRORS_PER_TURN {
            let mut slices = [IoSliceMut::new(&mut payload)];
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let Ok(error) =
                recvmsg::<SockaddrStorage>(self.socket.raw(), &mut slices, Some(&mut space), flags)
            else {
                return;
            };
            let is_failure = error.cmsgs().is_ok_and(|mut messages| messages.any(|m| is_failure(&m)));
            let length = error.bytes;
            if !is_failure {
                continue;
            }
            // With an error comes the address that the datagram was for.
            let destination = error.address.as_ref().and_then(socket_address);
            if let Some(branch) = branch_of_request(&payload[..length.min(payload.len())], self.limits.get())
                && let Some(destination) = destination
                && !self.directory.try_tell_unreached(branch, destination)
            {
                self.drops.add(DropReason::RouterBusy, 1);
            }
        }
    }
}

fn headers(socket: &Socket) -> MultiHeaders<SockaddrStorage> {
    let space = match socket.local().ip() {
        _ if !socket.is_wildcard() => None,
        IpAddr::V4(_) => Some(nix::cmsg_space!(libc::in_pktinfo)),
        IpAddr::V6(_) => Some(nix::cmsg_space!(libc::in6_pktinfo)),
    };
    MultiHeaders::preallocate(BATCH, space)
}

/// What becomes of a datagram that is no SIP.
#[derive(Debug)]
enum NoMessage {
    /// It is answered with this at once.
    Answer(Bytes),
    /// It has kept something alive.
    KeepAlive,
    /// It counts as this.
    Dropped(DropReason),
}

/// Reads one datagram.
fn read(octets: &[u8], remote: SocketAddr, limits: MessageLimits) -> Result<Message, NoMessage> {
    match classify(octets) {
        DatagramKind::KeepAlive => Err(NoMessage::KeepAlive),
        DatagramKind::Stun => Err(match stun::answer(octets, remote) {
            Some(answer) => NoMessage::Answer(answer.into()),
            None => NoMessage::Dropped(DropReason::Stun),
        }),
        DatagramKind::Sip => {
            let message = Message::parse(Bytes::copy_from_slice(octets), Carriage::Datagram, limits);
            message.map_err(|_| NoMessage::Dropped(DropReason::NotSip))
        }
    }
}

/// Whether an error says that a datagram has not arrived and none like it will (RFC 3261 §18.4): host, network,
/// port or protocol unreachable, or a parameter problem. A hop limit exceeded or a size too large says less.
fn is_failure(message: &ControlMessageOwned) -> bool {
    let (error, is_v6) = match message {
        ControlMessageOwned::Ipv4RecvErr(error, _) => (error, false),
        ControlMessageOwned::Ipv6RecvErr(error, _) => (error, true),
        _ => return false,
    };
    match (error.ee_origin, is_v6) {
        (libc::SO_EE_ORIGIN_ICMP, false) => match error.ee_type {
            icmp::V4_UNREACHABLE => error.ee_code != icmp::V4_FRAGMENTATION_NEEDED,
            kind => kind == icmp::V4_PARAMETER_PROBLEM,
        },
        (libc::SO_EE_ORIGIN_ICMP6, true) => {
            matches!(error.ee_type, icmp::V6_UNREACHABLE | icmp::V6_PARAMETER_PROBLEM)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::testing::LIMITS;

    #[test]
    fn what_is_no_sip_is_answered_or_counted_by_its_kind_and_keep_alives_are_neither() {
        let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[0; 12]].concat();
        let table: [(&[u8], &str); 5] = [
            (b"\r\n\r\n", "Err(KeepAlive)"),
            (b"\0", "Err(KeepAlive)"),
            (&binding, "Err(Answer("),
            (&[&[0, 1][..], &[0; 18]].concat(), "Err(Dropped(Stun))"),
            (b"GET / HTTP/1.1\r\n\r\n", "Err(Dropped(NotSip))"),
        ];
        for (octets, expected) in table {
            let read = format!("{:?}", read(octets, "192.0.2.1:9".parse().unwrap(), LIMITS));
            assert!(read.starts_with(expected), "{octets:?} {read}");
        }
    }
}
