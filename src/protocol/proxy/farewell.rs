//! The end of the process, as far as SIP notices it: nothing begins any more, and what has begun may end.
//!
//! Requests in dialogs still pass. Their dialogs are older than the decision, a BYE has no other way, and after a
//! restart they find their way as before. Everything else is answered 503 with Retry-After: a client goes to another
//! server if it has one, and leaves this one alone meanwhile (RFC 3261 §21.5.4).

use std::time::Instant;

use super::Proxy;
use super::response_context::ResponseContext;
use super::slots::Slot;
use super::table::{ServerMachine, ServerTransaction};
use crate::protocol::message::Name;
use crate::protocol::message::reply::Reply;
use crate::protocol::transaction::Timers;
use crate::protocol::transaction::server_invite::State;

/// What a process that is about to end must still do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Requests that had begun before and are not answered yet, and answers to INVITEs whose ACK is still to come.
    pub begun: usize,
    /// Requests in dialogs that have come since and are not answered yet; counted once nothing else is left.
    pub since: usize,
}

impl std::ops::AddAssign for Unfinished {
    fn add_assign(&mut self, other: Self) {
        self.begun += other.begun;
        self.since += other.since;
    }
}

/// What had begun before.
#[derive(Debug)]
pub(super) struct Farewell {
    /// When a successor may be there, in seconds.
    retry_after: u32,
    contexts: Vec<Slot>,
    /// INVITE server transactions.
    invites: Vec<Slot>,
}

impl Farewell {
    /// The answer to whatever would begin now.
    pub(super) fn refusal(&self) -> Reply {
        Reply::with_reason(503, "Shutting Down")
            .row(Name::RetryAfter.as_str(), self.retry_after.max(1).to_string())
            .row(Name::Warning.as_str(), "399 sip-proxy \"Shutting down: only dialogs go on\"".to_owned())
    }
}

impl Proxy {
    /// From now on, nothing begins that does not belong to a dialog: the process is about to end, and a successor may be
    /// there in so many seconds. What is left; to be called until nothing is.
    pub fn drain(&mut self, now: Instant, retry_after: u32) -> Unfinished {
        let mut farewell = self.farewell.take().unwrap_or_else(|| Farewell {
            retry_after,
            contexts: self.contexts.slots(is_unanswered),
            invites: self.servers.slots(|server| matches!(server.machine, ServerMachine::Invite(_))),
        });
        farewell.retry_after = retry_after;
        farewell.contexts.retain(|slot| self.contexts.get(*slot).is_some_and(is_unanswered));
        let timers = self.settings.timers;
        farewell.invites.retain(|slot| {
            self.servers.get(*slot).is_some_and(|server| is_asked(server) || awaits_ack(server, now, &timers))
        });
        let acks = farewell
            .invites
            .iter()
            .filter(|slot| self.servers.get(**slot).is_some_and(|server| awaits_ack(server, now, &timers)));
        let begun = farewell.contexts.len() + acks.count();
        self.farewell = Some(farewell);
        Unfinished { begun, since: if begun == 0 { self.unanswered() } else { 0 } }
    }

    /// Requests that are being answered.
    pub fn unanswered(&self) -> usize {
        self.contexts.iter().filter(|context| is_unanswered(context)).count()
    }
}

fn is_unanswered(context: &ResponseContext) -> bool {
    !context.has_answered && !context.is_probe
}

/// An INVITE without a final response: its context is counted.
fn is_asked(server: &ServerTransaction) -> bool {
    matches!(&server.machine, ServerMachine::Invite(invite) if invite.state() == State::Proceeding)
}

/// A refusal is repeated until its ACK comes (§17.2.1). The ACK to a 2xx is a request of its own, which finds no other
/// way than by here: it is on its way for T4 at most.
fn awaits_ack(server: &ServerTransaction, now: Instant, timers: &Timers) -> bool {
    let ServerMachine::Invite(invite) = &server.machine else { return false };
    match invite.state() {
        State::Completed => true,
        State::Accepted => invite.is_younger_than(timers.t4(), now, timers),
        State::Proceeding | State::Confirmed | State::Terminated => false,
    }
}
