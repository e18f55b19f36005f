//! The rights of the database's users: what the documents grant is enough, and each of it is needed.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use store::{Ending, NewLoad, Store};
use testkit::{Database, MariaDb};

use crate::fixture::{Fixture, batch, counts, fill, open, unlimited, until};

const USERS: &str = include_str!("../../../../deploy/mariadb/users.sh");

/// The rights that `deploy/mariadb/users.sh` grants to a user.
fn documented(user: &str) -> Vec<&'static str> {
    let grant = USERS.lines().find(|line| line.ends_with(&format!(" TO {user};"))).unwrap();
    grant.strip_prefix("GRANT ").unwrap().split(" ON ").next().unwrap().split(", ").collect()
}

/// All that an updater does with its database.
async fn work(store: &Store, fixture: &Fixture) -> store::Result<()> {
    let load = NewLoad { id: "a-load".into(), source: "a test".into(), actor: None };
    store.reserve(&fixture.dataset, load.clone()).await?.end(Ending::Failed("a test")).await?;
    store.reserve(&fixture.dataset, load).await?.end(Ending::Told).await?;
    let mut published = Vec::new();
    for row in ["a;1;", "a;2;"] {
        let mut staging = store.publisher(&fixture.dataset).await?.stage(fixture.new_version()).await?;
        fill(&mut staging, batch(&fixture.dataset.schema, &[row])).await?;
        published.push(staging.verify(counts(1)).await?.publish(|| true).await?.live.version);
    }
    store.publisher(&fixture.dataset).await?.activate(published[0]).await?;
    store.recover(&fixture.dataset).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_updater_needs_each_right_that_it_is_given_and_no_other() {
    let rights = documented("updater");
    assert_eq!(rights, ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP"]);
    let all = Fixture::mariadb();
    work(&all.store, &all).await.unwrap();
    for right in rights {
        let fixture = Fixture::in_database(MariaDb::shared().database());
        let database = fixture.database.as_ref().unwrap();
        let name = database.name();
        // What there is of rights is what is documented: what is taken away here was there.
        database.execute(&format!("REVOKE {right} ON {name}.* FROM {name}_writer@'127.0.0.1'"));
        let worked = work(&open(&database.url()), &fixture).await;
        assert!(worked.is_err(), "the updater does its work without {right}");
    }
}

/// Runs a statement as the user of this address.
async fn run(url: &str, statement: &str) -> Result<(), String> {
    let mut conn = Conn::from_url(url).await.unwrap();
    let ran = conn.query_drop(statement).await;
    conn.disconnect().await.unwrap();
    ran.map_err(|error| error.to_string())
}

async fn is_denied(url: &str, statement: &str) {
    let Err(error) = run(url, statement).await else { panic!("{statement}") };
    assert!(error.contains("denied") || error.contains("privilege"), "{statement}: {error}");
}

fn beyond_its_database(database: &Database, other: &Database) -> Vec<String> {
    let (own, other) = (database.name(), other.name());
    vec![
        format!("SELECT * FROM {other}.items"),
        format!("DROP TABLE {other}.items"),
        "SELECT * FROM mysql.global_priv".into(),
        "CREATE USER intruder".into(),
        format!("GRANT SELECT ON {own}.* TO {own}_reader@'127.0.0.1'"),
        "SET GLOBAL innodb_flush_log_at_trx_commit = 0".into(),
        "SELECT 1 INTO OUTFILE '/tmp/tableswap-intruder'".into(),
        "LOAD DATA INFILE '/etc/hostname' INTO TABLE items".into(),
        format!("CREATE TRIGGER t BEFORE INSERT ON {own}.items FOR EACH ROW SET @a = 1"),
        format!("CREATE VIEW {own}.v AS SELECT 1"),
        format!("CREATE PROCEDURE {own}.p() SELECT 1"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_user_can_do_more_than_its_work() {
    let (fixture, other) = (Fixture::mariadb(), Fixture::mariadb());
    fixture.publish(&["a;1;"]).await;
    other.publish(&["b;1;"]).await;
    let (database, others) = (fixture.database.as_ref().unwrap(), other.database.as_ref().unwrap());
    let (updater, api) = (database.url(), database.reader_url());
    for statement in beyond_its_database(database, others) {
        is_denied(&updater, &statement).await;
        is_denied(&api, &statement).await;
    }
    for statement in [
        "INSERT INTO items (code) VALUES ('c')",
        "UPDATE items SET code = 'c'",
        "DELETE FROM items",
        "CREATE TABLE t (a INT)",
        "ALTER TABLE items ADD a INT",
        "DROP TABLE items",
        "RENAME TABLE items TO t",
        "TRUNCATE TABLE items",
        "DELETE FROM tableswap_versions",
    ] {
        is_denied(&api, statement).await;
    }
    assert_eq!(documented("api"), ["SELECT"]);
    let reader = open(&api).reader();
    until(|| reader.check().is_ok()).await;
    assert!(reader.look_up("items", &["a"], &unlimited()).await.unwrap().is_some());
}
