//! Publishing in the embedded store: write a file that nobody reads, then replace the catalog.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::warn;

use super::catalog::{Catalog, sync_dir};
use super::draft::{self, Draft};
use super::snapshot::{self, Snapshots, Writer};
use crate::ledger::{Counts, Entry, Ledger, NewVersion};
use crate::publisher::{LiveRows, Rows, same_count};
use crate::{Error, FOLLOW_MS, Metrics, Published, Result};

/// So many entries are remembered; the catalog is read and written as a whole.
const ENTRIES_MAX: usize = 200;
/// How large the batches are in which the live rows are given out.
const SCAN_BYTES: usize = 256 << 10;

/// Holds the lock of a dataset.
#[derive(Debug)]
pub struct Publisher {
    dir: PathBuf,
    dataset: String,
    snapshots: Arc<Snapshots>,
    metrics: Metrics,
    ledger: Ledger,
    live: Option<u32>,
    /// Unlocked when it is closed, by the kernel if need be.
    _lock: File,
}

impl Publisher {
    pub(super) fn lock(
        dir: PathBuf,
        dataset: String,
        snapshots: Arc<Snapshots>,
        metrics: Metrics,
    ) -> Result<Self> {
        if !dir.exists() {
            fs::create_dir_all(&dir)?;
            // Its name must survive a power cut as what is in it does.
            dir.parent().map_or(Ok(()), sync_dir)?;
        }
        let lock = File::options().create(true).append(true).open(dir.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { dataset }),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let catalog = Catalog::read(&dir)?;
        if catalog.is_none() && snapshot::any(&dir)? {
            return Err(Error::corrupt(format!(
                "{} has versions, but no catalog that names them",
                dir.display()
            )));
        }
        let catalog = catalog.unwrap_or_default();
        let (live, ledger) = (catalog.live, Ledger::new(catalog.versions));
        let mut publisher = Self { dir, dataset, snapshots, metrics, ledger, live, _lock: lock };
        publisher.mend()?;
        Ok(publisher)
    }

    /// Puts the ledger right and removes files that no version needs any more.
    fn mend(&mut self) -> Result<()> {
        let files: Vec<_> = fs::read_dir(&self.dir)?.collect::<std::io::Result<_>>()?;
        let names: Vec<_> = files.iter().filter_map(|file| file.file_name().into_string().ok()).collect();
        let present: Vec<_> = names.iter().filter_map(|name| snapshot::version_of(name)).collect();
        self.ledger.reconcile(self.live, &present);
        for name in names {
            let version = snapshot::version_of(&name);
            let swept =
                version.is_some_and(|version| Some(version) != self.live && !self.ledger.stays(version));
            if swept || name.starts_with(STAGING) {
                fs::remove_file(self.dir.join(name))?;
            }
        }
        if self.ledger.take_changed().is_empty() { Ok(()) } else { self.write_catalog() }
    }

    pub(crate) fn live(&self) -> Option<&Entry> {
        self.ledger.live()
    }

    pub(crate) fn live_rows(&self) -> Result<LiveRows> {
        let (sender, receiver) = mpsc::channel(2);
        let Some(version) = self.live else { return Ok(receiver) };
        let snapshot = self.snapshots.get(&self.dataset, version)?;
        tokio::task::spawn_blocking(move || {
            let scanned = snapshot.scan(SCAN_BYTES, |batch| sender.blocking_send(Ok(batch)).is_ok());
            if let Err(error) = scanned {
                // Nobody waits for an error any more if nobody takes it.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(receiver)
    }

    pub(crate) async fn draft(&self) -> Result<Draft> {
        Draft::create(self.dir.join(DRAFT)).await
    }

    pub(crate) async fn stage(self, new: NewVersion) -> Result<Staging> {
        self.begin(new, Writer::create).await
    }

    pub(crate) async fn stage_draft(self, new: NewVersion, draft: Draft) -> Result<Staging> {
        self.begin(new, |path| draft.keep_as(path)).await
    }

    /// Enters a new version, whose file is opened by `open`.
    async fn begin(
        mut self,
        new: NewVersion,
        open: impl FnOnce(&Path) -> Result<Writer> + Send + 'static,
    ) -> Result<Staging> {
        let keep_versions = new.keep_versions;
        tokio::task::spawn_blocking(move || {
            let version = self.ledger.begin(new);
            self.write_catalog()?;
            match open(&staging_path(&self.dir, version)) {
                Ok(writer) => {
                    Ok(Staging { publisher: self, version, keep_versions, writer: Arc::new(writer) })
                }
                Err(error) => {
                    self.give_up(version, &error.to_string());
                    Err(error)
                }
            }
        })
        .await?
    }

    pub(crate) async fn activate(mut self, version: u32) -> Result<Published> {
        if Some(version) != self.live && !self.ledger.can_activate(version) {
            return Err(Error::NoSuchVersion { dataset: self.dataset, version });
        }
        // A file that cannot be read must not become live.
        self.snapshots.get(&self.dataset, version)?;
        let swapped = tokio::task::spawn_blocking(move || self.swap(version).map(|before| (self, before)));
        let (publisher, before) = swapped.await??;
        tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
        publisher.published(version, before)
    }

    /// The swap: writes a catalog in which `version` is live. Returns which one was before.
    fn swap(&mut self, version: u32) -> Result<Option<u32>> {
        let start = Instant::now();
        let (before, ledger) = (self.live, self.ledger.clone());
        self.live = Some(version);
        self.ledger.announce(version);
        self.ledger.swapped(version);
        if let Err(error) = self.write_catalog() {
            // The rename may have happened all the same: what the catalog says is what readers see.
            if self.live_on_disk().ok().flatten() != Some(version) {
                (self.live, self.ledger) = (before, ledger);
                return Err(error);
            }
            warn!(dataset = self.dataset, version, %error, "the swap is done, but may not survive a power cut");
        }
        self.metrics.swap_seconds.observe(start.elapsed().as_secs_f64());
        Ok(before)
    }

    fn published(&self, version: u32, before: Option<u32>) -> Result<Published> {
        let live = self.ledger.get(version).cloned();
        Ok(Published {
            live: live.ok_or_else(|| Error::corrupt("the catalog forgot the live version"))?,
            before,
        })
    }

    fn write_catalog(&mut self) -> Result<()> {
        self.ledger.forget(ENTRIES_MAX);
        self.ledger.take_changed();
        Catalog::new(self.live, self.ledger.entries().to_vec()).write(&self.dir)
    }

    fn live_on_disk(&self) -> Result<Option<u32>> {
        Ok(Catalog::read(&self.dir)?.and_then(|catalog| catalog.live))
    }

    /// Enters that a version failed and removes its files. What cannot be done now is done by the next publisher.
    fn give_up(&mut self, version: u32, reason: &str) {
        // Whatever went wrong, what readers may be looking at is not touched.
        match self.live_on_disk() {
            Ok(live) if live == self.live && live != Some(version) => {}
            _ => {
                return warn!(
                    dataset = self.dataset,
                    version, "the catalog is not as expected, nothing is removed"
                );
            }
        }
        self.ledger.failed(version, reason);
        let written = self.write_catalog();
        let paths = [staging_path(&self.dir, version), snapshot::path(&self.dir, version)];
        let removed = paths.into_iter().filter(|path| path.exists()).try_for_each(fs::remove_file);
        if let Err(error) = written.and(removed.map_err(Error::from)) {
            warn!(dataset = self.dataset, version, %error, "left-overs of a failed version stay until the next load");
        }
    }

    /// Drops versions that no longer stay. Readers that have them open keep them until they are done.
    fn retain(&mut self, keep_versions: u32) -> Result<()> {
        for version in self.ledger.expired(keep_versions) {
            self.ledger.dropped(version);
            self.write_catalog()?;
            fs::remove_file(snapshot::path(&self.dir, version))?;
        }
        Ok(())
    }
}

const STAGING: &str = "staging-";
const DRAFT: &str = "staging-draft.lmdb";

fn staging_path(dir: &Path, version: u32) -> PathBuf {
    dir.join(format!("{STAGING}v{version}.lmdb"))
}

/// A version whose file is being written.
#[derive(Debug)]
pub struct Staging {
    publisher: Publisher,
    version: u32,
    keep_versions: u32,
    writer: Arc<Writer>,
}

impl Staging {
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) async fn fill(&mut self, ranges: Vec<Rows>) -> Result<()> {
        for rows in ranges {
            draft::append(&self.writer, rows).await?;
        }
        Ok(())
    }

    pub(crate) async fn verify(self, counts: Counts) -> Result<Staged> {
        let Self { mut publisher, version, keep_versions, writer } = self;
        tokio::task::spawn_blocking(move || {
            let staged = sole(writer).and_then(Writer::finish).and_then(|rows| same_count(counts.rows, rows));
            let entered = staged.and_then(|()| {
                publisher.ledger.staged(version, counts);
                publisher.write_catalog()
            });
            match entered {
                Ok(()) => Ok(Staged { publisher, version, keep_versions }),
                Err(error) => {
                    publisher.give_up(version, &error.to_string());
                    Err(error)
                }
            }
        })
        .await?
    }

    pub(crate) async fn abort(self, reason: &str) -> Result<()> {
        let (mut publisher, version, reason) = (self.publisher, self.version, reason.to_owned());
        let writer = self.writer;
        tokio::task::spawn_blocking(move || {
            // An append whose caller went away may still be at work; its file goes all the same.
            if let Ok(writer) = sole(writer) {
                writer.close();
            }
            publisher.give_up(version, &reason);
        })
        .await?;
        Ok(())
    }
}

pub(super) fn sole(writer: Arc<Writer>) -> Result<Writer> {
    Arc::try_unwrap(writer).map_err(|_| Error::corrupt("rows are still being added"))
}

/// A version whose file is whole.
#[derive(Debug)]
pub struct Staged {
    publisher: Publisher,
    version: u32,
    keep_versions: u32,
}

impl Staged {
    pub(crate) async fn publish(self) -> Result<Published> {
        let Self { mut publisher, version, keep_versions } = self;
        let (publisher, before) = tokio::task::spawn_blocking(move || {
            match publisher.put_in_place(version).and_then(|()| publisher.swap(version)) {
                Ok(before) => Ok((publisher, before)),
                Err(error) => {
                    publisher.give_up(version, &error.to_string());
                    Err(error)
                }
            }
        })
        .await??;
        tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
        tokio::task::spawn_blocking(move || {
            let mut publisher = publisher;
            if let Err(error) = publisher.retain(keep_versions) {
                warn!(dataset = publisher.dataset, %error, "an old version stays until the next load");
            }
            publisher.published(version, before)
        })
        .await?
    }

    pub(crate) async fn abort(self, reason: &str) -> Result<()> {
        let (mut publisher, version, reason) = (self.publisher, self.version, reason.to_owned());
        Ok(tokio::task::spawn_blocking(move || publisher.give_up(version, &reason)).await?)
    }
}

impl Publisher {
    /// Gives the finished file its final name, on disk.
    fn put_in_place(&self, version: u32) -> Result<()> {
        let staging = staging_path(&self.dir, version);
        snapshot::sync(&staging)?;
        fs::rename(staging, snapshot::path(&self.dir, version))?;
        sync_dir(&self.dir)
    }
}
