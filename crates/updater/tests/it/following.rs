//! Following a load from its first byte to its end, and giving it up.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use testkit::http::{self, Response};
use testkit::{Database, Fault, FaultProxy, MariaDb, until};

use crate::harness::{BACKENDS, Backend, ITEMS, Updater, json};

/// The start of an upload of the file `a,1,\nb,1,\n`, of which the first line is sent.
fn half_sent(updater: &Updater) -> std::net::TcpStream {
    let mut slow = http::connect(updater.port).unwrap();
    let head = http::head("PUT", "/datasets/items", updater.port, &[("content-length", "10")]);
    slow.write_all((head + "a,1,\n").as_bytes()).unwrap();
    until(|| (&newest(updater)["phase"], &newest(updater)["bytes"]) == (&"receiving".into(), &5.into()));
    slow
}

fn newest(updater: &Updater) -> serde_json::Value {
    updater.get("/loads")["loads"][0].clone()
}

fn path(updater: &Updater) -> String {
    format!("/loads/{}", newest(updater)["id"].as_str().unwrap())
}

fn delete(updater: &Updater, path: &str) -> Response {
    http::send("DELETE", updater.port, path, &[], b"")
}

fn answer_on(stream: std::net::TcpStream) -> Response {
    http::read_response(&mut BufReader::new(stream), false).unwrap()
}

/// The events of a load until it has ended, for who has seen the event `seen`: each as number, name and phase.
fn events(updater: &Updater, path: &str, seen: &str) -> Vec<(u64, String, String)> {
    let text = http::get_with(updater.port, &format!("{path}/events"), &[("last-event-id", seen)]).text();
    let event = |event: &str| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let data: serde_json::Value = serde_json::from_str(&field("data: ")).unwrap();
        (field("id: ").parse().unwrap(), field("event: "), data["phase"].as_str().unwrap().to_owned())
    };
    text.split_terminator("\n\n").map(event).collect()
}

fn phases(events: &[(u64, String, String)]) -> Vec<&str> {
    events.iter().filter(|event| event.1 != "progress").map(|event| event.2.as_str()).collect()
}

#[test]
fn who_follows_a_load_hears_of_every_phase_and_who_comes_back_of_the_rest() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        let mut slow = half_sent(&updater);
        let path = path(&updater);
        let all = std::thread::scope(|scope| {
            let followed = scope.spawn(|| events(&updater, &path, ""));
            slow.write_all(b"b,1,\n").unwrap();
            followed.join().unwrap()
        });
        assert_eq!(phases(&all), ["receiving", "waiting", "staging", "verifying", "publishing", "ended"]);
        assert_eq!(answer_on(slow).status, 200);
        let staging = all.iter().find(|event| event.2 == "staging").unwrap().0;
        assert_eq!(
            phases(&events(&updater, &path, &staging.to_string())),
            ["verifying", "publishing", "ended"]
        );
        let last = [("last-event-id", all.last().unwrap().0.to_string())];
        let last = last.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(http::get_with(updater.port, &format!("{path}/events"), &last).status, 204);
    }
}

#[test]
fn a_load_says_how_far_it_is() {
    let updater = Updater::start(Backend::Embedded);
    let mut slow = half_sent(&updater);
    let load = newest(&updater);
    assert_eq!((&load["bytes_expected"], &load["phase"]), (&10.into(), &"receiving".into()));
    assert!(load["phase_seconds_left"].is_number() && load["outcome"].is_null(), "{load}");
    slow.write_all(b"b,1,\n").unwrap();
    assert_eq!(answer_on(slow).status, 200);
    let load = newest(&updater);
    assert_eq!(
        (&load["rows"], &load["rows_staged"], &load["outcome"]),
        (&2.into(), &2.into(), &"published".into())
    );
}

#[test]
fn who_prefers_it_is_answered_before_the_version_is_live() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        let prefer = [("prefer", "wait=10, respond-async")];
        let accepted = http::put(updater.port, "/datasets/items", &prefer, b"a,1,\n");
        assert_eq!((accepted.status, accepted.header("preference-applied")), (202, Some("respond-async")));
        let path = accepted.header("location").unwrap().to_owned();
        until(|| updater.get(&path)["outcome"] == "published");
        assert_eq!(updater.get(&path)["answer"]["version"], 1);
        let refused = http::put(updater.port, "/datasets/items", &prefer, b"a,x,\n");
        let path = refused.header("location").unwrap().to_owned();
        until(|| updater.get(&path)["outcome"] == "refused");
        assert_eq!(updater.get(&path)["answer"]["status"], 422);
        // Its client was told that the answer comes later, so it is kept.
        assert_eq!(updater.versions(), "2:failed 1:live ");
    }
}

#[test]
fn a_load_is_cancelled_while_it_receives() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        updater.put("a,0,\n");
        let slow = half_sent(&updater);
        let cancelled = delete(&updater, &path(&updater));
        assert_eq!((cancelled.status, &json(&cancelled)["outcome"]), (200, &"cancelled".into()));
        let answer = answer_on(slow);
        assert_eq!(
            (answer.status, &json(&answer)["detail"]),
            (409, &"the load was cancelled, nothing was published".into())
        );
        assert_eq!(updater.versions(), "2:failed 1:live ");
        assert_eq!(delete(&updater, &path(&updater)).status, 200);
        assert_eq!(delete(&updater, "/loads/0").status, 404);
        assert_eq!(updater.put("b,1,\n").status, 200);
        let too_late = delete(&updater, &path(&updater));
        assert_eq!((too_late.status, &json(&too_late)["outcome"]), (409, &"published".into()));
    }
}

/// An updater that is slow to stage, because its database is far away.
fn far_away() -> (FaultProxy, Updater) {
    let database = MariaDb::shared().database();
    let proxy = FaultProxy::start(MariaDb::shared().port());
    let url = database.url_via(proxy.port());
    (proxy, Updater::on(Some(url), Some(database), ITEMS, |_| {}))
}

fn tables(database: &Database) -> String {
    database.execute("SHOW TABLES").lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_load_is_cancelled_while_it_stages() {
    let (proxy, updater) = far_away();
    updater.put("a,0,\n");
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let accepted = http::put(updater.port, "/datasets/items", &[("prefer", "respond-async")], b"b,1,\n");
    let path = accepted.header("location").unwrap().to_owned();
    until(|| updater.get(&path)["phase"] == "staging");
    assert_eq!(json(&delete(&updater, &path))["outcome"], "cancelled");
    proxy.set(Fault::None);
    assert_eq!(tables(updater.database.as_ref().unwrap()), "items tableswap_store tableswap_versions");
    assert_eq!((updater.versions(), updater.put("c,1,\n").status), ("2:failed 1:live ".to_owned(), 200));
}

#[test]
fn a_load_is_cancelled_while_its_swap_waits_for_readers() {
    let updater = Updater::start(Backend::Mariadb);
    updater.put("a,0,\n");
    let database = updater.database.as_ref().unwrap();
    let slow = database.clone();
    let reader = std::thread::spawn(move || slow.execute("SELECT SLEEP(5) FROM items"));
    until(|| database.execute("SHOW PROCESSLIST").contains("SLEEP(5)"));
    let accepted = http::put(updater.port, "/datasets/items", &[("prefer", "respond-async")], b"b,1,\n");
    let path = accepted.header("location").unwrap().to_owned();
    until(|| updater.get(&path)["phase"] == "publishing");
    assert_eq!(json(&delete(&updater, &path))["outcome"], "cancelled");
    reader.join().unwrap();
    assert_eq!(tables(database), "items tableswap_store tableswap_versions");
    assert_eq!((updater.versions(), updater.put("c,1,\n").status), ("2:failed 1:live ".to_owned(), 200));
}

#[test]
fn a_load_that_is_cancelled_at_any_time_is_live_or_gone() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        let file: String = (0..20_000).map(|n| format!("{n},1,\n")).collect();
        for wait_ms in [0, 50, 100, 200, 300, 400, 600] {
            let before = updater.versions();
            let file = format!("x{wait_ms},1,\n{file}");
            let accepted = http::put(
                updater.port,
                "/datasets/items?force=true",
                &[("prefer", "respond-async")],
                file.as_bytes(),
            );
            let path = accepted.header("location").unwrap();
            std::thread::sleep(Duration::from_millis(wait_ms));
            delete(&updater, path);
            let (outcome, after) = (newest(&updater)["outcome"].clone(), updater.versions());
            let live =
                |versions: &str| versions.split(' ').find(|it| it.ends_with(":live")).map(str::to_owned);
            assert_eq!(outcome == "published", live(&before) != live(&after), "{outcome}: {before}, {after}");
            assert!(outcome == "published" || outcome == "cancelled", "{outcome}");
            assert!(!after.contains("loading") && !after.contains("staged"), "{after}");
        }
    }
}

#[test]
fn an_event_stream_ends_with_the_updater() {
    let mut updater = Updater::start(Backend::Embedded);
    let _slow = half_sent(&updater);
    let mut stream = http::connect(updater.port).unwrap();
    let path = format!("{}/events", path(&updater));
    stream.write_all(http::head("GET", &path, updater.port, &[]).as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.by_ref().any(|line| line.unwrap() == "event: phase"));
    updater.stop();
    assert!(lines.any(|line| line.unwrap() == "event: ended"));
}
