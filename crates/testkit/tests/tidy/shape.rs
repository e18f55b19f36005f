//! What the style asks of every Rust file.

use super::source::Source;
use super::tree::Text;

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
    if lines > max {
        vec![file.finding(lines, &format!("{lines} lines, more than {max}"))]
    } else {
        Vec::new()
    }
}

/// `mod.rs`, and crates and modules, in files or inline, with empty names.
pub(crate) fn names(file: &Text) -> Vec<String> {
    let mut findings = Vec::new();
    if file.path.ends_with("/mod.rs") {
        findings.push(file.finding(1, "mod.rs: name the file as the module"));
    }
    let mut parts = file.path.trim_end_matches(".rs").split('/');
    if let Some(part) = parts.find(|part| EMPTY_NAMES.contains(part)) {
        findings.push(file.finding(1, &format!("the name `{part}` says nothing")));
    }
    let is_empty_module = |line: &String| {
        let words: Vec<&str> = super::source::words(line).collect();
        words.windows(2).any(|pair| pair[0] == "mod" && EMPTY_NAMES.contains(&pair[1]))
    };
    let lines = Source::parse(file).lines_where(is_empty_module);
    findings.extend(lines.into_iter().map(|line| file.finding(line, "the module's name says nothing")));
    findings
}

/// Ignored tests, `allow` instead of `expect`, and `expect` without a reason.
pub(crate) fn attributes(file: &Text) -> Vec<String> {
    let code = Source::parse(file).code.join("\n");
    let mut findings = Vec::new();
    for (at, attribute) in all_attributes(&code) {
        let line = code[..at].matches('\n').count() + 1;
        let words: Vec<&str> = super::source::words(attribute).collect();
        // In `cfg_attr` the attribute itself comes behind the condition.
        let has = |name: &str| {
            words.first() == Some(&name) || (words.first() == Some(&"cfg_attr") && words.contains(&name))
        };
        if has("ignore") {
            findings.push(file.finding(line, "an ignored test"));
        }
        if has("allow") {
            findings.push(file.finding(line, "`allow`: use `expect` with a reason"));
        }
        if has("expect") && !words.contains(&"reason") {
            findings.push(file.finding(line, "`expect` without a reason"));
        }
    }
    findings
}

/// Each attribute's place in the code and what stands between its brackets.
fn all_attributes(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let starts = code.match_indices('#').filter_map(|(at, _)| {
        let open = code[at + 1..].trim_start_matches('!').strip_prefix('[')?;
        Some((at, open))
    });
    starts.map(|(at, open)| {
        let mut depth = 1;
        let end = open.find(|char| {
            depth += i32::from(char == '[') - i32::from(char == ']');
            depth == 0
        });
        (at, &open[..end.unwrap_or(open.len())])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Text {
        Text::new(path, text)
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_is_found() {
        assert_eq!(
            first_line(&file("crates/a/src/b.rs", "use x;\n")),
            ["crates/a/src/b.rs:1: the first line is not `//!`"]
        );
        assert_eq!(first_line(&file("crates/a/src/b.rs", "")).len(), 1);
        assert!(first_line(&file("crates/a/src/b.rs", "//! B.\n")).is_empty());
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        assert!(length(&file("crates/a/src/b.rs", &"\n".repeat(500))).is_empty());
        let found = length(&file("crates/a/src/b.rs", &"\n".repeat(501)));
        assert_eq!(found, ["crates/a/src/b.rs:501: 501 lines, more than 500"]);
        assert_eq!(length(&file("crates/a/src/main.rs", &"\n".repeat(31))).len(), 1);
        assert!(length(&file("crates/a/tests/it/main.rs", &"\n".repeat(31))).is_empty());
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        for path in [
            "crates/a/src/mod.rs",
            "crates/a/src/util.rs",
            "crates/common/src/lib.rs",
            "crates/a/src/helpers/b.rs",
        ] {
            assert_eq!(names(&file(path, "")).len(), 1, "{path}");
        }
        let inline = "//! mod util\npub(crate) mod manager {\n    mod process_manager;\n}\n";
        assert_eq!(
            names(&file("crates/a/src/b.rs", inline)),
            ["crates/a/src/b.rs:2: the module's name says nothing"]
        );
    }

    #[test]
    fn an_ignored_test_and_a_silenced_lint_are_found() {
        let text = "#![allow(dead_code)]\n#[test]\n#[ignore = \"slow\"]\nfn a() { x.expect(\"#[allow(b)]\") }\n\
            #[cfg_attr(unix, allow(c))]\n#[expect(\n    d,\n)]\n#[expect(e, reason = \"f\")]\n// #[ignore]\n";
        let found = attributes(&file("a.rs", text));
        let lines: Vec<&str> = found.iter().filter_map(|finding| finding.split(':').nth(1)).collect();
        assert_eq!(lines, ["1", "3", "5", "6"], "{found:?}");
    }
}
