//! The bytes of runs in blocks with checksums: what rots on the disk is an error and never a row.
//!
//! A block is checked before any row of it is read, because a damaged length would ask for any amount of memory. It is as
//! large as the smallest piece in which a run is read, so that checking takes no memory of its own. The checksums stay in
//! memory, 4 bytes for 8 KiB of rows: written to the disk, they would have to be told apart from rows that are read from
//! any place on. `crc32fast` takes 24 GB/s on one core where this was measured: 0.03 s for the 0.3 GB that ten million
//! promotions take in runs, which are written once and read once.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crc32fast::Hasher;

use crate::error::Fault;

/// The size of a block; the last one of an extent is shorter.
pub(super) const BLOCK_BYTES: usize = 8 << 10;

/// Some bytes of a file that were written one after the other, with the checksum of each block.
#[derive(Debug)]
pub(super) struct Extent {
    place: Range<u64>,
    checksums: Vec<u32>,
}

/// Extents that stand one behind the other.
#[derive(Debug)]
pub(super) struct Blocks {
    file: Arc<File>,
    extents: Vec<Extent>,
}

/// Takes the bytes of an extent as they are written.
pub(super) struct Checksums {
    start: u64,
    bytes: u64,
    finished: Vec<u32>,
    block: Hasher,
    /// Bytes of the block so far.
    block_bytes: usize,
}

impl Checksums {
    /// For bytes from this place of the file on.
    pub(super) fn new(start: u64) -> Self {
        Self { start, bytes: 0, finished: Vec::new(), block: Hasher::new(), block_bytes: 0 }
    }

    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let count = bytes.len().min(BLOCK_BYTES - self.block_bytes);
            let (block, rest) = bytes.split_at(count);
            self.block.update(block);
            self.block_bytes += count;
            if self.block_bytes == BLOCK_BYTES {
                self.end_block();
            }
            bytes = rest;
        }
    }

    pub(super) fn finish(mut self) -> Extent {
        if self.block_bytes > 0 {
            self.end_block();
        }
        Extent { place: self.start..self.start + self.bytes, checksums: self.finished }
    }

    fn end_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        self.finished.push(block.finalize());
        self.block_bytes = 0;
    }
}

impl Blocks {
    pub(super) fn new(file: Arc<File>, extent: Extent) -> Self {
        Self { file, extents: vec![extent] }
    }

    /// The place of all bytes in the file.
    pub(super) fn place(&self) -> Range<u64> {
        let start = self.extents.first().map_or(0, |extent| extent.place.start);
        start..self.extents.last().map_or(start, |extent| extent.place.end)
    }

    /// Whether others stand directly behind these.
    pub(super) fn are_before(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.place().end == other.place().start
    }

    /// Takes in others that stand directly behind these.
    pub(super) fn append(&mut self, others: &mut Self) {
        self.extents.append(&mut others.extents);
    }

    /// Appends the bytes from a place on to `out`, as whole blocks and about as many as asked for. Returns the place
    /// behind them.
    pub(super) fn read(&self, start: u64, bytes: usize, out: &mut Vec<u8>) -> io::Result<u64> {
        let at = self.extents.partition_point(|extent| extent.place.end <= start);
        let outside = Fault::Internal("a place outside of the sorted runs");
        let Some(Extent { place, checksums }) =
            self.extents.get(at).filter(|extent| extent.place.contains(&start))
        else {
            return Err(outside.into());
        };
        let first = in_memory((start - place.start) / BLOCK_BYTES as u64)?;
        let count = ((bytes + BLOCK_BYTES / 2) / BLOCK_BYTES).max(1);
        let checksums = &checksums[first..(first + count).min(checksums.len())];
        let from = place.start + (first * BLOCK_BYTES) as u64;
        let end = (from + (checksums.len() * BLOCK_BYTES) as u64).min(place.end);
        let before = out.len();
        let count = in_memory(end - from)?;
        // Many runs are read at once; growing by doubling would take twice their memory.
        out.reserve_exact(count);
        out.resize(before + count, 0);
        self.file.read_exact_at(&mut out[before..], from)?;
        for (block, checksum) in out[before..].chunks(BLOCK_BYTES).zip(checksums) {
            if crc32fast::hash(block) != *checksum {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a sorted run is damaged"));
            }
        }
        // A range of the keys begins anywhere in a block.
        out.drain(before..before + in_memory(start - from)?);
        Ok(end)
    }
}

/// A number of bytes that are about to be in memory.
pub(super) fn in_memory(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| Fault::Internal("a piece larger than memory").into())
}
