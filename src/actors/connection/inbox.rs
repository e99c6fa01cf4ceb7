//! What comes in by one connection: octets, frames, messages, and where they go.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix::dev::SendError;
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, ReadBuf};

use super::codec::{Broken, Codec, Incoming};
use crate::actors::directory::Directory;
use crate::actors::messages::{MessagesReceived, Received};
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::identity::PeerProof;
use crate::protocol::message::{Message, MessageLimits, Method};

/// Octets that one read takes.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    /// What connections read into: one for all of an Arbiter, so that none of them keeps a buffer while it waits.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// The reading side.
#[derive(Debug)]
pub(super) struct Inbox {
    limits: MessageLimits,
    codec: Codec,
    /// What has come of a message that is not complete; else empty, without memory of its own.
    buffer: BytesMut,
    /// Messages that a Router had no room for, by Router. Nothing is read while there are any.
    held: SmallVec<[(usize, Vec<Received>); 1]>,
    /// The answers to keep-alives, until they are taken.
    answers: Vec<u8>,
    /// Whether the latest [`Self::deliver`] completed a message or a keep-alive.
    has_completed: bool,
    /// Requests that await a final response. An estimate, which a peer cannot gain from.
    owed: u32,
}

impl Inbox {
    /// From now on, messages may have these sizes.
    pub(super) const fn set_limits(&mut self, limits: MessageLimits) {
        self.limits = limits;
        self.codec.set_limits(limits);
    }

    pub(super) fn new(transport: Transport, limits: MessageLimits) -> Self {
        Self {
            limits,
            codec: Codec::new(transport, limits),
            buffer: BytesMut::new(),
            held: SmallVec::new(),
            answers: Vec::new(),
            has_completed: false,
            owed: 0,
        }
    }

    /// Reads once. The number of octets; 0 at the end of the stream.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        poll_read(stream, cx, |octets| self.buffer.extend_from_slice(octets))
    }

    /// Cuts messages from what was read and offers them to their Routers. An error after which nothing more can be
    /// read; what came before it has been offered.
    pub(super) fn deliver(
        &mut self,
        flow: Flow,
        proof: Option<&Arc<PeerProof>>,
        to: &Directory,
    ) -> Result<(), Broken> {
        let mut groups: SmallVec<[(usize, Vec<Received>); 1]> = SmallVec::new();
        self.has_completed = false;
        let outcome = loop {
            match self.codec.next(&mut self.buffer) {
                Ok(Some(Incoming::Message(bytes))) => match self.read(bytes) {
                    Ok(message) => {
                        let router = to.router_of(&message, flow.connection);
                        group(&mut groups, router).push(Received { flow, proof: proof.cloned(), message });
                    }
                    Err(broken) => break Err(broken),
                },
                Ok(Some(Incoming::KeepAlive(answer))) => {
                    // One between the fragments of a message does not give that more time.
                    self.has_completed |= !self.codec.is_inside_message();
                    self.answers.extend_from_slice(&answer);
                }
                Ok(None) => break Ok(()),
                Err(broken) => break Err(broken),
            }
        };
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.held = groups;
        self.offer_held(to);
        outcome
    }

    fn read(&mut self, bytes: Bytes) -> Result<Message, Broken> {
        let message = self.codec.parse(bytes, self.limits)?;
        self.has_completed = true;
        let is_answered = |method| !matches!(method, Method::Ack | Method::Benotify);
        if message.method().is_some_and(is_answered) {
            self.owed = self.owed.saturating_add(1);
        }
        Ok(message)
    }

    /// Offers what was held again. True: nothing is held any more.
    pub(super) fn offer_held(&mut self, to: &Directory) -> bool {
        for (router, messages) in std::mem::take(&mut self.held) {
            let refused = match to.router(router).as_deref() {
                Some(address) => match address.receive(MessagesReceived(messages)) {
                    Ok(()) => continue,
                    // A Router that has just failed comes back under another address.
                    Err(SendError::Full(refused) | SendError::Closed(refused)) => refused.0,
                },
                None => messages,
            };
            self.held.push((router, refused));
        }
        self.held.is_empty()
    }

    pub(super) fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether a message has begun that is not complete.
    pub(super) fn is_inside_message(&self) -> bool {
        !self.buffer.is_empty() || self.codec.is_inside_message()
    }

    /// Whether the latest [`Self::deliver`] completed a message or a keep-alive.
    pub(super) fn has_completed(&self) -> bool {
        self.has_completed
    }

    /// The answers to the keep-alives that came, one for each.
    pub(super) fn take_answers(&mut self) -> Option<Bytes> {
        (!self.answers.is_empty()).then(|| Bytes::from(std::mem::take(&mut self.answers)))
    }

    /// A SIP message as it leaves by the connection. If it is a final response, one is owed less.
    pub(super) fn send(&mut self, bytes: Bytes) -> Bytes {
        if bytes.strip_prefix(b"SIP/2.0 ").is_some_and(|rest| matches!(rest.first(), Some(b'2'..=b'6'))) {
            self.owed = self.owed.saturating_sub(1);
        }
        self.codec.wrap(bytes)
    }

    /// Whether the peer awaits a response.
    pub(super) fn owes_response(&self) -> bool {
        self.owed > 0
    }
}

/// Reads once and throws it away. The number of octets; 0 at the end of the stream.
pub(super) fn poll_discard<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    poll_read(stream, cx, |_| ())
}

fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut read = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        take(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
}

fn group(groups: &mut SmallVec<[(usize, Vec<Received>); 1]>, router: usize) -> &mut Vec<Received> {
    let found = groups.iter().position(|(of, _)| *of == router);
    let at = found.unwrap_or_else(|| {
        groups.push((router, Vec::new()));
        groups.len() - 1
    });
    &mut groups[at].1
}
