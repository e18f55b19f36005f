//! What loads took, in Markdown.

use std::fmt::Write as _;

use super::Turn;
use super::files::Input;
use super::ways::{ALL, Store, Way};
use crate::arguments::Load;
use crate::machine::Machine;
use crate::numbers::{counted, grouped, median};

#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) arguments: &'a Load,
    pub(super) machine: &'a Machine,
    pub(super) turns: &'a [Turn],
}

/// What one way took for so many rows: medians, and the most memory and room.
#[derive(Debug, Clone, Copy)]
struct Figures {
    seconds: f64,
    memory_bytes: f64,
    temporary_bytes: f64,
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let Machine { date, cpu, cores, memory_gib, kernel, mariadb, .. } = self.machine;
        let mut text = format!(
            "Measured on {date} by\n\n```sh\n{}\n```\n\n{} turns each, one for those with the most rows; {cpu}, {cores} cores, \
             {memory_gib:.0} GiB, Linux {kernel}, MariaDB {}. Whoever sends has the same cores.\n",
            self.arguments.command_line(),
            self.arguments.turns,
            mariadb.as_deref().unwrap_or_default(),
        );
        let mut counts: Vec<usize> = self.turns.iter().map(|turn| turn.rows).collect();
        counts.sort_unstable();
        counts.dedup();
        for rows in counts {
            text += &self.table(rows);
        }
        text + &self.targets()
    }

    fn table(&self, rows: usize) -> String {
        let mut text = format!(
            "\n### {} rows\n\n| way | seconds | rows/s | to LOAD DATA | updater's memory MB | temporary MB |\n\
             | --- | ---: | ---: | ---: | ---: | ---: |\n",
            counted(rows)
        );
        let raw = self.figures(Way::Raw, rows);
        for way in ALL {
            let Some(figures) = self.figures(way, rows) else { continue };
            let to_raw = raw.map_or("-".into(), |raw| format!("{:.2}", raw.seconds / figures.seconds));
            let megabytes = |bytes: f64| if bytes > 0.0 { grouped(bytes / 1e6) } else { "-".into() };
            let _ = writeln!(
                text,
                "| {} | {:.2} | {} | {to_raw} | {} | {} |",
                way.name(),
                figures.seconds,
                grouped(number(rows) / figures.seconds),
                megabytes(figures.memory_bytes),
                megabytes(figures.temporary_bytes),
            );
        }
        text
    }

    fn targets(&self) -> String {
        let mut text = String::from(
            "\n### Targets\n\n| ratio | goal | floor | measured | reached |\n| --- | ---: | ---: | ---: | --- |\n",
        );
        let sorted = Way::Ours(Store::Embedded, Input::Sorted);
        let (usual, small) = (USUAL_ROWS, SMALL_ROWS);
        let (large, large_mariadb) = (self.arguments.large, self.arguments.large_mariadb);
        let times = |of, to| self.ratio((of, usual), (to, usual), |it| 1.0 / it.seconds);
        let pace = |way, rows| {
            self.ratio((way, rows), (way, usual), |it| 1.0 / it.seconds)
                .map(|it| it * number(rows) / number(usual))
        };
        let memory = self.ratio((Way::EMBEDDED, large), (Way::EMBEDDED, small), |it| it.memory_bytes);
        let lines = [
            ("speed of mariadb / LOAD DATA".to_owned(), (4.0, 2.8), times(Way::MARIADB, Way::Raw)),
            ("speed of embedded / LOAD DATA".to_owned(), (12.0, 7.0), times(Way::EMBEDDED, Way::Raw)),
            (
                format!("rows/s of embedded, {} / 10,000,000 rows", counted(large)),
                (1.0, 0.8),
                pace(Way::EMBEDDED, large),
            ),
            (
                format!("rows/s of mariadb, {} / 10,000,000 rows", counted(large_mariadb)),
                (1.0, 0.8),
                pace(Way::MARIADB, large_mariadb),
            ),
            (format!("the updater's memory, {} / 1,000,000 rows", counted(large)), (1.0, 1.2), memory),
            ("speed of embedded, sorted / shuffled".to_owned(), (1.5, 1.2), times(sorted, Way::EMBEDDED)),
        ];
        for (what, (goal, floor), measured) in lines {
            let lower = goal < floor;
            let than = if lower { "≤" } else { "≥" };
            let is = |limit: f64, measured: f64| if lower { measured <= limit } else { measured >= limit };
            let (measured, reached) = match measured {
                None => ("not measured".to_owned(), "-"),
                Some(it) if is(goal, it) => (format!("{it:.2}"), "goal"),
                Some(it) if is(floor, it) => (format!("{it:.2}"), "floor"),
                Some(it) => (format!("{it:.2}"), "neither"),
            };
            let _ = writeln!(text, "| {what} | {than} {goal} | {than} {floor} | {measured} | {reached} |");
        }
        text
    }

    fn ratio(&self, of: (Way, usize), to: (Way, usize), figure: impl Fn(Figures) -> f64) -> Option<f64> {
        Some(figure(self.figures(of.0, of.1)?) / figure(self.figures(to.0, to.1)?))
    }

    fn figures(&self, way: Way, rows: usize) -> Option<Figures> {
        let turns: Vec<_> = self.turns.iter().filter(|turn| turn.way == way && turn.rows == rows).collect();
        let most = |bytes: fn(&Turn) -> u64| turns.iter().map(|turn| bytes(turn)).max().unwrap_or_default();
        Some(Figures {
            seconds: median(turns.iter().map(|turn| turn.loaded.seconds).collect())?,
            memory_bytes: bytes(most(|turn| turn.loaded.memory_bytes)),
            temporary_bytes: bytes(most(|turn| turn.loaded.temporary_bytes)),
        })
    }
}

/// The numbers of rows to which others are compared.
const USUAL_ROWS: usize = 10_000_000;
const SMALL_ROWS: usize = 1_000_000;

#[expect(clippy::cast_precision_loss, reason = "nothing here is counted so far")]
fn number(rows: usize) -> f64 {
    rows as f64
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn bytes(bytes: u64) -> f64 {
    bytes as f64
}
