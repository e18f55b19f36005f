//! Clients, databases and operators that do what they should not.

use std::io::Write;
use std::time::{Duration, Instant};

use testkit::{FaultProxy, MariaDb, http, until};

use crate::harness::{BACKENDS, Backend, ITEMS, Updater, json};

/// The head of an upload that promises this many bytes.
fn head(updater: &Updater, bytes: usize) -> String {
    http::head("PUT", "/datasets/items", updater.port, &[("content-length", &bytes.to_string())])
}

fn outcomes(updater: &Updater) -> Vec<String> {
    let loads = updater.get("/loads");
    let outcome = |load: &serde_json::Value| load["outcome"].as_str().unwrap_or("running").to_owned();
    loads["loads"].as_array().unwrap().iter().map(outcome).collect()
}

#[test]
fn a_client_that_breaks_off_in_the_middle_publishes_nothing() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        updater.put("a,1,\n");
        let partial = head(&updater, 1000) + "b,1,\nc,1,\n";
        http::send_partial(updater.port, partial.as_bytes());
        until(|| outcomes(&updater)[0] == "broken_off");
        let (content_type, body) = http::multipart("data", "items.csv", b"b,1,\nc,1,\nd,1,\n");
        let length = body.len().to_string();
        let head = http::head(
            "POST",
            "/upload",
            updater.port,
            &[("content-type", &content_type), ("content-length", &length)],
        );
        for cut in [1, 10, 60] {
            let partial = [head.as_bytes(), &body[..body.len() - cut]].concat();
            http::send_partial(updater.port, &partial);
            until(|| outcomes(&updater)[0] == "broken_off");
        }
        assert_eq!(updater.versions(), "1:live ");
        assert_eq!(updater.put("b,1,\n").status, 200);
    }
}

#[test]
fn a_client_that_sends_nothing_is_given_up() {
    let updater = Updater::with(Backend::Embedded, ITEMS, |settings| settings.idle_seconds = 1);
    let mut client = http::connect(updater.port).unwrap();
    client.write_all((head(&updater, 1000) + "a,1,\n").as_bytes()).unwrap();
    until(|| outcomes(&updater) == ["broken_off"]);
}

#[test]
fn a_client_that_drips_is_given_up() {
    let updater = Updater::with(Backend::Embedded, ITEMS, |settings| settings.upload_seconds_max = 1);
    let mut client = http::connect(updater.port).unwrap();
    client.write_all(head(&updater, 1000).as_bytes()).unwrap();
    until(|| {
        // Where the server has closed already, there is nothing to write to.
        let _ = client.try_clone().unwrap().write_all(b"a");
        outcomes(&updater) == ["broken_off"]
    });
}

#[test]
fn p4_two_uploads_at_once_are_one_upload_and_one_refusal() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        let mut slow = http::connect(updater.port).unwrap();
        slow.write_all((head(&updater, 10) + "a,1,\n").as_bytes()).unwrap();
        until(|| outcomes(&updater) == ["running"] && updater.get("/loads")["loads"][0]["bytes"] == 5);
        let first = updater.get("/loads")["loads"][0]["id"].as_str().unwrap().to_owned();
        let (start, refused) = (Instant::now(), updater.put("c,1,\n"));
        assert_eq!((refused.status, &json(&refused)["running"]), (409, &first.as_str().into()));
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        let detail = json(&refused)["detail"].as_str().unwrap().to_owned();
        let cancel = format!("curl --request DELETE http://127.0.0.1:{}/loads/{first}", updater.port);
        assert!(
            detail.starts_with("a file of `items` has been coming for ") && detail.ends_with(&cancel),
            "{detail}"
        );
        slow.write_all(b"b,1,\n").unwrap();
        // The refusal is no load, and takes the place of none.
        until(|| outcomes(&updater) == ["published"]);
        assert_eq!(updater.versions(), "1:live ");
    }
}

#[test]
fn a_client_that_goes_away_after_its_last_byte_does_not_stop_the_load() {
    let updater = Updater::start(Backend::Embedded);
    let file = "a,1,\n";
    http::send_partial(updater.port, (head(&updater, file.len()) + file).as_bytes());
    until(|| !outcomes(&updater).is_empty() && outcomes(&updater)[0] != "running");
    // Either the file had come whole or it had not; in no case is there half a version.
    let (outcome, versions) = (outcomes(&updater).remove(0), updater.versions());
    assert!(
        matches!((outcome.as_str(), versions.as_str()), ("published", "1:live ") | ("broken_off", "")),
        "{outcome}, {versions}"
    );
}

#[test]
fn a_stop_aborts_a_running_load_and_the_second_start_needs_no_repair() {
    for backend in BACKENDS {
        let mut updater = Updater::start(backend);
        updater.put("a,1,\n");
        let mut slow = http::connect(updater.port).unwrap();
        slow.write_all((head(&updater, 10) + "b,1,\n").as_bytes()).unwrap();
        until(|| outcomes(&updater)[0] == "running" && updater.get("/loads")["loads"][0]["bytes"] == 5);
        updater.stop();
        let left: Vec<_> = walk(&updater.dir).into_iter().filter(|name| name.contains("staging")).collect();
        assert_eq!(left, Vec::<String>::new());
        if let Some(database) = &updater.database {
            assert_eq!(
                database.execute("SHOW TABLES").lines().collect::<Vec<_>>(),
                ["items", "tableswap_store", "tableswap_versions"]
            );
        }
    }
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => walk(&path),
            path => vec![path.display().to_string()],
        })
        .collect()
}

#[test]
fn p9_a_database_that_is_down_at_start_is_waited_for() {
    let database = MariaDb::shared().database();
    let proxy = FaultProxy::start(MariaDb::shared().port());
    proxy.set(testkit::Fault::Refuse);
    let url = database.url_via(proxy.port());
    let updater = Updater::on(Some(url), Some(database), ITEMS, |_| {});
    assert_eq!(http::get(updater.port, "/healthz").status, 200);
    assert_eq!(http::get(updater.port, "/readyz").status, 503);
    let refused = updater.put("a,1,\n");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(json(&refused)["detail"], "the store is not available");
    proxy.set(testkit::Fault::None);
    assert_eq!(http::get(updater.port, "/readyz").status, 200);
    assert_eq!(updater.put("a,1,\n").status, 200);
}

#[test]
fn p9_a_database_that_goes_away_in_the_middle_fails_the_load_and_nothing_else() {
    let database = MariaDb::shared().database();
    let proxy = FaultProxy::start(MariaDb::shared().port());
    let url = database.url_via(proxy.port());
    let updater = Updater::on(Some(url), Some(database), ITEMS, |_| {});
    assert_eq!(updater.put("a,1,\n").status, 200);
    let mut slow = http::connect(updater.port).unwrap();
    slow.write_all((head(&updater, 10) + "b,1,\n").as_bytes()).unwrap();
    until(|| outcomes(&updater)[0] == "running" && updater.get("/loads")["loads"][0]["bytes"] == 5);
    proxy.set(testkit::Fault::Refuse);
    proxy.close_connections();
    slow.write_all(b"c,1,\n").unwrap();
    let answer = http::read_response(&mut std::io::BufReader::new(slow), false).unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    proxy.set(testkit::Fault::None);
    until(|| updater.put("d,1,\n").status == 200);
    assert!(updater.versions().ends_with("1:kept "), "{}", updater.versions());
}

#[test]
fn p9_a_work_directory_without_room_is_reported_and_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    let (store, work) = (dir.path().join("store"), dir.path().join("work"));
    let url = format!("embedded:{}", store.display());
    let script = format!("trap '' XFSZ; ulimit -f 2048; exec {}", env!("CARGO_BIN_EXE_updater"));
    let env = [
        ("TABLESWAP_STORE_URL", url.as_str()),
        ("TABLESWAP_UPDATER_LISTEN", "127.0.0.1:0"),
        ("TABLESWAP_UPDATER_WORK_DIR", work.to_str().unwrap()),
        ("TABLESWAP_UPDATER_SORT_MEMORY_BYTES", "8000000"),
    ];
    // A limit on the size of files is met as a full disk is, and needs no rights.
    let (server, port) = testkit::Server::start_on_any_port("/bin/sh", &["-c", &script], &env);
    let small = testkit::rows::promotions_csv(1000, 1);
    assert_eq!(http::put(port, "/datasets/promotions", &[], small.as_bytes()).status, 200);
    let large = testkit::rows::promotions_csv(200_000, 2);
    let mut in_order: Vec<_> = large.split_inclusive('\n').collect();
    in_order.sort_unstable();
    for large in [&large, &in_order.concat()] {
        let answer = http::put(port, "/datasets/promotions", &[], large.as_bytes());
        assert_eq!(answer.status, 507, "{}\n{}", answer.text(), server.log());
        assert!(walk(dir.path()).iter().all(|path| !path.contains("staging")));
    }
    let enough = testkit::rows::promotions_csv(5000, 3);
    let answer = http::put(port, "/datasets/promotions", &[], enough.as_bytes());
    assert_eq!((answer.status, json(&answer)["rows"].as_u64()), (200, Some(5000)), "{}", answer.text());
    server.terminate();
    assert!(server.wait(Duration::from_secs(20)).success(), "{}", server.log());
}
