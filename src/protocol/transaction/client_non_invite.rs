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

    /// The transport has failed to send the request (§17.1.4). With the final response here it does not
    /// matter.
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

#[cfg(test)]
mod tests {
    use super::super::table::{Event, Kind, Machine, Row, TCP, UDP, check, run_out};
    use super::ClientAction::{ForgetRequest, PassUp, Terminated, TimedOut, Transmit, TransportFailed};
    use super::*;

    impl Machine for ClientNonInvite {
        type Action = ClientAction;
        type State = State;
        const KINDS: &'static [Kind] = &[];

        fn begin(now: Instant, timers: &Timers, reliable: bool) -> Self {
            Self::start(now, timers, reliable).0
        }

        fn apply(&mut self, now: Instant, timers: &Timers, event: Event) -> Actions<ClientAction> {
            match event {
                Event::Response(status) => self.handle_response(now, timers, status),
                Event::TransportFailure => self.handle_transport_failure(now, timers),
                Event::Timeout => self.handle_timeout(now, timers),
                Event::Retransmission | Event::Ack => panic!("no event of this machine"),
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

    const TRYING: &[(u64, Event)] = &[(100, Event::Response(100))];
    const ANSWERED: &[(u64, Event)] = &[(200, Event::Response(200))];
    const TIMED_OUT: &[(u64, Event)] = &[(32_000, Event::Timeout)];

    #[test]
    fn every_event_in_every_state() {
        use Event::{Response, Timeout, TransportFailure};
        let rows: &[Row<ClientNonInvite>] = &[
            // Trying
            (UDP, &[], 100, Response(100), &[PassUp], Some(500), State::Proceeding),
            (TCP, &[], 100, Response(199), &[PassUp], Some(32_000), State::Proceeding),
            (UDP, &[], 100, Response(200), &[PassUp, ForgetRequest], Some(5100), State::Completed),
            (UDP, &[], 100, Response(699), &[PassUp, ForgetRequest], Some(5100), State::Completed),
            (TCP, &[], 100, Response(200), &[PassUp, Terminated], None, State::Terminated),
            (UDP, &[], 100, Response(99), &[], Some(500), State::Trying),
            (UDP, &[], 100, Response(700), &[], Some(500), State::Trying),
            (UDP, &[], 100, TransportFailure, &[TransportFailed, Terminated], None, State::Terminated),
            (UDP, &[], 499, Timeout, &[], Some(500), State::Trying),
            (UDP, &[], 500, Timeout, &[Transmit], Some(1500), State::Trying),
            (UDP, &[], 510, Timeout, &[Transmit], Some(1500), State::Trying),
            (UDP, &[], 20_000, Timeout, &[Transmit], Some(21_000), State::Trying),
            (UDP, &[], 32_000, Timeout, &[TimedOut, Terminated], None, State::Terminated),
            (TCP, &[], 31_999, Timeout, &[], Some(32_000), State::Trying),
            (TCP, &[], 32_000, Timeout, &[TimedOut, Terminated], None, State::Terminated),
            // Proceeding
            (UDP, TRYING, 200, Response(100), &[PassUp], Some(500), State::Proceeding),
            (UDP, TRYING, 200, Response(200), &[PassUp, ForgetRequest], Some(5200), State::Completed),
            (UDP, TRYING, 200, Response(404), &[PassUp, ForgetRequest], Some(5200), State::Completed),
            (TCP, TRYING, 200, Response(404), &[PassUp, Terminated], None, State::Terminated),
            (UDP, TRYING, 200, Response(0), &[], Some(500), State::Proceeding),
            (TCP, TRYING, 200, TransportFailure, &[TransportFailed, Terminated], None, State::Terminated),
            (UDP, TRYING, 499, Timeout, &[], Some(500), State::Proceeding),
            (UDP, TRYING, 500, Timeout, &[Transmit], Some(4500), State::Proceeding),
            (UDP, TRYING, 32_000, Timeout, &[TimedOut, Terminated], None, State::Terminated),
            // Completed
            (UDP, ANSWERED, 300, Response(100), &[], Some(5200), State::Completed),
            (UDP, ANSWERED, 300, Response(200), &[], Some(5200), State::Completed),
            (UDP, ANSWERED, 300, Response(503), &[], Some(5200), State::Completed),
            (UDP, ANSWERED, 300, Response(700), &[], Some(5200), State::Completed),
            (UDP, ANSWERED, 300, TransportFailure, &[], Some(5200), State::Completed),
            (UDP, ANSWERED, 5199, Timeout, &[], Some(5200), State::Completed),
            (UDP, ANSWERED, 5200, Timeout, &[Terminated], None, State::Terminated),
            // Terminated
            (UDP, TIMED_OUT, 32_100, Response(100), &[], None, State::Terminated),
            (UDP, TIMED_OUT, 32_100, Response(200), &[], None, State::Terminated),
            (UDP, TIMED_OUT, 32_100, Response(600), &[], None, State::Terminated),
            (UDP, TIMED_OUT, 32_100, Response(99), &[], None, State::Terminated),
            (UDP, TIMED_OUT, 32_100, TransportFailure, &[], None, State::Terminated),
            (UDP, TIMED_OUT, 99_000, Timeout, &[], None, State::Terminated),
        ];
        check::<ClientNonInvite>(
            rows,
            &[State::Trying, State::Proceeding, State::Completed, State::Terminated],
        );
    }

    #[test]
    fn it_begins_with_a_transmission_the_only_one_over_a_reliable_transport() {
        let (now, timers) = (Instant::now(), Timers::default());
        let (machine, actions) = ClientNonInvite::start(now, &timers, UDP);
        assert_eq!((actions.as_slice(), machine.next_timeout()), (&[Transmit][..], Some(now + timers.t1())));
        let (machine, actions) = ClientNonInvite::start(now, &timers, TCP);
        assert_eq!(actions.as_slice(), [Transmit, ForgetRequest]);
        assert_eq!(machine.next_timeout(), Some(now + timers.f()));
    }

    #[test]
    fn unanswered_request_is_repeated_at_doubling_intervals_up_to_t2() {
        let repeated = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        let mut expected = repeated.map(|at| (at, vec![Transmit])).to_vec();
        expected.push((32_000, vec![TimedOut, Terminated]));
        assert_eq!(run_out::<ClientNonInvite>(UDP, &[]), expected);
        assert_eq!(run_out::<ClientNonInvite>(TCP, &[]), expected[10..]);
    }

    #[test]
    fn after_a_provisional_response_the_intervals_are_t2() {
        let repeated = [500, 4500, 8500, 12_500, 16_500, 20_500, 24_500, 28_500];
        let mut expected = repeated.map(|at| (at, vec![Transmit])).to_vec();
        expected.push((32_000, vec![TimedOut, Terminated]));
        assert_eq!(run_out::<ClientNonInvite>(UDP, TRYING), expected);
    }
}
