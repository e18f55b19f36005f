//! Reading in the embedded store: follow the catalogs, answer from the snapshots that they call live.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dataset::KeyBytes;
use tokio::runtime::Handle;
use tracing::{error, info};

use super::catalog::{self, Catalog};
use super::disk::Disk;
use super::snapshot::{self, Snapshot, Snapshots};
use super::warm::{Task, Warmer};
use crate::{Error, Found, Live, LookUp, Looked, Metrics, Result};

/// How often the catalogs are looked at: several times within the time that a publication waits for its readers.
const LOOK_EVERY: Duration = Duration::from_millis(crate::FOLLOW_MS / 5);

/// Answers look-ups from the live snapshots.
#[derive(Debug)]
pub struct Reader {
    root: PathBuf,
    snapshots: Arc<Snapshots>,
    metrics: Metrics,
    seen: ArcSwap<Seen>,
    disk: Arc<Disk>,
    /// Where reads go that may wait for the disk.
    runtime: Handle,
}

/// What the last look found.
#[derive(Debug, Default, Clone)]
struct Seen {
    live: HashMap<String, Arc<LiveSnapshot>>,
    error: Option<String>,
}

#[derive(Debug)]
struct LiveSnapshot {
    live: Live,
    snapshot: Arc<Snapshot>,
    stamp: Stamp,
}

/// Tells one catalog file from the one that replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, i64, i64, u64);

impl Stamp {
    fn of(dir: &Path) -> Option<Self> {
        let file = fs::metadata(dir.join(catalog::NAME)).ok()?;
        Some(Self(file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
    }
}

impl Reader {
    pub(super) fn start(root: PathBuf, snapshots: Arc<Snapshots>, metrics: Metrics) -> Arc<Self> {
        let (seen, disk, runtime) = (ArcSwap::default(), Arc::default(), Handle::current());
        let reader = Arc::new(Self { root, snapshots, metrics, seen, disk, runtime });
        reader.follow();
        let followed = Arc::downgrade(&reader);
        // A thread of its own: it must look in time however busy the others are.
        std::thread::spawn(move || follow(&followed));
        reader
    }

    /// Looks at all catalogs once. One that cannot be read keeps its dataset where it was, and no other. Returns whether
    /// anything is new.
    fn follow(&self) -> bool {
        let before = self.seen.load();
        let mut after = Seen { live: before.live.clone(), error: None };
        if let Err(error) = self.look(&mut after) {
            after.error = Some(error.to_string());
        }
        if let Some(error) = after.error.as_ref().filter(|error| before.error.as_ref() != Some(*error)) {
            error!(error, root = %self.root.display(), "cannot follow the live versions");
        }
        let same = |(name, live): (&String, &Arc<LiveSnapshot>)| {
            before.live.get(name).is_some_and(|before| Arc::ptr_eq(before, live))
        };
        let changed = after.error != before.error || !after.live.iter().all(same);
        if changed {
            self.seen.store(Arc::new(after));
        }
        changed
    }

    /// What is to be in memory.
    fn live_files(&self) -> Vec<Task> {
        let task = |(dataset, live): (&String, &Arc<LiveSnapshot>)| Task {
            path: snapshot::path(&self.root.join(dataset), live.live.version),
            snapshot: Arc::downgrade(&live.snapshot),
        };
        self.seen.load().live.iter().map(task).collect()
    }

    fn look(&self, seen: &mut Seen) -> Result<()> {
        for dir in fs::read_dir(&self.root)? {
            let dir = dir?;
            let Ok(dataset) = dir.file_name().into_string() else { continue };
            let Some(stamp) = Stamp::of(&dir.path()) else { continue };
            let known = seen.live.get(&dataset);
            if known.is_some_and(|known| known.stamp == stamp) {
                continue;
            }
            match self.open(&dir.path(), &dataset, stamp) {
                Ok(Some(live)) => {
                    let (version, rows) = (live.live.version, live.live.rows);
                    if known.is_none_or(|known| known.live.version != version) {
                        info!(dataset, version, rows, "reads a new live version");
                    }
                    seen.live.insert(dataset, Arc::new(live));
                }
                Ok(None) => {}
                Err(error) => seen.error = Some(error.to_string()),
            }
        }
        Ok(())
    }

    fn open(&self, dir: &Path, dataset: &str, stamp: Stamp) -> Result<Option<LiveSnapshot>> {
        let Some(catalog) = Catalog::read(dir)? else { return Ok(None) };
        let Some(entry) = catalog.live_entry() else { return Ok(None) };
        let snapshot = self.snapshots.get(dataset, entry.version)?;
        Ok(Some(LiveSnapshot { live: Live::new(dataset, entry), snapshot, stamp }))
    }

    pub(crate) fn live(&self) -> Vec<Live> {
        self.seen.load().live.values().map(|live| live.live.clone()).collect()
    }

    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        self.seen.load().error.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn current(&self, dataset: &str) -> Option<u32> {
        Some(self.seen.load().live.get(dataset)?.live.version)
    }

    pub(crate) fn look_up_one(&self, dataset: &str, key: &str) -> Looked {
        let seen = self.seen.load();
        let live = match seen.get(dataset) {
            Ok(Some(live)) => live,
            Ok(None) => return Looked::Now(Ok(None)),
            Err(error) => return Looked::Now(Err(error)),
        };
        let found = |row| Some(Found { version: live.live.version, row });
        let Some(key) = live.live.schema.parse_key(key) else { return Looked::Now(Ok(found(None))) };
        if self.disk.is_awaited() {
            let (live, disk, runtime) = (live.clone(), self.disk.clone(), self.runtime.clone());
            return Looked::Later(Box::pin(async move {
                let version = live.live.version;
                let read = move || disk.watch(|| live.get(&key));
                Ok(Some(Found { version, row: runtime.spawn_blocking(read).await?? }))
            }));
        }
        Looked::Now(self.disk.watch(|| live.get(&key)).map(found))
    }

    pub(crate) async fn look_up(&self, dataset: &str, keys: &[&str]) -> Result<Option<LookUp>> {
        let Some(live) = self.seen.load().get(dataset)?.cloned() else { return Ok(None) };
        let (version, schema) = (live.live.version, live.live.schema.clone());
        let keys: Vec<_> = keys.iter().map(|key| schema.parse_key(key)).collect();
        let (start, count) = (Instant::now(), keys.len());
        let disk = self.disk.clone();
        // So many keys take a while, even in memory.
        let read = move || disk.watch(|| live.get_all(&keys));
        let rows = self.runtime.spawn_blocking(read).await??;
        self.metrics.observe(start.elapsed(), count);
        Ok(Some(LookUp { version, rows }))
    }
}

impl Seen {
    fn get(&self, dataset: &str) -> Result<Option<&Arc<LiveSnapshot>>> {
        match (self.live.get(dataset), &self.error) {
            (None, Some(error)) => Err(Error::Unavailable(error.clone().into())),
            (live, _) => Ok(live),
        }
    }
}

impl LiveSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.snapshot.get(key, |rest| self.row(key, rest))
    }

    /// In one pass, in the order of the keys: neighbours stand on the same pages.
    fn get_all(&self, keys: &[Option<KeyBytes>]) -> Result<Vec<Option<Bytes>>> {
        let mut order: Vec<(usize, &KeyBytes)> =
            keys.iter().enumerate().filter_map(|(at, key)| Some((at, key.as_ref()?))).collect();
        order.sort_unstable_by_key(|(_, key)| *key);
        let mut rows = vec![None; keys.len()];
        self.snapshot.with(|view| {
            for (at, key) in order {
                rows[at] = self.row(key, view.get(key)?)?;
            }
            Ok(rows)
        })
    }

    fn row(&self, key: &[u8], rest: Option<&[u8]>) -> Result<Option<Bytes>> {
        let Some(rest) = rest else { return Ok(None) };
        JSON.with_borrow_mut(|json| {
            json.clear();
            dataset::write_stored_row(&self.live.schema, key, rest, json)?;
            let row = Bytes::copy_from_slice(json);
            // One row of megabytes must not be held for good.
            json.shrink_to(JSON_KEPT_BYTES);
            Ok(Some(row))
        })
    }
}

const JSON_KEPT_BYTES: usize = 16 << 10;

thread_local! {
    /// Where the row is written that is being looked up.
    static JSON: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Looks again and again, until the reader is gone.
fn follow(reader: &Weak<Reader>) {
    let (mut warmer, mut changed) = (Warmer::start(), true);
    while let Some(reader) = reader.upgrade() {
        changed |= reader.follow();
        let now = Instant::now();
        if changed || (reader.disk.is_awaited() && warmer.is_due(now)) {
            warmer.read(reader.live_files(), now);
            changed = false;
        }
        drop(reader);
        std::thread::sleep(LOOK_EVERY);
    }
}
