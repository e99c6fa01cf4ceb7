//! Where each actor is to be reached now.
//!
//! An actor that failed comes back under a new address. The supervisor puts that here; everybody else looks it
//! up when sending, which costs one atomic load, and so nobody has to be told. The table of connections is
//! touched only when one opens or closes.

use std::collections::HashMap;
use std::hash::Hasher as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Addr, Recipient};
use arc_swap::{ArcSwapOption, Guard};
use siphasher::sip::SipHasher13;
use std::sync::Arc;

use super::connection::Connection;
use super::messages::{ConnectionClosed, ConnectionOpened, Dial, MessagesReceived, TransmitDatagrams, TransmitFailed};
use crate::protocol::flow::{ConnectionId, Flow, InterfaceId, Transport};

/// The ways into one Router, as its many senders need them.
#[derive(Clone, Debug)]
pub struct RouterAddress {
    /// The SIP that comes in.
    pub received: Recipient<MessagesReceived>,
    /// The SIP that could not go out.
    pub failed: Recipient<TransmitFailed>,
    /// New connections.
    pub opened: Recipient<ConnectionOpened>,
    /// Connections that ended.
    pub closed: Recipient<ConnectionClosed>,
}

/// All addresses. One per process, shared.
#[derive(Debug)]
pub struct Directory {
    routers: Box<[ArcSwapOption<RouterAddress>]>,
    /// Told of connections that ended, beside the Routers.
    registrar_closed: ArcSwapOption<Recipient<ConnectionClosed>>,
    /// By interface, then by core.
    datagram: Box<[Box<[ArcSwapOption<Recipient<TransmitDatagrams>>]>]>,
    stream: Box<[ArcSwapOption<Recipient<Dial>>]>,
    connections: Mutex<Connections>,
    next_connection: AtomicU64,
    hash_key: [u8; 16],
    limits: ConnectionLimits,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// With one address of the peer.
    pub per_address: usize,
}

#[derive(Debug, Default)]
struct Connections {
    open: HashMap<ConnectionId, Entry>,
    /// The newest connection to each peer, for requests that need one (RFC 3261 §18).
    by_remote: HashMap<(InterfaceId, Transport, SocketAddr), ConnectionId>,
    per_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    flow: Flow,
    address: Addr<Connection>,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `limits.maximum_connections`.
    Total,
    /// `limits.maximum_connections_per_address`.
    PerAddress,
}
