//! The columns of one version: how its rows are laid out, read and shown. A schema travels with its version.

use serde::{Deserialize, Serialize};

use crate::column::WrittenColumn;
use crate::{Column, KeyBytes, Kind, Value, bytes, json};

/// The columns of a dataset, one of which is the key. Written as JSON it is part of a version's ledger entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenSchema", into = "WrittenSchema")]
pub struct Schema {
    columns: Vec<Column>,
    key: usize,
}

/// The longest text that may be a key: what the index of either store holds.
pub(crate) const KEY_TEXT_MAX: u32 = 255;
/// The most columns that a dataset may have.
const COLUMNS_MAX: usize = 256;

impl Schema {
    /// Takes the columns and the name of the one that is the key; the error says what does not fit.
    pub fn new(key: &str, columns: Vec<Column>) -> Result<Self, String> {
        if columns.len() > COLUMNS_MAX {
            return Err(format!("{} columns, but {COLUMNS_MAX} is the most", columns.len()));
        }
        for (at, column) in columns.iter().enumerate() {
            // Databases do not tell the names of columns apart by case.
            if columns[..at].iter().any(|earlier| earlier.name.eq_ignore_ascii_case(&column.name)) {
                return Err(format!("column `{}` stands twice", column.name));
            }
        }
        let at = columns.iter().position(|column| column.name == key);
        let at = at.ok_or_else(|| format!("key `{key}` is not one of the columns"))?;
        let fail = |why: &str| Err(format!("key `{key}`: {why}"));
        match &columns[at] {
            Column { optional: true, .. } => fail("a key cannot be optional"),
            Column { kind: Kind::Float, .. } => fail("a float cannot be a key, use a decimal"),
            Column { kind: Kind::Text { max }, .. } if *max > KEY_TEXT_MAX => {
                fail(&format!("a text key holds at most {KEY_TEXT_MAX} characters"))
            }
            _ => Ok(Self { columns, key: at }),
        }
    }

    /// All columns, in the order of the definition.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column that is the key.
    pub fn key(&self) -> &Column {
        &self.columns[self.key]
    }

    /// The place of the key among the columns.
    pub fn key_index(&self) -> usize {
        self.key
    }

    /// The key bytes of what somebody asks for; nothing where it can be no key of this dataset.
    pub fn parse_key(&self, text: &str) -> Option<KeyBytes> {
        let parsed = match &self.key().kind {
            // Who copies a key from an answer has it as it is shown.
            Kind::Timestamp(format) => {
                format.parse(text).or_else(|_| format.parse_shown(text)).map(Value::Timestamp)
            }
            _ => self.key().parse(text),
        };
        let value = parsed.ok().filter(|_| !text.is_empty())?;
        Some(bytes::key_bytes(value, KeyBytes::from_slice))
    }

    /// Appends the bytes of a row's key, whose order as bytes is the order of the keys.
    pub fn write_key(&self, row: &[Value<'_>], out: &mut Vec<u8>) {
        bytes::key_bytes(row[self.key], |key| out.extend_from_slice(key));
    }

    /// The bytes of a row's key.
    pub fn key_of(&self, row: &[Value<'_>]) -> KeyBytes {
        bytes::key_bytes(row[self.key], KeyBytes::from_slice)
    }

    /// Reads a key back from its bytes.
    pub fn read_key<'a>(&self, key: &'a [u8]) -> Result<Value<'a>, bytes::CorruptRow> {
        bytes::read_key(&self.key().kind, key)
    }

    /// A key as people write it, from its bytes; nothing where they are not those of a key.
    pub fn key_text(&self, key: &[u8]) -> String {
        self.read_key(key).map(|value| json::key_text(&self.key().kind, value)).unwrap_or_default()
    }

    /// Appends the compact bytes of a row's other columns.
    pub fn write_rest(&self, row: &[Value<'_>], out: &mut Vec<u8>) {
        bytes::write_rest(self, row, out);
    }

    /// Reads a row back from the bytes of its key and of its other columns, into a buffer that is used again.
    pub fn read_row<'a>(
        &self,
        key: &'a [u8],
        rest: &'a [u8],
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), bytes::CorruptRow> {
        row.clear();
        bytes::visit_row(self, key, rest, |_, value| row.push(value))
    }
}

/// A schema as it is spelled in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WrittenSchema {
    key: String,
    columns: Vec<WrittenColumn>,
}

impl TryFrom<WrittenSchema> for Schema {
    type Error = String;

    fn try_from(written: WrittenSchema) -> Result<Self, String> {
        let columns = written.columns.into_iter().map(Column::try_from).collect::<Result<_, _>>()?;
        Self::new(&written.key, columns)
    }
}

impl From<Schema> for WrittenSchema {
    fn from(schema: Schema) -> Self {
        let key = schema.key().name.clone();
        Self { key, columns: schema.columns.into_iter().map(WrittenColumn::from).collect() }
    }
}
