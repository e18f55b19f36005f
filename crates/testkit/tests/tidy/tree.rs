//! The files and crates that the rules are held against.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// A file, or what stands for one in a rule's own test.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Its path from the root of the repository.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Text {
    pub(crate) fn new(path: &str, text: &str) -> Text {
        Text { path: path.to_owned(), text: text.to_owned() }
    }

    /// The lines that are no comments, each with its number.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The line's number counts from 1, as editors do.
    pub(crate) fn finding(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A crate of ours, and what it depends on in any way.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
pub(crate) struct Dependency {
    /// The real one, also of a dependency that is renamed.
    pub(crate) name: String,
    /// `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// Where it stands, if it is one of ours.
    pub(crate) path: Option<String>,
}

/// The identifiers and keywords of a line of code.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|word| !word.is_empty())
}

/// All crates of the workspace, as cargo sees them.
pub(crate) fn packages() -> Vec<Package> {
    let arguments = ["metadata", "--no-deps", "--format-version=1", "--offline"];
    let text = run(Command::new(env!("CARGO")).args(arguments).current_dir(root()));
    let metadata: Metadata = serde_json::from_str(&text).expect("cargo metadata prints JSON");
    metadata.packages
}

/// All Rust files: sources, tests, benchmarks and examples.
pub(crate) fn sources() -> Vec<Text> {
    let files = git_files(&["--cached", "--others", "--exclude-standard", "*.rs"]);
    files.lines().filter(|file| root().join(file).exists()).map(read).collect()
}

/// What is built into the product: `crates/*/src`, without the test kit, which may know everything.
pub(crate) fn product_sources() -> Vec<Text> {
    let product =
        |file: &Text| file.path.split('/').nth(2) == Some("src") && !file.path.starts_with("crates/testkit/");
    sources().into_iter().filter(product).collect()
}

/// The paths of all tracked files, or of those that the arguments ask for, a line each.
pub(crate) fn git_files(arguments: &[&str]) -> String {
    run(Command::new("git").arg("ls-files").args(arguments).current_dir(root()))
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("start the command");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root of the repository")
}

pub(crate) fn read(path: &str) -> Text {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Text::new(path, &text)
}
