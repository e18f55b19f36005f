//! The dataset that ships: id, price, time of expiration in Central European time.

use std::fmt::Write;

use super::clock::date_time;
use super::keys_of;
use super::random::Random;

/// The definition of the promotions, as it is built in.
pub const PROMOTIONS_TOML: &str = r#"[promotions]                       # GET /promotions/<id>, table `promotions`
key = "id"
columns = [
  { name = "id", type = "uuid" },
  { name = "price", type = "decimal", precision = 12, scale = 6 },
  { name = "expiration_date", type = "timestamp", input = "%Y-%m-%d %H:%M:%S %z %Z", output = "%Y-%m-%d %H:%M:%S" },
]
max_rejects = 0                    # more rejects than this: refuse the file
duplicates = "reject"              # a key twice with different values: reject | first | last; identical rows collapse
min_rows = 1                       # an empty file is refused
max_shrink_percent = 50            # fewer rows than the live version by more than this: refuse
keep_versions = 2                  # previous versions kept for rollback
"#;

/// 2018-10-28 01:00:00 UTC, when the clocks went back: the local hour before it and the hour after it have the same
/// digits and differ in their zone alone.
const CLOCKS_GO_BACK: u32 = 1_540_688_400;

/// The span of a real file: 2018-05-31 00:00:00 UTC and 153 days from there.
const FIRST_SECOND: u32 = 1_527_724_800;
const SPAN_SECONDS: u32 = 153 * 86_400;

struct Promotion {
    id: String,
    price_micros: u32,
    expires: u32,
}

/// A promotions file: lower-case ids, prices with six decimals, local times with their zone; no header, LF.
pub fn promotions_csv(rows: usize, seed: u64) -> String {
    let mut csv = String::with_capacity(rows * 80);
    for row in 0..rows {
        let Promotion { id, price_micros, expires } = promotion(seed, row);
        let (offset, zone) = if expires < CLOCKS_GO_BACK { (2, "+0200 CEST") } else { (1, "+0100 CET") };
        let local = date_time(expires + offset * 3600);
        let (whole, fraction) = (price_micros / 1_000_000, price_micros % 1_000_000);
        writeln!(csv, "{id},{whole}.{fraction:06},{local} {zone}").expect("write to memory");
    }
    csv
}

/// The key of this row.
pub fn promotion_id(seed: u64, row: usize) -> String {
    promotion(seed, row).id
}

/// What the api answers for this row.
pub fn promotion_json(seed: u64, row: usize) -> String {
    let Promotion { id, price_micros, expires } = promotion(seed, row);
    let price = format!("{}.{:06}", price_micros / 1_000_000, price_micros % 1_000_000);
    let price = price.trim_end_matches('0').trim_end_matches('.');
    format!(r#"{{"id":"{id}","price":{price},"expiration_date":"{}"}}"#, date_time(expires))
}

/// Every 16th price is whole, every 32nd time lies in one of the two hours around the end of summer time: rare cases
/// that a test of a few rows should meet as well.
fn promotion(seed: u64, row: usize) -> Promotion {
    let mut keys = Random::of_row(keys_of(seed), row);
    let mut values = Random::of_row(!seed, row);
    let price_micros = match row % 16 {
        15 => values.below(100) * 1_000_000,
        _ => values.below(100_000_000),
    };
    let expires = match row % 32 {
        31 => CLOCKS_GO_BACK - 3600 + values.below(7200),
        _ => FIRST_SECOND + values.below(SPAN_SECONDS),
    };
    Promotion { id: uuid(keys.next(), keys.next()), price_micros, expires }
}

/// A random uuid (version 4). That two of 122 random bits are equal will not happen.
fn uuid(high: u64, low: u64) -> String {
    let high = (high & !0xf000) | 0x4000;
    let low = (low & (u64::MAX >> 2)) | (1 << 63);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All fields of 2,000 rows were compared once with what Python's zoneinfo and decimal make of them.
    #[test]
    fn a_line_and_its_answer_say_the_same() {
        let csv = promotions_csv(64, 1);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "6aed01ad-a618-418c-b6ba-b4ef33fa7370,68.869895,2018-09-28 12:53:36 +0200 CEST");
        assert_eq!(
            promotion_json(1, 0),
            r#"{"id":"6aed01ad-a618-418c-b6ba-b4ef33fa7370","price":68.869895,"expiration_date":"2018-09-28 10:53:36"}"#
        );
        assert_eq!(lines[31], "46219448-d68f-4dbc-85e1-6adaf168295f,64.000000,2018-10-28 02:51:03 +0100 CET");
        assert_eq!(
            promotion_json(1, 31),
            r#"{"id":"46219448-d68f-4dbc-85e1-6adaf168295f","price":64,"expiration_date":"2018-10-28 01:51:03"}"#
        );
    }

    #[test]
    fn ids_are_lower_case_uuids_of_version_4() {
        for row in 0..1000 {
            let id = promotion_id(1, row);
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12]);
            assert!(id.chars().all(|char| matches!(char, '-' | '0'..='9' | 'a'..='f')));
            assert!(id[14..].starts_with('4') && "89ab".contains(&id[19..20]), "{id}");
        }
    }

    #[test]
    fn both_zones_and_the_hour_that_comes_twice_occur() {
        let csv = promotions_csv(1000, 1);
        let count = |part: &str| csv.lines().filter(|line| line.contains(part)).count();
        assert!(count("2018-10-28 02:") > 20);
        assert!(csv.lines().any(|line| line.contains("2018-10-28 02:") && line.ends_with(" +0200 CEST")));
        assert!(csv.lines().any(|line| line.contains("2018-10-28 02:") && line.ends_with(" +0100 CET")));
    }
}
