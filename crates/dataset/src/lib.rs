//! What a dataset is: its columns and key, which fields are valid, how a row is encoded and how it looks as JSON.
//!
//! The crate only computes: it does no I/O, reads no clock and never waits. So the command line, the updater and the
//! api share one definition of a valid field.

mod column;
mod column_spec;
mod dataset;
mod date;
mod decimal;
mod definition;
mod digits;
mod file_format;
mod json;
mod key_encoding;
mod key_text;
mod plural;
mod reject_reason;
mod row_batch;
mod row_encoding;
mod schema;
mod time_fields;
mod time_format;
mod time_zone;
mod timestamp;
mod value;

pub use column::{Column, ColumnType, JsonNumber};
pub use dataset::{Dataset, DuplicatePolicy, Guards, is_dataset_name};
pub use decimal::write as write_decimal;
pub use definition::{Datasets, DefinitionError};
pub use file_format::{FileFormat, HeaderMode, Separator, TextEncoding};
pub use json::{write_encoded_row_json, write_row_json};
pub use key_encoding::{CorruptRow, KeyBytes};
pub use plural::{format_count, plural};
pub use reject_reason::RejectReason;
pub use row_batch::{DamagedBatch, RowBatch};
pub use schema::Schema;
pub use timestamp::{CivilTime, TimestampFormat};
pub use value::Value;
