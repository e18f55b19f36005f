//! Processes that are killed at any instant.

use std::collections::HashMap;
use std::time::Duration;

use testkit::rows::{edition, promotion_id, promotion_json, promotions_csv};
use testkit::{http, until};

use crate::harness::{BACKENDS, Site};

const ROWS: usize = 20_000;

#[test]
fn p3_an_updater_that_is_killed_at_any_instant_leaves_one_whole_version() {
    for backend in BACKENDS {
        let site = Site::new(backend);
        let (mut updater, api) = (site.updater(), site.api());
        let mut sent = vec![edition(1, 1)];
        assert_eq!(site.upload(promotions_csv(ROWS, sent[0]).as_bytes()).status, 200);
        let mut versions = HashMap::new();
        for round in 0..12 {
            sent.push(edition(1, 100 + round));
            let file = promotions_csv(ROWS, edition(1, 100 + round));
            let port = site.updater_port;
            let answered = std::thread::spawn(move || {
                http::try_send("PUT", port, "/datasets/promotions", &[], file.as_bytes())
            });
            // From before the first byte is parsed until after the swap, in steps.
            std::thread::sleep(Duration::from_millis(60 * u64::from(round)));
            updater.kill();
            let answered = answered.join().unwrap().is_ok_and(|answer| answer.status == 200);
            updater = site.updater();
            let seen = whole_version(&site, &sent, &mut versions);
            assert!(
                !answered || seen == edition(1, 100 + round),
                "{backend:?}: a 200 was answered for what is not live"
            );
        }
        // The next load needs no repair, and leaves nothing of the others.
        until(|| site.upload(promotions_csv(ROWS, edition(1, 99)).as_bytes()).status == 200);
        drop(api);
        assert_eq!(leftovers(&site), Vec::<String>::new());
    }
}

/// Looks at rows at the start, in the middle and at the end; all that are of one version must be of one file that was
/// sent, now and whenever that version was seen before. Returns the file that was seen last.
fn whole_version(site: &Site, sent: &[u64], versions: &mut HashMap<String, u64>) -> u64 {
    let mut last = 0;
    for row in [0, ROWS / 2, ROWS - 1] {
        let answer = site.get(&format!("/promotions/{}", promotion_id(1, row)));
        let version = answer.header("x-dataset-version").unwrap().to_owned();
        let is_of = |seed: &&u64| promotion_json(**seed, row) == answer.text();
        let seed = sent.iter().find(is_of).unwrap_or_else(|| panic!("of no file: {}", answer.text()));
        assert_eq!(
            versions.entry(version.clone()).or_insert(*seed),
            seed,
            "version {version} is of two files"
        );
        last = *seed;
    }
    last
}

/// Files or tables of versions that are neither live nor kept.
fn leftovers(site: &Site) -> Vec<String> {
    let listed = http::get(site.updater_port, "/datasets/promotions/versions");
    let versions = crate::harness::json(&listed)["versions"].as_array().unwrap().clone();
    let staying = versions.iter().filter(|entry| entry["state"] == "live" || entry["state"] == "kept");
    let staying: Vec<_> = staying.map(|entry| entry["version"].as_u64()).collect();
    let number = |name: &str| {
        name.trim_start_matches("promotions__").strip_prefix('v')?.trim_end_matches(".lmdb").parse().ok()
    };
    let others = ["promotions", "tableswap_store", "tableswap_versions", "catalog.json", "reserve"];
    let expected = |name: &String| others.contains(&name.as_str()) || staying.contains(&number(name));
    there(site).into_iter().filter(|name| !expected(name)).collect()
}

/// All files or tables of the dataset.
fn there(site: &Site) -> Vec<String> {
    if let Some(database) = &site.database {
        return database.execute("SHOW TABLES").lines().map(str::to_owned).collect();
    }
    let files = std::fs::read_dir(site.dir.path().join("data/promotions")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn p4_a_paused_updater_that_wakes_up_late_publishes_nothing_over_a_newer_version() {
    use std::io::Write;
    let site = Site::new(crate::harness::Backend::Mariadb);
    let updater = site.updater();
    assert_eq!(site.upload(promotions_csv(100, edition(2, 1)).as_bytes()).status, 200);
    let file = promotions_csv(100, edition(2, 2));
    let mut slow = http::connect(site.updater_port).unwrap();
    let head = http::head(
        "PUT",
        "/datasets/promotions",
        site.updater_port,
        &[("content-length", &file.len().to_string())],
    );
    slow.write_all(&[head.as_bytes(), &file.as_bytes()[..file.len() - 1]].concat()).unwrap();
    until(|| http::get(site.updater_port, "/loads").text().contains("\"phase\":\"receiving\""));
    // Its session is open by now; while the updater stands still, the database drops it.
    until(|| !connections(&site).is_empty());
    updater.pause();
    for id in connections(&site) {
        // One may have ended by itself.
        let _ = site.database.as_ref().unwrap().try_execute(&format!("KILL {id}"));
    }
    let second = site.beside();
    let _second = second.updater();
    until(|| second.upload(promotions_csv(100, edition(2, 3)).as_bytes()).status == 200);
    updater.resume();
    slow.write_all(&file.as_bytes()[file.len() - 1..]).unwrap();
    let answer = http::read_response(&mut std::io::BufReader::new(slow), false).unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    let _api = site.api();
    until(|| site.get("/readyz").status == 200);
    let row = site.get(&format!("/promotions/{}", promotion_id(2, 7)));
    assert_eq!(row.text(), promotion_json(edition(2, 3), 7));
}

/// The connections of the site's user.
fn connections(site: &Site) -> Vec<String> {
    let database = site.database.as_ref().unwrap();
    let listed = database.execute(&format!(
        "SELECT id FROM information_schema.processlist WHERE db = '{}' AND id <> CONNECTION_ID()",
        database.name()
    ));
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn p4_a_publisher_that_stands_still_keeps_others_out_for_less_than_40_seconds() {
    let site = Site::new(crate::harness::Backend::Mariadb);
    let first = site.updater();
    assert_eq!(site.upload(promotions_csv(100, edition(3, 1)).as_bytes()).status, 200);
    let second = site.beside();
    let _second = second.updater();
    let large = promotions_csv(400_000, edition(3, 2));
    std::thread::scope(|scope| {
        let paused = scope.spawn(|| {
            let patience = Duration::from_mins(2);
            http::put_with_patience(site.updater_port, "/datasets/promotions", large.as_bytes(), patience)
        });
        until(|| http::get(site.updater_port, "/loads").text().contains("\"phase\":\"staging\""));
        first.pause();
        assert_eq!(http::get(second.updater_port, "/loads").status, 200);
        let start = std::time::Instant::now();
        let file = promotions_csv(100, edition(3, 3));
        let path = "/datasets/promotions?force=true";
        let patience = Duration::from_mins(1);
        let answer = http::put_with_patience(second.updater_port, path, file.as_bytes(), patience);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
        // It must have had the lock, or this test says nothing.
        assert!(start.elapsed() > Duration::from_secs(5), "{:?}", start.elapsed());
        first.resume();
        let late = paused.join().unwrap();
        assert_eq!(late.status, 503, "{}", late.text());
    });
    assert_eq!(site.live(), Some(3));
}
