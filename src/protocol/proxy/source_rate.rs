//! How often one address may send requests before it has proven anything (`limits.requests_per_second_per_address`).
//!
//! A bucket per address: it holds one second's worth, so that short bursts pass. Bounded: when there are too many
//! addresses those whose bucket is full again are forgotten, which changes nothing for them; if that makes no room,
//! new addresses share one bucket.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::protocol::flow::host_of;

/// Addresses that have a bucket of their own.
const MAXIMUM_ADDRESSES: usize = 16_384;

/// Between two attempts to make room.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The buckets.
#[derive(Debug)]
pub(super) struct SourceRate {
    per_second: u32,
    buckets: HashMap<IpAddr, Bucket>,
    shared: Bucket,
    swept: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In requests.
    level: f64,
    updated: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, per_second: f64) -> bool {
        let grown = now.saturating_duration_since(self.updated).as_secs_f64() * per_second;
        self.level = (self.level + grown).min(per_second);
        self.updated = now;
        let has_one = self.level >= 1.0;
        if has_one {
            self.level -= 1.0;
        }
        has_one
    }
}

impl SourceRate {
    /// `per_second` requests of each address; 0 lets all pass.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let shared = Bucket { level: f64::from(per_second), updated: now };
        Self { per_second, buckets: HashMap::new(), shared, swept: now }
    }

    /// Whether a request of `address` may pass now.
    pub(super) fn may_pass(&mut self, now: Instant, address: IpAddr) -> bool {
        let address = host_of(address);
        if self.per_second == 0 {
            return true;
        }
        let per_second = f64::from(self.per_second);
        if let Some(bucket) = self.buckets.get_mut(&address) {
            return bucket.take(now, per_second);
        }
        if self.buckets.len() >= MAXIMUM_ADDRESSES
            && now.saturating_duration_since(self.swept) >= SWEEP_INTERVAL
        {
            self.swept = now;
            // After one second a bucket is full again.
            self.buckets
                .retain(|_, bucket| now.saturating_duration_since(bucket.updated) < Duration::from_secs(1));
        }
        if self.buckets.len() >= MAXIMUM_ADDRESSES {
            return self.shared.take(now, per_second);
        }
        self.buckets.insert(address, Bucket { level: per_second - 1.0, updated: now });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_does() {
        let start = Instant::now();
        let mut rate = SourceRate::new(10, start);
        let address = IpAddr::from([192, 0, 2, 1]);
        assert_eq!((0..20).filter(|_| rate.may_pass(start, address)).count(), 10);
        assert!(rate.may_pass(start, IpAddr::from([192, 0, 2, 2])));
        let later = start + Duration::from_millis(550);
        assert_eq!((0..20).filter(|_| rate.may_pass(later, address)).count(), 5);
        let mut without = SourceRate::new(0, start);
        assert!((0..1000).all(|_| without.may_pass(start, address)));
    }

    #[test]
    fn addresses_beyond_the_bound_share_one_bucket_until_others_are_forgotten() {
        let start = Instant::now();
        let mut rate = SourceRate::new(3, start);
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..MAXIMUM_ADDRESSES as u32 {
            assert!(rate.may_pass(start, address(number)));
        }
        let beyond = (0..10).filter(|number| rate.may_pass(start, address(1 << 30 | number))).count();
        assert_eq!((beyond, rate.buckets.len()), (3, MAXIMUM_ADDRESSES));
        assert!(rate.may_pass(start + Duration::from_secs(2), address(1 << 31)));
        assert_eq!(rate.buckets.len(), 1);
    }
}
