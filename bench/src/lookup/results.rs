//! What was measured in all turns, and what follows from it.

use std::fmt::Write as _;

use crate::numbers::median;
use crate::wrk::Measured;

/// One contender's turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) of: Side,
    /// Counted from 1. Turns of the same number were measured close to each other.
    pub(crate) number: usize,
    pub(crate) measured: Measured,
    /// Answers that were not as they had to be.
    pub(crate) errors: f64,
}

/// One side of a comparison: a contender at a number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) contender: &'static str,
    pub(crate) connections: usize,
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    /// Requests in a second.
    Throughput,
    /// Half of the answers came within so many microseconds.
    P50,
    /// 99 of 100 answers did.
    P99,
}

/// All turns, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) turns: Vec<Turn>,
}

impl Results {
    /// The median over the turns; nothing where there was none.
    pub(crate) fn median(&self, of: Side, figure: Figure) -> Option<f64> {
        median(self.of(of).map(|turn| figure.of(turn)).collect())
    }

    /// The median of the ratios of turns of the same number, so that what slows down the machine for a while
    /// slows down both sides.
    pub(crate) fn ratio(&self, of: Side, to: Side, figure: Figure) -> Option<f64> {
        let ratios = self.of(of).filter_map(|turn| {
            let other = self.of(to).find(|other| other.number == turn.number)?;
            Some(figure.of(turn) / figure.of(other))
        });
        median(ratios.collect())
    }

    /// Over all turns.
    pub(crate) fn errors(&self, of: Side) -> f64 {
        self.of(of).map(|turn| turn.errors).sum()
    }

    /// Every turn as a line of CSV, with a header.
    pub(crate) fn csv(&self) -> String {
        let mut csv = String::from(
            "contender,connections,turn,requests_per_second,p50_us,p90_us,p99_us,p99_9_us,max_us,errors\n",
        );
        for Turn { of, number, measured, errors } in &self.turns {
            let (name, connections, throughput) = (of.contender, of.connections, measured.throughput());
            let Measured { p50, p90, p99, p999, max, .. } = measured;
            let _ = writeln!(
                csv,
                "{name},{connections},{number},{throughput:.0},{p50},{p90},{p99},{p999},{max},{errors}"
            );
        }
        csv
    }

    fn of(&self, side: Side) -> impl Iterator<Item = &Turn> {
        self.turns.iter().filter(move |turn| turn.of == side)
    }
}

impl Figure {
    fn of(self, turn: &Turn) -> f64 {
        match self {
            Figure::Throughput => turn.measured.throughput(),
            Figure::P50 => turn.measured.p50,
            Figure::P99 => turn.measured.p99,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One turn for each of these: throughput, median and 99th percentile in milliseconds, and errors.
    pub(crate) fn turns(contender: &'static str, connections: usize, of: &[[f64; 4]]) -> Vec<Turn> {
        let turn = |(at, &[throughput, p50, p99, errors]): (usize, &[f64; 4])| {
            let (p50, p99) = (p50 * 1e3, p99 * 1e3);
            let measured = Measured { requests: throughput, duration: 1e6, p50, p99, ..Measured::default() };
            Turn { of: Side { contender, connections }, number: at + 1, measured, errors }
        };
        of.iter().enumerate().map(turn).collect()
    }

    fn results() -> Results {
        let bare = turns("bare", 64, &[[100.0, 1.0, 2.0, 0.0], [50.0, 1.0, 2.0, 0.0], [80.0, 1.0, 2.0, 0.0]]);
        let hot = turns("hot", 64, &[[90.0, 1.0, 4.0, 0.0], [25.0, 1.0, 2.0, 3.0], [40.0, 1.0, 6.0, 4.0]]);
        Results { turns: [bare, hot].concat() }
    }

    const BARE: Side = Side { contender: "bare", connections: 64 };
    const HOT: Side = Side { contender: "hot", connections: 64 };

    #[test]
    fn a_ratio_is_the_median_of_the_turns_ratios_and_not_the_ratio_of_the_medians() {
        let results = results();
        assert_eq!(results.median(BARE, Figure::Throughput), Some(80.0));
        assert_eq!(results.median(HOT, Figure::Throughput), Some(40.0));
        assert_eq!(results.ratio(HOT, BARE, Figure::Throughput), Some(0.5));
        assert_eq!(results.ratio(HOT, BARE, Figure::P99), Some(2.0));
        assert!((results.errors(HOT) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_not_measured_has_no_figures() {
        let elsewhere = Side { contender: "hot", connections: 512 };
        assert_eq!(results().median(elsewhere, Figure::P50), None);
        assert_eq!(results().ratio(HOT, elsewhere, Figure::P99), None);
    }

    #[test]
    fn every_turn_is_a_line_of_the_csv() {
        let results = Results { turns: turns("hot", 64, &[[90.0, 1.5, 4.0, 3.0]]) };
        insta::assert_snapshot!(results.csv(), @r"
        contender,connections,turn,requests_per_second,p50_us,p90_us,p99_us,p99_9_us,max_us,errors
        hot,64,1,90,1500,0,4000,0,0,3
        ");
    }
}
