//! The fields of a date or time that a text contains, and the instant they stand for.

use std::ops::RangeInclusive;

use chrono::{Datelike, NaiveDate, TimeDelta, Timelike};

use crate::digits;
use crate::reject_reason::RejectReason;
use crate::time_format::FormatItem;
use crate::time_zone;

/// The years that MariaDB stores in a DATE or DATETIME.
pub(crate) const SUPPORTED_YEARS: RangeInclusive<i32> = 1000..=9999;

/// The fields of a text. One that its format does not contain is zero.
#[derive(Default)]
pub(crate) struct TimeFields<'a> {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    micros: u32,
    offset_minutes: Option<i32>,
    zone_name: Option<&'a str>,
}

impl<'a> TimeFields<'a> {
    /// Reads a text that consists of exactly these items.
    pub(crate) fn parse(items: &[FormatItem], text: &'a str) -> Option<Self> {
        let mut fields = Self::default();
        let mut rest = text;
        for item in items {
            rest = fields.read_item(*item, rest)?;
        }
        rest.is_empty().then_some(fields)
    }

    /// Reads one item from the front of `text` and returns the text behind it.
    fn read_item(&mut self, item: FormatItem, text: &'a str) -> Option<&'a str> {
        let (field, width) = match item {
            FormatItem::Year => (&mut self.year, 4),
            FormatItem::Month => (&mut self.month, 2),
            FormatItem::Day => (&mut self.day, 2),
            FormatItem::Hour => (&mut self.hour, 2),
            FormatItem::Minute => (&mut self.minute, 2),
            FormatItem::Second => (&mut self.second, 2),
            FormatItem::Fraction => return self.read_fraction(text),
            FormatItem::Offset => return self.read_offset(text),
            FormatItem::ZoneName => return Some(self.read_zone_name(text)),
            FormatItem::Literal(char) if char.is_ascii() => {
                // This runs for every row, and comparing one byte is faster than `strip_prefix`.
                let matches = text.as_bytes().first().is_some_and(|byte| char::from(*byte) == char);
                return if matches { text.get(1..) } else { None };
            }
            FormatItem::Literal(char) => return text.strip_prefix(char),
        };
        let (number, rest) = text.split_at_checked(width)?;
        *field = digits::parse(number)?;
        Some(rest)
    }

    /// One to six digits.
    fn read_fraction(&mut self, text: &'a str) -> Option<&'a str> {
        let width = text.bytes().take_while(u8::is_ascii_digit).count();
        let missing_digits = 6u32.checked_sub(u32::try_from(width).ok()?)?;
        self.micros = digits::parse(&text[..width])? * 10u32.pow(missing_digits);
        Some(&text[width..])
    }

    /// `Z`, or an offset as [`time_zone::read_offset`] reads it.
    fn read_offset(&mut self, text: &'a str) -> Option<&'a str> {
        let (offset_minutes, rest) = match text.strip_prefix('Z') {
            Some(rest) => (0, rest),
            None => time_zone::read_offset(text)?,
        };
        self.offset_minutes = Some(offset_minutes);
        Some(rest)
    }

    /// Everything before the next white space.
    fn read_zone_name(&mut self, text: &'a str) -> &'a str {
        let end = text.find(|char: char| char.is_ascii_whitespace()).unwrap_or(text.len());
        self.zone_name = Some(&text[..end]);
        &text[end..]
    }

    /// The date, if it exists.
    pub(crate) fn date(&self) -> Option<NaiveDate> {
        NaiveDate::from_ymd_opt(i32::try_from(self.year).ok()?, self.month, self.day)
    }

    /// The offset from UTC that the zone name and the stated offset agree on; 0 without either.
    pub(crate) fn offset_minutes(&self) -> Result<i32, RejectReason> {
        match self.zone_name {
            Some(name) => time_zone::offset_minutes(name, self.offset_minutes),
            None => Ok(self.offset_minutes.unwrap_or(0)),
        }
    }

    /// The instant in microseconds since 1970, or `None` if there is no such time.
    pub(crate) fn instant(&self, offset_minutes: i32) -> Result<Option<i64>, RejectReason> {
        let is_leap_second = self.second == 60;
        let second = if is_leap_second { 59 } else { self.second };
        let local =
            self.date().and_then(|date| date.and_hms_micro_opt(self.hour, self.minute, second, self.micros));
        let Some(local) = local else { return Ok(None) };
        let utc = local.and_utc() - TimeDelta::minutes(offset_minutes.into());
        if is_leap_second {
            // Leap seconds are inserted only at the end of a day in UTC.
            let is_last_minute = (utc.hour(), utc.minute()) == (23, 59);
            return if is_last_minute { Err(RejectReason::TimeRange) } else { Ok(None) };
        }
        if !SUPPORTED_YEARS.contains(&utc.year()) {
            return Err(RejectReason::TimeRange);
        }
        Ok(Some(utc.timestamp_micros()))
    }
}
