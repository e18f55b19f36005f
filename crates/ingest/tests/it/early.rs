//! Rows that come in key order are given out while the rest of the file is still coming.

use std::sync::Arc;

use bytes::Bytes;
use ingest::{Ingested, Outlets, Range};
use proptest::prelude::*;
use tokio::sync::oneshot;

use crate::{Case, ITEMS};

/// A case in which a buffer is full after some ten rows.
fn case() -> Case {
    let mut case = Case::new(ITEMS);
    (case.limits.sort_memory_bytes, case.chunk_bytes) = (5_000, 1 << 12);
    case
}

fn row(key: u64) -> String {
    format!("{key:08},1,\n")
}

/// The keys of all rows of a range.
async fn keys(mut range: Range) -> Vec<String> {
    let mut keys = Vec::new();
    while let Some(batch) = range.recv().await {
        keys.extend(batch.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()));
    }
    keys
}

/// Reads a file, and takes what comes early.
async fn ingest(case: &Case, file: &str) -> (Ingested, Vec<String>) {
    let (early, range) = oneshot::channel();
    let taken = async {
        match range.await {
            Ok(range) => keys(range).await,
            Err(_) => Vec::new(),
        }
    };
    let ingested = case.ingest_with(file.as_bytes(), Arc::default(), Some(early));
    let (ingested, taken) = tokio::join!(ingested, taken);
    (ingested.unwrap(), taken)
}

async fn sorted_keys(ingested: Ingested) -> Vec<String> {
    let mut rows = ingested.into_rows(1).await.unwrap();
    keys(rows.take_ranges().remove(0)).await
}

#[tokio::test]
async fn rows_are_given_out_before_the_file_is_at_its_end() {
    let (case, (early, range)) = (case(), oneshot::channel());
    let (body, mut chunks) = tokio::sync::mpsc::channel::<String>(1);
    let report = case.work_dir.path().join("rejects.csv");
    let outlets = Outlets { early: Some(early), ..Outlets::new(&report) };
    let chunks =
        futures_util::stream::poll_fn(|cx| chunks.poll_recv(cx).map(|chunk| Some(Ok(Bytes::from(chunk?)))));
    let ingest = ingest::ingest(chunks, case.dataset.clone(), &case.limits, outlets);
    let send = async {
        body.send((0..50_000).map(row).collect()).await.unwrap();
        let mut range = range.await.unwrap();
        let first = range.recv().await.unwrap();
        assert_eq!(first.iter().next().unwrap().0, b"00000000");
        body.send((50_000..60_000).map(row).collect()).await.unwrap();
        drop(body);
        first.len() + keys(range).await.len()
    };
    let (ingested, given) = tokio::join!(ingest, send);
    let ingested = ingested.unwrap();
    assert!(ingested.was_given());
    assert_eq!((given, ingested.into_given().rows), (60_000, 60_000));
}

#[tokio::test]
async fn one_row_out_of_order_and_all_are_sorted() {
    let twice = |at: u64| (0..5_000).chain([at]).map(row).collect::<String>();
    let before: String = (1..5_000).chain([0]).map(row).collect();
    let swapped = |at: u64| (0..at).chain([at + 1, at]).chain(at + 2..5_000).map(row).collect::<String>();
    for file in [twice(4_999), twice(0), before, swapped(10), swapped(2_500), swapped(4_998)] {
        let (ingested, _) = ingest(&case(), &file).await;
        assert!(!ingested.was_given());
        let keys = sorted_keys(ingested).await;
        assert!(keys.is_sorted() && keys.len() >= 4_999, "{}", keys.len());
    }
}

#[tokio::test]
async fn a_small_file_is_not_given_out_early() {
    let (ingested, given) = ingest(&Case::new(ITEMS), &(0..5_000).map(row).collect::<String>()).await;
    assert_eq!((ingested.was_given(), given.len()), (false, 0));
    assert_eq!(sorted_keys(ingested).await.len(), 5_000);
}

#[tokio::test]
async fn rows_that_nobody_takes_any_more_are_sorted() {
    let (case, (early, range)) = (case(), oneshot::channel::<Range>());
    let file: String = (0..100_000).map(row).collect();
    let leave = async { drop(range.await.unwrap().recv().await) };
    let ingested = case.ingest_with(file.as_bytes(), Arc::default(), Some(early));
    let (ingested, ()) = tokio::join!(ingested, leave);
    let ingested = ingested.unwrap();
    assert!(!ingested.was_given());
    assert_eq!(sorted_keys(ingested).await.len(), 100_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_rows_are_given_early_or_all_later(
        mut keys in proptest::collection::btree_set(0..1_000_000u64, 100..600).prop_map(Vec::from_iter),
        moved in proptest::collection::vec((0..600usize, 0..600usize), 0..2),
    ) {
        for (from, to) in moved {
            let key = keys.remove(from % keys.len());
            keys.insert(to % (keys.len() + 1), key);
        }
        let (in_order, file) = (keys.is_sorted(), keys.iter().copied().map(row).collect::<String>());
        keys.sort_unstable();
        let expected: Vec<_> = keys.iter().map(|key| format!("{key:08}")).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (ingested, given) = ingest(&case(), &file).await;
            prop_assert_eq!(ingested.was_given(), in_order);
            prop_assert_eq!(if in_order { given } else { sorted_keys(ingested).await }, expected);
            Ok(())
        })?;
    }
}
