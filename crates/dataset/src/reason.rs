//! Why a field or a row is refused: a short code for metrics and reports, and a sentence for people.

use std::fmt;

use crate::plural;

/// Why a row of a file is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Another number of fields than the dataset has columns.
    FieldCount {
        /// How many columns the dataset has.
        expected: usize,
        /// How many fields the row has.
        found: usize,
    },
    /// The bytes are not UTF-8.
    InvalidUtf8,
    /// A byte of value zero.
    NulByte,
    /// Text between the closing quote of a field and the next separator.
    TextAfterQuote,
    /// Nothing stands in a column that is not optional.
    Empty,
    /// Not a UUID in any of its usual forms.
    NotUuid,
    /// More characters than the column allows.
    TooLong {
        /// How many it allows.
        max: u32,
    },
    /// Not a whole number.
    NotInteger,
    /// A whole number that does not fit into 64 bits.
    IntegerRange,
    /// Not a plain decimal number.
    NotDecimal,
    /// More digits after the point than the column keeps.
    DecimalScale {
        /// How many it keeps.
        scale: u8,
    },
    /// More digits before the point than the column holds.
    DecimalPrecision {
        /// How many it holds.
        digits: u8,
    },
    /// Not a finite number.
    NotFloat,
    /// None of the words for true and false.
    NotBoolean,
    /// Not a day of the calendar, written as year, month and day.
    NotDate,
    /// Not written as the column's format says, or not a time that exists.
    NotTimestamp {
        /// The format that was expected.
        input: String,
    },
    /// A date or a time that exists and that no store keeps: a year outside of 1000 to 9999, or a leap second.
    TimeRange,
    /// The name of a time zone that is not known.
    UnknownZone,
    /// The name of a time zone that is never as far from UTC as the row says.
    ZoneOffset,
    /// The name of a time zone that stands for several, with no offset beside it.
    AmbiguousZone,
    /// A key that an earlier row has with other values.
    DuplicateKey {
        /// The line of that row.
        line: u64,
    },
}

impl Reason {
    /// The reason as one word, for a metric's label and for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::FieldCount { .. } => "field_count",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::NulByte => "nul_byte",
            Self::TextAfterQuote => "text_after_quote",
            Self::Empty => "empty",
            Self::NotUuid => "not_uuid",
            Self::TooLong { .. } => "too_long",
            Self::NotInteger => "not_integer",
            Self::IntegerRange => "integer_range",
            Self::NotDecimal => "not_decimal",
            Self::DecimalScale { .. } => "decimal_scale",
            Self::DecimalPrecision { .. } => "decimal_precision",
            Self::NotFloat => "not_float",
            Self::NotBoolean => "not_boolean",
            Self::NotDate => "not_date",
            Self::NotTimestamp { .. } => "not_timestamp",
            Self::TimeRange => "time_range",
            Self::UnknownZone => "unknown_zone",
            Self::ZoneOffset => "zone_offset",
            Self::AmbiguousZone => "ambiguous_zone",
            Self::DuplicateKey { .. } => "duplicate_key",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FieldCount { expected, found } => {
                let fields = plural(u64::try_from(*expected).unwrap_or(u64::MAX), "field");
                write!(f, "expected {expected} {fields}, found {found}")
            }
            Self::InvalidUtf8 => f.write_str("not valid UTF-8"),
            Self::NulByte => f.write_str("contains a NUL byte"),
            Self::TextAfterQuote => f.write_str("text follows a closing quote"),
            Self::Empty => f.write_str("empty, but the column is not optional"),
            Self::NotUuid => f.write_str("not a UUID"),
            Self::TooLong { max } => write!(f, "longer than {max} characters"),
            Self::NotInteger => f.write_str("not a whole number"),
            Self::IntegerRange => f.write_str("does not fit into 64 bits"),
            Self::NotDecimal => f.write_str("not a plain decimal number"),
            Self::DecimalScale { scale } => write!(f, "more than {scale} digits after the point"),
            Self::DecimalPrecision { digits } => write!(f, "more than {digits} digits before the point"),
            Self::NotFloat => f.write_str("not a finite number"),
            Self::NotBoolean => f.write_str("not a boolean (true, false, t, f, yes, no, y, n, 1, 0)"),
            Self::NotDate => f.write_str("not a date of the form YYYY-MM-DD"),
            Self::NotTimestamp { input } => write!(f, "not a time of the form {input}"),
            Self::TimeRange => f.write_str("only years 1000 to 9999 can be stored, and no leap second"),
            Self::UnknownZone => f.write_str("unknown time zone"),
            Self::ZoneOffset => f.write_str("the time zone is never at this offset"),
            Self::AmbiguousZone => {
                f.write_str("the time zone's name stands for several, and no offset is given")
            }
            Self::DuplicateKey { line } => write!(f, "the key is already on line {line} with other values"),
        }
    }
}
