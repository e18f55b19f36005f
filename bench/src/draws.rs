//! Which ids are asked for, in which order: files of ids without anything between them, made before the first turn.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::ensure;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, Uniform, Zipf};
use uuid::Builder;

use crate::data::Ids;
use crate::wrk::THREADS;

/// How ids are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draw {
    /// Every id is as likely as any other.
    Uniform,
    /// The same from 1,000 ids alone.
    Hot,
    /// The k-th id is asked for 1/k as often as the first.
    Zipf,
    /// Ids that no promotion has.
    Absent,
}

/// All of them.
pub(crate) const DRAWS: [Draw; 4] = [Draw::Uniform, Draw::Hot, Draw::Zipf, Draw::Absent];

const HOT_IDS: usize = 1000;

/// Not fewer than these in a file.
const DRAWS_MIN: usize = 4_000_000;

/// More than one thread of the load generator sends in a second.
const PER_SECOND: usize = 100_000;

/// The parts of a file of draws: one for each thread in each turn, none of which is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// How many draws one thread has.
    pub(crate) each: usize,
    turns: usize,
}

impl Parts {
    /// For so many turns of all numbers of connections, and so many seconds.
    pub(crate) fn new(turns: usize, seconds: usize) -> Parts {
        let each = (seconds * PER_SECOND).max(DRAWS_MIN.div_ceil(turns * THREADS));
        Parts { each, turns }
    }

    /// Where the part of a turn's first thread begins; the other's is behind it.
    pub(crate) fn first(self, turn: usize) -> usize {
        turn * THREADS * self.each
    }

    /// How many draws a turn has.
    pub(crate) fn of_turn(self) -> f64 {
        float(THREADS * self.each)
    }

    /// How many draws a file has.
    pub(crate) fn total(self) -> usize {
        self.first(self.turns)
    }
}

impl Draw {
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Draw::Uniform => "uniform.draws",
            Draw::Hot => "hot.draws",
            Draw::Zipf => "zipf.draws",
            Draw::Absent => "absent.draws",
        }
    }

    /// Writes so many draws, the same in every run.
    pub(crate) fn write(self, ids: &Ids, count: usize, path: &Path) -> anyhow::Result<()> {
        let file = File::create(path)?;
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        let mut random = ChaCha8Rng::seed_from_u64(1321);
        match self {
            Draw::Absent => write_absent(&mut random, count, &mut out)?,
            _ => {
                for row in self.rows(ids.count(), random)?.take(count) {
                    out.write_all(ids.of(row))?;
                }
            }
        }
        out.flush()?;
        drop(out);
        // What is written back later would take time from a turn.
        Ok(file.sync_all()?)
    }

    /// Rows that are asked for, without end. The popular ones of Zipf are the first of the file, whose order has
    /// nothing to do with that of the keys.
    fn rows(self, rows: usize, random: ChaCha8Rng) -> anyhow::Result<Box<dyn Iterator<Item = usize>>> {
        ensure!(rows > 0, "there is no row to ask for");
        let rows = if self == Draw::Hot { rows.min(HOT_IDS) } else { rows };
        Ok(match self {
            Draw::Zipf => Box::new(Zipf::new(float(rows), 1.0)?.sample_iter(random).map(row_of_rank)),
            Draw::Uniform | Draw::Hot | Draw::Absent => Box::new(Uniform::new(0, rows)?.sample_iter(random)),
        })
    }
}

fn write_absent(random: &mut ChaCha8Rng, count: usize, out: &mut impl Write) -> anyhow::Result<()> {
    // The promotions are made from another seed, and what has 122 random bits is not drawn twice.
    for _ in 0..count {
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        write!(out, "{}", Builder::from_random_bytes(bytes).into_uuid().hyphenated())?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "no file has so many rows that it matters")]
fn float(rows: usize) -> f64 {
    rows as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank is a whole number from 1 to the number of rows"
)]
fn row_of_rank(rank: f64) -> usize {
    rank as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(draw: Draw, rows: usize) -> Vec<usize> {
        draw.rows(rows, ChaCha8Rng::seed_from_u64(7)).unwrap().take(200_000).collect()
    }

    /// How often a row was drawn, for each draw of all.
    fn share(drawn: &[usize], row: usize) -> f64 {
        float(drawn.iter().filter(|&&other| other == row).count()) / float(drawn.len())
    }

    #[test]
    fn zipf_asks_for_the_kth_id_a_kth_as_often_as_for_the_first() {
        let drawn = drawn(Draw::Zipf, 1000);
        // The sum of 1/k for k from 1 to 1000.
        let all = 7.485_47;
        for rank in [1_u32, 2, 3, 10, 50] {
            let (seen, expected) = (share(&drawn, rank as usize - 1), 1.0 / f64::from(rank) / all);
            assert!((seen / expected - 1.0).abs() < 0.1, "rank {rank}: {seen}, not {expected}");
        }
        assert!(drawn.iter().all(|&row| row < 1000) && drawn.iter().any(|&row| row > 990));
    }

    #[test]
    fn uniform_asks_for_every_id_and_hot_for_a_thousand() {
        let uniform = drawn(Draw::Uniform, 4);
        assert!((0..4).all(|row| (share(&uniform, row) - 0.25).abs() < 0.01));
        let hot = drawn(Draw::Hot, 1_000_000);
        assert_eq!(hot.iter().max(), Some(&999));
    }

    #[test]
    fn no_two_threads_of_any_two_turns_have_a_draw_in_common() {
        let parts = Parts::new(3, 100);
        assert_eq!(parts.each, 10_000_000);
        assert_eq!([0, 1, 2].map(|turn| parts.first(turn)), [0, 20_000_000, 40_000_000]);
        assert_eq!(parts.total(), 60_000_000);
        assert!(Parts::new(11, 1).total() >= DRAWS_MIN);
    }

    #[test]
    fn a_file_of_draws_has_ids_without_anything_between_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("draws");
        Draw::Absent.write(&Ids::default(), 3, &path).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.len(), 3 * crate::data::ID_BYTES);
        assert!(text.as_bytes().chunks(36).all(|id| id[14] == b'4'));
    }
}
