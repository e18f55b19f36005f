//! Timestamps: how a file writes them and how the JSON shows them.
//!
//! A timestamp with a zone is an instant and is kept in UTC, so the hour that occurs twice when clocks are set back
//! stays two hours.

use chrono::{DateTime, Datelike, Timelike};

use crate::digits;
use crate::reject_reason::RejectReason;
use crate::time_fields::TimeFields;
use crate::time_format::{FormatItem, compile, repeated_item};

/// The formats of a timestamp column: one for the file, one for the JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampFormat {
    pub(crate) input: String,
    pub(crate) output: String,
    input_items: Vec<FormatItem>,
    output_items: Vec<FormatItem>,
}

/// The parts of a stored timestamp, with their directives.
const STORED_PARTS: [(FormatItem, &str); 7] = [
    (FormatItem::Year, "%Y"),
    (FormatItem::Month, "%m"),
    (FormatItem::Day, "%d"),
    (FormatItem::Hour, "%H"),
    (FormatItem::Minute, "%M"),
    (FormatItem::Second, "%S"),
    (FormatItem::Fraction, "%f"),
];

/// How many of the stored parts, from the left, an input must contain.
const REQUIRED_PARTS: usize = 3;

impl TimestampFormat {
    /// Compiles the two formats. The error names the directive that is unknown, missing or repeated.
    pub(crate) fn new(input: String, output: String) -> Result<Self, String> {
        let (input_items, output_items) = (compile(&input)?, compile(&output)?);
        for (part, directive) in &STORED_PARTS[..REQUIRED_PARTS] {
            if !input_items.contains(part) {
                return Err(format!("input `{input}` lacks {directive}"));
            }
        }
        if let Some(item) = repeated_item(&input_items) {
            return Err(format!("input `{input}` has the same directive twice ({item:?})"));
        }
        Ok(Self { input, output, input_items, output_items })
    }

    /// Whether the column keeps fractions of a second.
    pub fn has_fraction(&self) -> bool {
        self.input_items.contains(&FormatItem::Fraction)
    }

    /// The first directive that `output` lacks although the column stores that part: two different timestamps may have
    /// the same output.
    pub(crate) fn missing_in_output(&self) -> Option<&'static str> {
        let input_has = |item| self.input_items.contains(&item);
        let has_offset = input_has(FormatItem::Offset) || input_has(FormatItem::ZoneName);
        // In UTC a timestamp with an offset has hours and minutes, even if the file gives only its date.
        let is_stored =
            |part| input_has(part) || (has_offset && matches!(part, FormatItem::Hour | FormatItem::Minute));
        let is_missing = |(part, _): &(FormatItem, _)| is_stored(*part) && !self.output_items.contains(part);
        STORED_PARTS.into_iter().find(is_missing).map(|(_, directive)| directive)
    }

    /// Parses a text in the input format into microseconds since 1970.
    pub(crate) fn parse(&self, text: &str) -> Result<i64, RejectReason> {
        self.parse_items(&self.input_items, text)
    }

    /// Parses a text in the output format.
    pub(crate) fn parse_output(&self, text: &str) -> Result<i64, RejectReason> {
        self.parse_items(&self.output_items, text)
    }

    fn parse_items(&self, items: &[FormatItem], text: &str) -> Result<i64, RejectReason> {
        let malformed = || RejectReason::NotTimestamp { input: self.input.clone() };
        let fields = TimeFields::parse(items, text).ok_or_else(malformed)?;
        let offset_minutes = fields.offset_minutes()?;
        fields.instant(offset_minutes)?.ok_or_else(malformed)
    }

    /// Whether the output needs no escape in JSON. The definition may put any characters into it.
    pub(crate) fn is_json_safe(&self) -> bool {
        let needs_escape = |char: char| char.is_control() || matches!(char, '"' | '\\');
        !self.output.contains(needs_escape)
    }

    /// Appends the timestamp in the output format, in UTC.
    pub(crate) fn write(&self, micros: i64, out: &mut Vec<u8>) {
        let time = CivilTime::from_micros(micros);
        for item in &self.output_items {
            match item {
                FormatItem::Year => digits::write(time.year.into(), 4, out),
                FormatItem::Month => digits::write(time.month.into(), 2, out),
                FormatItem::Day => digits::write(time.day.into(), 2, out),
                FormatItem::Hour => digits::write(time.hour.into(), 2, out),
                FormatItem::Minute => digits::write(time.minute.into(), 2, out),
                FormatItem::Second => digits::write(time.second.into(), 2, out),
                FormatItem::Fraction => digits::write(time.micros, 6, out),
                FormatItem::Offset => out.extend_from_slice(b"+0000"),
                FormatItem::ZoneName => out.extend_from_slice(b"UTC"),
                FormatItem::Literal(char) => {
                    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
    }
}

/// The calendar date and the time of day of an instant, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CivilTime {
    /// 0 outside of the years 0 to 9999, which no column contains.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999,999.
    pub micros: u32,
}

impl CivilTime {
    /// Converts microseconds since 1970.
    pub fn from_micros(micros: i64) -> Self {
        let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
        let byte = |number: u32| u8::try_from(number).unwrap_or(0);
        Self {
            year: u16::try_from(time.year()).unwrap_or(0),
            month: byte(time.month()),
            day: byte(time.day()),
            hour: byte(time.hour()),
            minute: byte(time.minute()),
            second: byte(time.second()),
            micros: time.nanosecond() / 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MICROS: i64 = 1_000_000;
    const OUTPUT: &str = "%Y-%m-%d %H:%M:%S";

    fn convert(input: &str, text: &str) -> Result<String, String> {
        let format = TimestampFormat::new(input.into(), OUTPUT.into())?;
        let mut out = Vec::new();
        format.write(format.parse(text).map_err(|reason| reason.to_string())?, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    fn parse_promotion(text: &str) -> Result<String, String> {
        convert("%Y-%m-%d %H:%M:%S %z %Z", text)
    }

    #[test]
    fn a_timestamp_with_a_zone_is_converted_to_utc() {
        assert_eq!(parse_promotion("2018-08-04 05:32:31 +0200 CEST").unwrap(), "2018-08-04 03:32:31");
    }

    #[test]
    fn the_hour_that_occurs_twice_stays_two_hours() {
        assert_eq!(parse_promotion("2018-10-28 02:26:55 +0200 CEST").unwrap(), "2018-10-28 00:26:55");
        assert_eq!(parse_promotion("2018-10-28 02:26:55 +0100 CET").unwrap(), "2018-10-28 01:26:55");
    }

    #[test]
    fn a_text_that_is_not_an_existing_time_is_rejected() {
        for text in [
            "2018-13-45 05:32:31 +0200 CEST",
            "2018-02-29 05:32:31 +0200 CEST",
            "2018-08-04 24:00:00 +0200 CEST",
            "2018-08-04 05:32:60 +0200 CEST",
            "2018-08-04 05:32:31 +0200",
            "2018-08-04 05:32:31 +0200 CES",
            "2018-08-04 05:32:31 +0200 CEST ",
            "2018-08-04 05:32:31 +0100 CEST",
            "2018-08-04 05:32:31 +2500 CEST",
            "2018-08-04 05:32:31 +1401 +1401",
            "2018-08-04 05:32:31 -1201 -1201",
            "2018-08-04 05:32:31 +0260 +0260",
            "2018-08-04 05:32:31 +020 CEST",
            "2018-08-04 05:32:31 +02: CEST",
            "2018-8-4 05:32:31 +0200 CEST",
            "0000-13-04 05:32:31 +0200 CEST",
            "2018-08-04T05:32:31 +0200 CEST",
            "2018-08-04 05:32:31 +0200 Mitteleuropa",
            "",
        ] {
            assert!(parse_promotion(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_time_that_mariadb_cannot_store_has_a_reason_of_its_own() {
        let format = TimestampFormat::new("%F %T %z".into(), OUTPUT.into()).unwrap();
        for text in [
            "2016-12-31 23:59:60 +0000",
            "2017-01-01 00:59:60 +0100",
            "0999-12-31 23:59:59 +0000",
            "0000-01-01 00:00:00 +0000",
            "1000-01-01 00:59:59 +0100",
            "9999-12-31 23:00:00 -0100",
        ] {
            assert_eq!(format.parse(text), Err(RejectReason::TimeRange), "{text}");
        }
        let not_a_leap_second = format.parse("2016-12-31 12:59:60 +0000").unwrap_err();
        assert_eq!(not_a_leap_second.code(), "not_timestamp");
    }

    #[test]
    fn common_formats_of_other_programs_are_parsed() {
        assert_eq!(convert("%FT%T%z", "2018-08-04T05:32:31Z").unwrap(), "2018-08-04 05:32:31");
        assert_eq!(convert("%FT%T.%f%z", "2018-08-04T05:32:31.25-03:30").unwrap(), "2018-08-04 09:02:31");
        for offset in ["+02", "+0200", "+02:00"] {
            let text = format!("2018-08-04 05:32:31{offset}");
            assert_eq!(convert("%F %T%z", &text).unwrap(), "2018-08-04 03:32:31", "{offset}");
        }
        assert_eq!(convert("%d/%m/%Y", "04/08/2018").unwrap(), "2018-08-04 00:00:00");
        assert!(convert("%FT%T.%f", "2018-08-04T05:32:31.1234567").is_err());
    }

    #[test]
    fn an_invalid_format_is_refused_with_its_reason() {
        let refuse = |input: &str| TimestampFormat::new(input.into(), OUTPUT.into()).unwrap_err();
        assert_eq!(refuse("%Y-%m"), "input `%Y-%m` lacks %d");
        assert!(refuse("%Y-%m-%d %q").contains("unknown directive %q"));
        assert!(refuse("%Y-%m-%d %").contains("ends after a %"));
        assert!(refuse("%F %d").contains("twice (Day)"));
    }

    #[test]
    fn a_part_that_the_output_lacks_is_named() {
        let missing = |input: &str, output: &str| {
            TimestampFormat::new(input.into(), output.into()).unwrap().missing_in_output()
        };
        assert_eq!(missing("%F %T", OUTPUT), None);
        assert_eq!(missing("%F", "%d.%m.%Y"), None);
        assert_eq!(missing("%F %T.%f", OUTPUT), Some("%f"));
        assert_eq!(missing("%F %T", "%F %H:%M"), Some("%S"));
        assert_eq!(missing("%F %z", "%F"), Some("%H"));
        assert_eq!(missing("%F %Z", "%F %H:%M"), None);
        assert_eq!(missing("%F", ""), Some("%Y"));
    }

    proptest! {
        #[test]
        fn written_output_is_parsed_as_the_same_instant(seconds in -30_000_000_000i64..253_000_000_000) {
            let format = TimestampFormat::new("%FT%T.%f%z".into(), "%FT%T.%f%z".into()).unwrap();
            let micros = seconds * MICROS + 123_456;
            let mut out = Vec::new();
            format.write(micros, &mut out);
            prop_assert_eq!(format.parse(std::str::from_utf8(&out).unwrap()), Ok(micros));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = parse_promotion(&text);
        }
    }
}
