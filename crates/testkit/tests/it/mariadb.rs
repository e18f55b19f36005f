//! The private server does what the fault tests of the other crates rely on.

use std::process::Command;
use std::time::{Duration, Instant};

use testkit::{Database, Fault, FaultProxy, MariaDb, PASSWORD};

/// Runs a statement over TCP as one of the database's own users, as a program with its url would.
pub(crate) fn as_user(database: &Database, role: &str, port: u16, sql: &str) -> Result<String, String> {
    let output = Command::new("mariadb")
        .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--batch", "--skip-column-names"])
        .args([format!("--user={}_{role}", database.name()), format!("--password={PASSWORD}")])
        .args([format!("--port={port}"), format!("--execute={sql}"), database.name().to_owned()])
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn each_database_is_empty_and_its_own() {
    let (one, other) = (MariaDb::shared().database(), MariaDb::shared().database());
    assert_ne!(one.name(), other.name());
    one.execute("CREATE TABLE t (a INT, b TEXT); INSERT INTO t VALUES (1, 'ä'), (2, NULL)");
    assert_eq!(one.execute("SELECT a, b FROM t"), "1\tä\n2\tNULL");
    assert_eq!(other.execute("SHOW TABLES"), "");
}

#[test]
fn a_refused_statement_gives_the_message_of_the_server() {
    let error = MariaDb::shared().database().try_execute("SELECT * FROM nothing").unwrap_err();
    assert!(error.starts_with("ERROR 1146 (42S02)"), "{error}");
}

#[test]
fn the_writer_may_do_everything_in_its_database_and_the_reader_may_read() {
    let (server, database) = (MariaDb::shared(), MariaDb::shared().database());
    let run = |role, sql| as_user(&database, role, server.port(), sql);
    run("writer", "CREATE TABLE t (a INT); INSERT INTO t VALUES (1); RENAME TABLE t TO u").unwrap();
    assert_eq!(run("reader", "SELECT a FROM u").unwrap(), "1");
    assert!(run("reader", "INSERT INTO u VALUES (2)").unwrap_err().contains("denied"));
    assert!(run("writer", "CREATE TABLE test_other.t (a INT)").unwrap_err().contains("denied"));
}

#[test]
fn the_urls_name_user_password_port_and_database() {
    let (server, database) = (MariaDb::shared(), MariaDb::shared().database());
    let (name, port) = (database.name(), server.port());
    assert_eq!(database.url(), format!("mysql://{name}_writer:{PASSWORD}@127.0.0.1:{port}/{name}"));
    assert_eq!(database.reader_url(), format!("mysql://{name}_reader:{PASSWORD}@127.0.0.1:{port}/{name}"));
    assert_eq!(database.url_via(1), format!("mysql://{name}_writer:{PASSWORD}@127.0.0.1:1/{name}"));
}

#[test]
fn local_files_may_be_loaded() {
    assert_eq!(MariaDb::shared().execute("SELECT @@local_infile, @@innodb_flush_log_at_trx_commit"), "1\t1");
}

#[test]
fn a_proxy_in_front_of_the_server_can_break_the_connection() {
    let (server, database) = (MariaDb::shared(), MariaDb::shared().database());
    let proxy = FaultProxy::start(server.port());
    assert_eq!(as_user(&database, "reader", proxy.port(), "SELECT 1").unwrap(), "1");
    proxy.set(Fault::Refuse);
    assert!(as_user(&database, "reader", proxy.port(), "SELECT 1").is_err());
}

#[test]
fn what_was_committed_survives_a_crash_and_the_port_stays() {
    let server = MariaDb::start();
    let (database, port) = (server.database(), server.port());
    database.execute("CREATE TABLE t (a INT PRIMARY KEY) ENGINE=InnoDB; INSERT INTO t VALUES (1)");
    server.kill();
    assert!(database.try_execute("SELECT 1").is_err());
    server.restart();
    assert_eq!((database.execute("SELECT a FROM t"), server.port()), ("1".to_owned(), port));
    assert!(!server.log().contains("Shutdown complete"), "it ended cleanly:\n{}", server.log());
}

#[test]
fn a_stopped_server_starts_again_with_its_settings_as_they_were() {
    let server = MariaDb::start();
    server.set_global("read_only", "1");
    assert_eq!(server.execute("SELECT @@read_only"), "1");
    server.stop();
    assert!(server.try_execute("SELECT 1").is_err());
    assert!(server.log().contains("Shutdown complete"), "it did not end cleanly:\n{}", server.log());
    server.restart();
    assert_eq!(server.execute("SELECT @@read_only"), "0");
}

#[test]
fn further_settings_win_and_outlive_a_restart() {
    let server = MariaDb::start_with(&["--log-bin=binlog", "--max-connections=77"]);
    let settings = || server.execute("SELECT @@log_bin, @@max_connections, @@local_infile");
    assert_eq!(settings(), "1\t77\t1");
    server.restart();
    assert_eq!(settings(), "1\t77\t1");
}

#[test]
fn a_paused_server_answers_when_it_is_resumed() {
    let server = MariaDb::start();
    server.pause();
    std::thread::scope(|scope| {
        let start = Instant::now();
        let answer = scope.spawn(|| server.execute("SELECT 1"));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!answer.is_finished());
        server.resume();
        assert_eq!(answer.join().unwrap(), "1");
        assert!(start.elapsed() >= Duration::from_millis(200));
    });
}

#[test]
fn a_paused_server_can_be_stopped_and_killed() {
    let server = MariaDb::start();
    server.pause();
    server.stop();
    server.restart();
    server.pause();
    server.kill();
    assert!(server.try_execute("SELECT 1").is_err());
}
