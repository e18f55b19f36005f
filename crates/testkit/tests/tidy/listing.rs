//! What is tracked, and what has to be.

use super::tree::Text;

const NEEDED: [&str; 4] = ["Cargo.lock", "LICENSE", "README.md", "Makefile"];
const GENERATED_ENDINGS: [&str; 6] = [".lmdb", ".log", ".snap.new", ".profraw", ".orig", ".rej"];

/// Generated files among the tracked ones, and needed files that are not.
pub(crate) fn tracked(listing: &Text) -> Vec<String> {
    let files: Vec<&str> = listing.text.lines().collect();
    let generated = files.iter().enumerate().filter(|(_, file)| is_generated(file));
    let missing = NEEDED.iter().filter(|needed| !files.contains(needed));
    generated
        .map(|(at, file)| listing.finding(at + 1, &format!("{file} is generated")))
        .chain(missing.map(|needed| listing.finding(files.len(), &format!("{needed} is not tracked"))))
        .collect()
}

/// `data` is the embedded store's directory where nothing else is set.
fn is_generated(file: &str) -> bool {
    file.starts_with("data/")
        || file.split('/').any(|part| part == "target")
        || GENERATED_ENDINGS.iter().any(|ending| file.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_file_and_a_missing_one_are_found() {
        let files = "Cargo.lock\nMakefile\nREADME.md\ncrates/a/src/target.rs\ndata/catalog.json\na/target/b\nv1.lmdb\na/b.log\n";
        let found = tracked(&Text::new("git ls-files", files));
        let expected = [
            "git ls-files:5: data/catalog.json is generated",
            "git ls-files:6: a/target/b is generated",
            "git ls-files:7: v1.lmdb is generated",
            "git ls-files:8: a/b.log is generated",
            "git ls-files:8: LICENSE is not tracked",
        ];
        assert_eq!(found, expected);
    }
}
