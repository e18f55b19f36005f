//! Where the promotions are: in files, and in a private MariaDB if it is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value as Json;
use testkit::{Database, Fault, FaultProxy, MariaDb, Server, free_port, http};

use crate::lookup::contender::Backend;
use crate::programs::Programs;

/// All rows fit into it with room to spare.
const BUFFER_POOL: &str = "--innodb-buffer-pool-size=2G";

/// For what is loaded: as large a log as a server has where nothing is set. That of tests is small.
pub(crate) const FOR_LOADS: [&str; 2] = [BUFFER_POOL, "--innodb-log-file-size=96M"];

/// How far away the database is for `mariadb-far`, each way.
const DISTANCE: Duration = Duration::from_millis(1);

/// How long an updater may take to stop.
const STOP_WAIT: Duration = Duration::from_mins(1);

/// How long the database may take to write what was loaded.
const SETTLE_WAIT: Duration = Duration::from_mins(2);

/// Both, loaded.
#[derive(Debug)]
pub(crate) struct Stores {
    embedded: String,
    mariadb: Option<Private>,
}

/// A database that ends with this process.
#[derive(Debug)]
struct Private {
    far: FaultProxy,
    database: Database,
    server: MariaDb,
}

/// What is loaded, and with what.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) csv: &'a Path,
    pub(crate) rows: usize,
}

impl Stores {
    /// Loads both anew: what an earlier version has stored may be stored in another way by now.
    pub(crate) fn prepare(dir: &Path, source: &Source, with_mariadb: bool) -> anyhow::Result<Stores> {
        let work_dir = dir.join("work");
        let store_dir = dir.join("store");
        if store_dir.exists() {
            fs::remove_dir_all(&store_dir).context("remove the store of the last run")?;
        }
        let embedded = format!("embedded:{}", store_dir.display());
        source.load(&embedded, &work_dir).context("load the embedded store")?;
        let mariadb = with_mariadb.then(Private::start);
        if let Some(mariadb) = &mariadb {
            source.load(&mariadb.database.url(), &work_dir).context("load MariaDB")?;
            settle(&mariadb.server)?;
        }
        fs::remove_dir_all(&work_dir).context("remove what loading left")?;
        Ok(Stores { embedded, mariadb })
    }

    /// What an api needs to read from there; nothing for [`Backend::Bare`], and without a database.
    pub(crate) fn url(&self, backend: Backend) -> Option<String> {
        let mariadb = self.mariadb.as_ref();
        match backend {
            Backend::Bare => None,
            Backend::Embedded => Some(self.embedded.clone()),
            Backend::Mariadb | Backend::MariadbPlain => Some(mariadb?.database.reader_url()),
            Backend::MariadbFar => {
                let mariadb = mariadb?;
                Some(mariadb.database.reader_url_via(mariadb.far.port()))
            }
        }
    }

    /// The database's version.
    pub(crate) fn mariadb_version(&self) -> Option<String> {
        Some(self.mariadb.as_ref()?.server.execute("SELECT VERSION()"))
    }
}

impl Private {
    fn start() -> Private {
        let server = MariaDb::start_with(&[BUFFER_POOL]);
        let far = FaultProxy::start(server.port());
        far.set(Fault::Delay(DISTANCE));
        Private { far, database: server.database(), server }
    }
}

/// Waits until everything that was loaded is on the disk: what is written later would take time from a turn.
pub(crate) fn settle(server: &MariaDb) -> anyhow::Result<()> {
    let names = ["innodb_max_dirty_pages_pct_lwm", "innodb_max_dirty_pages_pct"];
    let usual = names.map(|name| server.execute(&format!("SELECT @@GLOBAL.{name}")));
    for name in names {
        server.set_global(name, "0");
    }
    let dirty_pages = || server.execute("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'");
    let deadline = Instant::now() + SETTLE_WAIT;
    while !dirty_pages().ends_with("\t0") {
        ensure!(Instant::now() < deadline, "MariaDB is still writing: {}", dirty_pages());
        sleep(Duration::from_millis(100));
    }
    for (name, usual) in names.iter().rev().zip(usual.iter().rev()) {
        server.set_global(name, usual);
    }
    Ok(())
}

impl Source<'_> {
    /// As an operator does it: a running updater, to which the file is sent.
    fn load(&self, store_url: &str, work_dir: &Path) -> anyhow::Result<()> {
        let (port, program) = (free_port(), self.programs.path("updater")?);
        let updater = start_updater(program, port, store_url, work_dir)?;
        eprintln!("load {} rows into {}", self.rows, store_url.split(':').next().unwrap_or_default());
        let (start, address) = (Instant::now(), format!("http://127.0.0.1:{port}"));
        self.programs.run("tableswap", &["load", &self.csv.to_string_lossy(), "--updater", &address])?;
        eprintln!("loaded in {:.1} s", start.elapsed().as_secs_f64());
        let rows = live_rows(port)?;
        ensure!(rows == Some(self.rows), "{rows:?} rows are live and not {}", self.rows);
        updater.terminate();
        updater.wait(STOP_WAIT);
        Ok(())
    }
}

pub(crate) fn start_updater(
    program: PathBuf,
    port: u16,
    store_url: &str,
    work_dir: &Path,
) -> anyhow::Result<Server> {
    fs::create_dir_all(work_dir)?;
    let listen = format!("127.0.0.1:{port}");
    let environment = [
        ("TABLESWAP_STORE_URL", store_url),
        ("TABLESWAP_UPDATER_LISTEN", &listen),
        ("TABLESWAP_UPDATER_WORK_DIR", &work_dir.to_string_lossy()),
        ("TABLESWAP_LOG_LEVEL", "warn"),
    ];
    Ok(Server::start(program, &[], &environment, port))
}

/// How many promotions are live, if any.
fn live_rows(updater: u16) -> anyhow::Result<Option<usize>> {
    let answer: Json = serde_json::from_slice(&http::get(updater, "/datasets").body)?;
    let rows = answer["datasets"][0]["rows"].as_u64();
    Ok(rows.and_then(|rows| usize::try_from(rows).ok()))
}
