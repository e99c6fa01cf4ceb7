//! Transactions: the four machines of RFC 3261 §17, amended by RFC 6026, 4320 and 4321.
//!
//! A machine holds a state and at most two deadlines, neither a message nor an identifier: the owner keeps
//! the octets and does what the returned actions say, in their order. So a machine is small, and its tests
//! are tables.
//!
//! Every machine has the same surface: an event comes in with `now`, the actions come back; `next_timeout`
//! says when `handle_timeout` is due. A call that comes too early, and any event after the end, does nothing.
//! After a stall one retransmission makes up for all that were missed.
//!
//! | machine | states | timers |
//! |---|---|---|
//! | [`ClientInvite`] (§17.1.1) | Calling, Proceeding, Completed, Accepted, Terminated | A, B, D, M |
//! | [`ClientNonInvite`] (§17.1.2) | Trying, Proceeding, Completed, Terminated | E, F, K |
//! | [`ServerInvite`] (§17.2.1) | Proceeding, Completed, Confirmed, Accepted, Terminated | G, H, I, L, 100 |
//! | [`ServerNonInvite`] (§17.2.2) | Trying, Proceeding, Completed, Terminated | J, 100, end |
//!
//! Not here: Timer C and the choice of the best response (the response context's), the ACK to a 2xx (it
//! belongs to no transaction, §17), and matching (§17.1.3, §17.2.3), for which [`key`] has the values.

pub mod client_invite;
pub mod client_non_invite;
pub mod key;
pub mod server_invite;
pub mod server_non_invite;
#[cfg(test)]
mod table;
mod timers;

use std::time::Instant;

use smallvec::SmallVec;

pub use client_invite::ClientInvite;
pub use client_non_invite::ClientNonInvite;
pub use key::{Branch, KeyHasher, LegacyKey, TransactionKey};
pub use server_invite::ServerInvite;
pub use server_non_invite::ServerNonInvite;
pub use timers::Timers;

/// What the owner of a machine must do now, in this order; at most three things, none on the heap.
pub type Actions<A> = SmallVec<[A; 3]>;

/// What a client machine asks of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAction {
    /// Send the request: the same octets to the same address, port and transport each time (§17.1.1.2).
    Transmit,
    /// Hand this response to the proxy core.
    PassUp,
    /// Send the ACK for this final response other than 2xx: the INVITE's branch, Request-URI and Route, this
    /// response's To, the same destination (§17.1.1.3). Asked again for each repetition of the response.
    Acknowledge,
    /// Tell the core that nobody has answered (Timer B or F); for it this is a 408 (§16.9).
    TimedOut,
    /// Tell the core that the transport has failed; for it this is a 503 (§16.9). From [`ClientInvite`] it
    /// may follow a final response that the core has already: that the ACK was lost changes nothing for the
    /// core.
    TransportFailed,
    /// The request's octets serve no more: no transmission, ACK or CANCEL can follow.
    ForgetRequest,
    /// The machine has ended: remove it at once, with all that was kept for it.
    Terminated,
}

/// What a server machine asks of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerAction {
    /// Send this response and keep it as the last one.
    Transmit,
    /// Send this response and keep nothing, nor the one kept before: no repetition follows from here.
    TransmitOnce,
    /// Send the last response again.
    Retransmit,
    /// Generate a 100 (Trying) to the request (§8.2.6), send it and keep it as the last response.
    Trying,
    /// Hand this ACK to the core: the peer's branch, or its lack of one, made it look like part of this
    /// transaction, yet it acknowledges a 2xx (RFC 6026 §6).
    PassUp,
    /// This response of the core's must not be sent; why, says the refusal.
    Refused(Refusal),
    /// The last response serves no more: repetitions are swallowed from here.
    ForgetResponse,
    /// Tell the core that the peer has failed: it has not acknowledged (Timer H), or, for a request other
    /// than INVITE, it has stopped waiting for the final response that the core still owes.
    TimedOut,
    /// Tell the core that a response could not be sent. The machine lives on, so that repeated requests are
    /// swallowed and not taken for new ones (RFC 6026 §8.8).
    TransportFailed,
    /// The machine has ended: remove it at once, with all that was kept for it.
    Terminated,
}

/// Why a server machine does not send a response of the core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A final response went out before (§17.2.1, §17.2.2), or the machine has ended (RFC 4320 §4.2).
    AlreadyAnswered,
    /// A provisional response other than 100 to a request other than INVITE (RFC 4320 §4.1).
    ProvisionalToNonInvite,
    /// A 100 to a request other than INVITE over an unreliable transport, so early that it would slow down
    /// the recovery of a lost final response (RFC 4320 §4.1).
    TooEarly,
    /// A 408 to a request other than INVITE: it would come too late by its nature (RFC 4320 §4.2).
    TimeoutToNonInvite,
    /// No status code of §21: below 100 or above 699.
    NoStatusCode,
}

impl Refusal {
    /// The name in logs and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlreadyAnswered => "already_answered",
            Self::ProvisionalToNonInvite => "provisional_to_non_invite",
            Self::TooEarly => "trying_too_early",
            Self::TimeoutToNonInvite => "timeout_to_non_invite",
            Self::NoStatusCode => "no_status_code",
        }
    }
}

/// The earlier of two deadlines, either of which may be unset.
fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Whether a deadline is set and has come.
fn is_due(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|at| at <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_takes_at_most_64_octets_and_its_actions_no_heap() {
        assert!(size_of::<ClientInvite>() <= 64);
        assert!(size_of::<ClientNonInvite>() <= 64);
        assert!(size_of::<ServerInvite>() <= 64);
        assert!(size_of::<ServerNonInvite>() <= 64);
        assert!(size_of::<Actions<ClientAction>>() <= 24);
        assert!(size_of::<Actions<ServerAction>>() <= 24);
    }

    #[test]
    fn the_earlier_of_two_deadlines_counts_and_an_unset_one_does_not() {
        let soon = Instant::now();
        let late = soon + std::time::Duration::from_secs(1);
        assert_eq!(earliest(Some(late), Some(soon)), Some(soon));
        assert_eq!(earliest(None, Some(late)), Some(late));
        assert_eq!(earliest(Some(late), None), Some(late));
        assert_eq!(earliest(None, None), None);
        assert!(is_due(Some(soon), soon) && !is_due(Some(late), soon) && !is_due(None, late));
    }

    #[test]
    fn refusals_have_names_of_their_own() {
        let refusals = [
            Refusal::AlreadyAnswered,
            Refusal::ProvisionalToNonInvite,
            Refusal::TooEarly,
            Refusal::TimeoutToNonInvite,
            Refusal::NoStatusCode,
        ];
        let names: std::collections::BTreeSet<_> = refusals.iter().map(|refusal| refusal.name()).collect();
        assert_eq!(names.len(), refusals.len());
    }
}
