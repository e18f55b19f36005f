//! An api in a runtime of its own, on either store, and a publisher beside it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use api::{App, Config, Settings};
use dataset::{Datasets, RowBatch, Value};
use store::{Counts, Metrics, NewVersion, Store};
use testkit::http::{self, Response};
use testkit::{Database, MariaDb};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub(crate) const ITEMS: &str = r#"
    [items]
    key = "code"
    columns = [{ name = "code", type = "text", max = 12 }, { name = "stock", type = "integer" }]"#;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Backend {
    Embedded,
    Mariadb,
}

pub(crate) const BACKENDS: [Backend; 2] = [Backend::Embedded, Backend::Mariadb];

static FILES: AtomicU64 = AtomicU64::new(1);

/// A running api, which is stopped when it is dropped.
pub(crate) struct Api {
    pub(crate) port: u16,
    store: Store,
    runtime: Runtime,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Api {
    pub(crate) fn start(backend: Backend) -> Self {
        match backend {
            Backend::Embedded => Self::on(None, None),
            Backend::Mariadb => {
                let database = MariaDb::shared().database();
                Self::on(Some(&database), Some(database.reader_url()))
            }
        }
    }

    /// Starts one that reads by that URL what is published to the database, or to files.
    pub(crate) fn on(database: Option<&Database>, reader_url: Option<String>) -> Self {
        Self::with(database, reader_url, Settings::default())
    }

    /// The same with settings of its own.
    pub(crate) fn with(database: Option<&Database>, reader_url: Option<String>, settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = format!("embedded:{}", dir.path().display());
        let store = open(&database.map_or_else(|| files.clone(), Database::url));
        // LMDB forbids to open a file twice in one process; across processes it is the command line's tests that look.
        let read = reader_url.map_or_else(|| store.clone(), |url| open(&url));
        let shutdown = CancellationToken::new();
        let (sender, receiver) = std::sync::mpsc::channel();
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let listen = (settings.listen.ip(), 0).into();
                let settings = Settings { listen, ..settings };
                let registry = service::registry().unwrap();
                let app = App::build(Config {
                    settings,
                    store: read,
                    registry,
                    traces: service::Traces::default(),
                })
                .unwrap();
                sender.send(app.address().port()).unwrap();
                app.run(stop).await.unwrap();
            });
        });
        let port = receiver.recv().unwrap();
        Self { port, store, runtime: runtime(), shutdown, thread: Some(thread), _dir: dir }
    }

    /// Publishes rows, each written as fields between semicolons and in key order.
    pub(crate) fn publish(&self, toml: &str, rows: &[&str]) -> u32 {
        let dataset = Datasets::from_toml(toml).unwrap().single().unwrap().clone();
        let mut batch = RowBatch::default();
        for row in rows {
            let columns = dataset.schema.columns().iter().zip(row.split(';'));
            let values: Vec<Value<'_>> = columns.map(|(column, text)| column.parse(text).unwrap()).collect();
            let (mut key, mut rest) = (Vec::new(), Vec::new());
            dataset.schema.encode_key(&values, &mut key);
            dataset.schema.encode_payload(&values, &mut rest);
            batch.push(&key, &rest);
        }
        let new = NewVersion {
            schema: dataset.schema.clone(),
            definition_hash: dataset.definition_hash(),
            // Each file of a test has content of its own.
            sha256: format!("{:064x}", FILES.fetch_add(1, Ordering::Relaxed)),
            bytes: 1,
            rows: rows.len() as u64,
            source: "a test".into(),
            forced: false,
            keep_versions: 2,
        };
        let counts = Counts { rows: rows.len() as u64, rejected: 0, duplicates: 0 };
        self.runtime.block_on(async {
            let mut staging = self.store.publisher(&dataset).await.unwrap().stage(new).await.unwrap();
            let (sender, all) = tokio::sync::mpsc::channel(1);
            sender.send(batch).await.unwrap();
            drop(sender);
            staging.fill(vec![all]).await.unwrap();
            staging.verify(counts).await.unwrap().publish(|| true).await.unwrap().live.version
        })
    }

    pub(crate) fn activate(&self, toml: &str, version: u32) {
        let dataset = Datasets::from_toml(toml).unwrap().single().unwrap().clone();
        let publisher = self.runtime.block_on(self.store.publisher(&dataset)).unwrap();
        self.runtime.block_on(publisher.activate(version)).unwrap();
    }

    /// The tag of the live version, without its quotes.
    pub(crate) fn etag(&self) -> String {
        self.get("/items/a").header("etag").unwrap().trim_matches('"').to_owned()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        http::get(self.port, path)
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        http::send("GET", self.port, path, headers, b"")
    }

    pub(crate) fn post(&self, path: &str, json: &str) -> Response {
        http::post(self.port, path, &[("content-type", "application/json")], json.as_bytes())
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn open(url: &str) -> Store {
    let settings = store::Settings { url: url.parse().unwrap(), ..store::Settings::default() };
    Store::open(&settings, &Metrics::new().unwrap()).unwrap()
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was seen where it happened.
            let _ = thread.join();
        }
    }
}
