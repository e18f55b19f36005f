//! A column and the parsing of its fields.

use std::num::{IntErrorKind, ParseIntError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::date;
use crate::decimal;
use crate::reject_reason::RejectReason;
use crate::timestamp::TimestampFormat;
use crate::value::Value;

/// A column of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name in the file's header, in the JSON and in the database.
    pub name: String,
    /// The type of its values.
    pub column_type: ColumnType,
    /// Whether an empty field is a null; otherwise its row is rejected.
    pub optional: bool,
    /// How the JSON represents its numbers.
    pub json: JsonNumber,
}

/// How the JSON represents a number.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonNumber {
    /// As a number. JavaScript and other clients that parse it into a double lose digits beyond 2^53.
    #[default]
    Number,
    /// As a string, which every client keeps exactly.
    String,
}

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// A UUID.
    Uuid,
    /// Text of at most `max` characters.
    Text {
        /// The maximum number of characters.
        max: u32,
    },
    /// A whole number of 64 bits.
    Integer,
    /// An exact decimal number.
    Decimal {
        /// The maximum number of digits.
        precision: u8,
        /// How many of them are after the point.
        scale: u8,
    },
    /// A binary floating point number of 64 bits.
    Float,
    /// True or false.
    Boolean,
    /// A date.
    Date,
    /// An instant.
    Timestamp(TimestampFormat),
}

impl Column {
    /// Parses one field. An empty field is a null if the column is optional, and a text if it is a text column.
    pub fn parse<'a>(&self, text: &'a str) -> Result<Value<'a>, RejectReason> {
        if text.is_empty() {
            match self.column_type {
                _ if self.optional => return Ok(Value::Null),
                ColumnType::Text { .. } => {}
                _ => return Err(RejectReason::Empty),
            }
        }
        match &self.column_type {
            ColumnType::Uuid => parse_uuid(text).map(Value::Uuid).ok_or(RejectReason::NotUuid),
            ColumnType::Text { max } => parse_text(text, *max).map(Value::Text),
            ColumnType::Integer => parse_integer(text).map(Value::Integer),
            ColumnType::Decimal { precision, scale } => {
                decimal::parse(text, *precision, *scale).map(Value::Decimal)
            }
            ColumnType::Float => parse_float(text).map(Value::Float).ok_or(RejectReason::NotFloat),
            ColumnType::Boolean => parse_boolean(text).map(Value::Boolean).ok_or(RejectReason::NotBoolean),
            ColumnType::Date => date::parse(text).map(Value::Date),
            ColumnType::Timestamp(format) => format.parse(text).map(Value::Timestamp),
        }
    }
}

/// Accepts every form that the uuid crate does: with or without hyphens, in braces, with the urn prefix, in either case.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    Uuid::try_parse(text).ok().map(Uuid::into_bytes)
}

fn parse_text(text: &str, max: u32) -> Result<&str, RejectReason> {
    if text.contains('\0') {
        return Err(RejectReason::NulByte);
    }
    // A character has at least one byte, so a text with few enough bytes need not be counted.
    let max_chars = usize::try_from(max).unwrap_or(usize::MAX);
    if text.len() > max_chars && text.chars().count() > max_chars {
        return Err(RejectReason::TooLong { max });
    }
    Ok(text)
}

fn parse_integer(text: &str) -> Result<i64, RejectReason> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => RejectReason::IntegerRange,
        _ => RejectReason::NotInteger,
    })
}

fn parse_float(text: &str) -> Option<f64> {
    // Adding zero turns -0 into 0, so that equal numbers have equal bytes.
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(|number| number + 0.0)
}

fn parse_boolean(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 5]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is_one_of(["true", "t", "yes", "y", "1"]) {
        Some(true)
    } else if is_one_of(["false", "f", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(column_type: ColumnType) -> Column {
        Column { name: "c".into(), column_type, optional: false, json: JsonNumber::Number }
    }

    #[test]
    fn a_uuid_is_accepted_in_every_usual_form() {
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
    fn the_length_of_a_text_is_counted_in_characters() {
        assert_eq!(column(ColumnType::Text { max: 3 }).parse("äöü"), Ok(Value::Text("äöü")));
        assert_eq!(column(ColumnType::Text { max: 3 }).parse("äöüß"), Err(RejectReason::TooLong { max: 3 }));
        assert_eq!(column(ColumnType::Text { max: 3 }).parse(""), Ok(Value::Text("")));
        assert_eq!(column(ColumnType::Text { max: 3 }).parse("a\0"), Err(RejectReason::NulByte));
    }

    #[test]
    fn a_text_that_is_not_a_number_is_rejected() {
        assert_eq!(column(ColumnType::Integer).parse("-42"), Ok(Value::Integer(-42)));
        assert_eq!(column(ColumnType::Integer).parse("9223372036854775808"), Err(RejectReason::IntegerRange));
        assert_eq!(column(ColumnType::Integer).parse("1.0"), Err(RejectReason::NotInteger));
        assert_eq!(column(ColumnType::Float).parse("1e-3"), Ok(Value::Float(0.001)));
        for text in ["NaN", "inf", "1e999", "1,5"] {
            assert_eq!(column(ColumnType::Float).parse(text), Err(RejectReason::NotFloat), "{text}");
        }
    }

    #[test]
    fn an_empty_field_is_null_only_in_an_optional_column() {
        assert_eq!(column(ColumnType::Date).parse(""), Err(RejectReason::Empty));
        assert_eq!(Column { optional: true, ..column(ColumnType::Date) }.parse(""), Ok(Value::Null));
        assert_eq!(
            Column { optional: true, ..column(ColumnType::Text { max: 3 }) }.parse(""),
            Ok(Value::Null)
        );
    }

    #[test]
    fn a_boolean_is_one_of_the_usual_words() {
        assert_eq!(column(ColumnType::Boolean).parse("TRUE"), Ok(Value::Boolean(true)));
        assert_eq!(column(ColumnType::Boolean).parse("0"), Ok(Value::Boolean(false)));
        assert_eq!(column(ColumnType::Boolean).parse("2"), Err(RejectReason::NotBoolean));
    }
}
