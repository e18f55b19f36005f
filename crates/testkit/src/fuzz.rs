//! Random bytes against a function that reads what others send: seeds are mutated, and what gives a new result becomes a
//! seed too.
//!
//! A stand-in for cargo-fuzz, which needs a nightly compiler: the results that a target tells apart take the place of
//! coverage. `FUZZ_SECONDS` is the time for each target; without it a fixed number of inputs is tried, the same ones in
//! each run.

use std::collections::BTreeSet;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Inputs of a run without a time.
const SHORT_RUN: u64 = 3_000;
/// The longest input: long ones are slow and find nothing that short ones do not.
const INPUT_BYTES_MAX: usize = 4_096;
/// Mutations of one input at most.
const MUTATIONS_MAX: u64 = 6;

/// Pseudo-random numbers (SplitMix64): the same ones for the same seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where that is 0.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }
}

/// Runs `target` with mutations of the seeds. It panics where something is wrong, and otherwise returns a word for what
/// came out, such as the code of an error: an input with a new word is kept and mutated further.
///
/// # Panics
///
/// With the input, where the target does.
#[expect(clippy::print_stdout, reason = "cargo shows it with --nocapture, as make fuzz does")]
pub fn fuzz(name: &str, seeds: &[&[u8]], tokens: &[&[u8]], mut target: impl FnMut(&[u8]) -> String) {
    let seconds = env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let time = seconds.map(Duration::from_secs);
    // A long run is another one each time.
    let seed = time.map_or(1, |_| u64::from(std::process::id()) << 32 | u64::from(unix_seconds()));
    let (start, mut random, mut inputs) = (Instant::now(), Random(seed), 0);
    let mut corpus: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    let mut words = BTreeSet::new();
    while time.map_or(inputs < SHORT_RUN, |time| start.elapsed() < time) {
        let input = match corpus.get(usize::try_from(inputs).unwrap_or(usize::MAX)) {
            Some(seed) if inputs < seeds.len() as u64 => seed.clone(),
            _ => mutate(&corpus, tokens, &mut random),
        };
        inputs += 1;
        let result = catch_unwind(AssertUnwindSafe(|| target(&input)));
        let word = result.unwrap_or_else(|_| panic!("{name} fails with \"{}\"", input.escape_ascii()));
        if words.insert(word) {
            corpus.push(input);
        }
    }
    println!("{name}: {inputs} inputs in {:.1} s, {} results", start.elapsed().as_secs_f64(), words.len());
}

fn unix_seconds() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| u32::try_from(since.as_secs()).ok()).unwrap_or(0)
}

fn mutate(corpus: &[Vec<u8>], tokens: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.next() % MUTATIONS_MAX {
        let (at, other) = (random.below(input.len() + 1), random.below(input.len() + 1));
        let (from, to) = (at.min(other), at.max(other));
        match random.next() % 8 {
            0 if from < input.len() => input[from] ^= 1 << random.below(8),
            1 if from < input.len() => input[from] = u8::try_from(random.below(256)).unwrap_or(0),
            2 | 3 if !tokens.is_empty() => {
                let token = tokens[random.below(tokens.len())];
                input.splice(at..at, token.iter().copied());
            }
            4 => drop(input.drain(from..to.min(from + 16))),
            5 => {
                let copy = input[from..to.min(from + 64)].to_vec();
                input.splice(at..at, copy);
            }
            6 => input.truncate(at),
            _ => {
                let piece = &corpus[random.below(corpus.len())];
                input.splice(at.., piece[random.below(piece.len() + 1)..].iter().copied());
            }
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_needs_three_steps_is_found() {
        let mut found = false;
        fuzz("steps", &[b"a=1"], &[b"b", b"=", b"7"], |input| {
            found |= input.windows(4).any(|window| window == b"bb=7");
            let steps = ["b", "bb", "bb=", "bb=7"];
            let reached =
                steps.iter().filter(|step| input.windows(step.len()).any(|it| it == step.as_bytes()));
            reached.count().to_string()
        });
        assert!(found);
    }

    #[test]
    #[should_panic(expected = "broken fails with \"\\xff")]
    fn an_input_that_breaks_the_target_is_shown() {
        fuzz("broken", &[b"\xff"], &[], |input| {
            assert!(!input.contains(&0xff));
            String::new()
        });
    }
}
