//! An updater in a runtime of its own, on either store.

use std::path::PathBuf;
use std::thread::JoinHandle;

use serde_json::Value as Json;
use testkit::http::{self, Response};
use testkit::{Database, MariaDb};
use tokio_util::sync::CancellationToken;
use updater::{App, Config, Settings};

/// A small dataset with a column of several types.
pub(crate) const ITEMS: &str = r#"
    [items]
    key = "code"
    columns = [
      { name = "code", type = "text", max = 12 },
      { name = "price", type = "decimal", precision = 12, scale = 6 },
      { name = "until", type = "timestamp", input = "%Y-%m-%d %H:%M:%S %z %Z", optional = true },
    ]"#;

/// Where its versions live.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Backend {
    Embedded,
    Mariadb,
}

pub(crate) const BACKENDS: [Backend; 2] = [Backend::Embedded, Backend::Mariadb];

/// A running updater, which is stopped when it is dropped.
pub(crate) struct Updater {
    pub(crate) port: u16,
    pub(crate) dir: PathBuf,
    pub(crate) database: Option<Database>,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Updater {
    /// Starts one for the dataset `items`.
    pub(crate) fn start(backend: Backend) -> Self {
        Self::with(backend, ITEMS, |_| {})
    }

    pub(crate) fn with(backend: Backend, toml: &str, set: impl FnOnce(&mut Settings)) -> Self {
        let database = match backend {
            Backend::Embedded => None,
            Backend::Mariadb => Some(MariaDb::shared().database()),
        };
        Self::on(database.as_ref().map(Database::url), database, toml, set)
    }

    /// Starts one on a database that is reached by that URL, or on files.
    pub(crate) fn on(
        url: Option<String>,
        database: Option<Database>,
        toml: &str,
        set: impl FnOnce(&mut Settings),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let datasets = dir.path().join("datasets.toml");
        std::fs::write(&datasets, toml).unwrap();
        let mut settings = Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            datasets: Some(datasets),
            work_dir: dir.path().join("work"),
            ..Settings::default()
        };
        set(&mut settings);
        let url = url.unwrap_or_else(|| format!("embedded:{}", dir.path().join("store").display()));
        let shutdown = CancellationToken::new();
        let (sender, receiver) = std::sync::mpsc::channel();
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let app = build(settings, &url);
                sender.send(app.address().port()).unwrap();
                app.run(stop).await.unwrap();
            });
        });
        let port = receiver.recv().unwrap();
        Self { port, dir: dir.path().into(), database, shutdown, thread: Some(thread), _dir: dir }
    }

    /// Uploads a file as a raw body.
    pub(crate) fn put(&self, file: impl AsRef<[u8]>) -> Response {
        self.put_with("", file)
    }

    pub(crate) fn put_with(&self, query: &str, file: impl AsRef<[u8]>) -> Response {
        http::put(self.port, &format!("/datasets/items{query}"), &[], file.as_ref())
    }

    /// Uploads a file as the field of a form.
    pub(crate) fn post(&self, field: &str, file: &[u8]) -> Response {
        let (content_type, body) = http::multipart(field, "items.csv", file);
        http::post(self.port, "/upload", &[("content-type", &content_type)], &body)
    }

    pub(crate) fn get(&self, path: &str) -> Json {
        json(&http::get(self.port, path))
    }

    /// Each version with its state, newest first.
    pub(crate) fn versions(&self) -> String {
        let listed = self.get("/datasets/items/versions");
        let versions = listed["versions"].as_array().unwrap().iter();
        versions.map(|entry| format!("{}:{} ", entry["version"], entry["state"].as_str().unwrap())).collect()
    }

    /// Stops it and waits until it has stopped.
    pub(crate) fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn build(settings: Settings, url: &str) -> App {
    let registry = service::registry().unwrap();
    let store = store::Settings { url: url.parse().unwrap(), ..store::Settings::default() };
    let store = store::Store::open(&store, &store::Metrics::new().unwrap()).unwrap();
    App::build(Config { settings, store, registry, traces: service::Traces::default() }).unwrap()
}

impl Drop for Updater {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was seen where it happened.
            let _ = thread.join();
        }
    }
}

pub(crate) fn json(response: &Response) -> Json {
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.text()))
}

/// The body of an answer without what differs from run to run.
pub(crate) fn stable(response: &Response) -> String {
    let mut body = json(response);
    for name in ["load", "seconds", "sha256", "report"] {
        if let Some(value) = body.get_mut(name) {
            *value = Json::from("...");
        }
    }
    body.to_string()
}
