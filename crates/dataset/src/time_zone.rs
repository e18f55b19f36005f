//! Time zone names and the offsets from UTC that each can mean.
//!
//! A file that was truncated often ends inside the zone name of its last line, so an unknown name is an error and not
//! ignored. The names are those still in use in the tz database. It writes zones without a name as their offset
//! (`+03`), as Go's `MST` verb does, so an offset is accepted as a name too.

use std::ops::RangeInclusive;

use crate::digits;
use crate::reject_reason::RejectReason;

/// The offsets, in minutes east of UTC, of all zones in use. An offset beyond them is an error in the file.
const OFFSETS: RangeInclusive<i32> = -12 * 60..=14 * 60;

/// The offsets, in minutes east of UTC, that a name can mean.
fn offsets_of_name(name: &str) -> Option<&'static [i32]> {
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

/// The offset, in minutes east of UTC, that `name` means. If the row states an offset beside the name, both must agree.
pub(crate) fn offset_minutes(name: &str, stated: Option<i32>) -> Result<i32, RejectReason> {
    if let Some((offset, "")) = read_offset(name) {
        return if stated.is_none_or(|stated| stated == offset) {
            Ok(offset)
        } else {
            Err(RejectReason::ZoneOffset)
        };
    }
    match (stated, offsets_of_name(name).ok_or(RejectReason::UnknownZone)?) {
        (Some(stated), offsets) if offsets.contains(&stated) => Ok(stated),
        (Some(_), _) => Err(RejectReason::ZoneOffset),
        (None, [offset]) => Ok(*offset),
        (None, _) => Err(RejectReason::AmbiguousZone),
    }
}

/// Reads `+02`, `+0200` or `+02:00` from the front of `text`. Returns the minutes and the text behind them.
pub(crate) fn read_offset(text: &str) -> Option<(i32, &str)> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = read_two_digits(&text[1..])?;
    let (minutes, rest) = read_two_digits(rest.strip_prefix(':').unwrap_or(rest)).unwrap_or((0, rest));
    let offset = sign * (hours * 60 + minutes);
    (minutes < 60 && OFFSETS.contains(&offset)).then_some((offset, rest))
}

fn read_two_digits(text: &str) -> Option<(i32, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    let number = i32::try_from(digits::parse(digits)?).ok()?;
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_agree_with_the_offset_beside_it() {
        assert_eq!(offset_minutes("CEST", Some(120)), Ok(120));
        assert_eq!(offset_minutes("CEST", Some(60)), Err(RejectReason::ZoneOffset));
        assert_eq!(offset_minutes("CES", Some(120)), Err(RejectReason::UnknownZone));
        assert_eq!(offset_minutes("", Some(120)), Err(RejectReason::UnknownZone));
    }

    #[test]
    fn a_name_without_an_offset_must_be_unambiguous() {
        assert_eq!(offset_minutes("CET", None), Ok(60));
        assert_eq!(offset_minutes("IST", None), Err(RejectReason::AmbiguousZone));
        assert_eq!(offset_minutes("IST", Some(330)), Ok(330));
    }

    #[test]
    fn an_offset_is_accepted_as_a_name() {
        assert_eq!(offset_minutes("+03", Some(180)), Ok(180));
        assert_eq!(offset_minutes("-0330", None), Ok(-210));
        assert_eq!(offset_minutes("+03", Some(120)), Err(RejectReason::ZoneOffset));
        for same in ["+02", "+0200", "+02:00"] {
            assert_eq!(offset_minutes(same, None), Ok(120), "{same}");
        }
        for none in ["+3", "+", "+020", "+02:0", "+02:", "+0060", "+9999", "+2359", "-2359", "+1401", "-1201"]
        {
            assert_eq!(offset_minutes(none, None), Err(RejectReason::UnknownZone), "{none}");
        }
        assert_eq!(offset_minutes("+1400", None), Ok(840));
        assert_eq!(offset_minutes("-1200", None), Ok(-720));
    }
}
