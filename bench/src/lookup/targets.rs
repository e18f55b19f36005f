//! What is aimed at: ratios within one run, which say more than requests a second of one machine.

use crate::lookup::results::{Figure, Results, Side};
use crate::numbers::counted;

/// A ratio that is aimed at, and one that is the least. Where the goal is below the floor, lower is better.
#[derive(Debug)]
pub(crate) struct Target {
    figure: Figure,
    of: Side,
    to: Side,
    pub(crate) goal: f64,
    pub(crate) floor: f64,
}

/// All of them, in the order of the table.
pub(crate) const TARGETS: &[Target] = &[
    throughput(("embedded", 64), ("bare", 64), 0.95, 0.88),
    throughput(("embedded", 512), ("bare", 512), 0.95, 0.88),
    throughput(("mariadb", 64), ("mariadb-one-by-one", 64), 7.0, 4.5),
    throughput(("mariadb", 512), ("mariadb-one-by-one", 512), 7.0, 4.5),
    throughput(("mariadb", 64), ("bare", 64), 0.65, 0.45),
    throughput(("mariadb", 512), ("bare", 512), 0.65, 0.45),
    throughput(("hot", 64), ("bare", 64), 0.95, 0.85),
    throughput(("hot", 512), ("bare", 512), 0.95, 0.85),
    throughput(("embedded", 2000), ("embedded", 64), 0.9, 0.75),
    throughput(("mariadb", 2000), ("mariadb", 64), 0.9, 0.75),
    throughput(("mariadb-far", 512), ("mariadb", 512), 0.85, 0.6),
    p99(("embedded", 64), ("bare", 64), 1.1, 1.5),
    p99(("mariadb", 64), ("mariadb-one-by-one", 64), 0.2, 0.5),
    p99(("mariadb", 512), ("mariadb-one-by-one", 512), 0.2, 0.5),
];

/// A contender and its number of connections.
type Who = (&'static str, usize);

const fn throughput(of: Who, to: Who, goal: f64, floor: f64) -> Target {
    Target { figure: Figure::Throughput, of: side(of), to: side(to), goal, floor }
}

const fn p99(of: Who, to: Who, goal: f64, floor: f64) -> Target {
    Target { figure: Figure::P99, of: side(of), to: side(to), goal, floor }
}

const fn side((contender, connections): Who) -> Side {
    Side { contender, connections }
}

impl Target {
    /// What is compared, in words.
    pub(crate) fn what(&self) -> String {
        let (of, to) = (self.of, self.to);
        let figure = match self.figure {
            Figure::Throughput => "requests/s",
            Figure::P50 => "p50",
            Figure::P99 => "p99",
        };
        if of.connections == to.connections {
            format!("{figure} of {} / {}, {} connections", of.contender, to.contender, of.connections)
        } else {
            let (of_count, to_count) = (counted(of.connections), counted(to.connections));
            format!("{figure} of {}, {of_count} / {to_count} connections", of.contender)
        }
    }

    /// What it was, where both sides had turns.
    pub(crate) fn measured(&self, results: &Results) -> Option<f64> {
        results.ratio(self.of, self.to, self.figure)
    }

    /// Whether an answer of either side was not as it had to be: then the ratio says nothing.
    pub(crate) fn has_errors(&self, results: &Results) -> bool {
        results.errors(self.of) + results.errors(self.to) > 0.0
    }

    /// What a ratio reaches.
    pub(crate) fn reached(&self, ratio: f64) -> &'static str {
        let reaches = |target| if self.lower_is_better() { ratio <= target } else { ratio >= target };
        if reaches(self.goal) {
            "goal"
        } else if reaches(self.floor) {
            "floor"
        } else {
            "neither"
        }
    }

    pub(crate) fn lower_is_better(&self) -> bool {
        self.goal < self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_reaches_the_goal_the_floor_or_neither_in_both_directions() {
        let higher = throughput(("hot", 64), ("bare", 64), 0.95, 0.85);
        assert_eq!([0.95, 0.94, 0.84].map(|ratio| higher.reached(ratio)), ["goal", "floor", "neither"]);
        let lower = p99(("hot", 64), ("bare", 64), 1.1, 1.5);
        assert_eq!([1.1, 1.2, 1.6].map(|ratio| lower.reached(ratio)), ["goal", "floor", "neither"]);
        assert_eq!(lower.reached(f64::NAN), "neither");
    }
}
