//! Rows that are put aside before it is known whether they become a version.

use store::{Draft, Error, Publisher};
use tokio::sync::mpsc;

use crate::fixture::{Fixture, batch, counts};

/// Puts rows aside.
async fn draft(fixture: &Fixture, publisher: &Publisher, rows: &[&str]) -> store::Result<Draft> {
    let (sender, range) = mpsc::channel(1);
    sender.send(batch(&fixture.dataset.schema, rows)).await.unwrap();
    drop(sender);
    let mut draft = publisher.draft().await?;
    draft.fill(range).await.map(|()| draft)
}

async fn publisher(fixture: &Fixture) -> Publisher {
    fixture.store.publisher("items").await.unwrap()
}

#[tokio::test]
async fn a_draft_becomes_a_version_with_all_its_rows() {
    let fixture = Fixture::embedded();
    fixture.publish(&["a;1;"]).await;
    let (publisher, reader) = (publisher(&fixture).await, fixture.reader().await);
    let draft = draft(&fixture, &publisher, &["a;2;", "b;2;"]).await.unwrap();
    assert_eq!(fixture.ask(&reader, &["b"]).await, "v1: -");
    let staging = publisher.stage_draft(fixture.new_version(), draft).await.unwrap();
    staging.verify(counts(2)).await.unwrap().publish(|| true).await.unwrap();
    assert_eq!(fixture.ask(&reader, &["b"]).await, r#"v2: {"code":"b","stock":2,"until":null}"#);
    assert_eq!(fixture.files(), ["catalog.json", "lock", "v1.lmdb", "v2.lmdb"]);
}

#[tokio::test]
async fn p6_a_draft_with_another_count_is_never_published() {
    let fixture = Fixture::embedded();
    let publisher = publisher(&fixture).await;
    let draft = draft(&fixture, &publisher, &["a;2;", "b;2;"]).await.unwrap();
    let staging = publisher.stage_draft(fixture.new_version(), draft).await.unwrap();
    assert!(matches!(staging.verify(counts(3)).await, Err(Error::Miscounted { sent: 3, staged: 2 })));
    assert_eq!(fixture.files(), ["catalog.json", "lock"]);
}

#[tokio::test]
async fn a_draft_that_is_not_staged_leaves_nothing() {
    let fixture = Fixture::embedded();
    fixture.publish(&["a;1;"]).await;
    let publisher = publisher(&fixture).await;
    for _ in 0..2 {
        let draft = draft(&fixture, &publisher, &["a;2;", "b;2;"]).await.unwrap();
        assert_eq!(fixture.files(), ["catalog.json", "lock", "staging-draft.lmdb", "v1.lmdb"]);
        drop(draft);
        assert_eq!(fixture.files(), ["catalog.json", "lock", "v1.lmdb"]);
    }
    assert!(draft(&fixture, &publisher, &["b;2;", "b;3;"]).await.is_err());
    assert_eq!(fixture.files(), ["catalog.json", "lock", "v1.lmdb"]);
    drop(publisher);
    assert_eq!(fixture.publish(&["a;3;"]).await.live.version, 2);
}

#[tokio::test]
async fn p3_a_draft_that_a_crash_left_is_swept() {
    let fixture = Fixture::embedded();
    fixture.publish(&["a;1;"]).await;
    std::fs::write(fixture.dir().join("staging-draft.lmdb"), "half a draft").unwrap();
    drop(publisher(&fixture).await);
    assert_eq!(fixture.files(), ["catalog.json", "lock", "v1.lmdb"]);
}

#[tokio::test]
async fn mariadb_takes_no_drafts() {
    let fixture = Fixture::mariadb();
    let publisher = publisher(&fixture).await;
    assert!(!publisher.takes_drafts() && publisher.draft().await.is_err());
}
