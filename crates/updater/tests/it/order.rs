//! Loads that overlap, with each other and with rollbacks, in one updater or in two on one store.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testkit::http::{self, Response};
use testkit::{Database, Fault, FaultProxy, MariaDb, until};

use crate::harness::{BACKENDS, Backend, ITEMS, Updater, json};

/// Two updaters on one store.
fn two(backend: Backend) -> (Updater, Updater, Option<Database>) {
    match backend {
        Backend::Embedded => {
            let first = Updater::start(backend);
            let url = format!("embedded:{}", first.dir.join("store").display());
            let second = Updater::on(Some(url), None, ITEMS, |_| {});
            (first, second, None)
        }
        Backend::Mariadb => {
            let database = MariaDb::shared().database();
            let start = || Updater::on(Some(database.url()), Some(database.clone()), ITEMS, |_| {});
            (start(), start(), Some(database.clone()))
        }
    }
}

/// Sends a file but for its last byte, and waits until the updater receives it.
fn send_slowly(updater: &Updater, query: &str, file: &str) -> TcpStream {
    let mut slow = http::connect(updater.port).unwrap();
    let length = [("content-length", &*file.len().to_string())];
    let head = http::head("PUT", &format!("/datasets/items{query}"), updater.port, &length);
    slow.write_all((head + &file[..file.len() - 1]).as_bytes()).unwrap();
    let bytes = file.len() - 1;
    until(|| updater.get("/loads")["loads"][0]["bytes"] == bytes);
    assert_eq!(updater.get("/loads")["loads"][0]["phase"], "receiving");
    slow
}

/// Sends the last byte, which ends the last line, and reads the answer.
fn finish(mut slow: TcpStream) -> Response {
    slow.write_all(b"\n").unwrap();
    http::read_response(&mut BufReader::new(slow), false).unwrap()
}

fn activate(updater: &Updater, version: u32) -> Response {
    http::post(updater.port, &format!("/datasets/items/versions/{version}/activate"), &[], b"")
}

#[test]
fn p4_a_slow_upload_never_overwrites_one_that_began_later() {
    for backend in BACKENDS {
        let (first, second, _database) = two(backend);
        assert_eq!(first.put("a,1,\n").status, 200);
        let slow = send_slowly(&first, "", "a,2,\n");
        assert_eq!(json(&second.put("a,3,\n"))["version"], 3);
        let superseded = finish(slow);
        let body = json(&superseded);
        assert_eq!((superseded.status, &body["type"]), (409, &"urn:tableswap:problem:superseded".into()));
        assert_eq!(first.versions(), "3:live 2:superseded 1:kept ");
        let forced = send_slowly(&first, "?force=true", "a,4,\n");
        assert_eq!(json(&second.put("a,5,\n"))["version"], 5);
        assert_eq!(json(&finish(forced))["version"], 6);
        assert!(first.versions().starts_with("6:live 5:kept 4:superseded 3:kept "), "{}", first.versions());
    }
}

#[test]
fn p4_an_upload_is_not_refused_for_one_that_is_still_arriving_elsewhere() {
    for backend in BACKENDS {
        let (first, second, _database) = two(backend);
        let slow = send_slowly(&first, "", "a,1,\n");
        let start = Instant::now();
        assert_eq!(second.put("a,2,\n").status, 200);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(finish(slow).status, 409);
    }
}

#[test]
fn p8_a_rollback_does_not_wait_for_an_upload_and_ends_that_of_its_own_updater() {
    for backend in BACKENDS {
        // LMDB does not open a file twice in one process, where both updaters of this test would read it.
        let (first, second) = match backend {
            Backend::Embedded => (Updater::start(backend), None),
            Backend::Mariadb => {
                let (first, second, _database) = two(backend);
                (first, Some(second))
            }
        };
        first.put("a,1,\n");
        first.put("a,2,\n");
        let slow = send_slowly(&first, "", "a,3,\n");
        let start = Instant::now();
        assert_eq!(activate(second.as_ref().unwrap_or(&first), 1).status, 200);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(activate(&first, 2).status, 200);
        let cancelled = finish(slow);
        assert_eq!(cancelled.status, 409, "{}", cancelled.text());
        assert_eq!(json(&cancelled)["detail"], "the load was cancelled, nothing was published");
        assert_eq!(first.versions(), "3:failed 2:live 1:kept ");
    }
}

#[test]
fn p8_the_content_of_a_withdrawn_version_does_not_come_back_by_itself() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        updater.put("a,1,\n");
        updater.put("a,2,\n");
        assert_eq!(activate(&updater, 1).status, 200);
        let refused = updater.put("a,2,\n");
        let body = json(&refused);
        assert_eq!((refused.status, &body["withdrawn"]), (409, &2.into()), "{body}");
        assert_eq!(body["type"], "urn:tableswap:problem:withdrawn-content");
        assert_eq!(updater.versions(), "2:withdrawn 1:live ");
        assert_eq!(json(&updater.put_with("?force=true", "a,2,\n"))["version"], 3);
        assert_eq!(activate(&updater, 1).status, 200);
        assert_eq!(activate(&updater, 2).status, 200);
        assert_eq!(json(&updater.put("a,2,\n"))["status"], "unchanged");
    }
}

#[test]
fn p5_unchanged_means_that_the_live_version_can_be_read() {
    let updater = Updater::start(Backend::Mariadb);
    let database = updater.database.clone().unwrap();
    let file = "a,1,\nb,2,\n";
    updater.put(file);
    assert_eq!(json(&updater.put(file))["status"], "unchanged");
    for harm in ["DELETE FROM items WHERE code = 'a'", "TRUNCATE items", "DROP TABLE items"] {
        database.execute(harm);
        let again = json(&updater.put(file));
        assert_eq!((&again["status"], &again["rows"]), (&"published".into(), &2.into()), "{harm}: {again}");
        assert_eq!(database.execute("SELECT COUNT(*) FROM items"), "2");
    }
    let updater = Updater::start(Backend::Embedded);
    updater.put(file);
    std::fs::remove_file(updater.dir.join("store/items/v1.lmdb")).unwrap();
    drop(updater);
}

#[test]
fn p6_the_shrink_guard_holds_where_the_live_rows_are_gone() {
    let updater = Updater::start(Backend::Mariadb);
    let database = updater.database.clone().unwrap();
    updater.put("a,1,\nb,2,\nc,3,\nd,4,\n");
    for harm in ["TRUNCATE items", "DROP TABLE items"] {
        database.execute(harm);
        let refused = updater.put("a,9,\n");
        assert_eq!(
            (refused.status, &json(&refused)["type"]),
            (422, &"urn:tableswap:problem:shrunk".into()),
            "{harm}"
        );
    }
    assert_eq!(updater.put("a,1,\nb,2,\nc,3,\n").status, 200);
}

#[test]
fn p3_a_load_that_was_answered_early_is_known_after_a_crash() {
    for backend in BACKENDS {
        let (mut first, second, _database) = two(backend);
        let prefer = [("prefer", "respond-async")];
        let accepted = http::put(first.port, "/datasets/items", &prefer, b"a,1,\n");
        let location = accepted.header("location").unwrap().to_owned();
        until(|| first.get(&location)["outcome"] == "published");
        let refused = http::put(first.port, "/datasets/items", &prefer, b"a,x,\n");
        let refused = refused.header("location").unwrap().to_owned();
        until(|| first.get(&refused)["outcome"] == "refused");
        first.stop();
        assert_eq!(second.get(&location)["outcome"], "published");
        assert_eq!(
            (&second.get(&refused)["outcome"], &second.get(&refused)["reason"]),
            (&"failed".into(), &"refused".into())
        );
        assert_eq!(http::get(second.port, "/loads/01a21143-88bb-76d3-a79c-a0ffac3d5041").status, 404);
    }
}

#[test]
fn p8_a_load_that_counts_the_live_rows_can_be_cancelled() {
    let updater = Updater::start(Backend::Mariadb);
    let database = updater.database.clone().unwrap();
    updater.put("a,1,\n");
    updater.put("a,2,\n");
    // The count waits for this session, as it would for a billion rows.
    let holder = std::thread::spawn(move || database.try_execute("LOCK TABLES items WRITE; SELECT SLEEP(4)"));
    let counting = std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            updater.put("a,2,\n")
        });
        until(|| updater.get("/loads")["loads"][0]["phase"] == "waiting");
        std::thread::sleep(Duration::from_millis(300));
        let load = updater.get("/loads")["loads"][0].clone();
        assert_eq!(load["phase"], "waiting", "{load}");
        let start = Instant::now();
        let path = format!("/loads/{}", load["id"].as_str().unwrap());
        let cancelled = http::send("DELETE", updater.port, &path, &[], b"");
        assert_eq!(json(&cancelled)["outcome"], "cancelled", "{}", cancelled.text());
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        counting.join().unwrap()
    });
    assert_eq!(counting.status, 409);
    holder.join().unwrap().unwrap();
    assert_eq!(activate(&updater, 1).status, 200);
    assert_eq!(updater.versions(), "3:failed 2:withdrawn 1:live ");
}

#[test]
fn a_load_that_is_cancelled_while_the_database_hangs_is_cancelled_and_not_failed() {
    let database = MariaDb::shared().database();
    let proxy = FaultProxy::start(MariaDb::shared().port());
    let (url, own) = (database.url_via(proxy.port()), database.clone());
    let updater = Updater::on(Some(url), Some(own), ITEMS, |_| {});
    updater.put("a,1,\n");
    let counting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() \
                    AND STATE LIKE 'Waiting for table%' AND INFO LIKE 'SELECT COUNT(*) FROM `items`%'";
    let holder = database.clone();
    let holder = std::thread::spawn(move || holder.try_execute("LOCK TABLES items WRITE; SELECT SLEEP(4)"));
    until(|| database.execute("SHOW PROCESSLIST").contains("SLEEP(4)"));
    let accepted = http::put(updater.port, "/datasets/items", &[("prefer", "respond-async")], b"a,1,\n");
    let path = accepted.header("location").unwrap().to_owned();
    // It counts the live rows, and the statement that would end the count does not get through.
    until(|| database.execute(counting) != "0");
    proxy.set(Fault::Hang);
    let cancelled = http::send("DELETE", updater.port, &path, &[], b"");
    assert_eq!(json(&cancelled)["outcome"], "cancelled", "{}", cancelled.text());
    proxy.set(Fault::None);
    holder.join().unwrap().unwrap();
}

#[test]
fn p10_loads_that_run_at_once_are_limited_dry_runs_included() {
    let updater = Updater::start(Backend::Embedded);
    let running: Vec<_> = (0..16).map(|_| send_slowly(&updater, "?dry_run=true", "a,1,\n")).collect();
    let refused = updater.put("a,1,\n");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.text());
    for slow in running {
        assert_eq!(finish(slow).status, 200);
    }
    assert_eq!(updater.put("a,1,\n").status, 200);
}
