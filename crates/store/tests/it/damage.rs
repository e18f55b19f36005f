//! Files of the embedded store that are cut, changed, removed or restored behind its back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dataset::RowBatch;
use store::State::{Damaged, Live};
use store::{Error, Reader};

use crate::fixture::{Fixture, ITEMS, batch, dataset, fill, one, unlimited, until};

/// A store with two versions of `items` and one of `others`.
async fn two_datasets() -> (Fixture, Fixture) {
    let items = Fixture::embedded();
    items.publish(&["a;1;"]).await;
    items.publish(&["a;2;"]).await;
    let others = Fixture::beside(&items, &ITEMS.replace("items", "others"));
    others.publish(&["a;7;"]).await;
    (items, others)
}

async fn fails(reader: &Reader, name: &str) -> bool {
    let single = matches!(one(reader, name, "a").await, Err(Error::Unavailable(_)));
    let many = matches!(reader.look_up(name, &["a"], &unlimited()).await, Err(Error::Unavailable(_)));
    single && many && reader.current(name).is_none()
}

async fn until_it_fails(reader: &Reader, name: &str) {
    for _ in 0..300 {
        if fails(reader, name).await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("`{name}` is still answered: {:?}", one(reader, name, "a").await);
}

type Harm = fn(&Path);

const CATALOG_HARMS: [(&str, Harm); 7] = [
    ("removed", |dir| fs::remove_file(dir.join("catalog.json")).unwrap()),
    ("cut", |dir| cut(&dir.join("catalog.json"), 2)),
    ("empty", |dir| fs::write(dir.join("catalog.json"), "").unwrap()),
    ("a bit is flipped", |dir| flip(&dir.join("catalog.json"))),
    ("newer", |dir| fs::write(dir.join("catalog.json"), r#"{"format":5}"#).unwrap()),
    ("a directory", |dir| {
        fs::remove_file(dir.join("catalog.json")).unwrap();
        fs::create_dir(dir.join("catalog.json")).unwrap();
    }),
    ("the whole directory is removed", |dir| fs::remove_dir_all(dir).unwrap()),
];

fn cut(path: &Path, divisor: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / divisor).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // In its place: a new file would be a repair.
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_catalog_that_is_harmed_takes_its_own_dataset_down_and_no_other() {
    for (harm, act) in CATALOG_HARMS {
        let (items, others) = two_datasets().await;
        let reader = items.reader().await;
        assert!(items.ask(&reader, &["a"]).await.starts_with("v2: {"));
        act(&items.dir());
        until_it_fails(&reader, "items").await;
        assert!(others.ask(&reader, &["a"]).await.contains("\"stock\":7"), "{harm}");
        let unwell = reader.health().unwell;
        assert_eq!(
            (unwell.len(), unwell[0].dataset.as_str(), unwell[0].was_served),
            (1, "items", true),
            "{harm}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_live_file_that_was_cut_is_refused_and_never_mapped() {
    for divisor in [2, 1000, u64::MAX] {
        let (items, others) = two_datasets().await;
        cut(&items.dir().join("v2.lmdb"), divisor);
        let reader = items.reader().await;
        assert!(fails(&reader, "items").await);
        assert!(others.ask(&reader, &["a"]).await.contains("\"stock\":7"));
        // The next load mends it.
        items.publish(&["a;3;"]).await;
        until(|| reader.current("items").is_some()).await;
        assert!(items.ask(&reader, &["a"]).await.starts_with("v3: {"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_damaged_version_is_not_activated_and_marked() {
    let harms: [(&str, Harm); 3] =
        [("cut", |path| cut(path, 2)), ("flipped", flip), ("removed", |path| fs::remove_file(path).unwrap())];
    for (harm, act) in harms {
        let (items, _others) = two_datasets().await;
        act(&items.dir().join("v1.lmdb"));
        let refused = items.store.publisher(&items.dataset).await.unwrap().activate(1).await.unwrap_err();
        if harm == "removed" {
            // A version without a file counts as dropped.
            assert!(matches!(refused, Error::NoSuchVersion { .. }), "{refused}");
            continue;
        }
        assert!(matches!(refused, Error::Damaged { version: 1, .. }), "{harm}: {refused}");
        assert_eq!(items.states().await, [(2, Live), (1, Damaged)], "{harm}");
        let again = items.store.publisher(&items.dataset).await.unwrap().activate(1).await.unwrap_err();
        assert!(matches!(again, Error::Damaged { version: 1, .. }), "{harm}: {again}");
        items.publish(&["a;3;"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scrub_finds_one_flipped_bit_in_any_file_and_marks_what_is_not_live() {
    let (items, _others) = two_datasets().await;
    let scrub = || items.store.scrub(&items.dataset, Arc::new(AtomicBool::new(false)));
    assert_eq!(scrub().await.unwrap().len(), 0);
    flip(&items.dir().join("v1.lmdb"));
    flip(&items.dir().join("v2.lmdb"));
    let damaged = scrub().await.unwrap();
    let versions: Vec<_> = damaged
        .iter()
        .map(|error| match error {
            Error::Damaged { version, .. } => *version,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(versions, [1, 2]);
    assert_eq!(items.states().await, [(2, Live), (1, Damaged)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_the_same_number_with_other_content_is_another_version() {
    let items = Fixture::embedded();
    items.publish(&["a;1;"]).await;
    let reader = items.reader().await;
    let before = reader.current("items").unwrap();
    fs::remove_dir_all(items.dir()).unwrap();
    items.publish_as("another file", &["a;2;"]).await;
    until(|| reader.current("items").is_some()).await;
    let after = reader.current("items").unwrap();
    assert_eq!((before.number, after.number), (1, 1));
    assert_ne!(before.content, after.content);
    assert_eq!(items.ask(&reader, &["a"]).await, r#"v1: {"code":"a","stock":2,"until":null}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_can_be_read_by_the_group_and_by_nobody_else() {
    let items = Fixture::embedded();
    items.publish(&["a;1;"]).await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&items.dir()), 0o750);
    for name in items.files() {
        assert_eq!(mode(&items.dir().join(&name)), 0o640, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_never_written_leaves_no_directory_behind() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("not/there");
    let store = crate::fixture::open(&format!("embedded:{}", root.display()));
    let reader = store.reader();
    store.recover(&dataset(ITEMS)).await.unwrap();
    assert_eq!(one(&reader, "items", "a").await.unwrap(), None);
    assert!(!dir.path().join("not").exists() && reader.check().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_out_of_order_are_a_defect_of_the_program_and_no_damage() {
    let items = Fixture::embedded();
    let schema = &items.dataset.schema;
    let mut wrong = RowBatch::default();
    for batch in [batch(schema, &["b;1;"]), batch(schema, &["a;1;"])] {
        batch.iter().for_each(|(key, rest)| wrong.push(key, rest));
    }
    let publisher = items.store.publisher(&items.dataset).await.unwrap();
    let mut staging = publisher.stage(items.new_version()).await.unwrap();
    let error = fill(&mut staging, wrong).await.unwrap_err();
    assert!(matches!(error, Error::Internal(_)), "{error:?}");
    assert!(!error.to_string().contains("damaged"), "{error}");
}
