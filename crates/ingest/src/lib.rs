//! Bytes to valid rows in key order.
//!
//! A stream of bytes goes in; its format is seen from its first bytes; each record becomes a typed row or a reject;
//! rows go through an external sort while the rest of the file is still arriving. Nothing holds the whole file, and
//! everything that comes from outside has a limit. This crate knows neither HTTP nor a database, so the same code
//! checks a file on a laptop and on a server.
//!
//! The way of the bytes: `source` (count, hash, unpack), `text` (UTF-8), `records` (CSV, with `quoting` beside it),
//! `rows` (types and rejects), `sort` (key order), [`SortedRows`] (duplicates, batches), [`Refusal`] (may this replace
//! the dataset?). [`ingest()`] goes the first part of it. What a file is like is seen from its beginning by `format`,
//! `encoding`, `separator` and `header`.

mod encoding;
mod error;
mod format;
mod guards;
mod header;
mod ingest;
mod limits;
mod quoting;
mod record;
mod records;
mod rejects;
mod rows;
mod separator;
mod sort;
mod sorted;
mod source;
mod text;

pub use encoding::Warning;
pub use error::{Error, is_no_space};
pub use guards::Refusal;
pub use ingest::{Ingested, Outlets, ingest};
pub use limits::{Limits, Progress};
pub use rejects::{REPORT_HEADER, Reject, Rejects};
pub use sorted::{Merged, Range, SortedRows};
