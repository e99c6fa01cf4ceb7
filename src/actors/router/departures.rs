//! What leaves a Router in one turn, gathered by where it goes, and how it gets there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use actix::dev::SendError;
use smallvec::{SmallVec, smallvec};

use super::Router;
use crate::actors::federation_resolver::Resolve;
use crate::actors::messages::{Datagram, Dial, Outgoing, Transmit, TransmitDatagrams};
use crate::actors::registrar::Questions;
use crate::protocol::flow::{ConnectionId, Flow, InterfaceId};
use crate::protocol::identity::Expected;
use crate::protocol::location::{ContextId, Question};
use crate::protocol::next_hop::Query;
use crate::protocol::proxy::Alternate;
use crate::protocol::proxy::outward::Beyond;

/// What leaves in one turn, by where it goes.
#[derive(Default)]
pub(super) struct Departures {
    datagrams: Vec<(InterfaceId, Vec<Datagram>)>,
    streams: Vec<(ConnectionId, Vec<Outgoing>)>,
    pub(super) questions: Vec<Question>,
    pub(super) queries: Vec<(ContextId, Query)>,
}

impl Departures {
    pub(super) fn datagram(&mut self, hop: &Flow, message: Outgoing) {
        let datagram = Datagram { local: Some(hop.local.ip()), remote: hop.remote, bytes: message.bytes };
        match self.datagrams.iter_mut().find(|(interface, _)| *interface == hop.interface) {
            Some((_, datagrams)) => datagrams.push(datagram),
            None => self.datagrams.push((hop.interface, vec![datagram])),
        }
    }

    fn stream(&mut self, connection: ConnectionId, message: Outgoing) {
        match self.streams.iter_mut().find(|(other, _)| *other == connection) {
            Some((_, messages)) => messages.push(message),
            None => self.streams.push((connection, vec![message])),
        }
    }
}

impl Router {
    /// By the connection that the hop names; if that has ended, by one to the alternate address; else the client
    /// transaction learns that there is no way.
    pub(super) fn depart_by_stream(
        &mut self,
        departures: &mut Departures,
        hop: &Flow,
        alternate: Option<Alternate>,
        beyond: Option<&Beyond>,
        message: Outgoing,
    ) {
        let Some(connection) = hop.connection else {
            let addresses = beyond.map_or_else(|| smallvec![hop.remote], |beyond| beyond.addresses.clone());
            return self.dial(hop, addresses, beyond.and_then(|beyond| beyond.expected.clone()), message);
        };
        if !self.connections.contains_key(&connection) {
            // It may have opened a moment ago and not have told yet.
            match (self.directory.connection(connection), alternate) {
                (Some(address), _) => {
                    self.connections.insert(connection, address);
                }
                (None, Some(alternate)) => return self.depart_otherwise(departures, hop, alternate, message),
                (None, None) => return self.directory.tell_all_failed(&[message]),
            }
        }
        departures.stream(connection, message);
    }

    /// By a new connection: where sent-by names a host, that is looked up first.
    fn depart_otherwise(
        &mut self,
        departures: &mut Departures,
        hop: &Flow,
        alternate: Alternate,
        message: Outgoing,
    ) {
        match self.homeless.admit(Instant::now(), hop, alternate, message) {
            Ok(query) => departures.queries.push(query),
            Err((address, message)) => self.dial(hop, smallvec![address], None, message),
        }
    }

    fn dial(
        &self,
        hop: &Flow,
        addresses: SmallVec<[SocketAddr; 2]>,
        expected: Option<Arc<Expected>>,
        message: Outgoing,
    ) {
        self.send_dial(hop, Dial { addresses, expected, messages: vec![message] });
    }

    pub(super) fn send_dial(&self, hop: &Flow, dial: Dial) {
        match self.directory.stream_listener(hop.interface).as_deref() {
            Some(listener) => listener.do_send(dial),
            None => self.directory.tell_all_failed(&dial.messages),
        }
    }

    pub(super) fn dispatch(&mut self, departures: Departures) {
        for (interface, datagrams) in departures.datagrams {
            if let Some(listener) = self.directory.datagram_listener(interface, self.index).as_deref() {
                // Bounded by what the core sends in one turn; the Listener's queue is bounded.
                listener.do_send(TransmitDatagrams(datagrams));
            }
        }
        for (connection, messages) in departures.streams {
            let Some(address) = self.connections.get(&connection) else { continue };
            if let Err(error) = address.try_send(Transmit(messages)) {
                // A refused write is a transport error: nobody retransmits here.
                if matches!(error, SendError::Closed(_)) {
                    self.connections.remove(&connection);
                }
                let Transmit(messages) = error.into_inner();
                self.directory.tell_all_failed(&messages);
            }
        }
        if !departures.questions.is_empty() {
            let questions = Questions { router: self.index, questions: departures.questions };
            self.to_registrar(|registrar| registrar.questions.do_send(questions));
        }
        // One that is being restarted answers nothing: the contexts have a deadline.
        if let Some(resolver) = self.directory.federation_resolver().as_deref()
            && !departures.queries.is_empty()
        {
            resolver.resolve.do_send(Resolve { router: self.index, queries: departures.queries });
        }
    }
}
