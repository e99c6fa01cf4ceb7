//! The timers of RFC 3261 table 4, RFC 6026 and RFC 4320 §4.1, all derived from T1, T2 and T4.

use std::time::{Duration, Instant};

/// The longest T1, T2 or T4. Nobody wants one; it keeps every multiple within what an [`Instant`] can hold.
const LONGEST: Duration = Duration::from_secs(3600);

/// The 100 to an INVITE must not take longer than 200 ms, whatever T1 is (§17.2.1): that is this, [`LONGEST_SLACK`], and
/// the tick of a timer wheel.
const LONGEST_TRYING: Duration = Duration::from_millis(160);

/// The longest that a timer may be late where it shares a wake-up with others.
const LONGEST_SLACK: Duration = Duration::from_millis(32);

/// T1, T2, T4 and what follows from them.
///
/// Passed in with each event; a machine is given the same all its life, whatever a reload changes. Every transaction has
/// a copy, so it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    t1: Micros,
    t2: Micros,
    t4: Micros,
    late_trying: Micros,
}

/// Whole microseconds, up to more than an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Micros(u32);

impl Micros {
    /// What is longer than can be held is as long as can be.
    fn of(duration: Duration) -> Self {
        Self(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX))
    }

    const fn duration(self) -> Duration {
        Duration::from_micros(self.0 as u64)
    }
}

impl Default for Timers {
    /// T1 = 500 ms, T2 = 4 s, T4 = 5 s (RFC 3261 table 4).
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(4), Duration::from_secs(5))
    }
}

impl Timers {
    /// From the estimate of the round-trip time (T1), the longest interval between two retransmissions of
    /// anything but an INVITE request (T2), and the longest life of a message in the network (T4).
    ///
    /// T1 below a millisecond is taken as a millisecond, T2 below T1 as T1, and each above an hour as an
    /// hour.
    pub fn new(t1: Duration, t2: Duration, t4: Duration) -> Self {
        let t1 = t1.clamp(Duration::from_millis(1), LONGEST);
        let t2 = t2.clamp(t1, LONGEST);
        let [t1, t2, t4, late_trying] = [t1, t2, t4.min(LONGEST), until_e_is_t2(t1, t2)].map(Micros::of);
        Self { t1, t2, t4, late_trying }
    }

    /// T1, the estimate of the round-trip time.
    pub const fn t1(&self) -> Duration {
        self.t1.duration()
    }

    /// T2, the longest interval between two retransmissions of anything but an INVITE request.
    pub const fn t2(&self) -> Duration {
        self.t2.duration()
    }

    /// T4, the longest life of a message in the network.
    pub const fn t4(&self) -> Duration {
        self.t4.duration()
    }

    /// Timer A after so many firings: T1, doubled each time without a cap (§17.1.1.2).
    pub fn a(&self, firings: u8) -> Duration {
        self.t1() * 1_u32.checked_shl(u32::from(firings)).unwrap_or(u32::MAX)
    }

    /// Timer B: how long an INVITE waits for any response, 64 × T1.
    pub fn b(&self) -> Duration {
        self.t1() * 64
    }

    /// Timer D: how long an INVITE client over an unreliable transport acknowledges repeated refusals.
    ///
    /// 64 × T1, the 32 s of §17.1.1.2 at the default T1. The RFC wants 32 s whatever T1 is, for servers whose
    /// T1 is longer; who shortens T1 has a closed network, where theirs is shortened too.
    pub fn d(&self) -> Duration {
        self.t1() * 64
    }

    /// Timer E after so many firings in Trying: T1, doubled each time up to T2 (§17.1.2.2).
    pub fn e(&self, firings: u8) -> Duration {
        self.a(firings).min(self.t2())
    }

    /// Timer F: how long a request other than INVITE waits for its final response, 64 × T1.
    pub fn f(&self) -> Duration {
        self.t1() * 64
    }

    /// Timer G after so many firings: T1, doubled each time up to T2 (§17.2.1).
    pub fn g(&self, firings: u8) -> Duration {
        self.a(firings).min(self.t2())
    }

    /// Timer H: how long an INVITE server waits for the ACK to a refusal, 64 × T1.
    pub fn h(&self) -> Duration {
        self.t1() * 64
    }

    /// Timer I: how long an INVITE server over an unreliable transport swallows repeated ACKs, T4.
    pub fn i(&self) -> Duration {
        self.t4()
    }

    /// Timer J: how long a server over an unreliable transport repeats its final response to a request other
    /// than INVITE, 64 × T1.
    pub fn j(&self) -> Duration {
        self.t1() * 64
    }

    /// Timer K: how long a client over an unreliable transport swallows repeated responses to a request other
    /// than INVITE, T4.
    pub fn k(&self) -> Duration {
        self.t4()
    }

    /// Timer L: how long an INVITE server swallows repeated INVITEs after a 2xx, 64 × T1 (RFC 6026 §7.1).
    pub fn l(&self) -> Duration {
        self.t1() * 64
    }

    /// Timer M: how long an INVITE client passes further 2xx on, 64 × T1 (RFC 6026 §7.2).
    pub fn m(&self) -> Duration {
        self.t1() * 64
    }

    /// How long an INVITE server waits for the core's first response before it sends a 100 of its own: so that it has
    /// left within the 200 ms of §17.2.1 although timers may be late, and earlier where T1 is shorter than its default.
    pub fn trying(&self) -> Duration {
        (self.t1() * 3 / 10).min(LONGEST_TRYING)
    }

    /// How late a timer may be, so that several share one wake-up: a sixteenth of T1, at most 32 ms.
    pub fn slack(&self) -> Duration {
        (self.t1() / 16).min(LONGEST_SLACK)
    }

    /// How long a server waits before it sends a 100 to a request other than INVITE, and must send one: when
    /// the client's Timer E is set to T2 for the first time (RFC 4320 §4.1); 7 × T1 with the default T1 and
    /// T2.
    pub const fn late_trying(&self) -> Duration {
        self.late_trying.duration()
    }
}

/// How long after the first transmission Timer E is set to T2 for the first time.
fn until_e_is_t2(t1: Duration, t2: Duration) -> Duration {
    let mut interval = t1;
    let mut elapsed = Duration::ZERO;
    while interval < t2 {
        elapsed += interval;
        interval *= 2;
    }
    elapsed
}

/// The firing that follows the one that was due at `due`.
///
/// Counted from `due`, so that intervals do not grow by the timer's delay; from `now` if a stall has made
/// even the next firing late, so that retransmissions are not sent in a burst.
pub(super) fn following(due: Instant, interval: Duration, now: Instant) -> Instant {
    let next = due + interval;
    if next > now { next } else { now + interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn defaults_are_those_of_table_4() {
        let timers = Timers::default();
        let sixty_four = [timers.b(), timers.d(), timers.f(), timers.h(), timers.j(), timers.l(), timers.m()];
        assert_eq!(sixty_four, [Duration::from_secs(32); 7]);
        assert_eq!([timers.i(), timers.k()], [Duration::from_secs(5); 2]);
        assert_eq!([timers.t1(), timers.t2(), timers.t4()], [ms(500), ms(4000), ms(5000)]);
        assert_eq!((timers.trying(), timers.late_trying()), (ms(150), ms(3500)));
    }

    #[test]
    fn a_doubles_without_a_cap_and_e_and_g_stop_at_t2() {
        let timers = Timers::default();
        let first_five = |timer: &dyn Fn(u8) -> Duration| (0..5).map(timer).collect::<Vec<_>>();
        assert_eq!(first_five(&|n| timers.a(n)), [ms(500), ms(1000), ms(2000), ms(4000), ms(8000)]);
        for capped in [first_five(&|n| timers.e(n)), first_five(&|n| timers.g(n))] {
            assert_eq!(capped, [ms(500), ms(1000), ms(2000), ms(4000), ms(4000)]);
        }
        assert_eq!(timers.e(u8::MAX), timers.t2());
        assert!(timers.a(u8::MAX) > timers.b());
    }

    #[test]
    fn all_scale_with_t1() {
        let scaled = Timers::new(ms(50), ms(400), ms(500));
        assert_eq!((scaled.late_trying(), scaled.b()), (ms(350), ms(3200)));
        assert_eq!((scaled.trying(), scaled.slack()), (ms(15), Duration::from_micros(3125)));
    }

    #[test]
    fn the_100_to_an_invite_is_no_later_than_the_rfc_wants_it() {
        // The proxy's timers are told apart by that.
        let tick = Duration::from_nanos(1 << 22);
        for t1 in [1, 50, 500, 512, 5000, 60_000] {
            let timers = Timers::new(ms(t1), ms(60_000), ms(0));
            let latest = timers.trying() + timers.slack() + tick;
            assert!(latest <= ms(200) && latest <= ms(t1) * 2 / 5 + tick, "{t1}: {latest:?}");
            assert!(timers.slack() <= ms(t1) / 16 && timers.slack() <= ms(32), "{t1}");
        }
    }

    #[test]
    fn late_trying_follows_timer_e_also_where_t2_is_no_power_of_two_times_t1() {
        for (t1, t2, expected) in [(500, 3000, 3500), (500, 500, 0), (500, 501, 500), (1000, 100, 0)] {
            assert_eq!(Timers::new(ms(t1), ms(t2), ms(0)).late_trying(), ms(expected), "{t1} {t2}");
        }
    }

    #[test]
    fn no_t1_at_all_is_a_millisecond() {
        let timers = Timers::new(Duration::ZERO, Duration::ZERO, Duration::ZERO);
        assert_eq!((timers.t1(), timers.t2(), timers.late_trying()), (ms(1), ms(1), ms(0)));
    }

    #[test]
    fn absurd_lengths_are_an_hour_and_every_deadline_can_be_held() {
        let timers = Timers::new(Duration::MAX, Duration::MAX, Duration::MAX);
        assert_eq!([timers.t1(), timers.t2(), timers.t4()], [LONGEST; 3]);
        assert!(Instant::now().checked_add(timers.a(u8::MAX)).is_some());
    }

    #[test]
    fn a_late_timer_keeps_the_schedule_and_a_stalled_one_starts_anew() {
        let due = Instant::now();
        assert_eq!(following(due, ms(100), due + ms(30)), due + ms(100));
        assert_eq!(following(due, ms(100), due + ms(100)), due + ms(200));
        assert_eq!(following(due, ms(100), due + ms(5000)), due + ms(5100));
    }
}
