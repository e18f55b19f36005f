//! Records to typed rows, into the sort or among the rejects.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use csv_async::ByteRecord;
use dataset::{Dataset, Reason, Schema, Value};
use futures_util::Stream;
use tokio::io::AsyncRead;

use crate::records::{Records, field};
use crate::rejects::{Refused, Rejects};
use crate::sort::{Sort, Sorted};
use crate::source::{Counted, unpack};
use crate::{Error, Limits, Progress, SortedRows};

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
    pub fn into_rows(self, ranges: usize) -> Result<SortedRows, Error> {
        SortedRows::start(self, ranges)
    }
}

/// Reads a whole file. Sorted runs go to `work_dir` as files without a name, which no crash leaves behind; the report
/// of rejects goes to `report`.
pub async fn ingest<B>(
    body: B,
    dataset: Arc<Dataset>,
    limits: &Limits,
    report: &Path,
    progress: Arc<Progress>,
) -> Result<Ingested, Error>
where
    B: Stream<Item = io::Result<Bytes>> + Unpin + Send,
{
    let work_dir = report.parent().unwrap_or(Path::new("."));
    let counted = Counted::new(body, limits.bytes_max, progress.clone());
    let (packing, reader) = unpack(counted).await?;
    let mut intake = Intake {
        records: Records::new(reader, packing.name(), limits),
        order: Vec::new(),
        rows: 0,
        rows_max: limits.rows_max,
        header: false,
        rejects: Rejects::new(report, limits.report_rows_max),
        sort: Sort::new(work_dir, limits.sort_memory_bytes),
        dataset,
        progress,
    };
    intake.run().await?;
    let counted = intake.records.get_ref().counted();
    let (bytes, sha256) = (counted.bytes(), counted.sha256());
    let Intake { rows, header, dataset, mut rejects, sort, progress, .. } = intake;
    rejects.flush().map_err(Error::Work)?;
    let (sorted, sort_memory_bytes) = (sort.finish().await?, limits.sort_memory_bytes);
    Ok(Ingested { bytes, sha256, rows, header, dataset, rejects, sorted, progress, sort_memory_bytes })
}

/// How often others see how far it is, and how often a file that never waits lets other tasks run.
const PROGRESS_ROWS: u64 = 4096;

struct Intake<R> {
    records: Records<R>,
    dataset: Arc<Dataset>,
    /// For each column, the place of its field in a record.
    order: Vec<usize>,
    rows: u64,
    rows_max: u64,
    header: bool,
    rejects: Rejects,
    sort: Sort,
    progress: Arc<Progress>,
}

impl<R: AsyncRead + Unpin + Send> Intake<R> {
    async fn run(&mut self) -> Result<(), Error> {
        let schema = self.dataset.schema.clone();
        self.order = (0..schema.columns().len()).collect();
        let (mut key, mut rest) = (Vec::new(), Vec::new());
        let mut record = ByteRecord::new();
        let mut first = true;
        while let Some(line) = self.records.next(&mut record).await? {
            if std::mem::take(&mut first)
                && let Some(order) = header(&schema, &record)
            {
                (self.order, self.header) = (order, true);
                continue;
            }
            match encode(&schema, &self.order, &record, &mut key, &mut rest) {
                Ok(()) => self.keep(&key, &rest, line).await?,
                Err((at, reason)) => self.refuse(&record, line, at, &reason)?,
            }
            if (self.rows + self.rejects.count()).is_multiple_of(PROGRESS_ROWS) {
                self.progress.set_rows(self.rows, self.rejects.count());
                tokio::task::yield_now().await;
            }
        }
        self.progress.set_rows(self.rows, self.rejects.count());
        Ok(())
    }

    async fn keep(&mut self, key: &[u8], rest: &[u8], line: u64) -> Result<(), Error> {
        self.rows += 1;
        if self.rows > self.rows_max {
            return Err(Error::TooManyRows { max: self.rows_max });
        }
        // A file that is refused already is read on only to count and to report.
        if self.rejects.count() > self.dataset.guards.max_rejects {
            return Ok(());
        }
        self.sort.push(key, rest, line).await
    }

    /// `at` is the column at fault, unless it is the row as a whole.
    fn refuse(
        &mut self,
        record: &ByteRecord,
        line: u64,
        at: Option<usize>,
        reason: &Reason,
    ) -> Result<(), Error> {
        let whole = as_it_came(record);
        let refused = Refused {
            line,
            column: at.map(|at| self.dataset.schema.columns()[at].name.as_str()),
            value: at.map_or(&whole, |at| field(record, self.order[at])),
            reason,
            record: whole.clone(),
        };
        self.rejects.add(&refused).map_err(Error::Work)
    }
}

/// The places of the columns' fields, if the record is the names of all columns.
fn header(schema: &Schema, record: &ByteRecord) -> Option<Vec<usize>> {
    if record.len() != schema.columns().len() {
        return None;
    }
    let place = |name: &str| (0..record.len()).find(|at| field(record, *at) == name.as_bytes());
    schema.columns().iter().map(|column| place(&column.name)).collect()
}

/// Types a record's fields and puts their bytes into `key` and `rest`, or says which column is wrong and why.
fn encode(
    schema: &Schema,
    order: &[usize],
    record: &ByteRecord,
    key: &mut Vec<u8>,
    rest: &mut Vec<u8>,
) -> Result<(), (Option<usize>, Reason)> {
    key.clear();
    rest.clear();
    if record.len() != order.len() {
        return Err((None, Reason::FieldCount { expected: order.len(), found: record.len() }));
    }
    let mut row: Vec<Value<'_>> = Vec::with_capacity(order.len());
    for (at, column) in schema.columns().iter().enumerate() {
        let bytes = field(record, order[at]);
        if memchr::memchr(0, bytes).is_some() {
            return Err((Some(at), Reason::NulByte));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| (Some(at), Reason::InvalidUtf8))?;
        if text.is_empty() && at == schema.key_index() {
            return Err((Some(at), Reason::Empty));
        }
        row.push(column.parse(text).map_err(|reason| (Some(at), reason))?);
    }
    schema.write_key(&row, key);
    schema.write_rest(&row, rest);
    Ok(())
}

/// A record as one line of CSV; csv-async has unquoted it, so it is quoted again where that is needed.
fn as_it_came(record: &ByteRecord) -> Vec<u8> {
    let mut line = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    // Writing to memory cannot fail.
    let _ = line.write_record((0..record.len()).map(|at| field(record, at)));
    let mut line = line.into_inner().unwrap_or_default();
    line.pop();
    line
}
