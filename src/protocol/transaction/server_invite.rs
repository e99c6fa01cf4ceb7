//! INVITE server transaction (RFC 3261 §17.2.1, amended by RFC 6026 §7.1).
//!
//! Swallows repeated INVITEs so that the proxy core sees each request once, and repeats a refusal until its ACK
//! comes. How long Proceeding lasts is the response context's business (Timer C).

use std::time::Instant;

use smallvec::smallvec;

use super::timers::following;
use super::{Actions, Refusal, ServerAction, Timers, earliest, is_due};

/// Where an INVITE server transaction stands (RFC 6026 figure 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No final response yet; a repeated INVITE gets the last provisional one.
    Proceeding,
    /// Refused; Timer G repeats the refusal over unreliable transports, Timer H ends the wait for the ACK.
    Completed,
    /// Acknowledged; repeated ACKs are swallowed until Timer I.
    Confirmed,
    /// 2xx sent. Repeated INVITEs are swallowed until Timer L (RFC 6026 §7.1); each repeated 2xx comes from the
    /// UAS and is forwarded, not kept.
    Accepted,
    /// Over.
    Terminated,
}

/// The machine; see the module's documentation.
#[derive(Clone, Debug)]
pub struct ServerInvite {
    state: State,
    reliable: bool,
    /// Whether a response was sent, so that there is a last one to repeat.
    responded: bool,
    /// How often Timer G has fired.
    firings: u8,
    /// In Proceeding the moment for a 100 of our own, in Completed Timer G.
    transmission: Option<Instant>,
    /// Timer H, I or L, as the state has it.
    end: Option<Instant>,
}

impl ServerInvite {
    /// Begins with the INVITE's arrival; the owner hands it to the core.
    pub fn start(now: Instant, timers: &Timers, reliable: bool) -> Self {
        Self {
            state: State::Proceeding,
            reliable,
            responded: false,
            firings: 0,
            transmission: Some(now + timers.trying()),
            end: None,
        }
    }

    /// The INVITE has come again (§17.2.3).
    pub fn handle_retransmission(&mut self, _now: Instant, _timers: &Timers) -> Actions<ServerAction> {
        match self.state {
            State::Proceeding if self.responded => smallvec![ServerAction::Retransmit],
            State::Completed => smallvec![ServerAction::Retransmit],
            State::Proceeding | State::Confirmed | State::Accepted | State::Terminated => Actions::new(),
        }
    }

    /// The core wants to send this response.
    pub fn handle_response(&mut self, now: Instant, timers: &Timers, status: u16) -> Actions<ServerAction> {
        match (self.state, status) {
            (_, ..100 | 700..) => smallvec![ServerAction::Refused(Refusal::NoStatusCode)],
            (State::Proceeding, 100..=199) => {
                self.responded = true;
                self.transmission = None;
                smallvec![ServerAction::Transmit]
            }
            (State::Proceeding, 200..=299) => {
                self.enter(State::Accepted, Some(now + timers.l()));
                smallvec![ServerAction::TransmitOnce]
            }
            (State::Proceeding, 300..=699) => {
                self.enter(State::Completed, Some(now + timers.h()));
                self.transmission = (!self.reliable).then(|| now + timers.g(0));
                smallvec![ServerAction::Transmit]
            }
            (State::Accepted, 200..=299) => smallvec![ServerAction::TransmitOnce],
            (State::Completed | State::Confirmed | State::Accepted | State::Terminated, 100..=699) => {
                smallvec![ServerAction::Refused(Refusal::AlreadyAnswered)]
            }
        }
    }

    /// An ACK that matches (§17.2.3) has come.
    pub fn handle_ack(&mut self, now: Instant, timers: &Timers) -> Actions<ServerAction> {
        match self.state {
            State::Completed if self.reliable => {
                self.enter(State::Terminated, None);
                smallvec![ServerAction::Terminated]
            }
            State::Completed => {
                self.enter(State::Confirmed, Some(now + timers.i()));
                smallvec![ServerAction::ForgetResponse]
            }
            State::Accepted => smallvec![ServerAction::PassUp],
            State::Proceeding | State::Confirmed | State::Terminated => Actions::new(),
        }
    }

    /// The transport has failed to send a response, to the backups of RFC 3263 §5 too. The state stays
    /// (RFC 6026 §7.1).
    pub fn handle_transport_failure(&mut self, _now: Instant, _timers: &Timers) -> Actions<ServerAction> {
        match self.state {
            State::Proceeding | State::Completed | State::Accepted => smallvec![ServerAction::TransportFailed],
            State::Confirmed | State::Terminated => Actions::new(),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, timers: &Timers) -> Actions<ServerAction> {
        if is_due(self.end, now) {
            let unacknowledged = self.state == State::Completed;
            self.enter(State::Terminated, None);
            return if unacknowledged {
                smallvec![ServerAction::TimedOut, ServerAction::Terminated]
            } else {
                smallvec![ServerAction::Terminated]
            };
        }
        match self.transmission {
            Some(due) if due <= now && self.state == State::Proceeding => {
                self.responded = true;
                self.transmission = None;
                smallvec![ServerAction::Trying]
            }
            Some(due) if due <= now => {
                self.firings = self.firings.saturating_add(1);
                self.transmission = Some(following(due, timers.g(self.firings), now));
                smallvec![ServerAction::Retransmit]
            }
            _ => Actions::new(),
        }
    }

    /// When [`Self::handle_timeout`] is due; `None` while no timer runs.
    pub fn next_timeout(&self) -> Option<Instant> {
        earliest(self.transmission, self.end)
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
        self.transmission = None;
        self.end = end;
    }
}
