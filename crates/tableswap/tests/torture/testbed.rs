//! One store with the servers that a test starts on it, and what these servers were told and answered.

use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use testkit::http::{self, Response};
use testkit::{Database, MariaDb, Server, free_port};

use crate::cluster::{Backend, program};
use crate::editions::{Edition, Editions, SHARED_ROWS};
use crate::listing::Listing;

/// Longer than any answer may take; an updater that loses its database tries for a minute to learn what became of a
/// swap.
const ANSWER_MAX: Duration = Duration::from_secs(100);

/// How long a server may refuse because another one is still at work.
const BUSY_MAX: Duration = Duration::from_secs(4);

/// Versions before the live one that stay.
pub(crate) const KEPT: u32 = 2;

pub(crate) struct Testbed {
    pub(crate) database: Option<Database>,
    pub(crate) editions: Editions,
    dir: tempfile::TempDir,
}

/// A server and its port.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) port: u16,
}

/// What an updater is asked to do.
#[derive(Clone)]
pub(crate) enum Order {
    Load(Edition),
    Activate(u32),
}

/// What it answered; the error where there was no answer.
pub(crate) type Answer = Result<Response, String>;

impl Testbed {
    pub(crate) fn new(backend: Backend, seed: u64) -> Testbed {
        let database = (backend == Backend::Mariadb).then(|| MariaDb::shared().database());
        let dir = tempfile::tempdir().unwrap();
        let definition = testkit::rows::PROMOTIONS_TOML
            .replace("keep_versions = 2 ", &format!("keep_versions = {KEPT} "))
            .replace("max_shrink_percent = 50", "max_shrink_percent = 100");
        std::fs::write(dir.path().join("datasets.toml"), definition).unwrap();
        Testbed { database, editions: Editions::new(seed), dir }
    }

    pub(crate) fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    /// The directory of the dataset in the embedded store.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data/promotions")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn url(&self, read_only: bool) -> String {
        match &self.database {
            Some(database) if read_only => database.reader_url(),
            Some(database) => database.url(),
            None => format!("embedded:{}", self.dir.path().join("data").display()),
        }
    }

    pub(crate) fn updater(&self) -> Running {
        self.updater_at(&self.url(false))
    }

    /// An updater that reaches its database through a proxy.
    pub(crate) fn updater_via(&self, port: u16) -> Running {
        self.updater_at(&self.database().url_via(port))
    }

    fn updater_at(&self, url: &str) -> Running {
        self.start_updater(url, &program("updater"), &[])
    }

    /// An updater that another program starts.
    pub(crate) fn updater_under(&self, tracer: &str, arguments: &[&str]) -> Running {
        let updater = program("updater");
        let arguments = [arguments, &[updater.to_str().unwrap()]].concat();
        self.start_updater(&self.url(false), Path::new(tracer), &arguments)
    }

    fn start_updater(&self, url: &str, binary: &Path, arguments: &[&str]) -> Running {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let datasets = self.dir.path().join("datasets.toml");
        // One directory for each updater, as the documents ask.
        let work = self.dir.path().join(format!("work-{port}"));
        let env = [
            ("TABLESWAP_STORE_URL", url),
            ("TABLESWAP_UPDATER_LISTEN", &listen),
            ("TABLESWAP_UPDATER_DATASETS", datasets.to_str().unwrap()),
            ("TABLESWAP_UPDATER_WORK_DIR", work.to_str().unwrap()),
        ];
        Running { server: Server::start(binary, arguments, &env, port), port }
    }

    pub(crate) fn api(&self) -> Running {
        let (port, url) = (free_port(), self.url(true));
        let listen = format!("127.0.0.1:{port}");
        let env = [("TABLESWAP_STORE_URL", url.as_str()), ("TABLESWAP_API_LISTEN", &listen)];
        Running { server: Server::start(program("api"), &[], &env, port), port }
    }

    /// A new file, and its load.
    pub(crate) fn order_load(&self) -> Order {
        Order::Load(self.editions.next(SHARED_ROWS))
    }

    /// The version and the edition that the database holds as live, read as root; nothing where there is no such
    /// table. All rows must be there, and all of one edition.
    pub(crate) fn live_table(&self) -> Result<Option<(u32, u32)>, String> {
        let rows = match self.database().try_execute(ALL_ROWS) {
            Err(error) if error.contains("doesn't exist") => return Ok(None),
            rows => rows?,
        };
        let mut live = None;
        let mut known = 0;
        for (version, json) in rows.lines().filter_map(|line| line.split_once('\t')) {
            let Some((edition, _)) = self.editions.of_body(json) else { continue };
            known += 1;
            let row = Some((version.parse().map_err(|_| format!("version {version}"))?, edition));
            if *live.get_or_insert(row) != row {
                return Err(format!("rows of two versions: {live:?} and {row:?}"));
            }
        }
        let count = rows.lines().count();
        if count != SHARED_ROWS || known != crate::editions::KEYS {
            return Err(format!("{count} rows, {known} of them known: not those of one file"));
        }
        Ok(live.flatten())
    }
}

/// Each row with its version, as the api prints it.
const ALL_ROWS: &str = r#"SELECT dataset_version, CONCAT('{"id":"', LOWER(INSERT(INSERT(INSERT(INSERT(HEX(id), 9, 0, '-'),
    14, 0, '-'), 19, 0, '-'), 24, 0, '-')), '","price":', TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM price)),
    ',"expiration_date":"', expiration_date, '"}') FROM promotions"#;

impl Running {
    /// Carries an order out; an updater that is told of another one at work is asked again for a while.
    pub(crate) fn carry_out(&self, order: &Order) -> Answer {
        let deadline = Instant::now() + BUSY_MAX;
        loop {
            let answer = self.try_order(order);
            let is_busy = answer.as_ref().is_ok_and(|answer| answer.status == 409);
            if !is_busy || Instant::now() > deadline {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Carries an order out, if it can be done at once.
    pub(crate) fn try_order(&self, order: &Order) -> Answer {
        match order {
            Order::Load(edition) => self.send("PUT", "/datasets/promotions", edition.csv.as_bytes()),
            Order::Activate(version) => {
                self.send("POST", &format!("/datasets/promotions/versions/{version}/activate"), b"")
            }
        }
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let send = || {
            let mut stream = http::connect(self.port)?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            let length = body.len().to_string();
            let head = http::head(method, path, self.port, &[("content-length", &length)]);
            stream.write_all(&[head.as_bytes(), body].concat())?;
            http::read_response(&mut BufReader::new(stream), false)
        };
        send().map_err(|error: std::io::Error| error.to_string())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let request = http::head("GET", path, self.port, &[]);
        http::try_request(self.port, request.as_bytes()).map_err(|error| error.to_string())
    }

    pub(crate) fn listing(&self) -> Result<Listing, String> {
        Listing::read(self.port)
    }

    /// What an api answers for a row: the version and the edition; the answer where it is no row that was sent.
    pub(crate) fn look_up(&self, editions: &Editions, key: usize) -> Result<(u32, u32), String> {
        let answer = self.get(&format!("/promotions/{}", editions.id(key)))?;
        let version = answer.header("x-dataset-version").and_then(|version| version.parse().ok());
        let row = editions.of_body(&answer.text()).filter(|(_, found)| *found == key);
        match (answer.status, version, row) {
            (200, Some(version), Some((edition, _))) => Ok((version, edition)),
            _ => Err(told(&Ok(answer))),
        }
    }
}

/// An answer in one line.
pub(crate) fn told(answer: &Answer) -> String {
    match answer {
        Ok(answer) => format!("{} {}", answer.status, answer.text()),
        Err(error) => format!("no answer ({error})"),
    }
}

pub(crate) fn status(answer: &Answer) -> u16 {
    answer.as_ref().map_or(0, |answer| answer.status)
}

pub(crate) fn body(answer: &Answer) -> Json {
    answer.as_ref().ok().and_then(|answer| serde_json::from_slice(&answer.body).ok()).unwrap_or_default()
}

/// Waits for something that must come; false when the time is up.
pub(crate) fn comes(limit: Duration, holds: impl Fn() -> bool) -> bool {
    testkit::wait_for(limit, || holds().then_some(())).is_some()
}
