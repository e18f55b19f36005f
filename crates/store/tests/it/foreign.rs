//! What people do to the tables and files of a store.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use store::State::{Dropped, Kept, Live};
use store::{Error, NewVersion, Settings};
use testkit::{Database, MariaDb};

use crate::fixture::{Fixture, batch, counts, dataset, fill, one, unlimited, until};

fn database(fixture: &Fixture) -> &Database {
    fixture.database.as_ref().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_foreign_table_with_a_name_of_ours_is_never_touched() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let database = database(&fixture);
    for version in [2, 3, 4_294_967_295_u32] {
        database.execute(&format!(
            "CREATE TABLE items__v{version} (n INT); INSERT INTO items__v{version} VALUES (17)"
        ));
    }
    assert_eq!(fixture.publish(&["a;2;"]).await.live.version, 4);
    // It comes just when its name was looked at and not yet used.
    let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
    database.execute("CREATE TABLE items__v5 (n INT); INSERT INTO items__v5 VALUES (17)");
    publisher.stage(fixture.new_version()).await.unwrap_err();
    assert_eq!(fixture.publish(&["a;3;"]).await.live.version, 6);
    for version in [2, 3, 5, 4_294_967_295_u32] {
        assert_eq!(database.execute(&format!("SELECT n FROM items__v{version}")), "17");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_foreign_table_in_the_way_of_the_swap_is_named_before_rows_are_staged() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    database(&fixture).execute("CREATE TABLE items__v1 (n INT)");
    let refused = fixture.store.publisher(&fixture.dataset).await.unwrap_err();
    assert!(
        matches!(refused, Error::InTheWay(_)) && refused.to_string().contains("`items__v1`"),
        "{refused}"
    );
    database(&fixture).execute("DROP TABLE items__v1");
    assert_eq!(fixture.publish(&["a;2;"]).await.live.version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_file_with_a_name_of_ours_is_never_touched() {
    let fixture = Fixture::embedded();
    fixture.publish(&["a;1;"]).await;
    for name in ["v2.lmdb", "v4294967295.lmdb", "staging", "notes.txt"] {
        std::fs::write(fixture.dir().join(name), "17").unwrap();
    }
    assert_eq!(fixture.publish(&["a;2;"]).await.live.version, 3);
    assert_eq!(
        fixture.files(),
        [
            "catalog.json",
            "notes.txt",
            "reserve",
            "staging",
            "v1.lmdb",
            "v2.lmdb",
            "v3.lmdb",
            "v4294967295.lmdb"
        ]
    );
    assert_eq!(std::fs::read(fixture.dir().join("v2.lmdb")).unwrap(), b"17");
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_dataset_that_was_live_is_never_taken_for_one_that_does_not_exist() {
    let restore = "CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM tableswap_versions";
    for harm in [
        "TRUNCATE items",
        "DROP TABLE items",
        "DELETE FROM tableswap_versions WHERE version = 2",
        "RENAME TABLE tableswap_versions TO somewhere_else",
    ] {
        let fixture = Fixture::mariadb();
        fixture.publish(&["a;1;"]).await;
        fixture.publish(&["a;2;"]).await;
        let reader = fixture.reader().await;
        assert!(fixture.ask(&reader, &["a"]).await.starts_with("v2: {"));
        database(&fixture).execute(restore);
        database(&fixture).execute(harm);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let late = if harm.starts_with("RENAME") { None } else { Some(fixture.reader().await) };
        for reader in [Some(&reader), late.as_ref()].into_iter().flatten() {
            let many = reader.look_up("items", &["a"], &unlimited()).await;
            assert!(matches!(many, Err(Error::Unavailable(_))), "{harm}: {many:?}");
            let single = one(reader, "items", "a").await;
            assert!(matches!(single, Err(Error::Unavailable(_))), "{harm}: {single:?}");
            assert_eq!(reader.current("items"), None, "{harm}");
        }
        assert_eq!(one(&reader, "others", "a").await.unwrap(), None);
        fixture.publish(&["a;3;"]).await;
        until(|| reader.current("items").is_some()).await;
        assert!(fixture.ask(&reader, &["a"]).await.contains("\"stock\":3"), "{harm}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_an_entry_that_is_gone_is_made_again_from_the_live_table() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    fixture.publish(&["a;2;", "b;2;"]).await;
    database(&fixture).execute("DELETE FROM tableswap_versions WHERE version = 2");
    let publisher = fixture.store.publisher(&fixture.dataset).await.unwrap();
    assert_eq!((publisher.live().unwrap().version, publisher.rows_before()), (2, Some(2)));
    drop(publisher);
    let reader = fixture.reader().await;
    until(|| reader.current("items").map(|id| id.number) == Some(2)).await;
    assert!(fixture.ask(&reader, &["b"]).await.starts_with("v2: {"));
    // With other columns nobody can say what the table holds.
    database(&fixture).execute("DELETE FROM tableswap_versions WHERE version = 2");
    let other = dataset(
        &crate::fixture::ITEMS.replace("\"stock\", type = \"integer\"", "\"stock\", type = \"boolean\""),
    );
    let refused = fixture.store.publisher(&other).await.unwrap_err();
    assert!(
        matches!(refused, Error::InTheWay(_)) && refused.to_string().contains("`items` (version 2)"),
        "{refused}"
    );
    fixture.publish(&["a;3;", "b;3;"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_kept_table_that_somebody_dropped_cannot_be_activated() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    fixture.publish(&["a;2;"]).await;
    database(&fixture).execute("TRUNCATE items__v1");
    let refused = fixture.store.publisher(&fixture.dataset).await.unwrap().activate(1).await.unwrap_err();
    assert!(matches!(refused, Error::NoSuchVersion { version: 1, .. }), "{refused}");
    database(&fixture).execute("DROP TABLE items__v1");
    let refused = fixture.store.publisher(&fixture.dataset).await.unwrap().activate(1).await.unwrap_err();
    assert!(matches!(refused, Error::NoSuchVersion { version: 1, .. }), "{refused}");
    assert_eq!(fixture.states().await, [(2, Live), (1, Dropped)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_catalog_or_directory_that_was_replaced_is_not_written() {
    let fixture = Fixture::embedded();
    fixture.publish(&["a;1;"]).await;
    let before = std::fs::read(fixture.dir().join("catalog.json")).unwrap();
    fixture.publish(&["a;2;"]).await;
    let staged = fixture.stage(&["a;3;"]).await.verify(counts(1)).await.unwrap();
    std::fs::write(fixture.dir().join("catalog.json"), &before).unwrap();
    let refused = staged.publish(|| true).await.unwrap_err();
    assert!(matches!(refused, Error::LockLost { .. }), "{refused}");
    assert_eq!(std::fs::read(fixture.dir().join("catalog.json")).unwrap(), before);
    let staged = fixture.stage(&["a;3;"]).await.verify(counts(1)).await.unwrap();
    std::fs::rename(fixture.dir(), fixture.dir().with_extension("moved")).unwrap();
    std::fs::create_dir(fixture.dir()).unwrap();
    let refused = staged.publish(|| true).await.unwrap_err();
    assert!(matches!(refused, Error::LockLost { .. } | Error::Other(_)), "{refused}");
    assert_eq!(fixture.files(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_user_without_the_right_to_drop_is_told_and_publishes_all_the_same() {
    let fixture = Fixture::mariadb();
    let name = database(&fixture).name().to_owned();
    database(&fixture).execute(&format!("REVOKE DROP ON {name}.* FROM {name}_writer@'127.0.0.1'"));
    let refused = fixture.store.publisher(&fixture.dataset).await;
    // The swap itself needs the right, so nothing is published and nothing is lost.
    let staged = async {
        let mut staging = refused?.stage(fixture.new_version()).await?;
        fill(&mut staging, batch(&fixture.dataset.schema, &["a;1;"])).await?;
        staging.verify(counts(1)).await?.publish(|| true).await
    };
    let refused = staged.await.unwrap_err();
    assert!(
        matches!(refused, Error::Refused { .. }) && refused.to_string().contains("lacks the right DROP"),
        "{refused}"
    );
    database(&fixture).execute(&format!("GRANT DROP ON {name}.* TO {name}_writer@'127.0.0.1'"));
    fixture.publish(&["a;2;"]).await;
    fixture.publish(&["a;3;"]).await;
    assert_eq!(fixture.states().await[..2], [(3, Live), (2, Kept)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_load_that_will_not_fit_is_refused_before_it_stages_anything() {
    let fixture = Fixture::mariadb();
    fixture.publish(&["a;1;"]).await;
    let url = database(&fixture).url().parse().unwrap();
    let settings = Settings { url, database_bytes_max: Some(100_000), ..Settings::default() };
    let store = crate::fixture::open_with(&settings);
    let large = NewVersion { rows: 1_000_000, ..fixture.new_version() };
    let refused = store.publisher(&fixture.dataset).await.unwrap().stage(large).await.unwrap_err();
    assert!(matches!(refused, Error::NoSpace(_)), "{refused:?}");
    assert_eq!(database(&fixture).execute("SHOW TABLES"), "items\ntableswap_store\ntableswap_versions");
    assert_eq!(fixture.states().await, [(1, Live)]);
    fixture.publish(&["a;2;"]).await;
}

/// Where `make tools` puts the plugins of the server.
const PLUGINS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/usr/lib/mysql/plugin");

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_load_that_will_not_fit_on_the_disk_of_the_database_is_refused() {
    let plugins = format!("--plugin-dir={PLUGINS}");
    let server =
        MariaDb::start_with(&[&plugins, "--plugin-load-add=disks", "--plugin-maturity=experimental"]);
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    let stage = async |rows: u64| {
        let new = NewVersion { rows, ..fixture.new_version() };
        fixture.store.publisher(&fixture.dataset).await.unwrap().stage(new).await
    };
    // A user who may not ask for the disks is not held up.
    stage(u64::MAX).await.unwrap().abort("a test").await.unwrap();
    server.execute(&format!("GRANT FILE ON *.* TO {}_writer@'127.0.0.1'", database(&fixture).name()));
    let refused = stage(u64::MAX).await.unwrap_err();
    assert!(matches!(&refused, Error::NoSpace(why) if why.to_string().contains("disk")), "{refused:?}");
    stage(1).await.unwrap().abort("a test").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_connections_of_others_are_not_killed_after_a_restart_of_the_database() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    let staging = fixture.stage(&["a;2;"]).await;
    server.restart();
    // Connections are numbered from the beginning again.
    let mut others = Vec::new();
    for _ in 0..40 {
        others.push(mysql_async::Conn::from_url(database(&fixture).url()).await.unwrap());
    }
    staging.abort("a test").await.unwrap();
    for other in &mut others {
        other.ping().await.unwrap();
    }
    fixture.publish(&["a;3;"]).await;
}
