//! What the style asks of every Rust file.

use super::tree::{Text, words};

const FILE_LINES_MAX: usize = 500;
const MAIN_LINES_MAX: usize = 30;

/// Names that fit everything and so say nothing.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "utilities", "common", "helper", "helpers", "manager", "managers", "misc"];

/// A file whose first line does not say what it is.
pub(crate) fn first_line(file: &Text) -> Vec<String> {
    let says = file.text.starts_with("//!") || file.text.starts_with("#![");
    if says { Vec::new() } else { vec![file.finding(1, "the first line is not `//!`")] }
}

/// A file that is too long; a program's `main.rs` has a limit of its own.
pub(crate) fn length(file: &Text) -> Vec<String> {
    let lines = file.text.lines().count();
    let max = if file.path.ends_with("/src/main.rs") { MAIN_LINES_MAX } else { FILE_LINES_MAX };
    let is_too_long = lines > max;
    is_too_long.then(|| file.finding(lines, &format!("{lines} lines, more than {max}"))).into_iter().collect()
}

/// `mod.rs`, and crates and modules, in files or inline, with empty names.
pub(crate) fn names(file: &Text) -> Vec<String> {
    let mut path = file.path.trim_end_matches(".rs").split('/');
    let of_path = path.find(|part| *part == "mod" || EMPTY_NAMES.contains(part));
    let inline = file.code().filter_map(|(at, line)| {
        let mut words = words(line).skip_while(|word| matches!(*word, "pub" | "crate"));
        let name = words.next().filter(|word| *word == "mod").and_then(|_| words.next())?;
        EMPTY_NAMES.contains(&name).then_some((at, name))
    });
    let found = of_path.map(|name| (1, name)).into_iter().chain(inline);
    found.map(|(at, name)| file.finding(at, &format!("the name `{name}` says nothing"))).collect()
}

/// Tests that are ignored.
pub(crate) fn ignored(file: &Text) -> Vec<String> {
    let is_ignored = |line: &str| line.starts_with("#[") && words(line).any(|word| word == "ignore");
    let lines = file.code().filter(|(_, line)| is_ignored(line.trim_start()));
    lines.map(|(at, _)| file.finding(at, "an ignored test")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: fn(&Text) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&Text::new(path, text)).len()
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_is_found() {
        let counts = ["use x;\n", "", "//! B.\n"].map(|text| found(first_line, "crates/a/src/b.rs", text));
        assert_eq!(counts, [1, 1, 0]);
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        for (path, max) in
            [("crates/a/src/b.rs", 500), ("crates/a/src/main.rs", 30), ("crates/a/tests/it/main.rs", 500)]
        {
            assert_eq!(
                [max, max + 1].map(|lines| found(length, path, &"\n".repeat(lines))),
                [0, 1],
                "{path}"
            );
        }
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        for path in ["crates/a/src/mod.rs", "crates/common/src/lib.rs", "crates/a/src/helpers/b.rs"] {
            assert_eq!(found(names, path, ""), 1, "{path}");
        }
        let inline = "//! mod util\npub(crate) mod manager {\n    mod process_manager;\n}\n";
        assert_eq!(found(names, "crates/a/src/b.rs", inline), 1);
    }

    #[test]
    fn an_ignored_test_is_found() {
        let text = "#[ignore = \"slow\"]\n    #[cfg_attr(unix, ignore)]\n// #[ignore]\nlet ignore = 1;\n";
        assert_eq!(found(ignored, "a.rs", text), 2);
    }
}
