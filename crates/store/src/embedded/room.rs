//! Room for a file that grows, ahead of what is written.
//!
//! Where space on the disk is set aside in large pieces, and pages of memory for it, too, the kernel keeps the file in
//! memory in large pages, and writing is quicker as well. None of it is needed.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread::{self, JoinHandle};

use nix::fcntl::{FallocateFlags, fallocate};

use super::pages::{self, LARGE_BYTES};
use crate::{Error, Result};

/// So far ahead at most.
const AHEAD_MAX_BYTES: u64 = 64 << 20;
/// When so much more is written it is put on disk.
const SYNC_BYTES: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Room {
    file: File,
    /// How long the file has been made.
    bytes: u64,
    is_given: bool,
    /// So many bytes were written when it was last put on disk, and who does that.
    synced: u64,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl Room {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self { file, bytes: 0, is_given: true, synced: 0, syncing: None })
    }

    /// Makes room for as much again as is written, which is `used` bytes. What is written is put on disk by the way, so
    /// that little is left for the end.
    pub(super) fn make(&mut self, used: u64) -> Result<()> {
        self.sync(used)?;
        let ahead = used.min(AHEAD_MAX_BYTES);
        if !self.is_given || used < LARGE_BYTES || used + ahead / 2 < self.bytes {
            return Ok(());
        }
        let (from, to) = (
            self.bytes.max(used).next_multiple_of(LARGE_BYTES),
            (used + ahead).next_multiple_of(LARGE_BYTES),
        );
        self.is_given = extend(&self.file, from, to).is_ok();
        self.bytes = to;
        Ok(())
    }

    /// Puts what is written on disk, from a thread of its own.
    fn sync(&mut self, used: u64) -> Result<()> {
        if used - self.synced < SYNC_BYTES
            || self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished())
        {
            return Ok(());
        }
        self.wait()?;
        let file = self.file.try_clone()?;
        self.synced = used;
        self.syncing = Some(thread::spawn(move || file.sync_data()));
        Ok(())
    }

    /// The kernel tells of an error only once, so nobody may miss it.
    fn wait(&mut self) -> Result<()> {
        let Some(syncing) = self.syncing.take() else { return Ok(()) };
        Ok(syncing.join().map_err(|_| Error::internal("the thread that puts a file on disk panicked"))??)
    }

    /// Gives back what is behind the first `used` bytes.
    pub(super) fn give_back(&mut self, used: u64) -> Result<()> {
        self.wait()?;
        Ok(self.file.set_len(used)?)
    }
}

fn extend(file: &File, from: u64, to: u64) -> nix::Result<()> {
    let (Ok(start), Ok(end)) = (i64::try_from(from), i64::try_from(to)) else { return Ok(()) };
    if start >= end {
        return Ok(());
    }
    fallocate(file, FallocateFlags::empty(), start, end - start)?;
    pages::fill(file, from, to)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn room_is_made_ahead_and_what_is_not_needed_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = File::create(&path).unwrap();
        let mut room = Room::open(&path).unwrap();
        let piece = vec![7; 1 << 20];
        for written in 1..=10_u64 {
            file.write_all(&piece).unwrap();
            room.make(written << 20).unwrap();
            let len = path.metadata().unwrap().len();
            assert!(written == 1 || len > written << 20, "{len} bytes after {written} MiB");
        }
        room.give_back(10 << 20).unwrap();
        assert!(std::fs::read(&path).unwrap() == piece.repeat(10));
        assert!(path.metadata().unwrap().blocks() * 512 < 11 << 20);
    }

    #[test]
    fn a_small_file_stays_as_it_is_and_one_that_cannot_grow_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"a").unwrap();
        let mut room = Room::open(&path).unwrap();
        room.make(1).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 1);
        room.file = File::open(&path).unwrap();
        room.make(LARGE_BYTES).unwrap();
        assert!(!room.is_given);
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b"b").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"b");
    }
}
