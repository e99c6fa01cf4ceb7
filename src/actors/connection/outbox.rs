//! What waits to be written to one connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

use crate::actors::messages::Outgoing;
use crate::diagnostics::queues::{QueueLength, QueueShare};
use crate::protocol::transaction::Branch;

/// Octets that wait for a peer that does not read; past them its connection ends.
pub(super) const MAXIMUM_BYTES: usize = 1 << 20;

/// Messages that wait for a peer that does not read; past them its connection ends.
pub(super) const MAXIMUM_MESSAGES: usize = 4_096;

/// Messages that one system call writes.
const MESSAGES_PER_WRITE: usize = 32;

/// The queue. What is written leaves it at once: its failure cannot be told from then on.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
    /// TLS has taken octets that it may not have passed on yet.
    unflushed: bool,
    /// Requests that have been written since they were last asked after.
    requests: u32,
    /// What is told of the queue: what the peer has left in it.
    told: QueueShare,
}

/// The queue is full; the message comes back.
#[derive(Debug)]
pub(super) struct Overflow(pub Outgoing);

impl Outbox {
    /// One of the queues that make up `all`.
    pub(super) fn new(all: &QueueLength) -> Self {
        Self { told: QueueShare::new(all), ..Self::default() }
    }

    /// Appends `message`.
    pub(super) fn push(&mut self, message: Outgoing) -> Result<(), Overflow> {
        if message.bytes.is_empty() {
            // A write of nothing would look like a stream that takes nothing.
            return Ok(());
        }
        let bytes = self.bytes + message.bytes.len();
        if bytes > MAXIMUM_BYTES || self.waiting.len() == MAXIMUM_MESSAGES {
            return Err(Overflow(message));
        }
        self.bytes = bytes;
        self.waiting.push_back(message);
        Ok(())
    }

    /// Appends octets that nobody asks after.
    pub(super) fn push_own(&mut self, bytes: Bytes) -> Result<(), Overflow> {
        self.push(Outgoing { bytes, branch: None })
    }

    /// Whether everything has been handed to the system.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.unflushed
    }

    /// Writes until nothing waits, or until the peer has to read. True in `progress`: something was written.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        let written = self.poll_write_all(stream, cx, progress);
        self.told.set(self.waiting.len());
        written
    }

    fn poll_write_all<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let mut slices = [IoSlice::new(b""); MESSAGES_PER_WRITE];
            for (slice, message) in slices.iter_mut().zip(&self.waiting) {
                *slice = IoSlice::new(&message.bytes);
            }
            let count = self.waiting.len().min(MESSAGES_PER_WRITE);
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress = true;
            self.unflushed = true;
            self.advance(written);
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
            // A burst is no reason to keep its queue for a connection that is idle afterwards.
            self.waiting.shrink_to(MESSAGES_PER_WRITE);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.waiting.front_mut() {
            if written < first.bytes.len() {
                first.bytes.advance(written);
                return;
            }
            written -= first.bytes.len();
            self.requests += u32::from(first.branch.is_some());
            self.waiting.pop_front();
        }
    }

    /// How many requests that await a response have been written since this was last asked.
    pub(super) fn take_requests(&mut self) -> u32 {
        std::mem::take(&mut self.requests)
    }

    /// Empties the queue; gives the branches of what was in it.
    pub(super) fn fail(&mut self) -> impl Iterator<Item = Branch> {
        self.bytes = 0;
        self.told.set(0);
        std::mem::take(&mut self.waiting).into_iter().filter_map(|message| message.branch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize, slot: u32) -> Outgoing {
        let branch = Some(Branch { router: 0, slot, generation: 0, loop_hash: 0 });
        Outgoing { bytes: Bytes::from(vec![b'x'; length]), branch }
    }

    /// Takes `room` octets, then would block.
    struct Slow {
        room: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let count = buf.len().min(self.room);
            if count == 0 {
                return Poll::Pending;
            }
            self.room -= count;
            self.taken.extend_from_slice(&buf[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_was_not_written_whole_fails() {
        let all = QueueLength::default();
        let mut outbox = Outbox::new(&all);
        (0..4).for_each(|slot| outbox.push(message(10, slot)).unwrap());
        let mut slow = Slow { room: 25, taken: Vec::new() };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut progress = false;
        assert!(outbox.poll_write(&mut slow, &mut cx, &mut progress).is_pending());
        assert!(progress && slow.taken.len() == 25 && !outbox.is_empty());
        assert_eq!(all.get(), 2);
        assert_eq!(outbox.fail().map(|branch| branch.slot).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(all.get(), 0);
        assert!(outbox.poll_write(&mut slow, &mut cx, &mut progress).is_ready());
        assert!(outbox.is_empty());
    }

    #[test]
    fn octets_and_messages_are_bounded() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(message(MAXIMUM_BYTES, 1)).is_ok());
        assert!(outbox.push(message(1, 2)).is_err());
        assert!(outbox.push(message(0, 3)).is_ok());
        assert_eq!(outbox.fail().count(), 1);
        let mut outbox = Outbox::default();
        (0..MAXIMUM_MESSAGES as u32).for_each(|slot| outbox.push(message(1, slot)).unwrap());
        let Err(Overflow(returned)) = outbox.push(message(1, 7)) else { panic!("room without end") };
        assert_eq!(returned.branch.map(|branch| branch.slot), Some(7));
    }
}
