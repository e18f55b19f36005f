//! The sorted rows of a file: keys that come twice are settled, and batches handed out, each range of the keys from a
//! thread of its own.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dataset::{Dataset, DuplicatePolicy, RejectReason, RowBatch};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::rejects::{Refused, Rejects};
use crate::sort::{self, Merge, RowRef};
use crate::{Error, Ingested, Progress};

/// A batch is handed on when it is this large.
const BATCH_BYTES: usize = 256 << 10;
/// So many batches of a range may wait.
const BATCHES_WAITING: usize = 4;
/// Once in so many rows it is seen whether anybody still wants them.
const ROWS_PER_LOOK: u64 = 4096;
/// A range of its own is worth it from so many rows on.
const RANGE_ROWS_MIN: u64 = 100_000;

/// The rows of one range of the keys, in their order. The end says nothing about success: only [`SortedRows::finish`]
/// does.
pub type Range = mpsc::Receiver<RowBatch>;

/// The rows of a file, on their way into a store.
#[derive(Debug)]
pub struct SortedRows {
    ranges: Vec<Range>,
    merges: Vec<JoinHandle<Result<Given, Error>>>,
    rejects: Arc<Mutex<Rejects>>,
}

/// What was found on the way.
#[derive(Debug)]
pub struct Merged {
    /// Rows that were given out, each with a key of its own.
    pub rows: u64,
    /// Rows that were left out because another row has their key: identical ones, and those that the dataset's rule
    /// for duplicates passes over.
    pub duplicates: u64,
    /// All rejects of the file, those for duplicate keys among them.
    pub rejects: Rejects,
}

impl SortedRows {
    pub(crate) async fn start(ingested: Ingested, ranges: usize) -> Result<Self, Error> {
        let Ingested { dataset, rejects, sorted, rows, progress, sort_memory_bytes, .. } = ingested;
        let worth_it = usize::try_from(rows / RANGE_ROWS_MIN).unwrap_or(usize::MAX).max(1);
        // On a thread that may block: it reads the beginning of every run from the disk.
        let memory_bytes = sort::read_bytes(sort_memory_bytes);
        let split = move || sorted.split(ranges.min(worth_it), memory_bytes).map_err(Error::of_work);
        let merges = tokio::task::spawn_blocking(split).await.map_err(|_| Error::Panicked)??;
        let rejects = Arc::new(Mutex::new(rejects));
        let start = |merge| {
            // A thread for each range, because it reads the disk and a store can take several ranges at once. The channel
            // is bounded, so rows stay on the disk until the store takes them.
            let (sender, range) = mpsc::channel(BATCHES_WAITING);
            let giver = Giver {
                dataset: dataset.clone(),
                sender,
                batch: RowBatch::with_capacity(BATCH_BYTES),
                given: Given::default(),
                rejects: rejects.clone(),
                progress: progress.clone(),
            };
            (range, tokio::task::spawn_blocking(move || giver.run(merge)))
        };
        let (ranges, merges) = merges.into_iter().map(start).unzip();
        Ok(Self { ranges, merges, rejects })
    }

    /// The ranges, in the order of their keys, for whoever can take several at once.
    pub fn take_ranges(&mut self) -> Vec<Range> {
        mem::take(&mut self.ranges)
    }

    /// The next rows of all.
    pub async fn next(&mut self) -> Option<RowBatch> {
        while let Some(range) = self.ranges.first_mut() {
            let batch = range.recv().await;
            if batch.is_some() {
                return batch;
            }
            self.ranges.remove(0);
        }
        None
    }

    /// Waits until all rows are given out, and says what was found.
    pub async fn finish(self) -> Result<Merged, Error> {
        // Who still has rows to give out must not wait for ever.
        drop(self.ranges);
        let mut given = Given::default();
        for merge in self.merges {
            let range = merge.await.map_err(|_| Error::Panicked)??;
            given.rows += range.rows;
            given.duplicates += range.duplicates;
        }
        let rejects = Arc::into_inner(self.rejects).ok_or(Error::Panicked)?;
        let mut rejects = rejects.into_inner().unwrap_or_else(PoisonError::into_inner);
        rejects.flush().map_err(Error::Work)?;
        Ok(Merged { rows: given.rows, duplicates: given.duplicates, rejects })
    }

    /// Reads all rows and keeps none, for what is found on the way.
    pub async fn finish_unread(mut self) -> Result<Merged, Error> {
        while self.next().await.is_some() {}
        self.finish().await
    }
}

/// What became of the rows of a range.
#[derive(Debug, Default)]
struct Given {
    rows: u64,
    duplicates: u64,
}

/// Gives out the rows of a range.
struct Giver {
    dataset: Arc<Dataset>,
    sender: mpsc::Sender<RowBatch>,
    batch: RowBatch,
    given: Given,
    rejects: Arc<Mutex<Rejects>>,
    progress: Arc<Progress>,
}

/// A row with memory of its own, which is used again for the next one.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    key: usize,
    line: u64,
}

impl Kept {
    fn set(&mut self, row: RowRef<'_>) {
        self.bytes.clear();
        self.bytes.extend_from_slice(row.key);
        self.bytes.extend_from_slice(row.rest);
        (self.key, self.line) = (row.key.len(), row.line);
    }

    fn row(&self) -> RowRef<'_> {
        let (key, rest) = self.bytes.split_at(self.key);
        RowRef { key, rest, line: self.line }
    }
}

impl Giver {
    fn run(mut self, mut merge: Merge) -> Result<Given, Error> {
        let mut kept = Kept::default();
        let (mut any, mut seen) = (false, 0_u64);
        while let Some(row) = merge.row() {
            // Where all rows have the same key, none is given out for long.
            seen += 1;
            if seen.is_multiple_of(ROWS_PER_LOOK) && self.sender.is_closed() {
                return Err(Error::Unwanted);
            }
            if any && row.key == kept.row().key {
                self.settle(&mut kept, row)?;
            } else {
                if any {
                    self.give(kept.row())?;
                }
                kept.set(row);
                any = true;
            }
            merge.advance().map_err(Error::of_work)?;
        }
        if any {
            self.give(kept.row())?;
        }
        self.send()?;
        Ok(self.given)
    }

    /// Decides between two rows with the same key, of which `next` stands later in the file.
    fn settle(&mut self, kept: &mut Kept, next: RowRef<'_>) -> Result<(), Error> {
        if next.rest != kept.row().rest {
            match self.dataset.duplicates {
                DuplicatePolicy::Reject => return self.refuse(kept.line, next),
                DuplicatePolicy::First => {}
                DuplicatePolicy::Last => kept.set(next),
            }
        }
        self.given.duplicates += 1;
        Ok(())
    }

    fn refuse(&self, line: u64, row: RowRef<'_>) -> Result<(), Error> {
        let schema = &self.dataset.schema;
        let (mut values, mut record) = (Vec::new(), Vec::new());
        // These bytes were written a moment ago by the same schema.
        let _ = schema.decode_row(row.key, row.rest, &mut values);
        dataset::write_row_json(schema, &values, &mut record);
        let key = schema.format_key(row.key);
        let refused = Refused {
            line: row.line,
            column: Some(&schema.key().name),
            value: key.as_bytes(),
            reason: &RejectReason::DuplicateKey { line },
            record,
        };
        self.rejects().add(&refused).map_err(Error::Work)
    }

    fn rejects(&self) -> MutexGuard<'_, Rejects> {
        self.rejects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&mut self, row: RowRef<'_>) -> Result<(), Error> {
        self.given.rows += 1;
        self.batch.push(row.key, row.rest);
        if self.batch.bytes_len() >= BATCH_BYTES { self.send() } else { Ok(()) }
    }

    /// Hands the batch on, unless the file is refused already; then the rows are only counted.
    fn send(&mut self) -> Result<(), Error> {
        let mut batch = mem::replace(&mut self.batch, RowBatch::with_capacity(BATCH_BYTES));
        if self.rejects().count() > self.dataset.guards.max_rejects {
            return if self.sender.is_closed() { Err(Error::Unwanted) } else { Ok(()) };
        }
        self.progress.add_given(batch.len() as u64);
        batch.seal();
        if batch.is_empty() { Ok(()) } else { self.sender.blocking_send(batch).map_err(|_| Error::Unwanted) }
    }
}
