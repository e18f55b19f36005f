//! Readers that never stop while versions come and go, through HTTP, between processes, on both stores.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use testkit::http;
use testkit::rows::{edition, promotion_id, promotion_json, promotions_csv};

use crate::harness::{BACKENDS, Site};

const ROWS: usize = 2000;
const SEED: u64 = 5;
const VERSIONS: u32 = 20;

/// Asks for one key after the other and checks each answer against the version that it names.
fn read(port: u16, stop: &AtomicBool, answers: &AtomicU64) {
    let (mut newest, mut row) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        row = (row + 7919) % ROWS;
        let answer = http::get(port, &format!("/promotions/{}", promotion_id(SEED, row)));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let version: u32 = answer.header("x-dataset-version").unwrap().parse().unwrap();
        assert!(version >= newest, "went back from {newest} to {version}");
        newest = version;
        assert_eq!(answer.text(), promotion_json(edition(SEED, version), row), "version {version}");
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks for many keys at once, which must all be of one version.
fn read_many(port: u16, stop: &AtomicBool, answers: &AtomicU64) {
    let ids: Vec<_> = (0..50).map(|row| promotion_id(SEED, row)).collect();
    let path = format!("/promotions?id={}", ids.join("&id="));
    while !stop.load(Ordering::Relaxed) {
        let answer = http::get(port, &path);
        let version: u32 = answer.header("x-dataset-version").unwrap().parse().unwrap();
        let rows: Vec<_> = (0..50).map(|row| promotion_json(edition(SEED, version), row)).collect();
        let expected = format!("{{\"version\":{version},\"found\":[{}],\"missing\":[]}}", rows.join(","));
        assert_eq!(answer.text(), expected);
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn p1_answers_are_wholly_of_the_version_they_name_while_twenty_are_published() {
    for backend in BACKENDS {
        let site = Site::new(backend);
        let (_updater, _api) = (site.updater(), site.api());
        assert_eq!(site.upload(promotions_csv(ROWS, edition(SEED, 1)).as_bytes()).status, 200);
        let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let readers = [
                scope.spawn(|| read(site.api_port, &stop, &answers)),
                scope.spawn(|| read(site.api_port, &stop, &answers)),
                scope.spawn(|| read_many(site.api_port, &stop, &answers)),
            ];
            for version in 2..=VERSIONS + 1 {
                let answer = site.upload(promotions_csv(ROWS, edition(SEED, version)).as_bytes());
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            stop.store(true, Ordering::Relaxed);
            for reader in readers {
                reader.join().unwrap();
            }
        });
        assert!(answers.load(Ordering::Relaxed) > 200, "{backend:?}: {answers:?} answers");
        assert_eq!(site.live(), Some(u64::from(VERSIONS) + 1));
    }
}

#[test]
fn p2_versions_never_go_back_unless_somebody_rolls_back() {
    for backend in BACKENDS {
        let site = Site::new(backend);
        let (_updater, _api) = (site.updater(), site.api());
        let (stop, answers, newest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let path = format!("/promotions/{}", promotion_id(SEED, 1));
        let version = || site.get(&path).header("x-dataset-version").unwrap().parse::<u64>().unwrap();
        assert_eq!(site.upload(promotions_csv(50, edition(SEED, 1)).as_bytes()).status, 200);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let before = newest.load(Ordering::SeqCst);
                    let seen = version();
                    assert!(seen >= before, "went back from {before} to {seen}");
                    newest.fetch_max(seen, Ordering::SeqCst);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
            for number in 2..=6 {
                assert_eq!(site.upload(promotions_csv(50, edition(SEED, number)).as_bytes()).status, 200);
            }
            stop.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
        assert!(answers.load(Ordering::Relaxed) > 20);
        let activate = http::post(site.updater_port, "/datasets/promotions/versions/5/activate", &[], b"");
        assert_eq!((activate.status, version()), (200, 5));
    }
}
