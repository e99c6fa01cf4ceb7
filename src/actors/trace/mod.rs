//! Traces: SIP messages as they pass, in the clear, for an administrator who watches.
//!
//! A [`Trace`] is shared by all cores. While nobody watches, a message costs one relaxed load. While somebody does, it is
//! read once more to hold it to the [`Criteria`], and whoever wants it gets the same octets, not a copy, by a queue of
//! their own. What does not fit there is counted and told: a reader, however slow, never holds up SIP. What may be shown
//! of a message is decided where it is read ([`hiding`]), not on the cores.

mod calls;
mod criteria;
pub mod hiding;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::criteria::{Criteria, CriteriaFault, Wanted};

use self::calls::Calls;
use crate::protocol::flow::{Flow, InterfaceId, Transport};
use crate::protocol::message::{Carriage, Message, MessageLimits};

/// Traces at the same time.
pub const MAXIMUM_TRACES: usize = 4;

/// Messages that wait for one reader.
const MAXIMUM_MESSAGES: usize = 1_024;

/// Octets that wait for one reader.
const MAXIMUM_BYTES: usize = 4 << 20;

/// The proxy has read what passes here; nothing is refused again.
const LIMITS: MessageLimits = MessageLimits { message_bytes: usize::MAX, header_bytes: usize::MAX };

/// Reads a message that has passed, or what is shown of it. `None` where it is none.
pub fn read(octets: &Bytes) -> Option<Message> {
    Message::parse(octets.clone(), Carriage::Datagram, LIMITS).ok()
}

/// All traces of the process.
#[derive(Debug, Default)]
pub struct Trace {
    count: AtomicUsize,
    running: ArcSwap<Vec<Arc<Running>>>,
}

/// One trace, as the cores see it.
#[derive(Debug)]
struct Running {
    criteria: Criteria,
    calls: Calls,
    queue: mpsc::Sender<Passed>,
    /// What is in the queue.
    octets: AtomicUsize,
    /// What had no room in it.
    missed: AtomicU64,
}

/// One trace, as its reader sees it. Dropping it ends the trace.
#[derive(Debug)]
pub struct Watch {
    trace: Arc<Trace>,
    running: Arc<Running>,
    queue: mpsc::Receiver<Passed>,
}

/// Which way a message goes, as the proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a peer.
    In,
    /// To a peer.
    Out,
}

/// A message that has passed.
#[derive(Clone, Debug)]
pub struct Passed {
    /// When.
    pub time: SystemTime,
    /// Which way.
    pub direction: Direction,
    /// By which interface.
    pub interface: InterfaceId,
    /// What carries it.
    pub transport: Transport,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// The message, with all that is to be hidden.
    pub octets: Bytes,
    /// How many that were wanted had no room since the one before.
    pub missed: u64,
}

impl Trace {
    /// Whether anybody watches.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Whether another trace could begin now.
    pub fn has_room(&self) -> bool {
        self.running.load().len() < MAXIMUM_TRACES
    }

    /// Begins a trace; `None` where there are [`MAXIMUM_TRACES`].
    pub fn begin(self: &Arc<Self>, criteria: Criteria) -> Option<Watch> {
        let (sender, queue) = mpsc::channel(MAXIMUM_MESSAGES);
        let running = Arc::new(Running {
            criteria,
            calls: Calls::default(),
            queue: sender,
            octets: AtomicUsize::new(0),
            missed: AtomicU64::new(0),
        });
        let before = self.running.rcu(|others| {
            let mut all = Vec::clone(others);
            if all.len() < MAXIMUM_TRACES {
                all.push(Arc::clone(&running));
            }
            all
        });
        if before.len() >= MAXIMUM_TRACES {
            return None;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(Watch { trace: Arc::clone(self), running, queue })
    }

    /// A message passes by `flow`. Where no connection is open yet, it may also end up at one of `alternatives`.
    #[inline]
    pub fn show(&self, direction: Direction, flow: &Flow, alternatives: &[SocketAddr], octets: &Bytes) {
        if self.is_active() {
            self.pass(direction, flow, alternatives, octets);
        }
    }

    #[cold]
    fn pass(&self, direction: Direction, flow: &Flow, alternatives: &[SocketAddr], octets: &Bytes) {
        let message = read(octets);
        let time = SystemTime::now();
        for running in self.running.load().iter() {
            if running.wants(message.as_ref(), flow, alternatives) {
                let (source, destination) = match direction {
                    Direction::In => (flow.remote, flow.local),
                    Direction::Out => (flow.local, flow.remote),
                };
                running.offer(Passed {
                    time,
                    direction,
                    interface: flow.interface,
                    transport: flow.transport,
                    source,
                    destination,
                    octets: octets.clone(),
                    missed: 0,
                });
            }
        }
    }
}

impl Running {
    /// By its criteria, or because something of the same call was wanted before: responses, and requests in the dialog.
    fn wants(&self, message: Option<&Message>, flow: &Flow, alternatives: &[SocketAddr]) -> bool {
        let call_id = message.map(Message::call_id).unwrap_or_default();
        let is_wanted = self.criteria.matches(message, flow.remote, alternatives);
        if self.criteria.all {
            return is_wanted;
        }
        if is_wanted {
            self.calls.remember(call_id);
        }
        is_wanted || self.calls.knows(call_id)
    }

    fn offer(&self, passed: Passed) {
        let length = passed.octets.len();
        let waiting = self.octets.fetch_add(length, Ordering::Relaxed);
        // A message that is larger than the bound has room where nothing waits.
        let has_room = waiting == 0 || waiting + length <= MAXIMUM_BYTES;
        if !has_room || self.queue.try_send(passed).is_err() {
            self.octets.fetch_sub(length, Ordering::Relaxed);
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Watch {
    /// The next message. Waits for ever if need be.
    pub async fn next(&mut self) -> Passed {
        match self.queue.recv().await {
            Some(mut passed) => {
                self.running.octets.fetch_sub(passed.octets.len(), Ordering::Relaxed);
                passed.missed = self.running.missed.swap(0, Ordering::Relaxed);
                passed
            }
            // Not so: a sender is here, in `running`.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.trace.running.rcu(|all| {
            let others = all.iter().filter(|running| !Arc::ptr_eq(running, &self.running));
            others.cloned().collect::<Vec<_>>()
        });
        self.trace.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
