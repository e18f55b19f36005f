//! What the README says of settings is what there is.

use std::time::Duration;

/// Every setting of a section, as the program itself lists them.
fn settings(program: &str, section: &str) -> Vec<String> {
    let unknown = format!("TABLESWAP_{section}_NO_SUCH_THING");
    let server = testkit::Server::spawn(crate::harness::program(program), &[], &[(&unknown, "x")]);
    server.wait(Duration::from_secs(20));
    let log = server.log();
    let listed = log.split_once("the settings of this section are ").unwrap().1;
    listed.trim().split(", ").map(str::to_owned).collect()
}

#[test]
fn every_setting_stands_in_the_readme_and_no_other_does() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `TABLESWAP_")?.split_once('`'));
    let mut documented: Vec<_> = rows.map(|(name, _)| format!("TABLESWAP_{name}")).collect();
    let sections = [
        ("updater", "STORE"),
        ("updater", "UPDATER"),
        ("api", "API"),
        ("updater", "LOG"),
        ("updater", "TRACES"),
    ];
    let mut there: Vec<_> =
        sections.into_iter().flat_map(|(program, section)| settings(program, section)).collect();
    documented.sort();
    there.sort();
    assert_eq!(documented, there);
}
