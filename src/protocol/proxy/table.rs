//! What is in the Router's tables: transactions of both kinds, and which of them wait on which connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::protocol::flow::{ConnectionId, Flow, Transport};
use crate::protocol::transaction::{
    Actions, ClientAction, ClientInvite, ClientNonInvite, ServerAction, ServerInvite, ServerNonInvite,
    Timers, TransactionKey,
};

use super::outward::Beyond;
use super::slots::{Slot, Table, Tenant};

/// Where a response goes if the connection of its request has ended (RFC 3261 §18.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternate {
    /// First: where the request came from, at the port of sent-by.
    pub address: SocketAddr,
    /// Then: the host of sent-by, where that is a name.
    pub sent_by: Option<Arc<SentBy>>,
}

/// A host that is looked up as a client would (RFC 3263 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentBy {
    /// Its name, lower case.
    pub host: Arc<str>,
    /// Its port, if one is written.
    pub port: Option<u16>,
}

/// Where the responses to a request go (RFC 3261 §18.2.2, RFC 3581 §4).
#[derive(Clone, Debug)]
pub(super) struct ReplyPath {
    /// The flow of the request; for UDP its remote address is the one to answer to.
    pub(super) flow: Flow,
    /// Where to open a connection if that of the request has ended.
    pub(super) alternate: Option<Alternate>,
}

#[derive(Debug)]
pub(super) enum ServerMachine {
    Invite(ServerInvite),
    NonInvite(ServerNonInvite),
}

impl ServerMachine {
    pub(super) fn handle_retransmission(&mut self, now: Instant, timers: &Timers) -> Actions<ServerAction> {
        match self {
            Self::Invite(machine) => machine.handle_retransmission(now, timers),
            Self::NonInvite(machine) => machine.handle_retransmission(now, timers),
        }
    }

    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        timers: &Timers,
        status: u16,
    ) -> Actions<ServerAction> {
        match self {
            Self::Invite(machine) => machine.handle_response(now, timers, status),
            Self::NonInvite(machine) => machine.handle_response(now, timers, status),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, timers: &Timers) -> Actions<ServerAction> {
        match self {
            Self::Invite(machine) => machine.handle_timeout(now, timers),
            Self::NonInvite(machine) => machine.handle_timeout(now, timers),
        }
    }

    /// When it ends, where all that is left is to repeat a final response until then.
    pub(super) fn repeats_until(&self) -> Option<Instant> {
        match self {
            Self::Invite(_) => None,
            Self::NonInvite(machine) => machine.repeats_until(),
        }
    }
}

/// A server transaction (§17.2): the machine, and what it must be able to send again.
#[derive(Debug)]
pub(super) struct ServerTransaction {
    pub(super) key: TransactionKey,
    pub(super) generation: u32,
    /// Those that it has begun with: a reload does not change them.
    pub(super) timers: Timers,
    pub(super) machine: ServerMachine,
    pub(super) reply_path: ReplyPath,
    pub(super) last_response: Option<Bytes>,
    /// The response context that answers it, until that has.
    pub(super) context: Option<Slot>,
    pub(super) armed: Option<Instant>,
}

impl Tenant for ServerTransaction {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn next_timeout(&self) -> Option<Instant> {
        match &self.machine {
            ServerMachine::Invite(machine) => machine.next_timeout(),
            ServerMachine::NonInvite(machine) => machine.next_timeout(),
        }
    }

    fn armed(&mut self) -> &mut Option<Instant> {
        &mut self.armed
    }
}

#[derive(Debug)]
pub(super) enum ClientMachine {
    Invite(ClientInvite),
    NonInvite(ClientNonInvite),
}

impl ClientMachine {
    pub(super) fn start(
        is_invite: bool,
        now: Instant,
        timers: &Timers,
        reliable: bool,
    ) -> (Self, Actions<ClientAction>) {
        if is_invite {
            let (machine, actions) = ClientInvite::start(now, timers, reliable);
            (Self::Invite(machine), actions)
        } else {
            let (machine, actions) = ClientNonInvite::start(now, timers, reliable);
            (Self::NonInvite(machine), actions)
        }
    }

    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        timers: &Timers,
        status: u16,
    ) -> Actions<ClientAction> {
        match self {
            Self::Invite(machine) => machine.handle_response(now, timers, status),
            Self::NonInvite(machine) => machine.handle_response(now, timers, status),
        }
    }

    pub(super) fn handle_transport_failure(
        &mut self,
        now: Instant,
        timers: &Timers,
    ) -> Actions<ClientAction> {
        match self {
            Self::Invite(machine) => machine.handle_transport_failure(now, timers),
            Self::NonInvite(machine) => machine.handle_transport_failure(now, timers),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, timers: &Timers) -> Actions<ClientAction> {
        match self {
            Self::Invite(machine) => machine.handle_timeout(now, timers),
            Self::NonInvite(machine) => machine.handle_timeout(now, timers),
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.next_timeout(),
            Self::NonInvite(machine) => machine.next_timeout(),
        }
    }
}

/// The CANCEL that was sent for an INVITE: it has the INVITE's branch and a machine of its own (§9.1).
#[derive(Debug)]
pub(super) struct CancelTransaction {
    pub(super) machine: ClientNonInvite,
    pub(super) request: Bytes,
}

/// A client transaction (§17.1).
#[derive(Debug)]
pub(super) struct ClientTransaction {
    pub(super) generation: u32,
    /// Those of the response context.
    pub(super) timers: Timers,
    pub(super) machine: ClientMachine,
    pub(super) hop: Flow,
    /// The request as sent, while it can be needed: to be sent again, or to make its ACK or CANCEL.
    pub(super) request: Option<Bytes>,
    /// The response context and the branch of it; gone when it has no more use for responses.
    pub(super) owner: Option<(Slot, u16)>,
    pub(super) cancel: Option<Box<CancelTransaction>>,
    pub(super) loop_hash: u64,
    /// How a server of another domain is reached.
    pub(super) beyond: Option<Arc<Beyond>>,
    pub(super) armed: Option<Instant>,
    /// Neighbours in the list of its connection, while it waits for a final response.
    waiting: Option<Neighbours>,
}

#[derive(Clone, Copy, Debug)]
struct Neighbours {
    previous: Option<u32>,
    next: Option<u32>,
}

impl ClientTransaction {
    pub(super) const fn new(
        generation: u32,
        (machine, timers): (ClientMachine, Timers),
        hop: Flow,
        request: Bytes,
        owner: (Slot, u16),
        loop_hash: u64,
        beyond: Option<Arc<Beyond>>,
    ) -> Self {
        Self {
            generation,
            timers,
            machine,
            hop,
            request: Some(request),
            owner: Some(owner),
            cancel: None,
            loop_hash,
            beyond,
            armed: None,
            waiting: None,
        }
    }
}

impl ClientTransaction {
    /// Whether its response context still waits for it.
    pub(super) const fn request_is_open(&self) -> bool {
        self.owner.is_some()
    }
}

impl Tenant for ClientTransaction {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn next_timeout(&self) -> Option<Instant> {
        let cancel = self.cancel.as_ref().and_then(|cancel| cancel.machine.next_timeout());
        match (self.machine.next_timeout(), cancel) {
            (Some(own), Some(cancel)) => Some(own.min(cancel)),
            (own, cancel) => own.or(cancel),
        }
    }

    fn armed(&mut self) -> &mut Option<Instant> {
        &mut self.armed
    }
}

/// Which client transactions wait on which connection: when it ends they fail at once (§17.1.4). A doubly linked
/// list through the table, so that joining and leaving cost the same however many wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    first: HashMap<Line, u32>,
}

/// What a transaction waits on: the connection that it was sent by, or whichever leads to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Line {
    Connection(ConnectionId),
    Peer(Transport, SocketAddr),
}

impl Line {
    /// That of a request that leaves by `hop`; datagrams wait on nothing.
    fn of(hop: &Flow) -> Option<Self> {
        match hop.connection {
            Some(connection) => Some(Self::Connection(connection)),
            None => hop.transport.is_reliable().then_some(Self::Peer(hop.transport, hop.remote)),
        }
    }

    /// All that can wait on a connection.
    pub(super) fn all_of(connection: &Flow) -> impl Iterator<Item = Self> {
        let peer = Self::Peer(connection.transport, connection.remote);
        connection.connection.map(Self::Connection).into_iter().chain([peer])
    }
}

impl Waiting {
    /// Adds a transaction that was just inserted.
    pub(super) fn join(&mut self, table: &mut Table<ClientTransaction>, slot: Slot) {
        let Some(line) = table.get(slot).and_then(|transaction| Line::of(&transaction.hop)) else {
            return;
        };
        let next = self.first.insert(line, slot.index);
        if let Some(neighbours) = next.and_then(|next| table.at_mut(next)?.waiting.as_mut()) {
            neighbours.previous = Some(slot.index);
        }
        if let Some(transaction) = table.get_mut(slot) {
            transaction.waiting = Some(Neighbours { previous: None, next });
        }
    }

    /// Takes a transaction out; nothing where it is in no list.
    pub(super) fn leave(&mut self, table: &mut Table<ClientTransaction>, slot: Slot) {
        let Some(transaction) = table.get_mut(slot) else { return };
        let Some(Neighbours { previous, next }) = transaction.waiting.take() else { return };
        let line = Line::of(&transaction.hop);
        match previous.and_then(|previous| table.at_mut(previous)?.waiting.as_mut()) {
            Some(neighbours) => neighbours.next = next,
            None => {
                if let Some(line) = line {
                    match next {
                        Some(next) => self.first.insert(line, next),
                        None => self.first.remove(&line),
                    };
                }
            }
        }
        if let Some(neighbours) = next.and_then(|next| table.at_mut(next)?.waiting.as_mut()) {
            neighbours.previous = previous;
        }
    }

    /// Whether none waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Those that wait on `line` now, the last to join first.
    pub(super) fn all_on(&self, table: &Table<ClientTransaction>, line: Line) -> Vec<Slot> {
        let at = |index: u32| Some((index, table.at(index)?));
        let first = self.first.get(&line).and_then(|&index| at(index));
        let following = |(_, waiter): &(u32, &ClientTransaction)| at(waiter.waiting?.next?);
        std::iter::successors(first, following)
            .map(|(index, waiter)| Slot { index, generation: waiter.generation })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::flow::InterfaceId;

    fn transaction(generation: u32, connection: u64) -> ClientTransaction {
        let timers = Timers::new(Duration::from_millis(500), Duration::from_secs(4), Duration::from_secs(5));
        let (machine, _) = ClientMachine::start(false, Instant::now(), &timers, true);
        let hop = Flow {
            interface: InterfaceId(0),
            transport: Transport::Tcp,
            local: "127.0.0.1:1".parse().unwrap(),
            remote: "127.0.0.1:2".parse().unwrap(),
            connection: Some(ConnectionId(connection)),
        };
        let owner = (Slot { index: 0, generation: 0 }, 0);
        ClientTransaction::new(generation, (machine, timers), hop, Bytes::new(), owner, 0, None)
    }

    #[test]
    fn transactions_leave_their_connections_list_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let (mut table, mut waiting) = (Table::new(), Waiting::default());
            let slots: Vec<_> = (0..3).map(|n| table.insert(transaction(n, 7))).collect();
            let other = table.insert(transaction(9, 8));
            for &slot in slots.iter().chain([&other]) {
                waiting.join(&mut table, slot);
            }
            for (left, at) in order.into_iter().enumerate() {
                waiting.leave(&mut table, slots[at]);
                waiting.leave(&mut table, slots[at]);
                let left: Vec<_> = order[left + 1..].iter().map(|&at| slots[at]).collect();
                let seen = waiting.all_on(&table, Line::Connection(ConnectionId(7)));
                assert!(seen.len() == left.len() && left.iter().all(|slot| seen.contains(slot)));
            }
            assert_eq!(waiting.all_on(&table, Line::Connection(ConnectionId(8))), [other]);
        }
    }
}
