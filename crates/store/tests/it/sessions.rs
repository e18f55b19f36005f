//! Servers whose settings are not what we would choose: every session sets what it depends on, or names what it cannot.

use std::time::Duration;

use futures_util::future::join_all;
use store::{Error, Settings};
use testkit::{FaultProxy, MariaDb};

use crate::fixture::{Fixture, one, open_with, until};

const KEY: &str = "A\u{e4}\u{8a9e}\u{42f}";

/// Publishes, looks up and rolls back on a server with these settings.
async fn works_with(settings: &[&str], prepare: &str) -> store::Result<String> {
    let server = MariaDb::start_with(settings);
    let fixture = Fixture::on(&server);
    if !prepare.is_empty() {
        server.execute(prepare);
    }
    let row = format!("{KEY};1;2020-01-02");
    let publisher = fixture.store.publisher(&fixture.dataset).await?;
    let mut staging = publisher.stage(fixture.new_version()).await?;
    let rows = crate::fixture::batch(&fixture.dataset.schema, &[&row, "b;2;"]);
    crate::fixture::fill(&mut staging, rows).await?;
    staging.verify(crate::fixture::counts(2)).await?.publish(|| true).await?;
    let reader = fixture.reader().await;
    until(|| reader.current("items").is_some()).await;
    let mut keys: Vec<String> = (0..100).map(|number| format!("x{number}")).collect();
    keys.push(KEY.to_owned());
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let many = reader.look_up("items", &keys, &crate::fixture::unlimited()).await?.unwrap();
    assert!(many.rows[..100].iter().all(Option::is_none) && many.rows[100].is_some());
    let found = one(&reader, "items", KEY).await?.unwrap().row.unwrap();
    Ok(String::from_utf8(found.into()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_rows_and_keys_are_the_same_whatever_the_defaults_of_the_server_are() {
    let expected = format!("{{\"code\":\"{KEY}\",\"stock\":1,\"until\":\"2020-01-02\"}}");
    let latin = ["--character-set-server=latin1", "--skip-character-set-client-handshake"];
    let cases: &[(&[&str], &str)] = &[
        (&latin, ""),
        (&["--init-connect=SET NAMES latin1"], ""),
        (&["--init-connect=SET character_set_results = latin1, sql_select_limit = 1"], ""),
        (&["--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT"], ""),
        (&["--autocommit=0", "--transaction-isolation=SERIALIZABLE"], ""),
        (&[], "SET GLOBAL tx_read_only = 1"),
        (&[], "SET GLOBAL max_join_size = 1, GLOBAL sql_select_limit = 1"),
        (&[], "SET GLOBAL unique_checks = 0, GLOBAL foreign_key_checks = 0"),
        (&["--default-time-zone=+05:30", "--lc-messages=de_DE"], ""),
        (&["--lower-case-table-names=1", "--default-storage-engine=Aria"], ""),
        (&["--log-bin=binlog", "--binlog-format=MIXED", "--server-id=1"], ""),
        (&["--innodb-strict-mode=0", "--tmp-table-size=1024"], ""),
        (&[], "SET GLOBAL sql_safe_updates = 1, GLOBAL sql_big_selects = 0, GLOBAL max_statement_time = 0.2"),
    ];
    for (settings, prepare) in cases {
        let found = works_with(settings, prepare).await;
        assert_eq!(found.unwrap(), expected, "{settings:?} {prepare}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_setting_that_cannot_work_is_refused_by_name() {
    let cases: &[(&[&str], &str)] = &[
        (&["--log-bin=binlog", "--binlog-format=STATEMENT", "--server-id=1"], "binlog_format"),
        (&["--local-infile=0"], "local_infile"),
        (&["--max-allowed-packet=1024"], "max_allowed_packet"),
    ];
    for (settings, name) in cases {
        let refused = works_with(settings, "").await.unwrap_err();
        assert!(matches!(&refused, Error::Setup(why) if why.contains(name)), "{settings:?}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_go_on_where_no_statement_can_be_prepared_any_more() {
    let server = MariaDb::start();
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;2020-01-02", "b;2;"]).await;
    let reader = fixture.reader().await;
    let prepared = fixture.ask(&reader, &["a", "b", "c"]).await;
    server.set_global("max_prepared_stmt_count", "0");
    let late = fixture.reader().await;
    assert_eq!(fixture.ask(&late, &["a", "b", "c"]).await, prepared);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_moves_is_followed_and_one_of_two_servers_answers_from_one() {
    let (first, second) = (MariaDb::start(), MariaDb::start());
    let proxy = FaultProxy::start(first.port());
    let (one_fixture, other) = (Fixture::on(&first), Fixture::on(&second));
    one_fixture.publish(&["a;1;"]).await;
    other.publish(&["a;1;"]).await;
    let database = one_fixture.database.as_ref().unwrap();
    let url = database.reader_url_via(proxy.port());
    let settings = Settings { url: url.parse().unwrap(), cache_bytes: 0, ..Settings::default() };
    let reader = open_with(&settings).reader();
    until(|| reader.current("items").is_some()).await;
    let answers = join_all((0..50).map(|_| one(&reader, "items", "a"))).await;
    assert!(answers.iter().all(Result::is_ok));
    // New connections lead to the second server, which is another store: the first one goes on answering.
    proxy.lead_to(second.port());
    for _ in 0..20 {
        let answers = join_all((0..50).map(|_| one(&reader, "items", "a"))).await;
        assert!(answers.iter().any(Result::is_ok), "{:?}", answers.first());
    }
    // The name has moved for good: another store is refused by name.
    proxy.close_connections();
    until(|| reader.health().error.is_some_and(|why| why.contains("another store"))).await;
    proxy.lead_to(first.port());
    proxy.close_connections();
    until(|| reader.current("items").is_some()).await;
    one(&reader, "items", "a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_lock_or_a_missing_right_on_one_table_concerns_no_other_dataset() {
    let server = MariaDb::start();
    let items = Fixture::on(&server);
    let others = Fixture::beside(&items, &crate::fixture::ITEMS.replace("[items]", "[others]"));
    items.publish(&["a;1;"]).await;
    others.publish(&["a;2;"]).await;
    let database = items.database.as_ref().unwrap();
    let settings =
        Settings { url: database.reader_url().parse().unwrap(), cache_bytes: 0, ..Settings::default() };
    let reader = open_with(&settings).reader();
    until(|| reader.current("others").is_some() && reader.current("items").is_some()).await;
    let lock = std::thread::scope(|scope| {
        let held = scope.spawn(|| database.execute("LOCK TABLES items WRITE; SELECT SLEEP(4)"));
        std::thread::sleep(Duration::from_millis(300));
        let runtime = tokio::runtime::Handle::current();
        let mut slowest = Duration::ZERO;
        for _ in 0..100 {
            let start = std::time::Instant::now();
            tokio::task::block_in_place(|| runtime.block_on(one(&reader, "others", "a"))).unwrap().unwrap();
            assert!(reader.current("others").is_some() || start.elapsed() < Duration::from_millis(500));
            slowest = slowest.max(start.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        held.join().unwrap()
    });
    assert!(lock.contains('0'));
    until(|| reader.current("items").is_some()).await;
    // A right is taken away.
    let user = format!("{}_reader@'127.0.0.1'", database.name());
    server.execute(&format!(
        "REVOKE SELECT ON {0}.* FROM {user}; GRANT SELECT ON {0}.others TO {user};
        GRANT SELECT ON {0}.tableswap_versions TO {user}; GRANT SELECT ON {0}.tableswap_store TO {user}",
        database.name()
    ));
    let late = open_with(&settings).reader();
    until(|| late.current("others").is_some()).await;
    assert!(one(&late, "others", "a").await.unwrap().is_some());
    assert!(matches!(one(&late, "items", "a").await, Err(Error::Unavailable(_))));
    assert!(
        late.health().unwell.iter().any(|unwell| unwell.dataset == "items" && unwell.why.contains("SELECT"))
    );
}
