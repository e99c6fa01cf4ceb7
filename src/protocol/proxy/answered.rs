//! Finished transactions of requests other than INVITE over UDP: until Timer J fires, whoever repeats the request gets
//! its response again (RFC 3261 §17.2.2). They are most of what a busy proxy holds, so only that is kept of them: the key,
//! who has asked, and the response.
//!
//! They end in the order in which they began, for Timer J is the same for all, so they stand one after the other in
//! chunks: none has memory or a timer of its own. After a reload that has shortened Timer J, the later ones wait for the
//! earlier.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::protocol::flow::host_of;
use crate::protocol::transaction::TransactionKey;

use super::slots::{KeyAsHash, SHARDS, give_back, shard};

/// Octets of a chunk; one with a longer answer has the length of that.
const CHUNK: usize = 1 << 16;

/// Answers begin at a multiple of this in their chunk.
const UNIT: usize = 8;

/// A place is the number of a chunk, modulo 2^19, and a unit in it.
const UNIT_BITS: u32 = (CHUNK / UNIT).ilog2();

/// How late one that has ended may be forgotten where nothing else happens.
const SLACK: Duration = Duration::from_millis(200);

/// So many are forgotten at a time, so that nobody waits while a million are.
const FORGOTTEN_AT_ONCE: usize = 128;

/// So many that have ended are forgotten for each that is added.
const FORGOTTEN_PER_ADDED: usize = 2;

/// What is kept of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// One of our own: what it has beside what it copies from its request.
    Outline(&'a [u8]),
}

/// The finished transactions of one Router.
#[derive(Debug)]
pub(super) struct Answered {
    origin: Instant,
    chunks: VecDeque<Vec<u8>>,
    /// The number of the first chunk.
    first: u32,
    /// Where in the first chunk the oldest begins.
    oldest: usize,
    length: usize,
    /// A chunk that has been emptied, to be filled again.
    spare: Vec<u8>,
    /// By the lower half of their keys, which are hashes.
    places: Vec<HashMap<u64, u32, BuildHasherDefault<KeyAsHash>>>,
}

/// What stands before each response.
#[derive(Clone, Copy)]
struct Header {
    key: TransactionKey,
    /// The host that has asked, as [`number_of`] has it.
    host: u64,
    /// Timer J, in nanoseconds since the origin.
    end: u64,
    /// Octets of the response; the highest bit says that it is an outline.
    length: u32,
}

const HEADER: usize = 16 + 8 + 8 + 4;
const IS_OUTLINE: u32 = 1 << 31;

impl Header {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.0.to_ne_bytes());
        out.extend_from_slice(&self.host.to_ne_bytes());
        out.extend_from_slice(&self.end.to_ne_bytes());
        out.extend_from_slice(&self.length.to_ne_bytes());
    }

    /// The header at `at`, and the octets of the response.
    fn read(chunk: &[u8], at: usize) -> Option<(Self, &[u8])> {
        let (key, rest) = chunk.get(at..)?.split_first_chunk()?;
        let (host, rest) = rest.split_first_chunk()?;
        let (end, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let header = Self {
            key: TransactionKey(u128::from_ne_bytes(*key)),
            host: u64::from_ne_bytes(*host),
            end: u64::from_ne_bytes(*end),
            length: u32::from_ne_bytes(*length),
        };
        Some((header, rest.get(..header.octets())?))
    }

    const fn octets(self) -> usize {
        (self.length & !IS_OUTLINE) as usize
    }

    /// All that it takes with its response.
    const fn span(self) -> usize {
        (HEADER + self.octets()).next_multiple_of(UNIT)
    }
}

impl Answered {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            chunks: VecDeque::new(),
            first: 0,
            oldest: 0,
            length: 0,
            spare: Vec::new(),
            places: (0..SHARDS).map(|_| HashMap::default()).collect(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Keeps the response to the request of `key`, which came from `host`, until `end`.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        key: TransactionKey,
        host: IpAddr,
        end: Instant,
        response: Response<'_>,
    ) {
        self.forget(now, FORGOTTEN_PER_ADDED);
        let (octets, flag) = match response {
            Response::Whole(octets) => (octets, 0),
            Response::Outline(octets) => (octets, IS_OUTLINE),
        };
        let length = u32::try_from(octets.len()).expect("a response is no longer than a datagram");
        let header = Header { key, host: number_of(host), end: self.nanos(end), length: length | flag };
        let place = self.make_room(header.span());
        if let Some(chunk) = self.chunks.back_mut() {
            let begin = chunk.len();
            header.write(chunk);
            chunk.extend_from_slice(octets);
            chunk.resize(begin + header.span(), 0);
            self.length += 1;
            self.places[shard(&key)].insert(key.0 as u64, place);
        }
    }

    /// The response to the request of `key`, for who has sent that from `host`: nothing for somebody else. `None` where
    /// there is no such request.
    pub(super) fn get(
        &self,
        now: Instant,
        key: &TransactionKey,
        host: IpAddr,
    ) -> Option<Option<Response<'_>>> {
        let place = *self.places[shard(key)].get(&(key.0 as u64))?;
        let chunk = (place >> UNIT_BITS).wrapping_sub(self.first) & (u32::MAX >> UNIT_BITS);
        let at = (place & ((1 << UNIT_BITS) - 1)) as usize * UNIT;
        let (header, octets) = Header::read(self.chunks.get(chunk as usize)?, at)?;
        if header.key != *key || header.end <= self.nanos(now) {
            return None;
        }
        let response = match header.length & IS_OUTLINE {
            0 => Response::Whole(octets),
            _ => Response::Outline(octets),
        };
        Some((header.host == number_of(host)).then_some(response))
    }

    /// When [`Self::handle_timeout`] is worth a call.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let (oldest, _) = Header::read(self.chunks.front()?, self.oldest)?;
        Some(self.origin + Duration::from_nanos(oldest.end) + SLACK)
    }

    /// Forgets those that have ended, so many at a time.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.forget(now, FORGOTTEN_AT_ONCE);
    }

    fn forget(&mut self, now: Instant, most: usize) {
        let now = self.nanos(now);
        for _ in 0..most {
            let Some(chunk) = self.chunks.front() else { return };
            let Some((header, _)) = Header::read(chunk, self.oldest).filter(|(oldest, _)| oldest.end <= now)
            else {
                return;
            };
            let place = place(self.first, self.oldest);
            let is_last = self.oldest + header.span() == chunk.len();
            self.oldest += header.span();
            self.length -= 1;
            let places = &mut self.places[shard(&header.key)];
            // Of two keys with the same lower half the later has the place.
            if places.get(&(header.key.0 as u64)) == Some(&place) {
                places.remove(&(header.key.0 as u64));
            }
            give_back(places);
            if is_last {
                self.drop_first();
            }
        }
    }

    fn drop_first(&mut self) {
        let Some(mut chunk) = self.chunks.pop_front() else { return };
        self.first = self.first.wrapping_add(1);
        self.oldest = 0;
        chunk.clear();
        self.spare = if self.chunks.is_empty() || chunk.capacity() > CHUNK { Vec::new() } else { chunk };
    }

    /// Sees to it that the last chunk has room for `span` octets. The place where they begin.
    fn make_room(&mut self, span: usize) -> u32 {
        if self.chunks.back().is_none_or(|last| last.capacity() - last.len() < span || last.len() >= CHUNK) {
            let mut chunk = std::mem::take(&mut self.spare);
            chunk.reserve_exact(CHUNK.max(span));
            self.chunks.push_back(chunk);
        }
        let last = u32::try_from(self.chunks.len() - 1).expect("limits keep chunks far below 2^32");
        place(self.first.wrapping_add(last), self.chunks.back().map_or(0, Vec::len))
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }
}

const fn place(chunk: u32, at: usize) -> u32 {
    chunk << UNIT_BITS | (at / UNIT) as u32
}

/// What [`host_of`] tells hosts apart by.
fn number_of(host: IpAddr) -> u64 {
    match host_of(host) {
        IpAddr::V4(host) => u64::from(host.to_bits()),
        IpAddr::V6(host) => (host.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::proxy::slots::SMALL;

    const J: Duration = Duration::from_secs(32);

    fn key(number: u64) -> TransactionKey {
        TransactionKey(u128::from(number) << 64 | u128::from(number))
    }

    fn host(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    /// As many octets as the number, or so.
    fn text(number: u64) -> Vec<u8> {
        number.to_string().repeat(1 + number as usize % 97).into_bytes()
    }

    #[test]
    fn whoever_has_asked_gets_the_response_until_timer_j_and_nobody_else() {
        let now = Instant::now();
        let mut answered = Answered::new(now);
        answered.insert(now, key(1), host(1), now + J, Response::Whole(b"SIP/2.0 200 OK"));
        answered.insert(now, key(2), host(1), now + J, Response::Outline(b"SIP/2.0 200 OK\r\n"));
        let (just_before, after) = (now + J - Duration::from_nanos(1), now + J);
        assert_eq!(
            answered.get(just_before, &key(1), host(1)),
            Some(Some(Response::Whole(b"SIP/2.0 200 OK")))
        );
        assert_eq!(answered.get(now, &key(2), host(1)), Some(Some(Response::Outline(b"SIP/2.0 200 OK\r\n"))));
        assert_eq!(answered.get(now, &key(1), host(2)), Some(None));
        assert_eq!(answered.get(now, &key(3), host(1)), None);
        assert_eq!(answered.get(after, &key(1), host(1)), None);
    }

    #[test]
    fn hosts_of_ipv6_are_told_apart_by_their_first_64_bits() {
        let now = Instant::now();
        let mut answered = Answered::new(now);
        let host = |text: &str| text.parse::<IpAddr>().unwrap();
        answered.insert(now, key(1), host("2001:db8::1"), now + J, Response::Whole(b"1"));
        assert_eq!(answered.get(now, &key(1), host("2001:db8::2")), Some(Some(Response::Whole(b"1"))));
        assert_eq!(answered.get(now, &key(1), host("2001:db8:0:1::1")), Some(None));
        assert_eq!(answered.get(now, &key(1), host("0.0.0.1")), Some(None));
    }

    #[test]
    fn of_two_keys_with_the_same_half_the_later_is_found() {
        let now = Instant::now();
        let mut answered = Answered::new(now);
        let (first, second) = (TransactionKey(7), TransactionKey(1 << 100 | 7));
        assert_eq!(shard(&first), shard(&second));
        answered.insert(now, first, host(1), now + J, Response::Whole(b"1"));
        answered.insert(now, second, host(1), now + J * 2, Response::Whole(b"2"));
        assert_eq!(answered.get(now, &first, host(1)), None);
        answered.handle_timeout(now + J);
        assert_eq!(answered.len(), 1);
        assert_eq!(answered.get(now, &second, host(1)), Some(Some(Response::Whole(b"2"))));
    }

    #[test]
    fn the_memory_of_a_burst_is_given_back_in_small_steps() {
        let now = Instant::now();
        let mut answered = Answered::new(now);
        for number in 0..20_000 {
            answered.insert(now, key(number), host(1), now + J, Response::Whole(&text(number)));
        }
        assert_eq!(answered.next_timeout(), Some(now + J + SLACK));
        let mut steps = 0;
        while answered.next_timeout().is_some() {
            let before = answered.len();
            answered.handle_timeout(now + J);
            assert!(before - answered.len() <= FORGOTTEN_AT_ONCE);
            steps += 1;
        }
        assert_eq!((answered.len(), steps), (0, 20_000_usize.div_ceil(FORGOTTEN_AT_ONCE)));
        assert_eq!(answered.chunks.len() + answered.spare.capacity(), 0);
        assert!(answered.places.iter().all(|places| places.capacity() <= SMALL));
    }

    #[test]
    fn those_that_are_added_make_room_for_themselves() {
        let now = Instant::now();
        let mut answered = Answered::new(now);
        for number in 0..100_000_u32 {
            let at = now + J * number / 100;
            answered.insert(at, key(u64::from(number)), host(1), at + J, Response::Whole(&[0; 400]));
            assert!(answered.len() <= 101 && answered.chunks.len() <= 2);
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map(steps in proptest::collection::vec((0..200_000_usize, 0..3_000_u64), 0..200)) {
            let (mut now, mut model) = (Instant::now(), BTreeMap::new());
            let mut answered = Answered::new(now);
            for (number, (length, pause)) in (0..).zip(steps) {
                now += Duration::from_millis(pause);
                answered.handle_timeout(now);
                let octets = vec![number as u8; if length < 70_000 { length } else { length % 500 }];
                answered.insert(now, key(number), host(1), now + J, Response::Whole(&octets));
                model.insert(number, (now + J, octets));
                model.retain(|_, (end, _)| *end > now);
                prop_assert_eq!(answered.len(), model.len());
                for (number, (_, octets)) in &model {
                    let found = answered.get(now, &key(*number), host(1));
                    prop_assert_eq!(found, Some(Some(Response::Whole(octets))));
                }
            }
        }
    }
}
