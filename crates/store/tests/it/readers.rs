//! Readers that never stop while versions come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use store::Reader;

use crate::contract::contract;
use crate::fixture::{Fixture, unlimited};

contract!(
    p1_readers_see_whole_versions_in_their_order_while_twenty_are_published,
    p7_a_version_is_seen_by_another_reader_once_its_publication_is_answered,
);

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Every row of a version says the version's number.
async fn publish(fixture: &Fixture, version: u32) {
    let rows: Vec<String> = KEYS.iter().map(|key| format!("{key};{version};")).collect();
    let published = fixture.publish(&rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(published.live.version, version);
}

/// Asks until it is told to stop, and checks each answer against the version that it names.
async fn read(reader: Reader, stop: Arc<AtomicBool>, answers: Arc<AtomicU64>) {
    let mut newest = 0;
    while !stop.load(Ordering::Relaxed) {
        let found = reader.look_up("items", &KEYS, &unlimited()).await.unwrap().unwrap();
        let version = found.version.number;
        assert!(version >= newest, "went back from {newest} to {version}");
        newest = version;
        for (key, row) in KEYS.iter().zip(found.rows) {
            let row = String::from_utf8(row.unwrap().into()).unwrap();
            assert_eq!(row, format!(r#"{{"code":"{key}","stock":{newest},"until":null}}"#));
        }
        answers.fetch_add(1, Ordering::Relaxed);
        // A look-up that never waits would leave no turn for the others.
        tokio::task::yield_now().await;
    }
}

async fn p1_readers_see_whole_versions_in_their_order_while_twenty_are_published(fixture: Fixture) {
    publish(&fixture, 1).await;
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = fixture.reader().await;
    let readers: Vec<_> =
        (0..4).map(|_| tokio::spawn(read(reader.clone(), stop.clone(), answers.clone()))).collect();
    for version in 2..=21 {
        publish(&fixture, version).await;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(answers.load(Ordering::Relaxed) > 100);
}

async fn p7_a_version_is_seen_by_another_reader_once_its_publication_is_answered(fixture: Fixture) {
    let reader = fixture.reader().await;
    for version in 1..=5 {
        publish(&fixture, version).await;
        assert!(fixture.ask(&reader, &["a"]).await.starts_with(&format!("v{version}: ")));
        assert_eq!(reader.live()[0].version, version);
    }
}
