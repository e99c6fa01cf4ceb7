//! Non-INVITE server transaction (RFC 3261 §17.2.2, amended by RFC 4320 §4).
//!
//! RFC 4320 takes the 408 away, so a core may never have a final response to give. The machine still ends: 64 × T1
//! after the request the client has given up (Timer F), any response would be stray, and the core is told.

use std::time::Instant;

use smallvec::smallvec;

use super::{Actions, Refusal, ServerAction, Timers, earliest, is_due};

/// Where a non-INVITE server transaction stands (§17.2.2 figure 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No response yet; repeated requests are swallowed.
    Trying,
    /// A 100 was sent; a repeated request gets it again.
    Proceeding,
    /// The final response was sent, and a repeated request gets it again until Timer J; or it is certain that there
    /// is none to send, and repeated requests are swallowed as long.
    Completed,
    /// Over.
    Terminated,
}

/// The machine; see the module's documentation.
#[derive(Clone, Debug)]
pub struct ServerNonInvite {
    state: State,
    reliable: bool,
    /// Whether Completed has a final response to repeat.
    responded: bool,
    /// When a 100 may be sent over unreliable transports, and must be sent over all (RFC 4320 §4.1).
    trying: Option<Instant>,
    /// Before Completed the moment at which the client gives up; in Completed Timer J.
    end: Option<Instant>,
}

impl ServerNonInvite {
    /// Begins with the request's arrival; the owner hands it to the core.
    pub fn start(now: Instant, timers: &Timers, reliable: bool) -> Self {
        Self {
            state: State::Trying,
            reliable,
            responded: false,
            trying: Some(now + timers.late_trying()),
            end: Some(now + timers.f()),
        }
    }

    /// The request has come again (§17.2.3).
    pub fn handle_retransmission(&mut self, _now: Instant, _timers: &Timers) -> Actions<ServerAction> {
        match self.state {
            State::Proceeding => smallvec![ServerAction::Retransmit],
            State::Completed if self.responded => smallvec![ServerAction::Retransmit],
            State::Trying | State::Completed | State::Terminated => Actions::new(),
        }
    }

    /// The core wants to send this response.
    ///
    /// A 408 is not sent, but tells the machine that the core has no other.
    pub fn handle_response(&mut self, now: Instant, timers: &Timers, status: u16) -> Actions<ServerAction> {
        match (self.state, status) {
            (_, ..100 | 700..) => smallvec![ServerAction::Refused(Refusal::NoStatusCode)],
            (State::Completed | State::Terminated, _) => {
                smallvec![ServerAction::Refused(Refusal::AlreadyAnswered)]
            }
            (State::Trying | State::Proceeding, 101..=199) => {
                smallvec![ServerAction::Refused(Refusal::ProvisionalToNonInvite)]
            }
            (State::Trying | State::Proceeding, 100) => self.handle_trying(now),
            (State::Trying | State::Proceeding, 408) => self.handle_no_response(timers),
            (State::Trying | State::Proceeding, 200..=699) if self.reliable => {
                self.enter(State::Terminated, None);
                smallvec![ServerAction::TransmitOnce, ServerAction::Terminated]
            }
            (State::Trying | State::Proceeding, 200..=699) => {
                self.enter(State::Completed, Some(now + timers.j()));
                self.responded = true;
                smallvec![ServerAction::Transmit]
            }
        }
    }

    /// The transport has failed to send a response, to the backups of RFC 3263 §5 too. The state stays
    /// (RFC 6026 §8.8).
    pub fn handle_transport_failure(&mut self, _now: Instant, _timers: &Timers) -> Actions<ServerAction> {
        match self.state {
            State::Proceeding | State::Completed => smallvec![ServerAction::TransportFailed],
            State::Trying | State::Terminated => Actions::new(),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, timers: &Timers) -> Actions<ServerAction> {
        if is_due(self.end, now) {
            return self.handle_end(now, timers);
        }
        if is_due(self.trying, now) {
            self.state = State::Proceeding;
            self.trying = None;
            return smallvec![ServerAction::Trying];
        }
        Actions::new()
    }

    /// When [`Self::handle_timeout`] is due; `None` after the end.
    pub fn next_timeout(&self) -> Option<Instant> {
        earliest(self.trying, self.end)
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether it has ended.
    pub fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }

    fn handle_trying(&mut self, now: Instant) -> Actions<ServerAction> {
        if !self.reliable && self.trying.is_some_and(|at| now < at) {
            return smallvec![ServerAction::Refused(Refusal::TooEarly)];
        }
        self.state = State::Proceeding;
        self.trying = None;
        smallvec![ServerAction::Transmit]
    }

    /// The core has nothing to send. Repetitions are swallowed until the client has given up and the last of them
    /// has had T4 to arrive.
    fn handle_no_response(&mut self, timers: &Timers) -> Actions<ServerAction> {
        let refused = ServerAction::Refused(Refusal::TimeoutToNonInvite);
        if self.reliable {
            self.enter(State::Terminated, None);
            smallvec![refused, ServerAction::Terminated]
        } else {
            self.enter(State::Completed, self.end.map(|gives_up| gives_up + timers.t4()));
            smallvec![refused, ServerAction::ForgetResponse]
        }
    }

    /// Timer J, or the client has given up while the core was still at work. Its last repetition may be on its way
    /// then, for up to T4.
    fn handle_end(&mut self, now: Instant, timers: &Timers) -> Actions<ServerAction> {
        let unanswered = self.state != State::Completed;
        if unanswered && !self.reliable {
            self.enter(State::Completed, Some(now + timers.t4()));
            return smallvec![ServerAction::TimedOut, ServerAction::ForgetResponse];
        }
        self.enter(State::Terminated, None);
        if unanswered {
            smallvec![ServerAction::TimedOut, ServerAction::Terminated]
        } else {
            smallvec![ServerAction::Terminated]
        }
    }

    fn enter(&mut self, state: State, end: Option<Instant>) {
        self.state = state;
        self.trying = None;
        self.end = end;
    }
}
