//! README.md of this crate, a part of which is the last report.

use std::fs;

use anyhow::Context;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

/// Puts the report of a command in the place of its last one.
pub(crate) fn replace(command: &str, report: &str) -> anyhow::Result<()> {
    let readme = fs::read_to_string(PATH).context(PATH)?;
    let replaced =
        replaced(&readme, command, report).with_context(|| format!("{PATH} lacks a marker for {command}"))?;
    fs::write(PATH, replaced).context(PATH)
}

fn replaced(readme: &str, command: &str, report: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {command}: begin -->\n"), format!("<!-- {command}: end -->\n"));
    let (before, rest) = readme.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{report}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_the_markers_stays() {
        let readme = "before\n<!-- load: begin -->\nold\n<!-- load: end -->\nafter\n";
        let new = "before\n<!-- load: begin -->\n\nnew\n\n<!-- load: end -->\nafter\n";
        assert_eq!(replaced(readme, "load", "new\n").as_deref(), Some(new));
        assert_eq!(replaced(readme, "swap", "new"), None);
    }

    #[test]
    fn the_readme_has_a_place_for_every_report() {
        for command in ["lookup", "load", "swap"] {
            assert!(replaced(include_str!("../README.md"), command, "").is_some(), "{command}");
        }
    }
}
