//! Publishing in the embedded store: write a file that nobody reads, then replace the catalog.
//!
//! Whatever touches the disk runs on a thread that may block, because a disk that is busy must not hold up other loads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tracing::warn;

use super::catalog::{Catalog, FileFacts, sync_dir};
use super::checksum;
use super::directory::Directory;
use super::reservation::{self, Claim, Crashed, Place};
use super::snapshot::{self, Writer};
use crate::ledger::{Found, Ledger};
use crate::publisher::{Ending, Rows, check_count};
use crate::version::{Counts, NewVersion, State};
use crate::{Actor, Error, FOLLOW_MS, Published, Result};

/// Before a version is activated the whole of its file is read if it is no larger than this, which takes a tenth of a second
/// where it is in memory. A larger one is left to the scrub.
const CHECKED_BYTES_MAX: u64 = 256 << 20;
/// How often it is seen during a count whether it is still wanted.
const WANTED_INTERVAL: Duration = Duration::from_millis(100);
/// So many entries are remembered; the catalog is read and written as a whole.
const ENTRIES_MAX: usize = 200;

/// Holds the lock of a dataset.
#[derive(Debug)]
pub struct Publisher {
    place: Place,
    directory: Directory,
    claim: Option<Claim>,
    ledger: Ledger,
    live: Option<u32>,
    files: BTreeMap<u32, FileFacts>,
    /// The version whose file this publisher gave its final name.
    placed: Option<u32>,
}

impl Publisher {
    /// Puts the ledger right and removes files that no version needs any more.
    pub(super) fn recover(place: Place, mut directory: Directory, claim: Option<Claim>) -> Result<Self> {
        let files = snapshot::versions(&place.dir)?;
        let catalog = match directory.read_catalog()? {
            None if !files.is_empty() => {
                let dir = place.dir.display();
                let text = format!(
                    "{dir} has files of versions and no catalog.json that names them: restore it, or remove the directory"
                );
                return Err(Error::Setup(text));
            }
            catalog => catalog.unwrap_or_default(),
        };
        let Catalog { live, versions, files: facts } = catalog;
        let ledger = Ledger::new(versions);
        let mut publisher = Self { place, directory, claim, ledger, live, files: facts, placed: None };
        publisher.reconcile(&files)?;
        publisher.directory.fill_reserve();
        Ok(publisher)
    }

    fn reconcile(&mut self, files: &[u32]) -> Result<()> {
        let crashed = reservation::crashed(&self.place.dir)?;
        for Crashed { entry, .. } in &crashed {
            entry.iter().cloned().for_each(|entry| self.ledger.add_unstaged(entry));
        }
        let mut taken: BTreeSet<_> = files.iter().copied().collect();
        let own = self.claim.as_ref().map(Claim::version);
        let claimed = reservation::receiving(&self.place.dir).into_iter().map(|entry| entry.version);
        taken.extend(claimed.filter(|version| Some(*version) != own));
        let receiving = BTreeSet::new();
        self.ledger.reconcile(&Found { live: self.live, present: files.to_vec(), taken, receiving });
        for version in files {
            if self.ledger.is_orphan(*version) && Some(*version) != self.live {
                self.remove(&snapshot::path(&self.place.dir, *version), *version);
            }
        }
        for file in fs::read_dir(&self.place.dir)?.filter_map(std::result::Result::ok) {
            if let Some(version) = file.file_name().to_str().and_then(staging_of) {
                self.remove(&file.path(), version);
            }
        }
        if !self.ledger.take_changed().is_empty() {
            self.write_catalog()?;
        }
        for crashed in crashed {
            // One that stays is entered again, which changes nothing.
            let _ = fs::remove_file(&crashed.path);
        }
        Ok(())
    }

    /// Removes a file of a version that is over. What cannot be removed now is removed by the next publisher.
    fn remove(&self, path: &Path, version: u32) {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.place.metrics.cleanup_failures.inc();
            let dataset = &self.place.dataset.name;
            warn!(dataset, version, %error, path = %path.display(), "cannot remove the file of a discarded version");
        }
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn reserved(&self) -> Option<u32> {
        self.claim.as_ref().map(Claim::version)
    }

    pub(crate) async fn is_live_whole(&self, is_wanted: impl Fn() -> bool) -> Result<bool> {
        let Some(live) = self.ledger.live() else { return Ok(false) };
        let (place, live, catalog) = (self.place.clone(), live.clone(), self.catalog());
        let (version, rows) = (live.version, live.rows);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let mut counted = tokio::task::spawn_blocking(move || {
            let snapshot = place.snapshots.open(&place.dataset.name, &live, &catalog)?;
            snapshot.count_rows(|| !stopped.load(Ordering::Relaxed))
        });
        let counted = loop {
            match tokio::time::timeout(WANTED_INTERVAL, &mut counted).await {
                Ok(counted) => break counted?,
                Err(_) => stop.store(!is_wanted(), Ordering::Relaxed),
            }
        };
        match counted {
            Ok(Some(counted)) => Ok(counted == rows),
            Ok(None) => Err(Error::Unwanted),
            Err(error) => {
                let dataset = &self.place.dataset.name;
                warn!(
                    dataset,
                    version,
                    error = crate::error::chain(&error),
                    "the live version cannot be read"
                );
                Ok(false)
            }
        }
    }

    /// Enters a new version, and opens its file.
    pub(crate) async fn stage(mut self, new: NewVersion) -> Result<Staging> {
        let keep_versions = new.keep_versions;
        tokio::task::spawn_blocking(move || {
            if let Some(claim) = &self.claim {
                self.ledger.add_unstaged(claim.entry());
            }
            let reserved = self.claim.as_ref().map(Claim::reserved);
            let version = self.ledger.stage(reserved.as_ref(), new)?;
            self.write_catalog()?;
            match Writer::create(&staging_path(&self.place.dir, version)) {
                Ok(writer) => {
                    Ok(Staging { publisher: self, version, keep_versions, writer: Arc::new(writer) })
                }
                Err(error) => Err(self.discard(version, error)),
            }
        })
        .await?
    }

    pub(crate) fn activate_for(&mut self, actor: Actor) {
        self.ledger.activate_for(actor);
    }

    pub(crate) async fn activate(mut self, version: u32) -> Result<Published> {
        let dataset = self.place.dataset.name.clone();
        let before = self.live;
        if let Some(State::Damaged) = self.ledger.get(version).map(|entry| entry.state) {
            let why = "it was found damaged before".to_owned();
            return Err(Error::Damaged { dataset, version, why });
        }
        if Some(version) != before && !self.ledger.stays(version) {
            return Err(Error::NoSuchVersion { dataset, version });
        }
        let swapped = tokio::task::spawn_blocking(move || {
            self.check_file(version)?;
            if Some(version) != before {
                // A rollback must not fail because the disk is full.
                self.directory.release_reserve();
                self.swap(version)?;
                self.directory.fill_reserve();
            }
            Ok::<_, Error>(self)
        });
        let publisher = swapped.await??;
        tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
        publisher.published(version, before)
    }

    /// A version whose file is not what was written must not become live; it is marked.
    fn check_file(&mut self, version: u32) -> Result<()> {
        let Some(entry) = self.ledger.get(version).cloned() else { return Ok(()) };
        let name = self.place.dataset.name.clone();
        let path = snapshot::path(&self.place.dir, version);
        let opened = self.place.snapshots.open(&name, &entry, &self.catalog()).map(drop);
        let checked = opened.and_then(|()| match self.files.get(&version) {
            Some(facts) if facts.bytes <= CHECKED_BYTES_MAX => match checksum::damage(&path, *facts)? {
                Some(why) => Err(Error::Damaged { dataset: name, version, why }),
                None => Ok(()),
            },
            _ => Ok(()),
        });
        if let Err(Error::Damaged { why, .. }) = &checked {
            self.mark_damaged(version, why)?;
        }
        checked
    }

    /// Marks a version whose file the scrub found damaged, if it is still that file.
    pub(super) fn mark_scrubbed(&mut self, version: u32, facts: FileFacts, why: &str) -> Result<()> {
        if self.files.get(&version) == Some(&facts) { self.mark_damaged(version, why) } else { Ok(()) }
    }

    /// Takes a version that is not live out of those that can be activated.
    fn mark_damaged(&mut self, version: u32, why: &str) -> Result<()> {
        if Some(version) == self.live || !self.ledger.stays(version) {
            return Ok(());
        }
        self.ledger.damaged(version, why);
        self.write_catalog()
    }

    pub(crate) async fn end(mut self, ending: Ending<'_>) -> Result<()> {
        let Some((entry, reserved)) = self.claim.as_ref().map(|claim| (claim.entry(), claim.reserved()))
        else {
            return Ok(());
        };
        let version = entry.version;
        self.ledger.add_unstaged(entry);
        if !self.ledger.is_own(&reserved) {
            return Ok(());
        }
        match ending {
            Ending::Told => return Ok(()),
            Ending::Failed(reason) => self.ledger.failed(version, reason),
            Ending::Superseded(reason) => self.ledger.superseded(version, reason),
        }
        tokio::task::spawn_blocking(move || self.write_catalog()).await?
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
            let dataset = &self.place.dataset.name;
            warn!(dataset, version, %error, "the swap is done, but may not survive a power cut");
        }
        self.place.metrics.swap_seconds.observe(start.elapsed().as_secs_f64());
        Ok(before)
    }

    fn published(&self, version: u32, before: Option<u32>) -> Result<Published> {
        let live = self.ledger.get(version).cloned();
        Ok(Published {
            live: live.ok_or_else(|| Error::internal("the catalog forgot the live version"))?,
            before,
        })
    }

    fn write_catalog(&mut self) -> Result<()> {
        self.ledger.forget(ENTRIES_MAX);
        self.ledger.take_changed();
        let written = self.directory.write_catalog(&self.catalog());
        written.map_err(|error| self.directory.explain(error))
    }

    fn catalog(&self) -> Catalog {
        let versions = self.ledger.entries().to_vec();
        let is_there = |(version, _): &(&u32, &FileFacts)| {
            let state = self.ledger.get(**version).map(|entry| entry.state);
            !matches!(state, None | Some(State::Dropped | State::Failed | State::Superseded))
        };
        let files = self.files.iter().filter(is_there).map(|(version, facts)| (*version, *facts)).collect();
        Catalog { live: self.live, versions, files }
    }

    fn live_on_disk(&self) -> Result<Option<u32>> {
        Ok(Catalog::read(&self.place.dir)?.and_then(|catalog| catalog.live))
    }

    /// Enters that a version failed and removes its files; returns the error, told as what it is.
    fn discard(&mut self, version: u32, error: Error) -> Error {
        let error = self.directory.explain(error);
        self.abandon(version, &error.to_string());
        error
    }

    /// Removes the files of a version that was not published, and enters why.
    fn abandon(&mut self, version: u32, reason: &str) {
        let dataset = self.place.dataset.name.clone();
        // Whatever went wrong, what another publisher made is not touched.
        if let Err(error) = self.directory.check() {
            return warn!(dataset, version, %error, "nothing is removed of a discarded version");
        }
        if !self.ledger.is_discardable(version) || Some(version) == self.live {
            return;
        }
        // The space that the files take may be what the catalog needs.
        self.remove(&staging_path(&self.place.dir, version), version);
        if self.placed == Some(version) {
            self.remove(&snapshot::path(&self.place.dir, version), version);
        }
        self.ledger.failed(version, reason);
        if let Err(error) = self.write_catalog() {
            warn!(dataset, version, %error, "a discarded version is entered with the next load");
        }
    }

    /// Drops versions that no longer stay. Readers that have them open keep them until they are done.
    fn prune(&mut self, keep_versions: u32) -> Result<()> {
        for version in self.ledger.expired(keep_versions) {
            self.ledger.dropped(version);
            self.write_catalog()?;
            self.remove(&snapshot::path(&self.place.dir, version), version);
        }
        Ok(())
    }

    /// Gives the finished file its final name, on disk. A file that has the name already stays.
    fn put_in_place(&mut self, version: u32) -> Result<()> {
        let (staging, path) =
            (staging_path(&self.place.dir, version), snapshot::path(&self.place.dir, version));
        snapshot::sync(&staging)?;
        let facts = checksum::of(&staging)?;
        match renameat_with(CWD, &staging, CWD, &path, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => {
                return Err(Error::Setup(format!("{} is there already: remove it", path.display())));
            }
            renamed => renamed.map_err(std::io::Error::from)?,
        }
        self.placed = Some(version);
        self.files.insert(version, facts);
        sync_dir(&self.place.dir)
    }
}

const STAGING: &str = "staging-";

fn staging_path(dir: &Path, version: u32) -> PathBuf {
    dir.join(format!("{STAGING}v{version}.lmdb"))
}

/// The version that is staged in a file of that name.
fn staging_of(name: &str) -> Option<u32> {
    name.strip_prefix(STAGING).and_then(snapshot::version_of)
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
        for mut rows in ranges {
            while let Some(batch) = rows.recv().await {
                let writer = self.writer.clone();
                let appended = tokio::task::spawn_blocking(move || writer.append(&batch)).await?;
                appended.map_err(|error| self.publisher.directory.explain(error))?;
            }
        }
        Ok(())
    }

    pub(crate) async fn verify(self, counts: Counts) -> Result<Staged> {
        let Self { mut publisher, version, keep_versions, writer } = self;
        tokio::task::spawn_blocking(move || {
            let staged =
                sole(writer).and_then(Writer::finish).and_then(|rows| check_count(counts.rows, rows));
            let entered = staged.and_then(|()| {
                publisher.ledger.staged(version, counts);
                publisher.write_catalog()
            });
            match entered {
                Ok(()) => Ok(Staged { publisher, version, keep_versions }),
                Err(error) => Err(publisher.discard(version, error)),
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
            publisher.abandon(version, &reason);
        })
        .await?;
        Ok(())
    }
}

fn sole(writer: Arc<Writer>) -> Result<Writer> {
    Arc::try_unwrap(writer).map_err(|_| Error::internal("rows are still being added"))
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
                Err(error) => Err(publisher.discard(version, error)),
            }
        })
        .await??;
        tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
        tokio::task::spawn_blocking(move || {
            let mut publisher = publisher;
            if let Err(error) = publisher.prune(keep_versions) {
                let dataset = &publisher.place.dataset.name;
                publisher.place.metrics.cleanup_failures.inc();
                warn!(dataset, %error, "an old version stays until the next load");
            }
            publisher.published(version, before)
        })
        .await?
    }

    pub(crate) async fn abort(self, reason: &str) -> Result<()> {
        let (mut publisher, version, reason) = (self.publisher, self.version, reason.to_owned());
        Ok(tokio::task::spawn_blocking(move || publisher.abandon(version, &reason)).await?)
    }
}
