//! What a Router has carried, in numbers: plain counters of its own, which whoever wants them asks for.

use std::time::Duration;

use crate::protocol::message::Method;

use super::DropReason;

/// Which way a message goes, or a transaction: in from who sends it to us, out to whom we send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To us. Of transactions: a server transaction.
    In,
    /// From us. Of transactions: a client transaction.
    Out,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// Status codes are 100 to 699.
const STATUSES: usize = 600;

const METHODS: usize = Method::ALL.len();

/// Upper bounds of the classes of [`ResponseTimes`], in seconds: from a LAN's answer to Timer F. What takes longer, as
/// a call does that rings, has the class after the last.
pub const RESPONSE_TIME_BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 32.0];

/// How long requests of one method took from their arrival to their final response.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseTimes {
    /// How many took no longer than the bound of the same index, and longer than the one before.
    pub counts: [u64; RESPONSE_TIME_BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl ResponseTimes {
    fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let class = RESPONSE_TIME_BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[class] += 1;
        self.sum += time;
    }

    fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }
}

/// The counters of one Router, or of several together. They begin with it: one that is rebuilt begins anew.
#[derive(Clone, Debug)]
pub struct Counts {
    requests: [[u64; METHODS]; 2],
    /// By the first digit of the status.
    responses: [[u64; 7]; 2],
    /// By direction, method and status.
    transactions: Box<[u64]>,
    response_times: [ResponseTimes; METHODS],
    dropped: [u64; DropReason::ALL.len()],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            responses: Default::default(),
            transactions: vec![0; Direction::ALL.len() * METHODS * STATUSES].into(),
            response_times: Default::default(),
            dropped: Default::default(),
        }
    }
}

impl Counts {
    pub(super) const fn request(&mut self, direction: Direction, method: Method) {
        self.requests[direction as usize][method as usize] += 1;
    }

    pub(super) const fn response(&mut self, direction: Direction, status: u16) {
        let class = status as usize / 100;
        if class < 7 {
            self.responses[direction as usize][class] += 1;
        }
    }

    /// A message of our own making: its first octets tell what it is.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        match bytes.strip_prefix(b"SIP/2.0 ") {
            Some([class @ b'1'..=b'6', ..]) => self.response(Direction::Out, u16::from(class - b'0') * 100),
            Some(_) => {}
            None => {
                let end = bytes.iter().position(|&octet| octet == b' ').unwrap_or(0);
                self.request(Direction::Out, Method::parse(&bytes[..end]));
            }
        }
    }

    /// A transaction has its final response.
    pub(super) fn answered(&mut self, direction: Direction, method: Method, status: u16) {
        if let Some(count) = place(direction, method, status).and_then(|at| self.transactions.get_mut(at)) {
            *count += 1;
        }
    }

    pub(super) fn response_time(&mut self, method: Method, time: Duration) {
        self.response_times[method as usize].add(time);
    }

    pub(super) const fn dropped(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }

    /// Adds those of another Router.
    pub fn merge(&mut self, other: &Self) {
        let add = |sum: &mut u64, count: &u64| *sum += count;
        let pairs = self.requests.iter_mut().flatten().zip(other.requests.iter().flatten());
        pairs.for_each(|(sum, count)| add(sum, count));
        let pairs = self.responses.iter_mut().flatten().zip(other.responses.iter().flatten());
        pairs.for_each(|(sum, count)| add(sum, count));
        self.transactions.iter_mut().zip(&other.transactions).for_each(|(sum, count)| add(sum, count));
        self.response_times.iter_mut().zip(&other.response_times).for_each(|(sum, more)| sum.merge(more));
        self.dropped.iter_mut().zip(&other.dropped).for_each(|(sum, count)| add(sum, count));
    }

    /// How many requests of `method` have passed, repetitions included.
    pub const fn requests(&self, direction: Direction, method: Method) -> u64 {
        self.requests[direction as usize][method as usize]
    }

    /// How many responses have passed whose status begins with the digit `class`, 1 to 6.
    pub const fn responses(&self, direction: Direction, class: usize) -> u64 {
        self.responses[direction as usize][class]
    }

    /// How many transactions have ended with a final response; only the combinations that have occurred.
    pub fn transactions(&self) -> impl Iterator<Item = (Direction, Method, u16, u64)> {
        let all = Direction::ALL.into_iter().flat_map(|direction| {
            Method::ALL
                .into_iter()
                .flat_map(move |method| (100..700).map(move |status| (direction, method, status)))
        });
        all.zip(&self.transactions)
            .filter(|(_, count)| **count > 0)
            .map(|((direction, method, status), count)| (direction, method, status, *count))
    }

    /// How long requests of `method` took.
    pub const fn response_times(&self, method: Method) -> &ResponseTimes {
        &self.response_times[method as usize]
    }

    /// How many messages were dropped without an answer.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().zip(self.dropped)
    }
}

fn place(direction: Direction, method: Method, status: u16) -> Option<usize> {
    let status = usize::from(status).checked_sub(100).filter(|status| *status < STATUSES)?;
    Some((direction as usize * METHODS + method as usize) * STATUSES + status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_by_direction_method_and_status() {
        let (mut counts, mut other) = (Counts::default(), Counts::default());
        counts.request(Direction::In, Method::Message);
        other.sent(b"MESSAGE sip:bob@example.org SIP/2.0\r\n");
        other.sent(b"NEWS sip:bob@example.org SIP/2.0\r\n");
        other.sent(b"SIP/2.0 202 Accepted\r\n");
        other.sent(b"SIP/2.0 699 Odd\r\n");
        counts.answered(Direction::Out, Method::Other, 699);
        counts.answered(Direction::In, Method::Invite, 100);
        counts.answered(Direction::In, Method::Invite, 700);
        other.answered(Direction::In, Method::Invite, 100);
        other.dropped(DropReason::StrayAck);
        counts.merge(&other);
        let requests = |direction, method| counts.requests(direction, method);
        assert_eq!(requests(Direction::In, Method::Message), 1);
        assert_eq!(requests(Direction::Out, Method::Message), 1);
        assert_eq!(requests(Direction::Out, Method::Other), 1);
        assert_eq!((counts.responses(Direction::Out, 2), counts.responses(Direction::Out, 6)), (1, 1));
        assert_eq!(counts.responses(Direction::In, 2), 0);
        let transactions: Vec<_> = counts.transactions().collect();
        assert_eq!(
            transactions,
            [(Direction::In, Method::Invite, 100, 2), (Direction::Out, Method::Other, 699, 1)]
        );
        let drops: Vec<_> = counts.drops().filter(|(_, count)| *count > 0).collect();
        assert_eq!(drops, [(DropReason::StrayAck, 1)]);
    }

    #[test]
    fn a_response_time_falls_into_the_first_class_that_holds_it() {
        let mut counts = Counts::default();
        for millis in [1, 2, 32_000, 32_001] {
            counts.response_time(Method::Bye, Duration::from_millis(millis));
        }
        let times = counts.response_times(Method::Bye);
        let last = RESPONSE_TIME_BOUNDS.len();
        assert_eq!(
            (times.counts[0], times.counts[1], times.counts[last - 1], times.counts[last]),
            (1, 1, 1, 1)
        );
        assert_eq!(times.counts.iter().sum::<u64>(), 4);
        assert_eq!(times.sum, Duration::from_millis(64_004));
    }
}
