//! Reading in the embedded store: follow the catalogs, answer from the snapshots that they call live.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dataset::CorruptRow;
use tracing::{error, info};

use super::catalog::{self, Catalog};
use super::snapshot::{Snapshot, Snapshots};
use crate::{Error, Live, LookUp, Metrics, Result};

/// How often the catalogs are looked at: several times within the time that a publication waits for its readers.
const LOOK_EVERY: Duration = Duration::from_millis(crate::FOLLOW_MS / 5);

/// Answers look-ups from the live snapshots.
#[derive(Debug)]
pub struct Reader {
    root: PathBuf,
    snapshots: Arc<Snapshots>,
    metrics: Metrics,
    seen: ArcSwap<Seen>,
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
        let reader = Arc::new(Self { root, snapshots, metrics, seen: ArcSwap::default() });
        reader.follow();
        let followed = Arc::downgrade(&reader);
        // A thread of its own: it must look in time however busy the others are.
        std::thread::spawn(move || follow(&followed));
        reader
    }

    /// Looks at all catalogs once. One that cannot be read keeps its dataset where it was, and no other.
    fn follow(&self) {
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
        if after.error != before.error || !after.live.iter().all(same) {
            self.seen.store(Arc::new(after));
        }
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

    pub(crate) fn look_up(&self, dataset: &str, keys: &[&str]) -> Result<Option<LookUp>> {
        let seen = self.seen.load();
        let Some(live) = seen.live.get(dataset) else {
            return match &seen.error {
                Some(error) => Err(Error::Unavailable(error.clone().into())),
                None => Ok(None),
            };
        };
        let start = Instant::now();
        let rows = keys.iter().map(|key| live.get(key)).collect::<Result<_>>()?;
        self.metrics.look_up_seconds.observe(start.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most thousands of keys")]
        self.metrics.look_up_batch_size.observe(keys.len() as f64);
        Ok(Some(LookUp { version: live.live.version, rows }))
    }
}

impl LiveSnapshot {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let schema = &self.live.schema;
        let Some(key) = schema.parse_key(key) else { return Ok(None) };
        let json = self.snapshot.get(&key, |rest| {
            let (mut row, mut json) = (Vec::with_capacity(schema.columns().len()), Vec::with_capacity(256));
            schema.read_row(&key, rest, &mut row)?;
            dataset::write_row(schema, &row, &mut json);
            Ok::<_, CorruptRow>(json)
        })?;
        Ok(json.transpose()?)
    }
}

/// Looks again and again, until the reader is gone.
fn follow(reader: &Weak<Reader>) {
    while let Some(reader) = reader.upgrade() {
        reader.follow();
        drop(reader);
        std::thread::sleep(LOOK_EVERY);
    }
}
