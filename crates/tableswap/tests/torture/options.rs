//! How long a run is, and the seed that decides everything in it.

use std::sync::LazyLock;

/// The seed of the short form, so that a change is judged by the same decisions as the one before it.
const USUAL_SEED: u64 = 7;

/// One seed for all scenarios of a run. Where rounds are given it is drawn by lot, so that each long run meets others.
static SEED: LazyLock<u64> = LazyLock::new(|| {
    let by_lot = || number("TORTURE_ROUNDS").map(|_| rand_seed() % 1_000_000);
    number("TORTURE_SEED").or_else(by_lot).unwrap_or(USUAL_SEED)
});

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
}

impl Options {
    /// `TORTURE_ROUNDS` and `TORTURE_SEED`. A scenario never runs fewer rounds than it needs to meet all that it asserts.
    pub(crate) fn read(scenario: &str, rounds_min: usize) -> Options {
        let rounds = number("TORTURE_ROUNDS").and_then(|rounds| usize::try_from(rounds).ok());
        let options = Options { rounds: rounds.unwrap_or(rounds_min).max(rounds_min), seed: *SEED };
        println!("{scenario}: TORTURE_ROUNDS={} TORTURE_SEED={}", options.rounds, options.seed);
        options
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever runs it chooses rounds and seed")]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn rand_seed() -> u64 {
    use std::hash::BuildHasher;
    std::collections::hash_map::RandomState::new().hash_one("seed")
}
