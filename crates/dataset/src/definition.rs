//! Datasets as an operator defines them: a few lines of TOML each, checked once at start.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::column::WrittenColumn;
use crate::schema::KEY_TEXT_MAX;
use crate::{Column, FileFormat, Header, Kind, Schema, Separator, TextEncoding};

/// Everything that one updater serves, by name.
#[derive(Debug, Clone)]
pub struct Datasets(BTreeMap<String, Arc<Dataset>>);

/// One dataset: its columns, and what a file must be like to replace it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The first part of the path under which its rows are found, and its table.
    pub name: String,
    /// Its columns.
    pub schema: Arc<Schema>,
    /// What its files look like.
    pub format: FileFormat,
    /// What becomes of a key that comes twice with different values.
    pub duplicates: Duplicates,
    /// Which files are refused.
    pub guards: Guards,
    /// How many previous versions stay for a rollback.
    pub keep_versions: u32,
}

impl Dataset {
    /// Hash of everything that decides which rows a file becomes: the same bytes make the same version only under the
    /// same definition.
    pub fn definition_hash(&self) -> String {
        let mut hash = Sha256::new();
        // A schema always has a JSON form.
        hash.update(serde_json::to_vec(&self.schema).unwrap_or_default());
        hash.update(format!("{:?} {:?}", self.duplicates, self.format));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What becomes of a key that comes twice with different values; identical rows always become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// The later row is a reject.
    Reject,
    /// The row that stands first in the file counts.
    First,
    /// The row that stands last in the file counts.
    Last,
}

/// The limits that a file must keep to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    /// More rejects than this refuse the file.
    pub max_rejects: u64,
    /// Fewer rows than this refuse the file.
    pub min_rows: u64,
    /// Fewer rows than the live version has, by more than this many hundredths, refuse the file.
    pub max_shrink_percent: u8,
}

/// Why a definition cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// Not TOML, or not of the expected shape.
    #[error("not a usable definition of datasets")]
    Toml(#[from] toml::de::Error),
    /// A dataset that contradicts itself or the service.
    #[error("dataset `{dataset}`: {why}")]
    Dataset {
        /// Its name.
        dataset: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file without any dataset.
    #[error("no dataset is defined")]
    Nothing,
}

pub(crate) const PROMOTIONS: &str = r#"
[promotions]
key = "id"
columns = [
  { name = "id", type = "uuid" },
  { name = "price", type = "decimal", precision = 12, scale = 6 },
  { name = "expiration_date", type = "timestamp", input = "%Y-%m-%d %H:%M:%S %z %Z", output = "%Y-%m-%d %H:%M:%S" },
]
"#;

/// First parts of paths that the servers use themselves.
const TAKEN: [&str; 8] =
    ["upload", "datasets", "loads", "prometheus", "healthz", "readyz", "docs", "openapi"];

impl Datasets {
    /// Reads definitions from TOML.
    pub fn from_toml(text: &str) -> Result<Self, DefinitionError> {
        let written: BTreeMap<String, WrittenDataset> = toml::from_str(text)?;
        if written.is_empty() {
            return Err(DefinitionError::Nothing);
        }
        let check = |(name, written): (String, WrittenDataset)| match written.check(&name) {
            Ok(dataset) => Ok((name, Arc::new(dataset))),
            Err(why) => Err(DefinitionError::Dataset { dataset: name, why }),
        };
        written.into_iter().map(check).collect::<Result<_, _>>().map(Self)
    }

    /// The dataset that ships with the service: promotions, by id.
    pub fn built_in() -> Result<Self, DefinitionError> {
        Self::from_toml(PROMOTIONS)
    }

    /// The dataset of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Dataset>> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Dataset>> {
        self.0.values()
    }

    /// The one dataset that can be meant where none is named.
    pub fn only(&self) -> Option<&Arc<Dataset>> {
        let mut all = self.0.values();
        all.next().filter(|_| all.next().is_none())
    }
}

/// A dataset as it is typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDataset {
    key: String,
    columns: Vec<WrittenColumn>,
    #[serde(default)]
    header: Header,
    #[serde(default)]
    separator: Separator,
    #[serde(default)]
    encoding: TextEncoding,
    #[serde(default)]
    max_rejects: u64,
    #[serde(default = "duplicates_default")]
    duplicates: Duplicates,
    #[serde(default = "min_rows_default")]
    min_rows: u64,
    #[serde(default = "max_shrink_percent_default")]
    max_shrink_percent: u8,
    #[serde(default = "keep_versions_default")]
    keep_versions: u32,
}

fn duplicates_default() -> Duplicates {
    Duplicates::Reject
}

fn min_rows_default() -> u64 {
    1
}

fn max_shrink_percent_default() -> u8 {
    50
}

fn keep_versions_default() -> u32 {
    2
}

impl WrittenDataset {
    fn check(mut self, name: &str) -> Result<Dataset, String> {
        if !is_dataset_name(name) {
            return Err("a name is a lower-case letter, then lower-case letters, digits or single _, at most 48 in all"
                .into());
        }
        if TAKEN.contains(&name) || name.starts_with("tableswap") {
            return Err("this name is taken by the service".into());
        }
        if self.min_rows == 0 {
            return Err(
                "min_rows is at least 1: a version without rows cannot be told from a missing one".into()
            );
        }
        if self.max_shrink_percent > 100 {
            return Err("max_shrink_percent is 0 to 100".into());
        }
        for column in self.columns.iter_mut().filter(|column| column.name == self.key) {
            column.limit_text(KEY_TEXT_MAX);
        }
        let columns = self.columns.into_iter().map(Column::try_from).collect::<Result<_, _>>()?;
        let schema = Schema::new(&self.key, columns)?;
        check_key_output(schema.key())?;
        Ok(Dataset {
            name: name.to_owned(),
            schema: Arc::new(schema),
            format: FileFormat { header: self.header, separator: self.separator, encoding: self.encoding },
            duplicates: self.duplicates,
            guards: Guards {
                max_rejects: self.max_rejects,
                min_rows: self.min_rows,
                max_shrink_percent: self.max_shrink_percent,
            },
            keep_versions: self.keep_versions,
        })
    }
}

/// Refuses a key under which two rows may be shown alike. Only a definition is checked: a version that was made with
/// such a key must still be readable.
fn check_key_output(key: &Column) -> Result<(), String> {
    let Kind::Timestamp(format) = &key.kind else { return Ok(()) };
    let Some(directive) = format.left_out() else { return Ok(()) };
    let (name, output, input) = (&key.name, &format.output, &format.input);
    Err(format!(
        "key `{name}`: output `{output}` leaves out {directive}, so two keys of input `{input}` may look alike"
    ))
}

/// Whether something could be the name of a dataset: a plain table name with room for a version behind it. Two
/// underscores in a row stand before that version, so a name has no such pair.
pub fn is_dataset_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts_well = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    starts_well && name.len() <= 48 && name.bytes().all(plain) && !name.contains("__") && !name.ends_with('_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(toml: &str) -> String {
        let error = Datasets::from_toml(toml).unwrap_err();
        std::error::Error::source(&error)
            .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
    }

    fn dataset(name: &str, settings: &str, columns: &str) -> String {
        format!("[{name}]\nkey = \"id\"\n{settings}\ncolumns = [{columns}]")
    }

    const ID: &str = r#"{ name = "id", type = "uuid" }"#;

    #[test]
    fn promotions_are_built_in() {
        let datasets = Datasets::built_in().unwrap();
        let promotions = datasets.only().unwrap();
        assert_eq!(promotions.schema.columns().len(), 3);
        assert_eq!((promotions.keep_versions, promotions.guards.max_shrink_percent), (2, 50));
    }

    #[test]
    fn a_schema_survives_its_way_through_json() {
        let schema = &Datasets::built_in().unwrap().only().unwrap().schema.clone();
        let json = serde_json::to_string(schema).unwrap();
        insta::assert_snapshot!(json, @r#"{"key":"id","columns":[{"name":"id","type":"uuid"},{"name":"price","type":"decimal","precision":12,"scale":6},{"name":"expiration_date","type":"timestamp","input":"%Y-%m-%d %H:%M:%S %z %Z","output":"%Y-%m-%d %H:%M:%S"}]}"#);
        assert_eq!(**schema, serde_json::from_str(&json).unwrap());
    }

    #[test]
    fn a_schema_keeps_how_the_json_shows_numbers() {
        let columns =
            r#"{ name = "id", type = "integer", json = "string" }, { name = "n", type = "integer" }"#;
        let datasets = Datasets::from_toml(&dataset("d", "", columns)).unwrap();
        let schema = &datasets.only().unwrap().schema;
        let json = serde_json::to_string(schema).unwrap();
        insta::assert_snapshot!(json, @r#"{"key":"id","columns":[{"name":"id","type":"integer","json":"string"},{"name":"n","type":"integer"}]}"#);
        assert_eq!(**schema, serde_json::from_str(&json).unwrap());
        assert_eq!(schema.key_text(&schema.parse_key("7").unwrap()), "7");
    }

    #[test]
    fn names_of_routes_and_tables_are_refused() {
        for name in ["upload", "prometheus", "tableswap_versions", "a__v1", "Promotions", "a-b", "1a"] {
            assert!(refusal(&dataset(name, "", ID)).contains("name is"), "{name}");
        }
    }

    #[test]
    fn contradictions_are_refused_with_their_reason() {
        let columns = |columns: &str| refusal(&dataset("d", "", columns));
        insta::assert_snapshot!(columns(r#"{ name = "sku", type = "uuid" }"#), @"dataset `d`: key `id` is not one of the columns");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "uuid", max = 3 }"#), @"dataset `d`: column `id`: `max` does not go with type uuid");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "uuid", json = "string" }"#), @"dataset `d`: column `id`: `json` does not go with type uuid");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "float" }"#), @"dataset `d`: key `id`: a float cannot be a key, use a decimal");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "text", max = 256 }"#), @"dataset `d`: key `id`: a text key holds at most 255 characters");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "uuid", optional = true }"#), @"dataset `d`: key `id`: a key cannot be optional");
        insta::assert_snapshot!(columns(&format!("{ID}, {ID}")), @"dataset `d`: column `id` stands twice");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "decimal", precision = 4, scale = 5 }"#), @"dataset `d`: column `id`: type decimal needs `precision`, 1 to 38, and `scale`, 0 to 30, not above precision");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "timestamp", output = "%F" }"#), @"dataset `d`: key `id`: output `%F` leaves out %H, so two keys of input `%Y-%m-%d %H:%M:%S` may look alike");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "timestamp", output = "" }"#), @"dataset `d`: key `id`: output `` leaves out %Y, so two keys of input `%Y-%m-%d %H:%M:%S` may look alike");
        insta::assert_snapshot!(refusal(&dataset("d", "min_rows = 0", ID)), @"dataset `d`: min_rows is at least 1: a version without rows cannot be told from a missing one");
        insta::assert_snapshot!(refusal(""), @"no dataset is defined");
    }

    #[test]
    fn a_time_as_a_key_may_be_written_as_it_comes_and_as_it_is_shown() {
        let column =
            r#"{ name = "id", type = "timestamp", input = "%F %T %z", output = "%d.%m.%Y %H:%M:%S" }"#;
        let datasets = Datasets::from_toml(&dataset("d", "", column)).unwrap();
        let schema = &datasets.only().unwrap().schema;
        let key = schema.parse_key("2018-08-04 05:32:31 +0200");
        assert!(key.is_some());
        assert_eq!(schema.parse_key("04.08.2018 03:32:31"), key);
        assert_eq!(schema.parse_key("04.08.2018"), None);
    }

    #[test]
    fn a_text_without_a_limit_holds_65535_characters_and_255_as_a_key() {
        let columns = r#"{ name = "id", type = "text" }, { name = "note", type = "text" }"#;
        let datasets = Datasets::from_toml(&dataset("d", "", columns)).unwrap();
        let kinds: Vec<_> =
            datasets.only().unwrap().schema.columns().iter().map(|column| &column.kind).collect();
        assert_eq!(kinds, [&Kind::Text { max: 255 }, &Kind::Text { max: 65_535 }]);
    }

    #[test]
    fn a_stored_schema_whose_key_is_shown_in_part_is_still_read() {
        let json = r#"{"key":"id","columns":[{"name":"id","type":"timestamp","output":"%F"}]}"#;
        assert!(serde_json::from_str::<Schema>(json).is_ok());
    }

    #[test]
    fn a_header_is_expected_as_the_definition_says() {
        for (setting, header) in [
            ("", Header::Auto),
            ("header = \"auto\"", Header::Auto),
            ("header = \"required\"", Header::Required),
            ("header = \"none\"", Header::None),
        ] {
            let datasets = Datasets::from_toml(&dataset("d", setting, ID)).unwrap();
            assert_eq!(datasets.only().unwrap().format.header, header, "{setting}");
        }
        assert!(refusal(&dataset("d", "header = \"yes\"", ID)).contains("unknown variant `yes`"));
    }

    #[test]
    fn a_separator_is_set_by_itself_or_by_its_name() {
        let separator = |name: &str| {
            let datasets =
                Datasets::from_toml(&dataset("d", &format!("separator = \"{name}\""), ID)).unwrap();
            datasets.only().unwrap().format.separator
        };
        assert_eq!(separator("auto"), Separator::Auto);
        assert_eq!(separator(";"), Separator::Semicolon);
        assert_eq!((separator("tab"), separator("\\t")), (Separator::Tab, Separator::Tab));
        assert!(refusal(&dataset("d", "separator = \":\"", ID)).contains("unknown variant `:`"));
    }

    #[test]
    fn an_encoding_is_set_by_a_name_of_the_encoding_standard() {
        let encoding = |name: &str| {
            let datasets = Datasets::from_toml(&dataset("d", &format!("encoding = \"{name}\""), ID)).unwrap();
            datasets.only().unwrap().format.encoding
        };
        assert_eq!(encoding("auto"), TextEncoding::Auto);
        assert_eq!(encoding("UTF-8"), TextEncoding::Only(encoding_rs::UTF_8));
        assert_eq!(encoding("latin1"), TextEncoding::Only(encoding_rs::WINDOWS_1252));
        assert!(refusal(&dataset("d", "encoding = \"utf8mb4\"", ID)).contains("unknown encoding `utf8mb4`"));
    }

    #[test]
    fn a_misspelled_setting_is_refused() {
        assert!(refusal(&dataset("d", "max_reject = 1", ID)).contains("unknown field `max_reject`"));
    }

    #[test]
    fn names_of_columns_that_a_store_adds_are_refused() {
        for name in ["dataset_version", "Dataset_Content"] {
            let toml = format!(
                "[items]\nkey = \"id\"\ncolumns = [{{ name = \"id\", type = \"uuid\" }}, {{ name = \"{name}\", type = \"text\" }}]"
            );
            assert!(refusal(&toml).contains("taken by the service"), "{name}");
        }
    }
}
