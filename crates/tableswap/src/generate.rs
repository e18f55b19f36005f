//! `tableswap generate`: promotions in the format of a real file, as many as are wanted, the same for the same seed.
//!
//! A real file has no header, ids in lower case, prices with six decimals, and local times of central Europe over the
//! night when the clocks go back.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use dataset::CivilTime;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use uuid::Builder;

use crate::Error;
use crate::arguments::Generate;

/// The seed of the project's own `promotions.csv`.
pub const SEED: u64 = 1322;

/// 2018-05-31 00:00:00 UTC.
const FIRST_SECOND: i64 = 1_527_724_800;
/// Until 2018-10-31 00:00:00 UTC.
const SECONDS: u64 = 153 * 86_400;
/// 2018-10-28 01:00:00 UTC, when the clocks go back from 03:00 to 02:00.
const CLOCKS_GO_BACK: i64 = 1_540_688_400;

pub(crate) fn run(generate: &Generate) -> Result<ExitCode, Error> {
    match &generate.output {
        Some(path) => {
            let file = File::create(path).map_err(|error| Error::file(path, error))?;
            write(generate.rows, generate.seed, file).map_err(|error| Error::file(path, error))?;
        }
        None => write(generate.rows, generate.seed, io::stdout().lock())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes rows, one after the other.
pub fn write(rows: u64, seed: u64, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, out);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..rows {
        write_row(&mut random, &mut out)?;
    }
    out.flush()
}

fn write_row(random: &mut ChaCha8Rng, out: &mut impl Write) -> io::Result<()> {
    let mut bytes = [0; 16];
    random.fill_bytes(&mut bytes);
    let id = Builder::from_random_bytes(bytes).into_uuid();
    // From 0.500000 to 99.999999; a remainder is even enough for so small a range.
    let price = 500_000 + random.next_u64() % 99_500_000;
    let second = FIRST_SECOND + (random.next_u64() % SECONDS).cast_signed();
    let (hours, zone) = if second < CLOCKS_GO_BACK { (2, "+0200 CEST") } else { (1, "+0100 CET") };
    let CivilTime { year, month, day, hour, minute, second, .. } =
        CivilTime::from_micros((second + hours * 3600) * 1_000_000);
    let id = id.hyphenated();
    let (whole, fraction) = (price / 1_000_000, price % 1_000_000);
    writeln!(
        out,
        "{id},{whole}.{fraction:06},{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} {zone}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(rows: u64) -> String {
        let mut out = Vec::new();
        write(rows, SEED, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_same_seed_makes_the_same_rows_on_every_machine() {
        insta::assert_snapshot!(generated(3), @r"
        84bd5481-ace4-4d45-806e-8365980105d9,84.269357,2018-06-03 06:16:18 +0200 CEST
        528d33b9-216f-41ba-b23a-ac45a1c96478,43.430651,2018-10-19 06:43:10 +0200 CEST
        9e9c99f0-46fb-47bd-a54b-63917aeab988,89.736615,2018-06-10 06:17:33 +0200 CEST
        ");
        assert!(generated(1000).starts_with(&generated(10)));
    }

    #[test]
    fn the_file_that_ships_is_the_one_of_the_seed() {
        let shipped = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../promotions.csv")).unwrap();
        assert!(
            shipped == generated(200_000).as_bytes(),
            "make it with: tableswap generate 200000 --output promotions.csv"
        );
    }

    #[tokio::test]
    async fn every_row_is_valid_and_has_a_key_of_its_own() {
        let (rows, dir) = (generated(50_000), tempfile::tempdir().unwrap());
        let dataset = dataset::Datasets::built_in().unwrap().get("promotions").unwrap().clone();
        let body = tokio_util::io::ReaderStream::new(io::Cursor::new(rows));
        let (limits, report) = (ingest::Limits::default(), dir.path().join("rejects.csv"));
        let ingested = ingest::ingest(body, dataset, &limits, ingest::Outlets::new(&report));
        let merged = ingested.await.unwrap().into_rows(1).await.unwrap().finish_unread().await.unwrap();
        assert_eq!((merged.rows, merged.duplicates, merged.rejects.count()), (50_000, 0, 0));
    }

    #[test]
    fn the_night_when_the_clocks_go_back_is_in_it() {
        let rows = generated(200_000);
        let hour = |zone: &str| {
            rows.lines().filter(|row| row.contains("2018-10-28 02:") && row.ends_with(zone)).count()
        };
        assert!(hour("+0200 CEST") > 20 && hour("+0100 CET") > 20);
    }
}
