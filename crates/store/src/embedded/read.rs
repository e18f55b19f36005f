//! Reading in the embedded store: follow the catalogs, answer from the snapshots that they call live.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use dataset::KeyBytes;
use tokio::runtime::Handle;
use tracing::{error, info};

use super::catalog::{self, Catalog};
use super::snapshot::{self, Snapshot, Snapshots};
use super::warm::{Task, Warmer};
use crate::error::chain;
use crate::{
    AnswerBytes, Error, FOLLOW_MS, Found, Live, LookUp, Lookup, Metrics, Outcome, Result, StoreHealth,
    Unwell, VersionId, clock,
};

/// How often the catalogs are polled: several times within the time that a publication waits for its readers.
const POLL_INTERVAL: Duration = Duration::from_millis(FOLLOW_MS / 5);
/// An answer is from what a poll found that began no longer ago than this.
const MAX_STALENESS: Duration = Duration::from_millis(FOLLOW_MS);

/// How many polls a look-up makes where none is recent enough.
const POLLS_MAX: u32 = 3;

/// Answers look-ups from the live snapshots.
#[derive(Debug)]
pub struct Reader {
    root: PathBuf,
    snapshots: Arc<Snapshots>,
    metrics: Metrics,
    seen: ArcSwap<Seen>,
    /// When the last poll began that reached the directory, in microseconds of the clock that counts suspension.
    polled_at: AtomicU64,
    /// Two polls must not overtake each other.
    polling: Mutex<()>,
    /// Where lookups of many keys run.
    runtime: Handle,
}

/// What the last poll found.
#[derive(Debug, Default, Clone)]
struct Seen {
    datasets: HashMap<String, Dataset>,
    /// Why the directory itself cannot be read.
    error: Option<String>,
}

/// A dataset that has a version, or had one.
#[derive(Debug, Default, Clone)]
struct Dataset {
    live: Option<Arc<LiveSnapshot>>,
    trouble: Option<Trouble>,
}

/// Why the live version of a dataset is not known any more.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    why: String,
    /// By the clock that counts suspension. The version that was known stays right for as long as an answer may be old.
    since: Duration,
}

#[derive(Debug)]
struct LiveSnapshot {
    live: Live,
    snapshot: Arc<Snapshot>,
    stamp: Stamp,
}

/// What there is of a dataset.
enum Opened {
    Nothing,
    Live(Arc<LiveSnapshot>),
    /// Another file has the path of the one that is mapped, which must be released before that can be opened: by the next
    /// poll.
    Replaced,
}

/// Tells one catalog file from the one that replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, i64, i64, u64);

impl Stamp {
    /// Nothing where there is no catalog. Any other error is one of the poll.
    fn of(dir: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(dir.join(catalog::NAME)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            file => file.map(|file| Some(Self(file.ino(), file.mtime(), file.mtime_nsec(), file.len()))),
        }
    }
}

impl Reader {
    pub(super) fn start(root: PathBuf, snapshots: Arc<Snapshots>, metrics: Metrics) -> Arc<Self> {
        let reader = Arc::new(Self {
            root,
            snapshots,
            metrics,
            seen: ArcSwap::default(),
            polled_at: AtomicU64::new(0),
            polling: Mutex::default(),
            runtime: Handle::current(),
        });
        reader.poll();
        let followed = Arc::downgrade(&reader);
        // A thread of its own: it must look in time however busy the others are.
        std::thread::spawn(move || follow(&followed));
        reader
    }

    /// Polls all catalogs once. A dataset that cannot be read is in trouble, and no other. Returns whether anything is new.
    fn poll(&self) -> bool {
        let _polling = self.polling.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, before) = (clock::now(), self.seen.load_full());
        // What is known was right when the last poll began that found it.
        let confirmed = Duration::from_micros(self.polled_at.load(Ordering::Acquire));
        let mut after = Seen { datasets: before.datasets.clone(), error: None };
        if let Err(error) = self.look(&mut after, confirmed) {
            after.error = Some(format!("cannot read {}: {error}", self.root.display()));
        }
        let changed = self.log_changes(&before, &after);
        let failed = after.error.is_some();
        if changed {
            self.seen.store(Arc::new(after));
        }
        if !failed {
            self.polled_at.store(micros(began), Ordering::Release);
        }
        changed
    }

    fn log_changes(&self, before: &Seen, after: &Seen) -> bool {
        if let Some(error) = &after.error {
            self.metrics.poll_failures.inc();
            if before.error.as_ref() != Some(error) {
                error!(error, "cannot poll the live versions");
            }
        }
        let mut changed = after.error != before.error || after.datasets.len() != before.datasets.len();
        for (name, dataset) in &after.datasets {
            let known = before.datasets.get(name);
            if let Some(trouble) = &dataset.trouble {
                self.metrics.poll_failures.inc();
                if known.and_then(|known| known.trouble.as_ref()) != Some(trouble) {
                    error!(dataset = name, error = trouble.why, "the live version cannot be read");
                }
            }
            let version = |dataset: &Dataset| dataset.live.as_ref().map(|live| live.live.id());
            if let Some(live) = &dataset.live
                && known.and_then(version) != Some(live.live.id())
            {
                info!(
                    dataset = name,
                    version = live.live.version,
                    rows = live.live.rows,
                    "switched to live version"
                );
            }
            changed |= known.is_none_or(|known| !known.is_same(dataset));
        }
        changed
    }

    /// What is to be in memory.
    fn live_files(&self) -> Vec<Task> {
        let seen = self.seen.load();
        let live = seen.datasets.iter().filter_map(|(name, dataset)| Some((name, dataset.live.as_ref()?)));
        let task = |(name, live): (&String, &Arc<LiveSnapshot>)| Task {
            path: snapshot::path(&self.root.join(name), live.live.version),
            snapshot: Arc::downgrade(&live.snapshot),
        };
        live.map(task).collect()
    }

    fn look(&self, seen: &mut Seen, confirmed: Duration) -> io::Result<()> {
        let mut names: Vec<String> = seen.datasets.keys().cloned().collect();
        match fs::read_dir(&self.root) {
            // Nothing was loaded yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && names.is_empty() => {}
            dirs => {
                for dir in dirs? {
                    names.extend(
                        dir?.file_name().into_string().ok().filter(|name| dataset::is_dataset_name(name)),
                    );
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        for name in names {
            let known = seen.datasets.get(&name).cloned();
            if let Some(dataset) = self.look_at(&name, known, confirmed) {
                seen.datasets.insert(name, dataset);
            }
        }
        Ok(())
    }

    /// What becomes of a dataset; nothing where there is none.
    fn look_at(&self, name: &str, known: Option<Dataset>, confirmed: Duration) -> Option<Dataset> {
        let dir = self.root.join(name);
        let known_live = known.as_ref().and_then(|known| known.live.clone());
        let found = match Stamp::of(&dir) {
            Ok(None) if known.is_none() && !has_versions(&dir) => return None,
            Ok(None) => Err("its directory or its catalog was removed".to_owned()),
            Ok(Some(stamp)) => match known_live.as_ref().filter(|live| live.stamp == stamp) {
                Some(live) => Ok(Opened::Live(live.clone())),
                None => self.open(&dir, name, stamp, known_live.as_ref()).map_err(|error| chain(&error)),
            },
            Err(error) => Err(error.to_string()),
        };
        let (live, why) = match found {
            Ok(Opened::Live(live)) => return Some(Dataset { live: Some(live), trouble: None }),
            Ok(Opened::Nothing) if known.is_none() => return None,
            Ok(Opened::Nothing) => (None, "its catalog names no live version".to_owned()),
            Ok(Opened::Replaced) => {
                (None, "its live version was replaced by another one of that number".to_owned())
            }
            Err(why) => (known_live, why),
        };
        Some(Dataset { live, trouble: Some(trouble(known, why, confirmed)) })
    }

    fn open(
        &self,
        dir: &Path,
        name: &str,
        stamp: Stamp,
        known: Option<&Arc<LiveSnapshot>>,
    ) -> Result<Opened> {
        let Some(catalog) = Catalog::read(dir)? else { return Ok(Opened::Nothing) };
        let Some(entry) = catalog.live_entry() else { return Ok(Opened::Nothing) };
        let live = Live::new(name, entry);
        let same_number = known.is_some_and(|known| known.live.version == live.version);
        if same_number && known.is_some_and(|known| known.live.content != live.content) {
            return Ok(Opened::Replaced);
        }
        let snapshot = self.snapshots.open(name, entry, &catalog)?;
        Ok(Opened::Live(Arc::new(LiveSnapshot { live, snapshot, stamp })))
    }

    /// What is known well enough to answer from. Where the last poll is too long ago, because the process was paused or had
    /// no time, another one is made first.
    fn fresh(&self) -> Result<Guard<Arc<Seen>>> {
        // Opening a snapshot takes a moment, so a poll that finds one can be too old when it is done.
        for _ in 0..POLLS_MAX {
            if self.is_fresh() {
                return Ok(self.seen.load());
            }
            self.poll();
        }
        if self.is_fresh() {
            return Ok(self.seen.load());
        }
        let why = self.seen.load().error.clone().unwrap_or_else(|| "polls take too long".into());
        Err(Error::Unavailable(why.into()))
    }

    fn is_fresh(&self) -> bool {
        let polled_at = self.polled_at.load(Ordering::Acquire);
        micros(clock::now()).saturating_sub(polled_at) < micros(MAX_STALENESS)
    }

    pub(crate) fn live(&self) -> Vec<Live> {
        let seen = self.seen.load();
        seen.datasets.values().filter_map(|dataset| Some(dataset.live.as_ref()?.live.clone())).collect()
    }

    pub(crate) fn health(&self) -> StoreHealth {
        let error = self.fresh().err().map(|error| chain(&error));
        let seen = self.seen.load();
        let unwell = seen.datasets.iter().filter_map(|(name, dataset)| {
            let why = dataset.trouble.as_ref()?.why.clone();
            Some(Unwell { dataset: name.clone(), why, was_served: dataset.live.is_some() })
        });
        StoreHealth { error, unwell: unwell.collect(), excluded: Vec::new() }
    }

    pub(crate) fn current(&self, dataset: &str) -> Option<VersionId> {
        Some(self.fresh().ok()?.get(dataset).ok()??.live.id())
    }

    /// A row in memory is read in less time than it takes to hand the read to another thread. One that is not stops
    /// this worker until the disk answers: the live version belongs in memory.
    pub(crate) fn get(&self, dataset: &str, key: &str) -> Lookup {
        let start = Instant::now();
        let outcome = self.find(dataset, key);
        self.metrics.observe(start.elapsed(), 1);
        Lookup::Ready(outcome)
    }

    fn find(&self, dataset: &str, key: &str) -> Outcome {
        let seen = self.fresh()?;
        let Some(live) = seen.get(dataset)? else { return Ok(None) };
        let key = live.live.schema.parse_key(key);
        let row = key.map_or(Ok(None), |key| live.get(&key))?;
        Ok(Some(Found { version: live.live.id(), row }))
    }

    pub(crate) async fn look_up(
        &self,
        dataset: &str,
        keys: &[&str],
        bytes: &Arc<AnswerBytes>,
    ) -> Result<Option<LookUp>> {
        let Some(live) = self.fresh()?.get(dataset)?.cloned() else { return Ok(None) };
        let (version, schema) = (live.live.id(), live.live.schema.clone());
        let keys: Vec<_> = keys.iter().map(|key| schema.parse_key(key)).collect();
        let (start, count) = (Instant::now(), keys.len());
        let bytes = bytes.clone();
        // So many keys take a while, even in memory.
        let rows = self.runtime.spawn_blocking(move || live.get_all(&keys, &bytes)).await??;
        self.metrics.observe(start.elapsed(), count);
        Ok(Some(LookUp { version, rows }))
    }
}

/// Whether a directory without a catalog had one: it holds versions.
fn has_versions(dir: &Path) -> bool {
    snapshot::versions(dir).is_ok_and(|versions| !versions.is_empty())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The trouble of a dataset: the same one goes on.
fn trouble(known: Option<Dataset>, why: String, confirmed: Duration) -> Trouble {
    let before = known.and_then(|known| known.trouble);
    let since = before.map_or(confirmed, |before| before.since);
    Trouble { why, since }
}

impl Dataset {
    fn is_same(&self, other: &Self) -> bool {
        let same_live = match (&self.live, &other.live) {
            (Some(live), Some(other)) => Arc::ptr_eq(live, other),
            (None, None) => true,
            _ => false,
        };
        same_live && self.trouble == other.trouble
    }
}

impl Seen {
    fn get(&self, dataset: &str) -> Result<Option<&Arc<LiveSnapshot>>> {
        let Some(dataset) = self.datasets.get(dataset) else { return Ok(None) };
        let trouble = dataset.trouble.as_ref();
        let trouble = trouble.filter(|trouble| clock::now().saturating_sub(trouble.since) >= MAX_STALENESS);
        match (trouble, &dataset.live) {
            (Some(trouble), _) => Err(Error::Unavailable(trouble.why.clone().into())),
            (None, Some(live)) => Ok(Some(live)),
            (None, None) => Err(Error::Unavailable("its live version is not known".into())),
        }
    }
}

impl LiveSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.snapshot.get(key, |rest| self.row(key, rest))
    }

    /// In one pass, in the order of the keys: neighbours stand on the same pages.
    fn get_all(&self, keys: &[Option<KeyBytes>], bytes: &AnswerBytes) -> Result<Vec<Option<Bytes>>> {
        let mut order: Vec<(usize, &KeyBytes)> =
            keys.iter().enumerate().filter_map(|(at, key)| Some((at, key.as_ref()?))).collect();
        order.sort_unstable_by_key(|(_, key)| *key);
        let mut rows: Vec<Option<Bytes>> = vec![None; keys.len()];
        let mut before: Option<(&KeyBytes, Option<Bytes>)> = None;
        self.snapshot.with(|view| {
            for (at, key) in order {
                // Keys that are equal, however they were written, share their row.
                rows[at] = match before {
                    Some((before, row)) if before == key => row,
                    _ => {
                        let row = self.row(key, view.get(key)?)?;
                        bytes.hold(row.as_ref().map_or(0, Bytes::len))?;
                        row
                    }
                };
                before = Some((key, rows[at].clone()));
            }
            Ok(rows)
        })
    }

    fn row(&self, key: &[u8], rest: Option<&[u8]>) -> Result<Option<Bytes>> {
        let Some(rest) = rest else { return Ok(None) };
        JSON.with_borrow_mut(|json| {
            json.clear();
            dataset::write_encoded_row_json(&self.live.schema, key, rest, json)?;
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

/// Polls again and again, until the reader is gone.
fn follow(reader: &Weak<Reader>) {
    let (warmer, mut changed) = (Warmer::start(), true);
    while let Some(reader) = reader.upgrade() {
        // What went wrong was logged; but after a panic there must be a next poll, too.
        changed |= catch_unwind(AssertUnwindSafe(|| reader.poll())).unwrap_or(true);
        if changed {
            warmer.read(reader.live_files());
            changed = false;
        }
        drop(reader);
        std::thread::sleep(POLL_INTERVAL);
    }
}
