//! One column: its name, its type and how a field of it is read.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Reason, TimestampFormat, Value, decimal, timestamp};

/// A column of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name in the file's header, in the JSON and in the database.
    pub name: String,
    /// The type of its values.
    pub kind: Kind,
    /// Whether an empty field is a null and not a reject.
    pub optional: bool,
    /// How the JSON shows its numbers.
    pub json: JsonNumber,
}

/// How the JSON shows a number.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonNumber {
    /// As a number. JavaScript and other clients that read it into a double lose the digits beyond 2^53.
    #[default]
    Number,
    /// As a string, which every client keeps as it is.
    String,
}

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A UUID.
    Uuid,
    /// Text of at most `max` characters.
    Text {
        /// How many characters it holds.
        max: u32,
    },
    /// A whole number of 64 bits.
    Integer,
    /// An exact decimal number.
    Decimal {
        /// How many digits it has in all.
        precision: u8,
        /// How many of them stand after the point.
        scale: u8,
    },
    /// A binary floating point number of 64 bits.
    Float,
    /// True or false.
    Boolean,
    /// A day of the calendar.
    Date,
    /// An instant.
    Timestamp(TimestampFormat),
}

impl Column {
    /// Reads one field; an empty one is a null where that is allowed.
    pub fn parse<'a>(&self, text: &'a str) -> Result<Value<'a>, Reason> {
        if text.is_empty() {
            match self.kind {
                _ if self.optional => return Ok(Value::Null),
                Kind::Text { .. } => {}
                _ => return Err(Reason::Empty),
            }
        }
        match &self.kind {
            Kind::Uuid => parse_uuid(text).map(Value::Uuid).ok_or(Reason::NotUuid),
            Kind::Text { max } => parse_text(text, *max).map(Value::Text),
            Kind::Integer => parse_integer(text).map(Value::Integer),
            Kind::Decimal { precision, scale } => {
                decimal::parse(text, *precision, *scale).map(Value::Decimal)
            }
            Kind::Float => parse_float(text).map(Value::Float).ok_or(Reason::NotFloat),
            Kind::Boolean => parse_boolean(text).map(Value::Boolean).ok_or(Reason::NotBoolean),
            Kind::Date => timestamp::parse_date(text).map(Value::Date),
            Kind::Timestamp(format) => format.parse(text).map(Value::Timestamp),
        }
    }
}

/// Every form that the uuid crate reads: hyphens or none, braces, the urn prefix, either case.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    Uuid::try_parse(text).ok().map(Uuid::into_bytes)
}

fn parse_text(text: &str, max: u32) -> Result<&str, Reason> {
    if text.contains('\0') {
        return Err(Reason::NulByte);
    }
    // Counting characters is only needed where the bytes alone do not settle it.
    let max_chars = usize::try_from(max).unwrap_or(usize::MAX);
    if text.len() > max_chars && text.chars().count() > max_chars {
        return Err(Reason::TooLong { max });
    }
    Ok(text)
}

fn parse_integer(text: &str) -> Result<i64, Reason> {
    text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => Reason::IntegerRange,
        _ => Reason::NotInteger,
    })
}

fn parse_float(text: &str) -> Option<f64> {
    // Adding zero makes -0 a plain zero, so that equal numbers have equal bytes.
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(|number| number + 0.0)
}

fn parse_boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(["true", "t", "yes", "y", "1"]) {
        Some(true)
    } else if is(["false", "f", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// A column as a definition spells it; which settings go with which type is checked when it becomes a [`Column`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenColumn {
    pub(crate) name: String,
    #[serde(rename = "type")]
    kind: KindName,
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
enum KindName {
    Uuid,
    Text,
    Integer,
    Decimal,
    Float,
    Boolean,
    Date,
    Timestamp,
}

/// How times are written where a definition says nothing.
const TIMESTAMP_DEFAULT: &str = "%Y-%m-%d %H:%M:%S";
/// How many characters a text holds where a definition says nothing.
const TEXT_DEFAULT: u32 = 65_535;
/// What fits a text column of MariaDB that is not kept outside of its row.
const TEXT_MAX: u32 = 16_000_000;
/// The digits that an i128 holds, and MariaDB's limit after the point.
const PRECISION_MAX: u8 = 38;
const SCALE_MAX: u8 = 30;

/// Columns that a store adds, to tell of which version a row is.
const RESERVED_NAMES: [&str; 2] = ["dataset_version", "dataset_content"];

impl TryFrom<WrittenColumn> for Column {
    type Error = String;

    fn try_from(written: WrittenColumn) -> Result<Self, String> {
        let fail = |why: &str| Err(format!("column `{}`: {why}", written.name));
        if !is_column_name(&written.name) {
            return fail("a name is a letter or _, then letters, digits or _, at most 63 in all");
        }
        if RESERVED_NAMES.iter().any(|name| name.eq_ignore_ascii_case(&written.name)) {
            return fail("this name is taken by the service");
        }
        if let Some(setting) = written.misplaced() {
            return fail(&format!("`{setting}` does not go with type {:?}", written.kind).to_lowercase());
        }
        match written.kind() {
            Ok(kind) => {
                let json = written.json.unwrap_or_default();
                Ok(Self { name: written.name, kind, optional: written.optional, json })
            }
            Err(why) => fail(&why),
        }
    }
}

impl WrittenColumn {
    /// Sets `max` where the column is a text and its definition says nothing.
    pub(crate) fn limit_text(&mut self, max: u32) {
        if self.kind == KindName::Text {
            self.max.get_or_insert(max);
        }
    }

    /// The first setting that belongs to another type.
    fn misplaced(&self) -> Option<&'static str> {
        use KindName::{Decimal, Float, Integer, Text, Timestamp};
        let settings: [(_, _, &[KindName]); 6] = [
            ("max", self.max.is_some(), &[Text]),
            ("precision", self.precision.is_some(), &[Decimal]),
            ("scale", self.scale.is_some(), &[Decimal]),
            ("input", self.input.is_some(), &[Timestamp]),
            ("output", self.output.is_some(), &[Timestamp]),
            ("json", self.json.is_some(), &[Integer, Decimal, Float]),
        ];
        let misplaced = settings.into_iter().find(|(_, given, kinds)| *given && !kinds.contains(&self.kind));
        misplaced.map(|(name, _, _)| name)
    }

    fn kind(&self) -> Result<Kind, String> {
        Ok(match self.kind {
            KindName::Uuid => Kind::Uuid,
            KindName::Integer => Kind::Integer,
            KindName::Float => Kind::Float,
            KindName::Boolean => Kind::Boolean,
            KindName::Date => Kind::Date,
            KindName::Text => match self.max {
                None => Kind::Text { max: TEXT_DEFAULT },
                Some(max) if (1..=TEXT_MAX).contains(&max) => Kind::Text { max },
                Some(_) => return Err(format!("`max` is 1 to {TEXT_MAX} characters")),
            },
            KindName::Decimal => {
                let (precision, scale) = (self.precision.unwrap_or(0), self.scale.unwrap_or(0));
                let scale_max = SCALE_MAX.min(precision);
                if !(1..=PRECISION_MAX).contains(&precision) || self.scale.is_none() || scale > scale_max {
                    return Err(format!(
                        "type decimal needs `precision`, 1 to {PRECISION_MAX}, and `scale`, 0 to {SCALE_MAX}, not above precision"
                    ));
                }
                Kind::Decimal { precision, scale }
            }
            KindName::Timestamp => {
                let format =
                    |given: &Option<String>| given.clone().unwrap_or_else(|| TIMESTAMP_DEFAULT.into());
                Kind::Timestamp(TimestampFormat::new(format(&self.input), format(&self.output))?)
            }
        })
    }
}

impl From<Column> for WrittenColumn {
    fn from(column: Column) -> Self {
        let mut written = Self {
            name: column.name,
            kind: KindName::Uuid,
            max: None,
            precision: None,
            scale: None,
            input: None,
            output: None,
            optional: column.optional,
            json: Some(column.json).filter(|json| *json != JsonNumber::default()),
        };
        match column.kind {
            Kind::Uuid => {}
            Kind::Integer => written.kind = KindName::Integer,
            Kind::Float => written.kind = KindName::Float,
            Kind::Boolean => written.kind = KindName::Boolean,
            Kind::Date => written.kind = KindName::Date,
            Kind::Text { max } => {
                (written.kind, written.max) = (KindName::Text, Some(max));
            }
            Kind::Decimal { precision, scale } => {
                written.kind = KindName::Decimal;
                (written.precision, written.scale) = (Some(precision), Some(scale));
            }
            Kind::Timestamp(format) => {
                written.kind = KindName::Timestamp;
                (written.input, written.output) = (Some(format.input), Some(format.output));
            }
        }
        written
    }
}

/// Whether a name can stand as it is in a header, a JSON object and a statement.
fn is_column_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && name.len() <= 63 && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: Kind) -> Column {
        Column { name: "c".into(), kind, optional: false, json: JsonNumber::Number }
    }

    #[test]
    fn a_uuid_is_read_in_every_usual_form() {
        let bytes = parse_uuid("d018ef0b-dbd9-48f1-ac1a-eb4d90e57118").unwrap();
        for form in [
            "D018EF0B-DBD9-48F1-AC1A-EB4D90E57118",
            "d018ef0bdbd948f1ac1aeb4d90e57118",
            "{d018ef0b-dbd9-48f1-ac1a-eb4d90e57118}",
            "urn:uuid:d018ef0b-dbd9-48f1-ac1a-eb4d90e57118",
        ] {
            assert_eq!(parse_uuid(form), Some(bytes), "{form}");
        }
        for form in
            ["", "test", "d018ef0b-dbd9-48f1-ac1a-eb4d90e5711", "g018ef0b-dbd9-48f1-ac1a-eb4d90e57118"]
        {
            assert_eq!(parse_uuid(form), None, "{form}");
        }
    }

    #[test]
    fn text_is_counted_in_characters() {
        assert_eq!(column(Kind::Text { max: 3 }).parse("äöü"), Ok(Value::Text("äöü")));
        assert_eq!(column(Kind::Text { max: 3 }).parse("äöüß"), Err(Reason::TooLong { max: 3 }));
        assert_eq!(column(Kind::Text { max: 3 }).parse(""), Ok(Value::Text("")));
        assert_eq!(column(Kind::Text { max: 3 }).parse("a\0"), Err(Reason::NulByte));
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        assert_eq!(column(Kind::Integer).parse("-42"), Ok(Value::Integer(-42)));
        assert_eq!(column(Kind::Integer).parse("9223372036854775808"), Err(Reason::IntegerRange));
        assert_eq!(column(Kind::Integer).parse("1.0"), Err(Reason::NotInteger));
        assert_eq!(column(Kind::Float).parse("1e-3"), Ok(Value::Float(0.001)));
        for text in ["NaN", "inf", "1e999", "1,5"] {
            assert_eq!(column(Kind::Float).parse(text), Err(Reason::NotFloat), "{text}");
        }
    }

    #[test]
    fn an_empty_field_is_null_only_where_the_column_is_optional() {
        assert_eq!(column(Kind::Date).parse(""), Err(Reason::Empty));
        assert_eq!(Column { optional: true, ..column(Kind::Date) }.parse(""), Ok(Value::Null));
        assert_eq!(Column { optional: true, ..column(Kind::Text { max: 3 }) }.parse(""), Ok(Value::Null));
    }

    #[test]
    fn booleans_have_their_usual_words() {
        assert_eq!(column(Kind::Boolean).parse("TRUE"), Ok(Value::Boolean(true)));
        assert_eq!(column(Kind::Boolean).parse("0"), Ok(Value::Boolean(false)));
        assert_eq!(column(Kind::Boolean).parse("2"), Err(Reason::NotBoolean));
    }
}
