//! A proxy in front of a MariaDB server that fails at one chosen statement, and tells the test when it has.
//!
//! A fault that comes after a time or after a number of bytes hits what happens to be on the way. Here the test names
//! the statement, learns that the fault has struck, acts as somebody else at exactly that point of another's work, and
//! then releases the client. Connections must be plain: no TLS, no compression.

mod connections;
mod dialogue;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::connections::Connections;
pub use self::dialogue::Command;

/// What happens to the chosen statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementFault {
    /// It never reaches the server, whose side of the connection is closed. The client waits for its reply until the
    /// proxy is released; then its side is closed too.
    CutBefore,
    /// The server executes it and the reply is lost; then as for [`StatementFault::CutBefore`].
    LoseReply,
    /// The server executes it. Both sides stay open, the reply is delivered when the proxy is released.
    HangReply,
}

/// Where a fault strikes.
#[derive(Clone, Debug)]
pub struct FaultPoint {
    /// A part of the statement's text. Statements are compared by their [`shape`].
    pub contains: String,
    /// At which execution of such a statement from now on, counted from 1.
    pub occurrence: usize,
    /// What happens to it.
    pub fault: StatementFault,
    /// Whether the client is cut off altogether: all connections are closed on both sides, new ones are refused until
    /// the proxy is released. Only a hanging reply's connection stays.
    pub partition: bool,
}

/// A statement that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Which connection of the proxy, counted from 0.
    pub connection: u64,
    /// How it was sent.
    pub command: Command,
    /// Its text; an execution has that of its prepared statement.
    pub text: String,
}

impl Statement {
    /// See [`shape`].
    pub fn shape(&self) -> String {
        shape(&self.text)
    }
}

/// A statement's text with `#` for each number, so that it is the same for every version and connection.
pub fn shape(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            char => shape.push(char),
        }
    }
    shape
}

/// A proxy in front of a port of 127.0.0.1. It ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct StatementProxy {
    port: u16,
    connections: Arc<Connections>,
    acceptor: Option<JoinHandle<()>>,
}

impl StatementProxy {
    /// Listens on a free port and passes everything on to `upstream_port`.
    pub fn start(upstream_port: u16) -> StatementProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("the port").port();
        let connections = Arc::new(Connections::default());
        let shared = Arc::clone(&connections);
        let acceptor = thread::spawn(move || accept(&listener, upstream_port, &shared));
        StatementProxy { port, connections, acceptor: Some(acceptor) }
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The statements that have reached the server, in their order, since the last call.
    pub fn take_statements(&self) -> Vec<Statement> {
        self.connections.take_statements()
    }

    /// Lets a fault strike once, in place of one that has not struck yet.
    pub fn arm(&self, point: FaultPoint) {
        self.connections.arm(point);
    }

    /// Waits until the fault has struck, and gives the statement; nothing where it has not within `limit`.
    pub fn wait_until_struck(&self, limit: Duration) -> Option<Statement> {
        self.connections.wait_until_struck(limit)
    }

    /// Ends the fault, also one that has not struck: a held reply is delivered or its connection closed, and new
    /// connections get through.
    pub fn release(&self) {
        self.connections.release();
    }
}

impl Drop for StatementProxy {
    fn drop(&mut self) {
        self.connections.end();
        // The acceptor sees the end at its next connection, which is this one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, upstream_port: u16, connections: &Arc<Connections>) {
    for client in listener.incoming() {
        if connections.has_ended() {
            return;
        }
        // Where the server refuses, the client is dropped, which is what it would have seen without a proxy.
        if let Ok(client) = client
            && !connections.refuses()
            && let Ok(upstream) = TcpStream::connect(("127.0.0.1", upstream_port))
        {
            Connections::open(connections, client, upstream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Child, Command as Program, Output, Stdio};

    use super::*;
    use crate::until::until;
    use crate::{Database, MariaDb, PASSWORD};

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Setup {
        database: Database,
        proxy: StatementProxy,
    }

    impl Setup {
        fn new() -> Setup {
            let database = MariaDb::shared().database();
            database.execute("CREATE TABLE numbers (number INT)");
            Setup { database, proxy: StatementProxy::start(MariaDb::shared().port()) }
        }

        /// Runs statements through the proxy, as the database's owner.
        fn start(&self, sql: &str) -> Child {
            let name = self.database.name();
            let mut client = Program::new("mariadb");
            client.args(["--no-defaults", "--host=127.0.0.1", "--skip-ssl", "--local-infile=1"]);
            client.args(["--batch", "--skip-column-names", "--skip-reconnect", "--unbuffered"]);
            client.arg(format!("--port={}", self.proxy.port())).arg(format!("--user={name}_owner"));
            client.arg(format!("--password={PASSWORD}")).args(["-e", sql]).arg(name);
            client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        }

        fn run(&self, sql: &str) -> Output {
            self.start(sql).wait_with_output().unwrap()
        }

        fn arm(&self, contains: &str, occurrence: usize, fault: StatementFault) {
            self.proxy.arm(FaultPoint { contains: contains.into(), occurrence, fault, partition: false });
        }

        fn numbers(&self) -> String {
            self.database.execute("SELECT GROUP_CONCAT(number ORDER BY number) FROM numbers")
        }

        fn connections(&self) -> usize {
            let name = self.database.name();
            let count =
                format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER LIKE '{name}_%'");
            self.database.execute(&count).parse().unwrap()
        }
    }

    #[test]
    fn numbers_make_no_difference_to_a_shape() {
        assert_eq!(shape("RENAME TABLE `a__v12` WAIT 1"), shape("RENAME TABLE `a__v7` WAIT 20"));
        assert_eq!(shape("SELECT 10, x2"), "SELECT #, x#");
    }

    #[test]
    fn statements_pass_and_are_recorded_with_their_connection() {
        let setup = Setup::new();
        let output = setup.run("INSERT INTO numbers VALUES (1); SELECT number + 1 FROM numbers");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "2\n");
        setup.run("SELECT 3");
        let statements = setup.proxy.take_statements();
        let of = |text: &str| statements.iter().find(|statement| statement.text == text).unwrap();
        let (insert, select) = (of("INSERT INTO numbers VALUES (1)"), of("SELECT number + 1 FROM numbers"));
        assert_eq!((insert.connection, select.connection, of("SELECT 3").connection), (0, 0, 1));
        assert_eq!(insert.command, Command::Query);
        assert!(setup.proxy.take_statements().is_empty());
    }

    #[test]
    fn a_cut_statement_never_reaches_the_server_and_its_client_waits_until_it_is_released() {
        let setup = Setup::new();
        setup.arm("VALUES (9)", 2, StatementFault::CutBefore);
        let mut client = setup.start("INSERT INTO numbers VALUES (1); INSERT INTO numbers VALUES (2)");
        let struck = setup.proxy.wait_until_struck(PATIENCE).unwrap();
        assert_eq!(struck.text, "INSERT INTO numbers VALUES (2)");
        // The server's side is closed, so whatever the connection held is free for others.
        until(|| setup.connections() == 0);
        assert_eq!((setup.numbers().as_str(), client.try_wait().unwrap()), ("1", None));
        setup.proxy.release();
        assert!(!client.wait().unwrap().success());
        assert_eq!(setup.numbers(), "1");
    }

    #[test]
    fn a_statement_whose_reply_is_lost_was_executed() {
        let setup = Setup::new();
        setup.arm("INSERT", 1, StatementFault::LoseReply);
        let mut client = setup.start("INSERT INTO numbers VALUES (1); INSERT INTO numbers VALUES (2)");
        setup.proxy.wait_until_struck(PATIENCE).unwrap();
        until(|| setup.connections() == 0);
        assert_eq!((setup.numbers().as_str(), client.try_wait().unwrap()), ("1", None));
        setup.proxy.release();
        assert!(!client.wait().unwrap().success());
        assert_eq!(setup.numbers(), "1");
        assert!(setup.run("INSERT INTO numbers VALUES (3)").status.success(), "it struck twice");
    }

    #[test]
    fn a_reply_that_hangs_comes_when_it_is_released() {
        let setup = Setup::new();
        setup.arm("INSERT", 1, StatementFault::HangReply);
        let mut client = setup.start("INSERT INTO numbers VALUES (1); INSERT INTO numbers VALUES (2)");
        setup.proxy.wait_until_struck(PATIENCE).unwrap();
        assert_eq!((setup.numbers().as_str(), setup.connections()), ("1", 1));
        assert_eq!(client.try_wait().unwrap(), None);
        setup.proxy.release();
        assert!(client.wait().unwrap().success());
        assert_eq!(setup.numbers(), "1,2");
    }

    #[test]
    fn a_partition_closes_all_connections_and_refuses_new_ones_until_it_is_released() {
        let setup = Setup::new();
        let mut other = setup.start("SELECT SLEEP(60)");
        until(|| setup.connections() == 1);
        setup.proxy.arm(FaultPoint {
            contains: "INSERT".into(),
            occurrence: 1,
            fault: StatementFault::LoseReply,
            partition: true,
        });
        assert!(!setup.run("INSERT INTO numbers VALUES (1)").status.success());
        assert!(setup.proxy.wait_until_struck(PATIENCE).is_some());
        assert!(!other.wait().unwrap().success());
        assert!(!setup.run("SELECT 1").status.success());
        assert_eq!(setup.numbers(), "1");
        setup.proxy.release();
        assert!(setup.run("SELECT 1").status.success());
    }

    #[test]
    fn what_never_strikes_is_told_and_can_be_released() {
        let setup = Setup::new();
        setup.arm("SELECT 4711", 1, StatementFault::CutBefore);
        assert_eq!(setup.proxy.wait_until_struck(Duration::from_millis(20)), None);
        setup.proxy.release();
        assert!(setup.run("SELECT 4711").status.success());
    }

    #[test]
    fn a_fault_at_a_load_strikes_when_all_rows_are_there() {
        let setup = Setup::new();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        // Every packet begins as a query does, and there are enough for their numbers to begin anew.
        let lines = "\u{3}INSERT\n".repeat(2_000_000);
        file.write_all(lines.as_bytes()).unwrap();
        setup.database.execute("CREATE TABLE texts (text VARCHAR(20))");
        setup.arm("LOAD DATA", 1, StatementFault::LoseReply);
        let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE texts", file.path().display());
        let mut client = setup.start(&load);
        assert_eq!(setup.proxy.wait_until_struck(PATIENCE).unwrap().text, load);
        assert_eq!(setup.database.execute("SELECT COUNT(*) FROM texts"), "2000000");
        setup.proxy.release();
        assert!(!client.wait().unwrap().success());
        let inserts = setup.proxy.take_statements().into_iter().filter(|it| it.text.starts_with("INSERT"));
        assert_eq!(inserts.count(), 0);
    }

    #[test]
    fn a_dropped_proxy_closes_its_connections() {
        let setup = Setup::new();
        let mut client = setup.start("SELECT SLEEP(60)");
        until(|| setup.connections() == 1);
        drop(setup.proxy);
        assert!(!client.wait().unwrap().success());
    }
}
