//! The columns of one version. A schema is stored with its version, so an api needs no dataset definition.

use serde::{Deserialize, Serialize};

use crate::column::{Column, ColumnType};
use crate::column_spec::ColumnSpec;

/// The columns of a dataset, one of which is the key. As JSON it is part of the version's ledger entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SchemaSpec", into = "SchemaSpec")]
pub struct Schema {
    columns: Vec<Column>,
    key_index: usize,
}

/// Maximum number of characters of a text key: at 4 bytes each they fit into an index of InnoDB.
pub(crate) const KEY_TEXT_MAX: u32 = 255;
/// Bounds the memory of one row. InnoDB's own limit is 1,017.
const COLUMNS_MAX: usize = 256;

impl Schema {
    /// Checks the columns and the name of the key. The error says what is wrong.
    pub fn new(key: &str, columns: Vec<Column>) -> Result<Self, String> {
        if columns.len() > COLUMNS_MAX {
            return Err(format!("{} columns, the maximum is {COLUMNS_MAX}", columns.len()));
        }
        for (index, column) in columns.iter().enumerate() {
            // Databases compare column names without case.
            let has_same_name = |other: &Column| other.name.eq_ignore_ascii_case(&column.name);
            if columns[..index].iter().any(has_same_name) {
                return Err(format!("duplicate column `{}`", column.name));
            }
        }
        let key_index = columns.iter().position(|column| column.name == key);
        let key_index = key_index.ok_or_else(|| format!("key `{key}` is not one of the columns"))?;
        check_key(&columns[key_index]).map_err(|why| format!("key `{key}`: {why}"))?;
        Ok(Self { columns, key_index })
    }

    /// All columns, in the order of the definition.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The key column.
    pub fn key(&self) -> &Column {
        &self.columns[self.key_index]
    }

    /// The index of the key column.
    pub fn key_index(&self) -> usize {
        self.key_index
    }
}

fn check_key(key: &Column) -> Result<(), String> {
    if key.optional {
        return Err("a key cannot be optional".into());
    }
    match key.column_type {
        ColumnType::Float => Err("a float cannot be a key, use a decimal".into()),
        ColumnType::Text { max } if max > KEY_TEXT_MAX => {
            Err(format!("a text key has at most {KEY_TEXT_MAX} characters"))
        }
        _ => Ok(()),
    }
}

/// A schema as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SchemaSpec {
    key: String,
    columns: Vec<ColumnSpec>,
}

impl TryFrom<SchemaSpec> for Schema {
    type Error = String;

    fn try_from(spec: SchemaSpec) -> Result<Self, String> {
        let columns = spec.columns.into_iter().map(Column::try_from).collect::<Result<_, _>>()?;
        Self::new(&spec.key, columns)
    }
}

impl From<Schema> for SchemaSpec {
    fn from(schema: Schema) -> Self {
        let key = schema.key().name.clone();
        Self { key, columns: schema.columns.into_iter().map(ColumnSpec::from).collect() }
    }
}
