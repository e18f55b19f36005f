//! A dataset: its columns, and what a file must be like to replace it.

use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::file_format::FileFormat;
use crate::schema::Schema;

/// A dataset, as its definition describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The first segment of the path of a lookup, and the name of its table.
    pub name: String,
    /// Its columns.
    pub schema: Arc<Schema>,
    /// How its files are read.
    pub format: FileFormat,
    /// What happens to a key that occurs twice with different values.
    pub duplicates: DuplicatePolicy,
    /// When a file is refused.
    pub guards: Guards,
    /// The number of previous versions kept for a rollback.
    pub keep_versions: u32,
}

impl Dataset {
    /// Hashes everything that decides which rows a file becomes: the same file under the same definition gives the same
    /// version.
    pub fn definition_hash(&self) -> String {
        let mut hash = Sha256::new();
        // Every schema has a JSON form.
        hash.update(serde_json::to_vec(&self.schema).unwrap_or_default());
        hash.update(format!("{:?} {:?}", self.duplicates, self.format));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What happens to a key that occurs twice with different values. Identical rows always become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DuplicatePolicy {
    /// The later row is rejected.
    Reject,
    /// The first row in the file is kept.
    First,
    /// The last row in the file is kept.
    Last,
}

/// The limits beyond which a file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    /// Maximum number of rejected rows.
    pub max_rejects: u64,
    /// Minimum number of rows.
    pub min_rows: u64,
    /// How many percent fewer rows than the live version a file may have.
    pub max_shrink_percent: u8,
}

/// The table of a version is named `<dataset>__v<number>`, and MariaDB allows 64 characters.
const NAME_BYTES_MAX: usize = 48;

/// Whether a text is valid as the name of a dataset. It has no `__`, which separates the name from the version in the
/// name of a table.
pub fn is_dataset_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts_well = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    starts_well
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(is_plain)
        && !name.contains("__")
        && !name.ends_with('_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{Column, ColumnType, JsonNumber};

    #[test]
    fn the_hash_of_a_definition_is_the_same_in_every_release() {
        let id = Column {
            name: "id".into(),
            column_type: ColumnType::Uuid,
            optional: false,
            json: JsonNumber::Number,
        };
        let dataset = Dataset {
            name: "items".into(),
            schema: Arc::new(Schema::new("id", vec![id]).unwrap()),
            format: FileFormat::default(),
            duplicates: DuplicatePolicy::Reject,
            guards: Guards { max_rejects: 0, min_rows: 1, max_shrink_percent: 50 },
            keep_versions: 2,
        };
        insta::assert_snapshot!(dataset.definition_hash(), @"82ec0cdee2bbabe8de9ea029a038bb6443079acdc25e4b7415fc69fc060f6610");
    }
}
