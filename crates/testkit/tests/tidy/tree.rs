//! The files that the rules are held against.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

    /// The line's number counts from 1, as editors do.
    pub(crate) fn finding(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// The manifests of all crates under `crates`, and of `bench`.
pub(crate) fn manifests() -> Vec<Text> {
    let crates = entries(&root().join("crates")).into_iter().filter(|path| path.is_dir());
    crates.chain([root().join("bench")]).map(|path| read(&path.join("Cargo.toml"))).collect()
}

/// All Rust files: sources, tests, benchmarks and examples.
pub(crate) fn sources() -> Vec<Text> {
    ["crates", "bench"].iter().flat_map(|dir| rust_files(&root().join(dir))).collect()
}

/// What is built into the product: `crates/*/src`, without the test kit, which may know everything.
pub(crate) fn product_sources() -> Vec<Text> {
    let product =
        |file: &Text| file.path.split('/').nth(2) == Some("src") && !file.path.starts_with("crates/testkit/");
    sources().into_iter().filter(product).collect()
}

pub(crate) fn readme() -> Text {
    read(&root().join("README.md"))
}

/// The names of all tracked files, a line each.
pub(crate) fn listing() -> Text {
    let output = Command::new("git").arg("-C").arg(root()).arg("ls-files").output().expect("start git");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    Text::new("git ls-files", &String::from_utf8_lossy(&output.stdout))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root of the repository")
}

fn rust_files(dir: &Path) -> Vec<Text> {
    let mut files = Vec::new();
    for path in entries(dir) {
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(read(&path));
        }
    }
    files
}

/// What is in a directory, in order; nothing where there is none.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("read a directory").path())
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Text {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let path = path.strip_prefix(root()).expect("a path under the root");
    Text::new(&path.to_string_lossy(), &text)
}
