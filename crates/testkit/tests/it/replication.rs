//! Replicas follow their primary, also after what tests do to either.

use testkit::{Database, MariaDb, Replication};

use super::mariadb::as_user;

/// The values of the table `t` on one of the servers.
fn rows(server: &MariaDb, database: &Database) -> String {
    server.execute(&format!("SELECT GROUP_CONCAT(a ORDER BY a) FROM {}.t", database.name()))
}

#[test]
fn rows_written_on_the_primary_come_to_both_replicas() {
    let servers = Replication::start(2);
    let database = servers.database();
    database.execute("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)");
    servers.wait_until_caught_up();
    for replica in [servers.replica(0), servers.replica(1)] {
        assert_eq!(rows(replica, &database), "1,2");
        assert_eq!(as_user(&database, "reader", replica.port(), "SELECT MAX(a) FROM t").unwrap(), "2");
    }
}

#[test]
fn a_stopped_replica_lags_and_catches_up_when_it_is_started_again() {
    let servers = Replication::start(2);
    let database = servers.database();
    database.execute("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1)");
    servers.wait_until_caught_up();
    servers.stop_replication(0);
    servers.stop_applying(1);
    database.execute("INSERT INTO t VALUES (2)");
    servers.wait_until_caught_up();
    assert_eq!([0, 1].map(|number| rows(servers.replica(number), &database)), ["1", "1"]);
    servers.start_replication(1);
    servers.wait_until_caught_up();
    assert_eq!([0, 1].map(|number| rows(servers.replica(number), &database)), ["1", "1,2"]);
    servers.start_replication(0);
    servers.wait_until_caught_up();
    assert_eq!(rows(servers.replica(0), &database), "1,2");
}

#[test]
fn a_swap_of_tables_is_replicated() {
    let servers = Replication::start(1);
    let database = servers.database();
    database.execute("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1)");
    database.execute("CREATE TABLE new LIKE t; INSERT INTO new VALUES (2)");
    database.execute("RENAME TABLE t WAIT 1 TO old, new TO t");
    servers.wait_until_caught_up();
    assert_eq!(rows(servers.replica(0), &database), "2");
    let tables = servers.replica(0).execute(&format!("SHOW TABLES IN {}", database.name()));
    assert_eq!(tables, "old\nt");
}

#[test]
fn a_killed_replica_follows_again_after_its_restart() {
    let servers = Replication::start(1);
    let database = servers.database();
    database.execute("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1)");
    servers.replica(0).kill();
    database.execute("INSERT INTO t VALUES (2)");
    servers.wait_until_caught_up();
    servers.replica(0).restart();
    servers.wait_until_caught_up();
    assert_eq!(rows(servers.replica(0), &database), "1,2");
}

#[test]
fn replicas_follow_a_primary_that_was_killed_and_restarted() {
    let servers = Replication::start(1);
    let database = servers.database();
    database.execute("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1)");
    servers.primary().kill();
    servers.primary().restart();
    database.execute("INSERT INTO t VALUES (2)");
    servers.wait_until_caught_up();
    assert_eq!(rows(servers.replica(0), &database), "1,2");
}

#[test]
fn a_paused_replica_catches_up_when_it_is_resumed() {
    let servers = Replication::start(1);
    let database = servers.database();
    servers.replica(0).pause();
    database.execute("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1)");
    servers.replica(0).resume();
    servers.wait_until_caught_up();
    assert_eq!(rows(servers.replica(0), &database), "1");
}

#[test]
fn a_replica_refuses_the_writes_of_an_ordinary_user() {
    let servers = Replication::start(1);
    let database = servers.database();
    database.execute("CREATE TABLE t (a INT PRIMARY KEY)");
    servers.wait_until_caught_up();
    let insert = |port| as_user(&database, "writer", port, "INSERT INTO t VALUES (1)");
    let error = insert(servers.replica(0).port()).unwrap_err();
    assert!(error.contains("ERROR 1290") && error.contains("--read-only"), "{error}");
    insert(servers.primary().port()).unwrap();
}

#[test]
#[should_panic(expected = "a replica stopped at an error: ")]
fn a_replica_that_stopped_at_an_error_fails_the_test() {
    let servers = Replication::start(1);
    let database = servers.database();
    database.execute("CREATE TABLE t (a INT PRIMARY KEY)");
    servers.wait_until_caught_up();
    servers.replica(0).execute(&format!("INSERT INTO {}.t VALUES (1)", database.name()));
    database.execute("INSERT INTO t VALUES (1)");
    servers.wait_until_caught_up();
}
