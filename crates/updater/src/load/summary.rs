//! The answer to an upload whose load has succeeded.

use ingest::Ingested;
use serde::Serialize;

use super::diff::Changes;
use super::outcome::Outcome;

/// How a load succeeded.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LoadSummary {
    pub(crate) dataset: String,
    /// The version that is live now; a dry run has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u32>,
    pub(crate) status: Outcome,
    /// Rows of the version.
    pub(crate) rows: u64,
    /// Rows of the file that were refused.
    pub(crate) rejected: u64,
    /// Rows of the file that were left out because an earlier or later row has their key.
    pub(crate) duplicates: u64,
    /// Bytes of the file as they came.
    pub(crate) bytes: u64,
    /// SHA-256 of these bytes.
    pub(crate) sha256: String,
    /// From the first byte until the version was live.
    pub(crate) seconds: f64,
    /// What the sender should know about the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// What a dry run found that the file would change.
    #[serde(flatten)]
    pub(crate) changes: Option<Changes>,
}

/// What is known of a file once all of it was read.
#[derive(Debug)]
pub(crate) struct ReceivedFile {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) has_header: bool,
    pub(crate) warnings: Vec<String>,
}

impl ReceivedFile {
    pub(crate) fn of(ingested: &Ingested) -> Self {
        Self {
            bytes: ingested.bytes,
            sha256: ingested.sha256.clone(),
            has_header: ingested.header,
            warnings: ingested.warnings.iter().map(ToString::to_string).collect(),
        }
    }
}
