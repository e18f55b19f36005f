//! One version as an LMDB file: written once in key order, then only read.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use dataset::RowBatch;
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, RwTxn, WithoutTls};
use nix::sys::mman::{MmapAdvise, madvise};

use super::block::{self, Block, Builder};
use super::catalog::Catalog;
use super::checksum;
use super::directory::FILE_MODE;
use super::index::Index;
use super::room::Room;
use crate::{Backoff, Entry, Error, Result, Retry};

type Blocks = Database<Bytes, Bytes>;

/// The path of a version's file.
pub(super) fn path(dir: &Path, version: u32) -> PathBuf {
    dir.join(format!("v{version}.lmdb"))
}

/// The version whose file has that name.
pub(super) fn version_of(name: &str) -> Option<u32> {
    name.strip_prefix('v')?.strip_suffix(".lmdb")?.parse().ok()
}

/// The versions that have a file in a directory.
pub(super) fn versions(dir: &Path) -> Result<Vec<u32>> {
    let names = std::fs::read_dir(dir)?.filter_map(|file| file.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| version_of(&name)).collect())
}

/// A version that is read.
pub(super) struct Snapshot {
    env: Env<WithoutTls>,
    blocks: Blocks,
    /// Transactions to use again: the file never changes, so none of them gets old. Threads take them from different
    /// places, so that they do not fight for the same piece of memory.
    idle: [CachePadded<ArrayQueue<RoTxn<'static, WithoutTls>>>; PLACES],
    /// Nothing in it where it would not help.
    index: OnceLock<Option<Index>>,
}

const PLACES: usize = 32;
/// So many transactions are kept at a place; each takes a few hundred bytes.
const IDLE_MAX: usize = 4;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The place of this thread: one after the other gets the next.
    static PLACE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % PLACES;
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.env.fmt(f)
    }
}

impl Snapshot {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let len = usize::try_from(path.metadata()?.len()).map_err(Error::internal)?;
        let env = open(path, len, EnvFlags::READ_ONLY)?;
        let txn = env.read_txn()?;
        let blocks = env.open_database(&txn, None)?;
        let blocks = blocks.ok_or_else(|| Error::corrupt(format!("{} holds no rows", path.display())))?;
        txn.commit()?;
        let idle = std::array::from_fn(|_| CachePadded::new(ArrayQueue::new(IDLE_MAX)));
        Ok(Self { env, blocks, idle, index: OnceLock::new() })
    }

    /// Makes look-ups quicker. It looks at all blocks, so it is for a snapshot that is in memory.
    pub(super) fn make_index(&self) -> Result<()> {
        if self.index.get().is_none() {
            let txn = self.env.read_txn()?;
            let count = usize::try_from(self.blocks.len(&txn)?).map_err(Error::internal)?;
            let index = Index::build(count, self.blocks.iter(&txn)?.map(|block| Ok(block?)))?;
            // Where two make it at once it is the same.
            let _ = self.index.set(index);
        }
        Ok(())
    }

    /// Hands out the bytes of a row's other columns.
    pub(super) fn get<T>(&self, key: &[u8], look: impl FnOnce(Option<&[u8]>) -> Result<T>) -> Result<T> {
        match self.indexed(key) {
            Some(rest) => look(rest?),
            None => self.with(|view| look(view.get(key)?)),
        }
    }

    /// The same by the index alone; nothing where that does not know.
    #[expect(unsafe_code, reason = "the index keeps places and no slices")]
    fn indexed(&self, key: &[u8]) -> Option<Result<Option<&[u8]>>> {
        // SAFETY: the map is there for as long as the environment, and that for as long as this.
        unsafe { self.index.get()?.as_ref()?.find(key) }
    }

    /// Hands out a view of the rows, to look many up in.
    pub(super) fn with<T>(&self, look: impl FnOnce(&View<'_>) -> Result<T>) -> Result<T> {
        let idle = &self.idle[PLACE.with(|place| *place)];
        let txn = match idle.pop() {
            Some(txn) => txn,
            None => self.env.clone().static_read_txn()?,
        };
        let looked = look(&View { snapshot: self, txn: &txn });
        // Where there are enough of them, it ends here.
        let _ = idle.push(txn);
        looked
    }

    /// Counts the rows, block by block; nothing is returned where `go_on` ends that.
    pub(super) fn count_rows(&self, go_on: impl Fn() -> bool) -> Result<Option<u64>> {
        let (txn, mut rows) = (self.env.read_txn()?, 0);
        for block in self.blocks.iter(&txn)? {
            if !go_on() {
                return Ok(None);
            }
            rows += Block::read(block?)?.rows() as u64;
        }
        Ok(Some(rows))
    }

    /// Hands all rows, in batches of about `batch_bytes`, to `give`, until it wants no more.
    pub(super) fn scan(&self, batch_bytes: usize, mut give: impl FnMut(RowBatch) -> bool) -> Result<()> {
        let txn = self.env.read_txn()?;
        let mut batch = RowBatch::default();
        for block in self.blocks.iter(&txn)? {
            let block = Block::read(block?)?;
            for at in 0..block.rows() {
                let (key, rest) = block.get(at)?;
                batch.push(key, rest);
            }
            if batch.bytes_len() >= batch_bytes && !give(std::mem::take(&mut batch)) {
                return Ok(());
            }
        }
        if !batch.is_empty() {
            give(batch);
        }
        Ok(())
    }
}

/// The rows, as one reader sees them.
pub(super) struct View<'a> {
    snapshot: &'a Snapshot,
    txn: &'a RoTxn<'static, WithoutTls>,
}

impl View<'_> {
    /// The bytes of a row's other columns.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<&[u8]>> {
        if let Some(rest) = self.snapshot.indexed(key) {
            return rest;
        }
        // The longest name that can be asked for; a longer key is in no block.
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        // The keys of a block are not above its name; those of the next one are.
        match self.snapshot.blocks.get_greater_than_or_equal_to(self.txn, key)? {
            Some(block) => Block::read(block)?.find(key),
            None => Ok(None),
        }
    }
}

/// A version that is written.
#[derive(Debug)]
pub(super) struct Writer {
    env: Env<WithoutTls>,
    blocks: Blocks,
    unfinished: Mutex<Unfinished>,
    room: Mutex<Room>,
}

/// The block that is being filled, and the last key, which each next one must be above.
#[derive(Debug, Default)]
struct Unfinished {
    builder: Builder,
    bytes: Vec<u8>,
    last_key: Vec<u8>,
    /// How many blocks were put since pages were let go of.
    put: usize,
}

/// Address space for a file that grows; it costs neither memory nor disk.
const WRITE_MAP_BYTES: usize = 1 << 40;
/// The longest key: a text of 255 characters.
const KEY_BYTES_MAX: usize = 255 * 4;

/// After so many blocks that were put the pages are let go of that were looked at for them...
const BLOCKS_PUT: usize = 1 << 5;
/// ... and after so many that were read.
const BLOCKS_READ: usize = 1 << 8;

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self> {
        // It is synced once, when it is whole: nobody reads it before.
        // LMDB would make a file that its owner alone can read.
        File::options().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
        let env = open(path, WRITE_MAP_BYTES, EnvFlags::NO_SYNC)?;
        let mut txn = env.write_txn()?;
        let blocks = env.create_database(&mut txn, None)?;
        txn.commit()?;
        Ok(Self { env, blocks, unfinished: Mutex::default(), room: Mutex::new(Room::open(path)?) })
    }

    /// Appends rows whose keys are above all before them.
    pub(super) fn append(&self, batch: &RowBatch) -> Result<()> {
        batch.check()?;
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let mut txn = self.env.write_txn()?;
        for (key, rest) in batch.iter() {
            if !unfinished.last_key.is_empty() && *unfinished.last_key >= *key {
                return Err(Error::internal("rows did not come in key order"));
            }
            if !unfinished.builder.has_room(key, rest) {
                unfinished.put(&self.blocks, &mut txn, Some(key))?;
            }
            unfinished.builder.push(key, rest);
            unfinished.last_key.clear();
            unfinished.last_key.extend_from_slice(key);
        }
        txn.commit()?;
        if unfinished.put >= BLOCKS_PUT {
            unfinished.put = 0;
            self.unmap()?;
        }
        self.room.lock().unwrap_or_else(PoisonError::into_inner).make(self.used_bytes()?)
    }

    fn used_bytes(&self) -> Result<u64> {
        Ok((self.env.info().last_page_number as u64 + 1) * self.page_bytes()? as u64)
    }

    fn page_bytes(&self) -> Result<usize> {
        let txn = self.env.read_txn()?;
        Ok(self.blocks.stat(&txn)?.page_size as usize)
    }

    /// Puts everything on disk, closes the file and returns how many rows are in it.
    pub(super) fn finish(self) -> Result<u64> {
        let mut txn = self.env.write_txn()?;
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        if !unfinished.builder.is_empty() {
            unfinished.put(&self.blocks, &mut txn, None)?;
        }
        drop(unfinished);
        txn.commit()?;
        self.room.lock().unwrap_or_else(PoisonError::into_inner).give_back(self.used_bytes()?)?;
        self.env.force_sync()?;
        let txn = self.env.read_txn()?;
        let mut rows = 0;
        for (at, block) in self.blocks.iter(&txn)?.enumerate() {
            rows += Block::read(block?)?.rows() as u64;
            if at % BLOCKS_READ == BLOCKS_READ - 1 {
                self.unmap()?;
            }
        }
        drop(txn);
        self.close();
        Ok(rows)
    }

    /// Lets go of the pages of the file that were looked at: they stay in the kernel's memory and do not count as ours.
    /// Where they are large, a look at one byte brings two mebibytes.
    #[expect(unsafe_code, reason = "LMDB does not let go of its pages")]
    fn unmap(&self) -> Result<()> {
        let txn = self.env.read_txn()?;
        let (Some((_, first)), Some((_, last))) = (self.blocks.first(&txn)?, self.blocks.last(&txn)?) else {
            return Ok(());
        };
        // The map is one piece, and both are in it.
        let start = first.as_ptr().expose_provenance();
        let start = start - start % self.page_bytes()?;
        let length = last.as_ptr_range().end.addr().saturating_sub(start);
        if let Some(at) = NonNull::new(ptr::with_exposed_provenance_mut(start)) {
            // SAFETY: the map is of a file and only read, so a page that is gone comes back when it is looked at.
            let _ = unsafe { madvise(at, length, MmapAdvise::MADV_DONTNEED) };
        }
        Ok(())
    }

    pub(super) fn close(self) {
        self.env.prepare_for_closing().wait();
    }
}

impl Unfinished {
    /// Puts the block into the file; `next` is the key that comes behind it.
    fn put(&mut self, blocks: &Blocks, txn: &mut RwTxn<'_>, next: Option<&[u8]>) -> Result<()> {
        self.builder.finish(&mut self.bytes)?;
        self.put += 1;
        let name = next.map_or(self.last_key.as_slice(), |next| block::name(&self.last_key, next));
        Ok(blocks.put_with_flags(txn, PutFlags::APPEND, name, &self.bytes)?)
    }
}

#[expect(unsafe_code, reason = "LMDB maps a file that another program could change")]
fn open(path: &Path, map_bytes: usize, flags: EnvFlags) -> Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes.next_multiple_of(4096).max(1 << 16));
    // SAFETY: a file is written by its one publisher, under the lock of its dataset and a name that no reader opens,
    // and is never changed once it has its final name. So it needs no lock of LMDB's own either.
    unsafe { options.flags(EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK | EnvFlags::NO_READ_AHEAD | flags) };
    let mut retry = Retry::new(CLOSING_MAX, CLOSING_BACKOFF);
    loop {
        // SAFETY: as above.
        match unsafe { options.open(path) } {
            // Its last reader is just closing it.
            Err(heed::Error::EnvAlreadyOpened) => {
                retry.pause_blocking(Error::internal(format!("{} is open already", path.display())))?;
            }
            opened => return Ok(opened?),
        }
    }
}

/// A file that is just being closed is closed within a second.
const CLOSING_MAX: Duration = Duration::from_secs(1);
const CLOSING_BACKOFF: Backoff = Backoff::Constant(Duration::from_millis(1));

/// The snapshots that are open in this process. LMDB forbids to open a file twice, so all readers share one. A version is
/// told by its number and its content: where a store was restored, another file has the same name.
#[derive(Debug)]
pub(super) struct Snapshots {
    root: PathBuf,
    open: Mutex<HashMap<(String, u32, u64), Weak<Snapshot>>>,
}

impl Snapshots {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, open: Mutex::default() }
    }

    /// Opens the file of a version, if it is as long as the catalog says.
    pub(super) fn open(&self, dataset: &str, entry: &Entry, catalog: &Catalog) -> Result<Arc<Snapshot>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, snapshot| snapshot.strong_count() > 0);
        let version = entry.version;
        let name = (dataset.to_owned(), version, entry.content_id());
        let path = path(&self.root.join(dataset), version);
        let damaged = |why| Error::Damaged { dataset: dataset.to_owned(), version, why };
        let facts = catalog
            .files
            .get(&version)
            .ok_or_else(|| damaged("the catalog does not know its file".into()))?;
        match checksum::wrong_size(&path, *facts) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("its file is gone".into()));
            }
            wrong => {
                if let Some(why) = wrong? {
                    return Err(damaged(why));
                }
            }
        }
        if let Some(snapshot) = open.get(&name).and_then(Weak::upgrade) {
            return Ok(snapshot);
        }
        let snapshot = Arc::new(Snapshot::open(&path)?);
        open.insert(name, Arc::downgrade(&snapshot));
        Ok(snapshot)
    }
}

/// Puts a finished file's bytes and size on disk.
pub(super) fn sync(path: &Path) -> Result<()> {
    Ok(File::open(path)?.sync_all()?)
}

impl From<heed::Error> for Error {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Io(error) => error.into(),
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::NoSpace(error.into()),
            heed::Error::Mdb(heed::MdbError::KeyExist) => Self::internal("rows did not come in key order"),
            heed::Error::Mdb(
                heed::MdbError::Corrupted
                | heed::MdbError::Invalid
                | heed::MdbError::PageNotFound
                | heed::MdbError::VersionMismatch,
            ) => Self::corrupt(error),
            // A write failed and the file cannot be written any more.
            heed::Error::Mdb(heed::MdbError::Panic) => Self::Other(error.into()),
            heed::Error::Mdb(error) => Self::internal(error),
            other => Self::Other(other.into()),
        }
    }
}
