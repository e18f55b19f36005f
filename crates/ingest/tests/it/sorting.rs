//! Rows come out in key order whatever the memory, and a key that comes twice is settled by the dataset's rule.

use std::sync::Arc;

use proptest::prelude::*;

use crate::{Case, ITEMS};

fn with(settings: &str) -> Case {
    Case::new(&format!("{ITEMS}\n{settings}"))
}

/// Rows whose keys are a shuffle of the numbers below `rows`.
fn shuffled(rows: u64) -> String {
    // 7919 is a prime and no divisor of the row counts used here, so every number comes once.
    (0..rows).map(|n| format!("{:08},{n},\n", n * 7919 % rows)).collect()
}

async fn keys(sort_memory_bytes: usize, file: &str) -> Vec<String> {
    let mut case = Case::new(ITEMS);
    (case.limits.sort_memory_bytes, case.chunk_bytes) = (sort_memory_bytes, 1 << 16);
    let json = case.run(file.as_bytes()).await.unwrap().json;
    json.iter().map(|row| row[9..17].to_owned()).collect()
}

#[tokio::test]
async fn rows_come_in_key_order_from_memory_and_from_disk() {
    let file = shuffled(20_000);
    let expected: Vec<_> = (0..20_000).map(|n| format!("{n:08}")).collect();
    for sort_memory_bytes in [64 << 20, 100_000, 10_000] {
        assert_eq!(keys(sort_memory_bytes, &file).await, expected, "{sort_memory_bytes} bytes");
    }
}

#[tokio::test]
async fn memory_for_less_than_a_row_is_enough() {
    assert_eq!(keys(1, &shuffled(600)).await.len(), 600);
}

#[tokio::test]
async fn identical_rows_collapse_to_one() {
    let outcome = with("").run(b"b,1,\na,1,\nb,1,\nb,1,\n").await.unwrap();
    assert_eq!((outcome.merged.rows, outcome.merged.duplicates, outcome.merged.rejects.count()), (2, 2, 0));
}

#[tokio::test]
async fn a_key_with_other_values_is_a_reject_that_names_both_lines() {
    let outcome = with("max_rejects = 1").run(b"b,1,\na,1,\nb,2,\n").await.unwrap();
    assert_eq!((outcome.merged.rows, outcome.merged.duplicates), (2, 0));
    insta::assert_snapshot!(outcome.rejects(), @r#"line 3 code "b": duplicate key: line 1 has it with other values"#);
    assert_eq!(outcome.json[1], r#"{"code":"b","stock":1,"until":null}"#);
}

#[tokio::test]
async fn the_first_or_the_last_row_counts_where_the_dataset_says_so() {
    for (rule, stock) in [("first", 1), ("last", 3)] {
        for sort_memory_bytes in [1, 1 << 20] {
            let mut case = with(&format!("duplicates = \"{rule}\""));
            case.limits.sort_memory_bytes = sort_memory_bytes;
            let outcome = case.run(b"b,1,\nb,2,\nb,3,\n").await.unwrap();
            assert_eq!(outcome.json, [format!(r#"{{"code":"b","stock":{stock},"until":null}}"#)]);
            assert_eq!(outcome.merged.duplicates, 2);
        }
    }
}

#[tokio::test]
async fn a_file_of_one_key_is_one_row() {
    let mut case = with("duplicates = \"last\"");
    (case.limits.sort_memory_bytes, case.chunk_bytes) = (10_000, 1 << 16);
    let file: String = (0..5_000).map(|n| format!("same,{n},\n")).collect();
    let outcome = case.run(file.as_bytes()).await.unwrap();
    assert_eq!(outcome.json, [r#"{"code":"same","stock":4999,"until":null}"#]);
}

#[tokio::test]
async fn a_refused_file_gives_out_no_rows() {
    let outcome = with("").run(b"a,1,\nb,x,\nc,1,\n").await.unwrap();
    assert_eq!((outcome.json.len(), outcome.merged.rejects.count()), (0, 1));
}

#[tokio::test]
async fn a_file_is_read_up_to_a_million_refused_rows() {
    let mut case = with("");
    (case.limits.report_rows_max, case.chunk_bytes) = (5, 1 << 16);
    let file = "a,x,\n".repeat(1_100_000);
    let error = case.ingest(file.as_bytes()).await.unwrap_err();
    assert_eq!((error.code(), error.is_of_the_file()), ("too-many-rejects", true));
    assert_eq!(error.to_string(), "stopped after 1000000 refused rows");
    let ingest::Error::TooManyRejects { rejects, .. } = error else { panic!("{error}") };
    assert_eq!(
        (rejects.count(), rejects.by_code()["not_integer"], rejects.shown().len()),
        (1_000_000, 1_000_000, 10)
    );
    assert_eq!(case.report().lines().count(), 6);
}

#[tokio::test]
async fn a_dataset_that_allows_more_rejects_is_read_on() {
    let mut case = with("max_rejects = 20");
    case.limits.rejects_max = 10;
    let rows = |count: usize| "a,x,\n".repeat(count) + "b,1,\n";
    assert_eq!(case.run(rows(20).as_bytes()).await.unwrap().json.len(), 1);
    let error = case.ingest(rows(30).as_bytes()).await.unwrap_err();
    assert_eq!(error.to_string(), "stopped after 21 refused rows");
}

#[tokio::test]
async fn a_file_for_which_there_is_no_room_is_refused_before_the_disk_is_full() {
    let mut case = with("");
    (case.limits.sort_memory_bytes, case.chunk_bytes) = (100_000, 1 << 14);
    let progress = Arc::new(ingest::Progress::default());
    progress.expect_bytes(1 << 60);
    let error = case.ingest_with(shuffled(60_000).as_bytes(), progress).await.unwrap_err();
    assert!(matches!(error, ingest::Error::NoRoom { .. }) && error.is_no_space(), "{error}");
}

#[tokio::test]
async fn rows_that_nobody_reads_end_the_merge() {
    let case = Case::new(ITEMS);
    let rows = case.ingest(shuffled(600_000).as_bytes()).await.unwrap().into_rows(1).await.unwrap();
    assert!(matches!(rows.finish().await, Err(ingest::Error::Unwanted)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_keys_in_any_memory_come_out_once_and_in_order(
        mut keys in proptest::collection::vec("[a-zäß0-9]{1,8}", 1..200),
        sort_memory_bytes in 1usize..5_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut case = with("");
        case.limits.sort_memory_bytes = sort_memory_bytes;
        let file: String = keys.iter().map(|key| format!("{key},1,\n")).collect();
        let json = runtime.block_on(case.run(file.as_bytes())).unwrap().json;
        keys.sort();
        keys.dedup();
        let expected: Vec<_> = keys.iter().map(|key| format!(r#"{{"code":"{key}","stock":1,"until":null}}"#)).collect();
        prop_assert_eq!(json, expected);
    }
}
