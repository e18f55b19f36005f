//! A private MariaDB server: its own data directory and port, nothing shared with one that the machine may run.

mod client;
mod database;
mod replication;
mod template;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use self::client::Client;
pub use self::database::{Database, PASSWORD};
pub use self::replication::Replication;
use crate::nest::Nest;
use crate::port::free_port;
use crate::until::wait_for;

/// What a start or a clean stop may take on a busy machine; an idle one does either in a tenth of a second.
const PATIENCE: Duration = Duration::from_mins(1);

/// Small and quick, but as durable as a real server: `innodb_flush_log_at_trx_commit` stays 1, because the tests
/// that kill the server rely on it.
const SETTINGS: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--local-infile=1",
    "--max-connections=1000",
    "--performance-schema=off",
    "--skip-log-bin",
    "--innodb-buffer-pool-size=64M",
    template::LOG_FILE_SIZE,
    // What was in memory before a restart is of no use to a test.
    "--innodb-buffer-pool-dump-at-shutdown=off",
    "--innodb-buffer-pool-load-at-startup=off",
];

/// A running server. It ends, and its directory is removed, when it is dropped or when the test process ends in
/// any way, by SIGKILL too.
///
/// Measured on two cores with MariaDB 10.11: a test that only starts a server takes 0.15 to 0.2 s, 0.3 s while other
/// tests keep both cores busy. The first one on a machine makes the data directory that all others copy, which adds
/// 0.5 s, or 4 s on busy cores.
#[derive(Debug)]
pub struct MariaDb {
    nest: Nest,
    port: u16,
    settings: Vec<String>,
    databases: AtomicU32,
}

impl MariaDb {
    /// A server for one test, which may stop, kill, pause and reconfigure it.
    pub fn start() -> MariaDb {
        MariaDb::start_with(&[])
    }

    /// As [`MariaDb::start`], with further options of mariadbd's command line, such as `--log-bin`. They win over
    /// the usual ones and hold over every restart.
    pub fn start_with(settings: &[&str]) -> MariaDb {
        let nest = Nest::new("testkit-mariadb-");
        template::copy_to(&nest.path().join("data"));
        let settings = settings.iter().copied().map(str::to_owned).collect();
        let mut server = MariaDb { nest, port: free_port(), settings, databases: AtomicU32::default() };
        for _ in 0..10 {
            if server.launch() {
                return server;
            }
            server.port = free_port();
        }
        panic!("ten ports were free and then taken");
    }

    /// The one server that all tests of a test binary share, each with a [`Database`] of its own. It is not for
    /// tests that stop, kill, pause or reconfigure it.
    pub fn shared() -> &'static MariaDb {
        static SHARED: OnceLock<MariaDb> = OnceLock::new();
        SHARED.get_or_init(MariaDb::start)
    }

    /// A fresh, empty database with a user of all rights on it and a user who may only read it.
    pub fn database(&self) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed) + 1;
        Database::create(self.client(), self.port, format!("test_{number}"))
    }

    /// The port on 127.0.0.1, the same after every restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the server keeps its files: each database is a directory in it.
    pub fn data_dir(&self) -> PathBuf {
        self.nest.path().join("data")
    }

    /// The server's error log, over all restarts.
    pub fn log(&self) -> String {
        self.nest.log()
    }

    /// Runs a statement as root in no database, and gives what it printed; panics with the server's message.
    pub fn execute(&self, sql: &str) -> String {
        self.try_execute(sql).unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
    }

    /// As [`MariaDb::execute`], but gives the server's message.
    pub fn try_execute(&self, sql: &str) -> Result<String, String> {
        self.client().run(None, sql)
    }

    /// `SET GLOBAL name = value`, until the next restart. A text needs its quotes.
    pub fn set_global(&self, name: &str, value: &str) {
        self.execute(&format!("SET GLOBAL {name} = {value}"));
    }

    /// Ends the server cleanly, also a paused one.
    pub fn stop(&self) {
        self.resume();
        self.nest.signal("TERM");
        assert!(self.nest.wait(PATIENCE).is_some(), "mariadbd did not stop:\n{}", self.log());
    }

    /// Ends the server at once (SIGKILL), as a crash does.
    pub fn kill(&self) {
        self.nest.kill();
    }

    /// Starts the server again, on the same data and port, and ends it cleanly before that if it still runs.
    pub fn restart(&self) {
        self.stop();
        let launched = wait_for(PATIENCE, || self.launch().then_some(()));
        assert!(launched.is_some(), "port {} stays taken", self.port);
    }

    /// Stops the server's time (SIGSTOP): connections stay open and nothing answers.
    pub fn pause(&self) {
        self.nest.pause();
    }

    /// Lets a paused server go on (SIGCONT).
    pub fn resume(&self) {
        self.nest.resume();
    }

    fn client(&self) -> Client {
        Client::new(self.nest.path().join("socket"))
    }

    /// Starts mariadbd and waits until it answers; false where another process has the port.
    fn launch(&self) -> bool {
        let dir = self.nest.path();
        let mut command = self.nest.command(&template::mariadbd());
        command.arg("--no-defaults").args(SETTINGS).arg(format!("--port={}", self.port));
        command.arg(format!("--datadir={}", self.data_dir().display()));
        command.arg(format!("--socket={}", dir.join("socket").display()));
        command.arg(format!("--pid-file={}", dir.join("mariadbd.pid").display()));
        // A server that starts removes the temporary tables of every server that has the same directory for them.
        command.arg(format!("--tmpdir={}", dir.display()));
        command.arg(format!("--log-error={}", self.nest.log_path().display()));
        if fs::metadata(dir).expect("look at the directory").uid() == 0 {
            // mariadbd runs as root only where it is told to.
            command.arg("--user=root");
        }
        command.args(&self.settings);
        let old_log_bytes = self.log().len();
        self.nest.start(command);
        self.wait_until_ready(old_log_bytes)
    }

    fn wait_until_ready(&self, old_log_bytes: usize) -> bool {
        let ready = wait_for(PATIENCE, || {
            if self.try_execute("SELECT 1").is_ok() {
                return Some(true);
            }
            if self.nest.is_running() {
                return None;
            }
            let log = self.log();
            let taken = log.get(old_log_bytes..).is_some_and(|new| new.contains("Address already in use"));
            assert!(taken, "mariadbd did not start:\n{log}");
            Some(false)
        });
        ready.unwrap_or_else(|| panic!("mariadbd does not answer:\n{}", self.log()))
    }
}
