//! The invariants of the house (DESIGN 1) and its style, as far as text can show them.
//!
//! Each rule is a function from text to a list of findings, `file:line: what`, with a test beside it that plants a
//! violation and sees it found. Here the rules are held against the real tree. What clippy can say is clippy's: the
//! lengths of functions, lints that are silenced without a reason, and who may read the environment.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "clippy lets test functions panic, but not the functions they share"
)]

mod boundaries;
mod listing;
mod packages;
mod promises;
mod shape;
mod tree;

/// Fails with all findings of a rule over these files or crates.
#[track_caller]
fn hold<T>(all: &[T], rule: impl Fn(&T) -> Vec<String>) {
    assert!(!all.is_empty(), "there is nothing to look at");
    let findings: Vec<String> = all.iter().flat_map(rule).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn a_crate_uses_only_what_stands_below_it_and_tests_alone_use_the_test_kit() {
    hold(&tree::packages(), packages::arrows);
}

#[test]
fn third_party_crates_stay_behind_their_boundaries() {
    hold(&tree::packages(), packages::third_parties);
}

#[test]
fn sql_and_the_clients_of_databases_stand_only_in_their_stores() {
    for rule in [boundaries::sql, boundaries::mysql_client, boundaries::lmdb] {
        hold(&tree::product_sources(), rule);
    }
}

#[test]
fn every_file_says_first_what_it_is() {
    hold(&tree::sources(), shape::first_line);
}

#[test]
fn no_file_is_longer_than_500_lines_and_no_main_than_30() {
    hold(&tree::sources(), shape::length);
}

#[test]
fn no_file_crate_or_module_has_a_name_that_says_nothing() {
    hold(&tree::sources(), shape::names);
}

#[test]
fn no_test_is_ignored() {
    hold(&tree::sources(), shape::ignored);
}

#[test]
fn no_generated_file_is_tracked_and_nothing_needed_is_missing() {
    hold(&[tree::git_files(&[])], |files| listing::tracked(files));
}

#[test]
fn every_promise_of_the_readme_has_a_test_that_names_it() {
    let tests = tree::sources();
    hold(&[tree::read("README.md")], |readme| promises::kept(readme, &tests));
}
