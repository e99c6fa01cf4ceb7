//! Deadlines of many transactions, of which one timer of the shell's knows the first.
//!
//! A timing wheel with a slot for each tick of the near future, as far as nearly all deadlines of SIP lie (64*T1 at
//! ticks of 4 ms); what is further waits in groups of ticks and is let in as their time comes near. So an entry is
//! moved once at most, no step moves more than what is due or one group, and a jump of the clock costs what is due,
//! not what time has passed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Ticks of the near future: 34 s of 4.2 ms.
const NEAR: usize = 1 << 13;
/// A group of the far future has 2 to this power ticks: a second of 4.2 ms.
const GROUP_BITS: u32 = 8;
const GROUP: u64 = 1 << GROUP_BITS;

/// Values with deadlines: any number, any distance, soonest first.
///
/// There is no cancellation. What is no longer due is cheaper to skip when it is popped: the owner looks
/// whether the popped value's deadline is still the one that it has in its table, and schedules it anew if it
/// is later.
#[derive(Debug)]
pub struct TimerWheel<T> {
    origin: Instant,
    /// A tick is 2 to this power nanoseconds, so that a shift does for a division.
    tick_bits: u32,
    /// The tick up to which everything has been taken out.
    elapsed: u64,
    /// For each of the `NEAR - 1` ticks after `elapsed` what is due at it, at the tick's number modulo [`NEAR`].
    near: Vec<Vec<T>>,
    /// Bit n: slot n of `near` has entries.
    occupied: [u64; NEAR / 64],
    /// By the number of their group, what is due later: the tick, and the value.
    far: BTreeMap<u64, Vec<(u64, T)>>,
    /// Due and not popped yet.
    expired: Vec<T>,
    length: usize,
}

impl<T: Copy> TimerWheel<T> {
    /// An empty wheel. Its tick, which tells deadlines apart, is `tick` rounded down to a power of two
    /// nanoseconds: 8.4 ms for 10 ms. Zero is taken as a nanosecond.
    pub fn new(now: Instant, tick: Duration) -> Self {
        Self {
            origin: now,
            tick_bits: nanoseconds(tick).max(1).ilog2(),
            elapsed: 0,
            near: std::iter::repeat_with(Vec::new).take(NEAR).collect(),
            occupied: [0; NEAR / 64],
            far: BTreeMap::new(),
            expired: Vec::new(),
            length: 0,
        }
    }

    /// The tick in use.
    pub const fn tick(&self) -> Duration {
        Duration::from_nanos(1 << self.tick_bits)
    }

    /// Lets `value` be popped once `at` has passed; at once if it has.
    pub fn schedule(&mut self, at: Instant, value: T) {
        let tick = (1 << self.tick_bits) - 1;
        let due =
            nanoseconds(at.saturating_duration_since(self.origin)).saturating_add(tick) >> self.tick_bits;
        self.length += 1;
        self.insert(due, value);
    }

    /// When [`Self::pop_expired`] is worth a call; `None` if the wheel is empty.
    ///
    /// Never later than the first deadline rounded up to the next tick. For deadlines that are far away it may be
    /// earlier, once; a pop then yields nothing and brings the wheel on. In the past if something is due already.
    pub fn next_deadline(&self) -> Option<Instant> {
        let tick = if self.expired.is_empty() {
            let (near, far) = (self.first_near(), self.first_far());
            near.into_iter().chain(far).min()?
        } else {
            self.elapsed
        };
        Some(self.origin + Duration::from_nanos(tick << self.tick_bits))
    }

    /// The next value whose deadline is not after `now`, never one too early.
    ///
    /// Sooner ticks come first; within a tick the order is none that may be relied on. Call until `None`.
    pub fn pop_expired(&mut self, now: Instant) -> Option<T> {
        if self.expired.is_empty() {
            self.advance(nanoseconds(now.saturating_duration_since(self.origin)) >> self.tick_bits);
        }
        let value = self.expired.pop()?;
        self.length -= 1;
        Some(value)
    }

    /// How many values wait, those included that are due.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether none waits.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn insert(&mut self, due: u64, value: T) {
        if due <= self.elapsed {
            self.expired.push(value);
        } else if due - self.elapsed < NEAR as u64 {
            let slot = slot_of(due);
            self.near[slot].push(value);
            self.occupied[slot / 64] |= 1 << (slot % 64);
        } else {
            self.far.entry(due >> GROUP_BITS).or_default().push((due, value));
        }
    }

    /// The first tick of the near future at which something is due.
    fn first_near(&self) -> Option<u64> {
        let from = slot_of(self.elapsed + 1);
        let words = self.occupied.len();
        let later = self.occupied[from / 64] & (u64::MAX << (from % 64));
        let first = std::iter::once((from / 64, later));
        // The last word is the first once more, for the slots before `from`.
        let others =
            (1..=words).map(|step| (from / 64 + step) % words).map(|word| (word, self.occupied[word]));
        let (word, bits) = first.chain(others).find(|(_, bits)| *bits != 0)?;
        let slot = word * 64 + bits.trailing_zeros() as usize;
        Some(self.elapsed + 1 + ((slot + NEAR - from) % NEAR) as u64)
    }

    /// The tick at which the first group of the far future begins.
    fn first_far(&self) -> Option<u64> {
        self.far.first_key_value().map(|(group, _)| group << GROUP_BITS)
    }

    /// Brings the wheel to tick `now`, or to the first tick before at which something is due.
    fn advance(&mut self, now: u64) {
        while self.elapsed < now {
            let near = self.first_near().filter(|&tick| tick <= now);
            let goal = near.unwrap_or(now);
            // Never past the beginning of a group that has not been let in.
            self.elapsed = self.first_far().map_or(goal, |far| goal.min(far - 1)).max(self.elapsed);
            if near == Some(self.elapsed) {
                let slot = slot_of(self.elapsed);
                self.occupied[slot / 64] &= !(1 << (slot % 64));
                self.expired = std::mem::take(&mut self.near[slot]);
            }
            self.let_in();
            if !self.expired.is_empty() {
                return;
            }
        }
    }

    /// Moves the groups that lie in the near future now as a whole.
    fn let_in(&mut self) {
        while let Some(group) = self.far.first_entry() {
            let last = (group.key() << GROUP_BITS) + (GROUP - 1);
            if last - self.elapsed >= NEAR as u64 {
                return;
            }
            group.remove().into_iter().for_each(|(due, value)| self.insert(due, value));
        }
    }
}

const fn slot_of(tick: u64) -> usize {
    tick as usize % NEAR
}

/// 584 years at most; what is further comes then.
fn nanoseconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// 8.4 ms.
    const TICK: Duration = Duration::from_nanos(1 << 23);

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn drain<T: Copy>(wheel: &mut TimerWheel<T>, now: Instant) -> Vec<T> {
        std::iter::from_fn(|| wheel.pop_expired(now)).collect()
    }

    /// Advances from deadline to deadline, as a shell does, until something is due; its time and the
    /// wake-ups.
    fn sleep_until_due<T: Copy>(wheel: &mut TimerWheel<T>) -> (Instant, usize) {
        for wakeups in 1.. {
            let now = wheel.next_deadline().expect("not empty");
            if let Some(value) = wheel.pop_expired(now) {
                wheel.schedule(now, value);
                return (now, wakeups);
            }
        }
        unreachable!("the loop has no end")
    }

    #[test]
    fn an_empty_wheel_has_no_deadline() {
        let start = Instant::now();
        let mut wheel = TimerWheel::<u32>::new(start, TICK);
        assert_eq!((wheel.next_deadline(), wheel.pop_expired(start + ms(1000))), (None, None));
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_tick_is_rounded_down_to_a_power_of_two() {
        for (asked, used) in
            [(0, 1), (1, 1), (10_000_000, 1 << 23), (1 << 23, 1 << 23), ((1 << 23) - 1, 1 << 22)]
        {
            let wheel = TimerWheel::<()>::new(Instant::now(), Duration::from_nanos(asked));
            assert_eq!(wheel.tick(), Duration::from_nanos(used), "{asked}");
        }
    }

    #[test]
    fn nothing_comes_early_and_nothing_a_tick_late() {
        let start = Instant::now();
        for ticks in [1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 10_000_000] {
            for early in [1, TICK.as_nanos() as u64 / 2, TICK.as_nanos() as u64 - 1] {
                let rounded = start + TICK * ticks;
                let mut wheel = TimerWheel::new(start, TICK);
                wheel.schedule(rounded - Duration::from_nanos(early), 'a');
                assert!(
                    drain(&mut wheel, rounded - Duration::from_nanos(early)).is_empty(),
                    "{ticks} {early}"
                );
                assert!(drain(&mut wheel, rounded - Duration::from_nanos(1)).is_empty(), "{ticks} {early}");
                assert_eq!(drain(&mut wheel, rounded), ['a'], "{ticks} {early}");
            }
        }
    }

    #[test]
    fn a_deadline_on_a_tick_is_due_at_it() {
        let start = Instant::now();
        for ticks in [0, 1, 64, 4096] {
            let mut wheel = TimerWheel::new(start, TICK);
            wheel.schedule(start + TICK * ticks, ());
            assert_eq!(drain(&mut wheel, start + TICK * ticks), [()], "{ticks}");
        }
    }

    #[test]
    fn sooner_ticks_come_first_also_after_a_jump() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start, TICK);
        let ticks = [500_000_u32, 3, 70, 4100, 64, 1, 4096, 300_000, 65];
        for tick in ticks {
            wheel.schedule(start + TICK * tick, tick);
        }
        let mut sorted = ticks;
        sorted.sort_unstable();
        assert_eq!(drain(&mut wheel, start + TICK * 1_000_000), sorted);
    }

    #[test]
    fn a_shell_that_sleeps_until_each_deadline_wakes_once_more_at_most() {
        let start = Instant::now();
        for (ticks, most) in [(1, 1), (64, 1), (8191, 1), (8192, 2), (22_054, 2), (10_299_682, 2)] {
            let mut wheel = TimerWheel::new(start, TICK);
            wheel.schedule(start + TICK * ticks, ());
            let (woken, wakeups) = sleep_until_due(&mut wheel);
            assert_eq!(woken, start + TICK * ticks);
            assert!(wakeups <= most, "{wakeups} wake-ups for {ticks} ticks");
        }
    }

    #[test]
    fn the_past_is_due_at_once() {
        let start = Instant::now() + ms(1000);
        let mut wheel = TimerWheel::new(start, TICK);
        assert!(drain(&mut wheel, start + ms(500)).is_empty());
        wheel.schedule(start + ms(300), 'b');
        wheel.schedule(start - ms(300), 'a');
        assert!(wheel.next_deadline().is_some_and(|at| at <= start + ms(500)));
        let mut due = drain(&mut wheel, start + ms(500));
        due.sort_unstable();
        assert_eq!(due, ['a', 'b']);
    }

    #[test]
    fn after_an_hours_stop_all_that_was_missed_is_due_and_the_rest_is_not() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start, TICK);
        for second in 1..=7200_u64 {
            wheel.schedule(start + Duration::from_secs(second), second);
        }
        let due = drain(&mut wheel, start + Duration::from_secs(3600) + TICK);
        assert_eq!(due, (1..=3600).collect::<Vec<_>>());
        assert_eq!(wheel.len(), 3600);
        let next = sleep_until_due(&mut wheel).0;
        assert!(next >= start + Duration::from_secs(3601) && next < start + Duration::from_secs(3601) + TICK);
    }

    #[test]
    fn a_deadline_beyond_all_measure_waits() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start, Duration::ZERO);
        wheel.schedule(start + Duration::from_secs(1_000 * 365 * 86_400), 'z');
        wheel.schedule(start + ms(5), 'a');
        assert_eq!(drain(&mut wheel, start + Duration::from_secs(86_400)), ['a']);
        assert!(wheel.next_deadline().is_some_and(|at| at > start + Duration::from_secs(86_400)));
    }

    #[test]
    fn the_memory_of_a_burst_is_given_back() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start, TICK);
        for number in 0..500_000_u64 {
            wheel.schedule(start + ms(32_000) + Duration::from_micros(number), number);
        }
        assert_eq!(wheel.len(), 500_000);
        assert_eq!(drain(&mut wheel, start + ms(60_000)).len(), 500_000);
        assert!(wheel.near.iter().all(|slot| slot.capacity() == 0) && wheel.far.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Schedule(u64),
        Advance(u64),
        ToNextDeadline,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let distance =
            prop_oneof![0..50_u64, 0..50_000_u64, 0..4_000_000_000_u64, 0..100_000_000_000_000_u64];
        let step = prop_oneof![
            4 => distance.clone().prop_map(Step::Schedule),
            2 => distance.prop_map(Step::Advance),
            3 => Just(Step::ToNextDeadline),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// The model: deadlines in order, each rounded up to a tick. Times in nanoseconds.
        #[test]
        fn it_agrees_with_a_sorted_map(steps in steps(), tick_bits in 0..25_u32) {
            let start = Instant::now();
            let at = |nanoseconds: u64| start + Duration::from_nanos(nanoseconds);
            let mut wheel = TimerWheel::new(start, Duration::from_nanos(1 << tick_bits));
            let mut model = BTreeMap::<(u64, usize), ()>::new();
            let mut now = 0_u64;
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Schedule(distance) => {
                        wheel.schedule(at(now + distance), (now + distance, number));
                        model.insert((now + distance, number), ());
                    }
                    Step::Advance(distance) => now += distance,
                    Step::ToNextDeadline => {
                        if let Some(next) = wheel.next_deadline() {
                            now = now.max(u64::try_from((next - start).as_nanos()).unwrap());
                        }
                    }
                }
                while let Some((deadline, number)) = wheel.pop_expired(at(now)) {
                    prop_assert!(deadline <= now, "{deadline} came at {now}");
                    prop_assert!(model.remove(&(deadline, number)).is_some());
                }
                prop_assert_eq!(wheel.len(), model.len());
                if let Some((&(first, _), ())) = model.first_key_value() {
                    let rounded = first.next_multiple_of(1 << tick_bits);
                    prop_assert!(rounded > now, "{first} is overdue at {now}");
                    prop_assert!(wheel.next_deadline().is_some_and(|next| next <= at(rounded)));
                } else {
                    prop_assert_eq!(wheel.next_deadline(), None);
                }
            }
        }
    }
}
