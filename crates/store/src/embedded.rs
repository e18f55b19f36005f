//! The embedded store: files of this machine, no server beside it.
//!
//! A directory for each dataset holds one immutable LMDB file for each version (`v42.lmdb`) and `catalog.json`, which
//! says which is live and remembers the others. Replacing the catalog by a rename is the swap. A lock on the directory
//! makes one publisher among all processes of this machine. Readers, in this process or in others, watch the catalog.

mod block;
mod catalog;
mod checksum;
mod directory;
mod file_system;
mod index;
mod pages;
mod publisher;
mod read;
mod reservation;
mod room;
mod snapshot;
mod warm;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dataset::Dataset;

use crate::ledger::Ledger;
use crate::publisher::LiveRows;
use crate::version::NewLoad;
use crate::{Entry, Error, Metrics, Result};
use catalog::{Catalog, FileFacts};
pub use publisher::{Publisher, Staged, Staging};
pub use read::Reader;
use reservation::Place;
pub use reservation::Reservation;
use snapshot::Snapshots;
use tokio::sync::mpsc;

/// How large the batches are in which the live rows are given out.
const SCAN_BYTES: usize = 256 << 10;
/// Long enough for a publisher that has just answered to give its lock back.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// All datasets in one directory.
#[derive(Debug)]
pub struct Embedded {
    root: PathBuf,
    snapshots: Arc<Snapshots>,
    metrics: Metrics,
}

impl Embedded {
    pub(crate) fn open(root: &Path, allow_network: bool, metrics: &Metrics) -> Result<Arc<Self>> {
        let explain = |error| Error::Setup(format!("cannot use the directory {}: {error}", root.display()));
        // It is made by the first load, so that a start that is refused leaves nothing behind.
        let root = match root.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::path::absolute(root).map_err(explain)?
            }
            root => root.map_err(explain)?,
        };
        file_system::check(&root, allow_network)?;
        let snapshots = Arc::new(Snapshots::new(root.clone()));
        Ok(Arc::new(Self { root, snapshots, metrics: metrics.clone() }))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn check(&self) -> Result<()> {
        match fs::read_dir(&self.root) {
            // Nothing was loaded yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            read => read.map(drop).map_err(|error| Error::Unavailable(error.into())),
        }
    }

    fn place(&self, dataset: &Arc<Dataset>) -> Place {
        Place {
            dir: self.root.join(&dataset.name),
            dataset: dataset.clone(),
            snapshots: self.snapshots.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Whether the dataset has a directory.
    pub(crate) fn has(&self, dataset: &str) -> bool {
        self.root.join(dataset).exists()
    }

    pub(crate) async fn reserve(&self, dataset: &Arc<Dataset>, load: NewLoad) -> Result<Reservation> {
        let place = self.place(dataset);
        tokio::task::spawn_blocking(move || Reservation::make(place, &load)).await?
    }

    pub(crate) async fn publisher(&self, dataset: &Arc<Dataset>) -> Result<Publisher> {
        let place = self.place(dataset);
        let directory = place.lock(LOCK_WAIT, || true).await?;
        tokio::task::spawn_blocking(move || Publisher::recover(place, directory, None)).await?
    }

    pub(crate) fn versions(&self, dataset: &str) -> Result<Vec<Entry>> {
        let dir = self.root.join(dataset);
        let catalog = Catalog::read(&dir)?.unwrap_or_default();
        let mut ledger = Ledger::new(catalog.versions);
        for entry in reservation::receiving(&dir) {
            ledger.add_unstaged(entry);
        }
        Ok(ledger.into_newest_first())
    }

    pub(crate) fn live_rows(&self, dataset: &str) -> Result<Option<(Entry, LiveRows)>> {
        let catalog = Catalog::read(&self.root.join(dataset))?.unwrap_or_default();
        let Some(live) = catalog.live_entry().cloned() else { return Ok(None) };
        let snapshot = self.snapshots.open(dataset, &live, &catalog)?;
        let (sender, receiver) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            let scanned = snapshot.scan(SCAN_BYTES, |batch| sender.blocking_send(Ok(batch)).is_ok());
            if let Err(error) = scanned {
                // The receiver may be gone.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(Some((live, receiver)))
    }

    /// Reads the files of all versions of a dataset that are there, in no hurry, and says what it found. A kept version that
    /// is damaged is marked, so that nobody goes back to it.
    pub(crate) async fn scrub(&self, dataset: &Arc<Dataset>, stop: Arc<AtomicBool>) -> Result<Vec<Error>> {
        let dir = self.root.join(&dataset.name);
        let damaged = tokio::task::spawn_blocking(move || scrub(&dir, &stop)).await??;
        let gauge = self.metrics.damaged_versions.with_label_values(&[&dataset.name]);
        gauge.set(i64::try_from(damaged.len()).unwrap_or(i64::MAX));
        if !damaged.is_empty()
            && let Ok(mut publisher) = self.publisher(dataset).await
        {
            for (version, facts, why) in &damaged {
                publisher.mark_scrubbed(*version, *facts, why)?;
            }
        }
        let error = |(version, _, why)| Error::Damaged { dataset: dataset.name.clone(), version, why };
        Ok(damaged.into_iter().map(error).collect())
    }

    pub(crate) fn reader(&self) -> Arc<Reader> {
        Reader::start(self.root.clone(), self.snapshots.clone(), self.metrics.clone())
    }
}

/// The versions whose files are not what was written, each with what its file was and the reason.
fn scrub(dir: &Path, stop: &AtomicBool) -> Result<Vec<(u32, FileFacts, String)>> {
    let catalog = Catalog::read(dir)?.unwrap_or_default();
    let mut damaged = Vec::new();
    for (version, facts) in catalog.files {
        let go_on = || !stop.load(Ordering::Relaxed);
        let why = match checksum::scrub_damage(&snapshot::path(dir, version), facts, &go_on) {
            // It was pruned meanwhile, or somebody removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_there = Catalog::read(dir)?.is_some_and(|now| now.files.contains_key(&version));
                is_there.then(|| "its file is gone".to_owned())
            }
            // A sector that cannot be read is damage like any other.
            Err(error) => Some(format!("its file cannot be read: {error}")),
            Ok(why) => why,
        };
        damaged.extend(why.map(|why| (version, facts, why)));
    }
    Ok(damaged)
}
