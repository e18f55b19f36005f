//! The tables, in Markdown.

use std::fmt::Write as _;

use crate::lookup::contender::{BARE, Contender};
use crate::lookup::results::{Figure, Results, Side};
use crate::lookup::targets::{TARGETS, Target};
use crate::machine::Machine;
use crate::numbers::{counted, grouped};

/// What the tables are made of.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) command_line: &'a str,
    pub(crate) rows: usize,
    pub(crate) turns: usize,
    pub(crate) seconds: usize,
    pub(crate) machine: &'a Machine,
    pub(crate) contenders: &'a [&'static Contender],
    pub(crate) connections: &'a [usize],
    pub(crate) results: &'a Results,
}

impl Report<'_> {
    pub(crate) fn text(&self) -> String {
        let mut text = self.conditions();
        for &connections in self.connections {
            text += &self.table(connections);
        }
        text + &self.targets()
    }

    fn conditions(&self) -> String {
        let Machine { date, cpu, cores, memory_gib, kernel, mariadb, wrk } = self.machine;
        let mariadb = mariadb.as_ref().map(|version| format!(", MariaDB {version}")).unwrap_or_default();
        let (rows, turns, seconds) = (counted(self.rows), self.turns, self.seconds);
        format!(
            "Measured on {date} by\n\n```sh\n{}\n```\n\n{rows} rows; {turns} × {seconds} s for each contender; \
             {cpu}, {cores} cores, {memory_gib:.0} GiB, Linux {kernel}{mariadb}, wrk {wrk}. The load generator has \
             the same cores.\n",
            self.command_line
        )
    }

    fn table(&self, connections: usize) -> String {
        let mut text = format!(
            "\n### {} connections\n\n\
             | contender | requests/s | to bare | p50 ms | p99 ms | p99 to bare | errors |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
            counted(connections)
        );
        for contender in self.contenders {
            text += &self.line(Side { contender: contender.name, connections }).unwrap_or_default();
        }
        text
    }

    /// Nothing for a contender without turns at this number of connections.
    fn line(&self, of: Side) -> Option<String> {
        let results = self.results;
        let bare = Side { contender: BARE, ..of };
        let milliseconds = |figure| results.median(of, figure).map(|micros| format!("{:.2}", micros / 1e3));
        let to_bare = |figure| results.ratio(of, bare, figure).map(ratio);
        let errors = results.errors(of);
        Some(format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            of.contender,
            grouped(results.median(of, Figure::Throughput)?),
            to_bare(Figure::Throughput)?,
            milliseconds(Figure::P50)?,
            milliseconds(Figure::P99)?,
            to_bare(Figure::P99)?,
            if errors > 0.0 { format!("**{}**", grouped(errors)) } else { "0".to_owned() },
        ))
    }

    fn targets(&self) -> String {
        let mut text = String::from(
            "\n### Targets\n\n| ratio | goal | floor | measured | reached |\n| --- | ---: | ---: | ---: | --- |\n",
        );
        for target in TARGETS {
            let (measured, reached) = match target.measured(self.results) {
                Some(measured) if target.has_errors(self.results) => (ratio(measured), "errors"),
                Some(measured) => (ratio(measured), target.reached(measured)),
                None => ("not measured".to_owned(), "-"),
            };
            let (goal, floor) = limits(target);
            let _ = writeln!(text, "| {} | {goal} | {floor} | {measured} | {reached} |", target.what());
        }
        text
    }
}

fn limits(target: &Target) -> (String, String) {
    let than = if target.lower_is_better() { "≤" } else { "≥" };
    (format!("{than} {}", target.goal), format!("{than} {}", target.floor))
}

fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::contender::chosen;
    use crate::lookup::results::tests::turns;

    fn machine() -> Machine {
        Machine {
            date: "2026-01-02".to_owned(),
            cpu: "Some CPU".to_owned(),
            cores: 2,
            memory_gib: 23.4,
            kernel: "6.1".to_owned(),
            mariadb: Some("10.11".to_owned()),
            wrk: "4.1".to_owned(),
        }
    }

    fn results() -> Results {
        let turns = [
            turns("bare", 16, &[[80_000.0, 0.1, 0.2, 0.0]]),
            turns("bare", 64, &[[100_000.0, 0.5, 1.0, 0.0], [90_000.0, 0.6, 1.1, 0.0]]),
            turns("embedded", 64, &[[95_000.0, 0.5, 1.2, 0.0], [81_000.0, 0.6, 1.2, 0.0]]),
            turns("bare", 512, &[[70_000.0, 5.0, 9.0, 0.0]]),
            turns("embedded", 512, &[[63_000.0, 5.0, 9.0, 1234.0]]),
        ];
        Results { turns: turns.concat() }
    }

    #[test]
    fn the_report_has_a_table_for_each_number_of_connections_and_one_of_the_targets() {
        let results = results();
        let report = Report {
            command_line: "bench lookup",
            rows: 100_000,
            turns: 2,
            seconds: 1,
            machine: &machine(),
            contenders: &chosen(&["embedded".to_owned()]).unwrap(),
            connections: &[16, 64, 512],
            results: &results,
        };
        insta::assert_snapshot!(report.text(), @r"
        Measured on 2026-01-02 by

        ```sh
        bench lookup
        ```

        100,000 rows; 2 × 1 s for each contender; Some CPU, 2 cores, 23 GiB, Linux 6.1, MariaDB 10.11, wrk 4.1. The load generator has the same cores.

        ### 16 connections

        | contender | requests/s | to bare | p50 ms | p99 ms | p99 to bare | errors |
        | --- | ---: | ---: | ---: | ---: | ---: | ---: |
        | bare | 80,000 | 1.00 | 0.10 | 0.20 | 1.00 | 0 |

        ### 64 connections

        | contender | requests/s | to bare | p50 ms | p99 ms | p99 to bare | errors |
        | --- | ---: | ---: | ---: | ---: | ---: | ---: |
        | bare | 95,000 | 1.00 | 0.55 | 1.05 | 1.00 | 0 |
        | embedded | 88,000 | 0.93 | 0.55 | 1.20 | 1.15 | 0 |

        ### 512 connections

        | contender | requests/s | to bare | p50 ms | p99 ms | p99 to bare | errors |
        | --- | ---: | ---: | ---: | ---: | ---: | ---: |
        | bare | 70,000 | 1.00 | 5.00 | 9.00 | 1.00 | 0 |
        | embedded | 63,000 | 0.90 | 5.00 | 9.00 | 1.00 | **1,234** |

        ### Targets

        | ratio | goal | floor | measured | reached |
        | --- | ---: | ---: | ---: | --- |
        | requests/s of embedded / bare, 64 connections | ≥ 0.95 | ≥ 0.88 | 0.93 | floor |
        | requests/s of embedded / bare, 512 connections | ≥ 0.95 | ≥ 0.88 | 0.90 | errors |
        | requests/s of mariadb / mariadb-one-by-one, 64 connections | ≥ 7 | ≥ 4.5 | not measured | - |
        | requests/s of mariadb / mariadb-one-by-one, 512 connections | ≥ 7 | ≥ 4.5 | not measured | - |
        | requests/s of mariadb / bare, 64 connections | ≥ 0.65 | ≥ 0.45 | not measured | - |
        | requests/s of mariadb / bare, 512 connections | ≥ 0.65 | ≥ 0.45 | not measured | - |
        | requests/s of hot / bare, 64 connections | ≥ 0.95 | ≥ 0.85 | not measured | - |
        | requests/s of hot / bare, 512 connections | ≥ 0.95 | ≥ 0.85 | not measured | - |
        | requests/s of embedded, 2,000 / 64 connections | ≥ 0.9 | ≥ 0.75 | not measured | - |
        | requests/s of mariadb, 2,000 / 64 connections | ≥ 0.9 | ≥ 0.75 | not measured | - |
        | requests/s of mariadb-far / mariadb, 512 connections | ≥ 0.85 | ≥ 0.6 | not measured | - |
        | p99 of embedded / bare, 64 connections | ≤ 1.1 | ≤ 1.5 | 1.15 | floor |
        | p99 of mariadb / mariadb-one-by-one, 64 connections | ≤ 0.2 | ≤ 0.5 | not measured | - |
        | p99 of mariadb / mariadb-one-by-one, 512 connections | ≤ 0.2 | ≤ 0.5 | not measured | - |
        ");
    }
}
