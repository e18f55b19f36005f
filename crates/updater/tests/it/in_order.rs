//! Files that come in key order, which are put aside while they come.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;

use testkit::http;

use crate::harness::{Backend, ITEMS, Updater, json, until};

/// An updater in whose memory only a small part of a file has room.
fn updater() -> Updater {
    Updater::with(Backend::Embedded, ITEMS, |settings| settings.sort_memory_bytes = 100_000)
}

fn rows(keys: impl Iterator<Item = u32>) -> String {
    keys.map(|key| format!("{key:06},1,\n")).collect()
}

fn drafts(updater: &Updater) -> Vec<String> {
    let files = std::fs::read_dir(updater.dir.join("store/items")).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("staging")).collect()
}

/// Sends the first rows of a file that promises more, until they are put aside.
fn half_sent(updater: &Updater) -> TcpStream {
    let mut slow = http::connect(updater.port).unwrap();
    let length = [("content-length", "1000000")];
    let head = http::head("PUT", "/datasets/items", updater.port, &length);
    slow.write_all((head + &rows(0..50_000)).as_bytes()).unwrap();
    until(|| drafts(updater) == ["staging-draft.lmdb"]);
    slow
}

#[test]
fn what_was_put_aside_becomes_the_version() {
    let updater = updater();
    let mut slow = half_sent(&updater);
    let file = |name: &str| std::fs::metadata(updater.dir.join("store/items").join(name)).unwrap().ino();
    let draft = file("staging-draft.lmdb");
    slow.write_all(rows(50_000..100_000).as_bytes()).unwrap();
    let answer = http::read_response(&mut BufReader::new(slow), false).unwrap();
    assert_eq!((answer.status, json(&answer)["rows"].as_u64()), (200, Some(100_000)), "{}", answer.text());
    assert_eq!(file("v1.lmdb"), draft);
}

#[test]
fn a_file_in_key_order_and_one_that_nearly_is_become_the_same_version() {
    let updater = updater();
    for keys in [(0..50_000).collect::<Vec<u32>>(), (0..49_999).rev().chain([49_999]).collect()] {
        assert_eq!(json(&updater.put(rows(keys.iter().copied())))["rows"], 50_000);
        for other in [rows(0..50_000), rows((25_000..50_000).chain(0..25_000))] {
            let tried = json(&updater.put_with("?dry_run=true", other));
            let changes = ["rows", "added", "removed", "changed"].map(|name| tried[name].as_u64().unwrap());
            assert_eq!(changes, [50_000, 0, 0, 0]);
        }
    }
    let nearly = rows((0..49_998).chain([49_999, 49_998]));
    assert_eq!(json(&updater.put(nearly))["status"], "published");
    assert_eq!((updater.versions(), drafts(&updater).len()), ("3:live 2:kept 1:kept ".into(), 0));
}

#[test]
fn p5_the_same_bytes_in_key_order_change_nothing() {
    let updater = updater();
    let file = rows(0..50_000);
    let statuses = [(); 3].map(|()| json(&updater.put(&file))["status"].clone());
    assert_eq!(statuses, ["published", "unchanged", "unchanged"]);
    assert_eq!((updater.versions(), drafts(&updater).len()), ("1:live ".into(), 0));
}

#[test]
fn p6_a_file_in_key_order_that_a_guard_refuses_leaves_nothing() {
    let updater = updater();
    updater.put(rows(0..50_000));
    for refused in [rows(0..50_000) + "x,x,\n", rows(0..20_000), rows(0..50_000) + "049999,2,\n"] {
        assert_eq!(updater.put(refused).status, 422);
        assert_eq!(drafts(&updater).len(), 0);
    }
    assert!(updater.versions().ends_with("1:live "), "{}", updater.versions());
}

#[test]
fn a_load_in_key_order_that_is_given_up_leaves_nothing() {
    let mut updater = updater();
    let gone = half_sent(&updater);
    drop(gone);
    until(|| drafts(&updater).is_empty());
    let slow = half_sent(&updater);
    let id = updater.get("/loads")["loads"][0]["id"].as_str().unwrap().to_owned();
    let cancelled = http::send("DELETE", updater.port, &format!("/loads/{id}"), &[], b"");
    assert_eq!((json(&cancelled)["outcome"].as_str(), drafts(&updater).len()), (Some("cancelled"), 0));
    drop(slow);
    let _slow = half_sent(&updater);
    updater.stop();
    assert_eq!((drafts(&updater).len(), updater.dir.join("store/items/v1.lmdb").exists()), (0, false));
}
