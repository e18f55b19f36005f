//! Which byte separates the fields of a file, seen from its beginning.

use csv::ByteRecord;
use dataset::{Column, Dataset, Schema, Separator};

use crate::Error;
use crate::header;
use crate::text::Opening;

/// The separators that are recognised, the usual one first, with their names in errors.
const KNOWN: [(u8, &str); 4] = [(b',', "`,`"), (b';', "`;`"), (b'\t', "tabs"), (b'|', "`|`")];

/// This many records are enough to see it.
const RECORDS_MAX: usize = 100;

/// How well the beginning fits the columns if a byte separates its fields; more is better.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    /// How many columns the first record names.
    names: usize,
    /// How many records have as many fields as there are columns.
    records: usize,
    /// How many of them are rows, as far as a header does not order the columns.
    rows: usize,
}

/// The separator of a file: the one that the dataset sets, or the one that fits best.
pub(crate) fn of(opening: &Opening, dataset: &Dataset) -> Result<u8, Error> {
    let set = match dataset.format.separator {
        Separator::Auto => None,
        Separator::Comma => Some(b','),
        Separator::Semicolon => Some(b';'),
        Separator::Tab => Some(b'\t'),
        Separator::Pipe => Some(b'|'),
    };
    // With one column there is nothing to separate.
    if dataset.schema.columns().len() == 1 {
        return Ok(set.unwrap_or(b','));
    }
    let (mut best, mut best_fit) = (KNOWN[0], Fit::default());
    for known in KNOWN {
        let fit = fit(opening, known.0, &dataset.schema);
        if fit > best_fit {
            (best, best_fit) = (known, fit);
        }
    }
    match set {
        Some(set)
            if best.0 != set
                && fit(opening, set, &dataset.schema) == Fit::default()
                && best_fit.records > 0 =>
        {
            Err(Error::WrongSeparator { found: best.1 })
        }
        set => Ok(set.unwrap_or(best.0)),
    }
}

fn fit(opening: &Opening, separator: u8, schema: &Schema) -> Fit {
    let mut csv = csv::ReaderBuilder::new();
    csv.has_headers(false).flexible(true).delimiter(separator).terminator(csv::Terminator::Any(b'\n'));
    // Reading from memory cannot fail.
    let records = csv.from_reader(opening.text.as_slice()).into_byte_records().map_while(Result::ok);
    let mut records: Vec<ByteRecord> = records.take(RECORDS_MAX).collect();
    if !opening.is_whole && records.len() < RECORDS_MAX {
        // The end of what was read ahead may have cut the last one.
        records.pop();
    }
    let columns = schema.columns();
    records.retain(|record| record.as_slice() != b"\r");
    let has_name = |first: &ByteRecord, name: &str| first.iter().any(|field| header::is_name(field, name));
    let names = |first: &ByteRecord| columns.iter().filter(|column| has_name(first, &column.name)).count();
    let names = records.first().map_or(0, names);
    records.retain(|record| record.len() == columns.len());
    let rows = records.iter().filter(|record| is_row(schema, record)).count();
    Fit { names, records: records.len(), rows }
}

fn is_row(schema: &Schema, record: &ByteRecord) -> bool {
    let is_value = |(field, column): (&[u8], &Column)| {
        // The CR of a line's end belongs to no field.
        str::from_utf8(field).is_ok_and(|text| column.parse(text.trim_end_matches('\r')).is_ok())
    };
    record.iter().zip(schema.columns()).all(is_value)
}
