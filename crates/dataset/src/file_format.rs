//! The format of a dataset's files, as its definition sets it.

use encoding_rs::Encoding;
use serde::Deserialize;

/// How the files of a dataset are read.
///
/// Its `Debug` output is part of [`Dataset::definition_hash`](crate::Dataset::definition_hash), so renaming a field or a
/// variant makes every dataset load its next file even if the content is the same.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FileFormat {
    /// Whether the first record names the columns.
    pub header: HeaderMode,
    /// The character between two fields.
    pub separator: Separator,
    /// The encoding of the text.
    pub encoding: TextEncoding,
}

/// Whether the first record of a file names the columns.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderMode {
    /// The first record is a header if it contains the names of the columns, otherwise it is a row.
    #[default]
    Auto,
    /// A file without a header is refused.
    Required,
    /// The first record is always a row.
    None,
}

/// The encoding of a file's text.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum TextEncoding {
    /// A byte order mark decides. Without one it is UTF-8, or Windows-1252 if the bytes are not UTF-8.
    #[default]
    Auto,
    /// Only this encoding; a file in another one is refused.
    Only(&'static Encoding),
}

impl TryFrom<String> for TextEncoding {
    type Error = String;

    /// Accepts `auto` or a label of the WHATWG Encoding Standard, such as `utf-8`, `utf-16le` or `windows-1252`.
    fn try_from(label: String) -> Result<Self, String> {
        if label == "auto" {
            return Ok(Self::Auto);
        }
        Encoding::for_label_no_replacement(label.as_bytes())
            .map(Self::Only)
            .ok_or_else(|| format!("unknown encoding `{label}` (auto, utf-8, utf-16le, windows-1252, ...)"))
    }
}

/// The character between two fields of a file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Separator {
    /// The first candidate that splits the beginning of the file into the columns of the dataset.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// `,`
    #[serde(rename = ",")]
    Comma,
    /// `;`
    #[serde(rename = ";")]
    Semicolon,
    /// A tab.
    #[serde(rename = "tab", alias = "\t")]
    Tab,
    /// `|`
    #[serde(rename = "|")]
    Pipe,
}
