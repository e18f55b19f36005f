//! README.md of this crate, a part of which is the last report.

use std::fs;

use anyhow::Context;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- lookup: begin -->\n";
const END: &str = "<!-- lookup: end -->\n";

/// Puts the report in the place of the last one.
pub(crate) fn replace(report: &str) -> anyhow::Result<()> {
    let readme = fs::read_to_string(PATH).context(PATH)?;
    let replaced = replaced(&readme, report).with_context(|| format!("{PATH} lacks a marker"))?;
    fs::write(PATH, replaced).context(PATH)
}

fn replaced(readme: &str, report: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{report}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_the_markers_stays() {
        let readme = format!("before\n{BEGIN}old\n{END}after\n");
        assert_eq!(replaced(&readme, "new\n"), Some(format!("before\n{BEGIN}\nnew\n\n{END}after\n")));
        assert_eq!(replaced("before\n", "new"), None);
    }

    #[test]
    fn the_readme_has_a_place_for_the_report() {
        assert!(replaced(include_str!("../README.md"), "").is_some());
    }
}
