//! What a dataset's files look like, as far as its definition says.

use serde::Deserialize;

/// The form of the files of a dataset.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FileFormat {
    /// Whether the first record names the columns.
    pub header: Header,
}

/// Whether the first record of a file names the columns.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Header {
    /// It does if it holds the names of the columns; otherwise it is data.
    #[default]
    Auto,
    /// It must.
    Required,
    /// It is always data.
    None,
}
