//! Non-INVITE server transaction (RFC 3261 §17.2.2, amended by RFC 4320 §4).
//!
//! RFC 4320 takes the 408 away, so a core may never have a final response to give. The machine still ends:
//! when 64 × T1 have passed the client has given up (Timer F), any response would be stray, and the core is
//! told.

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
    /// The final response was sent, and a repeated request gets it again until Timer J; or there is
    /// none to send, and repeated requests are swallowed until the client's last has had T4 to arrive.
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
    /// Before Completed the moment at which the client gives up; in Completed Timer J, or T4 after that
    /// moment.
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

    /// When Timer J fires, where all that is left is to repeat the final response until then.
    pub fn repeats_until(&self) -> Option<Instant> {
        self.end.filter(|_| self.state == State::Completed && self.responded)
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

    /// The core has nothing to send. Repetitions are swallowed until the client has given up and the last of
    /// them has had T4 to arrive.
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

    /// Timer J, or the client has given up while the core was still at work. Its last repetition may be on
    /// its way then, for up to T4.
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

#[cfg(test)]
mod tests {
    use super::super::table::{Event, Kind, Machine, Row, TCP, UDP, check, run_out};
    use super::ServerAction::{
        ForgetResponse, Refused, Retransmit, Terminated, TimedOut, Transmit, TransmitOnce, TransportFailed,
        Trying,
    };
    use super::*;

    impl Machine for ServerNonInvite {
        type Action = ServerAction;
        type State = State;
        const KINDS: &'static [Kind] = &[Kind::Retransmission];

        fn begin(now: Instant, timers: &Timers, reliable: bool) -> Self {
            Self::start(now, timers, reliable)
        }

        fn apply(&mut self, now: Instant, timers: &Timers, event: Event) -> Actions<ServerAction> {
            match event {
                Event::Response(status) => self.handle_response(now, timers, status),
                Event::Retransmission => self.handle_retransmission(now, timers),
                Event::TransportFailure => self.handle_transport_failure(now, timers),
                Event::Timeout => self.handle_timeout(now, timers),
                Event::Ack => panic!("no event of this machine"),
            }
        }

        fn deadline(&self) -> Option<Instant> {
            self.next_timeout()
        }

        fn stands(&self) -> State {
            self.state()
        }

        fn has_ended(&self) -> bool {
            self.is_terminated()
        }
    }

    const TRIED: &[(u64, Event)] = &[(3500, Event::Timeout)];
    const ANSWERED: &[(u64, Event)] = &[(100, Event::Response(200))];
    const SILENT: &[(u64, Event)] = &[(100, Event::Response(408))];
    const GIVEN_UP: &[(u64, Event)] = &[(3500, Event::Timeout), (32_000, Event::Timeout)];
    const ENDED: &[(u64, Event)] = &[(100, Event::Response(200)), (32_100, Event::Timeout)];

    const ALREADY: &[ServerAction] = &[Refused(Refusal::AlreadyAnswered)];
    const NO_STATUS: &[ServerAction] = &[Refused(Refusal::NoStatusCode)];
    const PROVISIONAL: &[ServerAction] = &[Refused(Refusal::ProvisionalToNonInvite)];
    const NEVER: &[ServerAction] = &[Refused(Refusal::TimeoutToNonInvite), ForgetResponse];
    const NEVER_OVER_TCP: &[ServerAction] = &[Refused(Refusal::TimeoutToNonInvite), Terminated];

    #[test]
    fn every_event_before_the_final_response() {
        use Event::{Response, Retransmission, Timeout, TransportFailure};
        let rows: &[Row<ServerNonInvite>] = &[
            // Trying
            (UDP, &[], 100, Response(100), &[Refused(Refusal::TooEarly)], Some(3500), State::Trying),
            (UDP, &[], 3500, Response(100), &[Transmit], Some(32_000), State::Proceeding),
            (TCP, &[], 100, Response(100), &[Transmit], Some(32_000), State::Proceeding),
            (UDP, &[], 100, Response(101), PROVISIONAL, Some(3500), State::Trying),
            (TCP, &[], 9000, Response(199), PROVISIONAL, Some(3500), State::Trying),
            (UDP, &[], 100, Response(200), &[Transmit], Some(32_100), State::Completed),
            (UDP, &[], 100, Response(699), &[Transmit], Some(32_100), State::Completed),
            (TCP, &[], 100, Response(200), &[TransmitOnce, Terminated], None, State::Terminated),
            (UDP, &[], 100, Response(408), NEVER, Some(37_000), State::Completed),
            (TCP, &[], 100, Response(408), NEVER_OVER_TCP, None, State::Terminated),
            (UDP, &[], 100, Response(99), NO_STATUS, Some(3500), State::Trying),
            (UDP, &[], 100, Response(700), NO_STATUS, Some(3500), State::Trying),
            (UDP, &[], 500, Retransmission, &[], Some(3500), State::Trying),
            (UDP, &[], 500, TransportFailure, &[], Some(3500), State::Trying),
            (UDP, &[], 3499, Timeout, &[], Some(3500), State::Trying),
            (UDP, &[], 3500, Timeout, &[Trying], Some(32_000), State::Proceeding),
            (TCP, &[], 3500, Timeout, &[Trying], Some(32_000), State::Proceeding),
            (UDP, &[], 32_000, Timeout, &[TimedOut, ForgetResponse], Some(37_000), State::Completed),
            // Proceeding
            (UDP, TRIED, 4000, Response(100), &[Transmit], Some(32_000), State::Proceeding),
            (TCP, TRIED, 4000, Response(180), PROVISIONAL, Some(32_000), State::Proceeding),
            (UDP, TRIED, 4000, Response(202), &[Transmit], Some(36_000), State::Completed),
            (UDP, TRIED, 4000, Response(404), &[Transmit], Some(36_000), State::Completed),
            (TCP, TRIED, 4000, Response(404), &[TransmitOnce, Terminated], None, State::Terminated),
            (UDP, TRIED, 4000, Response(408), NEVER, Some(37_000), State::Completed),
            (TCP, TRIED, 4000, Response(408), NEVER_OVER_TCP, None, State::Terminated),
            (UDP, TRIED, 4000, Response(0), NO_STATUS, Some(32_000), State::Proceeding),
            (UDP, TRIED, 7500, Retransmission, &[Retransmit], Some(32_000), State::Proceeding),
            (UDP, TRIED, 4000, TransportFailure, &[TransportFailed], Some(32_000), State::Proceeding),
            (UDP, TRIED, 31_999, Timeout, &[], Some(32_000), State::Proceeding),
            (UDP, TRIED, 32_000, Timeout, &[TimedOut, ForgetResponse], Some(37_000), State::Completed),
            (TCP, TRIED, 32_000, Timeout, &[TimedOut, Terminated], None, State::Terminated),
        ];
        check::<ServerNonInvite>(rows, &[State::Trying, State::Proceeding]);
    }

    #[test]
    fn every_event_after_the_final_response() {
        use Event::{Response, Retransmission, Timeout, TransportFailure};
        let rows: &[Row<ServerNonInvite>] = &[
            // Completed, answered
            (UDP, ANSWERED, 200, Response(100), ALREADY, Some(32_100), State::Completed),
            (UDP, ANSWERED, 200, Response(180), ALREADY, Some(32_100), State::Completed),
            (UDP, ANSWERED, 200, Response(200), ALREADY, Some(32_100), State::Completed),
            (UDP, ANSWERED, 200, Response(408), ALREADY, Some(32_100), State::Completed),
            (UDP, ANSWERED, 200, Response(700), NO_STATUS, Some(32_100), State::Completed),
            (UDP, ANSWERED, 500, Retransmission, &[Retransmit], Some(32_100), State::Completed),
            (UDP, ANSWERED, 200, TransportFailure, &[TransportFailed], Some(32_100), State::Completed),
            (UDP, ANSWERED, 32_099, Timeout, &[], Some(32_100), State::Completed),
            (UDP, ANSWERED, 32_100, Timeout, &[Terminated], None, State::Terminated),
            // Completed, nothing to answer
            (UDP, SILENT, 200, Response(200), ALREADY, Some(37_000), State::Completed),
            (UDP, SILENT, 500, Retransmission, &[], Some(37_000), State::Completed),
            (UDP, SILENT, 37_000, Timeout, &[Terminated], None, State::Terminated),
            (UDP, GIVEN_UP, 32_100, Response(200), ALREADY, Some(37_000), State::Completed),
            (UDP, GIVEN_UP, 32_100, Retransmission, &[], Some(37_000), State::Completed),
            (UDP, GIVEN_UP, 37_000, Timeout, &[Terminated], None, State::Terminated),
            // Terminated
            (UDP, ENDED, 32_200, Response(100), ALREADY, None, State::Terminated),
            (UDP, ENDED, 32_200, Response(200), ALREADY, None, State::Terminated),
            (UDP, ENDED, 32_200, Response(503), ALREADY, None, State::Terminated),
            (UDP, ENDED, 32_200, Response(99), NO_STATUS, None, State::Terminated),
            (UDP, ENDED, 32_200, Retransmission, &[], None, State::Terminated),
            (UDP, ENDED, 32_200, TransportFailure, &[], None, State::Terminated),
            (UDP, ENDED, 99_000, Timeout, &[], None, State::Terminated),
        ];
        check::<ServerNonInvite>(rows, &[State::Completed, State::Terminated]);
    }

    #[test]
    fn silent_core_gets_its_100_when_timer_e_is_t2_and_the_machine_ends_with_the_client() {
        let tried = (3500, vec![Trying]);
        let swallowing = [(32_000, vec![TimedOut, ForgetResponse]), (37_000, vec![Terminated])];
        assert_eq!(
            run_out::<ServerNonInvite>(UDP, &[]),
            [std::slice::from_ref(&tried), &swallowing[..]].concat()
        );
        assert_eq!(run_out::<ServerNonInvite>(TCP, &[]), [tried, (32_000, vec![TimedOut, Terminated])]);
    }
}
