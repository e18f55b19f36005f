//! The first record of a file: the names of the columns, a row, or names that do not fit.
//!
//! Names that do not fit are no row. As a row they would be one reject, which a dataset may allow, and the columns of
//! the whole file would be taken in the wrong order.

use dataset::Schema;

use crate::Error;
use crate::record::Record;

/// What the first record is.
pub(crate) enum FirstRecord {
    /// The names of all columns. For each column, the place of its field in a record.
    Header(Vec<usize>),
    Row,
}

/// An error shows this many names, each cut to this many characters: a header may be as long as a record.
const NAMES_SHOWN: usize = 32;
const NAME_CHARS: usize = 40;

/// Reads the first record where a header is not required.
pub(crate) fn read(schema: &Schema, first: &Record<'_>) -> Result<FirstRecord, Error> {
    let place = |name: &str| (0..first.len()).find(|at| is_name(first.field(*at), name));
    let places: Vec<usize> = schema.columns().iter().filter_map(|column| place(&column.name)).collect();
    let columns = schema.columns().len();
    if places.len() == columns && first.len() == columns {
        return Ok(FirstRecord::Header(places));
    }
    if places.len() * 2 < columns {
        return Ok(FirstRecord::Row);
    }
    Err(Error::HeaderMismatch { expected: expected(schema), found: found(first) })
}

/// Reads the first record where it must be the header.
pub(crate) fn read_required(schema: &Schema, first: &Record<'_>) -> Result<FirstRecord, Error> {
    match read(schema, first)? {
        FirstRecord::Row => Err(Error::HeaderMissing { expected: expected(schema), found: found(first) }),
        header @ FirstRecord::Header(_) => Ok(header),
    }
}

/// Whether a field names a column; neither case nor spaces around it matter.
pub(crate) fn is_name(field: &[u8], name: &str) -> bool {
    field.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
}

fn expected(schema: &Schema) -> String {
    let names: Vec<&str> = schema.columns().iter().map(|column| column.name.as_str()).collect();
    names.join(", ")
}

fn found(first: &Record<'_>) -> String {
    let shown = first.len().min(NAMES_SHOWN);
    let name =
        |at: usize| -> String { String::from_utf8_lossy(first.field(at)).chars().take(NAME_CHARS).collect() };
    let names: Vec<String> = (0..shown).map(name).collect();
    let more = first.len() - shown;
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &more
}
