//! Non-INVITE client transaction (RFC 3261 §17.1.2, with RFC 4320 and 4321 in mind).
//!
//! CANCEL is a non-INVITE transaction of its own (§9.1); ACK has none.

use std::time::Instant;

use smallvec::smallvec;

use super::timers::following;
use super::{Actions, ClientAction, Timers, earliest, is_due};

/// Where a non-INVITE client transaction stands (§17.1.2 figure 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No response yet; Timer E repeats the request over unreliable transports, Timer F ends the wait.
    Trying,
    /// A provisional response is here; the request is still repeated, every T2.
    Proceeding,
    /// The final response was passed up; its repetitions are swallowed until Timer K.
    Completed,
    /// Over.
    Terminated,
}

/// The machine; see the module's documentation.
#[derive(Clone, Debug)]
pub struct ClientNonInvite {
    state: State,
    reliable: bool,
    /// How often Timer E has fired.
    firings: u8,
    /// Timer E.
    retransmission: Option<Instant>,
    /// Timer F or K, as the state has it.
    end: Option<Instant>,
}

impl ClientNonInvite {
    /// Begins with the request's first transmission, over a reliable transport its only one.
    pub fn start(now: Instant, timers: &Timers, reliable: bool) -> (Self, Actions<ClientAction>) {
        let machine = Self {
            state: State::Trying,
            reliable,
            firings: 0,
            retransmission: (!reliable).then(|| now + timers.e(0)),
            end: Some(now + timers.f()),
        };
        let actions = if reliable {
            smallvec![ClientAction::Transmit, ClientAction::ForgetRequest]
        } else {
            smallvec![ClientAction::Transmit]
        };
        (machine, actions)
    }

    /// A response that matches (§17.1.3) has come. What is no status code of §21 is ignored.
    pub fn handle_response(&mut self, now: Instant, timers: &Timers, status: u16) -> Actions<ClientAction> {
        match (self.state, status) {
            (State::Trying | State::Proceeding, 100..=199) => {
                // Timer E runs on unaltered; only its next interval is T2 (RFC 4321 §1.2).
                self.state = State::Proceeding;
                smallvec![ClientAction::PassUp]
            }
            (State::Trying | State::Proceeding, 200..=699) if self.reliable => {
                self.enter(State::Terminated, None);
                smallvec![ClientAction::PassUp, ClientAction::Terminated]
            }
            (State::Trying | State::Proceeding, 200..=699) => {
                self.enter(State::Completed, Some(now + timers.k()));
                smallvec![ClientAction::PassUp, ClientAction::ForgetRequest]
            }
            _ => Actions::new(),
        }
    }

    /// The transport has failed to send the request (§17.1.4). With the final response here it does not matter.
    pub fn handle_transport_failure(&mut self, _now: Instant, _timers: &Timers) -> Actions<ClientAction> {
        match self.state {
            State::Trying | State::Proceeding => {
                self.enter(State::Terminated, None);
                smallvec![ClientAction::TransportFailed, ClientAction::Terminated]
            }
            State::Completed | State::Terminated => Actions::new(),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, timers: &Timers) -> Actions<ClientAction> {
        if is_due(self.end, now) {
            let timed_out = self.state != State::Completed;
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
                let interval =
                    if self.state == State::Proceeding { timers.t2() } else { timers.e(self.firings) };
                self.retransmission = Some(following(due, interval, now));
                smallvec![ClientAction::Transmit]
            }
            _ => Actions::new(),
        }
    }

    /// When [`Self::handle_timeout`] is due; `None` after the end.
    pub fn next_timeout(&self) -> Option<Instant> {
        earliest(self.retransmission, self.end)
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
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
