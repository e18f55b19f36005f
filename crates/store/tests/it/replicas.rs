//! Reading from real replicas that lag, stop, die and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use store::{Error, Followed, Reader, Settings, Store};
use testkit::{Fault, FaultProxy, Replication};

use crate::fixture::{Fixture, one, open_with, until};

/// A primary with two replicas, and a reader that knows all of them.
struct Replicated {
    servers: Replication,
    fixture: Fixture,
    store: Store,
    reader: Reader,
}

impl Replicated {
    async fn start() -> Self {
        Self::start_with(|_, url| url).await
    }

    /// Reads from the replicas by URLs that were changed.
    async fn start_with(change: impl Fn(usize, String) -> String) -> Self {
        let servers = Replication::start(2);
        let fixture = Fixture::in_database(servers.database());
        fixture.publish(&["a;1;", "b;1;"]).await;
        servers.wait_until_caught_up();
        let database = fixture.database.as_ref().unwrap();
        let replicas = [0, 1].map(|n| change(n, database.reader_url_via(servers.replica(n).port())));
        let settings = Settings {
            url: database.reader_url().parse().unwrap(),
            read_urls: replicas.join(",").parse().unwrap(),
            cache_bytes: 0,
            timeout_ms: 1000,
            ..Settings::default()
        };
        let store = open_with(&settings);
        let reader = store.reader();
        until(|| reader.check().is_ok()).await;
        Self { servers, fixture, store, reader }
    }

    async fn version(&self) -> u32 {
        one(&self.reader, "items", "a").await.unwrap().unwrap().version.number
    }

    /// How many statements a server has run.
    fn executed(&self, replica: usize) -> u64 {
        let status = self.servers.replica(replica).execute("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'");
        status.split_whitespace().last().unwrap().parse().unwrap()
    }

    /// How many servers can be read from and cannot, as the metrics say.
    fn servers_in_and_out(&self) -> [String; 2] {
        let families = Followed::new(self.reader.clone()).unwrap().collect();
        let servers = families.iter().find(|family| family.name() == "tableswap_store_servers").unwrap();
        let count = |state| {
            let metric =
                servers.get_metric().iter().find(|metric| metric.get_label()[0].value() == state).unwrap();
            metric.get_gauge().get_value().to_string()
        };
        ["in", "out"].map(count)
    }

    /// Asks until both replicas are asked again.
    async fn until_both_are_read(&self) {
        let before = [0, 1].map(|n| self.executed(n));
        for _ in 0..3000 {
            futures_util::future::join_all((0..8).map(|_| self.version())).await;
            if [0, 1].iter().all(|n| self.executed(*n) > before[*n]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a replica is never read from");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn look_ups_are_spread_over_the_replicas_and_follow_swaps_and_rollbacks() {
    let it = Replicated::start().await;
    it.until_both_are_read().await;
    for version in [2, 3] {
        it.fixture.publish(&[&format!("a;{version};"), "b;1;"]).await;
        assert_eq!(it.version().await, version);
    }
    it.fixture.store.publisher(&it.fixture.dataset).await.unwrap().activate(2).await.unwrap();
    assert_eq!(it.version().await, 2);
    it.fixture.store.publisher(&it.fixture.dataset).await.unwrap().activate(3).await.unwrap();
    assert_eq!(it.version().await, 3);
    it.servers.wait_until_caught_up();
    it.until_both_are_read().await;
    assert_eq!(it.version().await, 3);
    // One after the other, too.
    let before = [0, 1].map(|n| it.executed(n));
    for _ in 0..100 {
        it.version().await;
    }
    assert!([0, 1].iter().all(|n| it.executed(*n) - before[*n] > 20), "{before:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_p7_a_replica_that_lags_is_left_out_until_it_has_caught_up() {
    let it = Replicated::start().await;
    it.servers.stop_replication(0);
    it.fixture.publish(&["a;2;", "b;2;"]).await;
    let lagging = it.executed(0);
    for _ in 0..200 {
        assert_eq!(it.version().await, 2);
    }
    assert_eq!(it.executed(0), lagging, "it was asked all the same");
    // Rolled back, and forward again: the replica that stayed at version 1 all the time is right for a while, and then
    // not any more, although its version is the same.
    for version in [1, 2] {
        it.fixture.store.publisher(&it.fixture.dataset).await.unwrap().activate(version).await.unwrap();
        for _ in 0..50 {
            assert_eq!(it.version().await, version);
        }
    }
    it.servers.start_replication(0);
    it.until_both_are_read().await;
    assert_eq!(it.version().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_replica_is_so_far_the_primary_is_asked() {
    let it = Replicated::start().await;
    it.servers.stop_replication(0);
    it.servers.stop_applying(1);
    it.fixture.publish(&["a;2;", "b;2;"]).await;
    for _ in 0..50 {
        assert_eq!(it.version().await, 2);
    }
    it.servers.primary().pause();
    until(|| it.reader.check().is_err()).await;
    assert!(matches!(one(&it.reader, "items", "a").await, Err(Error::Unavailable(_))));
    it.servers.primary().resume();
    it.servers.start_replication(0);
    it.servers.start_replication(1);
    until(|| it.reader.check().is_ok() && !it.reader.live().is_empty()).await;
    it.servers.wait_until_caught_up();
    it.until_both_are_read().await;
    assert_eq!(it.version().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_replica_that_dies_or_hangs_or_comes_back_fails_nobody() {
    let it = Arc::new(Replicated::start().await);
    let stop = Arc::new(AtomicBool::new(false));
    let (asking, stopped) = (it.clone(), stop.clone());
    let asked = tokio::spawn(async move {
        let mut answers = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            // A look-up that was under way in one that dies or hangs is asked again elsewhere.
            assert_eq!(asking.version().await, 1);
            answers += 1;
        }
        answers
    });
    for _ in 0..2 {
        it.servers.replica(0).kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        it.servers.replica(0).restart();
        it.servers.replica(1).pause();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        it.servers.replica(1).resume();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(asked.await.unwrap() > 100);
    it.until_both_are_read().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_primary_away_the_replicas_answer() {
    let it = Replicated::start().await;
    until(|| it.servers_in_and_out() == ["3", "0"]).await;
    it.servers.primary().kill();
    for _ in 0..100 {
        assert_eq!(it.version().await, 1);
    }
    until(|| it.servers_in_and_out() == ["2", "1"]).await;
    assert!(it.reader.check().is_ok());
    assert!(it.store.check().await.is_err());
    it.servers.primary().restart();
    it.until_both_are_read().await;
    assert_eq!(it.version().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_replica_that_goes_back_in_time_is_left_out() {
    let it = Replicated::start().await;
    it.fixture.publish(&["a;2;", "b;2;"]).await;
    it.servers.wait_until_caught_up();
    it.until_both_are_read().await;
    // As if it had been restored from a backup: the old table under the name, and the ledger of then.
    it.servers.stop_replication(0);
    let replica = it.servers.replica(0);
    let name = it.fixture.database.as_ref().unwrap().name();
    replica.execute(&format!(
        "RENAME TABLE {name}.items TO {name}.items__v2, {name}.items__v1 TO {name}.items; \
         DELETE FROM {name}.tableswap_versions WHERE version = 2; \
         UPDATE {name}.tableswap_versions SET state = 'live' WHERE version = 1"
    ));
    for _ in 0..300 {
        assert_eq!(it.version().await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_behind_a_network_that_refuses_is_left_out_and_found_again() {
    let proxy = std::sync::OnceLock::new();
    let it = Replicated::start_with(|number, url| match number {
        0 => {
            let port = url.split([':', '/']).rev().nth(1).unwrap().parse().unwrap();
            let proxy = proxy.get_or_init(|| FaultProxy::start(port));
            url.replace(&port.to_string(), &proxy.port().to_string())
        }
        _ => url,
    })
    .await;
    let proxy = proxy.get().unwrap();
    it.until_both_are_read().await;
    for fault in [Fault::Refuse, Fault::Hang] {
        proxy.set(fault);
        for _ in 0..50 {
            assert_eq!(it.version().await, 1);
        }
        proxy.set(Fault::None);
        proxy.close_connections();
        it.until_both_are_read().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_far_slower_than_the_primary_is_left_alone() {
    let proxy = std::sync::OnceLock::new();
    let it = Replicated::start_with(|_, url| {
        let port: u16 = url.split([':', '/']).rev().nth(1).unwrap().parse().unwrap();
        let proxies: &std::sync::Mutex<Vec<FaultProxy>> = proxy.get_or_init(Default::default);
        let slow = FaultProxy::start(port);
        let url = url.replace(&port.to_string(), &slow.port().to_string());
        proxies.lock().unwrap().push(slow);
        url
    })
    .await;
    it.until_both_are_read().await;
    for slow in proxy.get().unwrap().lock().unwrap().iter() {
        slow.set(Fault::Delay(Duration::from_millis(300)));
    }
    let start = std::time::Instant::now();
    let mut slow = 0;
    let mut answers = 0;
    while start.elapsed() < Duration::from_secs(4) {
        let asked = std::time::Instant::now();
        assert_eq!(it.version().await, 1);
        answers += 1;
        slow += u32::from(asked.elapsed() > Duration::from_millis(200));
    }
    assert!(answers > 200 && slow < 10, "{slow} of {answers} were slow");
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_rows_are_never_loaded_into_another_server_than_that_of_the_lock() {
    let (first, second) = (testkit::MariaDb::start(), testkit::MariaDb::start());
    let fixture = Fixture::on(&first);
    let database = fixture.database.as_ref().unwrap().clone();
    // The same database with the same user on the second server.
    Fixture::on(&second);
    let proxy = FaultProxy::start(first.port());
    let behind = Fixture::of(
        &Settings { url: database.url_via(proxy.port()).parse().unwrap(), ..Settings::default() },
        database,
    );
    let publisher = behind.store.publisher(&behind.dataset).await.unwrap();
    let mut staging = publisher.stage(behind.new_version()).await.unwrap();
    proxy.lead_to(second.port());
    let rows = crate::fixture::batch(&behind.dataset.schema, &["a;1;"]);
    let error = crate::fixture::fill(&mut staging, rows).await.unwrap_err();
    assert!(format!("{error:?}").contains("two servers"), "{error:?}");
    proxy.lead_to(first.port());
    staging.abort("a test").await.unwrap();
    assert_eq!(
        first
            .execute(&format!("SHOW TABLES FROM {}", fixture.database.as_ref().unwrap().name()))
            .lines()
            .count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_versions_do_not_go_back_between_replicas_that_answer_alone() {
    let it = Replicated::start().await;
    let database = it.fixture.database.as_ref().unwrap();
    let away = FaultProxy::start(it.servers.primary().port());
    let replicas = [0, 1].map(|n| database.reader_url_via(it.servers.replica(n).port()));
    let settings = Settings {
        url: database.reader_url_via(away.port()).parse().unwrap(),
        read_urls: replicas.join(",").parse().unwrap(),
        cache_bytes: 0,
        timeout_ms: 500,
        ..Settings::default()
    };
    let reader = open_with(&settings).reader();
    until(|| reader.current("items").is_some()).await;
    // This api does not see the primary any more, which goes on, and one replica does not follow.
    away.set(Fault::Refuse);
    it.servers.stop_applying(0);
    it.fixture.publish(&["a;2;", "b;2;"]).await;
    let mut versions = Vec::new();
    for _ in 0..200 {
        // Both are asked in turn.
        versions.push(one(&reader, "items", "a").await.unwrap().unwrap().version.number);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(versions.is_sorted() && versions.ends_with(&[2]), "{versions:?}");
}
