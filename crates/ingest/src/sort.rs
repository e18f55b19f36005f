//! The external sort: rows go in as they come and come out in the order of their keys, with bounded memory.
//!
//! Rows fill a buffer; a full one is sorted and written out as a run by a thread of its own while the next one fills.
//! So arrival, parsing and sorting overlap. Buffers are an eleventh of the memory, because one that is small enough to
//! stay near the processor is sorted and written twice as quickly, and two of them are sorted at once. The last one
//! stays in memory, so a small file never touches the disk. Rows with the same key stay in the order of their lines.
//!
//! A run that continues the one before it is joined to it: rows that come in key order are one run in the end, which is
//! only read again. A caller that takes several key ranges at once gets each from a merge of its own.

mod blocks;
mod buffer;
mod merge;
mod row;
mod run;
mod sorted;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::Error;
use buffer::Buffer;
pub(crate) use merge::Merge;
pub(crate) use row::RowRef;
use run::{Run, Scratch};
pub(crate) use sorted::Sorted;

/// So many runs are merged at once at most; with the usual memory that is enough for a billion promotions.
const RUNS_MAX: usize = 4096;
/// A run's index has an entry about every so many bytes.
const INDEX_BYTES: usize = 256 << 10;

/// Buffers share the memory: one fills, two are sorted, and others wait. Afterwards the last one stays, and at
/// most a quarter of the memory is for reading the runs.
const BUFFERS: usize = 11;
const SORTING_MAX: usize = 2;

/// Takes rows in any order.
pub(crate) struct Sort {
    work_dir: PathBuf,
    memory_bytes: usize,
    filling: Buffer,
    /// The buffers that are being sorted and written, in the order in which they came.
    writing: VecDeque<JoinHandle<io::Result<Written>>>,
    idle: Vec<Buffer>,
    scratch: Option<Arc<Scratch>>,
    runs: Vec<Run>,
}

/// A run, and what comes back from writing it.
struct Written {
    run: Run,
    buffer: Buffer,
}

impl Sort {
    pub(crate) fn new(work_dir: &Path, memory_bytes: usize) -> Self {
        Self {
            work_dir: work_dir.to_owned(),
            memory_bytes,
            filling: Buffer::new(memory_bytes / BUFFERS),
            writing: VecDeque::new(),
            idle: Vec::new(),
            scratch: None,
            runs: Vec::new(),
        }
    }

    /// Takes a row; waits for the disk when it is slower than the rows come.
    pub(crate) async fn push(&mut self, key: &[u8], rest: &[u8], line: u64) -> Result<(), Error> {
        if !self.filling.has_room(key, rest) {
            self.spill().await?;
        }
        self.filling.push(key, rest, line);
        Ok(())
    }

    /// How much of the disk is taken so far.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.scratch.as_ref().map_or(0, |scratch| scratch.bytes())
    }

    /// Ends the input. Sorts on a thread that may block: a full buffer takes a second of a processor.
    pub(crate) async fn finish(mut self) -> Result<Sorted, Error> {
        let mut last = mem::replace(&mut self.filling, Buffer::new(0));
        let sort = tokio::task::spawn_blocking(move || {
            last.sort();
            last
        });
        let last = sort.await.map_err(|_| Error::Panicked)?;
        while self.written().await? {}
        Ok(Sorted::new(self.runs, Arc::new(last)))
    }

    /// Hands the full buffer to a thread that sorts and writes it, and goes on with another one: rows are typed while the
    /// disk writes.
    async fn spill(&mut self) -> Result<(), Error> {
        if self.writing.len() >= SORTING_MAX {
            self.written().await?;
        }
        if self.runs.len() + self.writing.len() >= self.runs_max() {
            while self.written().await? {}
            self.unite().await?;
        }
        let scratch = match &self.scratch {
            Some(scratch) => scratch.clone(),
            None => self.scratch.insert(Arc::new(Scratch::new(&self.work_dir).map_err(Error::Work)?)).clone(),
        };
        let empty = self.idle.pop().unwrap_or_else(|| Buffer::new(self.memory_bytes / BUFFERS));
        let (mut buffer, index_bytes) = (mem::replace(&mut self.filling, empty), self.index_bytes());
        self.writing.push_back(tokio::task::spawn_blocking(move || {
            buffer.sort();
            let run = scratch.write_buffer(&buffer, index_bytes)?;
            buffer.clear();
            Ok(Written { run, buffer })
        }));
        Ok(())
    }

    /// Waits for the oldest run that is being written; says whether there was one.
    async fn written(&mut self) -> Result<bool, Error> {
        let Some(writing) = self.writing.pop_front() else { return Ok(false) };
        let written = writing.await.map_err(|_| Error::Panicked)?;
        let Written { run, buffer } = written.map_err(Error::of_work)?;
        self.idle.push(buffer);
        let behind = match self.runs.last_mut() {
            Some(before) => before.join(run),
            None => Some(run),
        };
        self.runs.extend(behind);
        Ok(true)
    }

    /// Makes one run of all, in a new file; the old one goes. On a thread that may block, because it reads and writes as
    /// much as the disk has.
    async fn unite(&mut self) -> Result<(), Error> {
        let (runs, memory_bytes, index_bytes) =
            (mem::take(&mut self.runs), read_bytes(self.memory_bytes), self.index_bytes());
        let work_dir = self.work_dir.clone();
        let unite = move || -> io::Result<(Run, Scratch)> {
            let scratch = Scratch::new(&work_dir)?;
            let bytes = runs.iter().map(Run::bytes).sum();
            let mut merge = Sorted::new(runs, Arc::new(Buffer::new(0))).merge(memory_bytes)?;
            let run = scratch.write(bytes, index_bytes, |write| {
                while let Some(row) = merge.row() {
                    write(row)?;
                    merge.advance()?;
                }
                Ok(())
            })?;
            Ok((run, scratch))
        };
        let united = tokio::task::spawn_blocking(unite).await.map_err(|_| Error::Panicked)?;
        let (run, scratch) = united.map_err(Error::of_work)?;
        self.runs.push(run);
        self.scratch = Some(Arc::new(scratch));
        Ok(())
    }

    /// As many as can be read at once.
    fn runs_max(&self) -> usize {
        (read_bytes(self.memory_bytes) / sorted::READ_BYTES.start()).clamp(16, RUNS_MAX)
    }

    /// With little memory a run is short, and has to be split all the same.
    fn index_bytes(&self) -> u64 {
        (self.memory_bytes / 64).min(INDEX_BYTES) as u64
    }
}

/// What of the memory is for reading runs, in however many ranges.
pub(crate) fn read_bytes(memory_bytes: usize) -> usize {
    memory_bytes / 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// More than reading needs here.
    const PLENTY: usize = 1 << 30;

    /// Sorts keys with so much memory, and gives them out in ranges, each with the place at which it came.
    fn sorted(keys: &[Vec<u8>], memory_bytes: usize, ranges: usize) -> Vec<Vec<(Vec<u8>, u64)>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut sort = Sort::new(dir.path(), memory_bytes);
        let sorted = runtime.block_on(async {
            for (line, key) in (0..).zip(keys) {
                sort.push(key, b"rest", line).await.unwrap();
            }
            sort.finish().await.unwrap()
        });
        let rows = |mut merge: Merge| {
            let mut rows = Vec::new();
            while let Some(row) = merge.row() {
                assert_eq!(row.rest, b"rest");
                rows.push((row.key.to_vec(), row.line));
                merge.advance().unwrap();
            }
            rows
        };
        // In runs of their own, each range needs memory for all of them.
        assert_eq!(sorted.split(ranges, 0).unwrap().len(), 1);
        sorted.split(ranges, PLENTY).unwrap().into_iter().map(rows).collect()
    }

    fn expected(keys: &[Vec<u8>]) -> Vec<(Vec<u8>, u64)> {
        let mut expected: Vec<_> = keys.iter().cloned().zip(0..).collect();
        expected.sort();
        expected
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn ranges_together_are_all_rows_in_order_and_no_key_is_in_two(
            prefix in proptest::collection::vec(any::<u8>(), 0..20),
            ends in proptest::collection::vec(proptest::collection::vec(0..4u8, 0..6), 0..300),
            memory_bytes in 0usize..20_000,
            ranges in 1usize..6,
        ) {
            let keys: Vec<_> = ends.iter().map(|end| [&prefix[..], end].concat()).collect();
            let given = sorted(&keys, memory_bytes, ranges);
            prop_assert!((1..=ranges).contains(&given.len()));
            for two in given.windows(2) {
                let (last, first) = (two[0].last(), two[1].first());
                prop_assert!(last.zip(first).is_none_or(|(last, first)| last.0 < first.0));
            }
            prop_assert_eq!(given.concat(), expected(&keys));
        }
    }

    #[test]
    fn rows_that_come_in_order_are_one_run() {
        let keys: Vec<_> = (0..5000u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let runs = |keys: &[Vec<u8>]| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let dir = tempfile::tempdir().unwrap();
            let mut sort = Sort::new(dir.path(), 100_000);
            runtime.block_on(async {
                for key in keys {
                    sort.push(key, b"rest", 1).await.unwrap();
                }
                while sort.written().await.unwrap() {}
            });
            sort.runs.len()
        };
        assert_eq!(runs(&keys), 1);
        let turned: Vec<_> = keys.iter().rev().cloned().collect();
        assert!(runs(&turned) > 5);
    }

    #[test]
    fn ranges_are_about_equally_large() {
        let keys: Vec<_> =
            (0..20_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec()).collect();
        let sizes: Vec<_> = sorted(&keys, 100_000, 4).iter().map(Vec::len).collect();
        assert!(sizes.len() == 4 && sizes.iter().all(|size| (3000..7000).contains(size)), "{sizes:?}");
    }
}
