//! Version numbers of loads that have begun and hold no lock yet.
//!
//! A file `v42.load` reserves a number: it can be made only once, and its lock tells whether the load is alive. It holds
//! the ledger entry that the next publisher enters as failed where the load is not.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dataset::Dataset;

use super::catalog::Catalog;
use super::directory::{self, Directory, FILE_MODE};
use super::publisher::Publisher;
use super::snapshot::{self, Snapshots};
use crate::ledger::{Ledger, Reserved};
use crate::publisher::Ending;
use crate::version::NewLoad;
use crate::{Backoff, Entry, Error, LockHolder, Metrics, Result, Retry, State};

/// How long a load that failed waits for the lock, to enter its failure.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// How often the lock is tried while another publisher has it.
const LOCK_BACKOFF: Backoff = Backoff::Constant(Duration::from_millis(50));

/// Where a dataset's versions are, and what publishes them.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) dataset: Arc<Dataset>,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) metrics: Metrics,
}

impl Place {
    /// Tries to lock the directory for a while.
    pub(super) async fn lock(&self, wait: Duration, is_wanted: impl Fn() -> bool) -> Result<Directory> {
        let mut retry = Retry::new(wait, LOCK_BACKOFF);
        loop {
            if let Some(directory) = self.try_lock().await? {
                return Ok(directory);
            }
            let busy = Error::Busy { dataset: self.dataset.name.clone(), holder: None };
            // The holder is looked up once, not in every attempt.
            retry.pause(busy, &is_wanted).await.map_err(|error| match error {
                Error::Busy { dataset, .. } => Error::Busy { dataset, holder: holder(&self.dir) },
                error => error,
            })?;
        }
    }

    async fn try_lock(&self) -> Result<Option<Directory>> {
        let (dir, name) = (self.dir.clone(), self.dataset.name.clone());
        // On a thread that may block, because a disk can hang.
        tokio::task::spawn_blocking(move || Directory::try_lock(&dir, &name)).await?
    }
}

/// Only a publisher writes the catalog, so what it is staging is the holder's.
fn holder(dir: &Path) -> Option<LockHolder> {
    let catalog = Catalog::read(dir).ok()??;
    let is_held = |entry: &&Entry| matches!(entry.state, State::Loading | State::Staged);
    let entry = catalog.versions.iter().rev().find(is_held)?;
    Some(LockHolder { host: entry.host.clone(), load: entry.load.clone() })
}

/// A number that a load reserved.
#[derive(Debug)]
pub struct Reservation {
    place: Place,
    claim: Claim,
    directory: Option<Directory>,
}

/// The file that reserves a number. It is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    version: u32,
    entry: Entry,
    _lock: File,
}

impl Claim {
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn entry(&self) -> Entry {
        self.entry.clone()
    }

    pub(super) fn reserved(&self) -> Reserved {
        Reserved { version: self.version, load: self.entry.load.clone() }
    }

    /// Reserves this number; nothing is returned where another load has it.
    fn make(dir: &Path, version: u32, entry: &Entry) -> Result<Option<Self>> {
        let path = claim_path(dir, version);
        let mut file = match File::options().write(true).create_new(true).mode(FILE_MODE).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            file => file?,
        };
        // A publisher may have seen the file before it was locked, and removed it as that of a crashed load.
        let is_ours = file.try_lock().is_ok() && file.metadata()?.nlink() > 0;
        if !is_ours {
            return Ok(None);
        }
        let claim = Self { path, version, entry: entry.clone(), _lock: file.try_clone()? };
        file.write_all(&serde_json::to_vec(entry).map_err(Error::internal)?)?;
        Ok(Some(claim))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A claim that stays is entered as that of a crashed load.
        let _ = fs::remove_file(&self.path);
    }
}

fn claim_path(dir: &Path, version: u32) -> PathBuf {
    dir.join(format!("v{version}.load"))
}

fn claim_of(name: &str) -> Option<u32> {
    name.strip_prefix('v')?.strip_suffix(".load")?.parse().ok()
}

/// The numbers that are reserved in a directory.
fn claimed(dir: &Path) -> Result<Vec<u32>> {
    let names = fs::read_dir(dir)?.filter_map(|file| file.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| claim_of(&name)).collect())
}

/// The entries of loads that reserved a number and hold no lock.
pub(super) fn receiving(dir: &Path) -> Vec<Entry> {
    let read = |version| {
        let bytes = fs::read(claim_path(dir, version)).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    claimed(dir).unwrap_or_default().into_iter().filter_map(read).collect()
}

/// What a load left that crashed while it received its file. The lock is held until the file is removed, so that nobody
/// else takes it for a claim of his own.
pub(super) struct Crashed {
    pub(super) entry: Option<Entry>,
    pub(super) path: PathBuf,
    _lock: File,
}

/// The entries of loads that crashed while they received their files, each with its file.
pub(super) fn crashed(dir: &Path) -> Result<Vec<Crashed>> {
    let mut crashed = Vec::new();
    for version in claimed(dir)? {
        let path = claim_path(dir, version);
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // Its load has just ended by itself.
        if file.metadata()?.nlink() == 0 {
            continue;
        }
        let entry = serde_json::from_slice(&fs::read(&path).unwrap_or_default()).ok();
        crashed.push(Crashed { entry, path, _lock: file });
    }
    Ok(crashed)
}

/// The number above all that are in use: by versions, files, and loads that are still receiving.
fn next_version(dir: &Path, refused: &BTreeSet<u32>) -> Result<u32> {
    let catalog = Catalog::read(dir)?.unwrap_or_default();
    let claimed = claimed(dir)?;
    let newest = claimed.iter().copied().chain(catalog.live).max().unwrap_or(0);
    let files = snapshot::versions(dir)?;
    let taken = files.into_iter().chain(claimed).chain(refused.iter().copied()).collect();
    let mut ledger = Ledger::new(catalog.versions);
    ledger.see_names(newest, taken);
    ledger.next_version()
}

/// Whether a version has this number.
fn is_used(dir: &Path, version: u32) -> Result<bool> {
    let catalog = Catalog::read(dir)?.unwrap_or_default();
    let has_entry = catalog.versions.iter().any(|entry| entry.version == version);
    Ok(has_entry || snapshot::versions(dir)?.contains(&version))
}

impl Reservation {
    pub(super) fn make(place: Place, load: &NewLoad) -> Result<Self> {
        directory::create(&place.dir)?;
        let mut refused = BTreeSet::new();
        loop {
            let version = next_version(&place.dir, &refused)?;
            let entry = Entry::reserved(version, &place.dataset, load);
            let Some(claim) = Claim::make(&place.dir, version, &entry)? else {
                refused.insert(version);
                continue;
            };
            // Between the look and the claim another load can have published this very number.
            if !is_used(&place.dir, version)? {
                return Ok(Self { place, claim, directory: None });
            }
        }
    }

    pub(crate) fn version(&self) -> u32 {
        self.claim.version
    }

    pub(crate) async fn lock(&mut self, wait: Duration, is_wanted: impl Fn() -> bool) -> Result<()> {
        self.directory = Some(self.place.lock(wait, is_wanted).await?);
        Ok(())
    }

    pub(crate) async fn into_publisher(self) -> Result<Publisher> {
        let Self { place, claim, directory, .. } = self;
        let directory =
            directory.ok_or_else(|| Error::lock_lost(&place.dataset.name, "it was never taken"))?;
        tokio::task::spawn_blocking(move || Publisher::recover(place, directory, Some(claim))).await?
    }

    pub(crate) async fn end(self, ending: Ending<'_>) -> Result<()> {
        let Self { place, claim, directory } = self;
        if matches!(ending, Ending::Told) {
            return Ok(());
        }
        let directory = match directory {
            Some(directory) => directory,
            // Only who holds the lock can enter a failure.
            None => place.lock(LOCK_WAIT, || true).await?,
        };
        let publisher =
            tokio::task::spawn_blocking(move || Publisher::recover(place, directory, Some(claim)));
        publisher.await??.end(ending).await
    }
}
