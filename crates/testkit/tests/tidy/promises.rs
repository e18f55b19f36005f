//! The README's promises and the tests that name them.

use std::collections::BTreeSet;

use super::tree::{Text, words};

/// The promises that DESIGN 5 makes; the README states each of them, and may state more.
const PROMISES: u32 = 10;

/// A number above this is no promise but a percentile, such as P99.
const NUMBER_MAX: u32 = 49;

/// Promises that the README leaves out, and those that no test of these files names.
pub(crate) fn kept(readme: &Text, files: &[Text]) -> Vec<String> {
    let numbers = words(&readme.text).filter_map(|word| word.strip_prefix('P')?.parse().ok());
    let stated: BTreeSet<u32> = numbers.filter(|number| (1..=NUMBER_MAX).contains(number)).collect();
    let tests: Vec<&str> = files.iter().flat_map(test_names).collect();
    let is_tested = |number| tests.iter().any(|test| test.starts_with(&format!("p{number}_")));
    let missing = (1..=PROMISES).filter(|number| !stated.contains(number));
    let untested = stated.iter().filter(|number| !is_tested(**number));
    let missing = missing.map(|number| format!("the README does not state promise P{number}"));
    missing.chain(untested.map(|number| format!("no test is named p{number}_..."))).collect()
}

/// The names of the functions whose attributes make them tests.
fn test_names(file: &Text) -> Vec<&str> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for (_, line) in file.code() {
        is_test |= line.trim_start().starts_with("#[") && words(line).any(|word| word == "test");
        if let Some(name) = words(line).skip_while(|word| *word != "fn").nth(1) {
            names.extend(is_test.then_some(name));
            is_test = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_without_a_test_and_one_that_is_not_stated_are_found() {
        let readme = "P1 P2 P3 P4 P5 P6 P7 P8 P10\n- **P11** is promised; P99 is 3 ms.\n";
        let test = |number| format!("#[tokio::test]\nasync fn p{number}_holds() {{}}\n");
        let not_tests = "// fn p11_holds\nfn p11_holds() {}\n#[test]\nfn p110_holds() {}\n";
        let files =
            [Text::new("a.rs", &(1..=10).map(test).collect::<String>()), Text::new("b.rs", not_tests)];
        let found = kept(&Text::new("README.md", readme), &files);
        assert_eq!(found, ["the README does not state promise P9", "no test is named p11_..."]);
    }
}
