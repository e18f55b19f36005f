//! The directory of a dataset: its lock, its catalog, and the space that is kept back for a rollback.
//!
//! The lock is on the directory itself, so there is no lock file that somebody could remove. Whoever removes the
//! directory takes the lock away, and that is noticed before the catalog is written.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::catalog::{self, Catalog, sync_dir};
use crate::{Error, Result};

/// Files and directories of a store can be read by those of the same group, so that an api can run as another user; the
/// umask may take more away.
pub(super) const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// A file that only takes up space, so that a catalog can be written on a full disk.
const RESERVE: &str = "reserve";
/// Enough for the catalog of a dataset with few columns; a larger catalog has twice its own size.
const RESERVE_BYTES_MIN: u64 = 64 << 10;
/// A write that failed while less than this was free failed for lack of space, whatever the error says: LMDB reports a
/// short write as an I/O error.
const FREE_BYTES_MIN: u64 = 1 << 20;

/// A directory, locked until it is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    dataset: String,
    /// Unlocked when it is closed, by the kernel if need be.
    lock: File,
    /// The catalog as it was last read or written.
    catalog: Option<Vec<u8>>,
}

impl Directory {
    /// Locks the directory, and makes it if it is not there. Nothing is returned while another publisher has the lock.
    pub(super) fn try_lock(path: &Path, dataset: &str) -> Result<Option<Self>> {
        loop {
            create(path)?;
            let lock = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            let directory = Self { path: path.to_owned(), dataset: dataset.to_owned(), lock, catalog: None };
            // Where it was removed and made anew in between, others lock the new one.
            if directory.is_in_place() {
                return Ok(Some(directory));
            }
        }
    }

    fn is_in_place(&self) -> bool {
        let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|it| (it.dev(), it.ino())).ok();
        inode(self.lock.metadata()).is_some_and(|locked| inode(fs::metadata(&self.path)) == Some(locked))
    }

    pub(super) fn read_catalog(&mut self) -> Result<Option<Catalog>> {
        self.catalog = catalog::read_bytes(&self.path)?;
        self.catalog.as_deref().map(|bytes| Catalog::parse(&self.path, bytes)).transpose()
    }

    /// Replaces the catalog, unless somebody else has replaced it or the directory.
    pub(super) fn write_catalog(&mut self, catalog: &Catalog) -> Result<()> {
        self.check()?;
        let bytes = catalog.to_bytes()?;
        catalog::write(&self.path, &bytes)?;
        self.catalog = Some(bytes);
        Ok(())
    }

    /// Makes sure that the catalog is still the one that was read.
    pub(super) fn check(&self) -> Result<()> {
        if !self.is_in_place() {
            return Err(Error::lock_lost(&self.dataset, "its directory was removed or replaced"));
        }
        if catalog::read_bytes(&self.path)? != self.catalog {
            return Err(Error::lock_lost(&self.dataset, "its catalog was removed or replaced"));
        }
        Ok(())
    }

    /// Keeps space back: twice the size of the catalog, or as much of that as the disk has, but more than its size once,
    /// because it grows by what a rollback enters.
    pub(super) fn fill_reserve(&self) {
        let path = self.path.join(RESERVE);
        let catalog_bytes = self.catalog.as_ref().map_or(0, |catalog| catalog.len() as u64);
        let enough = (2 * catalog_bytes).max(RESERVE_BYTES_MIN);
        let mut sizes = (9..=16).rev().map(|sixteenths| enough * sixteenths / 16);
        // Where there is not even the last one, a rollback depends on what others leave free.
        let _ = sizes.any(|bytes| reserve(&path, bytes).is_ok());
    }

    /// Gives the space that was kept back to whoever writes next.
    pub(super) fn release_reserve(&self) {
        let _ = fs::remove_file(self.path.join(RESERVE));
    }

    /// An error of a write, told as what it is where the disk is full.
    pub(super) fn explain(&self, error: Error) -> Error {
        let is_write = matches!(error, Error::Other(_) | Error::Corrupt(_));
        let is_full = || free_bytes(&self.path).is_some_and(|free| free < FREE_BYTES_MIN);
        if is_write && is_full() { Error::NoSpace(error.into()) } else { error }
    }
}

/// Makes a file of at least that size, which has its blocks. One that cannot grow stays as it is.
fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::options().create(true).truncate(false).write(true).mode(FILE_MODE).open(path)?;
    let before = file.metadata()?.len();
    if before >= bytes {
        return Ok(());
    }
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).or_else(|error| {
        file.set_len(before)?;
        Err(error.into())
    })
}

/// Bytes that this process can still write there.
fn free_bytes(path: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(path).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Makes the directory and those above it, so that their names survive a power cut as what is in them does.
pub(super) fn create(path: &Path) -> Result<()> {
    if let Ok(found) = path.metadata() {
        if found.is_dir() {
            return Ok(());
        }
        return Err(Error::Setup(format!("{} is not a directory: remove it", path.display())));
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create(parent)?;
    }
    match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_a_reserve_that_cannot_grow_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RESERVE);
        reserve(&path, RESERVE_BYTES_MIN).unwrap();
        assert!(reserve(&path, i64::MAX as u64).is_err());
        assert_eq!(path.metadata().unwrap().len(), RESERVE_BYTES_MIN);
        reserve(&path, 1).unwrap();
        assert_eq!(path.metadata().unwrap().len(), RESERVE_BYTES_MIN, "it never shrinks");
    }
}
