//! Points in time as a file writes them and as the JSON shows them.
//!
//! A format is compiled once into steps, and a row is read by them in one pass. Nothing is lenient: every digit that
//! the format names must be there, and nothing may follow. A time with a zone is an instant, kept in UTC; so the hour
//! that comes twice when the clocks go back stays two hours.

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Timelike};

use crate::{Reason, zone};

/// How a timestamp column is read and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampFormat {
    pub(crate) input: String,
    pub(crate) output: String,
    read: Vec<Step>,
    show: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Fraction,
    Offset,
    Zone,
    Literal(char),
}

/// What a store keeps of a time, and the directives for it.
const KEPT: [(Step, &str); 7] = [
    (Step::Year, "%Y"),
    (Step::Month, "%m"),
    (Step::Day, "%d"),
    (Step::Hour, "%H"),
    (Step::Minute, "%M"),
    (Step::Second, "%S"),
    (Step::Fraction, "%f"),
];

impl TimestampFormat {
    /// Compiles the two formats; the error says which directive is not known or missing.
    pub(crate) fn new(input: String, output: String) -> Result<Self, String> {
        let (read, show) = (compile(&input)?, compile(&output)?);
        for (step, directive) in [(Step::Year, "%Y"), (Step::Month, "%m"), (Step::Day, "%d")] {
            if !read.contains(&step) {
                return Err(format!("input `{input}` lacks {directive}"));
            }
        }
        if let Some(step) = read.iter().find(|step| !matches!(step, Step::Literal(_)) && twice(&read, **step))
        {
            return Err(format!("input `{input}` has the same directive twice ({step:?})"));
        }
        Ok(Self { input, output, read, show })
    }

    /// Whether times finer than a second can stand in the column.
    pub fn has_fraction(&self) -> bool {
        self.read.contains(&Step::Fraction)
    }

    /// The first directive that `output` leaves out although `input` keeps what it stands for: two different times
    /// may be shown alike.
    pub(crate) fn left_out(&self) -> Option<&'static str> {
        let has_offset = self.read.contains(&Step::Offset) || self.read.contains(&Step::Zone);
        // In UTC a time with an offset has hours and minutes, even where the file gives only its date.
        let is_kept = |step: Step| {
            self.read.contains(&step) || (has_offset && matches!(step, Step::Hour | Step::Minute))
        };
        let left_out = |(step, _): &(Step, _)| is_kept(*step) && !self.show.contains(step);
        KEPT.into_iter().find(left_out).map(|(_, directive)| directive)
    }

    /// The instant that `text` names, in microseconds since 1970.
    pub(crate) fn parse(&self, text: &str) -> Result<i64, Reason> {
        self.parse_steps(&self.read, text)
    }

    /// The same, written as it is shown.
    pub(crate) fn parse_shown(&self, text: &str) -> Result<i64, Reason> {
        self.parse_steps(&self.show, text)
    }

    fn parse_steps(&self, steps: &[Step], text: &str) -> Result<i64, Reason> {
        let malformed = || Reason::NotTimestamp { input: self.input.clone() };
        let mut fields = Fields::default();
        let mut rest = text;
        for step in steps {
            rest = fields.read(*step, rest).ok_or_else(malformed)?;
        }
        if !rest.is_empty() {
            return Err(malformed());
        }
        let offset = match fields.zone {
            Some(name) => zone::offset_minutes(name, fields.offset)?,
            None => fields.offset.unwrap_or(0),
        };
        fields.micros(offset)?.ok_or_else(malformed)
    }

    /// Whether what is shown needs no escape in JSON: the format comes from a definition and may hold anything.
    pub(crate) fn is_plain(&self) -> bool {
        let escaped = |char: char| char.is_control() || matches!(char, '"' | '\\');
        !self.output.contains(escaped)
    }

    /// Prints the instant, in UTC.
    pub(crate) fn write(&self, micros: i64, out: &mut Vec<u8>) {
        let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
        for step in &self.show {
            match step {
                Step::Year => digits(u32::try_from(time.year()).unwrap_or(0), 4, out),
                Step::Month => digits(time.month(), 2, out),
                Step::Day => digits(time.day(), 2, out),
                Step::Hour => digits(time.hour(), 2, out),
                Step::Minute => digits(time.minute(), 2, out),
                Step::Second => digits(time.second(), 2, out),
                Step::Fraction => digits(time.nanosecond() / 1000, 6, out),
                Step::Offset => out.extend_from_slice(b"+0000"),
                Step::Zone => out.extend_from_slice(b"UTC"),
                Step::Literal(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}

/// Year, month, day, hour, minute, second and microsecond of an instant, in UTC: what a database takes.
pub fn civil_from_micros(micros: i64) -> (u16, [u8; 5], u32) {
    let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    let byte = |number: u32| u8::try_from(number).unwrap_or(0);
    let clock = [time.month(), time.day(), time.hour(), time.minute(), time.second()].map(byte);
    (u16::try_from(time.year()).unwrap_or(0), clock, time.nanosecond() / 1000)
}

/// The day, counted from 1970-01-01, of a date written as YYYY-MM-DD.
pub(crate) fn parse_date(text: &str) -> Result<i32, Reason> {
    let mut fields = Fields::default();
    let mut rest = text;
    for step in [Step::Year, Step::Literal('-'), Step::Month, Step::Literal('-'), Step::Day] {
        rest = fields.read(step, rest).ok_or(Reason::NotDate)?;
    }
    let day = fields.date().filter(|_| rest.is_empty()).ok_or(Reason::NotDate)?;
    if !YEARS.contains(&day.year()) {
        return Err(Reason::TimeRange);
    }
    Ok(day.num_days_from_ce() - EPOCH_FROM_CE)
}

/// Prints a day as YYYY-MM-DD.
pub(crate) fn write_date(days: i32, out: &mut Vec<u8>) {
    let date = NaiveDate::from_num_days_from_ce_opt(days.saturating_add(EPOCH_FROM_CE)).unwrap_or_default();
    digits(u32::try_from(date.year()).unwrap_or(0), 4, out);
    out.push(b'-');
    digits(date.month(), 2, out);
    out.push(b'-');
    digits(date.day(), 2, out);
}

/// 1970-01-01 counted from the first day of the year 1.
const EPOCH_FROM_CE: i32 = 719_163;

/// The years whose dates MariaDB stores.
const YEARS: RangeInclusive<i32> = 1000..=9999;

#[derive(Default)]
struct Fields<'a> {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    micros: u32,
    offset: Option<i32>,
    zone: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Takes one step off the front of `text` and returns what is left.
    fn read(&mut self, step: Step, text: &'a str) -> Option<&'a str> {
        let (slot, width) = match step {
            Step::Year => (&mut self.year, 4),
            Step::Month => (&mut self.month, 2),
            Step::Day => (&mut self.day, 2),
            Step::Hour => (&mut self.hour, 2),
            Step::Minute => (&mut self.minute, 2),
            Step::Second => (&mut self.second, 2),
            Step::Fraction => return self.read_fraction(text),
            Step::Offset => return self.read_offset(text),
            Step::Zone => {
                let end = text.find(|char: char| char.is_ascii_whitespace()).unwrap_or(text.len());
                self.zone = Some(&text[..end]);
                return Some(&text[end..]);
            }
            Step::Literal(char) if char.is_ascii() => {
                // Compared as one byte: this is done for every row.
                let same = text.as_bytes().first().is_some_and(|byte| char::from(*byte) == char);
                return if same { text.get(1..) } else { None };
            }
            Step::Literal(char) => return text.strip_prefix(char),
        };
        let (digits, rest) = text.split_at_checked(width)?;
        *slot = number(digits)?;
        Some(rest)
    }

    /// One to six digits.
    fn read_fraction(&mut self, text: &'a str) -> Option<&'a str> {
        let width = text.bytes().take_while(u8::is_ascii_digit).count();
        let scale = 6u32.checked_sub(u32::try_from(width).ok()?)?;
        self.micros = number(&text[..width])? * 10u32.pow(scale);
        Some(&text[width..])
    }

    /// `Z`, or an offset as [`zone::read_offset`] reads it.
    fn read_offset(&mut self, text: &'a str) -> Option<&'a str> {
        let (offset, rest) = match text.strip_prefix('Z') {
            Some(rest) => (0, rest),
            None => zone::read_offset(text)?,
        };
        self.offset = Some(offset);
        Some(rest)
    }

    fn date(&self) -> Option<NaiveDate> {
        NaiveDate::from_ymd_opt(i32::try_from(self.year).ok()?, self.month, self.day)
    }

    /// The instant, or nothing where the fields are no time.
    fn micros(&self, offset_minutes: i32) -> Result<Option<i64>, Reason> {
        let is_leap_second = self.second == 60;
        let second = if is_leap_second { 59 } else { self.second };
        let time =
            self.date().and_then(|date| date.and_hms_micro_opt(self.hour, self.minute, second, self.micros));
        let Some(time) = time else { return Ok(None) };
        let time = time.and_utc() - TimeDelta::minutes(offset_minutes.into());
        if is_leap_second {
            // Leap seconds are added at the end of a day in UTC.
            let is_last_minute = (time.hour(), time.minute()) == (23, 59);
            return if is_last_minute { Err(Reason::TimeRange) } else { Ok(None) };
        }
        if YEARS.contains(&time.year()) { Ok(Some(time.timestamp_micros())) } else { Err(Reason::TimeRange) }
    }
}

fn number(digits: &str) -> Option<u32> {
    let add = |number: u32, byte: u8| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'));
    if digits.is_empty() { None } else { digits.bytes().try_fold(0, add) }
}

fn digits(number: u32, width: u32, out: &mut Vec<u8>) {
    let mut place = 10u32.pow(width - 1);
    while place > 0 {
        out.push(b'0' + u8::try_from(number / place % 10).unwrap_or(0));
        place /= 10;
    }
}

fn compile(format: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            steps.push(Step::Literal(char));
            continue;
        }
        let directive = chars.next().ok_or_else(|| format!("`{format}` ends after a %"))?;
        match directive {
            'Y' => steps.push(Step::Year),
            'm' => steps.push(Step::Month),
            'd' => steps.push(Step::Day),
            'H' => steps.push(Step::Hour),
            'M' => steps.push(Step::Minute),
            'S' => steps.push(Step::Second),
            'f' => steps.push(Step::Fraction),
            'z' => steps.push(Step::Offset),
            'Z' => steps.push(Step::Zone),
            'F' => steps.extend(compile("%Y-%m-%d")?),
            'T' => steps.extend(compile("%H:%M:%S")?),
            '%' => steps.push(Step::Literal('%')),
            other => {
                return Err(format!(
                    "`{format}` has %{other}, which is not known (known: %Y %m %d %H %M %S %f %z %Z %F %T %%)"
                ));
            }
        }
    }
    Ok(steps)
}

fn twice(steps: &[Step], step: Step) -> bool {
    steps.iter().filter(|other| **other == step).count() > 1
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

    fn promotion(text: &str) -> Result<String, String> {
        convert("%Y-%m-%d %H:%M:%S %z %Z", text)
    }

    #[test]
    fn a_time_with_a_zone_is_the_instant() {
        assert_eq!(promotion("2018-08-04 05:32:31 +0200 CEST").unwrap(), "2018-08-04 03:32:31");
    }

    #[test]
    fn the_hour_that_comes_twice_stays_two_hours() {
        assert_eq!(promotion("2018-10-28 02:26:55 +0200 CEST").unwrap(), "2018-10-28 00:26:55");
        assert_eq!(promotion("2018-10-28 02:26:55 +0100 CET").unwrap(), "2018-10-28 01:26:55");
    }

    #[test]
    fn what_is_no_time_is_refused() {
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
            assert!(promotion(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_time_that_exists_and_cannot_be_stored_has_its_own_reason() {
        let format = TimestampFormat::new("%F %T %z".into(), OUTPUT.into()).unwrap();
        for text in [
            "2016-12-31 23:59:60 +0000",
            "2017-01-01 00:59:60 +0100",
            "0999-12-31 23:59:59 +0000",
            "0000-01-01 00:00:00 +0000",
            "1000-01-01 00:59:59 +0100",
            "9999-12-31 23:00:00 -0100",
        ] {
            assert_eq!(format.parse(text), Err(Reason::TimeRange), "{text}");
        }
        let no_leap_second = format.parse("2016-12-31 12:59:60 +0000").unwrap_err();
        assert_eq!(no_leap_second.code(), "not_timestamp");
        assert_eq!(parse_date("0999-12-31"), Err(Reason::TimeRange));
        assert_eq!(parse_date("0999-02-29"), Err(Reason::NotDate));
        assert!(parse_date("1000-01-01").is_ok());
    }

    #[test]
    fn other_formats_are_read_too() {
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
    fn an_unusable_format_is_refused_with_its_reason() {
        let refuse = |input: &str| TimestampFormat::new(input.into(), OUTPUT.into()).unwrap_err();
        assert_eq!(refuse("%Y-%m"), "input `%Y-%m` lacks %d");
        assert!(refuse("%Y-%m-%d %q").contains("%q, which is not known"));
        assert!(refuse("%Y-%m-%d %").contains("ends after a %"));
        assert!(refuse("%F %d").contains("twice (Day)"));
    }

    #[test]
    fn what_the_output_leaves_out_of_the_input_is_named() {
        let left_out =
            |input: &str, output: &str| TimestampFormat::new(input.into(), output.into()).unwrap().left_out();
        assert_eq!(left_out("%F %T", OUTPUT), None);
        assert_eq!(left_out("%F", "%d.%m.%Y"), None);
        assert_eq!(left_out("%F %T.%f", OUTPUT), Some("%f"));
        assert_eq!(left_out("%F %T", "%F %H:%M"), Some("%S"));
        assert_eq!(left_out("%F %z", "%F"), Some("%H"));
        assert_eq!(left_out("%F %Z", "%F %H:%M"), None);
        assert_eq!(left_out("%F", ""), Some("%Y"));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back_as_the_same_instant(seconds in -30_000_000_000i64..253_000_000_000) {
            let format = TimestampFormat::new("%FT%T.%f%z".into(), "%FT%T.%f%z".into()).unwrap();
            let micros = seconds * MICROS + 123_456;
            let mut out = Vec::new();
            format.write(micros, &mut out);
            prop_assert_eq!(format.parse(std::str::from_utf8(&out).unwrap()), Ok(micros));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = promotion(&text);
            let _ = parse_date(&text);
        }
    }
}
