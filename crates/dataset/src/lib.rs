//! What a dataset is: its columns and its key, what a field may say, the compact bytes of a row and its JSON.
//!
//! Everything here computes; nothing reads or writes a file, a socket or a clock, and nothing waits. So the same
//! code says what a valid field is when a file is checked on a laptop, uploaded to a server, or looked up.

mod batch;
mod bytes;
mod column;
mod decimal;
mod definition;
mod format;
mod json;
mod plural;
mod reason;
mod schema;
mod timestamp;
mod value;
mod zone;

pub use batch::{DamagedBatch, RowBatch};
pub use bytes::{CorruptRow, KeyBytes};
pub use column::{Column, JsonNumber, Kind};
pub use decimal::write as write_decimal;
pub use definition::{Dataset, Datasets, DefinitionError, Duplicates, Guards, is_dataset_name};
pub use format::{FileFormat, Header, Separator, TextEncoding};
pub use json::{write_row, write_stored_row};
pub use plural::{counted, plural};
pub use reason::Reason;
pub use schema::Schema;
pub use timestamp::{TimestampFormat, civil_from_micros};
pub use value::Value;
