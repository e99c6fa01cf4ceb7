//! What tables of several commands have in common.

use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A row of a table with two columns.
pub(super) fn row(name: &str, value: &str) -> String {
    format!("{name:<15} {value}")
}

/// Whole days from `now` until `end`; negative where that is over.
pub(super) fn days(now: SystemTime, end: SystemTime) -> i64 {
    let whole = |time: Duration| i64::try_from(time.as_secs() / DAY.as_secs()).unwrap_or(i64::MAX);
    match end.duration_since(now) {
        Ok(left) => whole(left),
        Err(over) => -1 - whole(over.duration()),
    }
}

/// As people say it.
pub(super) fn validity(days: i64) -> String {
    match days {
        ..=-1 => "expired".to_owned(),
        0 => "expires within a day".to_owned(),
        1 => "1 day left".to_owned(),
        days => format!("{days} days left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_what_is_over_is_negative() {
        let now = SystemTime::UNIX_EPOCH + 1000 * DAY;
        let hour = Duration::from_secs(3600);
        let table = [
            (now + 30 * DAY, 30, "30 days left"),
            (now + 2 * DAY - hour, 1, "1 day left"),
            (now + hour, 0, "expires within a day"),
            (now - hour, -1, "expired"),
            (now - 3 * DAY, -4, "expired"),
        ];
        for (end, expected, words) in table {
            assert_eq!(days(now, end), expected);
            assert_eq!(validity(expected), words);
        }
    }
}
