//! One version as an LMDB file: written once in key order, then only read.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dataset::RowBatch;
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, PutFlags, WithoutTls};

use crate::{Error, Result};

type Rows = Database<Bytes, Bytes>;

/// The path of a version's file.
pub(super) fn path(dir: &Path, version: u32) -> PathBuf {
    dir.join(format!("v{version}.lmdb"))
}

/// The version whose file has that name.
pub(super) fn version_of(name: &str) -> Option<u32> {
    name.strip_prefix('v')?.strip_suffix(".lmdb")?.parse().ok()
}

/// Whether a directory holds the file of any version.
pub(super) fn any(dir: &Path) -> Result<bool> {
    let mut names = std::fs::read_dir(dir)?.filter_map(|file| file.ok()?.file_name().into_string().ok());
    Ok(names.any(|name| version_of(&name).is_some()))
}

/// A version that is read.
#[derive(Debug)]
pub(super) struct Snapshot {
    env: Env<WithoutTls>,
    rows: Rows,
}

impl Snapshot {
    fn open(path: &Path) -> Result<Self> {
        let len = usize::try_from(path.metadata()?.len()).map_err(Error::corrupt)?;
        let env = open(path, len, EnvFlags::READ_ONLY)?;
        let txn = env.read_txn()?;
        let rows = env.open_database(&txn, None)?;
        let rows = rows.ok_or_else(|| Error::corrupt(format!("{} holds no rows", path.display())))?;
        txn.commit()?;
        Ok(Self { env, rows })
    }

    /// Hands the bytes of a row's other columns to `read`.
    pub(super) fn get<T>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let txn = self.env.read_txn()?;
        Ok(self.rows.get(&txn, key)?.map(read))
    }

    /// Hands all rows, in batches of about `batch_bytes`, to `give`, until it wants no more.
    pub(super) fn scan(&self, batch_bytes: usize, mut give: impl FnMut(RowBatch) -> bool) -> Result<()> {
        let txn = self.env.read_txn()?;
        let mut batch = RowBatch::default();
        for row in self.rows.iter(&txn)? {
            let (key, rest) = row?;
            batch.push(key, rest);
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

/// A version that is written.
#[derive(Debug)]
pub(super) struct Writer {
    env: Env<WithoutTls>,
    rows: Rows,
}

/// Address space for a file that grows; it costs neither memory nor disk.
const WRITE_MAP_BYTES: usize = 1 << 40;

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self> {
        // It is synced once, when it is whole: nobody reads it before.
        let env = open(path, WRITE_MAP_BYTES, EnvFlags::NO_SYNC)?;
        let mut txn = env.write_txn()?;
        let rows = env.create_database(&mut txn, None)?;
        txn.commit()?;
        Ok(Self { env, rows })
    }

    /// Appends rows whose keys are above all before them.
    pub(super) fn append(&self, batch: &RowBatch) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for (key, rest) in batch.iter() {
            self.rows.put_with_flags(&mut txn, PutFlags::APPEND, key, rest)?;
        }
        Ok(txn.commit()?)
    }

    /// Puts everything on disk, closes the file and returns how many rows it has.
    pub(super) fn finish(self) -> Result<u64> {
        self.env.force_sync()?;
        let txn = self.env.read_txn()?;
        let rows = self.rows.len(&txn)?;
        drop(txn);
        self.close();
        Ok(rows)
    }

    pub(super) fn close(self) {
        self.env.prepare_for_closing().wait();
    }
}

#[expect(unsafe_code, reason = "LMDB maps a file that another program could change")]
fn open(path: &Path, map_bytes: usize, flags: EnvFlags) -> Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes.next_multiple_of(4096).max(1 << 16));
    // SAFETY: a file is written by its one publisher, under the lock of its dataset and a name that no reader opens,
    // and is never changed once it has its final name. So it needs no lock of LMDB's own either.
    unsafe {
        options.flags(EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK | EnvFlags::NO_READ_AHEAD | flags);
        Ok(options.open(path)?)
    }
}

/// The snapshots that are open in this process. LMDB forbids to open a file twice, so all readers share one.
#[derive(Debug)]
pub(super) struct Snapshots {
    root: PathBuf,
    open: Mutex<HashMap<(String, u32), Weak<Snapshot>>>,
}

impl Snapshots {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, open: Mutex::default() }
    }

    pub(super) fn get(&self, dataset: &str, version: u32) -> Result<Arc<Snapshot>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, snapshot| snapshot.strong_count() > 0);
        let name = (dataset.to_owned(), version);
        if let Some(snapshot) = open.get(&name).and_then(Weak::upgrade) {
            return Ok(snapshot);
        }
        let snapshot = Arc::new(Snapshot::open(&path(&self.root.join(dataset), version))?);
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
            heed::Error::Mdb(heed::MdbError::KeyExist) => Self::corrupt("rows did not come in key order"),
            heed::Error::Mdb(error) => Self::corrupt(error),
            other => Self::Other(other.into()),
        }
    }
}
