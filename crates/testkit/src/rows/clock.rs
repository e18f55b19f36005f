//! Seconds to calendar dates, by counting years and months.

/// `(year, month, day)` of a day, counted from 1970-01-01, which is day 0.
pub(super) fn date(mut day: u32) -> (u32, u32, u32) {
    let mut year = 1970;
    while day >= days_of_year(year) {
        day -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while day >= days_of_month(year, month) {
        day -= days_of_month(year, month);
        month += 1;
    }
    (year, month, day + 1)
}

/// `2018-08-04 03:32:31` for a number of seconds since 1970.
pub(super) fn date_time(seconds: u32) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The calendar up to 2099, where every fourth year is a leap year.
fn days_of_year(year: u32) -> u32 {
    if year.is_multiple_of(4) { 366 } else { 365 }
}

fn days_of_month(year: u32, month: u32) -> u32 {
    match month {
        2 => days_of_year(year) - 337,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_have_their_dates() {
        assert_eq!(date_time(0), "1970-01-01 00:00:00");
        assert_eq!(date_time(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date_time(1_533_353_551), "2018-08-04 03:32:31");
        assert_eq!(date_time(1_540_688_400), "2018-10-28 01:00:00");
        assert_eq!(date_time(1_577_836_799), "2019-12-31 23:59:59");
    }
}
