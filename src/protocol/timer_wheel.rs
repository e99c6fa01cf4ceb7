//! Deadlines of many transactions, of which one timer of the shell's knows the first.
//!
//! A hierarchical timing wheel: eleven levels of 64 slots, each level's slot as long as the whole level below. An
//! entry lies in the level of the highest digit (base 64) in which its tick differs from the present one, so it
//! moves down at most once per level until it is due, however far away it was. Bit masks of occupied slots make the
//! first deadline two bit scans, and a jump of the clock cost what is due, not what time has passed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bits of one digit of a tick number.
const DIGIT: u32 = 6;
/// Slots of one level.
const SLOTS: usize = 1 << DIGIT;
/// Levels that a 64-bit tick number needs.
const LEVELS: usize = u64::BITS.div_ceil(DIGIT) as usize;
/// Entries for which an emptied slot keeps its memory; a burst's memory is given back.
const KEPT: usize = 64;

/// Values with deadlines: any number, any distance, soonest first.
///
/// There is no cancellation. What is no longer due is cheaper to skip when it is popped: the owner looks whether
/// the popped value's deadline is still the one that it has in its table, and schedules it anew if it is later.
#[derive(Debug)]
pub struct TimerWheel<T> {
    origin: Instant,
    /// Nanoseconds.
    tick: u64,
    /// The tick up to which the levels have been emptied.
    elapsed: u64,
    levels: Vec<Level<T>>,
    /// Due and not popped yet, soonest first.
    expired: VecDeque<T>,
    length: usize,
}

#[derive(Debug)]
struct Level<T> {
    /// Bit n: slot n has entries.
    occupied: u64,
    slots: [Vec<Entry<T>>; SLOTS],
}

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    /// The first tick at which the deadline has passed.
    due: u64,
    value: T,
}

impl<T: Copy> TimerWheel<T> {
    /// An empty wheel that tells deadlines apart by `tick`; zero is taken as a nanosecond.
    pub fn new(now: Instant, tick: Duration) -> Self {
        let level = || Level { occupied: 0, slots: std::array::from_fn(|_| Vec::new()) };
        Self {
            origin: now,
            tick: nanoseconds(tick).max(1),
            elapsed: 0,
            levels: std::iter::repeat_with(level).take(LEVELS).collect(),
            expired: VecDeque::new(),
            length: 0,
        }
    }

    /// Lets `value` be popped once `at` has passed; at once if it has.
    pub fn schedule(&mut self, at: Instant, value: T) {
        let due = nanoseconds(at.saturating_duration_since(self.origin)).div_ceil(self.tick);
        self.length += 1;
        self.insert(Entry { due, value });
    }

    /// When [`Self::pop_expired`] is worth a call; `None` if the wheel is empty.
    ///
    /// Never later than the first deadline rounded up to the next tick. It may be earlier, at most once per level
    /// for deadlines that are more than 64 ticks away; a pop then yields nothing and brings the wheel on. In the
    /// past if something is due already.
    pub fn next_deadline(&self) -> Option<Instant> {
        let tick = if self.expired.is_empty() { self.first_slot()?.start } else { self.elapsed };
        Some(self.origin + Duration::from_nanos(tick.saturating_mul(self.tick)))
    }

    /// The next value whose deadline is not after `now`, never one too early.
    ///
    /// Sooner ticks come first; within a tick, and among those that a pause of over 64 ticks has made late, the
    /// order is none that may be relied on. Call until `None`.
    pub fn pop_expired(&mut self, now: Instant) -> Option<T> {
        if self.expired.is_empty() {
            self.advance(nanoseconds(now.saturating_duration_since(self.origin)) / self.tick);
        }
        let value = self.expired.pop_front();
        match value {
            Some(_) => self.length -= 1,
            None => self.expired.shrink_to(KEPT),
        }
        value
    }

    /// How many values wait, those included that are due.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether none waits.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn insert(&mut self, entry: Entry<T>) {
        if entry.due <= self.elapsed {
            self.expired.push_back(entry.value);
            return;
        }
        let level = (self.elapsed ^ entry.due).ilog2() / DIGIT;
        let slot = (entry.due >> (level * DIGIT)) as usize % SLOTS;
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << slot;
        level.slots[slot].push(entry);
    }

    /// The occupied slot that begins first. Entries of a level share all higher digits with the present tick and
    /// exceed it in the level's own, so a lower level's are always sooner.
    fn first_slot(&self) -> Option<FirstSlot> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        let slot = self.levels[level].occupied.trailing_zeros();
        let shift = level as u32 * DIGIT;
        let higher = u64::MAX.checked_shl(shift + DIGIT).unwrap_or(0);
        Some(FirstSlot { level, slot: slot as usize, start: self.elapsed & higher | u64::from(slot) << shift })
    }

    /// Brings the wheel to tick `now`: what is due goes to `expired`, what comes nearer to a lower level.
    fn advance(&mut self, now: u64) {
        while let Some(first) = self.first_slot().filter(|first| first.start <= now) {
            self.elapsed = first.start;
            let level = &mut self.levels[first.level];
            level.occupied &= !(1 << first.slot);
            let mut entries = std::mem::take(&mut level.slots[first.slot]);
            for entry in entries.drain(..) {
                if entry.due <= now {
                    self.expired.push_back(entry.value);
                } else {
                    self.insert(entry);
                }
            }
            entries.shrink_to(KEPT);
            self.levels[first.level].slots[first.slot] = entries;
        }
        self.elapsed = self.elapsed.max(now);
    }
}

/// An occupied slot and the tick at which it begins.
struct FirstSlot {
    level: usize,
    slot: usize,
    start: u64,
}

/// 584 years at most; what is further never comes.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
