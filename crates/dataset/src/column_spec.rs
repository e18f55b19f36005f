//! Columns as text: in a dataset definition (TOML) and in the ledger (JSON).

use serde::{Deserialize, Serialize};

use crate::column::{Column, ColumnType, JsonNumber};
use crate::timestamp::TimestampFormat;

/// A column as it is written in TOML and JSON. Converting it into a [`Column`] checks which settings its type allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ColumnSpec {
    pub(crate) name: String,
    #[serde(rename = "type")]
    type_name: TypeName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    precision: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json: Option<JsonNumber>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TypeName {
    Uuid,
    Text,
    Integer,
    Decimal,
    Float,
    Boolean,
    Date,
    Timestamp,
}

const DEFAULT_TIMESTAMP_FORMAT: &str = "%Y-%m-%d %H:%M:%S";

/// Maximum number of characters of a text whose definition does not set `max`.
const DEFAULT_TEXT_MAX: u32 = 65_535;
/// Highest `max` of a text: at 4 bytes a character 64 MB, well below the 4 GiB of a LONGTEXT.
const TEXT_MAX: u32 = 16_000_000;
/// Number of digits that every i128 of that length holds.
const PRECISION_MAX: u8 = 38;
/// Limit of MariaDB's DECIMAL.
const SCALE_MAX: u8 = 30;
/// One byte below MariaDB's limit of 64.
const NAME_BYTES_MAX: usize = 63;

/// Columns that the MariaDB store adds, to tell which version a row belongs to.
const RESERVED_NAMES: [&str; 2] = ["dataset_version", "dataset_content"];

impl TryFrom<ColumnSpec> for Column {
    type Error = String;

    fn try_from(spec: ColumnSpec) -> Result<Self, String> {
        match spec.checked_type() {
            Ok(column_type) => {
                let json = spec.json.unwrap_or_default();
                Ok(Self { name: spec.name, column_type, optional: spec.optional, json })
            }
            Err(why) => Err(format!("column `{}`: {why}", spec.name)),
        }
    }
}

impl ColumnSpec {
    /// Sets `max` of a text column whose definition does not.
    pub(crate) fn set_default_text_max(&mut self, max: u32) {
        if self.type_name == TypeName::Text {
            self.max.get_or_insert(max);
        }
    }

    fn checked_type(&self) -> Result<ColumnType, String> {
        self.check_name()?;
        self.check_settings()?;
        self.column_type()
    }

    /// A column's name stands unescaped in the file's header, in JSON and in SQL.
    fn check_name(&self) -> Result<(), String> {
        let mut bytes = self.name.bytes();
        let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        let is_plain = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !starts_well || !is_plain || self.name.len() > NAME_BYTES_MAX {
            return Err(format!(
                "invalid name: use a letter or _, then letters, digits or _, at most {NAME_BYTES_MAX} in all"
            ));
        }
        if RESERVED_NAMES.iter().any(|name| name.eq_ignore_ascii_case(&self.name)) {
            return Err("reserved name".into());
        }
        Ok(())
    }

    /// Refuses a setting that the column's type does not have.
    fn check_settings(&self) -> Result<(), String> {
        use TypeName::{Decimal, Float, Integer, Text, Timestamp};
        let check = |setting: &str, is_set: bool, types: &[TypeName]| {
            if is_set && !types.contains(&self.type_name) {
                let type_name = format!("{:?}", self.type_name).to_lowercase();
                return Err(format!("type {type_name} has no setting `{setting}`"));
            }
            Ok(())
        };
        check("max", self.max.is_some(), &[Text])?;
        check("precision", self.precision.is_some(), &[Decimal])?;
        check("scale", self.scale.is_some(), &[Decimal])?;
        check("input", self.input.is_some(), &[Timestamp])?;
        check("output", self.output.is_some(), &[Timestamp])?;
        check("json", self.json.is_some(), &[Integer, Decimal, Float])
    }

    fn column_type(&self) -> Result<ColumnType, String> {
        Ok(match self.type_name {
            TypeName::Uuid => ColumnType::Uuid,
            TypeName::Integer => ColumnType::Integer,
            TypeName::Float => ColumnType::Float,
            TypeName::Boolean => ColumnType::Boolean,
            TypeName::Date => ColumnType::Date,
            TypeName::Text => match self.max {
                None => ColumnType::Text { max: DEFAULT_TEXT_MAX },
                Some(max) if (1..=TEXT_MAX).contains(&max) => ColumnType::Text { max },
                Some(_) => return Err(format!("`max` must be 1 to {TEXT_MAX} characters")),
            },
            TypeName::Decimal => self.decimal_type()?,
            TypeName::Timestamp => {
                let or_default = |format: &Option<String>| {
                    format.clone().unwrap_or_else(|| DEFAULT_TIMESTAMP_FORMAT.into())
                };
                let format = TimestampFormat::new(or_default(&self.input), or_default(&self.output))?;
                ColumnType::Timestamp(format)
            }
        })
    }

    fn decimal_type(&self) -> Result<ColumnType, String> {
        match (self.precision, self.scale) {
            (Some(precision @ 1..=PRECISION_MAX), Some(scale @ 0..=SCALE_MAX)) if scale <= precision => {
                Ok(ColumnType::Decimal { precision, scale })
            }
            _ => Err(format!(
                "type decimal needs `precision`, 1 to {PRECISION_MAX}, and `scale`, 0 to {SCALE_MAX}, not above precision"
            )),
        }
    }
}

impl From<Column> for ColumnSpec {
    fn from(column: Column) -> Self {
        let mut spec = Self {
            name: column.name,
            type_name: TypeName::Uuid,
            max: None,
            precision: None,
            scale: None,
            input: None,
            output: None,
            optional: column.optional,
            json: Some(column.json).filter(|json| *json != JsonNumber::default()),
        };
        match column.column_type {
            ColumnType::Uuid => {}
            ColumnType::Integer => spec.type_name = TypeName::Integer,
            ColumnType::Float => spec.type_name = TypeName::Float,
            ColumnType::Boolean => spec.type_name = TypeName::Boolean,
            ColumnType::Date => spec.type_name = TypeName::Date,
            ColumnType::Text { max } => {
                (spec.type_name, spec.max) = (TypeName::Text, Some(max));
            }
            ColumnType::Decimal { precision, scale } => {
                spec.type_name = TypeName::Decimal;
                (spec.precision, spec.scale) = (Some(precision), Some(scale));
            }
            ColumnType::Timestamp(format) => {
                spec.type_name = TypeName::Timestamp;
                (spec.input, spec.output) = (Some(format.input), Some(format.output));
            }
        }
        spec
    }
}
