//! The sending side: datagrams in batches, and a queue for when the socket is not writable.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

use super::socket::{Socket, SourceInfo};
use crate::actors::directory::Directory;
use crate::actors::drops::{DropReason, Drops};
use crate::actors::messages::Datagram;
use crate::diagnostics::queues::QueueShare;
use crate::protocol::message::{Carriage, Message, MessageLimits};
use crate::protocol::transaction::Branch;

/// Datagrams that one system call sends.
const BATCH: usize = 32;

/// Datagrams that wait while the socket is not writable; more are dropped, for peers and transactions retransmit.
const MAXIMUM_WAITING: usize = 4_096;

/// How often a datagram is tried that the system refuses. The first refusals may be about others: what the network
/// has said of an earlier datagram is reported once, by whatever call comes next.
const ATTEMPTS: u32 = 3;

/// Whether anything is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing.
    All,
    /// The socket is not writable; the rest waits.
    NotAll,
}

/// The sending side of one socket.
pub(super) struct Sender {
    socket: Rc<Socket>,
    directory: Arc<Directory>,
    limits: Rc<Cell<MessageLimits>>,
    drops: Rc<Drops>,
    waiting: VecDeque<Datagram>,
    told: QueueShare,
    _room: QueueShare,
    plain: MultiHeaders<SockaddrStorage>,
    /// With room for the source address, where the interface is a wildcard.
    sourced: Option<MultiHeaders<SockaddrStorage>>,
    addresses: Vec<Option<SockaddrStorage>>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Sender {
    pub(super) fn new(
        socket: Rc<Socket>,
        directory: Arc<Directory>,
        limits: Rc<Cell<MessageLimits>>,
        drops: Rc<Drops>,
    ) -> Self {
        let sourced = socket.is_wildcard().then(|| {
            let space = match socket.local().ip() {
                IpAddr::V4(_) => nix::cmsg_space!(libc::in_pktinfo),
                IpAddr::V6(_) => nix::cmsg_space!(libc::in6_pktinfo),
            };
            MultiHeaders::preallocate(BATCH, Some(space))
        });
        let plain = MultiHeaders::preallocate(BATCH, None);
        let addresses = Vec::with_capacity(BATCH);
        let metrics = directory.metrics();
        let (told, mut room) =
            (QueueShare::new(metrics.datagrams()), QueueShare::new(metrics.datagram_room()));
        room.set(MAXIMUM_WAITING);
        let waiting = VecDeque::new();
        Self { socket, directory, limits, drops, waiting, told, _room: room, plain, sourced, addresses }
    }

    /// Sends `datagrams`, behind those that wait.
    pub(super) fn send(&mut self, datagrams: Vec<Datagram>) -> Sent {
        if self.waiting.is_empty() {
            let rest = self.transmit(&datagrams);
            if rest == datagrams.len() {
                return Sent::All;
            }
            self.wait(datagrams.into_iter().skip(rest));
        } else {
            self.wait(datagrams.into_iter());
        }
        Sent::NotAll
    }

    fn wait(&mut self, datagrams: impl ExactSizeIterator<Item = Datagram>) {
        let room = MAXIMUM_WAITING.saturating_sub(self.waiting.len());
        self.drops.add(DropReason::QueueFull, datagrams.len().saturating_sub(room));
        self.waiting.extend(datagrams.take(room));
        self.told.set(self.waiting.len());
    }

    /// Sends what waits.
    pub(super) fn send_waiting(&mut self) -> Sent {
        let mut waiting = std::mem::take(&mut self.waiting);
        let sent = self.transmit(waiting.make_contiguous());
        waiting.drain(..sent);
        self.told.set(waiting.len());
        if waiting.is_empty() {
            return Sent::All;
        }
        self.waiting = waiting;
        Sent::NotAll
    }

    /// Sends from the front of `datagrams` until the socket is not writable. How many are done with.
    fn transmit(&mut self, datagrams: &[Datagram]) -> usize {
        let mut done = 0;
        let mut refusals = 0;
        while let Some(first) = datagrams.get(done) {
            match self.transmit_batch(&datagrams[done..]) {
                Ok(sent) => {
                    done += sent;
                    refusals = 0;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => break,
                Err(_) => {
                    refusals += 1;
                    if refusals == ATTEMPTS {
                        self.give_up(first);
                        done += 1;
                        refusals = 0;
                    }
                }
            }
        }
        done
    }

    /// Sends the datagrams at the front that leave from the same address, with one system call. How many it took.
    fn transmit_batch(&mut self, datagrams: &[Datagram]) -> nix::Result<usize> {
        let local = self.source(&datagrams[0]);
        let same = datagrams.iter().take(BATCH).take_while(|datagram| self.source(datagram) == local).count();
        let batch = &datagrams[..same];
        self.addresses.clear();
        self.addresses.extend(batch.iter().map(|datagram| Some(SockaddrStorage::from(datagram.remote))));
        let mut slices = [[IoSlice::new(b"")]; BATCH];
        for (slice, datagram) in slices.iter_mut().zip(batch) {
            *slice = [IoSlice::new(&datagram.bytes)];
        }
        let info = local.map(SourceInfo::new);
        let control = match &info {
            None => None,
            Some(SourceInfo::V4(info)) => Some(ControlMessage::Ipv4PacketInfo(info)),
            Some(SourceInfo::V6(info)) => Some(ControlMessage::Ipv6PacketInfo(info)),
        };
        let headers = match &mut self.sourced {
            Some(sourced) if control.is_some() => sourced,
            _ => &mut self.plain,
        };
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(
            self.socket.raw(),
            headers,
            &slices[..same],
            &self.addresses,
            control.as_slice(),
            flags,
        )?;
        Ok(sent.count())
    }

    /// The address that a datagram is to leave from, where the socket does not say it.
    fn source(&self, datagram: &Datagram) -> Option<IpAddr> {
        let is_ours =
            |local: &IpAddr| !local.is_unspecified() && local.is_ipv4() == self.socket.local().is_ipv4();
        datagram.local.filter(|local| self.sourced.is_some() && is_ours(local))
    }

    fn give_up(&self, datagram: &Datagram) {
        self.drops.add(DropReason::SendFailed, 1);
        if let Some(branch) = branch_of_request(&datagram.bytes, self.limits.get()) {
            self.directory.tell_failed(branch);
        }
    }
}

/// The branch of our own that heads a request which we have sent, also if the end of it is missing. The top Via of
/// a response is another's, even where it looks like one of ours.
pub(super) fn branch_of_request(octets: &[u8], limits: MessageLimits) -> Option<Branch> {
    let message = Message::parse(Bytes::copy_from_slice(octets), Carriage::Datagram, limits).ok()?;
    message.method()?;
    Branch::parse(message.top_via()?.branch?)
}
