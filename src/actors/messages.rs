//! What more than two kinds of actors say to each other. Other messages live in their receiver's file.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use actix::{Message as ActorMessage, Recipient};
use bytes::Bytes;
use smallvec::SmallVec;

use crate::protocol::flow::Flow;
use crate::protocol::identity::{Expected, PeerProof};
use crate::protocol::message::Message;
use crate::protocol::transaction::Branch;

/// SIP messages as they came in, to the Router that they belong to. From Listener and Connection, by
/// `try_send`: what a full Router refuses is counted and dropped (datagrams) or waits (streams).
#[derive(Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct MessagesReceived(pub Vec<Received>);

/// One of [`MessagesReceived`].
#[derive(Debug)]
pub struct Received {
    /// Where it came from.
    pub flow: Flow,
    /// What the peer has proven by the certificate of its connection; `None` where it has shown none.
    pub proof: Option<Arc<PeerProof>>,
    /// The message, indexed.
    pub message: Message,
}

/// Datagrams that leave by one interface, to the Listener of the sender's core.
#[derive(Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct TransmitDatagrams(pub Vec<Datagram>);

/// One of [`TransmitDatagrams`].
#[derive(Debug)]
pub struct Datagram {
    /// The address to send from, where the interface is a wildcard.
    pub local: Option<IpAddr>,
    /// Where it goes.
    pub remote: SocketAddr,
    /// What goes.
    pub bytes: Bytes,
}

/// Messages that leave by a connection, to that Connection.
#[derive(Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct Transmit(pub Vec<Outgoing>);

/// One of [`Transmit`].
#[derive(Debug)]
pub struct Outgoing {
    /// What goes.
    pub bytes: Bytes,
    /// The client transaction that wants to know of a failure (RFC 3261 §17.1.4); `None` for responses and ACKs.
    pub branch: Option<Branch>,
}

/// A message could not be sent: to the Router that `branch.router` names.
#[derive(Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct TransmitFailed {
    /// The client transaction whose request it was.
    pub branch: Branch,
    /// Where it was sent to, if the network says that it has not arrived there.
    pub unreached: Option<SocketAddr>,
}

/// A connection is there and takes messages: to every Router, before any message of it.
#[derive(Clone, Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct ConnectionOpened {
    /// Its flow, with its connection identifier.
    pub flow: Flow,
    /// Where to send what is to leave by it.
    pub connection: Recipient<Transmit>,
}

/// A connection is gone: to every Router and the Registrar, once, if [`ConnectionOpened`] was told of it.
///
/// What was queued for it fails by [`TransmitFailed`]; a client transaction whose request had left by it, and is
/// unanswered, learns of it here alone.
#[derive(Clone, Copy, Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct ConnectionClosed {
    /// Its flow.
    pub flow: Flow,
}

/// Messages for a peer to which there may be no connection yet: to the stream Listener of the interface, which
/// uses the connection that there is to such a peer, or opens one.
#[derive(Debug, ActorMessage)]
#[rtype(result = "()")]
pub struct Dial {
    /// Where to: the addresses of one server, in the order of trying (RFC 8305 §4). The first that answers wins.
    pub addresses: SmallVec<[SocketAddr; 2]>,
    /// Who a TLS peer has to be; without it, its certificate must have the address (RFC 5922 §7.2). A connection
    /// that leads to somebody else is closed before any SIP goes out. Without TLS it says nothing.
    pub expected: Option<Arc<Expected>>,
    /// What to send once it is open; each failure is told by [`TransmitFailed`].
    pub messages: Vec<Outgoing>,
}
