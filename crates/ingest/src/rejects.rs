//! Rows that are refused: counted by reason, the first ones shown, and kept in a report of bounded size.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use dataset::RejectReason;
use serde::Serialize;

/// One refused row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// The line of the file on which the row starts; a header counts as a line.
    pub line: u64,
    /// The column whose field is wrong, unless it is the row as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What stands there, cut to 40 characters.
    pub value: String,
    /// The reason as one word.
    pub code: &'static str,
    /// The reason as a sentence.
    pub reason: String,
}

/// The first line of a report of rejects.
pub const REPORT_HEADER: &str = "line,column,value,code,reason,record";

/// How many rejects are shown where they are reported.
const SHOWN: usize = 10;
/// How much of a value is shown.
const VALUE_CHARS: usize = 40;
/// How large a report becomes, whatever the number of its rows.
const REPORT_BYTES_MAX: u64 = 256 << 20;

/// All rows of one file that were refused.
#[derive(Debug)]
pub struct Rejects {
    count: u64,
    by_code: BTreeMap<&'static str, u64>,
    shown: Vec<Reject>,
    report: Report,
}

impl Rejects {
    pub(crate) fn new(report: &Path, rows_max: u64) -> Self {
        let report = Report { path: report.to_owned(), file: None, rows: 0, rows_max, bytes: 0 };
        Self { count: 0, by_code: BTreeMap::new(), shown: Vec::new(), report }
    }

    pub(crate) fn add(&mut self, row: &Refused<'_>) -> io::Result<()> {
        self.count_one(row.reason);
        if self.shown.len() < SHOWN {
            self.shown.push(row.reject());
        }
        self.report.add(row)
    }

    /// Whether any more of them are shown or reported; otherwise they are only counted.
    pub(crate) fn wants_more(&self) -> bool {
        self.shown.len() < SHOWN || self.report.has_room()
    }

    pub(crate) fn count_one(&mut self, reason: &RejectReason) {
        self.count += 1;
        *self.by_code.entry(reason.code()).or_default() += 1;
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.report.file.as_mut().map_or(Ok(()), csv::Writer::flush)
    }

    /// How many rows were refused.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many rows were refused for each reason.
    pub fn by_code(&self) -> &BTreeMap<&'static str, u64> {
        &self.by_code
    }

    /// The first of them.
    pub fn shown(&self) -> &[Reject] {
        &self.shown
    }

    /// Whether the report has a file; it is made with the first reject.
    pub fn has_report(&self) -> bool {
        self.report.file.is_some()
    }
}

/// A row that is being refused, with all that a report says about it.
pub(crate) struct Refused<'a> {
    pub(crate) line: u64,
    pub(crate) column: Option<&'a str>,
    pub(crate) value: &'a [u8],
    pub(crate) reason: &'a RejectReason,
    /// The row as it came, as one record of CSV.
    pub(crate) record: Vec<u8>,
}

impl Refused<'_> {
    fn reject(&self) -> Reject {
        let value = String::from_utf8_lossy(self.value);
        let cut = value.char_indices().nth(VALUE_CHARS);
        Reject {
            line: self.line,
            column: self.column.map(str::to_owned),
            value: cut.map_or_else(|| value.to_string(), |(at, _)| format!("{}...", &value[..at])),
            code: self.reason.code(),
            reason: self.reason.to_string(),
        }
    }
}

/// The report as a CSV file of its own: where, what and why, and the record as it came.
#[derive(Debug)]
struct Report {
    path: PathBuf,
    file: Option<csv::Writer<File>>,
    rows: u64,
    rows_max: u64,
    bytes: u64,
}

impl Report {
    fn has_room(&self) -> bool {
        self.rows < self.rows_max && self.bytes <= REPORT_BYTES_MAX
    }

    fn add(&mut self, row: &Refused<'_>) -> io::Result<()> {
        if !self.has_room() {
            return Ok(());
        }
        self.rows += 1;
        self.bytes += row.record.len() as u64;
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(start(&self.path)?),
        };
        let reject = row.reject();
        let [line, column] = [reject.line.to_string(), reject.column.unwrap_or_default()];
        let fields: [&[u8]; 6] = [
            line.as_bytes(),
            column.as_bytes(),
            reject.value.as_bytes(),
            reject.code.as_bytes(),
            reject.reason.as_bytes(),
            &row.record,
        ];
        file.write_byte_record(&fields.as_slice().into()).map_err(io_error)
    }
}

fn start(path: &Path) -> io::Result<csv::Writer<File>> {
    let mut file = csv::Writer::from_writer(File::create(path)?);
    file.write_record(REPORT_HEADER.split(',')).map_err(io_error)?;
    Ok(file)
}

fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
