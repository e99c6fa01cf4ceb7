//! INVITE client transaction (RFC 3261 §17.1.1, amended by RFC 6026 §7.2).
//!
//! Once a provisional response is here the machine waits without end: Timer C, which limits that, is the response
//! context's (§16.6 step 11).

use std::time::Instant;

use smallvec::smallvec;

use super::timers::following;
use super::{Actions, ClientAction, Timers, earliest, is_due};

/// Where an INVITE client transaction stands (RFC 6026 figure 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No response yet; Timer A repeats the INVITE over unreliable transports, Timer B ends the wait.
    Calling,
    /// A provisional response is here; a CANCEL may be sent (§9.1).
    Proceeding,
    /// Refused and acknowledged; each repeated refusal is acknowledged until Timer D.
    Completed,
    /// Accepted; each further 2xx is passed up until Timer M (RFC 6026 §7.2).
    Accepted,
    /// Over.
    Terminated,
}

/// The machine; see the module's documentation.
#[derive(Clone, Debug)]
pub struct ClientInvite {
    state: State,
    reliable: bool,
    /// How often Timer A has fired.
    firings: u8,
    /// Timer A.
    retransmission: Option<Instant>,
    /// Timer B, D or M, as the state has it.
    end: Option<Instant>,
}

impl ClientInvite {
    /// Begins with the INVITE's first transmission. `reliable`: the transport delivers or fails.
    pub fn start(now: Instant, timers: &Timers, reliable: bool) -> (Self, Actions<ClientAction>) {
        let machine = Self {
            state: State::Calling,
            reliable,
            firings: 0,
            retransmission: (!reliable).then(|| now + timers.a(0)),
            end: Some(now + timers.b()),
        };
        (machine, smallvec![ClientAction::Transmit])
    }

    /// A response that matches (§17.1.3) has come. What is no status code of §21 is ignored.
    pub fn handle_response(&mut self, now: Instant, timers: &Timers, status: u16) -> Actions<ClientAction> {
        match (self.state, status) {
            (State::Calling | State::Proceeding, 100..=199) => {
                self.enter(State::Proceeding, None);
                smallvec![ClientAction::PassUp]
            }
            (State::Calling | State::Proceeding, 200..=299) => {
                self.enter(State::Accepted, Some(now + timers.m()));
                smallvec![ClientAction::PassUp, ClientAction::ForgetRequest]
            }
            (State::Calling | State::Proceeding, 300..=699) if self.reliable => {
                self.enter(State::Terminated, None);
                smallvec![ClientAction::Acknowledge, ClientAction::PassUp, ClientAction::Terminated]
            }
            (State::Calling | State::Proceeding, 300..=699) => {
                self.enter(State::Completed, Some(now + timers.d()));
                smallvec![ClientAction::Acknowledge, ClientAction::PassUp]
            }
            (State::Completed, 300..=699) => smallvec![ClientAction::Acknowledge],
            (State::Accepted, 200..=299) => smallvec![ClientAction::PassUp],
            // A provisional response that was overtaken, a refusal after a 2xx, a 2xx after a refusal: figure 5
            // has no arrow for them, and the core has decided already.
            _ => Actions::new(),
        }
    }

    /// The transport has failed to send the INVITE or the ACK (§17.1.4).
    ///
    /// In Proceeding and Accepted nothing of this machine's is under way: the next hop has the INVITE and may answer
    /// over another connection (§18.2.2), so the machine waits on.
    pub fn handle_transport_failure(&mut self, _now: Instant, _timers: &Timers) -> Actions<ClientAction> {
        match self.state {
            State::Calling | State::Completed => {
                self.enter(State::Terminated, None);
                smallvec![ClientAction::TransportFailed, ClientAction::Terminated]
            }
            State::Proceeding | State::Accepted | State::Terminated => Actions::new(),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, timers: &Timers) -> Actions<ClientAction> {
        if is_due(self.end, now) {
            let timed_out = self.state == State::Calling;
            self.enter(State::Terminated, None);
            return if timed_out {
                smallvec![ClientAction::TimedOut, ClientAction::Terminated]
            } else {
                smallvec![ClientAction::Terminated]
            };
        }
        match self.retransmission {
            Some(due) if due <= now => {
                self.firings = self.firings.saturating_add(1);
                self.retransmission = Some(following(due, timers.a(self.firings), now));
                smallvec![ClientAction::Transmit]
            }
            _ => Actions::new(),
        }
    }

    /// When [`Self::handle_timeout`] is due; `None` while no timer runs.
    pub fn next_timeout(&self) -> Option<Instant> {
        earliest(self.retransmission, self.end)
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether a CANCEL may be sent now: a provisional response is here and no final one (§9.1).
    pub fn has_provisional(&self) -> bool {
        self.state == State::Proceeding
    }

    /// Whether it has ended.
    pub fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }

    fn enter(&mut self, state: State, end: Option<Instant>) {
        self.state = state;
        self.retransmission = None;
        self.end = end;
    }
}
