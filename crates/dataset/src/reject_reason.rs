//! Why a row is rejected: a short code for programs and a sentence for people.

use std::fmt;

use crate::plural::format_count;

/// Why a row of a file is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RejectReason {
    /// The number of fields differs from the number of columns.
    FieldCount {
        /// The number of columns.
        expected: usize,
        /// The number of fields.
        found: usize,
    },
    /// The bytes are not UTF-8.
    InvalidUtf8,
    /// The text contains a NUL byte.
    NulByte,
    /// Text between the closing quote of a field and the next separator.
    TextAfterQuote,
    /// An empty field in a column that is not optional.
    Empty,
    /// Not a UUID in any of its usual forms.
    NotUuid,
    /// More characters than the column allows.
    TooLong {
        /// The maximum of the column.
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
        /// The maximum of the column.
        scale: u8,
    },
    /// More digits before the point than the column keeps.
    DecimalPrecision {
        /// The maximum of the column.
        digits: u8,
    },
    /// Not a finite number.
    NotFloat,
    /// None of the words for true and false.
    NotBoolean,
    /// Not an existing day, written as year, month and day.
    NotDate,
    /// Not in the column's format, or not an existing time.
    NotTimestamp {
        /// The format of the column.
        input: String,
    },
    /// A valid date or time that MariaDB cannot store: a year outside of 1000 to 9999, or a leap second.
    TimeRange,
    /// An unknown time zone name.
    UnknownZone,
    /// A time zone name that never has the offset beside it.
    ZoneOffset,
    /// A time zone name with several offsets, and no offset beside it.
    AmbiguousZone,
    /// The key of an earlier row, with other values.
    DuplicateKey {
        /// The line of the earlier row.
        line: u64,
    },
}

impl RejectReason {
    /// The reason as one word, for the label of a metric and for programs.
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

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FieldCount { expected, found } => {
                let fields = format_count(u64::try_from(*expected).unwrap_or(u64::MAX), "field");
                write!(f, "expected {fields}, found {found}")
            }
            Self::InvalidUtf8 => f.write_str("not valid UTF-8"),
            Self::NulByte => f.write_str("contains a NUL byte"),
            Self::TextAfterQuote => f.write_str("text after a closing quote"),
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
            Self::NotDate => f.write_str("not a date in the format YYYY-MM-DD"),
            Self::NotTimestamp { input } => write!(f, "not a time in the format {input}"),
            Self::TimeRange => f.write_str("outside of the years 1000 to 9999, or a leap second"),
            Self::UnknownZone => f.write_str("unknown time zone"),
            Self::ZoneOffset => f.write_str("the time zone never has this offset"),
            Self::AmbiguousZone => f.write_str("the time zone has several offsets, and the row states none"),
            Self::DuplicateKey { line } => write!(f, "duplicate key: line {line} has it with other values"),
        }
    }
}
