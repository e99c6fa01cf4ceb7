//! The tables that the four machines are tested by.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use super::{Actions, Timers};

/// The two kinds of transport, for the first column.
pub(super) const UDP: bool = false;
pub(super) const TCP: bool = true;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Response(u16),
    Retransmission,
    Ack,
    TransportFailure,
    Timeout,
}

/// Events that a machine tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    NoStatusCode,
    Provisional,
    Success,
    Refusal,
    Retransmission,
    Ack,
    TransportFailure,
    Timeout,
}

impl Event {
    const fn kind(self) -> Kind {
        match self {
            Self::Response(100..=199) => Kind::Provisional,
            Self::Response(200..=299) => Kind::Success,
            Self::Response(300..=699) => Kind::Refusal,
            Self::Response(_) => Kind::NoStatusCode,
            Self::Retransmission => Kind::Retransmission,
            Self::Ack => Kind::Ack,
            Self::TransportFailure => Kind::TransportFailure,
            Self::Timeout => Kind::Timeout,
        }
    }
}

/// What every machine can meet.
const COMMON: &[Kind] = &[
    Kind::NoStatusCode,
    Kind::Provisional,
    Kind::Success,
    Kind::Refusal,
    Kind::TransportFailure,
    Kind::Timeout,
];

/// What the tables see of a machine.
pub(super) trait Machine: Sized {
    type Action: Copy + Debug + PartialEq;
    type State: Copy + Debug + PartialEq;
    /// What it can meet beside [`COMMON`].
    const KINDS: &'static [Kind];
    fn begin(now: Instant, timers: &Timers, reliable: bool) -> Self;
    fn apply(&mut self, now: Instant, timers: &Timers, event: Event) -> Actions<Self::Action>;
    fn deadline(&self) -> Option<Instant>;
    fn stands(&self) -> Self::State;
    fn has_ended(&self) -> bool;
}

/// Transport; events that lead to the row's state, each with its time; then time and event of the row, and
/// what is expected of it: actions, next deadline, state. Times are milliseconds since the start, timers the
/// defaults.
pub(super) type Row<M> = (
    bool,
    &'static [(u64, Event)],
    u64,
    Event,
    &'static [<M as Machine>::Action],
    Option<u64>,
    <M as Machine>::State,
);

/// Checks each row on a machine of its own, and that there are rows for every event in each of `states`, those
/// included for which the RFC has no arrow.
pub(super) fn check<M: Machine>(rows: &[Row<M>], states: &[M::State]) {
    let (start, timers) = (Instant::now(), Timers::default());
    let mut cells = Vec::new();
    let after = |milliseconds: u64| start + Duration::from_millis(milliseconds);
    for (index, &(reliable, before, at, event, actions, next, state)) in rows.iter().enumerate() {
        let mut machine = M::begin(start, &timers, reliable);
        for &(at, event) in before {
            machine.apply(after(at), &timers, event);
        }
        cells.push((machine.stands(), event.kind()));
        let row = format!("row {index}: reliable {reliable}, {before:?}, then at {at} {event:?}");
        assert_eq!(machine.apply(after(at), &timers, event).as_slice(), actions, "actions of {row}");
        assert_eq!(machine.deadline(), next.map(after), "next deadline of {row}");
        assert_eq!(machine.stands(), state, "state after {row}");
        assert_eq!(machine.has_ended(), format!("{state:?}") == "Terminated", "end after {row}");
    }
    for state in states {
        for kind in COMMON.iter().chain(M::KINDS) {
            assert!(cells.contains(&(*state, *kind)), "no row for {kind:?} in {state:?}");
        }
    }
}

/// Applies the events, then every timeout at its time until no timer runs; the actions with their times,
/// timeouts only.
pub(super) fn run_out<M: Machine>(reliable: bool, events: &[(u64, Event)]) -> Vec<(u64, Vec<M::Action>)> {
    let (start, timers) = (Instant::now(), Timers::default());
    let mut machine = M::begin(start, &timers, reliable);
    for &(at, event) in events {
        machine.apply(start + Duration::from_millis(at), &timers, event);
    }
    let mut fired = Vec::new();
    while let Some(due) = machine.deadline() {
        let actions = machine.apply(due, &timers, Event::Timeout);
        fired.push((u64::try_from((due - start).as_millis()).unwrap(), actions.to_vec()));
        assert!(fired.len() < 100, "the timers run in a circle: {fired:?}");
    }
    fired
}
