//! A store of its own for each test, and rows to put into it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dataset::{Dataset, Datasets, RowBatch, Schema, Value};
use prometheus::Registry;
use store::{
    AnswerBudget, AnswerBytes, Counts, Lookup, Metrics, NewVersion, Outcome, Published, Reader, Settings,
    Staging, State, Store,
};
use testkit::{Database, MariaDb};
use tokio::sync::mpsc;

pub(crate) const ITEMS: &str = r#"
    [items]
    key = "code"
    columns = [
      { name = "code", type = "text", max = 12 },
      { name = "stock", type = "integer" },
      { name = "until", type = "date", optional = true },
    ]"#;

static FILES: AtomicU64 = AtomicU64::new(1);

/// Room for an answer of any size.
pub(crate) fn unlimited() -> Arc<AnswerBytes> {
    AnswerBudget::new(usize::MAX, usize::MAX).begin()
}

/// A store, and what keeps it alive.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) dataset: Arc<Dataset>,
    dir: Option<tempfile::TempDir>,
    pub(crate) database: Option<Database>,
}

pub(crate) fn dataset(toml: &str) -> Arc<Dataset> {
    Datasets::from_toml(toml).unwrap().single().unwrap().clone()
}

pub(crate) fn open(url: &str) -> Store {
    open_with(&Settings { url: url.parse().unwrap(), ..Settings::default() })
}

pub(crate) fn open_with(settings: &Settings) -> Store {
    Store::open(settings, &Metrics::new().unwrap()).unwrap()
}

impl Fixture {
    pub(crate) fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&format!("embedded:{}", dir.path().display()));
        Self { store, dataset: dataset(ITEMS), dir: Some(dir), database: None }
    }

    /// Another dataset in the same directory.
    pub(crate) fn beside(other: &Self, toml: &str) -> Self {
        Self { store: other.store.clone(), dataset: dataset(toml), dir: None, database: None }
    }

    pub(crate) fn mariadb() -> Self {
        Self::on(MariaDb::shared())
    }

    pub(crate) fn on(server: &MariaDb) -> Self {
        Self::in_database(server.database())
    }

    pub(crate) fn in_database(database: Database) -> Self {
        let store = open(&database.url());
        Self { store, dataset: dataset(ITEMS), dir: None, database: Some(database) }
    }

    /// With settings of a test's own.
    pub(crate) fn of(settings: &Settings, database: Database) -> Self {
        Self { store: open_with(settings), dataset: dataset(ITEMS), dir: None, database: Some(database) }
    }

    pub(crate) fn with(self, toml: &str) -> Self {
        Self { dataset: dataset(toml), ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.dataset.name
    }

    /// Where the files of the dataset are, in an embedded store.
    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.as_ref().unwrap().path().join(self.name())
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn new_version(&self) -> NewVersion {
        NewVersion {
            schema: self.dataset.schema.clone(),
            definition_hash: self.dataset.definition_hash(),
            // Each file of a test has content of its own.
            sha256: format!("{:064x}", FILES.fetch_add(1, Ordering::Relaxed)),
            bytes: 10,
            rows: 1,
            source: "a test".into(),
            forced: false,
            keep_versions: self.dataset.keep_versions,
        }
    }

    /// Starts a version with these rows.
    pub(crate) async fn stage(&self, rows: &[&str]) -> Staging {
        let publisher = self.store.publisher(&self.dataset).await.unwrap();
        let mut staging = publisher.stage(self.new_version()).await.unwrap();
        fill(&mut staging, batch(&self.dataset.schema, rows)).await.unwrap();
        staging
    }

    /// Publishes a version of these rows.
    pub(crate) async fn publish(&self, rows: &[&str]) -> Published {
        let staging = self.stage(rows).await;
        staging.verify(counts(rows.len())).await.unwrap().publish(|| true).await.unwrap()
    }

    /// Publishes a version whose file had these bytes.
    pub(crate) async fn publish_as(&self, sha256: &str, rows: &[&str]) -> Published {
        let publisher = self.store.publisher(&self.dataset).await.unwrap();
        let new = NewVersion { sha256: sha256.to_owned(), ..self.new_version() };
        let mut staging = publisher.stage(new).await.unwrap();
        fill(&mut staging, batch(&self.dataset.schema, rows)).await.unwrap();
        staging.verify(counts(rows.len())).await.unwrap().publish(|| true).await.unwrap()
    }

    /// Each version with its state, newest first.
    pub(crate) async fn states(&self) -> Vec<(u32, State)> {
        let versions = self.store.versions(self.name()).await.unwrap();
        versions.iter().map(|entry| (entry.version, entry.state)).collect()
    }

    /// The version of an answer, and the rows in it, each as JSON or `-`.
    pub(crate) async fn ask(&self, reader: &Reader, keys: &[&str]) -> String {
        let found = reader.look_up(self.name(), keys, &unlimited()).await.unwrap().unwrap();
        if let [key] = keys {
            let one = one(reader, self.name(), key).await.unwrap().unwrap();
            assert_eq!((one.version, &one.row), (found.version, &found.rows[0]), "asked for alone");
        }
        let text = |row: Option<Bytes>| row.map_or("-".into(), |row| String::from_utf8(row.into()).unwrap());
        let rows: Vec<String> = found.rows.into_iter().map(text).collect();
        format!("v{}: {}", found.version.number, rows.join(" "))
    }

    /// A reader that knows the store, and the registry in which its metrics are.
    pub(crate) async fn measured_reader(&self) -> (Reader, Registry) {
        let url = match &self.database {
            Some(database) => database.url(),
            None => format!("embedded:{}", self.dir.as_ref().unwrap().path().display()),
        };
        let (settings, registry) =
            (Settings { url: url.parse().unwrap(), ..Settings::default() }, Registry::new());
        let reader = Store::open(&settings, &Metrics::of(&registry).unwrap()).unwrap().reader();
        until(|| reader.check().is_ok()).await;
        (reader, registry)
    }

    /// A reader that knows the store.
    pub(crate) async fn reader(&self) -> Reader {
        let reader = self.store.reader();
        until(|| reader.check().is_ok()).await;
        reader
    }
}

/// Puts rows into staging, as one range.
pub(crate) async fn fill(staging: &mut Staging, batch: RowBatch) -> store::Result<()> {
    let (sender, rows) = mpsc::channel(1);
    sender.send(batch).await.unwrap();
    drop(sender);
    staging.fill(vec![rows]).await
}

/// Looks one key up, by itself.
pub(crate) async fn one(reader: &Reader, dataset: &str, key: &str) -> Outcome {
    match reader.get(dataset, key) {
        Lookup::Ready(outcome) => outcome,
        Lookup::Pending(outcome) => outcome.await,
    }
}

/// Waits for something that must come.
pub(crate) async fn until(come: impl Fn() -> bool) {
    for _ in 0..3000 {
        if come() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it did not come within 30 seconds");
}

pub(crate) fn counts(rows: usize) -> Counts {
    Counts { rows: rows as u64, rejected: 0, duplicates: 0 }
}

/// Rows written as fields between semicolons, in key order.
pub(crate) fn batch(schema: &Schema, rows: &[&str]) -> RowBatch {
    let encode = |row: &&str| {
        let fields: Vec<_> = row.split(';').collect();
        let columns = schema.columns().iter().zip(fields);
        let values: Vec<Value<'_>> = columns.map(|(column, text)| column.parse(text).unwrap()).collect();
        let (mut key, mut rest) = (Vec::new(), Vec::new());
        schema.encode_key(&values, &mut key);
        schema.encode_payload(&values, &mut rest);
        (key, rest)
    };
    let mut encoded: Vec<_> = rows.iter().map(encode).collect();
    encoded.sort();
    let mut batch = RowBatch::default();
    for (key, rest) in encoded {
        batch.push(&key, &rest);
    }
    batch
}
