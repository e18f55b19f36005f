//! The invariants of the house (DESIGN 1) and its style, as far as text can show them.
//!
//! Each rule is a function from text to a list of findings, `file:line: what`, with a test beside it that plants a
//! violation and sees it found. Here the rules are held against the real tree. The functions' lengths are clippy's.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "clippy lets test functions panic, but not the functions they share"
)]

#[path = "tidy/boundaries.rs"]
mod boundaries;
#[path = "tidy/listing.rs"]
mod listing;
#[path = "tidy/manifests.rs"]
mod manifests;
#[path = "tidy/promises.rs"]
mod promises;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;

use self::tree::Text;

/// Fails with all findings of a rule over these files.
#[track_caller]
fn hold(files: &[Text], rule: impl Fn(&Text) -> Vec<String>) {
    assert!(!files.is_empty(), "there is nothing to look at");
    let findings: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn a_crate_uses_only_what_stands_below_it() {
    hold(&tree::manifests(), manifests::arrows);
}

#[test]
fn the_test_kit_is_used_by_tests_alone_and_uses_no_crate_of_ours() {
    hold(&tree::manifests(), manifests::test_kit);
}

#[test]
fn third_party_crates_stay_behind_their_boundaries() {
    hold(&tree::manifests(), manifests::third_parties);
}

#[test]
fn sql_stands_only_in_the_mariadb_store() {
    hold(&tree::product_sources(), boundaries::sql);
}

#[test]
fn the_mysql_client_stands_only_in_the_mariadb_store() {
    hold(&tree::product_sources(), boundaries::mysql_client);
}

#[test]
fn lmdb_stands_only_in_the_embedded_store() {
    hold(&tree::product_sources(), boundaries::lmdb);
}

#[test]
fn actix_stands_only_in_the_servers_and_in_what_they_share() {
    hold(&tree::product_sources(), boundaries::actix);
}

#[test]
fn the_environment_is_read_only_in_the_settings() {
    hold(&tree::product_sources(), boundaries::environment);
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
fn no_test_is_ignored_and_no_lint_is_silenced_without_a_reason() {
    hold(&tree::sources(), shape::attributes);
}

#[test]
fn no_generated_file_is_tracked_and_nothing_needed_is_missing() {
    hold(&[tree::listing()], listing::tracked);
}

#[test]
fn every_promise_of_the_readme_has_a_test_that_names_it() {
    let tests = tree::sources();
    hold(&[tree::readme()], |readme| promises::kept(readme, &tests));
}
