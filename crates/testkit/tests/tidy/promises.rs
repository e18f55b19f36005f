//! The README's promises and the tests that name them.

use std::collections::BTreeMap;

use super::source::{Source, words};
use super::tree::Text;

/// The promises that DESIGN 5 makes; the README states each of them, and may state more.
const PROMISES: u32 = 10;

/// A number above this is no promise but a percentile, such as P99.
const NUMBER_MAX: u32 = 49;

/// Promises that the README leaves out, and those that no test of these files names.
pub(crate) fn kept(readme: &Text, files: &[Text]) -> Vec<String> {
    let stated = stated(readme);
    let missing = (1..=PROMISES).filter(|number| !stated.contains_key(number));
    let tests: Vec<String> = files.iter().flat_map(test_names).collect();
    let untested = stated.iter().filter(|(number, _)| {
        let prefix = format!("p{number}_");
        !tests.iter().any(|test| test.starts_with(&prefix))
    });
    missing
        .map(|number| readme.finding(1, &format!("promise P{number} is not stated")))
        .chain(
            untested.map(|(number, line)| readme.finding(*line, &format!("no test is named p{number}_..."))),
        )
        .collect()
}

/// Each promise's number and the line where it comes first.
fn stated(readme: &Text) -> BTreeMap<u32, usize> {
    let mut promises = BTreeMap::new();
    for (at, line) in readme.text.lines().enumerate() {
        let numbers = words(line).filter_map(|word| word.strip_prefix('P')?.parse().ok());
        for number in numbers.filter(|number| (1..=NUMBER_MAX).contains(number)) {
            promises.entry(number).or_insert(at + 1);
        }
    }
    promises
}

/// The names of the functions whose attributes make them tests.
fn test_names(file: &Text) -> Vec<String> {
    let code = Source::parse(file).code;
    let mut names = Vec::new();
    let mut is_test = false;
    for line in &code {
        let words: Vec<&str> = words(line).collect();
        if line.trim_start().starts_with("#[") {
            is_test |= words.contains(&"test");
        }
        if let Some(at) = words.iter().position(|word| *word == "fn") {
            names.extend(words.get(at + 1).filter(|_| is_test).map(|name| (*name).to_owned()));
            is_test = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_without_a_test_is_found() {
        let readme: String =
            (1..=11).map(|number| format!("- **P{number}** is promised; P99 is 3 ms.\n")).collect();
        let tests: String =
            (1..=9).map(|number| format!("#[tokio::test]\nasync fn p{number}_holds() {{}}\n")).collect();
        let not_tests = "// fn p10_holds\nfn p10_holds() {}\n#[test]\nfn p110_holds() {}\n";
        let files = [Text::new("a.rs", &tests), Text::new("b.rs", not_tests)];
        let found = kept(&Text::new("README.md", &readme), &files);
        assert_eq!(
            found,
            ["README.md:10: no test is named p10_...", "README.md:11: no test is named p11_..."]
        );
    }

    #[test]
    fn a_promise_that_the_readme_leaves_out_is_found() {
        let readme = "P1 P2 P3 P4 P5 P6 P7 P8 P10\nCPU2\n";
        let tests: String = (1..=10).map(|number| format!("#[test]\nfn p{number}_holds() {{}}\n")).collect();
        let found = kept(&Text::new("README.md", readme), &[Text::new("a.rs", &tests)]);
        assert_eq!(found, ["README.md:1: promise P9 is not stated"]);
    }
}
