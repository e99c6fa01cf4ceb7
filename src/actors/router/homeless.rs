//! Responses whose connection has ended and whose Via names a host: they wait until that is looked up (RFC 3261
//! §18.2.2, RFC 3263 §5).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::smallvec;

use crate::actors::messages::{Dial, Outgoing};
use crate::protocol::flow::Flow;
use crate::protocol::identity::Expected;
use crate::protocol::location::ContextId;
use crate::protocol::next_hop::{Query, Resolution};
use crate::protocol::proxy::{Alternate, SentBy};

/// Responses that wait at the same time; further ones go without a look-up.
const MAXIMUM: usize = 256;

/// Who waits longer has been forgotten by a FederationResolver that was restarted: `dns.timeout` is shorter.
const PATIENCE: Duration = Duration::from_secs(120);

/// Marks the questions; no context has this slot.
const SLOT: u32 = u32::MAX;

/// The responses that wait, by the generation of their question.
#[derive(Debug, Default)]
pub(super) struct Homeless {
    waiting: HashMap<u32, Waiting>,
    next: u32,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    hop: Flow,
    address: SocketAddr,
    sent_by: Arc<SentBy>,
    message: Outgoing,
}

impl Homeless {
    /// Keeps a response, and gives the question; or gives it back where there is no name to ask for, or no room.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        hop: &Flow,
        alternate: Alternate,
        message: Outgoing,
    ) -> Result<(ContextId, Query), (SocketAddr, Outgoing)> {
        let Alternate { address, sent_by } = alternate;
        if self.waiting.len() == MAXIMUM {
            self.waiting.retain(|_, waiting| now < waiting.since + PATIENCE);
        }
        let Some(sent_by) = sent_by.filter(|_| self.waiting.len() < MAXIMUM) else {
            return Err((address, message));
        };
        self.next = self.next.wrapping_add(1);
        let query = Query::Server {
            host: Arc::clone(&sent_by.host),
            port: sent_by.port,
            transport: Some(hop.transport),
            is_secure: false,
        };
        self.waiting.insert(self.next, Waiting { since: now, hop: *hop, address, sent_by, message });
        Ok((ContextId { slot: SLOT, generation: self.next }, query))
    }

    /// The response that has waited for this answer, and where it goes: to where its request came from, then to the
    /// servers found. Under TLS they must be the host that sent-by names.
    pub(super) fn take(&mut self, context: ContextId, resolution: &Resolution) -> Option<(Flow, Dial)> {
        let asked = (context.slot == SLOT).then_some(context.generation)?;
        let Waiting { hop, address, sent_by, message, .. } = self.waiting.remove(&asked)?;
        let mut addresses = smallvec![address];
        let servers = resolution.as_deref().unwrap_or_default();
        for found in servers.iter().flat_map(|server| &server.addresses) {
            if !addresses.contains(found) {
                addresses.push(*found);
            }
        }
        let is_found = addresses.len() > 1 && hop.transport.is_secure();
        let expected =
            is_found.then(|| Arc::new(Expected { server_name: Arc::clone(&sent_by.host), domain: None }));
        Some((hop, Dial { addresses, expected, messages: vec![message] }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::flow::{ConnectionId, InterfaceId, Transport};
    use crate::protocol::next_hop::{Server, Unresolved};

    fn hop(transport: Transport) -> Flow {
        Flow {
            interface: InterfaceId(0),
            transport,
            local: SocketAddr::from(([192, 0, 2, 1], 5060)),
            remote: SocketAddr::from(([192, 0, 2, 9], 40_000)),
            connection: Some(ConnectionId(1)),
        }
    }

    fn admit(homeless: &mut Homeless, now: Instant, transport: Transport) -> Option<ContextId> {
        let sent_by = SentBy { host: "p.b.test".into(), port: None };
        let alternate = Alternate { address: address(9), sent_by: Some(Arc::new(sent_by)) };
        let message = Outgoing { bytes: Bytes::from_static(b"x"), branch: None };
        homeless.admit(now, &hop(transport), alternate, message).ok().map(|(context, _)| context)
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 5060))
    }

    #[test]
    fn a_response_goes_to_its_source_and_then_to_the_host_that_sent_by_names() {
        let mut homeless = Homeless::default();
        let found = |transport| {
            Ok(vec![Server {
                transport,
                host: "p.b.test".into(),
                addresses: smallvec![address(9), address(7)],
            }])
        };
        for (transport, server_name) in [(Transport::Tcp, None), (Transport::Tls, Some("p.b.test"))] {
            let context = admit(&mut homeless, Instant::now(), transport).unwrap();
            let (_, dial) = homeless.take(context, &found(transport)).unwrap();
            assert_eq!(dial.addresses[..], [address(9), address(7)]);
            assert_eq!(dial.expected.as_ref().map(|expected| &*expected.server_name), server_name);
            assert!(homeless.take(context, &found(transport)).is_none(), "once");
        }
        let context = admit(&mut homeless, Instant::now(), Transport::Tls).unwrap();
        let (_, dial) = homeless.take(context, &Err(Unresolved::Timeout)).unwrap();
        assert_eq!((&dial.addresses[..], dial.expected), (&[address(9)][..], None));
        assert!(homeless.take(ContextId { slot: 1, generation: 1 }, &Err(Unresolved::Timeout)).is_none());
    }

    #[test]
    fn those_that_wait_are_bounded_and_the_forgotten_make_room() {
        let (mut homeless, now) = (Homeless::default(), Instant::now());
        for _ in 0..MAXIMUM {
            assert!(admit(&mut homeless, now, Transport::Tcp).is_some());
        }
        assert!(admit(&mut homeless, now, Transport::Tcp).is_none());
        assert!(admit(&mut homeless, now + PATIENCE, Transport::Tcp).is_some());
    }
}
