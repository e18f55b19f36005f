//! Sorted runs on disk.
//!
//! Runs stand one behind the other in a file without a name, which goes with its last handle. An index says where the
//! rows of some keys stand, so that a part of the keys can be read by itself.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blocks::{Blocks, Checksums, in_memory};
use super::buffer::Buffer;
use super::row::{BROKEN_ROW, Head, RowRef};
use crate::error::Fault;

/// How much is written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Where runs are written.
#[derive(Debug)]
pub(crate) struct Scratch {
    file: Arc<File>,
    /// So many bytes are given to runs.
    given: AtomicU64,
}

/// Rows in key order.
#[derive(Debug)]
pub(crate) struct Run {
    blocks: Arc<Blocks>,
    index: Index,
    last_key: Vec<u8>,
}

/// Every so many bytes of a run the key of a row and where it stands, the first row among them.
#[derive(Debug, Default)]
struct Index {
    keys: Vec<u8>,
    /// Where each key ends, and the place of its row.
    entries: Vec<(usize, u64)>,
}

impl Index {
    fn push(&mut self, key: &[u8], place: u64) {
        self.keys.extend_from_slice(key);
        self.entries.push((self.keys.len(), place));
    }

    fn key(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.entries[before].0);
        &self.keys[start..self.entries[at].0]
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.entries.len()).map(|at| self.key(at))
    }

    fn append(&mut self, other: &Self) {
        let end = self.keys.len();
        self.keys.extend_from_slice(&other.keys);
        self.entries.extend(other.entries.iter().map(|(key_end, place)| (end + key_end, *place)));
    }
}

impl Scratch {
    pub(crate) fn new(work_dir: &Path) -> io::Result<Self> {
        Ok(Self { file: Arc::new(tempfile::tempfile_in(work_dir)?), given: AtomicU64::new(0) })
    }

    /// So much is written, or will be at once.
    pub(crate) fn bytes(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Writes a run of the rows of a sorted buffer, with an entry in the index about every `index_bytes`.
    pub(crate) fn write_buffer(&self, buffer: &Buffer, index_bytes: u64) -> io::Result<Run> {
        let bytes = buffer.bytes().len() as u64;
        if !buffer.came_in_order() {
            return self.write(bytes, index_bytes, |write| buffer.try_for_each(write));
        }
        let start = self.given.fetch_add(bytes, Ordering::Relaxed);
        let mut checksums = Checksums::new(start);
        checksums.add(buffer.bytes());
        self.file.write_all_at(buffer.bytes(), start)?;
        let mut index = Index::default();
        buffer.marks(index_bytes).for_each(|(key, at)| index.push(key, start + at));
        let last_key = buffer.last_key().unwrap_or_default().to_vec();
        Ok(self.run(checksums, index, last_key))
    }

    /// Writes a run of what `rows` hands to its argument, `bytes` in all, with an entry in the index about every
    /// `index_bytes`.
    pub(crate) fn write(
        &self,
        bytes: u64,
        index_bytes: u64,
        rows: impl FnOnce(&mut dyn FnMut(RowRef<'_>) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<Run> {
        let start = self.given.fetch_add(bytes, Ordering::Relaxed);
        let mut writer = Writer {
            file: &self.file,
            piece: Vec::with_capacity(WRITE_BYTES + (64 << 10)),
            end: start,
            checksums: Checksums::new(start),
        };
        let (mut index, mut last_key, mut next_entry) = (Index::default(), Vec::new(), start);
        rows(&mut |row| {
            let place = writer.place();
            if place >= next_entry {
                index.push(row.key, place);
                next_entry = place + index_bytes;
            }
            last_key.clear();
            last_key.extend_from_slice(row.key);
            writer.write(row)
        })?;
        writer.flush()?;
        if writer.end != start + bytes {
            return Err(Fault::Internal("a sorted run has another size than its rows").into());
        }
        Ok(self.run(writer.checksums, index, last_key))
    }

    fn run(&self, checksums: Checksums, index: Index, last_key: Vec<u8>) -> Run {
        Run { blocks: Arc::new(Blocks::new(self.file.clone(), checksums.finish())), index, last_key }
    }
}

struct Writer<'a> {
    file: &'a File,
    piece: Vec<u8>,
    end: u64,
    checksums: Checksums,
}

impl Writer<'_> {
    /// Where the next row will stand.
    fn place(&self) -> u64 {
        self.end + self.piece.len() as u64
    }

    fn write(&mut self, row: RowRef<'_>) -> io::Result<()> {
        row.encode(&mut self.piece);
        if self.piece.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.checksums.add(&self.piece);
        self.file.write_all_at(&self.piece, self.end)?;
        self.end += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
}

impl Run {
    /// Takes in a run that comes behind it, in the file and in the order of the keys; otherwise gives it back.
    pub(crate) fn join(&mut self, mut next: Self) -> Option<Self> {
        let in_order = next.index.keys().next().is_some_and(|first| self.last_key.as_slice() <= first);
        if !in_order || !self.blocks.are_before(&next.blocks) {
            return Some(next);
        }
        // Runs are read only after the last one is written, so nothing else refers to these.
        let Some((blocks, others)) = Arc::get_mut(&mut self.blocks).zip(Arc::get_mut(&mut next.blocks))
        else {
            return Some(next);
        };
        blocks.append(others);
        self.index.append(&next.index);
        self.last_key = next.last_key;
        None
    }

    /// Keys that are about equally many bytes apart.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.index.keys()
    }

    pub(crate) fn bytes(&self) -> u64 {
        let place = self.blocks.place();
        place.end - place.start
    }

    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Reads the rows from one key on and below another, in pieces of `buffer_bytes`.
    pub(crate) fn read(
        &self,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        buffer_bytes: usize,
    ) -> io::Result<RunReader> {
        let place = self.blocks.place();
        let start = from.map_or(Ok(place.start), |key| self.place_of(key))?;
        let end = to.map_or(Ok(place.end), |key| self.place_of(key))?;
        RunReader::open(self.blocks.clone(), start..end, buffer_bytes)
    }

    /// Where the first row stands that is not below a key.
    fn place_of(&self, key: &[u8]) -> io::Result<u64> {
        let entries = &self.index.entries;
        let behind = self.partition_point(key);
        let Some(before) = behind.checked_sub(1) else { return Ok(self.blocks.place().start) };
        let end = entries.get(behind).map_or_else(|| self.blocks.place().end, |entry| entry.1);
        let mut rows = RunReader::open(self.blocks.clone(), entries[before].1..end, 64 << 10)?;
        while rows.row().is_some_and(|row| row.key < key) {
            rows.advance()?;
        }
        Ok(rows.place())
    }

    /// How many keys of the index are below a key.
    fn partition_point(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.index.entries.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.index.key(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// Reads rows one after the other.
#[derive(Debug)]
pub(crate) struct RunReader {
    blocks: Arc<Blocks>,
    /// What is not yet read.
    left: Range<u64>,
    buffer_bytes: usize,
    buffer: Vec<u8>,
    /// Where in the buffer the current row stands.
    at: usize,
    /// Of the current row; nothing at the end.
    head: Option<Head>,
}

impl RunReader {
    fn open(blocks: Arc<Blocks>, place: Range<u64>, buffer_bytes: usize) -> io::Result<Self> {
        let mut reader = Self { blocks, left: place, buffer_bytes, buffer: Vec::new(), at: 0, head: None };
        reader.find()?;
        Ok(reader)
    }

    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        self.head.map(|head| RowRef::split(head, &self.buffer[self.at..]))
    }

    /// Goes on to the next row.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        let Some(head) = self.head else { return Ok(()) };
        self.at += head.row_bytes();
        self.find()
    }

    /// Where the current row stands in the file, or the end.
    fn place(&self) -> u64 {
        self.left.start - (self.buffer.len() - self.at) as u64
    }

    /// Finds the row that begins where the buffer is read.
    fn find(&mut self) -> io::Result<()> {
        self.have(RowRef::HEAD_BYTES_MAX)?;
        if self.at == self.buffer.len() {
            self.head = None;
            return Ok(());
        }
        let head = Head::read(&self.buffer[self.at..])?;
        self.have(head.row_bytes())?;
        if self.buffer.len() - self.at < head.row_bytes() {
            return Err(Fault::Internal(BROKEN_ROW).into());
        }
        self.head = Some(head);
        Ok(())
    }

    /// Sees to it that so many bytes are in the buffer, or all that there are.
    fn have(&mut self, bytes: usize) -> io::Result<()> {
        while self.buffer.len() - self.at < bytes && !self.left.is_empty() {
            self.buffer.drain(..self.at);
            self.at = 0;
            let more = self.buffer_bytes.max(bytes).saturating_sub(self.buffer.len());
            let end = self.blocks.read(self.left.start, more, &mut self.buffer)?;
            // The last block may hold rows of the next range.
            let beyond = in_memory(end.saturating_sub(self.left.end))?;
            self.buffer.truncate(self.buffer.len() - beyond);
            self.left.start = end.min(self.left.end);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// Rows of about 50 bytes, as many as fill a few blocks.
    fn buffer(first: u32, turned: bool) -> Buffer {
        let mut buffer = Buffer::new(1 << 20);
        for at in 0..500 {
            let key = first + if turned { 499 - at } else { at };
            buffer.push(&key.to_be_bytes(), &[b'x'; 43], 1);
        }
        buffer.sort();
        buffer
    }

    /// A run of two that were joined, one of which was written row by row.
    fn run(scratch: &Scratch) -> Run {
        let mut run = scratch.write_buffer(&buffer(0, false), 4096).unwrap();
        assert!(run.join(scratch.write_buffer(&buffer(500, true), 4096).unwrap()).is_none());
        run
    }

    fn keys(run: &Run, from: Option<u32>, to: Option<u32>) -> io::Result<Vec<u32>> {
        let (from, to) = (from.map(u32::to_be_bytes), to.map(u32::to_be_bytes));
        let mut reader =
            run.read(from.as_ref().map(|key| &key[..]), to.as_ref().map(|key| &key[..]), 8 << 10)?;
        let mut keys = Vec::new();
        while let Some(row) = reader.row() {
            assert_eq!(row.rest, [b'x'; 43]);
            keys.push(u32::from_be_bytes(row.key.try_into().unwrap()));
            reader.advance()?;
        }
        Ok(keys)
    }

    #[test]
    fn a_range_of_a_run_is_read_from_any_row_to_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let run = run(&Scratch::new(dir.path()).unwrap());
        assert!(run.bytes() > 40_000);
        assert_eq!(keys(&run, None, None).unwrap(), (0..1000).collect::<Vec<_>>());
        for from in (0..1000).step_by(83) {
            for to in (from..1000).step_by(97) {
                assert_eq!(keys(&run, Some(from), Some(to)).unwrap(), (from..to).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_run_that_rots_is_an_error_and_never_a_row() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(dir.path()).unwrap();
        let run = run(&scratch);
        for place in (0..run.bytes()).step_by(61) {
            let mut byte = [0];
            scratch.file.read_exact_at(&mut byte, place).unwrap();
            scratch.file.write_all_at(&[byte[0] ^ 0x10], place).unwrap();
            let error = keys(&run, None, None).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {place}");
            assert!(matches!(Error::of_work(error), Error::Work(_)), "byte {place}");
            scratch.file.write_all_at(&byte, place).unwrap();
        }
        scratch.file.set_len(run.bytes() - 1).unwrap();
        assert!(keys(&run, None, None).is_err());
    }

    #[test]
    fn a_run_of_another_size_than_its_rows_is_a_defect_and_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let (scratch, rows) = (Scratch::new(dir.path()).unwrap(), buffer(0, false));
        let too_few = rows.bytes().len() as u64 - 1;
        let error =
            Error::of_work(scratch.write(too_few, 4096, |write| rows.try_for_each(write)).unwrap_err());
        assert!(matches!(error, Error::Internal(_)), "{error}");
        assert!(!error.is_of_the_file() && error.code() == "internal");
    }

    #[test]
    fn a_row_that_was_written_wrong_is_a_defect_and_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(dir.path()).unwrap();
        let mut checksums = Checksums::new(0);
        // The length of a key, and then neither the other lengths nor the key.
        checksums.add(&[200]);
        scratch.file.write_all_at(&[200], 0).unwrap();
        let run = scratch.run(checksums, Index::default(), Vec::new());
        let error = Error::of_work(keys(&run, None, None).unwrap_err());
        assert!(matches!(error, Error::Internal(_)), "{error}");
    }
}
