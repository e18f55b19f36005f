//! Names of time zones as they stand in files: which offsets from UTC each can mean.
//!
//! A file that is cut in the middle of its last line often ends inside a zone's name, so an unknown name is refused
//! and not skipped. The names are those still in use in the tz database; zones without a name of their own are
//! written there, and by Go's `MST` verb, as their offset (`+03`), which is understood too.
//!
//! Every zone in use lies between -12:00 and +14:00, so an offset beyond them is a mistake in the file.

use std::ops::RangeInclusive;

use crate::Reason;

/// The offsets, in minutes east of UTC, that a zone can have.
const OFFSETS: RangeInclusive<i32> = -12 * 60..=14 * 60;

/// Each name with all the offsets, in minutes east of UTC, for which it stands.
const ZONES: &[(&str, &[i32])] = &[
    ("ACDT", &[630]),
    ("ACST", &[570]),
    ("ADT", &[-180]),
    ("AEDT", &[660]),
    ("AEST", &[600]),
    ("AKDT", &[-480]),
    ("AKST", &[-540]),
    ("AST", &[-240]),
    ("AWST", &[480]),
    ("BST", &[60]),
    ("CAT", &[120]),
    ("CDT", &[-300, -240]),
    ("CEST", &[120]),
    ("CET", &[60]),
    ("CST", &[-360, -300, 480]),
    ("ChST", &[600]),
    ("EAT", &[180]),
    ("EDT", &[-240]),
    ("EEST", &[180]),
    ("EET", &[120]),
    ("EST", &[-300]),
    ("GMT", &[0]),
    ("HDT", &[-540]),
    ("HKT", &[480]),
    ("HST", &[-600]),
    ("IDT", &[180]),
    ("IST", &[60, 120, 330]),
    ("JST", &[540]),
    ("KST", &[540]),
    ("MDT", &[-360]),
    ("MSK", &[180]),
    ("MST", &[-420]),
    ("NDT", &[-150]),
    ("NST", &[-210]),
    ("NZDT", &[780]),
    ("NZST", &[720]),
    ("PDT", &[-420]),
    ("PKT", &[300]),
    ("PST", &[-480, 480]),
    ("SAST", &[120]),
    ("SST", &[-660]),
    ("UTC", &[0]),
    ("WAT", &[60]),
    ("WEST", &[60]),
    ("WET", &[0]),
    ("WIB", &[420]),
    ("WIT", &[540]),
    ("WITA", &[480]),
    ("Z", &[0]),
];

/// The names as numbers in the same order: they are searched for every row.
const NAMES: [u64; ZONES.len()] = {
    let (mut names, mut at) = ([0; ZONES.len()], 0);
    while at < ZONES.len() {
        if let Some(name) = packed(ZONES[at].0.as_bytes()) {
            names[at] = name;
        }
        at += 1;
    }
    names
};

/// A name as a number that sorts as the names do.
const fn packed(name: &[u8]) -> Option<u64> {
    if name.len() > 8 {
        return None;
    }
    let (mut bytes, mut at) = ([0; 8], 0);
    while at < name.len() {
        bytes[at] = name[at];
        at += 1;
    }
    Some(u64::from_be_bytes(bytes))
}

/// The offset, in minutes east of UTC, that `name` means, where the row may have said the offset itself too.
pub(crate) fn offset_minutes(name: &str, stated: Option<i32>) -> Result<i32, Reason> {
    if let Some((offset, "")) = read_offset(name) {
        return if stated.is_none_or(|stated| stated == offset) {
            Ok(offset)
        } else {
            Err(Reason::ZoneOffset)
        };
    }
    let found = packed(name.as_bytes()).and_then(|name| NAMES.binary_search(&name).ok());
    let offsets = ZONES[found.ok_or(Reason::UnknownZone)?].1;
    match (stated, offsets) {
        (Some(stated), _) if offsets.contains(&stated) => Ok(stated),
        (Some(_), _) => Err(Reason::ZoneOffset),
        (None, [offset]) => Ok(*offset),
        (None, _) => Err(Reason::AmbiguousZone),
    }
}

/// Takes an offset off the front of `text`: `+02`, `+0200` or `+02:00`. Returns the minutes and what is left.
pub(crate) fn read_offset(text: &str) -> Option<(i32, &str)> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = two_digits(&text[1..])?;
    let (minutes, rest) = two_digits(rest.strip_prefix(':').unwrap_or(rest)).unwrap_or((0, rest));
    let offset = sign * (hours * 60 + minutes);
    (minutes < 60 && OFFSETS.contains(&offset)).then_some((offset, rest))
}

fn two_digits(text: &str) -> Option<(i32, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Some((digits.parse().ok()?, rest)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_order_that_the_search_needs() {
        assert!(ZONES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_name_must_fit_the_offset_beside_it() {
        assert_eq!(offset_minutes("CEST", Some(120)), Ok(120));
        assert_eq!(offset_minutes("CEST", Some(60)), Err(Reason::ZoneOffset));
        assert_eq!(offset_minutes("CES", Some(120)), Err(Reason::UnknownZone));
        assert_eq!(offset_minutes("", Some(120)), Err(Reason::UnknownZone));
    }

    #[test]
    fn a_name_alone_must_stand_for_one_offset() {
        assert_eq!(offset_minutes("CET", None), Ok(60));
        assert_eq!(offset_minutes("IST", None), Err(Reason::AmbiguousZone));
        assert_eq!(offset_minutes("IST", Some(330)), Ok(330));
    }

    #[test]
    fn an_offset_may_be_a_name() {
        assert_eq!(offset_minutes("+03", Some(180)), Ok(180));
        assert_eq!(offset_minutes("-0330", None), Ok(-210));
        assert_eq!(offset_minutes("+03", Some(120)), Err(Reason::ZoneOffset));
        for same in ["+02", "+0200", "+02:00"] {
            assert_eq!(offset_minutes(same, None), Ok(120), "{same}");
        }
        for none in ["+3", "+", "+020", "+02:0", "+02:", "+0060", "+9999", "+2359", "-2359", "+1401", "-1201"]
        {
            assert_eq!(offset_minutes(none, None), Err(Reason::UnknownZone), "{none}");
        }
        assert_eq!(offset_minutes("+1400", None), Ok(840));
        assert_eq!(offset_minutes("-1200", None), Ok(-720));
    }
}
