//! What goes to the Journal, and when.
//!
//! Where the disk need not be waited for, answers wait for nobody. Otherwise a commit costs as much as twenty REGISTERs:
//! one that comes alone is kept at once; where they come in numbers, the first of them waits for the others.

use std::time::{Duration, Instant};

use crate::config::Durability;
use crate::protocol::location::Answer;

/// At least this much lies between two commits: what one costs is shared by all that has changed meanwhile.
const COMMIT_INTERVAL: Duration = Duration::from_millis(2);

/// Where REGISTERs come in numbers, the first of a commit waits this long for the others.
const GATHERING_TIME: Duration = Duration::from_millis(4);

/// So many answers that were handed over together are a sign of that, for a while.
const NUMBERS: usize = 4;
const WHILE: Duration = Duration::from_millis(100);

/// With so many the first waits no longer than for [`COMMIT_INTERVAL`].
const ENOUGH: usize = 32;

/// How much later the first of them goes where no other comes to say that it is time: a timer that fires often costs
/// more than what it is for.
const SLACK: Duration = Duration::from_millis(8);

/// How long changes that no answer waits for may wait themselves.
const LEISURE: Duration = Duration::from_secs(1);

/// What goes to the Journal with what has changed.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// For each Router by its index.
    answers: Vec<Vec<Answer>>,
    /// How many there are.
    waiting: usize,
    /// When all this is to go.
    due: Option<Instant>,
    /// When there was something before.
    handed_over: Option<Instant>,
    /// Whether REGISTERs come in numbers.
    is_busy: bool,
}

/// When what has changed goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// At once.
    Now,
    /// With the next change if that comes late enough, at this time without one.
    By(Instant),
}

impl Outbox {
    /// Adds an answer that depends on what has changed.
    pub(super) fn push(&mut self, router: usize, answer: Answer) {
        self.answers.resize_with(self.answers.len().max(router + 1), Vec::new);
        self.answers[router].push(answer);
        self.waiting += 1;
    }

    /// Something has changed, which is kept as `durability` has it.
    pub(super) fn changed(&mut self, now: Instant, durability: Durability) -> Departure {
        let gathers = self.waiting < ENOUGH && self.is_busy;
        let (wish, slack) = match self.handed_over {
            _ if self.waiting == 0 => (now + LEISURE, Duration::ZERO),
            _ if durability == Durability::Process => (now, Duration::ZERO),
            Some(last) if gathers && now < last + WHILE => (now + GATHERING_TIME, SLACK),
            Some(last) => (now.max(last + COMMIT_INTERVAL), Duration::ZERO),
            None => (now, Duration::ZERO),
        };
        let due = self.due.map_or(wish, |earlier| earlier.min(wish));
        if due <= now {
            return Departure::Now;
        }
        self.due = Some(due);
        Departure::By(due + slack)
    }

    /// All of it is handed over.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Vec<Answer>> {
        let is_busy = self.waiting >= NUMBERS;
        std::mem::replace(self, Self { handed_over: Some(now), is_busy, ..Self::default() }).answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::location::{ContextId, Verdict};

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// As many REGISTERs as that.
    fn register(outbox: &mut Outbox, now: Instant, count: usize) -> Departure {
        for _ in 0..count {
            let context = ContextId { slot: 0, generation: 0 };
            outbox.push(0, Answer { context, verdict: Verdict::Admitted });
        }
        outbox.changed(now, Durability::Disk)
    }

    /// One after which REGISTERs come in numbers.
    fn busy(now: Instant) -> Outbox {
        let mut outbox = Outbox::default();
        register(&mut outbox, now, NUMBERS);
        outbox.take(now);
        outbox
    }

    #[test]
    fn where_the_disk_is_not_waited_for_each_goes_at_once() {
        let now = Instant::now();
        let mut outbox = busy(now);
        assert_eq!(outbox.changed(now, Durability::Process), Departure::By(now + LEISURE), "nobody waits");
        outbox.push(0, Answer { context: ContextId { slot: 0, generation: 0 }, verdict: Verdict::Admitted });
        assert_eq!(outbox.changed(now, Durability::Process), Departure::Now);
    }

    #[test]
    fn one_that_comes_alone_goes_at_once_and_the_next_not_within_the_interval() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        assert_eq!(register(&mut outbox, now, 1), Departure::Now);
        assert_eq!(outbox.take(now)[0].len(), 1);
        let soon = now + ms(1);
        assert_eq!(register(&mut outbox, soon, 1), Departure::By(now + COMMIT_INTERVAL));
        assert_eq!(register(&mut outbox, now + COMMIT_INTERVAL, 1), Departure::Now);
        assert_eq!(outbox.take(now + COMMIT_INTERVAL)[0].len(), 2);
        assert_eq!(register(&mut outbox, now + ms(100), 1), Departure::Now);
    }

    #[test]
    fn where_they_come_in_numbers_the_first_waits_for_the_others() {
        let now = Instant::now();
        let mut outbox = busy(now);
        let first = now + ms(3);
        assert_eq!(register(&mut outbox, first, 1), Departure::By(first + GATHERING_TIME + SLACK));
        let others = first + ms(1);
        let Departure::By(_) = register(&mut outbox, others, 1) else { panic!("they wait as well") };
        let late = first + GATHERING_TIME;
        assert_eq!(register(&mut outbox, late, 1), Departure::Now, "the first has waited long enough");
        assert_eq!(outbox.take(late)[0].len(), 3);
        // Three are not many.
        assert_eq!(register(&mut outbox, late + COMMIT_INTERVAL, 1), Departure::Now);
    }

    #[test]
    fn one_that_comes_alone_after_many_does_not_wait() {
        let now = Instant::now();
        assert_ne!(register(&mut busy(now), now + WHILE - ms(1), 1), Departure::Now);
        assert_eq!(register(&mut busy(now), now + WHILE, 1), Departure::Now);
    }

    #[test]
    fn enough_of_them_wait_for_nothing_but_the_interval() {
        let now = Instant::now();
        let mut outbox = busy(now);
        let soon = now + ms(1);
        assert_eq!(register(&mut outbox, soon, ENOUGH), Departure::By(now + COMMIT_INTERVAL));
        let mut outbox = busy(now);
        let Departure::By(_) = register(&mut outbox, now + COMMIT_INTERVAL, ENOUGH - 1) else {
            panic!("one is missing")
        };
        assert_eq!(register(&mut outbox, now + COMMIT_INTERVAL, 1), Departure::Now);
    }

    #[test]
    fn what_nobody_waits_for_has_time_unless_an_answer_comes() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        assert_eq!(outbox.changed(now, Durability::Disk), Departure::By(now + LEISURE));
        assert_eq!(outbox.changed(now + ms(10), Durability::Disk), Departure::By(now + LEISURE));
        assert_eq!(outbox.changed(now + LEISURE, Durability::Disk), Departure::Now);
        let mut outbox = busy(now);
        assert_eq!(outbox.changed(now, Durability::Disk), Departure::By(now + LEISURE));
        let soon = now + ms(1);
        assert_eq!(register(&mut outbox, soon, 1), Departure::By(soon + GATHERING_TIME + SLACK));
        assert_eq!(outbox.changed(soon + GATHERING_TIME, Durability::Disk), Departure::Now);
    }

    #[test]
    fn each_router_gets_its_own_answers() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        for (router, slot) in [(2, 7), (0, 8), (2, 9)] {
            let context = ContextId { slot, generation: 0 };
            outbox.push(router, Answer { context, verdict: Verdict::Admitted });
        }
        let slots = |answers: &Vec<Answer>| answers.iter().map(|answer| answer.context.slot).collect();
        let taken: Vec<Vec<u32>> = outbox.take(now).iter().map(slots).collect();
        assert_eq!(taken, [vec![8], vec![], vec![7, 9]]);
        assert!(outbox.take(now).is_empty());
    }
}
