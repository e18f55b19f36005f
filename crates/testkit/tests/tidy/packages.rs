//! Which crates a crate may depend on.

use super::tree::Package;

/// Which crates of ours each crate may use, as drawn in DESIGN 1. Only tests may use more: the test kit, and what stands
/// beside them.
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

/// Third-party crates by the beginning of their names, and who alone may use them, in tests too.
const BOUNDARIES: &[(&str, &[&str])] = &[
    ("actix", &["api", "updater", "service"]),
    ("mysql", &["store"]),
    ("heed", &["store"]),
    ("lmdb", &["store"]),
    ("envy", &["service"]),
    ("rustls", &["service"]),
    ("tokio", &["ingest", "store", "service", "updater", "api", "tableswap", "testkit"]),
];

/// Measures the product and is no part of it: it may use everything, and nothing may use it.
const BENCH: &str = "bench";

/// Crates of ours that this one must not use. The test kit judges all of them, so not even its tests may use one.
pub(crate) fn arrows(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    if name == BENCH {
        return Vec::new();
    }
    let Some((_, below)) = ARROWS.iter().find(|(other, _)| *other == name) else {
        return vec![format!("{name}: a crate that DESIGN 1 does not name")];
    };
    let ours = package.dependencies.iter().filter(|used| used.path.is_some());
    let wrong = ours.filter(|used| {
        (name == "testkit" || used.kind.as_deref() != Some("dev")) && !below.contains(&used.name.as_str())
    });
    wrong.map(|used| format!("{name} must not use {}", used.name)).collect()
}

/// Third-party crates that this one must not use.
pub(crate) fn third_parties(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let is_wrong = |used: &str| {
        BOUNDARIES.iter().any(|(prefix, users)| used.starts_with(prefix) && !users.contains(&name))
    };
    let wrong = package.dependencies.iter().filter(|used| name != BENCH && is_wrong(&used.name));
    wrong.map(|used| format!("{name} must not use {}", used.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::Dependency;
    use super::*;

    fn package(name: &str, used: &str, kind: Option<&str>, path: Option<&str>) -> Package {
        let (kind, path) = (kind.map(str::to_owned), path.map(str::to_owned));
        Package {
            name: name.to_owned(),
            dependencies: vec![Dependency { name: used.to_owned(), kind, path }],
        }
    }

    #[test]
    fn an_arrow_upwards_and_the_test_kit_in_the_product_are_found() {
        for (name, used) in
            [("store", "api"), ("ingest", "service"), ("api", "testkit"), ("tableswap", BENCH)]
        {
            assert_eq!(
                arrows(&package(name, used, None, Some(".."))),
                [format!("{name} must not use {used}")]
            );
        }
        assert_eq!(arrows(&package("shared", "dataset", None, Some(".."))).len(), 1);
        assert_eq!(arrows(&package("testkit", "dataset", Some("dev"), Some(".."))).len(), 1);
        assert!(arrows(&package("api", "testkit", Some("dev"), Some(".."))).is_empty());
        assert!(arrows(&package(BENCH, "testkit", None, Some(".."))).is_empty());
    }

    #[test]
    fn a_third_party_crate_behind_a_boundary_is_found() {
        for (name, used) in [("dataset", "tokio"), ("tableswap", "actix-web"), ("service", "mysql_async")] {
            let expected = [format!("{name} must not use {used}")];
            assert_eq!(third_parties(&package(name, used, Some("dev"), None)), expected);
        }
        assert!(third_parties(&package("service", "actix-web", None, None)).is_empty());
        assert!(third_parties(&package(BENCH, "actix-web", None, None)).is_empty());
    }
}
