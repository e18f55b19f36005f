//! Dates, written as YYYY-MM-DD.

use chrono::{Datelike, NaiveDate};

use crate::digits;
use crate::reject_reason::RejectReason;
use crate::time_fields::{SUPPORTED_YEARS, TimeFields};
use crate::time_format::FormatItem;

const FORMAT: [FormatItem; 5] = [
    FormatItem::Year,
    FormatItem::Literal('-'),
    FormatItem::Month,
    FormatItem::Literal('-'),
    FormatItem::Day,
];

/// Day number of 1970-01-01 in chrono, which counts from 0001-01-01.
const EPOCH_FROM_CE: i32 = 719_163;

/// Parses a date into days since 1970-01-01.
pub(crate) fn parse(text: &str) -> Result<i32, RejectReason> {
    let fields = TimeFields::parse(&FORMAT, text).ok_or(RejectReason::NotDate)?;
    let date = fields.date().ok_or(RejectReason::NotDate)?;
    if !SUPPORTED_YEARS.contains(&date.year()) {
        return Err(RejectReason::TimeRange);
    }
    Ok(date.num_days_from_ce() - EPOCH_FROM_CE)
}

/// Appends the date.
pub(crate) fn write(days: i32, out: &mut Vec<u8>) {
    let date = NaiveDate::from_num_days_from_ce_opt(days.saturating_add(EPOCH_FROM_CE)).unwrap_or_default();
    digits::write(u32::try_from(date.year()).unwrap_or(0), 4, out);
    out.push(b'-');
    digits::write(date.month(), 2, out);
    out.push(b'-');
    digits::write(date.day(), 2, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_date_must_exist_and_be_in_a_supported_year() {
        assert!(parse("1000-01-01").is_ok());
        assert_eq!(parse("0999-12-31"), Err(RejectReason::TimeRange));
        assert_eq!(parse("0999-02-29"), Err(RejectReason::NotDate));
    }

    #[test]
    fn a_written_date_is_parsed_as_the_same_date() {
        for text in ["1000-01-01", "1969-12-31", "1970-01-01", "2024-02-29", "9999-12-31"] {
            let mut out = Vec::new();
            write(parse(text).unwrap(), &mut out);
            assert_eq!(out, text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
