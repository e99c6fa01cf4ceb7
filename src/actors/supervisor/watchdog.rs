//! Whether what carries SIP still does: everybody on the way of a message is asked, through the mailbox that messages
//! come by.
//!
//! Who has not answered is asked no second time: the one question costs nothing while an actor is stuck, and none
//! while all are well but a few messages every few seconds. The service manager is told only while all have answered
//! (`WATCHDOG=1`), and acts when it is not told for `WATCHDOG_USEC`. Where no service manager watches, the process ends by
//! itself after [`LIMIT`].
//!
//! Rounds are counted, not time: while the machine sleeps or a debugger has stopped the process there are none, and
//! whoever could not answer meanwhile has a whole round to do so afterwards.
//!
//! Not asked are the Journal, which waits for a disk, and Stun, which carries nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use slog::{error, info};

use super::{ChildId, Supervisor};
use crate::actors::federation_resolver::FederationResolver;
use crate::actors::listener::datagram::DatagramListener;
use crate::actors::listener::stream::StreamListener;
use crate::actors::registrar::Registrar;
use crate::actors::router::Router;

/// How long somebody may be stuck, unless the service manager says.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// Rounds in that time.
const ROUNDS: i32 = 6;

/// A silence of so many rounds is worth a line.
const TOLD_AFTER: i32 = 3;

/// Rounds that a child has to begin: a Registrar may read a million registrations first.
const ROUNDS_TO_BEGIN: i32 = 6;

/// Rounds are not shorter, whatever the service manager says.
const SHORTEST_ROUND: Duration = Duration::from_millis(20);

/// Are you there? From the watchdog; answered at once, by [`Alive`].
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Pulse {
    child: ChildId,
    reply: Recipient<Alive>,
}

/// The answer to [`Pulse`].
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Alive(ChildId);

macro_rules! has_a_pulse {
    ($($actor:ty),+) => {
        $(impl Handler<Pulse> for $actor {
            type Result = ();

            fn handle(&mut self, pulse: Pulse, _: &mut Context<Self>) {
                pulse.reply.do_send(Alive(pulse.child));
            }
        })+
    };
}

has_a_pulse!(Router, Registrar, FederationResolver, DatagramListener, StreamListener);

/// Who is asked, and who owes an answer.
#[derive(Debug)]
pub(super) struct Watchdog {
    addresses: BTreeMap<ChildId, Recipient<Pulse>>,
    vigil: Vigil,
    limit: Duration,
    /// A service manager acts when it is not told.
    is_watched: bool,
    /// The end of the round that is under way.
    timer: Option<SpawnHandle>,
}

impl Watchdog {
    /// By the limit of the service manager, if there is one that watches.
    pub(super) fn new(manager: Option<Duration>) -> Self {
        let limit = manager.filter(|limit| !limit.is_zero());
        Self {
            addresses: BTreeMap::new(),
            vigil: Vigil::default(),
            limit: limit.unwrap_or(LIMIT),
            is_watched: limit.is_some(),
            timer: None,
        }
    }

    /// From now on, this child is asked.
    pub(super) fn watch(&mut self, child: ChildId, address: Recipient<Pulse>) {
        self.addresses.insert(child, address);
        self.vigil.watch(child);
    }

    /// It is gone, and its successor is not there yet.
    pub(super) fn forget(&mut self, child: ChildId) {
        self.addresses.remove(&child);
        self.vigil.forget(child);
    }

    #[cfg(test)]
    pub(super) const fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Whether all have begun.
    #[cfg(test)]
    pub(super) fn knows_all(&self) -> bool {
        self.vigil.0.values().all(|silence| silence.rounds >= 0)
    }

    fn round(&self) -> Duration {
        (self.limit / ROUNDS.unsigned_abs()).max(SHORTEST_ROUND)
    }
}

impl Supervisor {
    /// Begins a round, and from then on one after the other. The next is counted from the end of this one, however late
    /// that comes.
    pub(super) fn keep_watch(&mut self, ctx: &mut Context<Self>) {
        let timer = ctx.run_later(self.watchdog.round(), |supervisor, ctx| {
            supervisor.watchdog.timer = None;
            supervisor.look_round(ctx);
            supervisor.keep_watch(ctx);
        });
        if let Some(earlier) = self.watchdog.timer.replace(timer) {
            ctx.cancel_future(earlier);
        }
    }

    fn look_round(&mut self, ctx: &Context<Self>) {
        let Round { owing, silent, is_well, is_over } = self.watchdog.vigil.round();
        if is_well {
            self.manager.alive();
        }
        if !silent.is_empty() {
            error!(self.log, "actor_stuck"; "actor" => names(&silent),
                "seconds" => (self.watchdog.round() * TOLD_AFTER.unsigned_abs()).as_secs(),
                "remedy" => "none; the process is ended and begun anew if this lasts");
        }
        if is_over && !self.watchdog.is_watched {
            self.give_up("an actor is stuck");
        }
        for (child, address) in &self.watchdog.addresses {
            if !owing.contains(child) {
                address.do_send(Pulse { child: *child, reply: ctx.address().recipient() });
            }
        }
    }
}

impl Handler<Alive> for Supervisor {
    type Result = ();

    fn handle(&mut self, Alive(child): Alive, _: &mut Context<Self>) {
        if self.watchdog.vigil.answered(child) {
            info!(self.log, "actor_recovered"; "actor" => %child);
        }
    }
}

fn names(children: &[ChildId]) -> String {
    let names: Vec<_> = children.iter().map(ToString::to_string).collect();
    names.join(",")
}

/// For how many rounds each child has owed an answer; below 0 while it may still begin.
#[derive(Debug, Default)]
struct Vigil(BTreeMap<ChildId, Silence>);

#[derive(Clone, Copy, Debug)]
struct Silence {
    rounds: i32,
    /// It was asked, and has not answered.
    owes: bool,
}

/// What one round has shown.
#[derive(Debug, PartialEq, Eq)]
struct Round {
    /// Who owes an answer; all others are to be asked now.
    owing: Vec<ChildId>,
    /// Whose silence is to be told.
    silent: Vec<ChildId>,
    /// All have answered, but for those that may still begin.
    is_well: bool,
    /// Somebody has been stuck for too long.
    is_over: bool,
}

impl Vigil {
    fn watch(&mut self, child: ChildId) {
        self.0.insert(child, Silence { rounds: -ROUNDS_TO_BEGIN, owes: false });
    }

    fn forget(&mut self, child: ChildId) {
        self.0.remove(&child);
    }

    /// Whether its silence had been told.
    fn answered(&mut self, child: ChildId) -> bool {
        let Some(silence) = self.0.get_mut(&child) else { return false };
        let was_told = silence.rounds >= TOLD_AFTER;
        *silence = Silence { rounds: 0, owes: false };
        was_told
    }

    /// A round is over, and the next begins.
    fn round(&mut self) -> Round {
        let mut round = Round { owing: Vec::new(), silent: Vec::new(), is_well: true, is_over: false };
        for (child, silence) in &mut self.0 {
            if !std::mem::replace(&mut silence.owes, true) {
                continue;
            }
            silence.rounds = silence.rounds.saturating_add(1);
            round.owing.push(*child);
            if silence.rounds == TOLD_AFTER {
                round.silent.push(*child);
            }
            round.is_well &= silence.rounds <= 0;
            round.is_over |= silence.rounds >= ROUNDS;
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: ChildId = ChildId::Router(0);
    const OTHER: ChildId = ChildId::Registrar;

    /// Two children that have both answered once.
    fn vigil() -> Vigil {
        let mut vigil = Vigil::default();
        vigil.watch(SOME);
        vigil.watch(OTHER);
        assert_eq!(vigil.round(), Round { owing: vec![], silent: vec![], is_well: true, is_over: false });
        assert!(!vigil.answered(SOME) && !vigil.answered(OTHER));
        vigil
    }

    #[test]
    fn who_answers_each_round_is_well_for_ever() {
        let mut vigil = vigil();
        for round in 0..100 {
            assert!(vigil.round().is_well, "round {round}");
            assert!(!vigil.answered(SOME) && !vigil.answered(OTHER));
        }
    }

    #[test]
    fn who_is_silent_stops_the_feeding_at_once_is_named_once_and_is_the_end_after_the_limit() {
        let mut vigil = vigil();
        vigil.round();
        vigil.answered(OTHER);
        for round in 1..=ROUNDS {
            let expected = Round {
                owing: vec![SOME],
                silent: if round == TOLD_AFTER { vec![SOME] } else { vec![] },
                is_well: false,
                is_over: round == ROUNDS,
            };
            assert_eq!(vigil.round(), expected, "round {round}");
            vigil.answered(OTHER);
        }
        assert!(vigil.answered(SOME), "its recovery is told, too");
        assert!(vigil.round().is_well);
    }

    #[test]
    fn a_short_silence_is_nobodys_business() {
        let mut vigil = vigil();
        (0..TOLD_AFTER).for_each(|_| drop(vigil.round()));
        assert!(!vigil.answered(SOME) && !vigil.answered(OTHER));
        assert!(vigil.round().is_well);
    }

    #[test]
    fn a_child_that_begins_has_longer_and_stops_no_feeding_meanwhile() {
        let mut vigil = vigil();
        vigil.round();
        vigil.answered(OTHER);
        vigil.forget(SOME);
        assert!(vigil.round().is_well, "who is gone owes nothing");
        assert!(!vigil.answered(SOME), "an answer that comes late is no matter");
        vigil.watch(SOME);
        for round in 0..=ROUNDS_TO_BEGIN + ROUNDS {
            vigil.answered(OTHER);
            let seen = vigil.round();
            assert_eq!(seen.is_well, round <= ROUNDS_TO_BEGIN, "round {round}");
            assert_eq!(seen.is_over, round == ROUNDS_TO_BEGIN + ROUNDS, "round {round}");
        }
    }

    #[test]
    fn rounds_follow_the_service_manager_and_are_never_shorter_than_is_sensible() {
        let table = [
            (None, (5_000, false)),
            (Some(0), (5_000, false)),
            (Some(60_000), (10_000, true)),
            (Some(1), (20, true)),
        ];
        for (manager, expected) in table {
            let watchdog = Watchdog::new(manager.map(Duration::from_millis));
            assert_eq!((watchdog.round().as_millis(), watchdog.is_watched), expected, "{manager:?}");
        }
    }
}
