//! Dates as SIP writes them (RFC 3261 §20.17): those of RFC 1123, in GMT.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const SECONDS_OF_DAY: u64 = 86_400;
const DAYS_OF_ERA: u64 = 146_097;
/// From 1 March of the year 0 to 1 January 1970.
const DAYS_BEFORE_1970: u64 = 719_468;

/// The date that is so many seconds after the beginning of 1970.
pub fn sip_date(seconds: u64) -> String {
    let (days, time) = (seconds / SECONDS_OF_DAY, seconds % SECONDS_OF_DAY);
    // Eras of 400 years are equally long, and years that begin in March have their leap day at the end.
    let from_year_0 = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (from_year_0 / DAYS_OF_ERA, from_year_0 % DAYS_OF_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let week_day = DAYS[(days % 7) as usize];
    let month = MONTHS[month as usize];
    let (hours, minutes, seconds) = (time / 3600, time / 60 % 60, time % 60);
    format!("{week_day}, {day:02} {month} {year} {hours:02}:{minutes:02}:{seconds:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let table = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_289_690_940, "Sat, 13 Nov 2010 23:29:00 GMT"),
            (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ];
        for (seconds, date) in table {
            assert_eq!(sip_date(seconds), date);
        }
    }
}
