//! Records on their way from the thread that reads them to the one that types them: many in one piece of memory.

use std::ops::Range;

use csv_async::ByteRecord;
use dataset::RejectReason;

use crate::records::Found;

/// A batch is handed on when it is this large, or has so many records.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_RECORDS: usize = 4096;

/// Some records of a file, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where each field ends.
    ends: Vec<usize>,
    records: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    bytes_end: usize,
    ends_end: usize,
    found: Found,
}

/// A record, and the line on which it starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) line: u64,
    /// Whether text follows the closing quote of one of its fields.
    pub(crate) has_text_behind_quote: bool,
    bytes: &'a [u8],
    /// The same, where it was seen already that it is text without a NUL byte.
    text: Option<&'a str>,
    /// Where each field ends, counted from the first.
    ends: &'a [usize],
}

impl Batch {
    pub(crate) fn new() -> Self {
        let bytes = Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 8);
        Self { bytes, ends: Vec::new(), records: Vec::with_capacity(BATCH_RECORDS) }
    }

    pub(crate) fn push(&mut self, record: &ByteRecord, found: Found) {
        self.bytes.extend_from_slice(record.as_slice());
        self.ends.extend((0..record.len()).filter_map(|at| record.range(at)).map(|range| range.end));
        self.records.push(Place { bytes_end: self.bytes.len(), ends_end: self.ends.len(), found });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        // A record of nothing but commas has no bytes, only fields.
        let bytes = self.bytes.len() + self.ends.len() * size_of::<usize>();
        bytes >= BATCH_BYTES || self.records.len() >= BATCH_RECORDS
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        // One look at all is quicker than one at each field.
        let text =
            str::from_utf8(&self.bytes).ok().filter(|text| memchr::memchr(0, text.as_bytes()).is_none());
        let starts = std::iter::once((0, 0)).chain(self.records.iter().map(|it| (it.bytes_end, it.ends_end)));
        self.records.iter().zip(starts).map(move |(place, (bytes, ends))| Record {
            line: place.found.line,
            has_text_behind_quote: place.found.has_text_behind_quote,
            bytes: &self.bytes[bytes..place.bytes_end],
            text: text.and_then(|text| text.get(bytes..place.bytes_end)),
            ends: &self.ends[ends..place.ends_end],
        })
    }
}

impl<'a> Record<'a> {
    /// How many fields it has.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A field without the CR of its line's end, where it is the last one.
    pub(crate) fn field(&self, at: usize) -> &'a [u8] {
        self.bytes.get(self.range(at)).unwrap_or_default()
    }

    /// A field as text.
    pub(crate) fn text(&self, at: usize) -> Result<&'a str, RejectReason> {
        // What is text as a whole may have been cut within a character.
        if let Some(text) = self.text.and_then(|text| text.get(self.range(at))) {
            return Ok(text);
        }
        let bytes = self.field(at);
        if memchr::memchr(0, bytes).is_some() {
            return Err(RejectReason::NulByte);
        }
        str::from_utf8(bytes).map_err(|_| RejectReason::InvalidUtf8)
    }

    /// Where a field stands; nowhere, if there is none.
    fn range(&self, at: usize) -> Range<usize> {
        let start = at.checked_sub(1).map_or(Some(&0), |before| self.ends.get(before));
        let Some((start, end)) = start.zip(self.ends.get(at)) else { return 0..0 };
        let is_last = at + 1 == self.len();
        let has_cr = is_last && self.bytes.get(*start..*end).is_some_and(|field| field.ends_with(b"\r"));
        *start..*end - usize::from(has_cr)
    }

    /// The record as one line of CSV; it was unquoted when it was read, so it is quoted again where that is needed.
    pub(crate) fn as_it_came(&self) -> Vec<u8> {
        let mut line = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        // Writing to memory cannot fail.
        let _ = line.write_record((0..self.len()).map(|at| self.field(at)));
        let mut line = line.into_inner().unwrap_or_default();
        line.pop();
        line
    }
}
