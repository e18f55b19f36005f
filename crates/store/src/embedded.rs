//! The embedded store: files of this machine, no server beside it.
//!
//! A directory for each dataset holds one immutable LMDB file for each version (`v42.lmdb`) and `catalog.json`, which
//! says which is live and remembers the others. Replacing the catalog by a rename is the swap. A lock on the directory
//! makes one publisher among all processes of this machine. Readers, in this process or in others, watch the catalog.

mod block;
mod catalog;
mod directory;
mod disk;
mod index;
mod pages;
mod publisher;
mod read;
mod reservation;
mod room;
mod snapshot;
mod warm;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dataset::Dataset;

use crate::ledger::Ledger;
use crate::publisher::LiveRows;
use crate::version::NewLoad;
use crate::{Entry, Error, Metrics, Result};
use catalog::Catalog;
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
    pub(crate) fn open(root: &Path, metrics: &Metrics) -> Result<Arc<Self>> {
        let explain = |error| Error::Setup(format!("cannot use the directory {}: {error}", root.display()));
        fs::create_dir_all(root).map_err(explain)?;
        // Its own name must survive a power cut, too.
        root.canonicalize().map_err(explain)?.parent().map_or(Ok(()), catalog::sync_dir)?;
        let root = root.canonicalize().map_err(explain)?;
        let snapshots = Arc::new(Snapshots::new(root.clone()));
        Ok(Arc::new(Self { root, snapshots, metrics: metrics.clone() }))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn check(&self) -> Result<()> {
        fs::read_dir(&self.root).map(drop).map_err(|error| Error::Unavailable(error.into()))
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
        let snapshot = self.snapshots.get(dataset, live.version)?;
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

    pub(crate) fn reader(&self) -> Arc<Reader> {
        Reader::start(self.root.clone(), self.snapshots.clone(), self.metrics.clone())
    }
}
