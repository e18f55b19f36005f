//! Look-ups in MariaDB that go together, that are answered from memory, and that fail.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use store::{Error, Outcome, Reader, Settings};
use testkit::{Fault, FaultProxy, MariaDb};

use crate::fixture::{Fixture, one, open_with, unlimited, until};

/// Only what goes to the database.
fn uncached(url: &str) -> Settings {
    Settings { url: url.parse().unwrap(), cache_bytes: 0, ..Settings::default() }
}

async fn reader(settings: &Settings) -> Reader {
    let reader = open_with(settings).reader();
    until(|| reader.check().is_ok()).await;
    reader
}

/// The way to a server that is far enough away that many ask before the first is answered.
fn far(server: &MariaDb, fixture: &Fixture) -> (FaultProxy, String) {
    let proxy = FaultProxy::start(server.port());
    proxy.set(Fault::Delay(Duration::from_millis(10)));
    let url = fixture.database.as_ref().unwrap().reader_url_via(proxy.port());
    (proxy, url)
}

/// How many statements the server has run that read a dataset.
fn statements(server: &MariaDb) -> u64 {
    let status = server.execute("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'");
    status.split_whitespace().last().unwrap().parse().unwrap()
}

async fn publish_many(fixture: &Fixture, version: u32) -> Vec<String> {
    let keys: Vec<String> = (0..1000).map(|n| format!("{n:05}")).collect();
    let rows: Vec<String> = keys.iter().map(|key| format!("{key};{version};")).collect();
    fixture.publish(&rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
    keys
}

fn stock(outcome: &Outcome) -> Option<(u32, String)> {
    let found = outcome.as_ref().unwrap().as_ref().unwrap();
    let row = String::from_utf8(found.row.clone()?.into()).unwrap();
    Some((
        found.version.number,
        row.split("\"stock\":").nth(1).unwrap().split(',').next().unwrap().to_owned(),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn look_ups_that_arrive_together_go_together_and_each_gets_its_own() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    let keys = publish_many(&fixture, 7).await;
    let (_far, url) = far(&server, &fixture);
    let reader = reader(&uncached(&url)).await;
    let before = statements(&server);
    let answers = join_all(keys.iter().chain(&keys).map(|key| one(&reader, "items", key))).await;
    for (key, answer) in keys.iter().chain(&keys).zip(&answers) {
        let row = answer.as_ref().unwrap().as_ref().unwrap().row.clone().unwrap();
        assert!(String::from_utf8(row.into()).unwrap().contains(&format!("\"{key}\"")), "{key}");
    }
    let ran = statements(&server) - before;
    assert!((4..100).contains(&ran), "{ran} statements for 2000 look-ups");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_a_thousand_times_is_asked_for_once() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    publish_many(&fixture, 7).await;
    let (_far, url) = far(&server, &fixture);
    let reader = reader(&Settings { batch_keys_max: 1, ..uncached(&url) }).await;
    let before = statements(&server);
    let answers = join_all((0..1000).map(|_| one(&reader, "items", "00017"))).await;
    assert!(answers.iter().all(|answer| stock(answer) == Some((1, "7".into()))));
    let ran = statements(&server) - before;
    assert!(ran < 100, "{ran} statements for one key");
}

#[tokio::test(flavor = "multi_thread")]
async fn datasets_never_mix_in_a_batch() {
    let fixture = Fixture::mariadb();
    let keys = publish_many(&fixture, 1).await;
    let others = r#"
        [others]
        key = "code"
        columns = [{ name = "code", type = "text", max = 12 }, { name = "stock", type = "integer" }, { name = "until", type = "date", optional = true }]"#;
    let url = fixture.database.as_ref().unwrap().reader_url();
    let fixture = fixture.with(others);
    publish_many(&fixture, 2).await;
    let reader = reader(&uncached(&url)).await;
    let both = keys.iter().flat_map(|key| [("items", key, "1"), ("others", key, "2")]);
    let asked = both.clone().map(|(dataset, key, _)| one(&reader, dataset, key));
    for ((dataset, key, expected), answer) in both.clone().zip(join_all(asked).await) {
        assert_eq!(stock(&answer), Some((1, expected.to_owned())), "{dataset} {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_swap_in_the_middle_of_a_batch_fails_nobody_and_mixes_nothing() {
    let fixture = Fixture::mariadb();
    let keys = publish_many(&fixture, 1).await;
    let reader = reader(&uncached(&fixture.database.as_ref().unwrap().reader_url())).await;
    let is_done = AtomicBool::new(false);
    let asked = async {
        let mut versions = HashSet::new();
        while !is_done.load(Ordering::Relaxed) {
            for answer in join_all(keys.iter().take(200).map(|key| one(&reader, "items", key))).await {
                let (version, stock) = stock(&answer).unwrap();
                assert_eq!(version.to_string(), stock);
                versions.insert(version);
            }
        }
        versions
    };
    let published = async {
        for version in 2..=6 {
            publish_many(&fixture, version).await;
        }
        is_done.store(true, Ordering::Relaxed);
    };
    let (versions, ()) = tokio::join!(asked, published);
    assert!(versions.len() > 1, "{versions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_an_answer_from_memory_is_of_the_live_version_after_a_swap_and_after_a_rollback() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let reader = fixture.reader().await;
    for expected in ["v1", "v2", "v3"] {
        for _ in 0..3 {
            assert!(fixture.ask(&reader, &["a"]).await.starts_with(expected));
            assert!(fixture.ask(&reader, &["not there"]).await.starts_with(expected));
        }
        if expected != "v3" {
            fixture.publish(&["a;2;"]).await;
        }
    }
    for version in [1, 3, 2] {
        fixture.store.publisher(&fixture.dataset).await.unwrap().activate(version).await.unwrap();
        assert!(fixture.ask(&reader, &["a"]).await.starts_with(&format!("v{version}: ")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_again_without_the_database_and_not_for_longer_than_stated() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    let reader = fixture.reader().await;
    assert!(one(&reader, "items", "a").await.is_ok());
    let before = statements(&server);
    let mut at_hand = 0;
    for _ in 0..1000 {
        let looked = reader.get("items", "a");
        at_hand += usize::from(matches!(looked, store::Lookup::Ready(Ok(Some(_)))));
    }
    assert!(at_hand > 500, "{at_hand} of 1000 were at hand");
    assert!(statements(&server) - before < 100);
    server.pause();
    tokio::time::sleep(Duration::from_millis(store::FOLLOW_MS * 2)).await;
    assert!(matches!(reader.get("items", "a"), store::Lookup::Pending(_)));
    assert_eq!(reader.current("items"), None);
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_version_of_the_same_number_with_other_content_is_never_taken_for_it() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    let reader = fixture.reader().await;
    assert_eq!(stock(&one(&reader, "items", "a").await), Some((1, "1".into())));
    let before = reader.current("items").unwrap();
    // As after a restore: the same numbers, but not what they were.
    let database = fixture.database.as_ref().unwrap();
    database.execute(
        "UPDATE items SET stock = 9; UPDATE tableswap_versions SET sha256 = '', content_id = 77;
        ALTER TABLE items DROP COLUMN dataset_content,
            ADD COLUMN dataset_content BIGINT UNSIGNED AS (77) VIRTUAL INVISIBLE",
    );
    until(|| !reader.health().unwell.is_empty()).await;
    let refused = one(&reader, "items", "a").await.unwrap_err();
    assert!(store_error(&refused).contains("set back"), "{}", store_error(&refused));
    assert_eq!(reader.current("items"), None);
    // Somebody declares that this is right.
    database.execute("UPDATE tableswap_store SET history_id = MD5(RAND())");
    until(|| reader.current("items").is_some()).await;
    assert_eq!(stock(&one(&reader, "items", "a").await), Some((1, "9".into())));
    assert_ne!(reader.current("items").unwrap(), before);
}

fn store_error(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_fewer_connections_than_it_may_have_every_look_up_is_answered() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    let keys = publish_many(&fixture, 7).await;
    let settings =
        Settings { batch_keys_max: 1, ..uncached(&fixture.database.as_ref().unwrap().reader_url()) };
    let reader = reader(&settings).await;
    limit_connections(&server, 3);
    for _ in 0..5 {
        for answer in join_all(keys.iter().map(|key| one(&reader, "items", key))).await {
            assert_eq!(stock(&answer), Some((1, "7".into())));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_connection_a_look_up_fails_and_with_one_it_succeeds_again() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    let settings = uncached(&fixture.database.as_ref().unwrap().reader_url());
    let starved = reader(&settings).await;
    // The other one takes the only connection that is left, to follow the live versions.
    limit_connections(&server, 1);
    let other = reader(&settings).await;
    for _ in 0..20 {
        assert!(matches!(one(&starved, "items", "a").await, Err(Error::Unavailable(_))));
        assert!(matches!(
            starved.look_up("items", &["a", "b"], &unlimited()).await,
            Err(Error::Unavailable(_))
        ));
    }
    assert_eq!((starved.check(), other.check()), (Ok(()), Ok(())));
    limit_connections(&server, 0);
    assert_eq!(stock(&one(&starved, "items", "a").await), Some((1, "1".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_who_asks_while_others_wait_for_a_silent_database_is_refused_at_once() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    let url = fixture.database.as_ref().unwrap().reader_url();
    let reader = reader(&Settings { timeout_ms: 10_000, ..uncached(&url) }).await;
    assert!(one(&reader, "items", "a").await.is_ok());
    server.pause();
    let first = tokio::spawn({
        let reader = reader.clone();
        async move { one(&reader, "items", "a").await }
    });
    // By then it is known that nothing is answered, and the first still waits.
    tokio::time::sleep(Duration::from_millis(6500)).await;
    for _ in 0..100 {
        assert!(matches!(one(&reader, "items", "b").await, Err(Error::Unavailable(_))));
    }
    assert!(!first.is_finished());
    server.resume();
    assert!(first.await.unwrap().is_ok());
}

/// How many connections each user may have; 0 is any number.
fn limit_connections(server: &MariaDb, number: u32) {
    let users = server.execute(
        "SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.global_priv WHERE user LIKE 'test%'",
    );
    assert!(!users.trim().is_empty());
    for user in users.lines() {
        server.execute(&format!("ALTER USER {user} WITH MAX_USER_CONNECTIONS {number}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_meanwhile_fails_nobody() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    let reader = reader(&uncached(&fixture.database.as_ref().unwrap().reader_url())).await;
    for _ in 0..10 {
        assert!(one(&reader, "items", "a").await.is_ok());
        let ids = server.execute("SELECT id FROM information_schema.processlist WHERE user LIKE 'test%'");
        for id in ids.lines() {
            // One that has ended by itself cannot be killed.
            let _ = server.try_execute(&format!("KILL {id}"));
        }
        let answer = one(&reader, "items", "a").await;
        assert_eq!(stock(&answer), Some((1, "1".into())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_database_that_stops_answering_is_not_waited_for_by_everybody() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    let keys = publish_many(&fixture, 1).await;
    let url = fixture.database.as_ref().unwrap().reader_url();
    let reader = reader(&Settings { timeout_ms: 1000, ..uncached(&url) }).await;
    server.pause();
    let stuck = join_all(keys.iter().take(300).map(|key| one(&reader, "items", key))).await;
    assert!(stuck.iter().all(|answer| matches!(answer, Err(Error::Unavailable(_)))), "{:?}", stuck[0]);
    // From now on nobody waits: a thousand questions take less than the patience for one.
    let start = Instant::now();
    for key in &keys {
        assert!(matches!(one(&reader, "items", key).await, Err(Error::Unavailable(_))));
    }
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(reader.check().is_err());
    server.resume();
    until(|| reader.check().is_ok()).await;
    assert_eq!(stock(&one(&reader, "items", "00001").await), Some((1, "1".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_the_database_gives_up_fails_its_own_requests_alone() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    let url = fixture.database.as_ref().unwrap().reader_url();
    let reader = reader(&Settings { timeout_ms: 3000, ..uncached(&url) }).await;
    let lock = mysql_async::Conn::from_url(fixture.database.as_ref().unwrap().owner_url());
    let mut lock = lock.await.unwrap();
    mysql_async::prelude::Queryable::query_drop(&mut lock, "LOCK TABLES items WRITE").await.unwrap();
    assert!(matches!(one(&reader, "items", "a").await, Err(Error::Unavailable(_))));
    drop(lock);
    until(|| reader.check().is_ok()).await;
    assert_eq!(stock(&one(&reader, "items", "a").await), Some((1, "1".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_questions_than_the_database_has_connections_are_all_answered() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    let keys = publish_many(&fixture, 1).await;
    let url = fixture.database.as_ref().unwrap().reader_url();
    let settings = Settings { connections_max: 2, batch_keys_max: 2, ..uncached(&url) };
    let reader = reader(&settings).await;
    let many: Vec<&str> = keys.iter().map(String::as_str).collect();
    let bytes = unlimited();
    let (alone, together) = tokio::join!(
        join_all(keys.iter().map(|key| one(&reader, "items", key))),
        join_all((0..20).map(|_| reader.look_up("items", &many, &bytes)))
    );
    assert!(alone.iter().all(|answer| stock(answer) == Some((1, "1".into()))));
    assert!(
        together.iter().all(|answer| answer
            .as_ref()
            .unwrap()
            .as_ref()
            .unwrap()
            .rows
            .iter()
            .all(Option::is_some))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn across_a_slow_network_many_are_under_way_at_once() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    let keys = publish_many(&fixture, 1).await;
    let proxy = FaultProxy::start(server.port());
    let url = fixture.database.as_ref().unwrap().reader_url_via(proxy.port());
    let reader = reader(&Settings { batch_keys_max: 4, ..uncached(&url) }).await;
    proxy.set(Fault::Delay(Duration::from_millis(5)));
    // One after the other, with four keys each, would be 250 round trips of ten milliseconds: more come to be under way.
    let mut most = 0;
    for _ in 0..40 {
        join_all(keys.iter().map(|key| one(&reader, "items", key))).await;
        most = most.max(proxy.connections());
        if most > 4 {
            return;
        }
    }
    panic!("never more than {most} connections, two of which are not for look-ups");
}
