//! What every store does.

use store::State::{Dropped, Failed, Kept, Live, Staged, Withdrawn};
use store::{Error, NewVersion};

use crate::fixture::{Fixture, batch, counts, dataset, fill, one, unlimited};

/// Runs each test of the contract against every backend.
macro_rules! contract {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { Box::pin(super::$test(crate::fixture::Fixture::embedded())).await; })+
        }
        mod mariadb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { Box::pin(super::$test(crate::fixture::Fixture::mariadb())).await; })+
        }
    };
}
pub(crate) use contract;

contract!(
    an_answer_names_its_version,
    what_can_be_no_key_and_what_is_not_there_are_not_found,
    a_dataset_without_a_version_is_not_there,
    many_keys_are_answered_in_their_order,
    a_look_up_is_in_the_histograms_whether_of_one_key_or_of_many,
    p6_a_version_with_another_count_is_never_published,
    p6_rows_that_changed_in_memory_are_never_published,
    p4_a_second_publisher_is_refused,
    nobody_sees_what_is_staged,
    what_a_crash_left_behind_is_swept,
    p8_the_previous_version_comes_back_and_the_withdrawn_one_does_not,
    previous_versions_stay_as_long_as_they_may,
    versions_that_are_gone_cannot_be_activated,
    a_version_brings_its_columns,
    the_live_rows_come_in_key_order,
    the_ledger_keeps_what_was_said_of_a_version,
);

async fn an_answer_names_its_version(fixture: Fixture) {
    let reader = fixture.reader().await;
    fixture.publish(&["a;1;2024-02-29", "b;2;"]).await;
    let a = r#"{"code":"a","stock":1,"until":"2024-02-29"}"#;
    assert_eq!(fixture.ask(&reader, &["a"]).await, format!("v1: {a}"));
    fixture.publish(&["a;7;", "b;2;"]).await;
    assert_eq!(fixture.ask(&reader, &["a"]).await, r#"v2: {"code":"a","stock":7,"until":null}"#);
}

async fn what_can_be_no_key_and_what_is_not_there_are_not_found(fixture: Fixture) {
    fixture.publish(&["a;1;"]).await;
    let reader = fixture.reader().await;
    for key in ["b", "", "much too long for a code", "a\0", "A", "a ", " a", "á"] {
        assert_eq!(fixture.ask(&reader, &[key]).await, "v1: -", "{key:?}");
    }
}

async fn a_dataset_without_a_version_is_not_there(fixture: Fixture) {
    let reader = fixture.reader().await;
    assert_eq!(reader.look_up("items", &["a"], &unlimited()).await.unwrap(), None);
    fixture.stage(&["a;1;"]).await.abort("changed our mind").await.unwrap();
    assert_eq!(reader.look_up("items", &["a"], &unlimited()).await.unwrap(), None);
    fixture.publish(&["a;1;"]).await;
    assert!(reader.look_up("items", &["a"], &unlimited()).await.unwrap().is_some());
}

async fn many_keys_are_answered_in_their_order(fixture: Fixture) {
    let rows: Vec<String> = (0..1000).map(|n| format!("{n:05};{n};")).collect();
    fixture.publish(&rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let reader = fixture.reader().await;
    let keys: Vec<String> = (0..1000).rev().map(|n| format!("{:05}", n * 2)).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = reader.look_up("items", &keys, &unlimited()).await.unwrap().unwrap().rows;
    for (key, row) in keys.iter().zip(found) {
        let there = key.parse::<u32>().unwrap() < 1000;
        assert_eq!(row.is_some(), there, "{key}");
        assert!(row.is_none_or(|row| String::from_utf8(row.into()).unwrap().contains(key)));
    }
    assert_eq!(fixture.ask(&reader, &["00001", "x", "00001"]).await.matches("00001").count(), 2);
}

async fn a_look_up_is_in_the_histograms_whether_of_one_key_or_of_many(fixture: Fixture) {
    fixture.publish(&["a;1;", "b;2;", "c;3;"]).await;
    let (reader, registry) = fixture.measured_reader().await;
    let recorded = || {
        let families = registry.gather();
        ["tableswap_store_look_up_seconds", "tableswap_look_up_batch_size"].map(|name| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let histogram = family.get_metric()[0].get_histogram();
            (histogram.get_sample_count(), histogram.get_sample_sum())
        })
    };
    assert_eq!(recorded(), [(0, 0.0); 2]);
    one(&reader, "items", "a").await.unwrap();
    let [(count, seconds), sizes] = recorded();
    assert!(count == 1 && seconds > 0.0 && seconds < 10.0, "{count} in {seconds} s");
    assert_eq!(sizes, (1, 1.0));
    reader.look_up("items", &["b", "c"], &unlimited()).await.unwrap();
    let [(count, _), sizes] = recorded();
    assert_eq!((count, sizes), (2, (2, 3.0)));
}

async fn p6_a_version_with_another_count_is_never_published(fixture: Fixture) {
    fixture.publish(&["a;1;"]).await;
    for sent in [1, 3] {
        let error = fixture.stage(&["a;2;", "b;2;"]).await.verify(counts(sent)).await.unwrap_err();
        assert!(matches!(error, Error::Miscounted { staged: 2, .. }), "{error:?}");
    }
    assert_eq!(fixture.states().await, [(3, Failed), (2, Failed), (1, Live)]);
    let reader = fixture.reader().await;
    assert!(fixture.ask(&reader, &["a"]).await.starts_with("v1: {\"code\":\"a\",\"stock\":1"));
}

async fn p6_rows_that_changed_in_memory_are_never_published(fixture: Fixture) {
    fixture.publish(&["a;1;"]).await;
    let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
    let mut staging = publisher.stage(fixture.new_version()).await.unwrap();
    let mut changed = batch(&fixture.dataset.schema, &["a;2;"]);
    changed.seal();
    // Any other content will do; the test has no way to flip a bit.
    changed.push(b"b", b"");
    let refused = fill(&mut staging, changed).await.unwrap_err();
    assert!(format!("{refused:?}").contains("DamagedBatch"), "{refused:?}");
    staging.abort("a test").await.unwrap();
    assert_eq!(fixture.states().await, [(2, Failed), (1, Live)]);
}

async fn p4_a_second_publisher_is_refused(fixture: Fixture) {
    let first = fixture.store.publisher(&fixture.dataset).await.unwrap();
    let second = fixture.store.publisher(&fixture.dataset).await;
    assert!(matches!(second, Err(Error::Busy { dataset, .. }) if dataset == "items"));
    let others = dataset(&crate::fixture::ITEMS.replace("items", "others"));
    let other = fixture.store.publisher(&others).await;
    assert!(other.is_ok(), "{other:?}");
    let staging = first.stage(fixture.new_version()).await.unwrap();
    assert!(matches!(fixture.store.publisher(&fixture.dataset).await, Err(Error::Busy { .. })));
    staging.abort("done").await.unwrap();
    crate::fixture::until(|| true).await;
    // A connection that is dropped is closed a little later.
    while matches!(fixture.store.publisher(&fixture.dataset).await, Err(Error::Busy { .. })) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn nobody_sees_what_is_staged(fixture: Fixture) {
    fixture.publish(&["a;1;"]).await;
    let reader = fixture.reader().await;
    let staged = fixture.stage(&["a;2;", "b;2;"]).await.verify(counts(2)).await.unwrap();
    assert_eq!(fixture.states().await, [(2, Staged), (1, Live)]);
    assert!(fixture.ask(&reader, &["a", "b"]).await.ends_with("\"stock\":1,\"until\":null} -"));
    staged.abort("changed our mind").await.unwrap();
    assert_eq!(fixture.states().await, [(2, Failed), (1, Live)]);
    assert_eq!(fixture.store.versions("items").await.unwrap()[0].reason.as_deref(), Some("changed our mind"));
    assert!(fixture.ask(&reader, &["a", "b"]).await.starts_with("v1: {\"code\":\"a\",\"stock\":1"));
}

async fn what_a_crash_left_behind_is_swept(fixture: Fixture) {
    fixture.publish(&["a;1;"]).await;
    drop(fixture.stage(&["a;2;"]).await);
    let mut staging = loop {
        // A connection that is dropped is closed a little later.
        match fixture.store.publisher(&fixture.dataset).await {
            Ok(publisher) => break publisher.stage(fixture.new_version()).await.unwrap(),
            Err(Error::Busy { .. }) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            Err(error) => panic!("{error:?}"),
        }
    };
    fill(&mut staging, batch(&fixture.dataset.schema, &["a;3;"])).await.unwrap();
    staging.verify(counts(1)).await.unwrap().publish(|| true).await.unwrap();
    assert_eq!(fixture.states().await, [(3, Live), (2, Failed), (1, Kept)]);
    let left = fixture.store.versions("items").await.unwrap()[1].reason.clone();
    assert_eq!(left.as_deref(), Some("left behind by a crash"));
}

async fn p8_the_previous_version_comes_back_and_the_withdrawn_one_does_not(fixture: Fixture) {
    fixture.publish(&["a;1;"]).await;
    fixture.publish(&["a;2;"]).await;
    let reader = fixture.reader().await;
    let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
    assert_eq!(publisher.activate(1).await.unwrap().live.version, 1);
    assert!(fixture.ask(&reader, &["a"]).await.starts_with("v1: {\"code\":\"a\",\"stock\":1"));
    assert_eq!(fixture.states().await, [(2, Withdrawn), (1, Live)]);
    assert_eq!(
        fixture.store.publisher(&fixture.dataset).await.unwrap().live().map(|entry| entry.version),
        Some(1)
    );
    fixture.publish(&["a;3;"]).await;
    assert_eq!(fixture.states().await, [(3, Live), (2, Withdrawn), (1, Kept)]);
    let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
    publisher.activate(2).await.unwrap();
    assert!(fixture.ask(&reader, &["a"]).await.starts_with("v2: {\"code\":\"a\",\"stock\":2"));
}

async fn previous_versions_stay_as_long_as_they_may(fixture: Fixture) {
    for n in 1..=5 {
        fixture.publish(&[&format!("a;{n};")]).await;
    }
    assert_eq!(fixture.states().await, [(5, Live), (4, Kept), (3, Kept), (2, Dropped), (1, Dropped)]);
}

async fn versions_that_are_gone_cannot_be_activated(fixture: Fixture) {
    for n in 1..=4 {
        fixture.publish(&[&format!("a;{n};")]).await;
    }
    for version in [1, 99] {
        let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
        let error = publisher.activate(version).await.unwrap_err();
        assert_eq!(error.to_string(), format!("`items` has no version {version} that can be activated"));
    }
    let live = fixture.store.publisher(&fixture.dataset).await.unwrap().activate(4).await.unwrap().live;
    assert_eq!((live.version, live.state), (4, Live));
}

async fn a_version_brings_its_columns(fixture: Fixture) {
    fixture.publish(&["a;1;"]).await;
    let reader = fixture.reader().await;
    assert_eq!(fixture.ask(&reader, &["a"]).await, r#"v1: {"code":"a","stock":1,"until":null}"#);
    let other = r#"
        [items]
        key = "stock"
        columns = [{ name = "stock", type = "integer" }, { name = "price", type = "decimal", precision = 5, scale = 2 }]"#;
    let schema = dataset(other).schema.clone();
    let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
    let new = NewVersion { schema: schema.clone(), ..fixture.new_version() };
    let mut staging = publisher.stage(new).await.unwrap();
    fill(&mut staging, batch(&schema, &["17;1.50"])).await.unwrap();
    staging.verify(counts(1)).await.unwrap().publish(|| true).await.unwrap();
    assert_eq!(fixture.ask(&reader, &["17", "a"]).await, r#"v2: {"stock":17,"price":1.5} -"#);
    fixture.store.publisher(&fixture.dataset).await.unwrap().activate(1).await.unwrap();
    assert_eq!(fixture.ask(&reader, &["17", "a"]).await, r#"v1: - {"code":"a","stock":1,"until":null}"#);
}

async fn the_live_rows_come_in_key_order(fixture: Fixture) {
    assert!(fixture.store.live_rows("items").await.unwrap().is_none());
    let rows: Vec<String> = (0..10_000).map(|n| format!("{:05};{n};", n * 7919 % 10_000)).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let expected = batch(&fixture.dataset.schema, &rows);
    fixture.publish(&rows).await;
    let (entry, mut live) = fixture.store.live_rows("items").await.unwrap().unwrap();
    assert_eq!(entry.version, 1);
    let mut found = Vec::new();
    while let Some(batch) = live.recv().await {
        found.extend(batch.unwrap().iter().map(|(key, rest)| (key.to_vec(), rest.to_vec())));
    }
    let expected: Vec<_> = expected.iter().map(|(key, rest)| (key.to_vec(), rest.to_vec())).collect();
    assert!(found == expected, "{} rows of {}", found.len(), expected.len());
}

async fn the_ledger_keeps_what_was_said_of_a_version(fixture: Fixture) {
    let new = NewVersion {
        sha256: "ab".repeat(32),
        bytes: 77,
        source: "ärger.csv".into(),
        forced: true,
        ..fixture.new_version()
    };
    let mut staging = fixture.store.publisher(&fixture.dataset).await.unwrap().stage(new).await.unwrap();
    fill(&mut staging, batch(&fixture.dataset.schema, &["a;1;"])).await.unwrap();
    let staged = staging.verify(store::Counts { rows: 1, rejected: 5, duplicates: 7 }).await.unwrap();
    let live = staged.publish(|| true).await.unwrap().live;
    let entry = fixture.store.versions("items").await.unwrap().remove(0);
    assert_eq!(entry, live);
    assert_eq!((entry.rows, entry.rejected, entry.duplicates, entry.bytes), (1, 5, 7, 77));
    assert_eq!(
        (entry.sha256.as_str(), entry.source.as_str(), entry.forced),
        ("ab".repeat(32).as_str(), "ärger.csv", true)
    );
    assert!(entry.published_at.unwrap() >= entry.started_at);
    assert_eq!(*entry.schema, *fixture.dataset.schema);
}
