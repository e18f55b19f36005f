//! What only MariaDB can do to us.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dataset::RowBatch;
use store::State::{Failed, Kept, Live};
use store::{Ending, Error, NewLoad, Settings};
use testkit::{Fault, FaultPoint, FaultProxy, MariaDb, StatementFault, StatementProxy};
use tokio::sync::mpsc;

use crate::fixture::{Fixture, batch, counts, fill, open, open_with, unlimited, until};

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_only_select_can_read() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let url = fixture.database.as_ref().unwrap().reader_url();
    let reader = open(&url).reader();
    until(|| reader.check().is_ok()).await;
    assert!(fixture.ask(&reader, &["a"]).await.starts_with("v1: {"));
    let publisher = open(&url).publisher(&fixture.dataset).await.unwrap();
    let refused = publisher.stage(fixture.new_version()).await.unwrap_err();
    assert!(chain(&refused).contains("denied"), "{}", chain(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_else_made_is_left_alone() {
    let fixture = Fixture::mariadb();
    let database = fixture.database.as_ref().unwrap();
    database.execute("CREATE TABLE items (code INT); INSERT INTO items VALUES (17)");
    let refused = fixture.store.publisher(&fixture.dataset).await.unwrap_err();
    insta::assert_snapshot!(refused, @"the database has a table `items` that this service did not make: give it another database");
    assert_eq!(database.execute("SELECT * FROM items").trim(), "17");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_entries_that_look_like_left_overs_and_are_none_stay() {
    let fixture = Fixture::mariadb();
    let database = fixture.database.as_ref().unwrap();
    fixture.publish(&["a;1;"]).await;
    fixture.publish(&["a;2;"]).await;
    // A table of somebody else's, and so many failed loads that the good ones are far back.
    database.execute("CREATE TABLE items__v77 (code INT)");
    database.execute(
        "CREATE TEMPORARY TABLE failed SELECT * FROM tableswap_versions WHERE version = 2;
        UPDATE failed SET state = 'failed', row_count = 0, published_at = NULL, swap_number = 0, live_swap = 0;
        INSERT INTO tableswap_versions SELECT dataset, version + seq, state, row_count, rejected, duplicates, bytes, \
        sha256, definition_hash, source, load_id, host, actor_json, activated_by_json, forced, started_at, \
        published_at, withdrawn_at, reason, swap_number, live_swap, content_id, columns_json FROM failed, seq_1_to_1500",
    );
    fixture.publish(&["a;3;"]).await;
    let there = database.execute("SHOW TABLES");
    assert_eq!(
        there.lines().collect::<Vec<_>>(),
        ["items", "items__v1", "items__v2", "items__v77", "tableswap_store", "tableswap_versions"]
    );
    let states = fixture.states().await;
    assert_eq!(states[0], (1503, Live));
    // Old entries of failed loads go, and those of versions that are there stay.
    assert_eq!((states.len(), &states[states.len() - 2..]), (1002, &[(2, Kept), (1, Kept)][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_swap_that_its_entry_does_not_know_of_is_listed_as_what_it_is() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    drop(fixture.stage(&["a;2;"]).await.verify(counts(1)).await.unwrap());
    // As if the updater had died right behind its swap.
    fixture.database.as_ref().unwrap().execute("RENAME TABLE items TO items__v1, items__v2 TO items");
    assert_eq!(fixture.states().await, [(2, Live), (1, Kept)]);
    fixture.publish(&["a;3;"]).await;
    assert_eq!(fixture.states().await, [(3, Live), (2, Kept), (1, Kept)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_delays_the_swap_and_nobody_else() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let reader = fixture.reader().await;
    let name = fixture.database.as_ref().unwrap().url();
    let slow = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            use mysql_async::prelude::Queryable;
            let mut conn = mysql_async::Conn::from_url(name).await.unwrap();
            conn.query_drop("SELECT SLEEP(4) FROM items").await.unwrap();
        });
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = async {
        // A look-up is given up after two seconds, so one that waited for the slow reader would fail.
        for _ in 0..40 {
            fixture.ask(&reader, &["a"]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (published, ()) = tokio::join!(fixture.publish(&["a;2;"]), asked);
    assert_eq!(published.live.version, 2);
    slow.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_never_gets_through_is_given_up() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let url = fixture.database.as_ref().unwrap().url();
    let settings = Settings { url: url.parse().unwrap(), swap_wait_ms: 1, ..Settings::default() };
    let store = open_with(&settings);
    let owner = fixture.database.as_ref().unwrap().owner_url();
    let mut blocker = mysql_async::Conn::from_url(&owner).await.unwrap();
    mysql_async::prelude::Queryable::query_drop(&mut blocker, "LOCK TABLES items READ").await.unwrap();
    let mut staging =
        store.publisher(&fixture.dataset).await.unwrap().stage(fixture.new_version()).await.unwrap();
    fill(&mut staging, batch(&fixture.dataset.schema, &["a;2;"])).await.unwrap();
    let refused = staging.verify(counts(1)).await.unwrap().publish(|| true).await.unwrap_err();
    assert!(matches!(refused, Error::SwapTimeout(1)), "{refused:?}");
    drop(blocker);
    assert_eq!(fixture.states().await, [(2, Failed), (1, Live)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_rows_that_the_server_changed_are_never_published() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
    let mut staging = publisher.stage(fixture.new_version()).await.unwrap();
    // As if the table had been made by somebody with other ideas.
    fixture.database.as_ref().unwrap().execute("ALTER TABLE items__v2 MODIFY stock TINYINT");
    let refused = fill(&mut staging, batch(&fixture.dataset.schema, &["a;1000;"])).await.unwrap_err();
    assert!(matches!(refused, Error::Warnings(1)), "{refused:?}");
    staging.abort("a test").await.unwrap();
    assert_eq!(fixture.states().await, [(2, Failed), (1, Live)]);
}

/// A range of the keys whose end has not come.
fn open_range(batch: RowBatch) -> (mpsc::Sender<RowBatch>, store::Rows) {
    let (sender, rows) = mpsc::channel(1);
    sender.try_send(batch).unwrap();
    (sender, rows)
}

/// The connections that load a table.
fn loading(fixture: &Fixture) -> Vec<String> {
    let loading =
        "SELECT id FROM information_schema.processlist WHERE info LIKE 'LOAD DATA%' AND db = DATABASE()";
    fixture.database.as_ref().unwrap().execute(loading).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_are_loaded_at_once_are_one_version() {
    let fixture = Fixture::mariadb();
    let mut staging =
        fixture.store.publisher(&fixture.dataset).await.unwrap().stage(fixture.new_version()).await.unwrap();
    let schema = &fixture.dataset.schema;
    let ranges = [&["a;1;", "b;1;"][..], &["c;1;"], &["d;1;"]].map(|rows| open_range(batch(schema, rows)).1);
    staging.fill(ranges.into()).await.unwrap();
    staging.verify(counts(4)).await.unwrap().publish(|| true).await.unwrap();
    let reader = fixture.reader().await;
    assert_eq!(fixture.ask(&reader, &["a", "b", "c", "d", "e"]).await.matches("stock").count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_beside_readers_gives_way_and_is_whole() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let reader = fixture.reader().await;
    let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
    let store::Publisher::Mariadb(of_database) = &publisher else { panic!("another store") };
    let manners = of_database.manners().clone();
    let is_over = AtomicBool::new(false);
    let read = async {
        while !is_over.load(Ordering::Relaxed) {
            fixture.ask(&reader, &["a", "b"]).await;
        }
    };
    let loaded = async {
        until(|| manners.give_way()).await;
        let keys: Vec<String> = (0..6000).map(|n| format!("{n:06};2;")).collect();
        let rows: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (sender, range) = mpsc::channel(1);
        let mut staging = publisher.stage(fixture.new_version()).await.unwrap();
        let sent = async {
            // One batch shows how long the database takes, and the others come in pieces.
            for some in rows.chunks(2000) {
                sender.send(batch(&fixture.dataset.schema, some)).await.unwrap();
            }
            drop(sender);
        };
        let (filled, ()) = tokio::join!(staging.fill(vec![range]), sent);
        filled.unwrap();
        let given_way = manners.give_way();
        staging.verify(counts(6000)).await.unwrap().publish(|| true).await.unwrap();
        is_over.store(true, Ordering::Relaxed);
        given_way
    };
    let ((), given_way) = tokio::join!(read, loaded);
    assert!(given_way);
    assert_eq!(fixture.ask(&reader, &["000000", "005999"]).await.matches("\"stock\":2").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_connection_that_is_killed_in_one_of_the_ranges_fails_the_load() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let mut staging =
        fixture.store.publisher(&fixture.dataset).await.unwrap().stage(fixture.new_version()).await.unwrap();
    let (one_end, one) = open_range(batch(&fixture.dataset.schema, &["a;2;"]));
    let (other_end, other) = open_range(batch(&fixture.dataset.schema, &["m;2;"]));
    let killed = async {
        until(|| loading(&fixture).len() == 2).await;
        let connection = loading(&fixture).remove(0);
        fixture.database.as_ref().unwrap().execute(&format!("KILL {connection}"));
        // It is noticed when more is sent.
        let more = |range: usize, n: u32| {
            batch(&fixture.dataset.schema, &[&format!("{}{n:09};2;", ["b", "n"][range])])
        };
        for n in 0.. {
            let sent = [one_end.send(more(0, n)).await, other_end.send(more(1, n)).await];
            if sent.iter().any(Result::is_err) {
                break;
            }
        }
    };
    let (failed, ()) = tokio::join!(staging.fill(vec![one, other]), killed);
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    staging.abort("a test").await.unwrap();
    assert_eq!(fixture.states().await, [(2, Failed), (1, Live)]);
    assert_eq!(
        fixture.database.as_ref().unwrap().execute("SHOW TABLES"),
        "items\ntableswap_store\ntableswap_versions"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_given_up_in_the_middle_leaves_nothing() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let mut staging =
        fixture.store.publisher(&fixture.dataset).await.unwrap().stage(fixture.new_version()).await.unwrap();
    let (_end, range) = open_range(batch(&fixture.dataset.schema, &["a;2;"]));
    tokio::select! {
        filled = staging.fill(vec![range]) => panic!("{filled:?}"),
        () = until(|| loading(&fixture).len() == 1) => {}
    }
    staging.abort("a test").await.unwrap();
    assert_eq!(fixture.states().await, [(2, Failed), (1, Live)]);
    assert_eq!(
        fixture.database.as_ref().unwrap().execute("SHOW TABLES"),
        "items\ntableswap_store\ntableswap_versions"
    );
    fixture.publish(&["a;3;"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_whose_updater_vanished_is_swept_away_by_the_next_one() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let mut staging =
        fixture.store.publisher(&fixture.dataset).await.unwrap().stage(fixture.new_version()).await.unwrap();
    let (_end, range) = open_range(batch(&fixture.dataset.schema, &["a;2;"]));
    let vanished = async {
        until(|| loading(&fixture).len() == 1).await;
        let database = fixture.database.as_ref().unwrap();
        // The lock is gone with its connection; the statement still waits for rows.
        let holders = "SELECT GROUP_CONCAT(CONCAT('KILL ', id) SEPARATOR ';') FROM information_schema.processlist \
             WHERE db = DATABASE() AND command = 'Sleep'";
        database.execute(database.execute(holders).trim());
        fixture.publish(&["a;3;"]).await;
        assert_eq!(loading(&fixture), [""; 0]);
        assert_eq!(database.execute("SHOW TABLES"), "items\nitems__v1\ntableswap_store\ntableswap_versions");
    };
    tokio::select! {
        filled = staging.fill(vec![range]) => panic!("{filled:?}"),
        () = vanished => {}
    }
    assert_eq!(fixture.states().await, [(3, Live), (2, Failed), (1, Kept)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_who_lost_the_lock_cannot_swap() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let staged = fixture.stage(&["a;2;"]).await.verify(counts(1)).await.unwrap();
    let database = fixture.database.as_ref().unwrap();
    let holders = format!(
        "SELECT GROUP_CONCAT(CONCAT('KILL ', id) SEPARATOR ';') FROM information_schema.processlist WHERE db = '{}' AND id <> CONNECTION_ID()",
        database.name()
    );
    database.execute(database.execute(&holders).trim());
    fixture.publish(&["a;3;"]).await;
    let refused = staged.publish(|| true).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
    assert_eq!(fixture.states().await[0], (3, Live));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_connection_that_breaks_at_any_byte_of_a_publication_leaves_one_version() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;0;"]).await;
    let database = fixture.database.as_ref().unwrap();
    let reader = fixture.reader().await;
    for bytes in (1..400).step_by(23) {
        let proxy = FaultProxy::start(MariaDb::shared().port());
        let behind = open(&database.url_via(proxy.port()));
        let mut publisher = behind.publisher(&fixture.dataset).await;
        while matches!(publisher, Err(Error::Busy { .. })) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            publisher = behind.publisher(&fixture.dataset).await;
        }
        let mut staging = publisher.unwrap().stage(fixture.new_version()).await.unwrap();
        let version = staging.version();
        fill(&mut staging, batch(&fixture.dataset.schema, &[&format!("a;{version};")])).await.unwrap();
        let staged = staging.verify(counts(1)).await.unwrap();
        proxy.set(Fault::CutAfter(bytes));
        let outcome = staged.publish(|| true).await;
        let answer = fixture.ask(&reader, &["a"]).await;
        let live = answer.starts_with(&format!("v{version}: "));
        assert!(!answer.ends_with(": -"), "{answer}");
        // Where the connection comes back the answer is exact; where it does not, an error may be too careful.
        assert!(live || outcome.is_err(), "after {bytes} bytes: {outcome:?}, but {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_database_that_refuses_or_is_read_only_is_reported_and_left_alone() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    server.set_global("local_infile", "0");
    let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
    let mut staging = publisher.stage(fixture.new_version()).await.unwrap();
    let refused = fill(&mut staging, batch(&fixture.dataset.schema, &["a;2;"])).await.unwrap_err();
    staging.abort("a test").await.unwrap();
    insta::assert_snapshot!(refused, @"the database refuses LOAD DATA LOCAL: set local_infile = ON in the server's configuration");
    server.set_global("local_infile", "1");
    server.set_global("read_only", "1");
    let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
    let refused = publisher.stage(fixture.new_version()).await.unwrap_err();
    assert!(chain(&refused).contains("read-only"), "{}", chain(&refused));
    server.set_global("read_only", "0");
    fixture.publish(&["a;3;"]).await;
    assert_eq!(fixture.states().await, [(3, Live), (2, Failed), (1, Kept)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_database_that_is_killed_comes_back_with_one_whole_version() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    let reader = fixture.reader().await;
    let staging = fixture.stage(&["a;2;"]).await;
    server.kill();
    assert!(matches!(reader.look_up("items", &["a"], &unlimited()).await, Err(Error::Unavailable(_))));
    let refused = staging.verify(counts(1)).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
    until(|| reader.check().is_err()).await;
    server.restart();
    until(|| reader.check().is_ok()).await;
    assert!(fixture.ask(&reader, &["a"]).await.starts_with("v1: {"));
    fixture.publish(&["a;3;"]).await;
    assert_eq!(fixture.states().await, [(3, Live), (2, Failed), (1, Kept)]);
    let tables = fixture.database.as_ref().unwrap().execute("SHOW TABLES");
    assert_eq!(
        tables.lines().collect::<Vec<_>>(),
        ["items", "items__v1", "tableswap_store", "tableswap_versions"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_gives_an_error_in_time() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let proxy = FaultProxy::start(MariaDb::shared().port());
    let url = fixture.database.as_ref().unwrap().url_via(proxy.port());
    let reader =
        open_with(&Settings { url: url.parse().unwrap(), timeout_ms: 300, ..Settings::default() }).reader();
    until(|| reader.check().is_ok()).await;
    assert!(fixture.ask(&reader, &["a"]).await.starts_with("v1: {"));
    proxy.set(Fault::Hang);
    let refused = reader.look_up("items", &["a"], &unlimited()).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
    proxy.set(Fault::None);
    proxy.close_connections();
    until(|| reader.check().is_ok()).await;
    assert!(fixture.ask(&reader, &["a"]).await.starts_with("v1: {"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_slow_network_is_not_taken_for_a_lost_lock() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let proxy = FaultProxy::start(MariaDb::shared().port());
    let store = open(&fixture.database.as_ref().unwrap().url_via(proxy.port()));
    let publisher = store.publisher(&fixture.dataset).await.unwrap();
    let mut staging = publisher.stage(fixture.new_version()).await.unwrap();
    let (end, range) = open_range(batch(&fixture.dataset.schema, &["a;2;"]));
    let slow = async {
        until(|| loading(&fixture).len() == 1).await;
        // A heartbeat comes every five seconds, and now takes longer than the look at the lock is apart.
        proxy.set(Fault::Delay(Duration::from_millis(800)));
        tokio::time::sleep(Duration::from_secs(12)).await;
        proxy.set(Fault::None);
        drop(end);
    };
    let (filled, ()) = tokio::join!(staging.fill(vec![range]), slow);
    filled.unwrap();
    staging.verify(counts(1)).await.unwrap().publish(|| true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_ends_while_another_updater_recovers_is_not_taken_for_a_crashed_one() {
    let fixture = Fixture::mariadb();
    let database = fixture.database.as_ref().unwrap();
    let proxy = StatementProxy::start(MariaDb::shared().port());
    let recovering = open(&database.url_via(proxy.port()));
    let load = NewLoad { id: "a-load".into(), source: "a test".into(), actor: None };
    let reservation = fixture.store.reserve(&fixture.dataset, load).await.unwrap();
    // It has read that the load runs, and has not asked yet whether the load is alive.
    let point = FaultPoint {
        contains: "LEFT(t.TABLE_NAME".into(),
        // The first one looks for tables of an earlier layout.
        occurrence: 2,
        fault: StatementFault::HangReply,
        partition: false,
    };
    proxy.arm(point);
    let dataset = fixture.dataset.clone();
    let recovered = tokio::spawn(async move { recovering.recover(&dataset).await });
    let struck = tokio::task::block_in_place(|| proxy.wait_until_struck(Duration::from_secs(20)));
    assert!(struck.is_some());
    reservation.end(Ending::Told).await.unwrap();
    proxy.release();
    recovered.await.unwrap().unwrap();
    assert_eq!(fixture.states().await, []);
}
