//! The embedded store: files of this machine, no server beside it.
//!
//! A directory for each dataset holds one immutable LMDB file for each version (`v42.lmdb`) and `catalog.json`, which
//! says which is live and remembers the others. Replacing the catalog by a rename is the swap. A lock on a file makes
//! one publisher among all processes. Readers, in this process or in others, watch the catalog.

mod block;
mod catalog;
mod disk;
mod draft;
mod index;
mod pages;
mod publish;
mod read;
mod room;
mod snapshot;
mod warm;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ledger::Ledger;
use crate::{Entry, Error, Metrics, Result};
use catalog::Catalog;
pub use draft::Draft;
pub use publish::{Publisher, Staged, Staging};
pub use read::Reader;
use snapshot::Snapshots;

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

    pub(crate) async fn publisher(&self, dataset: &str) -> Result<Publisher> {
        let (dir, dataset) = (self.root.join(dataset), dataset.to_owned());
        let (snapshots, metrics) = (self.snapshots.clone(), self.metrics.clone());
        tokio::task::spawn_blocking(move || Publisher::lock(dir, dataset, snapshots, metrics)).await?
    }

    pub(crate) fn versions(&self, dataset: &str) -> Result<Vec<Entry>> {
        let catalog = Catalog::read(&self.root.join(dataset))?.unwrap_or_default();
        Ok(Ledger::new(catalog.versions).into_newest_first())
    }

    pub(crate) fn reader(&self) -> Arc<Reader> {
        Reader::start(self.root.clone(), self.snapshots.clone(), self.metrics.clone())
    }
}
