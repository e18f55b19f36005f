//! Rows in key order without duplicates, in batches, from a thread of its own.

use std::sync::Arc;

use dataset::{Dataset, Duplicates, Reason, RowBatch};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::rejects::{Refused, Rejects};
use crate::sort::{Row, Sorted};
use crate::{Error, Ingested};

/// A batch is handed on when it is this large.
const BATCH_BYTES: usize = 256 << 10;
/// So many batches may wait.
const BATCHES_WAITING: usize = 4;

/// The rows of a file, on their way into a store.
#[derive(Debug)]
pub struct SortedRows {
    batches: mpsc::Receiver<RowBatch>,
    merge: JoinHandle<Result<Merged, Error>>,
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
    pub(crate) fn start(ingested: Ingested) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_WAITING);
        let Ingested { dataset, rejects, sorted, .. } = ingested;
        let merge = Merge { dataset, sender, batch: RowBatch::default(), rows: 0, duplicates: 0, rejects };
        Self { batches, merge: tokio::task::spawn_blocking(move || merge.run(sorted)) }
    }

    /// The next rows. The end says nothing about success: only [`SortedRows::finish`] does.
    pub async fn next(&mut self) -> Option<RowBatch> {
        self.batches.recv().await
    }

    /// Waits until the merge has ended, and says how.
    pub async fn finish(self) -> Result<Merged, Error> {
        // A merge that still has rows to give out must not wait for ever.
        drop(self.batches);
        self.merge.await.map_err(|_| Error::Panicked)?
    }

    /// Reads all rows and keeps none, for what is found on the way.
    pub async fn finish_unread(mut self) -> Result<Merged, Error> {
        while self.next().await.is_some() {}
        self.finish().await
    }
}

struct Merge {
    dataset: Arc<Dataset>,
    sender: mpsc::Sender<RowBatch>,
    batch: RowBatch,
    rows: u64,
    duplicates: u64,
    rejects: Rejects,
}

impl Merge {
    fn run(mut self, mut sorted: Sorted) -> Result<Merged, Error> {
        let (mut kept, mut next) = (Row::default(), Row::default());
        let mut any = sorted.next(&mut kept).map_err(Error::Work)?;
        while any {
            any = sorted.next(&mut next).map_err(Error::Work)?;
            if any && next.key() == kept.key() {
                self.settle(&mut kept, &next)?;
                continue;
            }
            self.give(&kept)?;
            std::mem::swap(&mut kept, &mut next);
        }
        self.send()?;
        self.rejects.flush().map_err(Error::Work)?;
        Ok(Merged { rows: self.rows, duplicates: self.duplicates, rejects: self.rejects })
    }

    /// Decides between two rows with the same key, of which `next` stands later in the file.
    fn settle(&mut self, kept: &mut Row, next: &Row) -> Result<(), Error> {
        if next.rest() != kept.rest() {
            match self.dataset.duplicates {
                Duplicates::Reject => return self.refuse(kept.line, next),
                Duplicates::First => {}
                Duplicates::Last => kept.clone_from(next),
            }
        }
        self.duplicates += 1;
        Ok(())
    }

    fn refuse(&mut self, line: u64, row: &Row) -> Result<(), Error> {
        let schema = &self.dataset.schema;
        let (mut values, mut record) = (Vec::new(), Vec::new());
        // These bytes were written a moment ago by the same schema.
        let _ = schema.read_row(row.key(), row.rest(), &mut values);
        dataset::write_row(schema, &values, &mut record);
        let key = schema.key_text(row.key());
        let refused = Refused {
            line: row.line,
            column: Some(&schema.key().name),
            value: key.as_bytes(),
            reason: &Reason::DuplicateKey { line },
            record,
        };
        self.rejects.add(&refused).map_err(Error::Work)
    }

    fn give(&mut self, row: &Row) -> Result<(), Error> {
        self.rows += 1;
        self.batch.push(row.key(), row.rest());
        if self.batch.bytes_len() >= BATCH_BYTES { self.send() } else { Ok(()) }
    }

    /// Hands the batch on, unless the file is refused already; then the merge goes on only to count.
    fn send(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() || self.rejects.count() > self.dataset.guards.max_rejects {
            return Ok(());
        }
        self.sender.blocking_send(batch).map_err(|_| Error::Unwanted)
    }
}
