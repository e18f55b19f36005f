//! Records to typed rows, into the sort or among the rejects.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataset::{Dataset, HeaderMode, RejectReason, Schema, Value};
use smallvec::SmallVec;
use tokio::sync::mpsc;

use crate::header::{self, FirstRecord};
use crate::record::{Batch, Record};
use crate::rejects::{Refused, Rejects};
use crate::sort::Sort;
use crate::{Error, Limits, Outlets, Progress};

/// Types records.
pub(crate) struct Typing {
    pub(crate) dataset: Arc<Dataset>,
    /// For each column, the place of its field in a record; nothing before the first record was seen.
    order: Vec<usize>,
    pub(crate) rows: u64,
    rows_max: u64,
    rejects_max: u64,
    /// Whether the first record named the columns.
    pub(crate) header: bool,
    pub(crate) rejects: Rejects,
    pub(crate) sort: Sort,
    pub(crate) progress: Arc<Progress>,
    work_dir: PathBuf,
    /// It was seen that the work directory has room for the whole file, or it needs none so far.
    has_room: bool,
}

impl Typing {
    /// Sorted runs go to the directory of the report.
    pub(crate) fn new(dataset: Arc<Dataset>, limits: &Limits, outlets: Outlets<'_>) -> Self {
        let Outlets { report, progress } = outlets;
        let work_dir = report.parent().unwrap_or(Path::new("."));
        Self {
            order: Vec::new(),
            rows: 0,
            rows_max: limits.rows_max,
            rejects_max: limits.rejects_max.max(dataset.guards.max_rejects.saturating_add(1)),
            header: false,
            rejects: Rejects::new(report, limits.report_rows_max),
            sort: Sort::new(work_dir, limits.sort_memory_bytes),
            dataset,
            progress,
            work_dir: work_dir.to_owned(),
            has_room: false,
        }
    }

    /// Types all records until there are no more.
    pub(crate) async fn run(mut self, mut batches: mpsc::Receiver<Batch>) -> Result<Self, Error> {
        let schema = self.dataset.schema.clone();
        let (mut key, mut rest) = (Vec::new(), Vec::new());
        while let Some(batch) = batches.recv().await {
            for record in batch.iter() {
                if self.order.is_empty() && self.begin(&record)? {
                    continue;
                }
                match encode(&schema, &self.order, &record, &mut key, &mut rest) {
                    Ok(()) => self.keep(&key, &rest, record.line).await?,
                    Err((at, reason)) => self.refuse(&record, at, &reason)?,
                }
                if self.rejects.count() >= self.rejects_max {
                    return Err(self.stop());
                }
            }
            self.progress.set_rows(self.rows, self.rejects.count());
            if !self.has_room {
                self.look_for_room()?;
            }
        }
        self.rejects.flush().map_err(Error::Work)?;
        Ok(self)
    }

    /// Ends the ingest for the number of rejects.
    fn stop(mut self) -> Error {
        self.progress.set_rows(self.rows, self.rejects.count());
        if let Err(error) = self.rejects.flush() {
            return Error::Work(error);
        }
        Error::TooManyRejects { max: self.rejects.count(), rejects: Box::new(self.rejects) }
    }

    /// Once rows go to the disk it is known how much room a byte of the file takes there: a file that will not fit is
    /// refused now, and not when the disk is full.
    fn look_for_room(&mut self) -> Result<(), Error> {
        let (taken, come) = (self.sort.disk_bytes(), self.progress.bytes());
        let Some(all) = self.progress.bytes_expected().filter(|_| taken > 0 && come > 0) else {
            return Ok(());
        };
        self.has_room = true;
        let needed = u128::from(taken) * u128::from(all.saturating_sub(come)) / u128::from(come);
        let room = rustix::fs::statvfs(&self.work_dir).map_err(|error| Error::Work(error.into()))?;
        let room = u128::from(room.f_bavail) * u128::from(room.f_frsize);
        if needed <= room { Ok(()) } else { Err(Error::NoRoom { needed, room }) }
    }

    /// Looks at the first record; says whether it is the header.
    fn begin(&mut self, first: &Record<'_>) -> Result<bool, Error> {
        let schema = &self.dataset.schema;
        let first = match self.dataset.format.header {
            HeaderMode::None => FirstRecord::Row,
            HeaderMode::Auto => header::read(schema, first)?,
            HeaderMode::Required => header::read_required(schema, first)?,
        };
        self.header = matches!(first, FirstRecord::Header(_));
        self.order = match first {
            FirstRecord::Header(order) => order,
            FirstRecord::Row => (0..schema.columns().len()).collect(),
        };
        Ok(self.header)
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
    fn refuse(&mut self, record: &Record<'_>, at: Option<usize>, reason: &RejectReason) -> Result<(), Error> {
        if !self.rejects.wants_more() {
            self.rejects.count_one(reason);
            return Ok(());
        }
        let whole = record.as_it_came();
        let refused = Refused {
            line: record.line,
            column: at.map(|at| self.dataset.schema.columns()[at].name.as_str()),
            value: at.map_or(&whole, |at| record.field(self.order[at])),
            reason,
            record: whole.clone(),
        };
        self.rejects.add(&refused).map_err(Error::Work)
    }
}

/// Types a record's fields and puts their bytes into `key` and `rest`, or says which column is wrong and why.
fn encode(
    schema: &Schema,
    order: &[usize],
    record: &Record<'_>,
    key: &mut Vec<u8>,
    rest: &mut Vec<u8>,
) -> Result<(), (Option<usize>, RejectReason)> {
    key.clear();
    rest.clear();
    if record.has_text_behind_quote {
        return Err((None, RejectReason::TextAfterQuote));
    }
    if record.len() != order.len() {
        return Err((None, RejectReason::FieldCount { expected: order.len(), found: record.len() }));
    }
    let mut row: SmallVec<[Value<'_>; 8]> = SmallVec::new();
    for (at, column) in schema.columns().iter().enumerate() {
        let text = record.text(order[at]).map_err(|reason| (Some(at), reason))?;
        if text.is_empty() && at == schema.key_index() {
            return Err((Some(at), RejectReason::Empty));
        }
        row.push(column.parse(text).map_err(|reason| (Some(at), reason))?);
    }
    schema.encode_key(&row, key);
    schema.encode_payload(&row, rest);
    Ok(())
}
