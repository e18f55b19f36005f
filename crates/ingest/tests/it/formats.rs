//! Packed files, broken ones, and files that are no CSV at all.

use std::io;

use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use tokio::io::AsyncReadExt;

use crate::{Case, ITEMS, chain};

const FILE: &[u8] = b"a,1,\nb,2,\nc,3,2024-01-01\n";

async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzipEncoder::new(bytes).read_to_end(&mut packed).await.unwrap();
    packed
}

async fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    ZstdEncoder::new(bytes).read_to_end(&mut packed).await.unwrap();
    packed
}

async fn refusal(case: &Case, file: &[u8]) -> String {
    chain(&case.ingest(file).await.unwrap_err())
}

#[tokio::test]
async fn gzip_and_zstd_are_seen_from_the_first_bytes() {
    let plain = Case::new(ITEMS).run(FILE).await.unwrap().json;
    assert_eq!(plain.len(), 3);
    for packed in [gzip(FILE).await, zstd(FILE).await] {
        assert_eq!(Case::new(ITEMS).run(&packed).await.unwrap().json, plain);
    }
}

#[tokio::test]
async fn parts_that_were_packed_one_by_one_are_one_file() {
    let parts = [gzip(&FILE[..10]).await, gzip(&FILE[10..]).await].concat();
    assert_eq!(Case::new(ITEMS).run(&parts).await.unwrap().json.len(), 3);
}

#[tokio::test]
async fn the_hash_is_that_of_the_bytes_as_they_came() {
    let outcome = Case::new(ITEMS).run(b"a,1,\n").await.unwrap();
    assert_eq!(outcome.sha256, "c3a14d40a542a38486fdb867c769558ba08ec5e2ea8c64e8c629faf65f5c52b4");
}

#[tokio::test]
async fn a_packed_file_that_is_cut_or_damaged_is_refused() {
    for (name, packed) in [("gzip", gzip(FILE).await), ("zstd", zstd(FILE).await)] {
        let cut = refusal(&Case::new(ITEMS), &packed[..packed.len() - 5]).await;
        assert!(cut.starts_with(&format!("the {name} data is damaged or cut off")), "{cut}");
    }
    // zstd has a checksum only where its writer put one.
    let mut damaged = gzip(FILE).await;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    assert!(Case::new(ITEMS).ingest(&damaged).await.is_err());
}

#[tokio::test]
async fn a_bomb_is_stopped_at_the_limit_of_unpacked_bytes() {
    let mut case = Case::new(ITEMS);
    (case.limits.unpacked_bytes_max, case.chunk_bytes) = (1 << 20, 1 << 16);
    let bomb = gzip("a,1,2024-01-01\n".repeat(1_000_000).as_bytes()).await;
    assert!(bomb.len() < 1 << 17);
    assert_eq!(refusal(&case, &bomb).await, "the file is larger than 1048576 bytes when unpacked");
}

#[tokio::test]
async fn a_bomb_of_nothing_is_stopped_at_the_limit_of_a_record() {
    let mut case = Case::new(ITEMS);
    case.chunk_bytes = 1 << 16;
    let bomb = gzip(&vec![0; 50 << 20]).await;
    assert_eq!(refusal(&case, &bomb).await, "line 1: a record is longer than 1048576 bytes");
}

#[tokio::test]
async fn more_bytes_than_allowed_are_refused() {
    let mut case = Case::new(ITEMS);
    case.limits.bytes_max = 10;
    assert_eq!(refusal(&case, FILE).await, "the file is larger than 10 bytes");
}

#[tokio::test]
async fn formats_that_are_not_read_are_refused_by_name() {
    for (first, name) in
        [(&b"PK\x03\x04...."[..], "zip and xlsx"), (b"\xff\xfea\0", "UTF-16"), (b"PAR1....", "parquet")]
    {
        let refusal = refusal(&Case::new(ITEMS), first).await;
        assert!(refusal.starts_with(&format!("{name} files are not read")), "{refusal}");
    }
}

#[tokio::test]
async fn a_source_that_breaks_off_is_told_apart_from_a_damaged_file() {
    let case = Case::new(ITEMS);
    let chunks = [Ok(FILE.into()), Err(io::Error::other("connection reset"))];
    let report = case.work_dir.path().join("rejects.csv");
    let body = futures_util::stream::iter(chunks);
    let ingest = ingest::ingest(body, case.dataset.clone(), &case.limits, ingest::Outlets::new(&report));
    let error = ingest.await.unwrap_err();
    assert!(matches!(error, ingest::Error::BrokenOff(_)), "{error:?}");
}

#[tokio::test]
async fn nothing_and_a_single_byte_are_files_too() {
    assert_eq!(Case::new(ITEMS).ingest(b"").await.unwrap().rows, 0);
    assert_eq!(Case::new(ITEMS).run(b"x").await.unwrap().merged.rejects.count(), 1);
}
