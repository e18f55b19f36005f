//! A whole file: one task reads and splits it, another one types its rows, and threads of their own sort them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use csv_async::ByteRecord;
use dataset::Dataset;
use futures_util::Stream;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::record::Batch;
use crate::records::Records;
use crate::rejects::Rejects;
use crate::rows::Typing;
use crate::sort::Sorted;
use crate::source::{Counted, unpack};
use crate::text::Text;
use crate::{Error, Limits, Progress, SortedRows, Warning, separator};

/// So many batches of records may wait to be typed.
const BATCHES_WAITING: usize = 4;

/// Where an ingest leaves what others look at while it runs.
#[derive(Debug)]
pub struct Outlets<'a> {
    /// The report of rejects. Sorted runs go to its directory, as files without a name, which no crash leaves behind.
    pub report: &'a Path,
    /// How far it has come.
    pub progress: Arc<Progress>,
}

impl<'a> Outlets<'a> {
    /// With nobody who looks at more than the report.
    pub fn new(report: &'a Path) -> Self {
        Self { report, progress: Arc::default() }
    }
}

/// A file that was read whole.
#[derive(Debug)]
pub struct Ingested {
    /// Bytes as they came.
    pub bytes: u64,
    /// SHA-256 of the bytes as they came, in hexadecimal.
    pub sha256: String,
    /// Valid rows, before duplicates are taken out.
    pub rows: u64,
    /// Whether the first record named the columns.
    pub header: bool,
    /// What the sender should know.
    pub warnings: Vec<Warning>,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) rejects: Rejects,
    pub(crate) sorted: Sorted,
    pub(crate) progress: Arc<Progress>,
    pub(crate) sort_memory_bytes: usize,
}

impl Ingested {
    /// The rows that were refused so far; duplicate keys come to light when the sorted rows are read.
    pub fn rejects(&self) -> &Rejects {
        &self.rejects
    }

    /// Starts to give out the rows in key order, in so many ranges of the keys at most.
    pub async fn into_rows(self, ranges: usize) -> Result<SortedRows, Error> {
        SortedRows::start(self, ranges).await
    }
}

/// Reads a whole file.
pub async fn ingest<B>(
    body: B,
    dataset: Arc<Dataset>,
    limits: &Limits,
    outlets: Outlets<'_>,
) -> Result<Ingested, Error>
where
    B: Stream<Item = io::Result<Bytes>> + Unpin + Send,
{
    let progress = outlets.progress.clone();
    let typing = Typing::new(dataset.clone(), limits, outlets);
    // Typing is a task of its own, so that it has one processor and reading, unpacking and splitting have another. The
    // channel carries whole batches, because one send for each record costs more than the record; it is bounded, so the
    // slower side sets the pace.
    let (sender, batches) = mpsc::channel(BATCHES_WAITING);
    let typing = AbortOnDropHandle::new(tokio::spawn(typing.run(batches)));
    let unpacked = unpack(Counted::new(body, limits.bytes_max, progress), limits).await?;
    let (text, opening) = Text::open(unpacked, dataset.format.encoding).await?;
    let mut records = Records::new(text, separator::of(&opening, &dataset)?, limits);
    let is_whole = split(&mut records, sender).await?;
    let typed = typing.await.map_err(|_| Error::Panicked)??;
    if !is_whole {
        return Err(Error::Panicked);
    }
    let text = records.get_ref();
    let warnings = Vec::from_iter(text.warning());
    let counted = text.get_ref().counted();
    let (bytes, sha256) = (counted.bytes(), counted.sha256());
    let Typing { rows, header, rejects, sort, progress, .. } = typed;
    let sorted = sort.finish().await?;
    let sort_memory_bytes = limits.sort_memory_bytes;
    Ok(Ingested {
        bytes,
        sha256,
        rows,
        header,
        warnings,
        dataset,
        rejects,
        sorted,
        progress,
        sort_memory_bytes,
    })
}

/// Hands on all records. Says whether they were taken to the end; where they were not, whoever took them says why.
async fn split<R>(records: &mut Records<R>, sender: mpsc::Sender<Batch>) -> Result<bool, Error>
where
    R: AsyncRead + Unpin + Send,
{
    let (mut record, mut batch) = (ByteRecord::new(), Batch::new());
    while let Some(found) = records.next(&mut record).await? {
        batch.push(&record, found);
        if batch.is_full() && sender.send(std::mem::replace(&mut batch, Batch::new())).await.is_err() {
            return Ok(false);
        }
    }
    Ok(batch.is_empty() || sender.send(batch).await.is_ok())
}
