//! The order in which the targets of SRV records are tried (RFC 2782, "Usage rules").

use super::records::Srv;
use crate::protocol::random::Random;

/// By priority; in one priority at random, each as likely to come next as its weight says.
pub(super) fn order<'a>(records: &'a [Srv], random: &mut Random) -> Vec<&'a Srv> {
    let mut left: Vec<&Srv> = records.iter().collect();
    // Those of weight 0 come first in the running sum, so that they have a small chance.
    left.sort_by_key(|srv| (srv.priority, srv.weight != 0));
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(first) = left.first() {
        let same = left.iter().take_while(|srv| srv.priority == first.priority);
        let sums: Vec<u64> = same
            .scan(0, |sum, srv| {
                *sum += u64::from(srv.weight);
                Some(*sum)
            })
            .collect();
        let total = sums.last().copied().unwrap_or(0);
        let number = random.next() % (total + 1);
        let next = sums.iter().position(|sum| *sum >= number).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 5061, target: target.into() }
    }

    fn random() -> Random {
        Random::new([7; 16], 0)
    }

    fn names(records: &[Srv], random: &mut Random) -> String {
        order(records, random).iter().map(|srv| &*srv.target).collect()
    }

    /// How often each order comes in `count` draws.
    fn draws(records: &[Srv], count: usize) -> std::collections::BTreeMap<String, usize> {
        let mut random = random();
        let mut orders = std::collections::BTreeMap::new();
        for _ in 0..count {
            *orders.entry(names(records, &mut random)).or_default() += 1;
        }
        orders
    }

    /// Whether the draws are as likely as `expected` says: the sum of squares stays below what 1 in 1,000 would pass.
    fn assert_fits(records: &[Srv], expected: &[(&str, f64)], critical: f64) {
        let count = 20_000;
        let orders = draws(records, count);
        assert_eq!(orders.len(), expected.iter().filter(|(_, share)| *share > 0.0).count(), "{orders:?}");
        let square = |(order, share): &(&str, f64)| {
            let expected = share * count as f64;
            let seen = orders.get(*order).copied().unwrap_or(0) as f64;
            (seen - expected).powi(2) / expected
        };
        let sum: f64 = expected.iter().map(square).sum();
        assert!(sum < critical, "{sum} {orders:?}");
    }

    #[test]
    fn priorities_come_in_order_and_nothing_is_lost() {
        let records = [srv(20, 5, "c"), srv(10, 0, "b"), srv(0, 65_535, "a"), srv(65_535, 1, "d")];
        let mut random = random();
        assert!((0..100).all(|_| names(&records, &mut random) == "abcd"));
        assert_eq!(names(&[], &mut random), "");
    }

    #[test]
    fn one_priority_is_shared_as_the_weights_say() {
        // 0..=4: `a` for 0 and 1, which is 2 of 5.
        assert_fits(&[srv(1, 1, "a"), srv(1, 3, "b")], &[("ab", 0.4), ("ba", 0.6)], 10.8);
        // First of 0..=60 (11, 20, 30), then of what is left.
        let expected = [
            ("abc", 11. / 61. * 21. / 51.),
            ("acb", 11. / 61. * 30. / 51.),
            ("bac", 20. / 61. * 11. / 41.),
            ("bca", 20. / 61. * 30. / 41.),
            ("cab", 30. / 61. * 11. / 31.),
            ("cba", 30. / 61. * 20. / 31.),
        ];
        assert_fits(&[srv(1, 10, "a"), srv(1, 20, "b"), srv(1, 30, "c")], &expected, 20.5);
    }

    #[test]
    fn weight_0_has_a_small_chance_and_only_among_its_own_none_is_preferred_by_chance() {
        assert_fits(&[srv(1, 9, "a"), srv(1, 0, "z")], &[("za", 0.1), ("az", 0.9)], 10.8);
        assert_eq!(draws(&[srv(1, 0, "y"), srv(1, 0, "z")], 100).len(), 1, "no weights: no choice");
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let records: Vec<Srv> = (0..50).map(|_| srv(0, u16::MAX, "x")).collect();
        assert_eq!(order(&records, &mut random()).len(), 50);
    }
}
