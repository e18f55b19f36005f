//! Databases that are not what they were: restored, failed over, written to behind the updater's back, made anew, or
//! another store altogether. After an upload is answered, every reader answers its rows or refuses, and no reader needs a
//! restart once the database is declared right.

use store::{Error, Reader, Settings, Store};
use testkit::{Database, Replication};

use crate::fixture::{Fixture, batch, counts, fill, one, open, open_with, until};

/// A primary with two replicas, an updater and a reader that has seen three versions.
struct Site {
    servers: Replication,
    fixture: Fixture,
    reader: Reader,
}

/// What an updater and the readers may say after something happened.
struct Outcome {
    published: store::Result<u32>,
    /// What readers answered for the key at once: the number in the row, or nothing where they refused.
    answered: Vec<Option<u32>>,
}

impl Site {
    async fn start() -> Self {
        let servers = Replication::start(2);
        let fixture = Fixture::in_database(servers.database());
        for stock in 1..=3 {
            fixture.publish(&[&format!("a;{stock};")]).await;
        }
        servers.wait_until_caught_up();
        let reader = reader_of(&servers, fixture.database.as_ref().unwrap());
        until(|| reader.health().error.is_none()).await;
        assert_eq!(stock(&reader).await, Some(3));
        Self { servers, fixture, reader }
    }

    fn database(&self) -> &Database {
        self.fixture.database.as_ref().unwrap()
    }

    /// The state of two versions ago, as a backup or a replica that missed two swaps has it.
    fn set_back(&self, server: &testkit::MariaDb) {
        let name = self.database().name();
        server.execute(&format!(
            "USE {name};
            RENAME TABLE items TO items__v3, items__v1 TO items;
            DROP TABLE items__v2, items__v3;
            DELETE FROM tableswap_versions WHERE version > 1;
            UPDATE tableswap_versions SET state = 'live';
            UPDATE tableswap_store SET last_swap = 1"
        ));
    }

    async fn publish(&self, stock: u32) -> store::Result<u32> {
        publish(&self.fixture.store, &self.fixture, stock).await
    }

    /// Uploads a file, and asks a reader of before and a new one.
    async fn upload(&self, number: u32) -> Outcome {
        let published = self.publish(number).await;
        let late = reader_of(&self.servers, self.database());
        late.first_poll().await;
        Outcome { published, answered: vec![stock(&self.reader).await, stock(&late).await] }
    }

    fn declare_right(&self) {
        self.database().execute("UPDATE tableswap_store SET history_id = MD5(RAND())");
    }
}

async fn publish(store: &Store, fixture: &Fixture, stock: u32) -> store::Result<u32> {
    let publisher = store.publisher(&fixture.dataset).await?;
    let mut staging = publisher.stage(fixture.new_version()).await?;
    fill(&mut staging, batch(&fixture.dataset.schema, &[&format!("a;{stock};")])).await?;
    Ok(staging.verify(counts(1)).await?.publish(|| true).await?.live.version)
}

fn reader_of(servers: &Replication, database: &Database) -> Reader {
    let replicas = [0, 1].map(|n| database.reader_url_via(servers.replica(n).port()));
    open_with(&Settings {
        url: database.reader_url().parse().unwrap(),
        read_urls: replicas.join(",").parse().unwrap(),
        ..Settings::default()
    })
    .reader()
}

/// The number in the row; nothing where the reader refuses. A row that is not there fails the test.
async fn stock(reader: &Reader) -> Option<u32> {
    match one(reader, "items", "a").await {
        Err(Error::Unavailable(_)) => None,
        found => {
            let row = found.unwrap().unwrap().row.unwrap();
            let row: serde_json::Value = serde_json::from_slice(&row).unwrap();
            Some(u32::try_from(row["stock"].as_u64().unwrap()).unwrap())
        }
    }
}

/// Every answer after an upload is that file, or none.
fn check(outcome: &Outcome, number: u32) {
    let allowed = |answer: &Option<u32>| answer.is_none_or(|answer| answer == number);
    assert!(outcome.published.is_err() || outcome.answered.iter().all(allowed), "{:?}", outcome.answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_p7_a_primary_that_was_restored_is_refused_until_it_is_declared_right() {
    let site = Site::start().await;
    for replica in [0, 1] {
        site.servers.stop_replication(replica);
    }
    let before = site.reader.current("items").unwrap();
    site.set_back(site.servers.primary());
    until(|| !site.reader.health().unwell.is_empty()).await;
    assert_eq!((stock(&site.reader).await, site.reader.current("items")), (None, None));
    // The updater that saw the later swaps refuses, and another one publishes the same numbers with other content.
    let refused = site.publish(17).await.unwrap_err();
    assert!(matches!(&refused, Error::InTheWay(why) if why.contains("set back")), "{refused}");
    for number in [22, 33, 44] {
        let other = open(&site.database().url());
        publish(&other, &site.fixture, number).await.unwrap();
        assert_eq!(stock(&site.reader).await, None, "numbers evened out");
        let late = reader_of(&site.servers, site.database());
        late.first_poll().await;
        assert_eq!(stock(&late).await, Some(number), "a new reader follows the primary alone");
    }
    site.declare_right();
    until(|| site.reader.current("items").is_some()).await;
    assert_eq!(stock(&site.reader).await, Some(44));
    assert_ne!(site.reader.current("items").unwrap(), before);
    let outcome = site.upload(55).await;
    check(&outcome, 55);
    assert_eq!(outcome.answered, [Some(55), Some(55)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_an_errant_publication_on_a_replica_excludes_that_replica_alone() {
    let site = Site::start().await;
    let replica = site.servers.replica(0);
    site.servers.stop_replication(0);
    replica.set_global("read_only", "0");
    let there = open(&site.database().url_via(replica.port()));
    publish(&there, &site.fixture, 66).await.unwrap();
    until(|| site.reader.health().excluded.iter().any(|why| why.contains("diverged"))).await;
    for _ in 0..100 {
        assert_eq!(stock(&site.reader).await, Some(3));
    }
    let outcome = site.upload(4).await;
    check(&outcome, 4);
    assert_eq!(outcome.answered, [Some(4), Some(4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_replicas_of_another_store_are_never_read() {
    let site = Site::start().await;
    // The same dataset with the same numbers, in another installation.
    let foreign = Site::start().await;
    for number in [7, 8, 9] {
        publish(&foreign.fixture.store, &foreign.fixture, number).await.unwrap();
    }
    let settings = Settings {
        url: site.database().reader_url().parse().unwrap(),
        read_urls: foreign.database().reader_url().parse().unwrap(),
        ..Settings::default()
    };
    let reader = open_with(&settings).reader();
    until(|| reader.health().excluded.iter().any(|why| why.contains("another store"))).await;
    for _ in 0..60 {
        assert_eq!(stock(&reader).await, Some(3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_p7_a_database_that_was_made_anew_is_read_once_something_was_published_there() {
    let site = Site::start().await;
    let before = site.reader.current("items").unwrap();
    let name = site.database().name().to_owned();
    site.servers.primary().execute(&format!("DROP DATABASE {name}; CREATE DATABASE {name}"));
    until(|| site.reader.current("items").is_none()).await;
    assert_eq!(stock(&site.reader).await, None, "a dataset that was served is never unknown");
    let outcome = site.upload(1).await;
    check(&outcome, 1);
    assert_eq!((outcome.published.unwrap(), &outcome.answered[..]), (1, &[Some(1), Some(1)][..]));
    assert_ne!(site.reader.current("items").unwrap(), before, "the same number, other content");
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_database_of_another_store_is_refused_by_name_until_it_is_adopted() {
    let site = Site::start().await;
    let expected = site.database().execute("SELECT store_id FROM tableswap_store");
    site.database().execute("UPDATE tableswap_store SET store_id = REPEAT('f', 32)");
    until(|| site.reader.health().excluded.iter().any(|why| why.contains("another store"))).await;
    let refused = site.publish(4).await.unwrap_err();
    assert!(matches!(&refused, Error::Setup(why) if why.contains(&expected)), "{refused}");
    site.database()
        .execute(&format!("UPDATE tableswap_store SET store_id = '{expected}', history_id = MD5(RAND())"));
    until(|| site.reader.health().excluded.is_empty()).await;
    let outcome = site.upload(4).await;
    check(&outcome, 4);
    assert_eq!(outcome.answered, [Some(4), Some(4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_p7_a_failover_that_lost_swaps_is_refused_until_it_is_declared_right() {
    let site = Site::start().await;
    // The address leads to a server that missed two swaps.
    let proxy = testkit::FaultProxy::start(site.servers.primary().port());
    let url = site.database().reader_url_via(proxy.port());
    let reader = open_with(&Settings { url: url.parse().unwrap(), ..Settings::default() }).reader();
    until(|| reader.current("items").is_some()).await;
    assert_eq!(stock(&reader).await, Some(3));
    site.servers.stop_replication(0);
    let replica = site.servers.replica(0);
    site.set_back(replica);
    replica.set_global("read_only", "0");
    proxy.lead_to(replica.port());
    proxy.close_connections();
    until(|| !reader.health().unwell.is_empty()).await;
    let there = open(&site.database().url_via(replica.port()));
    for number in [22, 33] {
        publish(&there, &site.fixture, number).await.unwrap();
        assert_eq!(stock(&reader).await, None);
    }
    let name = site.database().name();
    replica.execute(&format!("UPDATE {name}.tableswap_store SET history_id = MD5(RAND())"));
    until(|| reader.current("items").is_some()).await;
    assert_eq!(stock(&reader).await, Some(33));
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_layout_of_another_program_is_refused_by_name_and_an_earlier_one_upgraded() {
    let site = Fixture::mariadb();
    site.publish(&["a;1;"]).await;
    let database = site.database.as_ref().unwrap();
    let reader = site.reader().await;
    database.execute("UPDATE tableswap_store SET layout = 99");
    until(|| reader.health().error.is_some_and(|why| why.contains("layout 99"))).await;
    let refused = publish(&site.store, &site, 2).await.unwrap_err();
    assert!(matches!(&refused, Error::Setup(why) if why.contains("layout 99")), "{refused}");
    // The tables of an earlier program.
    database.execute(
        "DROP TABLE tableswap_store; ALTER TABLE items DROP COLUMN dataset_content;
        ALTER TABLE tableswap_versions DROP COLUMN content_id, DROP COLUMN swap_number, DROP COLUMN live_swap",
    );
    until(|| reader.health().error.is_some_and(|why| why.contains("earlier layout"))).await;
    site.store.recover(&site.dataset).await.unwrap();
    let late = site.reader().await;
    until(|| late.current("items").is_some()).await;
    assert_eq!(stock(&late).await, Some(1));
    publish(&site.store, &site, 2).await.unwrap();
    assert_eq!(stock(&late).await, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_replica_that_lost_rows_is_not_read() {
    let site = Site::start().await;
    site.servers.stop_replication(0);
    let replica = site.servers.replica(0);
    let name = site.database().name();
    replica.execute(&format!("DELETE FROM {name}.items"));
    site.servers.start_replication(0);
    // A replica that is read from now on has to be counted first.
    let reader = reader_of(&site.servers, site.database());
    reader.first_poll().await;
    for _ in 0..100 {
        assert_eq!(stock(&reader).await, Some(3));
    }
}
