//! Dataset definitions: TOML that an operator writes and that is checked once, at start.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::column::{Column, ColumnType};
use crate::column_spec::ColumnSpec;
use crate::dataset::{Dataset, DuplicatePolicy, Guards, is_dataset_name};
use crate::file_format::{FileFormat, HeaderMode, Separator, TextEncoding};
use crate::schema::{KEY_TEXT_MAX, Schema};

/// The datasets of an updater, by name.
#[derive(Debug, Clone)]
pub struct Datasets(BTreeMap<String, Arc<Dataset>>);

/// Why a definition is invalid.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// Not TOML, or an unknown, missing or malformed setting.
    #[error("invalid dataset definition")]
    Toml(#[from] toml::de::Error),
    /// Settings of a dataset that contradict each other or are out of range.
    #[error("dataset `{dataset}`: {why}")]
    Dataset {
        /// The name of the dataset.
        dataset: String,
        /// What is wrong.
        why: String,
    },
    /// The text defines no dataset.
    #[error("no dataset is defined")]
    NoDataset,
}

/// The definition that ships with the service.
pub(crate) const PROMOTIONS: &str = r#"
[promotions]
key = "id"
columns = [
  { name = "id", type = "uuid" },
  { name = "price", type = "decimal", precision = 12, scale = 6 },
  { name = "expiration_date", type = "timestamp", input = "%Y-%m-%d %H:%M:%S %z %Z", output = "%Y-%m-%d %H:%M:%S" },
]
"#;

/// First path segments of the servers' own routes.
const RESERVED_NAMES: [&str; 8] =
    ["upload", "datasets", "loads", "prometheus", "healthz", "readyz", "docs", "openapi"];

/// Names of the ledger's tables start with it.
const RESERVED_PREFIX: &str = "tableswap";

impl Datasets {
    /// Parses and checks definitions.
    pub fn from_toml(text: &str) -> Result<Self, DefinitionError> {
        let specs: BTreeMap<String, DatasetSpec> = toml::from_str(text)?;
        if specs.is_empty() {
            return Err(DefinitionError::NoDataset);
        }
        let datasets = specs.into_iter().map(|(name, spec)| match spec.into_dataset(&name) {
            Ok(dataset) => Ok((name, Arc::new(dataset))),
            Err(why) => Err(DefinitionError::Dataset { dataset: name, why }),
        });
        Ok(Self(datasets.collect::<Result<_, _>>()?))
    }

    /// The definition that ships with the service: `promotions`.
    pub fn built_in() -> Result<Self, DefinitionError> {
        Self::from_toml(PROMOTIONS)
    }

    /// The dataset with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Dataset>> {
        self.0.get(name)
    }

    /// All datasets, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Dataset>> {
        self.0.values()
    }

    /// The dataset, if there is exactly one.
    pub fn single(&self) -> Option<&Arc<Dataset>> {
        let mut datasets = self.0.values();
        datasets.next().filter(|_| datasets.next().is_none())
    }
}

/// A dataset as TOML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatasetSpec {
    key: String,
    columns: Vec<ColumnSpec>,
    #[serde(default)]
    header: HeaderMode,
    #[serde(default)]
    separator: Separator,
    #[serde(default)]
    encoding: TextEncoding,
    #[serde(default)]
    max_rejects: u64,
    #[serde(default = "default_duplicates")]
    duplicates: DuplicatePolicy,
    #[serde(default = "default_min_rows")]
    min_rows: u64,
    #[serde(default = "default_max_shrink_percent")]
    max_shrink_percent: u8,
    #[serde(default = "default_keep_versions")]
    keep_versions: u32,
}

fn default_duplicates() -> DuplicatePolicy {
    DuplicatePolicy::Reject
}

fn default_min_rows() -> u64 {
    1
}

fn default_max_shrink_percent() -> u8 {
    50
}

fn default_keep_versions() -> u32 {
    2
}

impl DatasetSpec {
    fn into_dataset(mut self, name: &str) -> Result<Dataset, String> {
        check_name(name)?;
        if self.min_rows == 0 {
            return Err("min_rows must be at least 1: a version without rows looks like a missing one".into());
        }
        if self.max_shrink_percent > 100 {
            return Err("max_shrink_percent must be 0 to 100".into());
        }
        for column in self.columns.iter_mut().filter(|column| column.name == self.key) {
            column.set_default_text_max(KEY_TEXT_MAX);
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

fn check_name(name: &str) -> Result<(), String> {
    if !is_dataset_name(name) {
        return Err(
            "invalid name: use a lower-case letter, then lower-case letters, digits or single _, at most 48 in all"
                .into(),
        );
    }
    if RESERVED_NAMES.contains(&name) || name.starts_with(RESERVED_PREFIX) {
        return Err("reserved name".into());
    }
    Ok(())
}

/// Refuses a key whose output may be the same for two rows. This is not part of [`Schema::new`], because a version that
/// was published with such a key must stay readable.
fn check_key_output(key: &Column) -> Result<(), String> {
    let ColumnType::Timestamp(format) = &key.column_type else { return Ok(()) };
    let Some(directive) = format.missing_in_output() else { return Ok(()) };
    let (name, output, input) = (&key.name, &format.output, &format.input);
    Err(format!(
        "key `{name}`: output `{output}` lacks {directive}, so two keys in the format `{input}` may look the same"
    ))
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
        let promotions = datasets.single().unwrap();
        assert_eq!(promotions.schema.columns().len(), 3);
        assert_eq!((promotions.keep_versions, promotions.guards.max_shrink_percent), (2, 50));
    }

    #[test]
    fn a_schema_is_the_same_after_a_round_trip_through_json() {
        let schema = &Datasets::built_in().unwrap().single().unwrap().schema.clone();
        let json = serde_json::to_string(schema).unwrap();
        insta::assert_snapshot!(json, @r#"{"key":"id","columns":[{"name":"id","type":"uuid"},{"name":"price","type":"decimal","precision":12,"scale":6},{"name":"expiration_date","type":"timestamp","input":"%Y-%m-%d %H:%M:%S %z %Z","output":"%Y-%m-%d %H:%M:%S"}]}"#);
        assert_eq!(**schema, serde_json::from_str(&json).unwrap());
    }

    #[test]
    fn a_schema_keeps_the_json_form_of_its_numbers() {
        let columns =
            r#"{ name = "id", type = "integer", json = "string" }, { name = "n", type = "integer" }"#;
        let datasets = Datasets::from_toml(&dataset("d", "", columns)).unwrap();
        let schema = &datasets.single().unwrap().schema;
        let json = serde_json::to_string(schema).unwrap();
        insta::assert_snapshot!(json, @r#"{"key":"id","columns":[{"name":"id","type":"integer","json":"string"},{"name":"n","type":"integer"}]}"#);
        assert_eq!(**schema, serde_json::from_str(&json).unwrap());
        assert_eq!(schema.format_key(&schema.parse_key("7").unwrap()), "7");
    }

    #[test]
    fn reserved_and_malformed_dataset_names_are_refused() {
        for name in ["upload", "prometheus", "tableswap_versions", "a__v1", "Promotions", "a-b", "1a"] {
            assert!(refusal(&dataset(name, "", ID)).contains("name"), "{name}");
        }
    }

    #[test]
    fn invalid_definitions_are_refused_with_their_reason() {
        let columns = |columns: &str| refusal(&dataset("d", "", columns));
        insta::assert_snapshot!(columns(r#"{ name = "sku", type = "uuid" }"#), @"dataset `d`: key `id` is not one of the columns");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "uuid", max = 3 }"#), @"dataset `d`: column `id`: type uuid has no setting `max`");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "uuid", json = "string" }"#), @"dataset `d`: column `id`: type uuid has no setting `json`");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "float" }"#), @"dataset `d`: key `id`: a float cannot be a key, use a decimal");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "text", max = 256 }"#), @"dataset `d`: key `id`: a text key has at most 255 characters");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "uuid", optional = true }"#), @"dataset `d`: key `id`: a key cannot be optional");
        insta::assert_snapshot!(columns(&format!("{ID}, {ID}")), @"dataset `d`: duplicate column `id`");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "decimal", precision = 4, scale = 5 }"#), @"dataset `d`: column `id`: type decimal needs `precision`, 1 to 38, and `scale`, 0 to 30, not above precision");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "timestamp", output = "%F" }"#), @"dataset `d`: key `id`: output `%F` lacks %H, so two keys in the format `%Y-%m-%d %H:%M:%S` may look the same");
        insta::assert_snapshot!(columns(r#"{ name = "id", type = "timestamp", output = "" }"#), @"dataset `d`: key `id`: output `` lacks %Y, so two keys in the format `%Y-%m-%d %H:%M:%S` may look the same");
        insta::assert_snapshot!(refusal(&dataset("d", "min_rows = 0", ID)), @"dataset `d`: min_rows must be at least 1: a version without rows looks like a missing one");
        insta::assert_snapshot!(refusal(""), @"no dataset is defined");
    }

    #[test]
    fn a_timestamp_key_is_accepted_in_its_input_and_in_its_output_format() {
        let column =
            r#"{ name = "id", type = "timestamp", input = "%F %T %z", output = "%d.%m.%Y %H:%M:%S" }"#;
        let datasets = Datasets::from_toml(&dataset("d", "", column)).unwrap();
        let schema = &datasets.single().unwrap().schema;
        let key = schema.parse_key("2018-08-04 05:32:31 +0200");
        assert!(key.is_some());
        assert_eq!(schema.parse_key("04.08.2018 03:32:31"), key);
        assert_eq!(schema.parse_key("04.08.2018"), None);
    }

    #[test]
    fn a_text_without_max_has_65535_characters_or_255_as_a_key() {
        let columns = r#"{ name = "id", type = "text" }, { name = "note", type = "text" }"#;
        let datasets = Datasets::from_toml(&dataset("d", "", columns)).unwrap();
        let types: Vec<_> =
            datasets.single().unwrap().schema.columns().iter().map(|column| &column.column_type).collect();
        assert_eq!(types, [&ColumnType::Text { max: 255 }, &ColumnType::Text { max: 65_535 }]);
    }

    #[test]
    fn a_stored_schema_whose_key_output_is_ambiguous_stays_readable() {
        let json = r#"{"key":"id","columns":[{"name":"id","type":"timestamp","output":"%F"}]}"#;
        assert!(serde_json::from_str::<Schema>(json).is_ok());
    }

    #[test]
    fn the_header_mode_is_parsed() {
        for (setting, header) in [
            ("", HeaderMode::Auto),
            ("header = \"auto\"", HeaderMode::Auto),
            ("header = \"required\"", HeaderMode::Required),
            ("header = \"none\"", HeaderMode::None),
        ] {
            let datasets = Datasets::from_toml(&dataset("d", setting, ID)).unwrap();
            assert_eq!(datasets.single().unwrap().format.header, header, "{setting}");
        }
        assert!(refusal(&dataset("d", "header = \"yes\"", ID)).contains("unknown variant `yes`"));
    }

    #[test]
    fn a_separator_is_set_as_a_character_or_by_name() {
        let separator = |name: &str| {
            let datasets =
                Datasets::from_toml(&dataset("d", &format!("separator = \"{name}\""), ID)).unwrap();
            datasets.single().unwrap().format.separator
        };
        assert_eq!(separator("auto"), Separator::Auto);
        assert_eq!(separator(";"), Separator::Semicolon);
        assert_eq!((separator("tab"), separator("\\t")), (Separator::Tab, Separator::Tab));
        assert!(refusal(&dataset("d", "separator = \":\"", ID)).contains("unknown variant `:`"));
    }

    #[test]
    fn an_encoding_is_set_by_a_label_of_the_encoding_standard() {
        let encoding = |name: &str| {
            let datasets = Datasets::from_toml(&dataset("d", &format!("encoding = \"{name}\""), ID)).unwrap();
            datasets.single().unwrap().format.encoding
        };
        assert_eq!(encoding("auto"), TextEncoding::Auto);
        assert_eq!(encoding("UTF-8"), TextEncoding::Only(encoding_rs::UTF_8));
        assert_eq!(encoding("latin1"), TextEncoding::Only(encoding_rs::WINDOWS_1252));
        assert!(refusal(&dataset("d", "encoding = \"utf8mb4\"", ID)).contains("unknown encoding `utf8mb4`"));
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(refusal(&dataset("d", "max_reject = 1", ID)).contains("unknown field `max_reject`"));
    }

    #[test]
    fn names_of_columns_that_the_store_adds_are_refused() {
        for name in ["dataset_version", "Dataset_Content"] {
            let toml = format!(
                "[items]\nkey = \"id\"\ncolumns = [{{ name = \"id\", type = \"uuid\" }}, {{ name = \"{name}\", type = \"text\" }}]"
            );
            assert!(refusal(&toml).contains("reserved name"), "{name}");
        }
    }
}
