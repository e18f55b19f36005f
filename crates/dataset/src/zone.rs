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

/// The offsets, in minutes east of UTC, that a name can mean. A `match` on bytes compiles to a decision tree, as quick
/// as a search of a sorted table.
fn offsets(name: &str) -> Option<&'static [i32]> {
    Some(match name.as_bytes() {
        b"SST" => &[-660],
        b"HST" => &[-600],
        b"AKST" | b"HDT" => &[-540],
        b"AKDT" => &[-480],
        b"MST" | b"PDT" => &[-420],
        b"MDT" => &[-360],
        b"EST" => &[-300],
        b"AST" | b"EDT" => &[-240],
        b"NST" => &[-210],
        b"ADT" => &[-180],
        b"NDT" => &[-150],
        b"GMT" | b"UTC" | b"WET" | b"Z" => &[0],
        b"BST" | b"CET" | b"WAT" | b"WEST" => &[60],
        b"CAT" | b"CEST" | b"EET" | b"SAST" => &[120],
        b"EAT" | b"EEST" | b"IDT" | b"MSK" => &[180],
        b"PKT" => &[300],
        b"WIB" => &[420],
        b"AWST" | b"HKT" | b"WITA" => &[480],
        b"JST" | b"KST" | b"WIT" => &[540],
        b"ACST" => &[570],
        b"AEST" | b"ChST" => &[600],
        b"ACDT" => &[630],
        b"AEDT" => &[660],
        b"NZST" => &[720],
        b"NZDT" => &[780],
        b"CDT" => &[-300, -240],
        b"CST" => &[-360, -300, 480],
        b"IST" => &[60, 120, 330],
        b"PST" => &[-480, 480],
        _ => return None,
    })
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
    match (stated, offsets(name).ok_or(Reason::UnknownZone)?) {
        (Some(stated), offsets) if offsets.contains(&stated) => Ok(stated),
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
