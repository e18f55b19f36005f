//! What is tracked, and what has to be.

const NEEDED: [&str; 4] = ["Cargo.lock", "LICENSE", "README.md", "Makefile"];
const GENERATED_ENDINGS: [&str; 6] = [".lmdb", ".log", ".snap.new", ".profraw", ".orig", ".rej"];

/// Generated files among the tracked ones, and needed files that are not.
pub(crate) fn tracked(listing: &str) -> Vec<String> {
    let files: Vec<&str> = listing.lines().collect();
    let generated = files.iter().filter(|file| is_generated(file)).map(|file| format!("{file} is generated"));
    let missing = NEEDED.iter().filter(|needed| !files.contains(needed));
    generated.chain(missing.map(|needed| format!("{needed} is not tracked"))).collect()
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
        let generated = ["data/catalog.json", "a/target/b", "v1.lmdb", "a/b.log"]
            .map(|file| format!("{file} is generated"));
        let found = tracked(files);
        assert_eq!(found[..4], generated);
        assert_eq!(found[4..], ["LICENSE is not tracked"]);
    }
}
