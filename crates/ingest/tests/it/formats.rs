//! Packed files, broken ones, and files that are no CSV at all.

use std::io;

use async_compression::tokio::bufread::ZstdEncoder;
use tokio::io::AsyncReadExt;

use crate::{Case, ITEMS, chain, gzip, zstd};

const FILE: &[u8] = b"a,1,\nb,2,\nc,3,2024-01-01\n";

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
    let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
    for parts in [
        vec![gzip(&FILE[..10]).await, gzip(b"").await, gzip(&FILE[10..]).await, gzip(b"").await],
        vec![skippable.clone(), zstd(&FILE[..10]).await, skippable, zstd(&FILE[10..]).await],
    ] {
        for chunk_bytes in [1, 7, 1000] {
            let mut case = Case::new(ITEMS);
            case.chunk_bytes = chunk_bytes;
            assert_eq!(case.run(&parts.concat()).await.unwrap().json.len(), 3, "pieces of {chunk_bytes}");
        }
    }
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
    for (first, name) in [
        (&b"PK\x03\x04...."[..], "zip or xlsx"),
        (b"PK\x05\x06\0\0\0\0", "zip or xlsx"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "xls"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "7z"),
        (b"Rar!\x1a\x07\x01\0", "rar"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PAR1\x15\x04", "parquet"),
        (b"%PDF-1.7", "PDF"),
    ] {
        let error = Case::new(ITEMS).ingest(first).await.unwrap_err();
        assert_eq!((error.code(), error.is_of_the_file()), ("unsupported-format", true));
        let expected = format!("unsupported format: {name}; send CSV, plain or packed with gzip or zstd");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn zstd_that_needs_too_much_memory_or_a_dictionary_is_named() {
    let mut wide = Vec::new();
    let window = [async_compression::zstd::CParameter::window_log(24)];
    let mut encoder = ZstdEncoder::with_quality_and_params(FILE, async_compression::Level::Default, &window);
    encoder.read_to_end(&mut wide).await.unwrap();
    let expected = "unsupported format: zstd with a window above 8 MiB; ";
    let error = refusal(&Case::new(ITEMS), &wide).await;
    assert!(error.starts_with(expected), "{error}");
    // A frame with the id of a dictionary, a window of 1 KiB and a block of one byte.
    let with_dictionary = b"\x28\xb5\x2f\xfd\x01\x00\x07\x09\x00\x00a";
    let error = refusal(&Case::new(ITEMS), with_dictionary).await;
    assert!(error.starts_with("unsupported format: zstd with a dictionary; "), "{error}");
}

#[tokio::test]
async fn what_follows_the_packed_data_is_named() {
    let (gzip, zstd, padding) = (gzip(FILE).await, zstd(FILE).await, &[0; 512][..]);
    for (packed, behind, expected) in [
        (&gzip, padding, "zero bytes after the end of the gzip data"),
        (&gzip, &padding[..1], "zero bytes after the end of the gzip data"),
        (&gzip, b"hello, world", "other data after the end of the gzip data"),
        (&gzip, b"hello\0", "other data after the end of the gzip data"),
        (&gzip, b"\0\0hello, world", "zero bytes after the end of the gzip data"),
        (&gzip, b"\x1f\0\0\0", "other data after the end of the gzip data"),
        (&zstd, b"hello\0", "other data after the end of the zstd data"),
        (&zstd, b"\0\0hello, world", "zero bytes after the end of the zstd data"),
        (&zstd, b"\x28\0\0\0", "other data after the end of the zstd data"),
        (&zstd, &padding[..1], "zero bytes after the end of the zstd data"),
        (&zstd, padding, "zero bytes after the end of the zstd data"),
        (&zstd, b"hello, world", "other data after the end of the zstd data"),
    ] {
        for chunk_bytes in [1, 2, 3, 5, 7, 1000] {
            let mut case = Case::new(ITEMS);
            case.chunk_bytes = chunk_bytes;
            let error = case.ingest(&[packed, behind].concat()).await.unwrap_err();
            assert_eq!((error.code(), error.to_string().as_str()), ("damaged-file", expected));
        }
    }
}

#[tokio::test]
async fn a_small_packed_file_that_unpacks_to_a_large_one_is_stopped() {
    let mut case = Case::new(ITEMS);
    case.chunk_bytes = 1 << 16;
    let rows = "a,1,2024-01-01\n".repeat(2_000_000);
    for bomb in [gzip(rows.as_bytes()).await, zstd(rows.as_bytes()).await] {
        assert!(bomb.len() * 100 < rows.len());
        let error = case.ingest(&bomb).await.unwrap_err();
        assert_eq!(error.code(), "too-large");
        assert_eq!(error.to_string(), "the file unpacks to more than 100 times its size");
    }
    // Without packing there is no ratio, and with it a small file may have any.
    case.dataset = crate::dataset(&format!("{ITEMS}\nmax_rejects = 1000"));
    assert_eq!(case.run(&gzip(&rows.as_bytes()[..8 << 20]).await).await.unwrap().json.len(), 1);
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
