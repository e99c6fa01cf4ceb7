//! INVITE server transaction (RFC 3261 §17.2.1, amended by RFC 6026 §7.1).
//!
//! Swallows repeated INVITEs so that the proxy core sees each request once, and repeats a refusal until its
//! ACK comes. How long Proceeding lasts is the response context's business (Timer C).

use std::time::{Duration, Instant};

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
    /// 2xx sent. Repeated INVITEs are swallowed until Timer L (RFC 6026 §7.1); each repeated 2xx comes from
    /// the UAS and is forwarded, not kept.
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
            State::Proceeding | State::Completed | State::Accepted => {
                smallvec![ServerAction::TransportFailed]
            }
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

    /// Whether its 2xx was passed on less than `age` ago.
    pub fn is_younger_than(&self, age: Duration, now: Instant, timers: &Timers) -> bool {
        self.state == State::Accepted && self.end.is_some_and(|end| now + timers.l() < end + age)
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

#[cfg(test)]
mod tests {
    use super::super::table::{Event, Kind, Machine, Row, TCP, UDP, check, run_out};
    use super::ServerAction::{
        ForgetResponse, PassUp, Refused, Retransmit, Terminated, TimedOut, Transmit, TransmitOnce,
        TransportFailed, Trying,
    };
    use super::*;

    impl Machine for ServerInvite {
        type Action = ServerAction;
        type State = State;
        const KINDS: &'static [Kind] = &[Kind::Retransmission, Kind::Ack];

        fn begin(now: Instant, timers: &Timers, reliable: bool) -> Self {
            Self::start(now, timers, reliable)
        }

        fn apply(&mut self, now: Instant, timers: &Timers, event: Event) -> Actions<ServerAction> {
            match event {
                Event::Response(status) => self.handle_response(now, timers, status),
                Event::Retransmission => self.handle_retransmission(now, timers),
                Event::Ack => self.handle_ack(now, timers),
                Event::TransportFailure => self.handle_transport_failure(now, timers),
                Event::Timeout => self.handle_timeout(now, timers),
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

    const RINGING: &[(u64, Event)] = &[(100, Event::Response(180))];
    const REFUSED: &[(u64, Event)] = &[(100, Event::Response(180)), (200, Event::Response(486))];
    const CONFIRMED: &[(u64, Event)] = &[(200, Event::Response(486)), (300, Event::Ack)];
    const ACCEPTED: &[(u64, Event)] = &[(200, Event::Response(200))];
    const TIMED_OUT: &[(u64, Event)] = &[(200, Event::Response(486)), (32_200, Event::Timeout)];

    const ANSWERED: &[ServerAction] = &[Refused(Refusal::AlreadyAnswered)];
    const NO_STATUS: &[ServerAction] = &[Refused(Refusal::NoStatusCode)];

    #[test]
    fn every_event_before_the_final_response() {
        use Event::{Ack, Response, Retransmission, Timeout, TransportFailure};
        let rows: &[Row<ServerInvite>] = &[
            // Proceeding, nothing sent
            (UDP, &[], 100, Response(100), &[Transmit], None, State::Proceeding),
            (UDP, &[], 100, Response(199), &[Transmit], None, State::Proceeding),
            (UDP, &[], 100, Response(200), &[TransmitOnce], Some(32_100), State::Accepted),
            (TCP, &[], 100, Response(299), &[TransmitOnce], Some(32_100), State::Accepted),
            (UDP, &[], 100, Response(300), &[Transmit], Some(600), State::Completed),
            (UDP, &[], 100, Response(699), &[Transmit], Some(600), State::Completed),
            (TCP, &[], 100, Response(486), &[Transmit], Some(32_100), State::Completed),
            (UDP, &[], 100, Response(99), NO_STATUS, Some(150), State::Proceeding),
            (UDP, &[], 100, Response(700), NO_STATUS, Some(150), State::Proceeding),
            (UDP, &[], 100, Retransmission, &[], Some(150), State::Proceeding),
            (UDP, &[], 100, Ack, &[], Some(150), State::Proceeding),
            (UDP, &[], 100, TransportFailure, &[TransportFailed], Some(150), State::Proceeding),
            (UDP, &[], 149, Timeout, &[], Some(150), State::Proceeding),
            (UDP, &[], 150, Timeout, &[Trying], None, State::Proceeding),
            (TCP, &[], 150, Timeout, &[Trying], None, State::Proceeding),
            // Proceeding, a provisional response sent
            (UDP, &[(150, Timeout)], 500, Retransmission, &[Retransmit], None, State::Proceeding),
            (UDP, RINGING, 500, Retransmission, &[Retransmit], None, State::Proceeding),
            (UDP, RINGING, 500, Response(183), &[Transmit], None, State::Proceeding),
            (UDP, RINGING, 500, Response(200), &[TransmitOnce], Some(32_500), State::Accepted),
            (UDP, RINGING, 500, Response(404), &[Transmit], Some(1000), State::Completed),
            (UDP, RINGING, 500, Response(0), NO_STATUS, None, State::Proceeding),
            (UDP, RINGING, 500, Ack, &[], None, State::Proceeding),
            (TCP, RINGING, 500, TransportFailure, &[TransportFailed], None, State::Proceeding),
            (UDP, RINGING, 86_400_000, Timeout, &[], None, State::Proceeding),
        ];
        check::<ServerInvite>(rows, &[State::Proceeding]);
    }

    #[test]
    fn every_event_after_the_final_response() {
        use Event::{Ack, Response, Retransmission, Timeout, TransportFailure};
        let rows: &[Row<ServerInvite>] = &[
            // Completed
            (UDP, REFUSED, 300, Response(180), ANSWERED, Some(700), State::Completed),
            (UDP, REFUSED, 300, Response(200), ANSWERED, Some(700), State::Completed),
            (UDP, REFUSED, 300, Response(486), ANSWERED, Some(700), State::Completed),
            (UDP, REFUSED, 300, Response(700), NO_STATUS, Some(700), State::Completed),
            (UDP, REFUSED, 300, Retransmission, &[Retransmit], Some(700), State::Completed),
            (UDP, REFUSED, 300, Ack, &[ForgetResponse], Some(5300), State::Confirmed),
            (TCP, REFUSED, 300, Ack, &[Terminated], None, State::Terminated),
            (UDP, REFUSED, 300, TransportFailure, &[TransportFailed], Some(700), State::Completed),
            (UDP, REFUSED, 699, Timeout, &[], Some(700), State::Completed),
            (UDP, REFUSED, 700, Timeout, &[Retransmit], Some(1700), State::Completed),
            (UDP, REFUSED, 20_000, Timeout, &[Retransmit], Some(21_000), State::Completed),
            (UDP, REFUSED, 32_200, Timeout, &[TimedOut, Terminated], None, State::Terminated),
            (TCP, REFUSED, 32_199, Timeout, &[], Some(32_200), State::Completed),
            (TCP, REFUSED, 32_200, Timeout, &[TimedOut, Terminated], None, State::Terminated),
            // Confirmed
            (UDP, CONFIRMED, 400, Response(180), ANSWERED, Some(5300), State::Confirmed),
            (UDP, CONFIRMED, 400, Response(200), ANSWERED, Some(5300), State::Confirmed),
            (UDP, CONFIRMED, 400, Response(500), ANSWERED, Some(5300), State::Confirmed),
            (UDP, CONFIRMED, 400, Response(99), NO_STATUS, Some(5300), State::Confirmed),
            (UDP, CONFIRMED, 400, Retransmission, &[], Some(5300), State::Confirmed),
            (UDP, CONFIRMED, 400, Ack, &[], Some(5300), State::Confirmed),
            (UDP, CONFIRMED, 400, TransportFailure, &[], Some(5300), State::Confirmed),
            (UDP, CONFIRMED, 5299, Timeout, &[], Some(5300), State::Confirmed),
            (UDP, CONFIRMED, 5300, Timeout, &[Terminated], None, State::Terminated),
            // Accepted
            (UDP, ACCEPTED, 300, Response(180), ANSWERED, Some(32_200), State::Accepted),
            (UDP, ACCEPTED, 300, Response(200), &[TransmitOnce], Some(32_200), State::Accepted),
            (UDP, ACCEPTED, 300, Response(603), ANSWERED, Some(32_200), State::Accepted),
            (UDP, ACCEPTED, 300, Response(700), NO_STATUS, Some(32_200), State::Accepted),
            (UDP, ACCEPTED, 300, Retransmission, &[], Some(32_200), State::Accepted),
            (UDP, ACCEPTED, 300, Ack, &[PassUp], Some(32_200), State::Accepted),
            (UDP, ACCEPTED, 300, TransportFailure, &[TransportFailed], Some(32_200), State::Accepted),
            (UDP, ACCEPTED, 32_199, Timeout, &[], Some(32_200), State::Accepted),
            (TCP, ACCEPTED, 32_200, Timeout, &[Terminated], None, State::Terminated),
            // Terminated
            (UDP, TIMED_OUT, 32_300, Response(180), ANSWERED, None, State::Terminated),
            (UDP, TIMED_OUT, 32_300, Response(200), ANSWERED, None, State::Terminated),
            (UDP, TIMED_OUT, 32_300, Response(486), ANSWERED, None, State::Terminated),
            (UDP, TIMED_OUT, 32_300, Response(0), NO_STATUS, None, State::Terminated),
            (UDP, TIMED_OUT, 32_300, Retransmission, &[], None, State::Terminated),
            (UDP, TIMED_OUT, 32_300, Ack, &[], None, State::Terminated),
            (UDP, TIMED_OUT, 32_300, TransportFailure, &[], None, State::Terminated),
            (UDP, TIMED_OUT, 99_000, Timeout, &[], None, State::Terminated),
        ];
        check::<ServerInvite>(
            rows,
            &[State::Completed, State::Confirmed, State::Accepted, State::Terminated],
        );
    }

    #[test]
    fn unacknowledged_refusal_is_repeated_at_intervals_up_to_t2_over_udp_and_never_over_tcp() {
        let repeated = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        let mut expected = repeated.map(|at| (at, vec![Retransmit])).to_vec();
        expected.push((32_000, vec![TimedOut, Terminated]));
        assert_eq!(run_out::<ServerInvite>(UDP, &[(0, Event::Response(486))]), expected);
        assert_eq!(run_out::<ServerInvite>(TCP, &[(0, Event::Response(486))]), expected[10..]);
    }

    #[test]
    fn silent_core_gets_its_100_after_150_ms_once() {
        assert_eq!(run_out::<ServerInvite>(UDP, &[]), [(150, vec![Trying])]);
        assert_eq!(run_out::<ServerInvite>(UDP, RINGING), []);
    }
}
