//! The ways on which a file gets into a store.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use testkit::{Database, MariaDb, PASSWORD, free_port};

use super::files::{Files, Input, run};
use super::watched::Watched;
use crate::programs::Programs;
use crate::stores::start_updater;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// curl to the updater, until it answers that the version is live.
    Ours(Store, Input),
    /// The database's own client loads the file as it is.
    Raw,
    /// Rows are sent as they come, unsorted, over one connection.
    OnePass,
    /// redis-cli fills a Redis.
    Redis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Embedded,
    Mariadb,
}

pub(crate) const ALL: [Way; 9] = [
    Way::EMBEDDED,
    Way::Ours(Store::Embedded, Input::Sorted),
    Way::Ours(Store::Embedded, Input::Zstd),
    Way::MARIADB,
    Way::Ours(Store::Mariadb, Input::Sorted),
    Way::Ours(Store::Mariadb, Input::Zstd),
    Way::Raw,
    Way::OnePass,
    Way::Redis,
];

impl Way {
    pub(crate) const EMBEDDED: Way = Way::Ours(Store::Embedded, Input::Shuffled);
    pub(crate) const MARIADB: Way = Way::Ours(Store::Mariadb, Input::Shuffled);

    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Ours(Store::Embedded, Input::Shuffled) => "embedded",
            Way::Ours(Store::Embedded, Input::Sorted) => "embedded, sorted",
            Way::Ours(Store::Embedded, Input::Zstd) => "embedded, zstd",
            Way::Ours(Store::Mariadb, Input::Shuffled) => "mariadb",
            Way::Ours(Store::Mariadb, Input::Sorted) => "mariadb, sorted",
            Way::Ours(Store::Mariadb, Input::Zstd) => "mariadb, zstd",
            Way::Raw => "LOAD DATA",
            Way::OnePass => "one pass",
            Way::Redis => "redis",
        }
    }
}

/// What a load took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    pub(crate) seconds: f64,
    /// Of the updater; nothing on other ways.
    pub(crate) memory_bytes: u64,
    pub(crate) temporary_bytes: u64,
}

impl Loaded {
    fn since(start: Instant) -> Loaded {
        Loaded { seconds: start.elapsed().as_secs_f64(), memory_bytes: 0, temporary_bytes: 0 }
    }
}

pub(crate) struct Ways<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) server: &'a MariaDb,
    pub(crate) dir: &'a Path,
}

/// The table that readers have, without the column of the version.
const TABLE: &str = "CREATE TABLE promotions (id BINARY(16) NOT NULL, price DECIMAL(12,6) NOT NULL, \
    expiration_date DATETIME NOT NULL, PRIMARY KEY (id)) ENGINE = InnoDB";
/// The same values as the updater stores.
const RAW: &str = "FIELDS TERMINATED BY ',' (@id, price, @at) SET id = UNHEX(REPLACE(@id, '-', '')), \
    expiration_date = CONVERT_TZ(LEFT(@at, 19), CONCAT(SUBSTR(@at, 21, 3), ':', SUBSTR(@at, 24, 2)), '+00:00')";

impl Ways<'_> {
    pub(crate) fn load(&self, way: Way, files: &Files) -> anyhow::Result<Loaded> {
        match way {
            Way::Ours(Store::Embedded, input) => {
                let store = self.dir.join("load-store");
                let loaded =
                    self.upload(&format!("embedded:{}", store.display()), &files.path(input), files.rows);
                fs::remove_dir_all(store)?;
                loaded
            }
            Way::Ours(Store::Mariadb, input) => {
                self.in_database(|database| self.upload(&database.url(), &files.path(input), files.rows))
            }
            Way::Raw => self.in_database(|database| self.raw(database, files)),
            Way::OnePass => self.in_database(|database| self.one_pass(database, files)),
            Way::Redis => self.redis(files),
        }
    }

    fn in_database(&self, load: impl FnOnce(&Database) -> anyhow::Result<Loaded>) -> anyhow::Result<Loaded> {
        let database = self.server.database();
        let loaded = load(&database);
        self.server.execute(&format!("DROP DATABASE {}", database.name()));
        loaded
    }

    /// As an operator does it.
    fn upload(&self, store_url: &str, file: &Path, rows: usize) -> anyhow::Result<Loaded> {
        let (port, work_dir) = (free_port(), self.dir.join("load-work"));
        let updater = start_updater(self.programs.path("updater")?, port, store_url, &work_dir)?;
        let (watched, start) = (Watched::start(updater.id()), Instant::now());
        let form = format!("data=@{}", file.display());
        let url = format!("http://127.0.0.1:{port}/upload");
        let output =
            Command::new("curl").args(["--silent", "--show-error", "--form", &form, &url]).output()?;
        let loaded = Loaded::since(start);
        let (memory_bytes, temporary_bytes) = watched.end();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            answer.contains(&format!("\"status\":\"published\",\"rows\":{rows},")),
            "the updater says {answer}"
        );
        updater.terminate();
        updater.wait(Duration::from_mins(1));
        fs::remove_dir_all(work_dir)?;
        Ok(Loaded { memory_bytes, temporary_bytes, ..loaded })
    }

    fn raw(&self, database: &Database, files: &Files) -> anyhow::Result<Loaded> {
        database.execute(TABLE);
        let (file, start) = (files.path(Input::Shuffled), Instant::now());
        run(&mut client(
            self.server,
            database,
            &format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE promotions {RAW}", file.display()),
        ))?;
        let loaded = Loaded::since(start);
        check(database, files.rows)?;
        Ok(loaded)
    }

    fn one_pass(&self, database: &Database, files: &Files) -> anyhow::Result<Loaded> {
        database.execute(TABLE);
        let sql = "LOAD DATA LOCAL INFILE '/dev/stdin' INTO TABLE promotions (@id, price, expiration_date) SET id = UNHEX(@id)";
        let start = Instant::now();
        let mut child = client(self.server, database, sql).stdin(Stdio::piped()).spawn()?;
        feed(&mut child, &files.path(Input::Shuffled), |id, price, at, out| {
            id.split(|byte| *byte == b'-').for_each(|part| out.extend_from_slice(part));
            for part in [&b"\t"[..], price, b"\t", at.get(..19).unwrap_or_default(), b"\n"] {
                out.extend_from_slice(part);
            }
        })?;
        ensure!(child.wait()?.success(), "the client failed");
        let loaded = Loaded::since(start);
        check(database, files.rows)?;
        Ok(loaded)
    }

    fn redis(&self, files: &Files) -> anyhow::Result<Loaded> {
        let socket = self.dir.join("redis.socket");
        let mut server = start_redis(&socket)?;
        let start = Instant::now();
        let mut pipe = Command::new("redis-cli");
        pipe.arg("-s").arg(&socket).arg("--pipe").stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = pipe.spawn().context("redis-cli is missing")?;
        let fed = feed(&mut child, &files.path(Input::Shuffled), |id, price, at, out| {
            let value = price.len() + 1 + at.len();
            out.extend_from_slice(format!("*3\r\n$3\r\nSET\r\n${}\r\n", id.len()).as_bytes());
            out.extend_from_slice(id);
            out.extend_from_slice(format!("\r\n${value}\r\n").as_bytes());
            for part in [price, b",", at, b"\r\n"] {
                out.extend_from_slice(part);
            }
        });
        let ended = child.wait();
        let loaded = Loaded::since(start);
        server.kill()?;
        server.wait()?;
        fed?;
        ensure!(ended?.success(), "redis-cli failed");
        Ok(loaded)
    }
}

/// The database's own client.
fn client(server: &MariaDb, database: &Database, sql: &str) -> Command {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--local-infile=1", "--protocol=tcp", "--host=127.0.0.1"]);
    client.arg(format!("--port={}", server.port()));
    client.args([format!("--user={}_writer", database.name()), format!("--password={PASSWORD}")]);
    client.args(["--execute", sql]).arg(database.name());
    client
}

fn check(database: &Database, rows: usize) -> anyhow::Result<()> {
    let count = database.execute("SELECT COUNT(*) FROM promotions");
    ensure!(count.trim() == rows.to_string(), "{count} rows and not {rows}");
    Ok(())
}

/// A server in memory alone. Debian has it in the package of its tools, under another name.
fn start_redis(socket: &Path) -> anyhow::Result<Child> {
    let mut redis = Command::new("/usr/bin/redis-check-rdb");
    redis.arg0("redis-server").args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
    // A socket of an earlier one is not yet this one's.
    let _ = fs::remove_file(socket);
    let server = redis.arg(socket).stdout(Stdio::null()).spawn().context("redis-tools is missing")?;
    while !socket.exists() {
        sleep(Duration::from_millis(10));
    }
    Ok(server)
}

/// Writes every row of a file to a program, in its form.
fn feed(
    child: &mut Child,
    file: &Path,
    mut write: impl FnMut(&[u8], &[u8], &[u8], &mut Vec<u8>),
) -> anyhow::Result<()> {
    let mut csv = BufReader::with_capacity(1 << 20, File::open(file)?);
    let mut pipe = BufWriter::with_capacity(1 << 20, child.stdin.take().context("no pipe")?);
    let (mut line, mut out) = (Vec::new(), Vec::new());
    while csv.read_until(b'\n', &mut line)? > 0 {
        let mut fields = line.trim_ascii_end().splitn(3, |byte| *byte == b',');
        let (id, price, at) = (fields.next(), fields.next(), fields.next());
        out.clear();
        write(id.unwrap_or_default(), price.unwrap_or_default(), at.unwrap_or_default(), &mut out);
        pipe.write_all(&out)?;
        line.clear();
    }
    Ok(pipe.flush()?)
}
