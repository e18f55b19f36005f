//! What a dataset's files look like, as far as its definition says.

use encoding_rs::Encoding;
use serde::Deserialize;

/// The form of the files of a dataset.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FileFormat {
    /// Whether the first record names the columns.
    pub header: Header,
    /// What stands between its fields.
    pub separator: Separator,
    /// How its text is encoded.
    pub encoding: TextEncoding,
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

/// How a file encodes its text.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum TextEncoding {
    /// A byte order mark decides. Without one it is UTF-8, or Windows-1252 where the bytes are not UTF-8.
    #[default]
    Auto,
    /// This one, and a file in another one is refused.
    Only(&'static Encoding),
}

impl TryFrom<String> for TextEncoding {
    type Error = String;

    /// Takes `auto` or a name of the Encoding Standard, such as `utf-8`, `utf-16le` or `windows-1252`.
    fn try_from(name: String) -> Result<Self, String> {
        if name == "auto" {
            return Ok(Self::Auto);
        }
        Encoding::for_label_no_replacement(name.as_bytes())
            .map(Self::Only)
            .ok_or_else(|| format!("unknown encoding `{name}` (auto, utf-8, utf-16le, windows-1252, ...)"))
    }
}

/// What stands between the fields of a file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Separator {
    /// The one with which the beginning of the file has the columns of the dataset.
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
