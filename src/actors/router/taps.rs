//! Where a trace taps a Router: what comes in, before its core has it, and what its core wants sent.

use bytes::Bytes;

use super::Router;
use crate::actors::messages::Received;
use crate::actors::trace::Direction;
use crate::protocol::flow::Flow;
use crate::protocol::proxy::outward::Beyond;

impl Router {
    #[inline]
    pub(super) fn show_received(&self, batch: &[Received]) {
        let trace = self.directory.trace();
        if trace.is_active() {
            for Received { flow, message, .. } in batch {
                trace.show(Direction::In, flow, &[], message.bytes());
            }
        }
    }

    #[inline]
    pub(super) fn show_departing(&self, hop: &Flow, beyond: Option<&Beyond>, bytes: &Bytes) {
        let alternatives = beyond.map_or(&[][..], |beyond| &beyond.addresses);
        self.directory.trace().show(Direction::Out, hop, alternatives, bytes);
    }
}
