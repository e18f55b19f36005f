//! What the crates say in their manifests that they use.

use toml::Table;

use super::tree::Text;

/// Who may use whom, as drawn in DESIGN 1.
const ARROWS: &[(&str, &[&str])] = &[
    ("dataset", &[]),
    ("ingest", &["dataset"]),
    ("store", &["dataset"]),
    ("service", &[]),
    ("updater", &["ingest", "store", "dataset", "service"]),
    ("api", &["store", "service", "dataset"]),
    ("tableswap", &["updater", "api", "service", "store", "ingest", "dataset"]),
    ("testkit", &[]),
];

/// Measures the product and is no part of it: it may use every crate, the test kit too, and none may use it.
const BENCH: &str = "bench";

/// Third-party crates by the beginning of their names, and who alone may name them, in tests too.
const BOUNDARIES: &[(&str, &[&str])] = &[
    ("actix", &["api", "updater", "service"]),
    ("mysql", &["store"]),
    ("heed", &["store"]),
    ("lmdb", &["store"]),
    ("envy", &["service"]),
    ("rustls", &["service"]),
    ("tokio", &["ingest", "store", "service", "updater", "api", "tableswap", "testkit"]),
];

const SECTIONS: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];

/// Crates of ours that this one must not use. Its tests may look further, but not up: that is cargo's to refuse.
pub(crate) fn arrows(manifest: &Text) -> Vec<String> {
    let name = crate_name(manifest);
    if name == BENCH {
        return Vec::new();
    }
    let Some((_, below)) = ARROWS.iter().find(|(other, _)| *other == name) else {
        return vec![manifest.finding(1, "a crate that DESIGN 1 does not name")];
    };
    let ours = |used: &&str| *used == BENCH || (*used != "testkit" && is_drawn(used));
    let used = dependencies(manifest, &SECTIONS[..2]);
    let wrong = used.iter().map(String::as_str).filter(ours).filter(|used| !below.contains(used));
    wrong.map(|used| finding(manifest, used, &format!("{name} must not use {used}"))).collect()
}

fn is_drawn(name: &str) -> bool {
    ARROWS.iter().any(|(other, _)| *other == name)
}

/// The test kit outside of dev-dependencies, or with a crate of ours in any of its sections.
pub(crate) fn test_kit(manifest: &Text) -> Vec<String> {
    let name = crate_name(manifest);
    if name == BENCH {
        return Vec::new();
    }
    if name == "testkit" {
        let ours = |used: &&String| *used == BENCH || is_drawn(used);
        let used = dependencies(manifest, &SECTIONS);
        return used
            .iter()
            .filter(ours)
            .map(|used| finding(manifest, used, "testkit uses a crate of ours"))
            .collect();
    }
    let used = dependencies(manifest, &SECTIONS[..2]);
    let wrong = used.iter().filter(|used| *used == "testkit");
    wrong.map(|used| finding(manifest, used, "testkit outside of dev-dependencies")).collect()
}

/// Third-party crates where they do not belong.
pub(crate) fn third_parties(manifest: &Text) -> Vec<String> {
    let name = crate_name(manifest);
    let forbidden = |used: &&String| {
        name != BENCH
            && BOUNDARIES
                .iter()
                .any(|(prefix, users)| used.starts_with(prefix) && !users.contains(&name.as_str()))
    };
    let used = dependencies(manifest, &SECTIONS);
    let wrong = used.iter().filter(forbidden);
    wrong.map(|used| finding(manifest, used, &format!("{name} must not use {used}"))).collect()
}

/// The folder is the crate's name: `crates/store/Cargo.toml`, `bench/Cargo.toml`.
fn crate_name(manifest: &Text) -> String {
    manifest.path.rsplit('/').nth(1).unwrap_or_default().to_owned()
}

/// What these sections name, also those for one platform alone, and renamed crates by their real names.
fn dependencies(manifest: &Text, sections: &[&str]) -> Vec<String> {
    let table: Table = manifest.text.parse().expect("a manifest is TOML");
    let platforms =
        table.get("target").and_then(|target| target.as_table()).into_iter().flat_map(Table::values);
    let tables = platforms.filter_map(|platform| platform.as_table()).chain([&table]);
    let sections =
        tables.flat_map(|table| sections.iter().filter_map(|section| table.get(*section)?.as_table()));
    let real_name = |(name, how): (&String, &toml::Value)| {
        how.get("package").and_then(|package| package.as_str()).unwrap_or(name).to_owned()
    };
    sections.flat_map(|section| section.iter().map(real_name)).collect()
}

fn finding(manifest: &Text, used: &str, what: &str) -> String {
    let line = manifest.text.lines().position(|line| line.trim_start().starts_with(used)).unwrap_or_default();
    manifest.finding(line + 1, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, text: &str) -> Text {
        Text::new(&format!("crates/{name}/Cargo.toml"), text)
    }

    #[test]
    fn an_arrow_upwards_is_found() {
        let store = manifest("store", "[dependencies]\ndataset.workspace = true\napi.workspace = true\n");
        assert_eq!(arrows(&store), ["crates/store/Cargo.toml:3: store must not use api"]);
    }

    #[test]
    fn an_arrow_is_found_under_another_name_and_on_one_platform() {
        let text = "[dependencies]\nx = { package = \"store\", path = \"..\" }\n\n[target.'cfg(unix)'.dependencies]\n\
            service.workspace = true\n";
        assert_eq!(arrows(&manifest("ingest", text)).len(), 2);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        assert_eq!(arrows(&manifest("shared", "[dependencies]\n")).len(), 1);
    }

    #[test]
    fn the_test_kit_in_the_product_is_found() {
        let both =
            "[dependencies]\ntestkit.workspace = true\n\n[dev-dependencies]\ntestkit.workspace = true\n";
        assert_eq!(
            test_kit(&manifest("api", both)),
            ["crates/api/Cargo.toml:2: testkit outside of dev-dependencies"]
        );
        assert!(test_kit(&manifest("api", "[dev-dependencies]\ntestkit.workspace = true\n")).is_empty());
        assert_eq!(test_kit(&manifest("testkit", "[dev-dependencies]\ndataset.workspace = true\n")).len(), 1);
    }

    #[test]
    fn bench_may_use_everything_and_nothing_may_use_bench() {
        let everything =
            "[dependencies]\ntestkit.workspace = true\napi.workspace = true\nactix-web.workspace = true\n";
        let bench = Text::new("bench/Cargo.toml", everything);
        for rule in [arrows, test_kit, third_parties] {
            assert!(rule(&bench).is_empty());
        }
        let on_bench = "[dependencies]\nbench = { path = \"../../bench\" }\n";
        assert_eq!(
            arrows(&manifest("tableswap", on_bench)),
            ["crates/tableswap/Cargo.toml:2: tableswap must not use bench"]
        );
        assert_eq!(test_kit(&manifest("testkit", on_bench)).len(), 1);
    }

    #[test]
    fn a_third_party_crate_behind_a_boundary_is_found() {
        for (name, used) in [
            ("dataset", "tokio"),
            ("ingest", "heed"),
            ("store", "actix-web"),
            ("tableswap", "actix-web"),
            ("service", "mysql_async"),
        ] {
            let manifest = manifest(name, &format!("[dev-dependencies]\n{used}.workspace = true\n"));
            assert_eq!(
                third_parties(&manifest),
                [format!("crates/{name}/Cargo.toml:2: {name} must not use {used}")]
            );
        }
        assert!(
            third_parties(&manifest("service", "[dependencies]\nactix-web.workspace = true\n")).is_empty()
        );
    }
}
