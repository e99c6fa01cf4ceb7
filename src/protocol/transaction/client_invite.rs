//! INVITE client transaction (RFC 3261 §17.1.1, amended by RFC 6026 §7.2).
//!
//! Once a provisional response is here the machine waits without end: Timer C, which limits that, is the
//! response context's (§16.6 step 11).

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
            // A provisional response that was overtaken, a refusal after a 2xx, a 2xx after a refusal: figure
            // 5 has no arrow for them, and the core has decided already.
            _ => Actions::new(),
        }
    }

    /// The transport has failed to send the INVITE or the ACK (§17.1.4).
    ///
    /// In Proceeding and Accepted nothing of this machine's is under way: the next hop has the INVITE and may
    /// answer over another connection (§18.2.2), so the machine waits on.
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

#[cfg(test)]
mod tests {
    use super::super::table::{Event, Kind, Machine, Row, TCP, UDP, check, run_out};
    use super::ClientAction::{
        Acknowledge, ForgetRequest, PassUp, Terminated, TimedOut, Transmit, TransportFailed,
    };
    use super::*;

    impl Machine for ClientInvite {
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

    const RINGING: &[(u64, Event)] = &[(100, Event::Response(180))];
    const ANSWERED: &[(u64, Event)] = &[(100, Event::Response(180)), (200, Event::Response(200))];
    const REFUSED: &[(u64, Event)] = &[(200, Event::Response(486))];
    const TIMED_OUT: &[(u64, Event)] = &[(32_000, Event::Timeout)];

    #[test]
    fn every_event_in_every_state() {
        use Event::{Response, Timeout, TransportFailure};
        let rows: &[Row<ClientInvite>] = &[
            // Calling
            (UDP, &[], 100, Response(100), &[PassUp], None, State::Proceeding),
            (UDP, &[], 100, Response(199), &[PassUp], None, State::Proceeding),
            (UDP, &[], 100, Response(200), &[PassUp, ForgetRequest], Some(32_100), State::Accepted),
            (UDP, &[], 100, Response(299), &[PassUp, ForgetRequest], Some(32_100), State::Accepted),
            (UDP, &[], 100, Response(300), &[Acknowledge, PassUp], Some(32_100), State::Completed),
            (UDP, &[], 100, Response(699), &[Acknowledge, PassUp], Some(32_100), State::Completed),
            (TCP, &[], 100, Response(486), &[Acknowledge, PassUp, Terminated], None, State::Terminated),
            (TCP, &[], 100, Response(200), &[PassUp, ForgetRequest], Some(32_100), State::Accepted),
            (UDP, &[], 100, Response(99), &[], Some(500), State::Calling),
            (UDP, &[], 100, Response(700), &[], Some(500), State::Calling),
            (UDP, &[], 100, TransportFailure, &[TransportFailed, Terminated], None, State::Terminated),
            (UDP, &[], 499, Timeout, &[], Some(500), State::Calling),
            (UDP, &[], 500, Timeout, &[Transmit], Some(1500), State::Calling),
            (UDP, &[(500, Timeout)], 1500, Timeout, &[Transmit], Some(3500), State::Calling),
            (UDP, &[], 510, Timeout, &[Transmit], Some(1500), State::Calling),
            (UDP, &[], 20_000, Timeout, &[Transmit], Some(21_000), State::Calling),
            (UDP, &[], 32_000, Timeout, &[TimedOut, Terminated], None, State::Terminated),
            (TCP, &[], 31_999, Timeout, &[], Some(32_000), State::Calling),
            (TCP, &[], 32_000, Timeout, &[TimedOut, Terminated], None, State::Terminated),
            // Proceeding
            (UDP, RINGING, 200, Response(183), &[PassUp], None, State::Proceeding),
            (UDP, RINGING, 200, Response(200), &[PassUp, ForgetRequest], Some(32_200), State::Accepted),
            (UDP, RINGING, 200, Response(404), &[Acknowledge, PassUp], Some(32_200), State::Completed),
            (TCP, RINGING, 200, Response(404), &[Acknowledge, PassUp, Terminated], None, State::Terminated),
            (UDP, RINGING, 200, Response(0), &[], None, State::Proceeding),
            (TCP, RINGING, 200, TransportFailure, &[], None, State::Proceeding),
            (UDP, RINGING, 86_400_000, Timeout, &[], None, State::Proceeding),
            // Completed
            (UDP, REFUSED, 300, Response(180), &[], Some(32_200), State::Completed),
            (UDP, REFUSED, 300, Response(200), &[], Some(32_200), State::Completed),
            (UDP, REFUSED, 300, Response(486), &[Acknowledge], Some(32_200), State::Completed),
            (UDP, REFUSED, 300, Response(700), &[], Some(32_200), State::Completed),
            (UDP, REFUSED, 300, TransportFailure, &[TransportFailed, Terminated], None, State::Terminated),
            (UDP, REFUSED, 32_199, Timeout, &[], Some(32_200), State::Completed),
            (UDP, REFUSED, 32_200, Timeout, &[Terminated], None, State::Terminated),
            // Accepted
            (UDP, ANSWERED, 300, Response(180), &[], Some(32_200), State::Accepted),
            (UDP, ANSWERED, 300, Response(200), &[PassUp], Some(32_200), State::Accepted),
            (TCP, ANSWERED, 300, Response(202), &[PassUp], Some(32_200), State::Accepted),
            (UDP, ANSWERED, 300, Response(486), &[], Some(32_200), State::Accepted),
            (UDP, ANSWERED, 300, Response(700), &[], Some(32_200), State::Accepted),
            (UDP, ANSWERED, 300, TransportFailure, &[], Some(32_200), State::Accepted),
            (UDP, ANSWERED, 32_199, Timeout, &[], Some(32_200), State::Accepted),
            (TCP, ANSWERED, 32_200, Timeout, &[Terminated], None, State::Terminated),
            // Terminated
            (UDP, TIMED_OUT, 32_100, Response(180), &[], None, State::Terminated),
            (UDP, TIMED_OUT, 32_100, Response(200), &[], None, State::Terminated),
            (UDP, TIMED_OUT, 32_100, Response(486), &[], None, State::Terminated),
            (UDP, TIMED_OUT, 32_100, Response(99), &[], None, State::Terminated),
            (UDP, TIMED_OUT, 32_100, TransportFailure, &[], None, State::Terminated),
            (UDP, TIMED_OUT, 99_000, Timeout, &[], None, State::Terminated),
        ];
        check::<ClientInvite>(
            rows,
            &[State::Calling, State::Proceeding, State::Completed, State::Accepted, State::Terminated],
        );
    }

    #[test]
    fn it_begins_with_a_transmission_and_timers_a_and_b() {
        let (now, timers) = (Instant::now(), Timers::default());
        for (reliable, first) in [(UDP, timers.t1()), (TCP, timers.b())] {
            let (machine, actions) = ClientInvite::start(now, &timers, reliable);
            assert_eq!(actions.as_slice(), [Transmit]);
            assert_eq!((machine.next_timeout(), machine.state()), (Some(now + first), State::Calling));
        }
    }

    #[test]
    fn unanswered_invite_is_sent_seven_times_over_udp_and_once_over_tcp() {
        let repeated = [500, 1500, 3500, 7500, 15_500, 31_500].map(|at| (at, vec![Transmit]));
        let end = (32_000, vec![TimedOut, Terminated]);
        assert_eq!(run_out::<ClientInvite>(UDP, &[]), [&repeated[..], std::slice::from_ref(&end)].concat());
        assert_eq!(run_out::<ClientInvite>(TCP, &[]), [end]);
    }

    #[test]
    fn only_a_ringing_call_can_be_cancelled() {
        let (now, timers) = (Instant::now(), Timers::default());
        let (mut machine, _) = ClientInvite::start(now, &timers, UDP);
        assert!(!machine.has_provisional());
        machine.handle_response(now, &timers, 100);
        assert!(machine.has_provisional());
        machine.handle_response(now, &timers, 200);
        assert!(!machine.has_provisional());
    }
}
